"""How the program ends, as a process: what is said and the exit code, by whose mistake it is, if it is one."""

import errno
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from amf_process import TESTS, Outcome, amf, fresh, started, tree, write_config

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.command_line.endings import Program
from amf_lightning.errors import ExitCode, InputError, MachineError, UserCodeError

HERE = Path(__file__).resolve().parent
RUN = ("--trainer.default_root_dir", "run")
TRACEBACK = re.compile(r"The traceback is in (\S+)\.\n")


@pytest.fixture(autouse=True)
def parts_are_at_hand(tmp_path: Path) -> None:
    """A user's module in the folder that the command is run in."""
    (tmp_path / "failing.py").write_text((HERE / "failing.py").read_text())


def fit(folder: Path, *options: str, **changes: Any) -> Outcome:
    write_config(folder, **changes)
    return amf("fit", "--config=tiny.yaml", *RUN, *options, cwd=folder)


def expert(name: str, **init_args: Any) -> dict[str, Any]:
    return {"expert": {"class_path": f"failing.{name}", **({"init_args": init_args} if init_args else {})}}


def one_line(outcome: Outcome) -> str:
    assert outcome.stderr.startswith("amf: ") and outcome.stderr.count("\n") == 1, outcome.said
    assert "Traceback (most" not in outcome.said
    return outcome.stderr


# -- code of the user --------------------------------------------------------------------------------------------------

RAISING: dict[str, tuple[dict[str, Any], str]] = {
    "an expert": (expert("RaisingExpert"), "RaisingExpert.demonstrate raised ValueError: the gripper is stuck and the"),
    "an expert's constructor": (expert("ConstructedExpert"), "ConstructedExpert.__init__ raised ValueError: no connec"),
    "an expert, within torch": (expert("InLibraryExpert"), "InLibraryExpert.demonstrate raised RuntimeError"),
    "an expert, within this package": (expert("InOursExpert"), "InOursExpert.demonstrate raised AttributeError"),
    "an expert that exits": (
        expert("QuittingExpert"),
        "QuittingExpert.demonstrate ended the program",
    ),
    "an expert without on_step": (
        expert("WithoutProgressExpert"),
        "WithoutProgressExpert.demonstrate raised Type",
    ),
    "what is left": (expert("RaisingRemainingExpert"), "RaisingRemainingExpert.remaining raised KeyError: 'inbox'"),
    "an actor": (expert("ActingExpertOf", kind="raises"), "RaisingActor.act raised RuntimeError: the motor is hot"),
    "a suite's constructor": (
        {"suite": "failing.ConstructedSuite"},
        "ConstructedSuite.__init__ raised OSError: no",
    ),
    "a suite": ({"suite": "failing.RaisingSuite"}, "RaisingSuite.make raised ValueError: no display"),
    "a selector": ({"selector": "failing.RaisingSelector"}, "RaisingSelector.select raised IndexError: no task"),
    "a selector's StopIteration": ({"selector": "failing.ExhaustedSelector"}, "ExhaustedSelector.select raised"),
    "a retention": (
        {"retention": "failing.RaisingRetention"},
        "RaisingRetention.penalty raised ValueError",
    ),
    "an evaluation": ({"evaluation": "failing.RaisingEvaluation"}, "RaisingEvaluation.check raised ValueError: nobody"),
    "a policy": (
        {"model": {"policy": {"class_path": "failing.RaisingPolicy"}}},
        "RaisingPolicy.loss raised",
    ),
    "a policy's constructor": (
        {"model": {"policy": {"class_path": "failing.ConstructedPolicy"}}},
        "ConstructedPolicy.__init__ raised ValueError: no backbone",
    ),
    "a policy's StopIteration": (
        {"model": {"policy": {"class_path": "failing.ExhaustedPolicy"}}},
        "ExhaustedPolicy.loss raised StopIteration",
    ),
}


