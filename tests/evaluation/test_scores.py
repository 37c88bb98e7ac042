import json
import math
import random as stdlib_random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import (
    Evaluation,
    area_under_curve,
    check_scorable,
    demonstrations_to,
    evaluate_returns,
    forgetting,
    normalised_scores,
    weighted_mean,
)
from amf_lightning.tasks.task import ReferenceReturns, Task, TaskSuite

REFERENCE = ReferenceReturns(random=(-100.0, 0.0), expert=(100.0, 50.0), spread=(5.0, 1.0), command="measure again")


class TwoTasks(TaskSuite):
    name = "two"
    tasks = (Task("a", 0, (0.0,), 10), Task("b", 1, (1.0,), 10))
    observation_dim = 1
    action_dim = 1

    def __init__(
        self, reference: ReferenceReturns | None = REFERENCE, weights: tuple[float, ...] | None = None
    ) -> None:
        self.reference = reference
        self.weights = weights

    def make(self, task: Task, render_mode: str | None = None) -> NDArray[np.float32]:
        raise NotImplementedError


# -- normalised scores ----------------------------------------------------------------------------------------------


def test_random_scores_zero_the_expert_one_and_beyond_is_clipped() -> None:
    def score(*returns: float) -> list[float]:
        scores: list[float] = normalised_scores(torch.tensor(returns, dtype=torch.float64), REFERENCE).tolist()
        return scores

    assert score(-100.0, 0.0) == [0.0, 0.0]
    assert score(100.0, 50.0) == [1.0, 1.0]
    assert score(0.0, 40.0) == [0.5, 0.8]
    assert score(-1e9, 1e9) == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_follows_the_returns(dtype: torch.dtype) -> None:
    assert normalised_scores(torch.zeros(2, dtype=dtype), REFERENCE).dtype == dtype


@pytest.mark.parametrize("returns", [torch.zeros(1), torch.zeros(3), torch.zeros(2, 2), torch.tensor(0.0)])
def test_returns_of_another_number_of_tasks_are_refused(returns: Tensor) -> None:
    with pytest.raises(InputError, match="reference returns of 2 tasks"):
        normalised_scores(returns, REFERENCE)


# -- tasks that cannot be scored --------------------------------------------------------------------------------------


def test_a_suite_with_clear_gaps_is_scorable() -> None:
    check_scorable(TwoTasks())


def test_a_deterministic_expert_is_scorable() -> None:
    check_scorable(TwoTasks(replace(REFERENCE, spread=(0.0, 0.0))))


@pytest.mark.parametrize(
    "reference",
    [
        replace(REFERENCE, spread=(5.0, 25.0)),
        replace(REFERENCE, expert=(100.0, 0.0), spread=(5.0, 0.0)),
        replace(REFERENCE, expert=(100.0, -1.0)),
        replace(REFERENCE, expert=(100.0, math.nan)),
        replace(REFERENCE, random=(-100.0, -math.inf)),
        replace(REFERENCE, spread=(5.0, math.nan)),
    ],
    ids=["noisy", "no gap", "expert worse", "nan", "infinite", "nan spread"],
)
def test_a_task_with_a_small_gap_is_refused_by_name(reference: ReferenceReturns) -> None:
    with pytest.raises(InputError, match=r"cannot be scored.*: b \(random .*measure again: measure again") as caught:
        check_scorable(TwoTasks(reference))
    assert "a (random" not in str(caught.value)


def test_a_suite_without_reference_returns_is_refused() -> None:
    with pytest.raises(InputError, match="Suite 'two' has no reference returns"):
        check_scorable(TwoTasks(None))
    with pytest.raises(InputError, match="Suite 'two' has no reference returns"):
        evaluate_returns(0, torch.zeros(2), torch.zeros(2), TwoTasks(None))


def test_reference_returns_of_other_tasks_are_refused() -> None:
    with pytest.raises(InputError, match="not those of its 2 tasks"):
        check_scorable(TwoTasks(replace(REFERENCE, spread=(1.0,))))


# -- an evaluation ----------------------------------------------------------------------------------------------------


def test_an_evaluation_keeps_returns_unclipped_and_weighs_scores_by_the_distribution() -> None:
    suite = TwoTasks(weights=(3.0, 1.0))
    evaluation = evaluate_returns(7, torch.tensor([0.0, 60.0]), torch.tensor([0.5, 1.0]), suite)
    assert evaluation == Evaluation(7, (0.0, 60.0), (0.5, 1.0), (0.5, 1.0), mean_score=0.75 * 0.5 + 0.25 * 1.0)


