"""What a run's curve says of what is to come, as `amf status`, `amf next` and the report show it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.curve import MEAN, CurveRow, curve_table
from amf_lightning.campaign.outlook import outlook, read_outlook
from amf_lightning.campaign.request import Request
from amf_lightning.command_line import next as next_
from amf_lightning.command_line import status
from amf_lightning.errors import InputError
from amf_lightning.evaluation.forecast import History, forecast
from amf_lightning.reports.outlook import outlook_section
from amf_lightning.selection.baselines import RoundRobin
from amf_lightning.tasks.task import Episode
from tiny import TinyExpert, TinySuite

ROOT = Path(__file__).resolve().parents[2]
SUITE = TinySuite()
NAMES = [task.name for task in SUITE.tasks]
MEANS = (0.2, 0.4, 0.52, 0.6, 0.65)


def curve(counts: tuple[int, ...] = (0, 2, 4, 6, 8)) -> list[CurveRow]:
    """The first task is there from the start, the second learns, the others do as the mean."""
    rows = []
    for count, mean in zip(counts, MEANS, strict=False):
        scores = [0.9, mean, mean, mean, mean]
        rows += [CurveRow(count, name, s, s, s, 10) for name, s in zip([*NAMES, MEAN], scores, strict=True)]
    return rows


class Teaching(RoundRobin):
    """Says what its picks teach."""

    gain_is = "apples"

    def select(self, context: Any, batch_size: int) -> Any:
        chosen, row = super().select(context, 1), (0.25, 0.5, 1.0, 0.0)
        return replace(chosen, picks=(2,), scores=(row,), teaches=((0.3, 0.01, 0.6, 0.09),))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight demonstrations of the last three tasks, five evaluations, and an open request; only read."""
    folder = tmp_path_factory.mktemp("outlook") / "run"
    campaign = Campaign(folder, SUITE, Teaching())
    for number in range(8):
        [trajectory] = TinyExpert().demonstrate(SUITE, [Episode(SUITE.tasks[1 + number % 3], number)])
        assert trajectory is not None
        campaign.tell_unasked(trajectory)
        campaign.close_round()
    campaign.ask(1)
    (folder / "curve.csv").write_text(curve_table(curve()))
    return folder


def test_the_outlook_is_the_forecast_of_the_mean_and_of_each_task(run: Path) -> None:
    found = read_outlook(run, 0.7)
    assert found.mean == forecast(History((0, 2, 4, 6, 8), MEANS, 4, episodes=10), 0.7) and found.mean.is_told
    own = [0, 1, 2, 2, 3]  # of the second task: numbers 0, 3 and 6
    assert found.tasks[NAMES[1]] == forecast(History((0, 2, 4, 6, 8), MEANS, 4, own, 10), 0.7)
    assert found.tasks[NAMES[0]].reached_after == 0 and list(found.tasks) == NAMES
    assert list(read_outlook(run, 0.7, only=[NAMES[2]]).tasks) == [NAMES[2]]


def test_status_says_how_many_more(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status.main([str(run), "--target", "0.7"])
    text = capsys.readouterr().out
    found = read_outlook(run, 0.7)
    assert f"{found.mean.low} to {found.mean.high} more demonstrations (80 % interval" in text
    [header] = [line for line in text.splitlines() if line.startswith("task")]
    assert header.split()[-2:] == ["to", "0.7"]
    status.main([str(run), "--target", "0.7", "--json"])
    facts = json.loads(capsys.readouterr().out)["forecast"]
    assert facts["mean"]["high"] == found.mean.high and facts["target"] == 0.7
    assert facts["tasks"][NAMES[0]]["reached_after"] == 0


def test_status_of_a_run_that_nobody_evaluated_forecasts_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("curve.csv"))
    status.main([str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out)["forecast"] is None
    with pytest.raises(InputError, match=r"--target is 1\.5"):
        status.main([str(run), "--target", "1.5"])


def test_next_says_what_a_request_should_teach_and_how_many_more_are_needed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next_.main([str(run), "--json"])
    facts = json.loads(capsys.readouterr().out)
    [request] = facts["requests"]
    assert request["gain_is"] == "apples" and request["need"] is None
    assert request["teaches"] == {NAMES[0]: pytest.approx(0.3), NAMES[3]: pytest.approx(0.09)}
    assert facts["forecast"]["mean"]["target"] == 0.8 and list(facts["forecast"]["tasks"]) == [NAMES[2]]
    next_.main([str(run)])
    text = capsys.readouterr().out
    assert f"It should also teach {NAMES[0]} (30% of the score) and {NAMES[3]} (9% of the score)." in text
    assert "To a mean score of 0.8: " in text


def test_who_reads_a_forecast_waits_for_no_torch(run: Path) -> None:
    lines = ["import sys", "from amf_lightning.command_line.main import main"]
    lines += [f"main({[command, str(run)]!r})" for command in ("status", "next")]
    lines.append("assert 'numpy' in sys.modules and not {'torch', 'matplotlib'} & set(sys.modules)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_report_names_the_tasks_that_are_not_there_yet() -> None:
    jobs = [Request(n, n, NAMES[1 + n % 3], 1 + n % 3, "Teaching", (0.0,) * 4, n) for n in range(8)]
    title, sentence, table = outlook_section(curve(), jobs)
    assert title == "## How many more" and sentence.startswith("To a mean score of 0.8: ") and "To 0.9: " in sentence
    assert NAMES[1] in table and NAMES[0] not in table
    assert outlook_section([], jobs) == []


def test_a_task_that_is_never_demonstrated_has_a_forecast_too() -> None:
    found = outlook(curve(), [NAMES[1]] * 8).tasks[NAMES[2]]
    assert found.own is None or found.own[0] == 0
