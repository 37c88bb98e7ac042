import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from largest_tensor import LargestTensor
from selection_world import normal
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.selection import information_gain
from amf_lightning.selection.greedy import condition_on_task
from amf_lightning.selection.information_gain import (
    Aggregate,
    Blocks,
    Joint,
    Marginal,
    Problem,
    Variance,
    task_scores,
    task_variances,
    variance_shares,
)
from amf_lightning.uncertainty.kernels import RBF
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior, FunctionSpacePosterior, Posterior

AGGREGATES = [Marginal(0.1), Marginal(1.0), Variance(), Joint(0.5)]


def blocks_of(points: Tensor, tasks: list[int], weights: list[float], horizon: float = 20.0) -> Blocks:
    return Blocks(
        points,
        torch.tensor(tasks),
        torch.tensor(weights, dtype=torch.float64),
        torch.full((len(tasks),), horizon, dtype=torch.float64),
    )


def with_points(blocks: Blocks, points: Tensor) -> Blocks:
    return Blocks(points, blocks.tasks, blocks.weights, blocks.horizons)


def problem_of(tasks: int, states: int = 4, dimension: int = 6, seed: int = 0) -> Problem:
    """One candidate and one target trajectory of each task; some tasks are alike."""
    centre = normal(tasks, 1, dimension, seed=seed)
    candidates = centre + 0.3 * normal(tasks, states, dimension, seed=seed + 1)
    targets = centre + 0.3 * normal(tasks, states, dimension, seed=seed + 2)
    distribution = normal(tasks, seed=seed + 3).softmax(0)
    order, ones = list(range(tasks)), [1.0] * tasks
    return Problem(blocks_of(candidates, order, ones), blocks_of(targets, order, ones), distribution)


def posterior_of(dimension: int = 6, rows: int = 3, ridge: float = 0.1) -> FeatureSpacePosterior:
    return FeatureSpacePosterior.prior(dimension, ridge).condition(normal(rows, dimension, seed=77))


def scores_of(aggregate: Aggregate, posterior: Posterior, problem: Problem) -> Tensor:
    return task_scores(aggregate.gains(posterior, problem), problem.candidates, len(problem.distribution))


def prior_covariance(posterior: FeatureSpacePosterior) -> Any:
    return np.linalg.inv(posterior.precision.numpy())


def test_strict_marginal_is_the_analytic_mutual_information() -> None:
    posterior, problem = posterior_of(), problem_of(3)
    inverse, noise = prior_covariance(posterior), 4 / 20
    for task, score in enumerate(scores_of(Marginal(1.0), posterior, problem)):
        block = problem.candidates.points[task].numpy()
        seen = block @ inverse @ block.T + noise * np.eye(4)
        total = 0.0
        for other in range(3):
            for x in problem.targets.points[other].numpy():
                joint = np.vstack([x[None], block])
                both = joint @ inverse @ joint.T + np.diag([1.0] + [noise] * 4)
                logs = [np.linalg.slogdet(part)[1] for part in (both[:1, :1], seen, both)]
                total += float(problem.distribution[other]) * 20 / 4 * 0.5 * (logs[0] + logs[1] - logs[2])
        assert float(score) == pytest.approx(total, rel=1e-9)


def test_strict_marginal_is_the_mutual_information_of_samples() -> None:
    posterior, problem = posterior_of(4), problem_of(2, states=2, dimension=4)
    generator = np.random.default_rng(0)
    weights = generator.multivariate_normal(np.zeros(4), prior_covariance(posterior), size=400_000)
    seen = weights @ problem.candidates.points[0].numpy().T
    seen += np.sqrt(2 / 20) * generator.standard_normal(seen.shape)
    total = 0.0
    for other in range(2):
        for x in problem.targets.points[other].numpy():
            wanted = weights @ x + generator.standard_normal(len(weights))
            joint = np.cov(np.column_stack([wanted, seen]).T)
            information = 0.5 * (
                np.log(joint[0, 0]) + np.linalg.slogdet(joint[1:, 1:])[1] - np.linalg.slogdet(joint)[1]
            )
            total += float(problem.distribution[other]) * 10 * information
    assert float(scores_of(Marginal(1.0), posterior, problem)[0]) == pytest.approx(total, rel=0.01)


