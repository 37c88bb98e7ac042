import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Density, Embeds, LinearHead, embedded
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import state_specs
from amf_lightning.tasks.steps import Steps

SUITE = {"name": "s", "observation_dim": 2, "action_dim": 2, "context_dim": 1}


def rows(count: int, seed: int = 0) -> Steps:
    generator = torch.Generator().manual_seed(seed)
    observations, contexts = torch.randn(count, 2, generator=generator), torch.randn(count, 1, generator=generator)
    actions = torch.tanh(torch.cat([observations[:, :1] + contexts, observations[:, 1:]], 1))
    return Steps.of_state(observations, contexts, actions)


def fitted(count: int, **options: float) -> GaussianProcessPolicy:
    policy = GaussianProcessPolicy(2, 1, 2, **options)  # type: ignore[arg-type]
    policy.refit(GaussianProcessPolicy(2, 1, 2), rows(count))
    return policy


def inputs(steps: Steps) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return torch.cat([steps.state, steps.contexts], 1).double().numpy()


def test_mean_and_variance_are_those_of_scikit_learn() -> None:
    policy = fitted(60, observation_lengthscale=0.7, context_lengthscale=1.3, noise=0.2)
    known, asked = rows(60), rows(15, seed=1)
    kernel = RBF([0.7, 0.7, 1.3], "fixed")
    reference = GaussianProcessRegressor(kernel, alpha=0.2**2, optimizer=None)
    reference.fit(inputs(known), known.shown_actions.double().numpy())
    mean, deviation = reference.predict(inputs(asked), return_std=True)
    np.testing.assert_allclose(policy.mean(asked), mean, atol=1e-9)
    np.testing.assert_allclose(policy.variance(asked).sqrt(), deviation[:, 0], atol=1e-9)


def test_it_learns_the_function_and_knows_nothing_far_away() -> None:
    policy = fitted(500)
    steps = rows(50, seed=1)
    assert float((policy.act(steps) - steps.shown_actions).abs().mean()) < 0.05
    far = Steps.of_state(torch.full((1, 2), 100.0), torch.zeros(1, 1))
    assert policy.act(far).tolist() == [[0, 0]]
    assert policy.variance(far).tolist() == [1]


def test_a_fresh_one_knows_nothing() -> None:
    policy = GaussianProcessPolicy(2, 1, 2)
    assert policy.act(rows(3)).tolist() == [[0, 0]] * 3
    assert policy.variance(rows(3)).tolist() == [1, 1, 1]


def test_actions_are_clipped_and_float32() -> None:
    policy = GaussianProcessPolicy(2, 1, 2)
    steps = rows(5)
    policy.refit(policy, steps.with_actions(3 * torch.sign(steps.shown_actions)))
    acts = policy.act(steps)
    assert acts.dtype == torch.float32
    assert float(policy.mean(steps).abs().max()) > 1 == float(acts.abs().max())


def test_log_prob_is_scipys_and_samples_follow_it() -> None:
    policy = fitted(20, noise=0.3)
    steps = rows(6, seed=2)
    deviation = (policy.variance(steps) + 0.09).sqrt()[:, None].numpy()
    expected = stats.norm(policy.act(steps).numpy(), deviation).logpdf(steps.shown_actions.numpy()).sum(axis=1)
    np.testing.assert_allclose(policy.log_prob(steps), expected, rtol=1e-4)
    one = steps[torch.zeros(20_000, dtype=torch.int64)]
    samples = policy.sample(one, torch.Generator().manual_seed(0))
    assert samples.std(0).tolist() == pytest.approx([float(deviation[0, 0])] * 2, rel=0.03)
    assert samples.mean(0).tolist() == pytest.approx(policy.act(one)[0].tolist(), abs=0.02)


def test_loss_is_the_mean_squared_error_of_each_row() -> None:
    policy, steps = fitted(20), rows(5, seed=1)
    expected = ((policy.act(steps) - steps.shown_actions) ** 2).sum(dim=1) / 2
    assert torch.allclose(policy.loss(steps), expected)


