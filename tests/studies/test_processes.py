"""Processes that are forked from a server behave like processes that were started."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from amf_lightning.studies.plan import Run
from amf_lightning.studies.processes import Forked, Spawn, cold
from amf_lightning.studies.runner import execute

MODULE = """
import os, sys, time
print("asked for", sys.argv[1:], "threads", os.environ["OMP_NUM_THREADS"], flush=True)
if "wait" in sys.argv: time.sleep(60)
if "raise" in sys.argv: raise ValueError("no good")
sys.exit(3 if "fail" in sys.argv else None)
"""
SPAWNS = pytest.mark.parametrize("spawn", [cold, Forked])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a_program.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # set for good by the forked ones
    return tmp_path


def run(folder: Path, *arguments: str) -> Run:
    path = folder / "run"
    return Run("label", 0, path, path, 4, (sys.executable, "-m", "a_program", *arguments), {})


@SPAWNS
@pytest.mark.parametrize(("argument", "code", "said"), [("x", 0, ""), ("fail", 3, ""), ("raise", 1, "no good")])
def test_the_exit_code_and_all_that_is_printed_arrive(
    spawn: Spawn, argument: str, code: int, said: str, folder: Path
) -> None:
    asked = run(folder, argument, "--y=1")
    asked.log.write_text("$ command\n")
    assert spawn(asked).wait(60) == code, asked.log.read_text()
    text = asked.log.read_text()
    assert text.startswith(f"$ command\nasked for ['{argument}', '--y=1'] threads 1\n")
    assert said in text


@SPAWNS
def test_a_process_can_be_ended(spawn: Spawn, folder: Path) -> None:
    asked = run(folder, "wait")
    asked.log.touch()
    process = spawn(asked)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    deadline = time.monotonic() + 60
    while not asked.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == process.poll() == -15


def test_a_run_that_fails_in_a_fork_is_told_like_any_other(folder: Path) -> None:
    (failure,) = execute([run(folder, "raise")], say=lambda _: None, spawn=Forked)
    assert failure.reason == "exit code 1"
    assert "ValueError: no good" in failure.tail
