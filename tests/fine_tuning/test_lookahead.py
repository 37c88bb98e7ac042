"""A look ahead is the round itself."""

from pathlib import Path
from typing import Any

import pytest
from process_groups import end_of
from test_two_processes import TWO_PROCESSES
from test_two_processes import start as start_processes
from tiny_runs import FINE_TUNING, PRETRAINING, Run

from amf_lightning.campaign.curve import MEAN
from amf_lightning.configuration import merge

THREE = {"suite": {"class_path": "tiny.TinySuite", "init_args": {"goals": 3}}}
NAMES = ("goal=-1", "goal=-0.5", "goal=0.5")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything of a fine-tuning run but what is asked: freezing, distillation, clipping, weight decay."""
    folder = tmp_path_factory.mktemp("pretrained")
    pretrained = Run(folder / "run", merge(PRETRAINING, THREE)).complete().folder.policy
    return merge(FINE_TUNING, merge(THREE, {"model": {"pretrained": str(pretrained)}}))


def asked(folder: Path, start: dict[str, Any], tasks: tuple[str, ...]) -> tuple[float, ...]:
    """Mean score after each of these demonstrations, one a round."""
    schedule = {"class_path": "FixedSchedule", "init_args": {"tasks": list(tasks)}}
    active = {"budget": len(tasks), "batch_size": 1}
    run = Run(folder / "-".join(tasks), merge(start, {"selector": schedule, "active": active})).complete()
    return tuple(row.score for row in run.folder.read_curve() if row.task == MEAN)


def test_the_oracle_chooses_what_exhaustive_retraining_chooses(tmp_path: Path, start: dict[str, Any]) -> None:
    selector, active = {"class_path": "Oracle"}, {"budget": 2, "batch_size": 1}
    oracle = Run(tmp_path / "oracle", merge(start, {"selector": selector, "active": active})).complete()
    first, second = oracle.folder.read_selections()
    once = {name: asked(tmp_path, start, (name,)) for name in NAMES if name != first.task}
    twice = {name: asked(tmp_path, start, (first.task, name)) for name in NAMES}
    expected = {**{name: scores[1] for name, scores in once.items()}, first.task: twice[NAMES[0]][1]}
    assert first.scores == tuple(expected[name] for name in NAMES)
    assert len(set(first.scores)) == 3
    assert expected[first.task] == max(expected.values())
    # The second round starts with the momentum of the first.
    assert second.scores == tuple(twice[name][2] for name in NAMES)
    assert twice[second.task][2] == max(second.scores)
    means = [row.score for row in oracle.folder.read_curve() if row.task == MEAN]
    assert means[1:] == [max(first.scores), max(second.scores)]
    assert "trial fine-tuning" in oracle.folder.report.read_text()


@pytest.mark.parametrize(
    "trainer",
    [
        {},
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed"},
    ],
    ids=["plain", "accumulated and clipped by value", "bf16-mixed"],
)
def test_a_batch_is_looked_ahead_in_as_a_whole(tmp_path: Path, start: dict[str, Any], trainer: dict[str, Any]) -> None:
    changes = {"selector": {"class_path": "Oracle"}, "active": {"budget": 2, "batch_size": 2}, "trainer": trainer}
    oracle = Run(tmp_path / "oracle", merge(start, changes)).complete()
    last = oracle.folder.read_selections()[-1]
    means = [row.score for row in oracle.folder.read_curve() if row.task == MEAN]
    assert means[1] == last.scores[last.task_index] == max(last.scores)
    assert float(oracle.folder.evaluation.read_text().split('"environment_steps": ')[1].split(",")[0]) > 0


@pytest.mark.slow  # two processes that import everything, for one refusal
def test_it_is_refused_on_several_processes(tmp_path: Path, start: dict[str, Any]) -> None:
    run = Run(tmp_path / "run", merge(start, {"selector": {"class_path": "Oracle"}}), TWO_PROCESSES)
    assert end_of(start_processes(run), within=240) != 0
    assert "which they can on one process" in run.log.read_text()
