import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.reports.run_report import write_report
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity

SUITE = HalfCheetahVelocity(targets=[-1, 0, 1], reference=None)
NAMES = ["v=-1", "v=0", "v=1"]


def evaluation(demonstrations: int, scores: Sequence[float]) -> Evaluation:
    returns = tuple(100.0 * score for score in scores)
    return Evaluation(demonstrations, returns, tuple(scores), tuple(scores), math.fsum(scores) / len(scores))


def job(number: int, task: int, scores: Sequence[float], round: int | None = None) -> Request:
    return Request(
        number, number if round is None else round, NAMES[task], task, "InformationGain", tuple(scores), number
    )


def write_run(
    path: Path,
    curve: Sequence[Sequence[float]] = ((0.9, 0.2, 0.1), (0.85, 0.6, 0.2), (0.8, 0.9, 1.0)),
    jobs: Sequence[Request] = (job(0, 1, (0.1, 3.0, 2.0)), job(1, 2, (0.1, 0.5, 2.5))),
    **facts: Any,
) -> str:
    folder = RunFolder(path)
    evaluations = [evaluation(n, scores) for n, scores in enumerate(curve)]
    folder.write_curve(evaluations, NAMES)
    folder.write_selections(jobs)
    if facts:
        folder.write_evaluation(evaluations[-1], NAMES, **facts)
    write_report(folder, SUITE)
    return folder.report.read_text()


def line_of(report: str, start: str) -> list[str]:
    (line,) = [line for line in report.splitlines() if re.match(rf"\| +{re.escape(start)} +\|", line)]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_first_lines_say_what_the_run_gained(tmp_path: Path) -> None:
    report = write_run(tmp_path)
    assert report.startswith("# InformationGain on HalfCheetahVelocity: 2 demonstrations")
    summary = report.split("\n\n")[1]
    assert "0.40 → 0.90" in summary
    assert "area under the curve 0.617" in summary  # (0.4 + 0.55 + 0.9) / 3
    assert "0.8 was reached after 2 demonstrations" in summary
    assert "Never asked: v=-1" in summary


def test_a_threshold_that_was_never_reached_or_always_held_is_said_so(tmp_path: Path) -> None:
    report = write_run(tmp_path, curve=[[0.85, 0.85, 0.85], [0.85, 0.85, 0.85], [0.85, 0.85, 0.85]])
    assert "0.8 was there from the start, 0.9 was not reached" in report


def test_every_task_has_a_line_with_what_was_asked_and_gained(tmp_path: Path) -> None:
    report = write_run(tmp_path)
    assert line_of(report, "v=-1") == ["v=-1", "", "0", "90.0 → 80.0", "90 → 80 %", "0.90 → 0.80", "-0.10"]
    assert line_of(report, "v=1") == ["v=1", "2", "1", "10.0 → 100.0", "10 → 100 %", "0.10 → 1.00", "+0.90"]
    assert "**+0.50**" in line_of(report, "**mean**")


def test_every_choice_is_explained_by_its_runner_up(tmp_path: Path) -> None:
    report = write_run(tmp_path)
    assert line_of(report, "1") == ["1", "0", "v=0", "3", "v=1", "2", "+33 %"]
    assert line_of(report, "2") == ["2", "1", "v=1", "2.5", "v=0", "0.5", "+80 %"]


def test_a_selector_without_scores_is_not_given_reasons(tmp_path: Path) -> None:
    report = write_run(tmp_path, jobs=[job(n, n, (math.nan,) * 3) for n in range(2)])
    assert "gave no scores" in report and "runner-up" not in report


def test_scores_that_are_partly_missing_leave_dashes(tmp_path: Path) -> None:
    report = write_run(tmp_path, jobs=[job(0, 1, (math.nan, 2.0, math.nan)), job(1, 2, (1.0, 0.0, 0.0))])
    assert line_of(report, "1")[3:] == ["2", "–", "–", "–"]
    assert line_of(report, "2")[3:] == ["0", "v=-1", "1", "–"]


def test_forgetting_and_cost_come_from_the_evaluation_file(tmp_path: Path) -> None:
    report = write_run(
        tmp_path,
        pretraining_tasks=["v=-1", "v=0"],
        uses=["simulator rollouts", "pre-training counts"],
        environment_steps=12000,
        budget=2,
    )
    assert "forgetting -0.300, counting losses only 0.050" in report  # losses 0.1 and -0.7
    assert "Most was lost on v=-1: 0.10" in report
    assert "simulator rollouts, pre-training counts (privileged)" in report
    assert "beyond the demonstrations: 12,000" in report
    assert "Not finished" not in report


def test_without_pre_training_tasks_nothing_is_said_about_forgetting(tmp_path: Path) -> None:
    assert "forgetting" not in write_run(tmp_path)


def test_a_run_that_stopped_early_is_called_unfinished(tmp_path: Path) -> None:
    assert "**Not finished:** evaluated after 2 of 5 demonstrations" in write_run(tmp_path, budget=5)


def test_every_picture_that_the_report_shows_is_there_and_decodes(tmp_path: Path) -> None:
    report = write_run(tmp_path)
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", report)
    assert shown == ["curve.png", "allocation.png"]
    for name in shown:
        assert min(Image.open(tmp_path / name).convert("RGB").size) > 300


def test_pictures_of_runs_that_asked_differently_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", jobs=[job(0, 2, (0.0, 0.0, 1.0)), job(1, 2, (0.0, 0.0, 1.0))])
    a, b = (RunFolder(tmp_path / name) for name in "ab")
    assert a.curve_picture.read_bytes() == b.curve_picture.read_bytes()
    assert a.allocation_picture.read_bytes() != b.allocation_picture.read_bytes()


def test_a_long_run_has_a_short_report(tmp_path: Path) -> None:
    jobs = [job(n, n % 3, (1.0, 2.0, 3.0)) for n in range(300)]
    report = write_run(tmp_path, curve=[[0.0, 0.0, 0.0]] * 301, jobs=jobs)
    assert len(report.splitlines()) < 100
    assert line_of(report, "300")[2] == "v=1"


def test_a_run_without_demonstrations_still_has_a_report(tmp_path: Path) -> None:
    report = write_run(tmp_path, curve=[[0.5, 0.5, 0.5]], jobs=[])
    assert "0 demonstrations" in report and "0.50 → 0.50" in report


def test_the_report_of_a_run_that_nobody_evaluated_says_what_it_cannot_know(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_report(folder, SUITE)
    report = folder.report.read_text()
    assert "What the demonstrations gained is unknown" in report and "Mean score" not in report
    assert folder.allocation_picture.exists() and not folder.curve_picture.exists()
