import csv
import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amf_lightning.campaign.curve import CurveRow
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Evaluation, weighted_mean

NAMES = ("v=-3", 'odd, "name"')
EVALUATIONS = (
    Evaluation(0, (-0.1, 1e-300), (0.0, 1 / 3), (0.1, 0.2), 0.1 + 0.2 - 0.15),
    Evaluation(5, (1e17 / 3, -2.5), (1.0, 2 / 3), (0.7, 1.0), 0.85),
)
JOBS = [
    Request(0, 0, "v=-3", 0, "InformationGain", (0.1 + 0.2, math.nan), 2**63 - 1),
    Request(1, 1, 'odd, "name"', 1, "InformationGain", (-math.inf, 1e-300), 7),
]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_the_names_are_those_that_people_are_told(folder: RunFolder) -> None:
    names = {key: str(path.relative_to(folder.path)) for key, path in vars(folder).items() if key != "path"}
    assert names == {
        "config": "config.yaml",
        "ledger": "ledger.sqlite",
        "demonstrations": "demonstrations",
        "checkpoint": "checkpoints/last.ckpt",
        "selections": "selections.jsonl",
        "curve": "curve.csv",
        "forgetting": "forgetting.csv",
        "evaluation": "evaluation.json",
        "report": "report.md",
        "curve_picture": "curve.png",
        "allocation_picture": "allocation.png",
        "calibration_picture": "calibration.png",
        "animation": "policy.gif",
        "policy": "policy.safetensors",
    }


def test_selections_keep_every_bit_in_valid_json(folder: RunFolder) -> None:
    folder.write_selections(JOBS)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in folder.selections.read_text().splitlines()]
    assert [list(line) for line in lines] == 2 * [
        ["demonstration", "round", "task", "task_index", "selector", "scores", "seed"]
    ]
    assert lines[0]["scores"] == [0.1 + 0.2, None]
    assert repr(folder.read_selections()) == repr(JOBS)


def test_the_curve_has_a_row_a_task_and_their_mean(folder: RunFolder) -> None:
    folder.write_curve(EVALUATIONS, NAMES)
    with folder.curve.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["demonstrations", "task", "return", "success", "score"]
    assert [(row["demonstrations"], row["task"]) for row in rows] == [
        (number, task) for number in ("0", "5") for task in (*NAMES, "mean")
    ]
    assert float(rows[3]["return"]) == 1e17 / 3
    assert folder.read_curve()[5] == CurveRow(5, "mean", (1e17 / 3 - 2.5) / 2, (1.0 + 2 / 3) / 2, 0.85)


def test_the_row_of_the_mean_is_weighted_by_the_distribution(folder: RunFolder) -> None:
    evaluation = Evaluation(0, (1.0, 5.0), (0.0, 1.0), (0.0, 0.4), mean_score=0.1)
    folder.write_curve([evaluation], NAMES, weights=(3.0, 1.0))
    assert folder.read_curve()[-1] == CurveRow(0, "mean", 2.0, 0.25, 0.1)
    with pytest.raises(ValueError, match="do not give the mean score"):
        folder.write_curve([evaluation], NAMES)


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
unit = st.floats(0, 1)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(finite, unit, unit), min_size=1, max_size=4))
def test_the_curve_keeps_every_bit(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[tuple[float, float, float]]
) -> None:
    returns, successes, scores = zip(*tasks, strict=True)
    names = [f"task {i}" for i in range(len(tasks))]
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    mean_score = weighted_mean(scores, [1.0] * len(scores))
    folder.write_curve([Evaluation(3, returns, successes, scores, mean_score)], names)
    *rows, mean = folder.read_curve()
    assert repr([(row.episode_return, row.success, row.score) for row in rows]) == repr(tasks)
    assert mean.score == mean_score


def test_the_evaluation_has_the_numbers_of_the_last_rows_of_the_curve_exactly(folder: RunFolder) -> None:
    folder.write_curve(EVALUATIONS, NAMES)
    folder.write_evaluation(EVALUATIONS[-1], NAMES, seed=3, forgetting=math.nan, checkpoint=Path("a") / "b")
    content = json.loads(folder.evaluation.read_text())
    assert list(content.pop("sha256")) == ["evaluation.json"]
    rows = {
        row.task: {"return": row.episode_return, "success": row.success, "score": row.score}
        for row in folder.read_curve()[-3:]
    }
    assert content == {
        "demonstrations": 5,
        "mean": rows.pop("mean"),
        "tasks": rows,
        "seed": 3,
        "forgetting": None,
        "checkpoint": "a/b",
    }


def test_facts_cannot_replace_what_was_measured(folder: RunFolder) -> None:
    folder.write_evaluation(EVALUATIONS[-1], NAMES, demonstrations=99)
    assert json.loads(folder.evaluation.read_text())["demonstrations"] == 5


def test_a_task_called_mean_is_refused(folder: RunFolder) -> None:
    with pytest.raises(InputError, match="cannot be called 'mean'"):
        folder.write_curve(EVALUATIONS, ("v=-3", "mean"))


