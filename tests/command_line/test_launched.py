"""The ranks that Lightning starts for a run on one machine: they end with the first one, and it says so itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from amf_lightning.command_line.endings import Program
from amf_lightning.errors import ExitCode

LAUNCHER = """
import os, subprocess, sys, time
from amf_lightning.lifeline import end_with_parent
end_with_parent()
rank = "from amf_lightning.lifeline import end_with_parent; end_with_parent(); import time; time.sleep(60)"
started = subprocess.Popen([sys.executable, "-c", rank], env={**os.environ, "LOCAL_RANK": sys.argv[1]})
print(started.pid, flush=True)
time.sleep(60)
"""
STOPPED = """
import os, signal, subprocess, sys, time
from amf_lightning.command_line.signals import Signals
from amf_lightning.errors import Stopped
rank = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
watched = [rank]
signals = Signals(30.0, print)
signals.launched = lambda: watched
try:
    with signals.heeded():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
except Stopped:
    print(rank.wait(), watched, flush=True)
"""


def alive(pid: int) -> bool:
    """Whether a process is there and not only waiting to be reaped."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux shows in /proc which processes live")
@pytest.mark.parametrize(("rank", "ends"), [("1", True), ("0", False)])
def test_a_rank_ends_when_the_first_one_was_killed(rank: str, ends: bool) -> None:
    """One that waits for the first rank to be found would wait for half an hour."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "AMF_LAUNCHER")}
    command = [sys.executable, "-c", LAUNCHER, rank]
    launcher = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    started = int(launcher.stdout.readline())
    time.sleep(0.5)
    launcher.kill()
    launcher.wait()
    deadline = time.monotonic() + (20 if ends else 2)
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    still_there = alive(started)
    if still_there:
        os.kill(started, signal.SIGKILL)
    assert still_there is not ends


def test_a_signal_takes_the_other_ranks_from_lightning_which_would_kill_the_first_when_they_end() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"{-signal.SIGTERM} []\n", done.stderr


def test_ranks_that_do_not_find_each_other_are_no_mistake_of_ours() -> None:
    ending = Program(["fit"]).ending(torch.distributed.DistNetworkError("Failed to recv, got 0 bytes."))
    assert ending.code == ExitCode.MACHINE and "another process of this run has ended" in ending.line