@pytest.mark.parametrize(("changes", "says"), RAISING.values(), ids=RAISING)
def test_code_of_the_user_that_raises_is_named_and_its_traceback_kept(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    outcome = fit(tmp_path, **changes)
    assert outcome.code == ExitCode.USER_CODE, outcome.said
    line = one_line(outcome)
    assert line.startswith(f"amf: {says}"[:90]) and re.search(r"failing\.py, line \d+\)", line), line
    named = TRACEBACK.search(line)
    assert named is not None, line
    log = tmp_path / named[1]
    text = log.read_text()
    assert text.startswith("$ amf fit --config=tiny.yaml") and "Traceback (most" in text
    assert "failing.py" in text or says.split(".")[0] in text
    begun = (tmp_path / "run" / "config.yaml").exists()
    assert (log.parent == tmp_path / "run") == begun
    if not begun:
        log.unlink()


GIVING: dict[str, tuple[dict[str, Any], str]] = {
    "demonstrate: None": (expert("NoneExpert"), "NoneExpert.demonstrate gave a NoneType, no list"),
    "demonstrate: lists": (expert("ListExpert"), "it is a list, not a Trajectory"),
    "demonstrate: one for all": (expert("OneForAllExpert"), "OneForAllExpert.demonstrate gave a Trajectory, no list"),
    "remaining: None": (expert("RemainingExpert"), "RemainingExpert.remaining gave None"),
    "remaining: negative": (expert("RemainingExpert", left=[-1, 1, 1, 1]), "remaining gave [-1, 1, 1, 1]"),
    "remaining: too few": (expert("RemainingExpert", left=[1]), "remaining gave [1]"),
    "remaining: NaN": (expert("RemainingExpert", left="nan"), "remaining gave [nan, nan, nan, nan]"),
    "remaining: a word": (expert("RemainingExpert", left="many"), "remaining gave many"),
    "actor: None": (expert("ActorlessExpert"), "ActorlessExpert.actor gave a NoneType"),
    "act: a number": (expert("ActingExpertOf", kind="shapeless"), "ShapelessActor.act gave shape [] for 32 rows of"),
    "act: too wide": (expert("ActingExpertOf", kind="wide"), "WideActor.act gave shape [32, 3] for 32 rows of suite"),
    "act: ragged": (expert("ActingExpertOf", kind="ragged"), "RaggedActor.act(observations, contexts) gave a list"),
    "select: None": ({"selector": "failing.NoneSelector"}, "NoneSelector.select gave a NoneType"),
}


@pytest.mark.parametrize(("changes", "says"), GIVING.values(), ids=GIVING)
def test_what_code_of_the_user_may_not_give_is_told_with_its_class_and_file(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    outcome = fit(tmp_path, **changes)
    assert outcome.code == ExitCode.USER_CODE, outcome.said
    line = one_line(outcome)
    assert says in line and re.search(r"failing\.py, line \d+\)", line), line


def test_a_module_that_cannot_be_imported_is_code_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def act(:\n")
    outcome = fit(tmp_path, expert={"class_path": "ActorExpert", "init_args": {"actor": "broken.Actor"}})
    assert outcome.code == ExitCode.USER_CODE and "broken.py, line 1" in one_line(outcome), outcome.said


def test_a_failure_after_the_first_demonstration_destroys_nothing(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(
        "from pathlib import Path\nfrom tiny import TinyExpert\n\n\nclass Moody(TinyExpert):\n"
        "    def demonstrate(self, *arguments, **named):\n"
        "        if Path('tired').exists():\n            raise ValueError('tired')\n"
        "        return super().demonstrate(*arguments, **named)\n"
    )
    assert fit(tmp_path, "--active.budget=2", expert="moody.Moody").code == 0
    before = tree(tmp_path / "run" / "demonstrations")
    (tmp_path / "tired").touch()
    outcome = fit(tmp_path, "--active.budget=4", expert="moody.Moody")
    assert outcome.code == ExitCode.USER_CODE and "Moody.demonstrate raised ValueError: tired" in one_line(outcome)
    assert tree(tmp_path / "run" / "demonstrations") == before
    assert len(list((tmp_path / "run").glob("traceback-*.log"))) == 1
    (tmp_path / "tired").unlink()
    assert fit(tmp_path, "--active.budget=4", expert="moody.Moody").code == 0
    assert RunFolder(tmp_path / "run").finished(4)


# -- the machine -------------------------------------------------------------------------------------------------------


def test_a_disk_that_takes_no_more_is_told_in_a_line(tmp_path: Path) -> None:
    wide = {"class_path": "MLPPolicy", "init_args": {"hidden": [200, 200]}}
    outcome = fit(tmp_path, model={"policy": wide}, **expert("SmallDiskExpert"))
    assert outcome.code == ExitCode.MACHINE, outcome.said
    assert "run: the file is larger than the machine allows. Raise the limit (ulimit -f)" in one_line(outcome)


def test_memory_that_runs_out_in_code_of_the_user_is_the_machine(tmp_path: Path) -> None:
    outcome = fit(tmp_path, **expert("NoMemoryExpert"))
    assert outcome.code == ExitCode.MACHINE and "there is not enough memory" in one_line(outcome), outcome.said


@pytest.mark.parametrize("name", ["curve.csv", "report.md", "policy.safetensors", "checkpoints/last.ckpt"])
def test_a_folder_where_a_file_belongs_is_found_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    before = tree(tmp_path / "run")
    outcome = fit(tmp_path)
    assert outcome.code in (ExitCode.MACHINE, ExitCode.BAD_INPUT), outcome.said
    assert name.split("/")[0] in one_line(outcome)
    assert tree(tmp_path / "run") == before


def test_a_validation_that_cannot_be_written_is_printed_all_the_same(tmp_path: Path) -> None:
    assert fit(tmp_path, suite="failing.FullDiskSuite").code == 0
    (tmp_path / "full").touch()
    before = (tmp_path / "run" / "evaluation.json").read_bytes()
    outcome = amf("validate", "--config=tiny.yaml", *RUN, cwd=tmp_path)
    assert outcome.code == ExitCode.MACHINE, outcome.said
    assert "| mean " in outcome.stdout and "Written" not in outcome.stdout
    assert "run: the file is larger than the machine allows" in one_line(outcome)
    assert (tmp_path / "run" / "evaluation.json").read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full, the file that is always full")
def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = _command(tmp_path, "--help", stdout=full)
    assert done.returncode == ExitCode.MACHINE and "there is no space left" in done.stderr, done.stderr


def test_output_that_nobody_reads_any_more_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = _command(tmp_path, "completion", "bash", stdout=writing)
    os.close(writing)
    assert done.returncode == ExitCode.PIPE_CLOSED and done.stderr == "", done.stderr


def test_what_measure_is_to_write_is_tried_before_it_measures(tmp_path: Path) -> None:
    arguments = ("--suite=Integrator", "--expert=IntegratorExpert", "--episodes=1000000")
    outcome = amf("measure", *arguments, "--output", tmp_path, cwd=tmp_path, timeout=60)
    assert outcome.code == ExitCode.MACHINE and "a folder is where a file belongs" in one_line(outcome), outcome.said


def _command(folder: Path, *arguments: str, stdout: Any) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    return subprocess.run(
        [sys.executable, "-m", "amf_lightning", *arguments],
        cwd=folder, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip


def _full_database() -> sqlite3.Error:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 1")
    try:
        connection.execute("CREATE TABLE jobs (demonstration INTEGER)")
    except sqlite3.Error as error:
        return error
    raise AssertionError("it took it")


def _wrapped(error: Exception) -> Exception:
    try:
        raise InputError("the ledger cannot be used") from error
    except InputError as wrapped:
        return wrapped


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 74, "run: there is no space left on the disk. Free some"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 74, "the quota of the disk is used up"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 74, "a/b: permission is denied"),
        (OSError(errno.EROFS, "Read-only file system", "a/b"), 74, "a/b: the file system can only be read"),
        (OSError(errno.EROFS, "Read-only", "a/.b.csv.1.2f.partial"), 74, "a: the file system can only be read"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), 74, "a/b: a file is where a folder belongs"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), 74, "b: Invalid cross-device link"),
        (MemoryError(), 74, "there is not enough memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: …"), 74, "memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), 74, "not enough memory on the GPU. Lower data.batch_size"),
        (_full_database(), 74, "there is no space left on the disk"),
        (_wrapped(_full_database()), 74, "there is no space left on the disk"),
        (MachineError("Free some."), 74, "Free some."),
        (InputError("no such task"), 2, "no such task"),
        (UserCodeError("Mine gave a list"), 3, "Mine gave a list"),
        (AssertionError(), 70, "this is a mistake of amf-lightning"),
        (TypeError("unsupported operand"), 70, "amf fit --config 'a b.yaml'"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=repr,
)
def test_what_an_error_is(error: BaseException, code: int, says: str) -> None:
    program = Program(["fit", "--config", "a b.yaml"])
    program.folder = Path("run")
    ending = program.ending(error)
    assert (ending.code, ending.ours) == (code, code == ExitCode.BUG) and says in ending.line


# -- mistakes of this package ------------------------------------------------------------------------------------------


def test_a_mistake_of_this_package_is_shown_and_asked_to_be_reported(tmp_path: Path) -> None:
    outcome = fit(tmp_path, **expert("BuggyExpert"))
    assert outcome.code == ExitCode.BUG, outcome.said
    assert "Traceback (most" in outcome.stderr and "amf_lightning/campaign/collection.py" in outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert re.match(r"amf: this is a mistake of amf-lightning \d.*report it.*: amf fit --config=tiny.yaml", last)


# -- what is not finished ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("--trainer.max_steps=50", "ended round 0 in the middle of its training"),
        ("--trainer.max_steps=60", "after 1 of 2 demonstrations"),
        ("--trainer.max_time=00:00:00:00", "ended the run before its first round"),
    ],
)
def test_a_limit_of_the_trainer_leaves_a_run_unfinished_and_it_goes_on(tmp_path: Path, limit: str, says: str) -> None:
    steps = {"steps_per_round": 60}  # a block of 50, and one of 10
    outcome = fit(tmp_path, limit, data=steps)
    assert outcome.code == ExitCode.UNFINISHED, outcome.said
    assert says in one_line(outcome) and "the same command goes on" in outcome.stderr
    assert fit(tmp_path, data=steps).code == 0
    assert amf("fit", "--config=tiny.yaml", "--trainer.default_root_dir=whole", cwd=tmp_path).code == 0
    for name in ("selections.jsonl", "curve.csv", "policy.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_comparison_says_how_its_runs_ended(tmp_path: Path) -> None:
    write_config(tmp_path, "base", **expert("RaisingExpert"))
    strategies = {"One": {"selector": "RoundRobin"}}
    (tmp_path / "compare.yaml").write_text(
        yaml.safe_dump({"base": "base.yaml", "baseline": "One", "strategies": strategies})
    )
    outcome = fresh("compare", "--config=compare.yaml", "--seeds=0:1", "--output=out", cwd=tmp_path)
    assert outcome.code == ExitCode.RUNS_FAILED, outcome.said
    assert "FAILED One seed 0: exit code 3 (user code)" in outcome.stdout
    assert "RaisingExpert.demonstrate raised ValueError" in outcome.stdout and "Traceback (most" not in outcome.said


# -- signals -----------------------------------------------------------------------------------------------------------


def _start(folder: Path, *options: str, **changes: Any) -> "subprocess.Popen[str]":
    write_config(folder, **changes)
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "amf_lightning", "fit", "--config=tiny.yaml", *RUN, *options],
            cwd=folder, env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, text=True,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def _wait_for(path: Path, ended: Callable[[], int | None]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert ended() is None and time.monotonic() < deadline, (path.parents[-2] / "log").read_text()
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
@pytest.mark.parametrize("expert_name", ["SlowExpert", pytest.param("DeafExpert", marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_with_a_line(tmp_path: Path, number: int, code: int, name: str, expert_name: str) -> None:
    write_config(tmp_path, **expert(expert_name))
    process = started("fit", "--config=tiny.yaml", *RUN, cwd=tmp_path, log=tmp_path / "log")
    _wait_for(tmp_path / "begun", lambda: process.exitcode)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(timeout=60)
    assert process.exitcode == code
    said = (tmp_path / "log").read_text()
    assert f"amf: stopped by {name}: the same command goes on. The run is in run.\n" in said
    assert "Traceback" not in said and "Received" not in said and "graceful" not in said


def _in_training(tmp_path: Path) -> "subprocess.Popen[str]":
    ddp = ("--trainer.strategy=ddp", "--trainer.devices=2")
    process = _start(tmp_path, *ddp, data={"steps_per_round": 1_000_000}, active={"batch_size": 2})
    _wait_for(tmp_path / "run" / "demonstrations" / "000001.safetensors", process.poll)
    time.sleep(1.0)
    return process


def _group(leader: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def to_launcher(leader: int) -> None:
    os.kill(leader, signal.SIGTERM)


def to_child(leader: int) -> None:
    os.kill(max(set(_group(leader)) - {leader}), signal.SIGTERM)


def to_group(leader: int) -> None:
    os.killpg(leader, signal.SIGTERM)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux shows in /proc which processes live")
@pytest.mark.parametrize(
    "send",
    [to_group, pytest.param(to_launcher, marks=pytest.mark.slow), pytest.param(to_child, marks=pytest.mark.slow)],
)
def test_a_signal_ends_every_rank_within_seconds(tmp_path: Path, send: Callable[[int], None]) -> None:
    process = _in_training(tmp_path)
    try:
        send(process.pid)
        deadline = time.monotonic() + 30
        while process.poll() is None or _group(process.pid):
            assert time.monotonic() < deadline, f"still there: {_group(process.pid)}"
            time.sleep(0.05)
        # After the child alone was told, Lightning's observer of it may be faster than what the child said.
        assert process.returncode in {143, -signal.SIGKILL} if send is to_child else process.returncode == 143
    finally:
        if _group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said and said.count("stopped by SIGTERM") == (process.returncode == 143)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_has_every_exit_code_and_no_other() -> None:
    page = (TESTS.parent / "docs" / "exit-codes.md").read_text()
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == sorted(ExitCode)


LATE = """
import atexit, os, signal, sys

from amf_lightning.command_line.main import main


def send(*_):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)


class Last:
    __del__ = send


atexit.register(send)
sys.last_to_go = Last()
sys.argv = ["amf", *sys.argv[1:]]
main()
"""
"""`amf`, which is sent signals while Python shuts down: before and after its own handlers are gone."""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["statsu"], ExitCode.BAD_INPUT)])
def test_a_signal_while_python_shuts_down_changes_nothing(arguments: list[str], code: int) -> None:
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", LATE, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert process.returncode == code, process.stderr
    assert process.stderr.count("\n") == (code != 0), process.stderr
