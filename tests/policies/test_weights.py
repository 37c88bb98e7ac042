from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.statistics import backbone_hash, feature_statistics
from amf_lightning.policies.weights import PolicyFile, build_policy, load_policy, save_policy
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import dimensions_of

SUITE = {"name": "tiny", "observation_dim": 3, "context_dim": 2, "action_dim": 4}


def rows(count: int) -> Steps:
    return Steps.of_state(torch.randn(count, 3), torch.randn(count, 2))


def saved(folder: Path) -> tuple[Path, MLPPolicy]:
    policy = MLPPolicy(3, 2, 4, hidden=(8, 6))
    policy.fit_normaliser(rows(30))
    statistics = feature_statistics(policy, rows(30), {"a": 2})
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
    steps = rows(20)
    statistics = feature_statistics(policy, steps, {"a": 1})
    total = torch.zeros(7, 7, dtype=torch.float64)
    for index in range(20):
        phi = torch.cat([policy.features(steps[index : index + 1])[0].double(), torch.ones(1).double()])
        total += torch.outer(phi, phi)
    assert torch.allclose(statistics.second_moment, total.detach(), rtol=1e-5)
    assert statistics.scale == pytest.approx((total.trace() / 20).sqrt().item(), rel=1e-5)


def test_statistics_of_another_backbone_are_refused_and_the_head_does_not_matter() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8, 6))
    statistics = feature_statistics(policy, rows(20), {})
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
        policy = build_policy(MLPPolicy, dimensions_of(SUITE), torch.Generator().manual_seed(seed))
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
    policy.fit_normaliser(rows(10))
    assert backbone_hash(policy) != before


class Bent(MLPPolicy):
    """Has options that no shape tells."""

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        curve: str = "tanh",
        widths: tuple[int, ...] = (8,),
    ) -> None:
        super().__init__(observation, context_dim, action_dim, hidden=widths)


class Bulk(MLPPolicy):
    def __init__(self, observation: Specs | int, context_dim: int, action_dim: int, **options: Any) -> None:
        super().__init__(observation, context_dim, action_dim, hidden=(8,))


def written(policy: Policy, options: dict[str, Any], folder: Path) -> PolicyFile:
    """Its file, as it says it was made with these options."""
    save_policy(folder / "policy.safetensors", policy, SUITE, None, {})
    return replace(load_policy(str(folder / "policy.safetensors")), options=options)


@pytest.mark.parametrize(
    ("made", "options", "wanted", "reason"),
    [
        (Bent(3, 2, 4), {"curve": "relu", "widths": [8]}, Bent(3, 2, 4), "curve is 'relu' in the file and 'tanh'"),
        (Bent(3, 2, 4), {"widths": [8]}, Bent(3, 2, 4, "relu"), "curve is 'tanh' in the file and 'relu'"),
        (MLPPolicy(3, 2, 4, (8,)), {"hidden": [8]}, MLPPolicy(3, 2, 4, (8,), smallest_std=0.5), "smallest_std is None"),
        (Bulk(3, 2, 4), {"curve": "relu"}, Bulk(3, 2, 4), "curve is 'relu' in the file and None"),
        (Bulk(3, 2, 4), {"options": {"curve": "relu"}}, Bulk(3, 2, 4), "curve is 'relu' in the file and None"),
        (Bent(3, 2, 4), {}, Bulk(3, 2, 4), "class is .*Bent in the file and .*Bulk in model.policy"),
    ],
)
def test_what_no_shape_tells_is_compared_with_the_file(
    made: Policy, options: dict[str, Any], wanted: Policy, reason: str, tmp_path: Path
) -> None:
    file = written(made, options, tmp_path)
    with pytest.raises(InputError, match=rf"(?s){reason}.*model: {{policy: {{class_path: .*init_args: {{.*}}}}}}"):
        file.like(wanted)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, Bent(3, 2, 4)),  # older than the options
        ({"widths": [8], "gone": 1}, Bent(3, 2, 4)),
        ({"curve": "relu"}, Bent(3, 2, 4, curve="relu", widths=(8,))),
    ],
)
def test_what_is_left_out_of_a_file_is_the_default(options: dict[str, Any], wanted: Policy, tmp_path: Path) -> None:
    assert written(Bent(3, 2, 4), options, tmp_path).like(wanted) is wanted


def test_files_of_a_moved_class_of_a_base_class_and_of_nested_options_fit(tmp_path: Path) -> None:
    moved = replace(written(Bent(3, 2, 4), {}, tmp_path), policy_class="elsewhere.Bent")
    moved.like(Bent(3, 2, 4))
    written(MLPPolicy(3, 2, 4, (8,)), {"hidden": [8], "action_std": 0.1}, tmp_path).like(Bent(3, 2, 4))
    written(Bulk(3, 2, 4), {"options": {}}, tmp_path).like(Bulk(3, 2, 4))
