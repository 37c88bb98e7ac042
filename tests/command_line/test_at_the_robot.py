"""What people at a robot type, several of them at once: `amf next`, `add`, `skip`, `undo`; damaged files, and kills."""

import builtins
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from amf_process import tree
from tiny_recordings import save, shown

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.ledger_file import LedgerFile
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_lock import sole_writer
from amf_lightning.campaign.unconfirmed import Unconfirmed
from amf_lightning.command_line import add, score, skip, undo
from amf_lightning.command_line import next as next_
from amf_lightning.demonstrations.exporting import lerobot
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.evaluation.trial_reports import REPORTED, read_trial_reports
from amf_lightning.selection.baselines import RoundRobin
from tiny import TinySuite

SUITE = TinySuite()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two open requests of different tasks."""
    Campaign(tmp_path / "run", SUITE, RoundRobin(), seed=5).ask(2)
    return tmp_path / "run"


@pytest.fixture
def say(run: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Types `amf COMMAND RUN ARGUMENTS`; what it prints."""

    def said(command: Any, *arguments: object) -> str:
        command.main([str(run), *map(str, arguments)])
        return capsys.readouterr().out

    return said


def requests(run: Path) -> list[Request]:
    return Campaign(run).ledger.jobs()


# -- next -------------------------------------------------------------------------------------------------------------


def test_next_gives_the_same_requests_until_they_are_answered(
    run: Path, say: Callable[..., str], tmp_path: Path
) -> None:
    before = tree(run)
    first = say(next_)
    assert say(next_) == first and tree(run) == before
    assert all(request.task in first for request in requests(run)) and "Campaign.ask" in first
    assert json.loads(say(next_, "--json", "-n", "1"))["open"] == 2
    say(add, save(tmp_path / "a.npz", shown(requests(run)[0].task_index)))
    facts = json.loads(say(next_, "--json"))
    assert [each["number"] for each in facts["requests"]] == [1]
    assert facts["requests"][0]["selector"] == "RoundRobin" and facts["requests"][0]["runner_up"] is None


def test_next_says_why_with_the_runner_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Scores(RoundRobin):
        def select(self, context: Any, batch_size: int) -> Any:
            return replace(super().select(context, 1), picks=(2,), scores=((0.5, 0.25, 1.0, float("nan")),))

    Campaign(tmp_path, SUITE, Scores()).ask(1)
    next_.main([str(tmp_path), "--json"])
    [request] = json.loads(capsys.readouterr().out)["requests"]
    assert request["runner_up"] == {"task": "goal=-1", "score": 0.5}
    assert request["why"] == "Scores gave it the score 1, and goal=-1 0.5 as the runner-up."
    assert request["scores"]["goal=1"] is None


def test_next_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        next_.main([str(tmp_path)])
    with pytest.raises(InputError, match="at least 1"):
        next_.main([str(tmp_path), "-n", "0"])


