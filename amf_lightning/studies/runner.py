"""Runs processes side by side, one thread each, and says what became of them."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from amf_lightning.studies.plan import Run
from amf_lightning.studies.processes import Process, Spawn, cold

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
    runs: Sequence[Run], jobs: int = 1, say: Callable[[str], None] = print, spawn: Spawn = cold
) -> list[Failure]:
    """Runs what is not finished, `jobs` processes at once; a failure does not stop the others.

    A run counts as done when its folder is complete, whatever its process said: one that was asked to stop may exit
    with 0. Interrupting this function ends the processes that it started.
    """
    waiting = [run for run in runs if not run.finished()]
    if done := len(runs) - len(waiting):
        say(f"{done} of {len(runs)} runs are finished already")
    failures: list[Failure] = []
    started = 0
    with _processes() as running:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                started += 1
                running[run] = (_start(run, spawn), time.monotonic())
                say(f"[{started + done}/{len(runs)}] {run.name}: started, log in {run.log}")
            time.sleep(_POLL_SECONDS)
            for run, (process, since) in list(running.items()):
                if (code := process.poll()) is None:
                    continue
                del running[run]
                seconds = time.monotonic() - since
                if code == 0 and run.publish():
                    say(f"{run.name}: finished in {seconds:.0f} s")
                else:
                    failures.append(failure := Failure(run, _reason(code), _tail(run)))
                    say(str(failure))
    return failures


class _Running(dict[Run, tuple[Process, float]]):
    """Processes under way, with the time at which they began."""


@contextmanager
def _processes() -> Iterator[_Running]:
    running = _Running()
    try:
        yield running
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(run: Run, spawn: Spawn) -> Process:
    run.made_in.parent.mkdir(parents=True, exist_ok=True)
    run.begin()
    run.log.write_text(f"$ {run.shell_command}\n")
    return spawn(run)


def _reason(code: int) -> str:
    if code == 0:
        return "it ended before its budget was spent"
    return f"exit code {code}" if code > 0 else f"ended by signal {-code}"


def _tail(run: Run) -> str:
    return "\n".join(run.log.read_text(errors="replace").splitlines()[-_TAIL:])