def test_a_refit_begins_with_what_pi_zero_knows_and_forgets_the_refit_before() -> None:
    parts = [rows(60)[piece] for piece in (slice(20), slice(20, 35), slice(20, 60))]
    start = GaussianProcessPolicy(2, 1, 2)
    start.refit(start, parts[0])
    policy = deepcopy(start)
    policy.refit(start, parts[1])
    policy.refit(start, parts[2])
    steps = rows(10, seed=1)
    assert torch.allclose(policy.mean(steps), fitted(60).mean(steps))
    assert int(start.used) == 20


def test_more_rows_than_the_capacity_are_thinned_evenly_and_count_for_those_left_out() -> None:
    close = rows(40)[torch.arange(40).repeat_interleave(3)]  # three equal rows each: one with a third of the noise
    thinned = GaussianProcessPolicy(2, 1, 2, capacity=40)
    thinned.refit(thinned, close)
    full = GaussianProcessPolicy(2, 1, 2, capacity=120)
    full.refit(full, close)
    assert (int(thinned.used), int(full.used)) == (40, 120)
    steps = rows(10, seed=1)
    assert torch.allclose(thinned.mean(steps), full.mean(steps), atol=1e-6)
    assert torch.allclose(thinned.variance(steps), full.variance(steps), atol=1e-6)
    twice = GaussianProcessPolicy(2, 1, 2, capacity=20)
    twice.refit(thinned, rows(0))
    assert twice.known[1].tolist() == [6] * 20


def test_an_action_does_not_depend_on_the_slot_or_on_the_rows_beside_it() -> None:
    policy, steps = fitted(300), rows(32, seed=1)
    acts = policy.act(steps)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(policy.act(steps[order]), acts[order])
    steps.state[1:] = 0
    assert torch.equal(policy.act(steps)[0], acts[0])


def test_a_file_gives_the_same_policy_whatever_it_has_seen(tmp_path: Path) -> None:
    policy, path = fitted(30, noise=0.2), tmp_path / "policy.safetensors"
    save_policy(path, policy, SUITE, None, {"a": 3})
    file = load_policy(str(path))
    assert file.statistics is None
    steps = rows(10, seed=1)
    made, seen = file.make(), fitted(7, noise=0.2)
    file.load_into(seen)  # it had seen something else, and holds the solution of that
    for loaded in (made, seen):
        assert torch.equal(loaded.act(steps), policy.act(steps))
    with pytest.raises(InputError, match=r"tensor 'rows' is \[1024, 6\] in the file and \[512, 6\] in the policy"):
        file.load_into(GaussianProcessPolicy(2, 1, 2, capacity=512))


def test_it_has_a_density_and_no_features_and_the_error_says_what_to_use() -> None:
    policy = fitted(3)
    assert [policy.can(each) for each in (Density, Embeds, LinearHead)] == [True, False, False]
    with pytest.raises(InputError, match=r"features.*GaussianProcessPolicy has none\. Choose the embedding Kernel"):
        embedded(policy, rows(2))


def test_it_reads_one_vector_and_draws_of_a_row_follow_the_predictive_distribution() -> None:
    assert torch.equal(GaussianProcessPolicy(state_specs(2), 1, 2).rows, GaussianProcessPolicy(2, 1, 2).rows)
    policy, one = fitted(20, noise=0.05), rows(1, seed=1)[torch.zeros(4000, dtype=torch.int64)]
    drawn = policy.predict(one, RowGenerators(range(4000), 3))
    assert drawn.shape == (4000, 1, 2) and float(drawn.abs().max()) <= 1
    expected = float((policy.variance(one[:1]) + 0.05**2).sqrt())
    assert drawn[:, 0].std(0).tolist() == pytest.approx([expected] * 2, rel=0.05)
    assert torch.equal(policy.predict(one[:3])[:, 0], policy.act(one[:3]))


@pytest.mark.parametrize("option", ["observation_lengthscale", "context_lengthscale", "noise", "capacity"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_impossible_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{option} is {value}; it must be positive"):
        GaussianProcessPolicy(2, 1, 2, **{option: value})  # type: ignore[arg-type]
