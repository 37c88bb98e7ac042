import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.weights import load_policy, save_policy

SUITE = {"name": "s", "observation_dim": 2, "action_dim": 2, "context_dim": 1}


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    observations, contexts = torch.randn(count, 2, generator=generator), torch.randn(count, 1, generator=generator)
    return observations, contexts, torch.tanh(torch.cat([observations[:, :1] + contexts, observations[:, 1:]], 1))


def fitted(count: int, **options: float) -> GaussianProcessPolicy:
    policy = GaussianProcessPolicy(2, 1, 2, **options)  # type: ignore[arg-type]
    policy.refit(GaussianProcessPolicy(2, 1, 2), *rows(count))
    return policy


def test_mean_and_variance_are_those_of_scikit_learn() -> None:
    policy = fitted(60, observation_lengthscale=0.7, context_lengthscale=1.3, noise=0.2)
    known, asked = rows(60), rows(15, seed=1)
    kernel = RBF([0.7, 0.7, 1.3], "fixed")
    reference = GaussianProcessRegressor(kernel, alpha=0.2**2, optimizer=None)
    reference.fit(torch.cat(known[:2], 1).double().numpy(), known[2].double().numpy())
    mean, deviation = reference.predict(torch.cat(asked[:2], 1).double().numpy(), return_std=True)
    np.testing.assert_allclose(policy.mean(*asked[:2]), mean, atol=1e-9)
    np.testing.assert_allclose(policy.variance(*asked[:2]).sqrt(), deviation[:, 0], atol=1e-9)


def test_it_learns_the_function_and_knows_nothing_far_away() -> None:
    policy = fitted(500)
    observations, contexts, actions = rows(50, seed=1)
    assert float((policy.act(observations, contexts) - actions).abs().mean()) < 0.05
    far = torch.full((1, 2), 100.0), torch.zeros(1, 1)
    assert policy.act(*far).tolist() == [[0, 0]]
    assert policy.variance(*far).tolist() == [1]


def test_a_fresh_one_knows_nothing() -> None:
    policy = GaussianProcessPolicy(2, 1, 2)
    observations, contexts, _ = rows(3)
    assert policy.act(observations, contexts).tolist() == [[0, 0]] * 3
    assert policy.variance(observations, contexts).tolist() == [1, 1, 1]


def test_actions_are_clipped_and_float32() -> None:
    policy = GaussianProcessPolicy(2, 1, 2)
    observations, contexts, actions = rows(5)
    policy.refit(policy, observations, contexts, 3 * torch.sign(actions))
    acts = policy.act(observations, contexts)
    assert acts.dtype == torch.float32
    assert float(policy.mean(observations, contexts).abs().max()) > 1 == float(acts.abs().max())


def test_log_prob_is_scipys_and_samples_follow_it() -> None:
    policy = fitted(20, noise=0.3)
    observations, contexts, actions = rows(6, seed=2)
    deviation = (policy.variance(observations, contexts) + 0.09).sqrt()[:, None].numpy()
    expected = stats.norm(policy.act(observations, contexts).numpy(), deviation).logpdf(actions.numpy()).sum(axis=1)
    np.testing.assert_allclose(policy.log_prob(observations, contexts, actions), expected, rtol=1e-4)
    one = observations[:1].repeat(20_000, 1), contexts[:1].repeat(20_000, 1)
    samples = policy.sample(*one, torch.Generator().manual_seed(0))
    assert samples.std(0).tolist() == pytest.approx([float(deviation[0, 0])] * 2, rel=0.03)
    assert samples.mean(0).tolist() == pytest.approx(policy.act(*one)[0].tolist(), abs=0.02)


def test_loss_is_the_mean_squared_error_of_each_row() -> None:
    policy, (observations, contexts, actions) = fitted(20), rows(5, seed=1)
    expected = ((policy.act(observations, contexts) - actions) ** 2).sum(dim=1) / 2
    assert torch.allclose(policy.loss(observations, contexts, actions), expected)


def test_a_refit_begins_with_what_pi_zero_knows_and_forgets_the_refit_before() -> None:
    parts = [tuple(part[piece] for part in rows(60)) for piece in (slice(20), slice(20, 35), slice(20, 60))]
    start = GaussianProcessPolicy(2, 1, 2)
    start.refit(start, *parts[0])
    policy = deepcopy(start)
    policy.refit(start, *parts[1])
    policy.refit(start, *parts[2])
    observations, contexts, _ = rows(10, seed=1)
    assert torch.allclose(policy.mean(observations, contexts), fitted(60).mean(observations, contexts))
    assert int(start.used) == 20


def test_more_rows_than_the_capacity_are_thinned_evenly_and_count_for_those_left_out() -> None:
    close = [part.repeat_interleave(3, 0) for part in rows(40)]  # three equal rows each: one with a third of the noise
    thinned = GaussianProcessPolicy(2, 1, 2, capacity=40)
    thinned.refit(thinned, *close)
    full = GaussianProcessPolicy(2, 1, 2, capacity=120)
    full.refit(full, *close)
    assert (int(thinned.used), int(full.used)) == (40, 120)
    observations, contexts, _ = rows(10, seed=1)
    assert torch.allclose(thinned.mean(observations, contexts), full.mean(observations, contexts), atol=1e-6)
    assert torch.allclose(thinned.variance(observations, contexts), full.variance(observations, contexts), atol=1e-6)
    twice = GaussianProcessPolicy(2, 1, 2, capacity=20)
    twice.refit(thinned, *rows(0))
    assert twice.known[1].tolist() == [6] * 20


def test_an_action_does_not_depend_on_the_slot_or_on_the_rows_beside_it() -> None:
    policy, (observations, contexts, _) = fitted(300), rows(32, seed=1)
    acts = policy.act(observations, contexts)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(policy.act(observations[order], contexts[order]), acts[order])
    observations[1:] = 0
    assert torch.equal(policy.act(observations, contexts)[0], acts[0])


def test_a_file_gives_the_same_policy_whatever_it_has_seen(tmp_path: Path) -> None:
    policy, path = fitted(30, noise=0.2), tmp_path / "policy.safetensors"
    save_policy(path, policy, SUITE, None, {"a": 3})
    file = load_policy(str(path))
    assert file.statistics is None
    observations, contexts, _ = rows(10, seed=1)
    made, seen = file.make(), fitted(7, noise=0.2)
    file.load_into(seen)  # it had seen something else, and holds the solution of that
    for loaded in (made, seen):
        assert torch.equal(loaded.act(observations, contexts), policy.act(observations, contexts))
    with pytest.raises(InputError, match=r"tensor 'rows' is \[1024, 6\] in the file and \[512, 6\] in the policy"):
        file.load_into(GaussianProcessPolicy(2, 1, 2, capacity=512))


def test_it_has_no_output_layer_and_says_what_to_use() -> None:
    with pytest.raises(InputError, match=r"does not end in a linear layer.*choose one that is a kernel"):
        fitted(3).features(*rows(2)[:2])


@pytest.mark.parametrize("option", ["observation_lengthscale", "context_lengthscale", "noise", "capacity"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_impossible_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{option} is {value}; it must be positive"):
        GaussianProcessPolicy(2, 1, 2, **{option: value})  # type: ignore[arg-type]
