"""A run that ends before its budget is spent, and says so."""

import math
from collections.abc import Callable
from typing import Any

import kill_points
import pytest
from tiny_runs import Run, assert_same_outcome, outcome

from amf_lightning.campaign.request import Request
from amf_lightning.campaign.stopping import StopRule
from amf_lightning.errors import InputError


def jobs_of(*rounds: tuple[float, ...], batch_size: int = 1) -> list[Request]:
    return [
        Request(number * batch_size + position, number, "a", 0, "S", tuple(s / (position + 1) for s in scores), 0)
        for number, scores in enumerate(rounds)
        for position in range(batch_size)
    ]


def test_it_takes_enough_rounds_in_a_row_all_of_whose_scores_are_small() -> None:
    rule = StopRule(below=1.0, rounds=2)
    assert rule.reached(jobs_of((3.0, 2.0), (0.9, 0.1), (0.2, 0.3)))
    assert not rule.reached(jobs_of((3.0, 2.0), (0.9, 0.1)))
    assert not rule.reached(jobs_of((0.1, 0.1), (0.9, 1.0), (0.2, 0.3)))
    assert not rule.reached(jobs_of((0.1, 0.1)))
    assert not rule.reached([])


def test_the_first_choice_of_a_batch_counts_and_missing_scores_do_not() -> None:
    rule = StopRule(below=1.0, rounds=1)
    assert not rule.reached(jobs_of((1.5, 0.2), batch_size=2))
    assert rule.reached(jobs_of((math.nan, 0.2)))
    assert not rule.reached(jobs_of((math.nan, math.nan)))


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        StopRule(1.0, rounds=0)
    with pytest.raises(InputError, match="not a number"):
        StopRule(math.nan)


@pytest.fixture
def stopping(make_run: Callable[..., Run]) -> Callable[..., Run]:
    def make(name: str, budget: int = 8, *options: str) -> Run:
        changes: dict[str, Any] = {"active": {"budget": budget, "stop": {"below": 1e6, "rounds": 2}}}
        return make_run(name, changes, options)

    return make


def test_a_run_stops_says_so_and_stays_stopped(stopping: Callable[..., Run]) -> None:
    run = stopping("run").complete()
    assert [job.round for job in run.folder.read_selections()] == [0, 0, 1, 1]
    assert run.folder.finished(8)
    assert "below 1e+06 in each of the last 2 rounds" in str(run.folder.stopped)
    assert "**Stopped early**, after 4 of 8 demonstrations" in run.folder.report.read_text()
    assert "Stopped after 4 of 8 demonstrations" in run.log.read_text()
    before = outcome(run)
    assert outcome(run.complete()) == before


def test_what_demonstrations_cost_counts_in_what_is_too_little(make_run: Callable[..., Run]) -> None:
    """The same gains, worth the trouble or not: a rule on gains per cost."""
    active = {"budget": 4, "stop": {"below": 1e-6, "rounds": 1}}
    runs = []
    for name, cost in (("cheap", 1.0), ("dear", 1e12)):
        costs = dict.fromkeys(("goal=-1", "goal=-0.5", "goal=0.5", "goal=1"), cost)
        selector = {"class_path": "InformationGain", "init_args": {"costs": costs}}
        runs.append(make_run(name, {"active": active, "selector": selector}).complete().folder)
    cheap, dear = runs
    assert cheap.stopped is None and len(cheap.read_selections()) == 4
    assert "below 1e-06 in the last round" in str(dear.stopped)
    assert len(dear.read_selections()) == 2
    for one, other in zip(dear.read_selections(), cheap.read_selections(), strict=False):
        assert one.task == other.task
        assert one.scores == pytest.approx([score / 1e12 for score in other.scores], rel=1e-6)


def test_a_killed_run_stops_where_it_would_have_stopped(stopping: Callable[..., Run]) -> None:
    reference = stopping("reference").complete()
    killed = stopping("killed")
    assert killed.finish(kill_points.in_mid_epoch, 1) < 0
    assert_same_outcome(killed.complete(), reference)


def test_the_policy_that_is_kept_is_evaluated_however_rarely_others_are(stopping: Callable[..., Run]) -> None:
    run = stopping("run", 8, "--trainer.check_val_every_n_epoch=3").complete()
    assert sorted({row.demonstrations for row in run.folder.read_curve()}) == [0, 4]
    before = outcome(run)
    assert outcome(run.complete()) == before