def test_scores_and_pick_are_those_of_activeft() -> None:
    """`activeft` conditions a dense covariance matrix on one candidate after the other."""
    spec = importlib.util.find_spec("activeft")
    assert spec is not None and spec.submodule_search_locations
    # Importing the package itself needs faiss, which this module of it does not.
    path = Path(spec.submodule_search_locations[0]) / "gaussian.py"
    source = importlib.util.spec_from_file_location("activeft_gaussian", path)
    assert source is not None and source.loader is not None
    gaussian = importlib.util.module_from_spec(source)
    source.loader.exec_module(gaussian)

    tasks, states, dimension = 20, 8, 33
    posterior, problem = posterior_of(dimension, rows=40), problem_of(tasks, states, dimension)
    rows = torch.cat([problem.candidates.points.flatten(0, 1), problem.targets.points.flatten(0, 1)])
    prior = gaussian.GaussianCovarianceMatrix(rows @ torch.linalg.inv(posterior.precision) @ rows.T)
    wanted = torch.arange(tasks * states, 2 * tasks * states)
    before, weights = prior[wanted, wanted], problem.state_weights.flatten()
    expected = []
    for task in range(tasks):
        block = torch.arange(task * states, (task + 1) * states)
        after = prior.condition_on(block, target_indices=wanted, noise_std=(states / 20) ** 0.5)
        level = after[torch.arange(len(wanted)), torch.arange(len(wanted))]
        expected.append(float((weights * 0.5 * torch.log((before + 0.1) / (level + 0.1))).sum()))
    scores = scores_of(Marginal(0.1), posterior, problem)
    assert torch.allclose(scores, torch.tensor(expected, dtype=torch.float64), rtol=1e-6)
    assert int(scores.argmax()) == int(np.argmax(expected))


def test_joint_with_the_candidate_as_its_own_target_is_its_own_information() -> None:
    """Nothing of the other tasks, nor of μ beyond its sum, is left: the reason to keep the roles apart."""
    posterior = posterior_of()
    candidate = blocks_of(normal(1, 4, 6), [0], [1.0])
    problem = Problem(candidate, candidate, torch.ones(1, dtype=torch.float64))
    block = candidate.points[0].numpy()
    covariance = block @ prior_covariance(posterior) @ block.T
    own = 0.5 * np.linalg.slogdet(np.eye(4) + covariance / (4 / 20))[1]
    assert float(Joint(1e-9).gains(posterior, problem)[0]) == pytest.approx(own, rel=1e-5)


def test_joint_is_the_mutual_information_of_whole_trajectories() -> None:
    posterior, problem = posterior_of(), problem_of(2)
    inverse, noise = prior_covariance(posterior), np.diag([0.5 * 4 / 20] * 4 + [4 / 20] * 4)
    expected = 0.0
    for other in range(2):
        rows = torch.cat([problem.targets.points[other], problem.candidates.points[0]]).numpy()
        both = rows @ inverse @ rows.T + noise
        logs = [np.linalg.slogdet(part)[1] for part in (both[:4, :4], both[4:, 4:], both)]
        expected += float(problem.distribution[other]) * 0.5 * (logs[0] + logs[1] - logs[2])
    assert float(Joint(0.5).gains(posterior, problem)[0]) == pytest.approx(expected, rel=1e-9)


def test_variance_is_what_conditioning_takes_away() -> None:
    posterior, problem = posterior_of(), problem_of(3)
    after = posterior.condition(problem.candidates.points[1], 4 / 20)
    removed = posterior.variance(posterior.prepare(problem.targets.points)) - after.variance(
        after.prepare(problem.targets.points)
    )
    assert float(Variance().gains(posterior, problem)[1]) == pytest.approx(
        float((problem.state_weights * removed).sum()), rel=1e-9
    )


def test_marginal_with_large_kappa_becomes_variance() -> None:
    posterior, problem = posterior_of(ridge=1.0), problem_of(3)
    kappa = 1e6
    marginal = Marginal(kappa).gains(posterior, problem)
    assert torch.allclose(marginal * 2 * kappa, Variance().gains(posterior, problem), rtol=1e-4)


@pytest.mark.parametrize("aggregate", AGGREGATES, ids=lambda part: type(part).__name__)
def test_a_mixture_scores_the_weighted_mean_of_its_trajectories(aggregate: Aggregate) -> None:
    posterior, base = posterior_of(), problem_of(3)
    gains = aggregate.gains(posterior, base)
    mixed = blocks_of(base.candidates.points, [0, 0, 1], [0.3, 0.7, 1.0])
    scores = task_scores(aggregate.gains(posterior, Problem(mixed, base.targets, base.distribution)), mixed, 3)
    assert float(scores[0]) == pytest.approx(float(0.3 * gains[0] + 0.7 * gains[1]), rel=1e-6)
    assert float(scores[1]) == pytest.approx(float(gains[2]), rel=1e-6)
    assert scores[2].isnan()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), tasks=st.integers(1, 6), kind=st.sampled_from(AGGREGATES))
def test_gains_are_not_negative_and_know_neither_order_nor_rotation(seed: int, tasks: int, kind: Aggregate) -> None:
    posterior, problem = posterior_of(), problem_of(tasks, seed=seed)
    scores = scores_of(kind, posterior, problem)
    assert (scores >= 0).all()

    order = torch.randperm(tasks, generator=torch.Generator().manual_seed(seed))
    swapped = Problem(
        with_points(problem.candidates, problem.candidates.points[order]),
        with_points(problem.targets, problem.targets.points[order]),
        problem.distribution[order],
    )
    assert torch.allclose(scores_of(kind, posterior, swapped), scores[order], rtol=1e-8, atol=1e-12)

    rotation = torch.linalg.qr(normal(6, 6, seed=seed)).Q
    turned = Problem(
        with_points(problem.candidates, problem.candidates.points @ rotation),
        with_points(problem.targets, problem.targets.points @ rotation),
        problem.distribution,
    )
    seen = FeatureSpacePosterior.prior(6, 0.1).condition(normal(3, 6, seed=77) @ rotation)
    assert torch.allclose(scores_of(kind, seen, turned), scores, rtol=1e-7, atol=1e-11)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(AGGREGATES), horizon=st.floats(4, 400))