def test_who_only_reads_or_hands_over_waits_for_no_torch(run: Path, tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", shown(requests(run)[0].task_index))
    lines = ["import sys", "from amf_lightning.command_line.main import main"]
    for command in (
        ["next", run],
        ["status", run],
        ["add", run, file],
        ["undo", run],
        ["add", run, file],
        ["skip", run, "1", "--reason", "x"],
        ["score", run, "--task", "goal=1", "--success", "1/2", "--demonstrations", "0"],
    ):
        lines.append(f"main({[*map(str, command)]!r})")
    lines.append("assert 'torch' not in sys.modules and 'lightning' not in sys.modules")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- add --------------------------------------------------------------------------------------------------------------


def test_a_recording_answers_the_request_of_its_task_once(run: Path, say: Callable[..., str], tmp_path: Path) -> None:
    second = requests(run)[1]
    trajectory = shown(second.task_index)
    said = say(add, save(tmp_path / "a.npz", trajectory))
    assert f"answers request 1 ({second.task})" in said
    kept = Campaign(run, SUITE).read([second])[0]
    assert kept.actions.tobytes() == trajectory.actions.tobytes()
    ledger = tree(run)
    assert "there already, as demonstration 1" in say(add, tmp_path / "a.npz")
    # Also in another format, under another number and another name.
    bare = replace(trajectory, rewards=None, seed=None, success=None, metrics={})  # as the archive has it
    DemonstrationStore(tmp_path / "same").write(3, bare)
    assert "there already" in say(add, tmp_path / "same" / "000003.safetensors")
    assert tree(run) == ledger


def test_what_nobody_asked_for_counts_and_says_so(run: Path, say: Callable[..., str], tmp_path: Path) -> None:
    asked = {request.task_index for request in requests(run)}
    other = next(index for index in range(4) if index not in asked)
    assert "of which nothing is open" in say(add, save(tmp_path / "a.npz", shown(other)))
    first, second = requests(run)[:2]
    said = say(add, save(tmp_path / "b.npz", shown(second.task_index)), "--request", first.demonstration)
    assert "not the task of request 0" in said and "request 0 stays open" in said
    status = Campaign(run).status()
    assert (status.total.unasked, status.total.answered, status.total.pending) == (2, 0, 2)


def test_who_says_the_task_is_believed(run: Path, say: Callable[..., str], tmp_path: Path) -> None:
    first, second = requests(run)
    silent = save(tmp_path / "a.npz", shown(first.task_index), task=None)
    with pytest.raises(InputError, match="does not say which task"):
        say(add, silent)
    assert "answers request 0" in say(add, silent, "--request", 0)
    assert "there already" in say(add, silent, "--request", 0), "the same command once more changes nothing"
    assert "answers request 1" in say(add, save(tmp_path / "b.npz", shown(first.task_index, 3)), "--task", second.task)


def test_a_folder_is_taken_in_at_once_and_what_is_refused_is_named(
    run: Path, say: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for number, request in enumerate(requests(run)):
        save(folder / f"{number}.npz", shown(request.task_index))
    (folder / "2.npz").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="1 of 3 files were refused; the others are kept"):
        say(add, folder)
    assert "2.npz holds no demonstrations" in capsys.readouterr().err
    assert Campaign(run).pending == []


def test_a_dataset_is_taken_in_episode_by_episode_and_once(run: Path, say: Callable[..., str], tmp_path: Path) -> None:
    dataset = tmp_path / "lerobot"
    tasks = [request.task_index for request in Campaign(run).pending]
    lerobot.write(dataset, [shown(task, seed) for seed, task in enumerate([*tasks, tasks[0]])])
    said = say(add, dataset)
    assert said.count("answers request") == 2 and said.count("of which nothing is open") == 1
    assert Campaign(run).pending == [] and len(Campaign(run).arrived()) == 3
    assert say(add, dataset).count("is there already") == 3
    assert len(Campaign(run).arrived()) == 3


def test_a_dataset_of_which_an_episode_cannot_be_used_is_not_taken_in_by_half(
    run: Path, say: Callable[..., str], tmp_path: Path
) -> None:
    dataset, before = tmp_path / "lerobot", tree(run)
    tasks = [request.task_index for request in Campaign(run).pending]
    wrong = shown(tasks[0], 7)
    lerobot.write(dataset, [*(shown(task) for task in tasks), replace(wrong, task="goal=7")])
    with pytest.raises(InputError, match="has no task 'goal=7'"):
        say(add, dataset)
    assert tree(run) == before
    with pytest.raises(InputError, match="--request names one request"):
        say(add, dataset, "--request", "0")
    assert tree(run) == before


BAD: dict[str, Callable[[Path], Any]] = {
    "is truncated or no archive": lambda path: path.write_bytes(save(path, shown(0)).read_bytes()[:300]),
    "is a Python pickle": lambda path: np.savez(path, action=np.array([object()])),
    "not finite": lambda path: save(path, shown(0), action=np.full((12, 1), np.nan, np.float32)),
    "its observations consist of": lambda path: save(path, shown(0), **{"observation/camera": np.zeros((13, 2))}),
    "are 2 long": lambda path: save(path, shown(0), action=np.zeros((12, 2), np.float32)),
    "actions go up to 3": lambda path: save(path, shown(0), action=np.full((12, 1), 3, np.float32)),
    "observations for": lambda path: save(path, shown(0), action=np.zeros((5, 1), np.float32)),
    "has no task 'goal=7'": lambda path: save(path, shown(0), task="goal=7"),
    "has no actions": lambda path: save(path, shown(0), action=None),
    "no numbers": lambda path: save(path, shown(0), action=np.array(["a"] * 12)),
    "not one text": lambda path: save(path, shown(0), task=np.array(["a", "b"])),
}


@pytest.mark.parametrize("message", BAD)
def test_a_file_that_cannot_be_used_is_refused_by_name_and_changes_nothing(
    run: Path, say: Callable[..., str], tmp_path: Path, message: str
) -> None:
    path = tmp_path / "bad.npz"
    BAD[message](path)
    before = tree(run)
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        say(add, path)
    assert "bad.npz" in str(refused.value) and tree(run) == before


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(
    run: Path, say: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amf_lightning.demonstrations.importing.recorded.MOST_BYTES", 1000)
    with pytest.raises(InputError, match="would take"):
        say(add, save(tmp_path / "a.npz", shown(0), **{"observation/state": np.zeros((13, 200))}))


def test_other_formats_and_missing_files_are_refused(run: Path, say: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04")
    for path, message in (
        (tmp_path / "a.pkl", "is a Python pickle"),
        (tmp_path / "b.npz", "There is no file"),
        (run, "holds no demonstrations"),
    ):
        with pytest.raises(InputError, match=message):
            say(add, path)
    with pytest.raises(InputError, match="Request 9 is not open"):
        say(add, save(tmp_path / "c.npz", shown(0)), "--request", "9")


def test_a_run_that_is_held_by_a_fit_takes_recordings(run: Path, say: Callable[..., str], tmp_path: Path) -> None:
    with sole_writer(run):
        assert "answers request 0" in say(add, save(tmp_path / "a.npz", shown(requests(run)[0].task_index)))
        assert "amf fit` is at work" in say(next_)
        assert "is skipped" in say(skip, 1, "--reason", "broken")


# -- skip and undo ----------------------------------------------------------------------------------------------------


def test_undo_takes_back_the_last_that_stands(run: Path, say: Callable[..., str], tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", shown(requests(run)[0].task_index))
    say(add, file)
    assert say(skip, 1, "--reason", "the gripper is broken") == "Request 1 is skipped: the gripper is broken\n"
    assert "skipped already: the gripper" in say(skip, 1, "--reason", "something else")
    assert "skip of request 1" in say(undo) and "Demonstration 0" in say(undo)
    with pytest.raises(InputError, match="nothing to undo"):
        say(undo)
    assert len(Campaign(run).pending) == 2
    assert "answers request 0" in say(add, file), "what was taken back may come again"
    assert [act.what for act in Ledger(run / "ledger.sqlite").acts()] == ["add", "skip", "undo", "undo", "add"]
    Campaign(run, SUITE).close_round()
    with pytest.raises(InputError, match="was trained on"):
        say(undo)


def test_what_cannot_be_skipped_or_undone_says_why(run: Path, say: Callable[..., str]) -> None:
    for command, arguments, message in (
        (skip, ["9", "--reason", "x"], "has no request 9"),
        (skip, ["0", "--reason", " "], "reason is empty"),
        (skip, ["0"], "--reason"),
        (undo, ["9"], "has no demonstration 9"),
        (undo, ["0"], "nothing to undo"),
        (undo, [], "nothing to undo"),
    ):
        with pytest.raises(InputError, match=message):
            say(command, *arguments)


# -- several people, and kills ----------------------------------------------------------------------------------------


def forked(work: Callable[[], object], said: Path | None = None) -> int:
    """Starts `work` in a process of its own, which ends with 0 if it did well; what it prints goes into a file."""
    if (child := os.fork()) == 0:
        try:
            sys.stdout = (said or Path(os.devnull)).open("w")
            work()
            sys.stdout.flush()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def test_two_people_who_hand_over_the_same_folder_lose_and_double_nothing(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for seed in range(8):
        save(folder / f"{seed}.npz", shown(seed % 4, seed))
    children = [forked(lambda: add.main([str(run), str(folder)])) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    total = Campaign(run).status().total
    assert (total.answered, total.unasked, total.pending) == (2, 6, 0)


def dies_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    """A tracer that kills the process before the given line of the package that it runs."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "/amf_lightning/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def lines_of(work: Callable[[], object]) -> int:
    """How many lines of the package run in it."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if "/amf_lightning/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


ONCE = ("undo the last", "score", "replace")
"""Kinds that are done again if they are typed again on purpose."""
KINDS = ("asked", "unasked", "skip", "undo", *ONCE)


def what_is_there(run: Path) -> tuple[Any, ...]:
    """All that people have done to a run: its recordings and skips, and the reports that hold."""
    reports = read_trial_reports(run / REPORTED, SUITE.task)
    return Campaign(run).status(), sorted((each.task, each.success, each.episodes) for each in reports)


@pytest.fixture
def typed(run: Path, tmp_path: Path) -> Callable[[str], tuple[Any, list[str]]]:
    """A command of a kind, in a run in which it would do more if it were done twice."""

    def prepared(kind: str) -> tuple[Any, list[str]]:
        first, tasks = requests(run)[0], {request.task_index for request in requests(run)}
        other = next(index for index in range(4) if index not in tasks)
        file = save(tmp_path / "a.npz", shown(first.task_index if kind == "asked" else other))
        for seed in (9, 10):  # demonstrations 2 and 3
            add.main([str(run), str(save(tmp_path / f"{seed}.npz", shown(other, seed)))])
        reported = ["--task=goal=1", "--success", "1/2", "--demonstrations", "0"]
        score.main([str(run), *reported])
        entry = read_trial_reports(run / REPORTED, SUITE.task)[0].entry
        return {
            "asked": (add, [str(file)]),
            "unasked": (add, [str(file)]),
            "skip": (skip, ["0", "--reason", "x"]),
            "undo": (undo, ["2"]),
            "undo the last": (undo, []),
            "score": (score, reported),
            "replace": (score, [*reported[:2], "2/2", *reported[3:], "--replaces", entry]),
        }[kind]

    return prepared


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_between_any_two_lines_loses_and_repeats_nothing(
    run: Path, tmp_path: Path, typed: Callable[[str], tuple[Any, list[str]]], kind: str, kills: int
) -> None:
    """At lines spread over the whole command, and at its last; the same command is then typed again."""
    command, arguments = typed(kind)

    def work(path: Path) -> None:
        command.main([str(path), *arguments])

    def copy(name: str) -> Path:
        return Path(shutil.copytree(run, tmp_path / name, dirs_exist_ok=True))

    whole = copy("whole")
    total = lines_of(lambda: work(whole))
    before, wanted = what_is_there(run), what_is_there(whole)
    done = 0
    for line in sorted({total, *(1 + total * position // kills for position in range(kills))}):
        path = copy(f"killed-{line}")

        def dying(path: Path = path, line: int = line) -> None:
            sys.settrace(dies_at(line))
            work(path)

        _, status = os.waitpid(forked(dying, path / "said"), 0)
        assert os.WIFSIGNALED(status), f"line {line} of {total}"
        there = what_is_there(path)
        assert there in (before, wanted), f"half done at line {line}"
        done += there == wanted
        if kind not in ONCE or not (path / "said").read_text():  # else who typed it was told
            work(path)
        assert what_is_there(path) == wanted, f"line {line} of {total}"
        Campaign(path, SUITE).read(Campaign(path, SUITE).arrived())
        shutil.rmtree(path)
    assert 0 < done < kills + 1, "some were killed before it was done, and some after"


DURABLE: tuple[tuple[Any, str], ...] = (
    (os, "fsync"),
    (Path, "replace"),
    (Path, "unlink"),
    (LedgerFile, "_connect"),
    (builtins, "print"),
)
"""What makes a step of a command durable, or is heard of outside."""


def dies_before(step: int) -> list[int]:
    """Wraps what is durable: the process dies before the call of that number; the list counts the calls."""
    calls = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            if calls[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            calls[0] += 1
            return function(*values, **named)

        return call

    for owner, name in DURABLE:
        setattr(owner, name, counted(getattr(owner, name)))
    return calls


@pytest.mark.parametrize("kind", ["undo the last", "score"])
def test_a_kill_before_every_durable_step_counts_nothing_twice(
    run: Path, tmp_path: Path, typed: Callable[[str], tuple[Any, list[str]]], kind: str
) -> None:
    """Typed again after the kill, it has been done once. Typed on purpose after that, it is done a second time."""
    command, arguments = typed(kind)
    results = []
    for step in range(100):
        path = Path(shutil.copytree(run, tmp_path / f"killed-{step}"))

        def dying(path: Path = path, step: int = step) -> None:
            dies_before(step)
            command.main([str(path), *arguments])

        _, status = os.waitpid(forked(dying, path / "said"), 0)
        if not os.WIFSIGNALED(status):
            assert status == 0 and step > 5, "every step was tried"
            break
        command.main([str(path), *arguments])
        results.append(what_is_there(path))
        if step % 6 == 0:
            command.main([str(path), *arguments])
            assert what_is_there(path) != results[-1], "what is typed on purpose is done again"
        shutil.rmtree(path)
    command.main([str(run), *arguments])
    assert set(map(str, results)) == {str(what_is_there(run))}


def test_who_types_a_command_again_after_a_kill_is_told(
    run: Path, say: Callable[..., str], monkeypatch: pytest.MonkeyPatch, typed: Callable[[str], Any]
) -> None:
    for kind, said in (("score", "says this already"), ("undo the last", "is taken back already")):
        command, arguments = typed(kind)
        with monkeypatch.context() as patch:
            patch.setattr(Unconfirmed, "confirmed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                say(command, *arguments)
        assert said in say(command, *arguments) and said not in say(command, *arguments)
        by_another = [*arguments, "--by", "another operator"]
        assert said not in say(command, *by_another)


def test_a_report_of_the_same_id_counts_once(run: Path, say: Callable[..., str]) -> None:
    reported = ["--task=goal=1", "--demonstrations", "0", "--id", "monday.1"]
    assert "This is report monday.1" in say(score, *reported, "--success", "1/2")
    assert "is there already" in say(score, *reported, "--success", "1/2")
    with pytest.raises(InputError, match="says 1/2 on 'goal=1' after 0 demonstrations"):
        say(score, *reported, "--success", "2/2")
    with pytest.raises(InputError, match="no name for a report"):
        say(score, *reported[:-1], "a b", "--success", "2/2")
    assert [each.entry for each in read_trial_reports(run / REPORTED, SUITE.task)] == ["monday.1"]


def test_two_people_who_report_alike_at_once_count_both(run: Path) -> None:
    reported = [str(run), "--task=goal=1", "--success", "yes", "--demonstrations", "0"]
    children = [forked(lambda: score.main(reported)) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert len(read_trial_reports(run / REPORTED, SUITE.task)) == 4