def test_what_was_not_written_yet_reads_as_nothing(folder: RunFolder) -> None:
    assert folder.read_curve() == []
    assert folder.read_selections() == []
    assert not folder.finished(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n", "has the columns"),
        (b"demonstrations,task,return,success,score\n0,v=1,2.0,1.0,0.5\n1,v=1,2.", "line 3 is not a row"),
        (b"demonstrations,task,return,success,score\none,v=1,2.0,1.0,0.5\n", "line 2 is not a row"),
        (b"\xff\xfe\x00", "is not text"),
    ],
)
def test_a_damaged_curve_is_refused_by_name_and_line(folder: RunFolder, content: bytes, message: str) -> None:
    folder.path.mkdir()
    folder.curve.write_bytes(content)
    with pytest.raises(InputError, match=rf"curve\.csv.* {message}"):
        folder.read_curve()


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"demonstration": 1}', '{"scores": 3}', '{"scores": ["a"]}'])
def test_a_damaged_selection_is_refused_by_name_and_line(folder: RunFolder, line: str) -> None:
    folder.write_selections(JOBS[:1])
    with folder.selections.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"selections\.jsonl, line 2 is not a selection"):
        folder.read_selections()


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: folder.write_selections(JOBS),
        lambda folder: folder.write_curve(EVALUATIONS, NAMES),
        lambda folder: folder.write_evaluation(EVALUATIONS[0], NAMES),
        lambda folder: folder.write_config("a: 1"),
    ],
    ids=["selections", "curve", "evaluation", "config"],
)
def test_a_process_killed_while_writing_leaves_the_old_file(
    folder: RunFolder, write: Callable[[RunFolder], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder)
    [path] = folder.path.iterdir()
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    if (child := os.fork()) == 0:
        write(folder)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.read_text() == "old"


def test_a_run_is_finished_when_all_that_it_writes_at_its_end_is_there(folder: RunFolder) -> None:
    folder.write_curve(EVALUATIONS, NAMES)
    folder.write_selections(JOBS)
    folder.write_evaluation(EVALUATIONS[-1], NAMES, trained_on=5, budget=5)
    folder.policy.write_bytes(b"weights")
    assert not folder.finished(5)
    folder.report.write_text("done")
    assert folder.finished(5), "version 0.2 wrote no more than that"
    assert not folder.finished(6)
    folder.seal(5)
    assert folder.finished(5) and not folder.finished(6)
    for path in (folder.policy, folder.report, folder.evaluation, folder.selections, folder.curve):
        content = path.read_bytes()
        path.unlink()
        assert not folder.finished(5), path
        path.write_bytes(content)
    assert folder.finished(5)


def test_a_run_whose_last_policy_nobody_tried_is_finished(folder: RunFolder) -> None:
    folder.write_curve(EVALUATIONS, NAMES)
    folder.write_selections(JOBS)
    folder.policy.write_bytes(b"weights")
    folder.report.write_text("done")
    folder.write_evaluation(EVALUATIONS[-1], NAMES, trained_on=7, budget=7)
    assert not folder.finished(7), "nothing says that it came to its end"
    folder.seal(7)
    assert folder.finished(7) and not folder.finished(8)


def test_results_stay_and_do_not_count_while_they_are_being_replaced(folder: RunFolder) -> None:
    folder.write_curve(EVALUATIONS, NAMES)
    folder.write_selections(JOBS)
    folder.policy.write_bytes(b"weights")
    folder.report.write_text("done")
    folder.write_evaluation(EVALUATIONS[-1], NAMES, trained_on=5, budget=5)
    folder.seal(5)
    folder.reopen()
    assert folder.policy.read_bytes() == b"weights" and folder.report.read_text() == "done"
    assert not folder.finished(5) and not folder.finished(6)
    folder.write_curve([*EVALUATIONS, replace(EVALUATIONS[-1], demonstrations=6)], NAMES)
    assert not folder.finished(6), "the policy and the report are of the smaller budget"
    folder.write_evaluation(EVALUATIONS[-1], NAMES, trained_on=6, budget=6)
    folder.seal(6)
    assert folder.finished(6)


def test_a_run_that_stopped_counts_for_the_budget_that_it_had(folder: RunFolder) -> None:
    folder.write_curve(EVALUATIONS, NAMES)
    folder.write_selections(JOBS)
    folder.policy.write_bytes(b"weights")
    folder.report.write_text("done")
    folder.write_evaluation(EVALUATIONS[-1], NAMES, trained_on=5, budget=9, stopped="enough")
    folder.seal(5)
    assert folder.finished(9) and folder.finished(7) and not folder.finished(20)


@pytest.mark.parametrize("name", ["curve.csv", "selections.jsonl"])
def test_a_table_that_was_changed_after_the_end_is_refused(folder: RunFolder, name: str) -> None:
    folder.write_curve(EVALUATIONS, NAMES)
    folder.write_selections(JOBS)
    folder.write_evaluation(EVALUATIONS[-1], NAMES)
    folder.seal(5)
    read = {"curve.csv": folder.read_curve, "selections.jsonl": folder.read_selections}[name]
    before = read()
    path = folder.path / name
    path.write_text(path.read_text().replace("5", "6", 1))
    with pytest.raises(InputError, match=rf"{name} was changed after the run ended"):
        read()
    folder.reopen()
    assert read() != before, "while a run is under way its tables are written anew"


def test_jobs_and_selections_have_the_same_fields(folder: RunFolder) -> None:
    folder.write_selections(JOBS[:1])
    assert json.loads(folder.selections.read_text()).keys() == asdict(JOBS[0]).keys()
