"""What a run leaves for TensorBoard, read back with TensorBoard's own reader."""

import csv
import math
import signal
from collections.abc import Callable
from typing import Any

import kill_points
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tiny_runs import Run

from amf_lightning.campaign.run_folder import RunFolder
from tiny import TinySuite

TASKS = [task.name for task in TinySuite().tasks]


class Events:
    """Scalars and texts of a run; of a step that was logged again after a kill, the last."""

    def __init__(self, folder: RunFolder) -> None:
        self._accumulator = EventAccumulator(str(folder.path), size_guidance={"scalars": 0, "tensors": 0})
        self._accumulator.Reload()

    def scalars(self, tag: str) -> dict[int, float]:
        return {event.step: event.value for event in self._accumulator.Scalars(tag)}

    def tags(self) -> set[str]:
        return set(self._accumulator.Tags()["scalars"])

    def texts(self, tag: str) -> dict[int, str]:
        events: list[Any] = self._accumulator.Tensors(f"{tag}/text_summary")
        return {event.step: event.tensor_proto.string_val[0].decode() for event in events}


@pytest.fixture(scope="module")
def events(uninterrupted: Run) -> Events:
    return Events(uninterrupted.folder)


def assert_curves_complete(events: Events, run: Run) -> None:
    """Score, return and success of every task and the mean, by demonstrations and by rounds, as in curve.csv."""
    curve = {(row.demonstrations, row.task): row for row in run.folder.read_curve()}
    for task in [*TASKS, "mean"]:
        by_demonstrations = events.scalars(f"by_demonstrations/score/{task}")
        assert by_demonstrations == {count: pytest.approx(curve[count, task].score, abs=1e-6) for count in (0, 2, 4, 5)}
        assert events.scalars(f"by_round/score/{task}") == dict(enumerate(by_demonstrations.values()))
    for task in TASKS:
        returns = {count: pytest.approx(curve[count, task].episode_return, abs=1e-4) for count in (0, 2, 4, 5)}
        assert events.scalars(f"by_demonstrations/return/{task}") == returns


def test_scores_stand_against_demonstrations_and_against_rounds(events: Events, uninterrupted: Run) -> None:
    assert_curves_complete(events, uninterrupted)


def test_forgetting_and_what_is_frozen_have_curves(events: Events, uninterrupted: Run) -> None:
    with uninterrupted.folder.forgetting.open(newline="") as file:
        rows = {(int(row["demonstrations"]), row["task"]): row for row in csv.DictReader(file)}
    for task, tag in (("goal=-1", "goal=-1"), ("goal=-0.5", "goal=-0.5"), ("mean", "signed")):
        expected = {count: pytest.approx(float(rows[count, task]["forgotten"]), abs=1e-6) for count in (0, 2, 4, 5)}
        assert events.scalars(f"by_demonstrations/forgetting/{tag}") == expected
    lost = {count: pytest.approx(float(rows[count, "mean"]["lost"]), abs=1e-6) for count in (0, 2, 4, 5)}
    assert events.scalars("by_demonstrations/forgetting/positive") == lost
    frozen = events.scalars("by_round/retention/frozen")
    assert frozen == {step: pytest.approx(0.3, abs=0.002) for step in range(4)}
    assert "by_round/forgetting/goal=1" not in events.tags(), "it was not pre-trained"


def test_each_round_shows_the_scores_that_decided_and_what_was_asked_so_far(events: Events, uninterrupted: Run) -> None:
    jobs = uninterrupted.folder.read_selections()
    for index, task in enumerate(TASKS):
        first_picks = {job.round: job for job in reversed(jobs)}
        scores = {round: pytest.approx(job.scores[index], rel=1e-5) for round, job in sorted(first_picks.items())}
        assert events.scalars(f"selection/score/{task}") == scores
        counts = {round: sum(job.task == task for job in jobs if job.round <= round) for round in range(3)}
        assert events.scalars(f"selection/count/{task}") == counts


def test_losses_are_shown_apart(events: Events) -> None:
    steps = [4 * n - 1 for n in range(1, 10)]
    for name in ("demonstrations", "replay"):
        losses = events.scalars(f"loss/{name}")
        assert list(losses) == steps
        assert all(math.isfinite(loss) and loss > 0 for loss in losses.values())
    assert "loss/penalty" not in events.tags()


def test_each_choice_has_a_sentence_with_the_runner_up(events: Events, uninterrupted: Run) -> None:
    texts = events.texts("selection/choice")
    jobs = uninterrupted.folder.read_selections()
    assert list(texts) == [job.demonstration for job in jobs]
    for job in jobs:
        first, second = sorted(range(len(TASKS)), key=lambda index: -job.scores[index])[:2]
        assert job.task_index == first
        assert f"{job.task}, chosen by InformationGain with score {job.scores[first]:.4g}" in texts[job.demonstration]
        assert f"runner-up {TASKS[second]} with {job.scores[second]:.4g}" in texts[job.demonstration]


def test_what_the_selector_uses_is_said_once(events: Events) -> None:
    expected = "InformationGain uses beyond the demonstrations: pre-training statistics, simulator rollouts."
    assert events.texts("selection/uses") == {0: expected}


def test_importance_weights_show_their_effective_sample_sizes(make_run: Callable[..., Run]) -> None:
    parts = {"embedding": {"class_path": "LossGradient"}, "occupancy": {"class_path": "ImportanceWeighted"}}
    run = make_run("run", {"selector": {"class_path": "InformationGain", "init_args": parts}}).complete()
    events = Events(run.folder)
    for task in TASKS:
        sizes = events.scalars(f"selection/effective_sample_size/{task}")
        assert list(sizes) == [1, 2]  # in round 0 there is nothing to weigh
        assert 1 <= sizes[1] <= 2
        assert 1 <= sizes[2] <= 4
    texts = Events(run.folder).texts("selection/choice")
    assert "runner-up" not in texts[0]
    assert "runner-up" in texts[2]


def test_a_kill_leaves_no_gap_in_the_rounds_before_it(make_run: Callable[..., Run]) -> None:
    run = make_run()
    assert run.finish(kill_points.in_mid_epoch, 2) == -signal.SIGKILL
    events = Events(run.folder)
    assert list(events.scalars("by_round/score/mean")) == [0, 1, 2]
    assert set(events.scalars("loss/demonstrations")) >= {3, 7, 11, 15, 19, 23}
    assert_curves_complete(Events(run.complete().folder), run)