def test_an_evaluation_survives_a_checkpoint_and_json(tmp_path: Path) -> None:
    evaluation = Evaluation(3, (0.1, -2.5), (0.3, 1.0), (0.1 + 0.2, 1 / 3), 0.7)
    torch.save(evaluation.to_dict(), tmp_path / "checkpoint")
    assert Evaluation.from_dict(torch.load(tmp_path / "checkpoint", weights_only=True)) == evaluation
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 10.0)), min_size=1, max_size=9),
)
def test_the_weighted_mean_is_that_of_numpy_in_any_order(pairs: list[tuple[float, float]]) -> None:
    values, weights = zip(*pairs, strict=True)
    mean = weighted_mean(values, weights)
    assert mean == pytest.approx(np.average(values, weights=weights), rel=1e-9, abs=1e-9)
    stdlib_random.Random(0).shuffle(pairs)
    assert weighted_mean(*zip(*pairs, strict=True)) == mean


# -- curves -----------------------------------------------------------------------------------------------------------


def every_step(demonstrations: list[int], scores: list[float], budget: int) -> list[float]:
    """Brute force: the score after each of 0 … N demonstrations, the last evaluated one holding in between."""
    table = dict(zip(demonstrations, scores, strict=True))
    held: list[float] = []
    for n in range(budget + 1):
        held.append(table[n] if n in table else held[-1])
    return held


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[int], list[float], int]:
    budget = draw(st.integers(0, 12))
    inner = draw(st.sets(st.integers(0, max(budget - 1, 0)), max_size=12))
    beyond = draw(st.sets(st.integers(budget + 1, budget + 5), max_size=3))
    numbers = sorted({0, budget} | inner | beyond)
    return numbers, draw(st.lists(st.floats(0, 1), min_size=len(numbers), max_size=len(numbers))), budget


@given(curves())
def test_area_under_the_curve_is_the_mean_over_every_demonstration(curve: tuple[list[int], list[float], int]) -> None:
    assert area_under_curve(*curve) == pytest.approx(np.mean(every_step(*curve)), abs=1e-12)


@given(curves(), st.floats(0, 1))
def test_demonstrations_to_is_the_first_at_or_above(
    curve: tuple[list[int], list[float], int], threshold: float
) -> None:
    reached = [n for n, score in enumerate(every_step(*curve)) if score >= threshold]
    assert demonstrations_to(threshold, *curve) == min(reached, default=curve[2] + 1)


def test_a_curve_without_any_demonstration_is_its_only_score() -> None:
    assert area_under_curve([0], [0.3], budget=0) == 0.3
    assert demonstrations_to(0.3, [0], [0.3], budget=0) == 0
    assert demonstrations_to(0.4, [0], [0.3], budget=0) == 1


def test_a_threshold_that_is_never_reached_counts_one_more_than_the_budget() -> None:
    assert demonstrations_to(0.8, [0, 1, 2, 3], [0.1, 0.2, 0.3, 0.9], budget=2) == 3


def test_a_threshold_that_is_lost_again_counts_when_it_was_first_reached() -> None:
    assert demonstrations_to(0.8, [0, 1, 2], [0.1, 0.8, 0.3], budget=2) == 1


@pytest.mark.parametrize(
    ("demonstrations", "budget"),
    [([], 2), ([1, 2], 2), ([0, 1], 2), ([0, 2, 1, 2], 2), ([0, 1, 1, 2], 2)],
    ids=["empty", "no start", "not finished", "not sorted", "twice"],
)
def test_a_curve_that_does_not_reach_from_zero_to_the_budget_is_refused(demonstrations: list[int], budget: int) -> None:
    scores = [0.5] * len(demonstrations)
    with pytest.raises(InputError, match="from 0 to 2"):
        area_under_curve(demonstrations, scores, budget)
    with pytest.raises(InputError, match="from 0 to 2"):
        demonstrations_to(0.5, demonstrations, scores, budget)


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        area_under_curve([0, 1], [0.5, math.nan], budget=1)


# -- forgetting -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), min_size=1, max_size=12))
def test_forgetting_is_the_mean_loss_over_the_pretraining_tasks(rows: list[tuple[float, float, bool]]) -> None:
    before, now, pretrained = (np.array(column) for column in zip(*rows, strict=True))
    if not pretrained.any():
        return
    result = forgetting(before.tolist(), now.tolist(), pretrained.tolist())
    lost = (before - now)[pretrained]
    assert result.signed == pytest.approx(lost.mean(), abs=1e-12)
    assert result.positive == pytest.approx(np.maximum(lost, 0).mean(), abs=1e-12)
    assert result.positive >= max(result.signed, 0.0) - 1e-12


def test_a_gain_on_one_task_does_not_hide_the_loss_of_another() -> None:
    assert forgetting([0.5, 0.5], [0.0, 1.0], [True, True]) == (0.0, 0.25)


def test_forgetting_without_pretraining_tasks_is_refused() -> None:
    with pytest.raises(InputError, match="none of the tasks"):
        forgetting([0.5], [0.5], [False])
