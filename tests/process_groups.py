"""Processes that lead a group of their own: who of them is alive, and how they end."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def alive(group: int) -> list[int]:
    """Processes of a group that are neither gone nor dead and waiting to be reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member_of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended meanwhile
            continue
        if int(member_of) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def commands(processes: Iterable[int]) -> str:
    """Their command lines, for a message; a forked one has that of its parent."""
    lines = [Path(f"/proc/{number}/cmdline") for number in processes]
    found = [line.read_bytes().replace(b"\0", b" ").decode(errors="replace")[:150] for line in lines if line.exists()]
    return "; ".join(found)


def end_with_tracebacks(group: int, seconds: float = 1.0) -> None:
    """Ends a group that hangs; processes with a fault handler say first where they are."""
    for number, pause in ((signal.SIGABRT, seconds), (signal.SIGKILL, 0.0)):
        with suppress(ProcessLookupError):
            os.killpg(group, number)
            time.sleep(pause)


def end_of(process: "subprocess.Popen[bytes]", within: float) -> int:
    """Exit code of a group's leader, once the whole group has ended, which it must in so many seconds."""
    deadline = time.monotonic() + within
    try:
        while process.poll() is None or alive(process.pid):
            assert time.monotonic() < deadline, f"still there: {alive(process.pid)}"
            time.sleep(0.1)
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode
