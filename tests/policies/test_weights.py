from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.statistics import backbone_hash, feature_statistics
from amf_lightning.policies.weights import build_policy, load_policy, save_policy

SUITE = {"name": "tiny", "observation_dim": 3, "context_dim": 2, "action_dim": 4}


def saved(folder: Path) -> tuple[Path, MLPPolicy]:
    policy = MLPPolicy(3, 2, 4, hidden=(8, 6))
    policy.fit_normaliser(torch.randn(30, 3), torch.randn(30, 2))
    statistics = feature_statistics(policy, torch.randn(30, 3), torch.randn(30, 2), {"a": 2})
    save_policy(folder / "policy.safetensors", policy, SUITE, statistics, {"a": 2, "b": 0})
    return folder / "policy.safetensors", policy


def test_a_file_holds_weights_normaliser_statistics_and_counts(tmp_path: Path) -> None:
    path, policy = saved(tmp_path)
    file = load_policy(str(path))
    made = file.make()
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in policy.state_dict().items())
    assert made.is_normalised
    assert file.pretraining_counts == {"a": 2, "b": 0}
    assert file.statistics is not None
    file.statistics.check_backbone(made)
    assert file.statistics.covers == {"a": 2}
    assert file.statistics.count == 30


def test_equal_policies_make_equal_files(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    file = load_policy(str(path))
    save_policy(tmp_path / "again.safetensors", file.make(), SUITE, file.statistics, file.pretraining_counts)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_statistics_are_sums_over_the_states() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8, 6))
    observations, contexts = torch.randn(20, 3), torch.randn(20, 2)
    statistics = feature_statistics(policy, observations, contexts, {"a": 1})
    total = torch.zeros(7, 7, dtype=torch.float64)
    for observation, context in zip(observations, contexts, strict=True):
        phi = torch.cat([policy.features(observation[None], context[None])[0].double(), torch.ones(1).double()])
        total += torch.outer(phi, phi)
    assert torch.allclose(statistics.second_moment, total.detach(), rtol=1e-5)
    assert statistics.scale == pytest.approx((total.trace() / 20).sqrt().item(), rel=1e-5)


def test_statistics_of_another_backbone_are_refused_and_the_head_does_not_matter() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8, 6))
    statistics = feature_statistics(policy, torch.randn(20, 3), torch.randn(20, 2), {})
    torch.nn.init.zeros_(policy.head.weight)
    statistics.check_backbone(policy)
    torch.nn.init.zeros_(policy.get_parameter("backbone.0.weight"))
    with pytest.raises(InputError, match="belong to a policy with backbone"):
        statistics.check_backbone(policy)


@pytest.mark.parametrize("size", [0, 7, 100, -10])
def test_a_truncated_file_is_named(tmp_path: Path, size: int) -> None:
    path, _ = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"policy\.safetensors is truncated or not a safetensors file"):
        load_policy(str(path))


def test_a_foreign_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not a policy of this package"):
        load_policy(str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match="No file and no shipped weights are called 'halfchetah/mismatched'"):
        load_policy("halfchetah/mismatched")


def test_other_shapes_and_another_suite_are_refused(tmp_path: Path) -> None:
    file = load_policy(str(saved(tmp_path)[0]))
    with pytest.raises(InputError, match=r"'backbone.0.bias' is \[8\] in the file and \[9\] in the policy"):
        file.load_into(MLPPolicy(3, 2, 4, hidden=(9, 6)))
    with pytest.raises(InputError, match="name 'tiny' instead of 'large'"):
        file.check_suite(SUITE | {"name": "large"})


def test_initial_weights_depend_on_the_key_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        policy = build_policy(MLPPolicy, SUITE, torch.Generator().manual_seed(seed))
        return next(policy.parameters()).detach()

    one = first(1)
    state = torch.get_rng_state()
    torch.rand(3)
    assert torch.equal(first(1), one)
    assert not torch.equal(first(2), one)
    torch.set_rng_state(state)


def test_hash_is_of_everything_below_the_head() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8, 6))
    before = backbone_hash(policy)
    policy.fit_normaliser(torch.randn(10, 3), torch.randn(10, 2))
    assert backbone_hash(policy) != before
