"""Runs processes side by side, one thread each, and says what became of them."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from amf_lightning.errors import ExitCode, Stopped
from amf_lightning.studies.plan import Run
from amf_lightning.studies.processes import Process, Spawn, cold
from amf_lightning.studies.source_version import source_version

_TAIL = 15
_POLL_SECONDS = 0.05


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
    with 0. Interrupting this function ends the processes that it started.

    Args:
        runs: begun in this order; one whose pre-trained policy is not there yet lets others pass.
        jobs: processes at once.
        say: told what happens.
        spawn: starts a process.
        done: called with each of `runs` as soon as it is finished, not with what they need.
    """
    waiting = with_needs(runs)
    total, started, version = len(waiting), 0, source_version()
    failures: list[Failure] = []
    with _processes() as running:
        while waiting or running:
            while len(running) < jobs and (run := _next(waiting, running)):
                waiting.remove(run)
                started += 1
                fresh = not run.made_in.exists()
                running[run] = (_start(run, spawn), time.monotonic(), fresh)
                say(f"[{started}/{total}] {run.name}: started, log in {run.log}")
            time.sleep(_POLL_SECONDS)
            for run, (process, since, fresh) in list(running.items()):
                if (code := process.poll()) is None:
                    continue
                del running[run]
                seconds = time.monotonic() - since
                if code == 0 and run.publish():
                    run.note_process(seconds=round(seconds, 1) if fresh else None, version=version)
                    say(f"{run.name}: finished in {seconds:.0f} s")
                    if done and run in runs:
                        done(run)
                else:
                    failures.append(failure := Failure(run, _reason(code), _tail(run)))
                    say(str(failure))
                    if without := [other for other in waiting if other.needs == run]:
                        waiting = [other for other in waiting if other not in without]
                        names = ", ".join(other.name for other in without)
                        say(f"Left out for want of a pre-trained policy: {names}")
    return failures


def with_needs(runs: Sequence[Run]) -> list[Run]:
    """The runs that are not finished, with each pre-training before the first run that needs it."""
    waiting = [run for run in runs if not run.finished()]
    needed = [needed for run in waiting for needed in (run.needs, run) if needed]
    return [run for run in dict.fromkeys(needed) if not run.finished()]


def _next(waiting: Sequence[Run], running: Collection[Run]) -> Run | None:
    """The first that can begin now."""
    return next((run for run in waiting if run.needs not in waiting and run.needs not in running), None)


class _Running(dict[Run, tuple[Process, float, bool]]):
    """Processes under way, with the time at which they began, and whether from the start of the run."""


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
    kind = f" ({ExitCode(code).name.lower().replace('_', ' ')})" if code in set(ExitCode) else ""
    return f"exit code {code}{kind}"


def _tail(run: Run) -> str:
    return "\n".join(run.log.read_text(errors="replace").splitlines()[-_TAIL:])
