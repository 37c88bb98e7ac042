"""Runs processes side by side, one thread each, and says what became of them."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from amf_lightning.errors import ExitCode, Stopped
from amf_lightning.studies.claims import Claims
from amf_lightning.studies.plan import Run
from amf_lightning.studies.processes import Process, Spawn, cold
from amf_lightning.studies.source_version import source_version

_TAIL = 15
_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0
"""Between two looks at a run that another comparison is making."""


@dataclass(frozen=True)
class Failure:
    """A run that did not finish."""

    run: Run
    reason: str
    tail: str
    """The end of its log."""

    def __str__(self) -> str:
        indented = "\n".join(f"    {line}" for line in self.tail.splitlines())
        return f"FAILED {self.run.name}: {self.reason}. The end of {self.run.log}:\n{indented}"


def execute(
    runs: Sequence[Run],
    jobs: int = 1,
    say: Callable[[str], None] = print,
    spawn: Spawn = cold,
    done: Callable[[Run], None] | None = None,
) -> list[Failure]:
    """Runs what is not finished and what that needs, `jobs` processes at once; a failure stops only who needs it.

    A run counts as done when its folder is complete, whatever its process said: one that was asked to stop may exit
    with 0. What another comparison is making is waited for, and made here if it is given up there. Interrupting this
    function ends the processes that it started.

    Args:
        runs: begun in this order; one whose pre-trained policy is not there yet lets others pass.
        jobs: processes at once.
        say: told what happens.
        spawn: starts a process.
        done: called with each of `runs` as soon as it is finished, not with what they need.
    """
    with _processes() as running:
        execution = _Execution(with_needs(runs), set(runs), say, spawn, done, running)
        while execution.waiting or running:
            execution.begin(jobs)
            time.sleep(_POLL_SECONDS)
            execution.collect()
    return execution.failures


class _Execution:
    """What waits, what is under way, what failed."""

    def __init__(
        self,
        waiting: Sequence[Run],
        asked: Collection[Run],
        say: Callable[[str], None],
        spawn: Spawn,
        done: Callable[[Run], None] | None,
        running: "_Running",
    ) -> None:
        self.waiting = list(waiting)
        self.failures: list[Failure] = []
        self._asked, self._say, self._spawn, self._done, self._running = asked, say, spawn, done, running
        self._total, self._started, self._version = len(waiting), 0, source_version()
        self._elsewhere: dict[Run, float] = {}
        """Runs that another comparison is making, with the time at which we looked last."""

    def begin(self, jobs: int) -> None:
        """Starts what can be started."""
        for run in self._possible():
            if len(self._running) >= jobs:
                return
            if not self._running.claims.take(run):
                if run not in self._elsewhere:
                    self._say(f"{run.name}: another comparison is making it")
                self._elsewhere[run] = time.monotonic()
                continue
            self.waiting.remove(run)
            self._started += 1
            if run.finished():  # by another comparison, meanwhile
                self._running.claims.release(run)
                self._say(f"[{self._started}/{self._total}] {run.name}: finished by another comparison")
                self._tell(run)
                continue
            fresh = not run.made_in.exists()
            self._running[run] = (_start(run, self._spawn), time.monotonic(), fresh)
            self._say(f"[{self._started}/{self._total}] {run.name}: started, log in {run.log}")

    def collect(self) -> None:
        """Says what became of the processes that have ended."""
        for run, (process, since, fresh) in list(self._running.items()):
            if (code := process.poll()) is None:
                continue
            del self._running[run]
            seconds = time.monotonic() - since
            if code == 0 and run.publish():
                run.note_process(seconds=round(seconds, 1) if fresh else None, version=self._version)
                self._say(f"{run.name}: finished in {seconds:.0f} s")
                self._tell(run)
            else:
                self._fail(Failure(run, _reason(code), _tail(run)))
            self._running.claims.release(run)

    def _possible(self) -> list[Run]:
        """What waits for nothing, in order, without what was made elsewhere a moment ago."""
        now = time.monotonic()
        needed = {*self.waiting, *self._running}
        return [
            run
            for run in self.waiting
            if run.needs not in needed and now - self._elsewhere.get(run, -_LOOK_SECONDS) >= _LOOK_SECONDS
        ]

    def _tell(self, run: Run) -> None:
        if self._done and run in self._asked:
            self._done(run)

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._say(str(failure))
        if without := [other for other in self.waiting if other.needs == failure.run]:
            self.waiting = [other for other in self.waiting if other not in without]
            self._say(f"Left out for want of a pre-trained policy: {', '.join(other.name for other in without)}")


def with_needs(runs: Sequence[Run]) -> list[Run]:
    """The runs that are not finished, with each pre-training before the first run that needs it."""
    waiting = [run for run in runs if not run.finished()]
    needed = [needed for run in waiting for needed in (run.needs, run) if needed]
    return [run for run in dict.fromkeys(needed) if not run.finished()]


class _Running(dict[Run, tuple[Process, float, bool]]):
    """Processes under way, with the time at which they began, and whether from the start of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = Claims()


@contextmanager
def _processes() -> Iterator[_Running]:
    """Ends those that are still there at the end, also if this process is asked to end (SIGTERM: clusters, shells)."""
    running = _Running()
    in_main = threading.current_thread() is threading.main_thread()  # the only one that may set handlers
    handler = signal.signal(signal.SIGTERM, _asked_to_end) if in_main else None
    try:
        yield running
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, handler)
        for process, *_ in running.values():
            process.terminate()
        for process, *_ in running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        running.claims.release_all()


def _asked_to_end(number: int, _: object) -> None:
    raise Stopped(number)


def _start(run: Run, spawn: Spawn) -> Process:
    run.made_in.parent.mkdir(parents=True, exist_ok=True)
    run.begin()
    run.log.write_text(f"$ {run.shell_command}\n")
    return spawn(run)


def _reason(code: int) -> str:
    if code == 0:
        return "it ended before its budget was spent"
    if code < 0:
        return f"ended by signal {-code}"
    kind = (
        f" ({ExitCode(code).name.lower().replace('_', ' ')})" if code in set(ExitCode) - {ExitCode.RUNS_FAILED} else ""
    )
    return f"exit code {code}{kind}"


def _tail(run: Run) -> str:
    return "\n".join(run.log.read_text(errors="replace").splitlines()[-_TAIL:])
