"""`amf score`: what people saw, and what can be said of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.command_line import score
from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import ReportedEpisodes
from amf_lightning.evaluation.statistics import clopper_pearson
from amf_lightning.evaluation.trials import TARGET, Rate, more_trials, verdict
from amf_lightning.selection.baselines import RoundRobin
from tiny import TinySuite

SUITE = TinySuite()
TASKS = [task.name for task in SUITE.tasks]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    Campaign(tmp_path, SUITE, RoundRobin()).ask(1)
    (tmp_path / "judged").mkdir()
    for number in (0, 4):
        (tmp_path / "judged" / f"{number:06d}.safetensors").touch()
    return tmp_path


def say(run: Path, *arguments: str) -> None:
    score.main([str(run), *arguments])


def reports(run: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    say(run, "--json")
    listed: list[dict[str, object]] = json.loads(capsys.readouterr().out)["reports"]
    return listed


def test_what_is_reported_is_what_the_run_reads(run: Path) -> None:
    for task in TASKS:
        say(run, f"--task={task}", "--success", "7/10")
    say(run, f"--task={TASKS[0]}", "--success", "no", "--reason", "slipped")
    say(run, f"--task={TASKS[0]}", "--success", "yes", "--demonstrations", "0")
    evaluation = ReportedEpisodes().reported(run, 4, SUITE)
    assert evaluation is not None and evaluation.scores == (7 / 11, 0.7, 0.7, 0.7)
    assert ReportedEpisodes().reported(run, 0, SUITE) is None


def test_a_report_is_replaced_or_withdrawn_by_a_later_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "trial.npz"
    file.write_bytes(b"abc")
    say(run, f"--task={TASKS[0]}", "--success", "1/10", "--by", "ann", "--episode-file", str(file))
    say(run, f"--task={TASKS[1]}", "--success", "2/2", "--by", "bo")
    first, second = reports(run, capsys)
    assert first["by"] == "ann" and str(first["files"]).count("ba7816bf8f01cfea414140de5dae2223b00361a3") == 1
    say(run, f"--task={TASKS[0]}", "--success", "9/10", "--replaces", str(first["entry"]))
    say(run, "--withdraw", str(second["entry"]))
    assert [(each["task"], each["success"]) for each in reports(run, capsys)] == [(TASKS[0], 9)]
    lines = (run / "outcomes.jsonl").read_text().splitlines()
    assert len(lines) == 4 and '"success": 1,' in lines[0], "nothing is ever taken out of the file"
    capsys.readouterr()
    say(run, "--withdraw", str(second["entry"]))
    assert f"{second['entry']} is taken back already" in capsys.readouterr().out
    assert len((run / "outcomes.jsonl").read_text().splitlines()) == 4
    with pytest.raises(InputError, match=r"no report [0-9a-f]+ that holds"):
        say(run, f"--task={TASKS[0]}", "--success", "1/1", "--replaces", str(second["entry"]))
    with pytest.raises(InputError, match=r"no report 00 that holds"):
        say(run, "--withdraw", "00")


@pytest.mark.parametrize("taken_out", [0, 1])
def test_a_line_that_somebody_takes_out_of_the_file_is_missed(run: Path, taken_out: int) -> None:
    for success in ("1/10", "2/10", "3/10"):
        say(run, f"--task={TASKS[0]}", "--success", success)
    path = run / "outcomes.jsonl"
    lines = path.read_text().splitlines()
    entry = json.loads(lines.pop(taken_out))["entry"]
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(InputError, match=rf"line {taken_out + 1}: the line of report {entry}, .* is missing. Restore"):
        say(run)
    # What has no entry is people's own, and may come and go; so may what an older version wrote.
    old = [{key: value for key, value in json.loads(line).items() if key not in ("after", "sha256")} for line in lines]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in old))
    say(run)


def test_a_line_that_was_cut_off_is_left_out_and_one_mistyped_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(run, f"--task={TASKS[0]}", "--success", "1/2")
    path = run / "outcomes.jsonl"
    path.write_text(path.read_text() + path.read_text()[:40])
    say(run, f"--task={TASKS[1]}", "--success", "1/2")
    assert len(reports(run, capsys)) == 2
    path.write_text(path.read_text() + "{success: 3}\n")
    with pytest.raises(InputError, match="line 4 is not a report"):
        say(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((f"--task={TASKS[0]}",), "both --task and --success"),
        ((f"--task={TASKS[0]}", "--success", "3/2"), "write successes and trials as 7/10"),
        ((f"--task={TASKS[0]}", "--success", "0/0"), "write successes and trials as 7/10"),
        (("--task=goal=3", "--success", "yes"), "has no task 'goal=3'"),
        ((f"--task={TASKS[0]}", "--success", "yes", "--reason", "x"), "0 trials failed"),
        ((f"--task={TASKS[0]}", "--success", "no", "--episode-file", "gone"), "--episode-file gone cannot be read"),
    ],
)
def test_what_is_no_report_is_refused_and_nothing_is_written(
    run: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        say(run, *arguments)
    assert not (run / "outcomes.jsonl").exists()


def rate(successes: int, trials: int) -> Rate:
    return Rate("t", successes, trials, *clopper_pearson(successes, trials, 0.9))


def test_whether_trials_or_demonstrations_are_missing() -> None:
    assert verdict([rate(20, 20)]) == ["A success rate of 0.8 is reached on t."]
    assert "demonstrations are what is missing" in verdict([rate(3, 30)])[0]
    assert verdict([rate(3, 30)])[0].startswith("A success rate of 0.8 is not reached on t")
    [sentence] = verdict([rate(7, 10)])
    assert "more trials, not more demonstrations" in sentence and "about 50 more" in sentence
    assert more_trials(rate(4, 5)) is None, "a rate of the target itself is never told from it"


@given(trials=st.integers(1, 30), share=st.floats(0, 1))
def test_so_many_more_trials_at_the_same_rate_would_tell(trials: int, share: float) -> None:
    now = rate(round(share * trials), trials)
    if more := more_trials(now):
        then = rate(round(now.successes / trials * (trials + more)), trials + more)
        assert not now.is_known and then.is_known and (then.low >= TARGET or then.high < TARGET)
