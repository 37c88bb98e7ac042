"""What a run leaves for TensorBoard, read back with TensorBoard's own reader."""

import csv
import itertools
import math
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kill_points
import numpy as np
import pytest
from event_reader import Events
from tiny_runs import Run

from tiny import TinySuite

TASKS = [task.name for task in TinySuite().tasks]
EVALUATED = (0, 2, 4, 5)
"""Demonstrations at the evaluations of `uninterrupted`."""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "tensorboard.md"


@pytest.fixture(scope="module")
def events(uninterrupted: Run) -> Events:
    return Events(uninterrupted.path)


def assert_curves_complete(events: Events, run: Run) -> None:
    """Score, return and success of every task and the mean, by demonstrations, as in curve.csv; the mean by rounds."""
    curve = {(row.demonstrations, row.task): row for row in run.folder.read_curve()}
    for task in [*TASKS, "mean"]:
        by_demonstrations = events.scalars(f"by_demonstrations/score/{task}")
        assert by_demonstrations == {count: pytest.approx(curve[count, task].score, abs=1e-6) for count in EVALUATED}
    assert events.scalars("by_round/score/mean") == dict(
        enumerate(events.scalars("by_demonstrations/score/mean").values())
    )
    for task in TASKS:
        returns = {count: pytest.approx(curve[count, task].episode_return, abs=1e-4) for count in EVALUATED}
        assert events.scalars(f"by_demonstrations/return/{task}") == returns


def test_scores_stand_against_demonstrations_and_their_mean_against_rounds(events: Events, uninterrupted: Run) -> None:
    assert_curves_complete(events, uninterrupted)
    assert not [tag for tag in events.tags() if tag.startswith("by_round/") and tag.endswith(tuple(TASKS))]


def test_what_all_tasks_have_together_stands_first(events: Events, uninterrupted: Run) -> None:
    assert min(tag.partition("/")[0] for tag in events.tags()) == "all_tasks"
    for count in EVALUATED:
        rows = {row.task: row for row in uninterrupted.folder.read_curve() if row.demonstrations == count}
        scores = [rows[task].score for task in TASKS]
        lower, upper = np.quantile(scores, (0.25, 0.75))
        expected = {"score": rows["mean"].score, "success": rows["mean"].success, "score_lowest": min(scores)}
        expected |= {"score_lower_quartile": lower, "score_upper_quartile": upper}
        for name, value in expected.items():
            assert events.scalars(f"all_tasks/{name}")[count] == pytest.approx(value, abs=1e-6), name


def test_forgetting_and_what_is_frozen_have_curves(events: Events, uninterrupted: Run) -> None:
    with uninterrupted.folder.forgetting.open(newline="") as file:
        rows = {(int(row["demonstrations"]), row["task"]): row for row in csv.DictReader(file)}
    for task, tag in (("goal=-1", "goal=-1"), ("goal=-0.5", "goal=-0.5"), ("mean", "signed")):
        expected = {count: pytest.approx(float(rows[count, task]["forgotten"]), abs=1e-6) for count in EVALUATED}
        assert events.scalars(f"by_demonstrations/forgetting/{tag}") == expected
    lost = {count: pytest.approx(float(rows[count, "mean"]["lost"]), abs=1e-6) for count in EVALUATED}
    assert events.scalars("by_demonstrations/forgetting/positive") == lost
    frozen = events.scalars("by_round/retention/frozen")
    assert frozen == {step: pytest.approx(0.3, abs=0.002) for step in range(4)}
    assert "by_demonstrations/forgetting/goal=1" not in events.tags(), "it was not pre-trained"


def test_every_choice_of_a_round_shows_the_scores_that_decided(events: Events, uninterrupted: Run) -> None:
    jobs = uninterrupted.folder.read_selections()
    assert len({job.round for job in jobs}) < len(jobs)
    for index, task in enumerate(TASKS):
        scores = {job.demonstration: pytest.approx(job.scores[index], rel=1e-5) for job in jobs}
        assert events.scalars(f"selection/score/{task}") == scores
        counts = {n: sum(job.task == task for job in jobs[:n]) for n in EVALUATED[1:]}
        assert events.scalars(f"selection/count/{task}") == counts


def test_predictions_stand_beside_what_came_of_them(events: Events, uninterrupted: Run) -> None:
    rows = uninterrupted.folder.read_outcomes()
    gains = {job.demonstration: job.scores[job.task_index] for job, _ in rows}
    assert events.scalars("selection/predicted_gain") == {n: pytest.approx(gain, rel=1e-5) for n, gain in gains.items()}
    needs = {job.demonstration: each.predicted.need for job, each in rows if each.predicted is not None}
    assert len(needs) == len(rows)
    assert events.scalars("selection/predicted_need") == {n: pytest.approx(x, rel=1e-5) for n, x in needs.items()}
    for name in ("error_before", "error_after"):
        errors = {job.demonstration: getattr(each.realised, name) for job, each in rows}
        assert events.scalars(f"selection/{name}") == {n: pytest.approx(x, rel=1e-5) for n, x in errors.items()}
    means = {row.demonstrations: row.score for row in uninterrupted.folder.read_curve() if row.task == "mean"}
    for before, after in itertools.pairwise(EVALUATED):
        change = pytest.approx(means[after] - means[before], abs=1e-6)
        assert events.scalars("all_tasks/realised_gain")[after] == change
        predicted = sum(gains[job.demonstration] for job, _ in rows[before:after])
        assert events.scalars("all_tasks/predicted_gain")[after] == pytest.approx(predicted, rel=1e-5)


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


