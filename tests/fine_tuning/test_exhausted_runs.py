"""Runs in which the demonstrations of some tasks, or of all, come to an end."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kill_points
import pytest
from selection_world import demonstrate
from tiny_runs import Run, assert_same_outcome, outcome

from amf_lightning.demonstrations.store import DemonstrationStore
from tiny import TinySuite

SUITE = TinySuite()
LEFT = "the expert has no demonstration left of any task"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five: one of goal 1, two each of 0.5 and −0.5, none of −1."""
    folder = tmp_path_factory.mktemp("recordings")
    for number, trajectory in enumerate(demonstrate(SUITE, [1, 2, 3, 2, 1], seed=700)):
        DemonstrationStore(folder).write(number, trajectory)
    return folder


def recorded(recordings: Path, budget: int, **active: Any) -> dict[str, Any]:
    expert = {"class_path": "RecordedExpert", "init_args": {"folder": str(recordings)}}
    return {"expert": expert, "active": {"budget": budget, "batch_size": 2, **active}}


def test_recordings_are_each_given_once_and_the_run_ends_with_them(
    make_run: Callable[..., Run], recordings: Path
) -> None:
    run = make_run("run", recorded(recordings, 9)).complete()
    jobs = run.folder.read_selections()
    assert Counter(job.task for job in jobs) == {"goal=1": 1, "goal=0.5": 2, "goal=-0.5": 2}
    assert [job.round for job in jobs] == [0, 0, 1, 1, 2]
    given = [DemonstrationStore(run.folder.demonstrations).read(number) for number in range(5)]
    for task in ("goal=0.5", "goal=-0.5"):  # in the order in which they were recorded
        seeds = [trajectory.seed or 0 for trajectory in given if trajectory.task == task]
        assert seeds == sorted(seeds) and len(set(seeds)) == 2
    assert run.folder.finished(9)
    assert run.folder.stopped == LEFT
    assert f"**Stopped early**, after 5 of 9 demonstrations: {LEFT}" in run.folder.report.read_text()
    assert f"Stopped after 5 of 9 demonstrations: {LEFT}" in run.log.read_text()
    before = outcome(run)
    assert outcome(run.complete()) == before


def test_a_killed_run_is_given_what_it_would_have_been_given(make_run: Callable[..., Run], recordings: Path) -> None:
    reference = make_run("reference", recorded(recordings, 9)).complete()
    killed = make_run("killed", recorded(recordings, 9))
    assert killed.finish(kill_points.in_mid_epoch, 1) < 0
    assert_same_outcome(killed.complete(), reference)


def test_a_batch_does_not_ask_twice_for_what_is_there_once(make_run: Callable[..., Run]) -> None:
    """Every task but one is used up at once: the last one is asked for in every round after that."""
    limits = {"goal=-1": 1, "goal=0.5": 1, "goal=1": 1}
    expert = {
        "class_path": "LimitedExpert",
        "init_args": {"expert": {"class_path": "tiny.TinyExpert"}, "limits": limits},
    }
    changes = {"expert": expert, "active": {"budget": 6, "batch_size": 3}}
    jobs = make_run("run", changes).complete().folder.read_selections()
    assert Counter(job.task for job in jobs) == {"goal=-1": 1, "goal=0.5": 1, "goal=1": 1, "goal=-0.5": 3}
    assert len(jobs) == 6


def test_recordings_that_do_not_fit_the_suite_are_refused_before_anything_is_written(
    make_run: Callable[..., Run], recordings: Path
) -> None:
    changes = recorded(recordings, 3) | {"suite": {"class_path": "tiny.TinySuite", "init_args": {"goals": 2}}}
    run = make_run("run", changes)
    assert run.finish() == 2
    assert "no task 'goal=" in run.log.read_text()
    assert not run.folder.ledger.exists()