def test_gains_grow_with_the_length_of_the_demonstration(seed: int, kind: Aggregate, horizon: float) -> None:
    """A longer trajectory of which S states are kept has less noise in each."""
    posterior, base = posterior_of(), problem_of(3, seed=seed)
    gains = [
        kind.gains(
            posterior,
            Problem(blocks_of(base.candidates.points, [0, 1, 2], [1.0] * 3, length), base.targets, base.distribution),
        )
        for length in (horizon, 2 * horizon)
    ]
    assert (gains[1] >= gains[0] - 1e-12).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(AGGREGATES))
def test_a_duplicate_gains_less_than_the_first(seed: int, kind: Aggregate) -> None:
    posterior, problem = posterior_of(), problem_of(4, seed=seed)
    first = scores_of(kind, posterior, problem)
    again = scores_of(kind, condition_on_task(posterior, problem.candidates, 2), problem)
    assert float(again[2]) < float(first[2])


def test_one_chunk_or_many_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, problem = posterior_of(), problem_of(7)
    whole = [kind.gains(posterior, problem) for kind in AGGREGATES]
    monkeypatch.setattr(information_gain, "_CHUNK", 2 * 7 * 4 * 4)
    parts = [kind.gains(posterior, problem) for kind in AGGREGATES]
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, rtol=1e-12)


def test_single_precision_comes_close() -> None:
    posterior, problem = posterior_of(), problem_of(5)
    low = Problem(
        with_points(problem.candidates, problem.candidates.points.float()),
        with_points(problem.targets, problem.targets.points.float()),
        problem.distribution,
    )
    for kind in AGGREGATES:
        assert torch.allclose(kind.gains(posterior, low), kind.gains(posterior, problem), rtol=1e-3)
        assert kind.gains(posterior, low).dtype == torch.float64


def test_task_variances_are_means_over_trajectories_and_states() -> None:
    posterior, points = posterior_of(), normal(3, 4, 6)
    blocks = blocks_of(points, [0, 0, 2], [0.25, 0.75, 1.0])
    found = task_variances(posterior, blocks, 3)
    each = posterior.variance(posterior.prepare(points)).mean(1)
    assert float(found[0]) == pytest.approx(float(0.25 * each[0] + 0.75 * each[1]))
    assert found[1].isnan()


@pytest.mark.parametrize("kind", [Marginal, Joint])
def test_kappa_must_be_positive(kind: type[Marginal] | type[Joint]) -> None:
    with pytest.raises(InputError, match="kappa is 0"):
        kind(0.0)


def test_a_noisy_task_gains_as_if_the_formula_had_its_noise() -> None:
    posterior, base = posterior_of(), problem_of(3)
    levels = torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64)
    noisy = replace(base, candidates=replace(base.candidates, levels=levels))
    found = scores_of(Variance(), posterior, noisy)
    before = posterior.variance(posterior.prepare(base.targets.points))
    for task, block in enumerate(base.candidates.points):
        after = posterior.condition(block, 4 / 20 * float(levels[task]))
        removed = before - after.variance(after.prepare(base.targets.points))
        assert float(found[task]) == pytest.approx(float((base.state_weights * removed).sum()))


def test_the_noise_of_targets_as_candidates_does_not_change_how_much_they_count() -> None:
    base = problem_of(3)
    levels = torch.full((3,), 9.0, dtype=torch.float64)
    assert torch.equal(replace(base, targets=replace(base.targets, levels=levels)).state_weights, base.state_weights)


@pytest.mark.parametrize("kind", [Marginal(0.1), Variance(), Joint(0.5)])
@pytest.mark.parametrize("space", [0, 1])
def test_no_matrix_between_all_states_is_formed(kind: Aggregate, space: int) -> None:
    problem = problem_of(300, states=16, dimension=4)
    beliefs: list[Posterior] = [posterior_of(4), FunctionSpacePosterior(RBF(), 0.1).condition(normal(5, 4))]
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        kind.gains(beliefs[space], problem)
    assert largest.entries < 4000**2 < (300 * 16) ** 2


@pytest.mark.parametrize("seed", range(3))
def test_the_share_of_the_variance_that_goes_is_what_conditioning_takes(seed: int) -> None:
    problem, posterior = problem_of(5, seed=seed), posterior_of()
    before = task_variances(posterior, problem.targets, 5)
    after = [
        task_variances(condition_on_task(posterior, problem.candidates, task), problem.targets, 5) for task in range(5)
    ]
    expected = 1 - torch.stack(after, dim=1) / before[:, None]
    torch.testing.assert_close(variance_shares(posterior, problem), expected)