def test_all_tasks_of_a_kind_share_a_chart(events: Events) -> None:
    charts = events.charts()
    assert list(charts) == ["all_tasks", "by_demonstrations", "selection", "loss"]
    assert list(charts["by_demonstrations"]) == ["score", "success", "return", "forgetting"]
    assert list(charts["selection"])[:2] == ["score", "count"]
    for group in ("by_demonstrations", "selection"):
        for kind, (pattern,) in charts[group].items():
            shown = {tag for tag in events.tags() if re.match(pattern, tag)}
            assert shown and all(tag.startswith(f"{group}/{kind}/") for tag in shown)
            if kind in ("score", "success", "return", "count"):
                assert {tag.rpartition("/")[2] for tag in shown} - {"mean"} == set(TASKS)
    assert set(charts["all_tasks"]["mean score, quartiles of the tasks"]) <= events.tags()


def test_the_pictures_of_the_report_are_there_once(events: Events, uninterrupted: Run) -> None:
    folder = uninterrupted.folder
    assert events.pictures() == {
        "report/curve": {5: folder.curve_picture.read_bytes()},
        "report/allocation": {5: folder.allocation_picture.read_bytes()},
        "report/calibration": {5: folder.calibration_picture.read_bytes()},
    }


def test_a_run_is_a_row_of_settings_and_results(events: Events, uninterrupted: Run) -> None:
    settings, columns, finished = events.row()
    assert finished
    assert settings["selector"] == "InformationGain" and settings["suite"] == "tiny"
    assert settings["retention"] == "FreezeByImportance + SelfDistillation"
    assert (settings["seed"], settings["budget"], settings["training/batch_size"]) == (0, 5, 2)
    assert {"final/score", "final/area_under_curve", "final/demonstrations_to_0.8"} <= columns
    means = {row.demonstrations: row.score for row in uninterrupted.folder.read_curve() if row.task == "mean"}
    held = [means[max(n for n in EVALUATED if n <= count)] for count in range(6)]
    assert events.scalars("final/score") == {5: pytest.approx(means[5], abs=1e-6)}
    assert events.scalars("final/area_under_curve") == {5: pytest.approx(sum(held) / 6, abs=1e-6)}


def test_the_page_names_every_tag(events: Events) -> None:
    page = PAGE.read_text()
    kinds = {"selection/choice", "selection/uses"}
    for tag in events.tags() | set(events.pictures()):
        of_task = next((task for task in TASKS if tag.endswith(f"/{task}")), None)
        kinds.add(f"{tag.removesuffix(of_task)}TASK" if of_task else tag)
    of_the_selector = {"selection/variance/TASK", "selection/environment_steps"}
    of_the_selector |= {f"selection/log10_variance_over_kappa/{end}" for end in ("smallest", "largest")}
    assert {kind for kind in kinds - of_the_selector if f"`{kind}`" not in page} == set()


def test_importance_weights_show_their_effective_sample_sizes(make_run: Callable[..., Run]) -> None:
    parts = {"embedding": {"class_path": "LossGradient"}, "occupancy": {"class_path": "ImportanceWeighted"}}
    run = make_run("run", {"selector": {"class_path": "InformationGain", "init_args": parts}}).complete()
    events = Events(run.path)
    for task in TASKS:
        sizes = events.scalars(f"selection/effective_sample_size/{task}")
        assert list(sizes) == [2, 4]  # in round 0 there is nothing to weigh
        assert 1 <= sizes[2] <= 2
        assert 1 <= sizes[4] <= 4
    texts = events.texts("selection/choice")
    assert "runner-up" not in texts[0]
    assert "runner-up" in texts[2]


def content(events: Events) -> dict[str, Any]:
    """Everything that the files show, but for the times."""
    scalars = {tag: events.points(tag) for tag in events.tags()}
    texts = {tag: events.texts(tag) for tag in ("selection/choice", "selection/uses")}
    return {**scalars, **texts, **events.pictures(), "charts": events.charts(), "row": events.row()}


@pytest.mark.parametrize("round", [0, 2])
def test_a_kill_loses_no_point_and_doubles_none(
    make_run: Callable[..., Run], uninterrupted: Run, events: Events, round: int
) -> None:
    run = make_run()
    assert run.finish(kill_points.in_mid_epoch, round) == -signal.SIGKILL
    killed = Events(run.path)
    assert list(killed.scalars("by_round/score/mean")) == list(range(round + 1))
    assert len(killed.points("loss/demonstrations")) >= 3 * round
    again = Events(run.complete().path)
    assert_curves_complete(again, run)
    assert content(again) == content(events)
    before = {path.name for path in run.path.glob("*tfevents*")}
    run.complete()  # once more, with nothing to do
    assert {path.name for path in run.path.glob("*tfevents*")} == before


def test_a_larger_budget_goes_on_with_the_curves(make_run: Callable[..., Run], events: Events) -> None:
    make_run("run", {"active": {"budget": 4}}).complete()
    longer = Events(make_run().complete().path)
    assert longer.points("final/score")[0][0] == 4 and longer.points("final/score")[1][0] == 5
    assert longer.row()[0]["budget"] == 5
    for tag in events.tags():
        if not tag.startswith("final/"):
            assert longer.points(tag) == events.points(tag), tag
