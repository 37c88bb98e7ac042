from typing import Any

import pytest
import torch
from selection_world import context_of, demonstrate, mlp, normal
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.kalman import KalmanScheduler, ProgressModel, demonstrations_between, filtered
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)
HISTORY = ((0.0, 0.3, 0.5, 0.9), (0.1, 0.3, 0.9, 0.9))


def context(history: tuple[tuple[float, ...], ...] = HISTORY, shown: int = 1, **known: Any) -> SelectionContext:
    """After each evaluation but the last, `shown` demonstrations of every task but the last came."""
    tasks = [task for _ in history[1:] for task in (0, 1, 2) for _ in range(shown)]
    after = tuple(3 * shown * number for number in range(len(history)))
    facts = {"demonstrations": demonstrate(SUITE, tasks), "score_history": history, "evaluated_after": after}
    return context_of(SUITE, POLICY, **{**facts, **known})


def dense(scores: Tensor, counts: Tensor, model: ProgressModel) -> tuple[Tensor, Tensor]:
    """The last (level, gain) of one task given its scores [E], by conditioning one joint Gaussian of everything.

    All of it is linear in independent standard normals: the start, the first gain, each drift and gain drift, each
    noise of an evaluation. Nothing is filtered.
    """
    evaluations = len(scores)
    size = 2 + 2 * (evaluations - 1) + evaluations
    level, gain = torch.zeros(2, size, dtype=torch.float64)
    level[0], gain[1] = model.start, model.gain
    means = [model.start, model.gain]
    seen, expected = [], []
    for number in range(evaluations):
        if number:
            level, means[0] = level + counts[number] * gain, means[0] + float(counts[number]) * means[1]
            level, gain = level.clone(), gain.clone()
            level[2 * number] += model.drift
            gain[2 * number + 1] += model.gain_drift
        row = level.clone()
        row[2 * evaluations + number] = model.evaluation_noise
        seen.append(row)
        expected.append(means[0])
    latent, observed = torch.stack([level, gain]), torch.stack(seen)
    solved = torch.linalg.solve(observed @ observed.T, observed @ latent.T)
    residual = scores - torch.tensor(expected, dtype=torch.float64)
    mean = torch.tensor(means, dtype=torch.float64) + solved.T @ residual
    return mean, latent @ latent.T - latent @ observed.T @ solved


def test_the_filter_is_the_conditional_of_one_dense_gaussian() -> None:
    scores = 0.5 + 0.2 * normal(6, 3)
    counts = torch.tensor([[5, 5, 5], [1, 0, 3], [0, 2, 1], [0, 0, 1], [2, 0, 0], [1, 1, 0]], dtype=torch.float64)
    model = ProgressModel(evaluation_noise=0.13, drift=0.07, gain=0.2, gain_drift=0.05, start=0.4)
    for evaluations in (1, 2, 6):
        means, covariances = filtered(scores[:evaluations], counts[:evaluations], model)
        for task in range(3):
            mean, covariance = dense(scores[:evaluations, task], counts[:evaluations, task], model)
            torch.testing.assert_close(means[task], mean)
            torch.testing.assert_close(covariances[task], covariance)


def test_demonstrations_are_counted_between_evaluations() -> None:
    known = context(shown=2, demonstrations=demonstrate(SUITE, [0, 0, 2, 1, 1, 3, 3]), evaluated_after=(0, 3))
    assert demonstrations_between(known).tolist() == [[0, 0, 0, 0], [2, 0, 1, 0]]
    later = context((*HISTORY, HISTORY[-1]), demonstrations=demonstrate(SUITE, [0, 2, 1, 3]), evaluated_after=(0, 1, 4))
    assert demonstrations_between(later).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 1]]


def test_by_need_it_asks_for_the_lowest_level_and_by_gain_for_what_demonstrations_raised() -> None:
    assert KalmanScheduler(progress=0.0).select(context(), 1).picks == (0,)
    by_gain = KalmanScheduler(progress=1.0, gain=0.05, gain_drift=0.0).select(
        context(((0.2,) * 4, (0.2, 0.3, 0.6, 0.2))), 1
    )
    assert by_gain.picks == (2,)
    gains = [by_gain.diagnostics[f"gain/{task.name}"] for task in SUITE.tasks]
    assert gains[0] < gains[3] < gains[1] < gains[2]
    assert gains[3] == pytest.approx(0.05), "of a task that was not shown nothing is learned about its gain"


def test_a_mastered_task_gains_nothing_however_fast_it_rose() -> None:
    rose = context(((0.0, 0.5, 0.5, 0.5), (1.0, 0.6, 0.5, 0.5), (1.0, 0.7, 0.5, 0.5)))
    scores = KalmanScheduler(progress=1.0, evaluation_noise=0.01).select(rose, 1).scores[0]
    assert scores[0] == 0.0 and scores[1] == max(scores)


def test_a_noisy_evaluation_moves_it_less_than_a_sharp_one() -> None:
    """One unlucky evaluation of task 3 does not make it the neediest unless evaluations are trusted."""
    history = (*[(0.5, 0.6, 0.8, 0.9)] * 5, (0.5, 0.6, 0.8, 0.4))
    picks = {
        noise: KalmanScheduler(progress=0.0, evaluation_noise=noise, drift=0.05).select(context(history), 1).picks[0]
        for noise in (0.01, 0.3)
    }
    assert picks == {0.01: 3, 0.3: 0}


def test_a_batch_is_shared_out_in_proportion_and_pending_counts() -> None:
    priorities = KalmanScheduler().select(context(), 1).scores[0]
    picks = KalmanScheduler().select(context(), 60).picks
    for task, priority in enumerate(priorities):
        assert picks.count(task) / 60 == pytest.approx(priority / sum(priorities), abs=2 / 60)
    assert KalmanScheduler(progress=0.0).select(context(pending=(0,) * 9), 1).picks != (0,)


def test_it_says_that_it_is_privileged_and_refuses_what_makes_no_sense() -> None:
    assert KalmanScheduler().needs == (Need.EVALUATIONS,)
    with pytest.raises(InputError, match="needs an evaluation"):
        KalmanScheduler().select(context_of(SUITE, POLICY), 1)
    with pytest.raises(InputError, match="share"):
        KalmanScheduler(progress=1.5)
    with pytest.raises(InputError, match="must be positive"):
        KalmanScheduler(evaluation_noise=0.0)
