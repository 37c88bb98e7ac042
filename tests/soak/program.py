"""`amf` in a process that leads a group of its own, and what is asked of the way in which it ends."""

import faulthandler
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import tiny_runs
from forks import PROCESSES
from process_groups import alive, commands, end_with_tracebacks
from tiny_runs import nothing

from amf_lightning.errors import ExitCode
from soak.lost import check

TESTS = Path(__file__).resolve().parents[1]


@dataclass
class Patience:
    """How long processes are waited for; more on a machine that has much else to do."""

    seconds: float = 50.0
    """After which a process that has not ended hangs."""

    @property
    def end(self) -> float:
        """Seconds that all processes of a group may take to end once one of them was killed or asked to end."""
        return 0.3 * self.seconds


PATIENCE = Patience()
SIGNALLED = {
    signal.SIGKILL: -signal.SIGKILL,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGINT: ExitCode.INTERRUPTED,
}
"""Exit code of a process that a signal ended."""
GOES_ON = "same command"
"""What the last line of a run says that can go on."""


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    code: int
    said: str
    """What it printed, both streams."""
    seconds: float

    @property
    def lines(self) -> list[str]:
        """The lines in which the program speaks of an error."""
        parts = re.split(r"[\r\n]", self.said)
        return [part for part in parts if part.lstrip().startswith("amf: ")]

    def __str__(self) -> str:
        return f"exit code {self.code} after {self.seconds:.1f} s\n{self.said[-3000:]}"


class Program:
    """One start of `amf`, forked from a process that has only imported everything.

    Args:
        arguments: of `amf`.
        cwd: where it works.
        log: what both streams are appended to.
        before: called with `values` in the process first.
        values: plain ones.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        cwd: Path,
        log: Path,
        before: Callable[..., None] = nothing,
        *values: Any,
    ) -> None:
        self.log = log
        self._from = log.stat().st_size if log.exists() else 0
        self._since = time.monotonic()
        target = (list(map(str, arguments)), cwd, log, before, values)
        self.process: ForkServerProcess = PROCESSES.Process(target=_lead, args=target)
        self.process.start()

    def wait(self, within: float | None = None) -> Ending:
        """How it ends. Raises Lost if it does not in so many seconds, or if a process that it started outlives it."""
        within = within or PATIENCE.seconds
        self.process.join(within)
        hangs = self.process.exitcode is None
        seconds = time.monotonic() - self._since
        group, deadline = self.process.pid or 0, time.monotonic() + PATIENCE.end
        while not hangs and alive(group) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = [] if hangs else alive(group)
        names = commands(left)
        if hangs or left:
            end_with_tracebacks(group)
            self.process.join()
        ending = Ending(self.process.exitcode or 0, self._said(), seconds)
        check(not hangs, f"hangs for over {within:.0f} s\n{ending.said[-3000:]}")
        check(not left, f"outlive by {PATIENCE.end:.0f} s the one that started them: {names}\n{ending}")
        return ending

    def _said(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")


def amf(arguments: Sequence[str | Path], cwd: Path, before: Callable[..., None] = nothing, *values: Any) -> Ending:
    """Runs `amf ARGUMENTS` in `cwd`; its log is `amf.log` beside that folder."""
    return Program(arguments, cwd, cwd.with_name(f"{cwd.name}.log"), before, *values).wait()


def check_signalled(ending: Ending, number: int) -> None:
    """Raises Lost unless a run ended as one does that a signal asked to end: its code, one line, no traceback."""
    check(ending.code == SIGNALLED[signal.Signals(number)], f"after {signal.Signals(number).name}: {ending}")
    check("Traceback" not in ending.said, f"a traceback after {signal.Signals(number).name}: {ending}")
    if number != signal.SIGKILL:
        check(len(ending.lines) == 1 and GOES_ON in ending.lines[0], f"not one line that says to go on: {ending}")


def check_refused(ending: Ending, *codes: int) -> None:
    """Raises Lost unless a command ended with one of these codes and one line."""
    check("Traceback" not in ending.said, f"a traceback: {ending}")
    check(ending.code in codes, f"an exit code that is none of {[int(code) for code in codes]}: {ending}")
    check(len(ending.lines) == 1, f"{len(ending.lines)} lines instead of one: {ending}")


def _lead(arguments: list[str], cwd: Path, log: Path, before: Callable[..., None], values: tuple[Any, ...]) -> None:
    os.setsid()
    os.chdir(cwd)
    faulthandler.enable()  # by descriptor 2, which becomes the log
    # For the processes that it starts itself.
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join([str(TESTS.parent), str(TESTS)]))
    tiny_runs._amf(arguments, log, before, values)
