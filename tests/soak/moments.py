"""Moments of a run: signs of life, numbered within the phase in which they come.

The package knows nothing of it: its functions are wrapped in the process of the run, which then does something, e.g.
ends itself, at one of them.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amf_lightning.fine_tuning import active_sampling_callback
from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling
from amf_lightning.fine_tuning.checkpoint_io import DurableCheckpointIO
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.reports.report_callback import RunReports
from amf_lightning.simulation.gymnasium_simulation import GymnasiumSimulation
from amf_lightning.suites.integrator import IntegratorSimulation

READING = "reading"
"""From the start to the first evaluation, and whatever lies between two other phases."""
PHASES: dict[str, list[tuple[Any, str]]] = {
    "evaluation": [(BehaviouralCloning, "validation_step"), (BehaviouralCloning, "on_validation_epoch_end")],
    "selection": [(ActiveSampling, "_ask")],
    "collection": [(ActiveSampling, "_collect")],
    "training": [(BehaviouralCloning, "training_step")],
    "checkpoint": [(DurableCheckpointIO, "save_checkpoint")],
    "tables": [(RunReports, "_write_tables")],
    "export": [(active_sampling_callback, "export"), (RunReports, "on_fit_end")],
}
"""The functions during which a phase lasts."""
SIGNS: list[tuple[Any, str]] = [
    (IntegratorSimulation, "step"),
    (GymnasiumSimulation, "step"),
    (BehaviouralCloning, "losses"),
    (os, "fsync"),
]
"""Functions whose calls are signs of life."""
TOUCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "sqlite3.connect", "os.listdir")
"""Audit events that are signs of life: a process touches files."""


@dataclass(frozen=True)
class Moment:
    """The sign of life of that number, from 0, within a phase."""

    phase: str
    number: int


def watch(act: Callable[[Moment], object]) -> None:
    """Calls `act` at every sign of life of this process: steps, losses, files, and each wait for the disk.

    Args:
        act: called in the main thread.
    """
    phases, counts, busy = [READING], Counter[str](), threading.local()

    def sign() -> None:
        if threading.current_thread() is not threading.main_thread() or getattr(busy, "now", False):
            return
        busy.now = True
        try:
            moment = Moment(phases[-1], counts[phases[-1]])
            counts[phases[-1]] += 1
            act(moment)
        finally:
            busy.now = False

    def within(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            phases.append(phase)
            try:
                return function(*args, **kwargs)
            finally:
                phases.pop()

        return wrapped

    for phase, functions in PHASES.items():
        for owner, name in functions:
            setattr(owner, name, within(phase, getattr(owner, name)))
    for owner, name in SIGNS:
        setattr(owner, name, _after(sign, getattr(owner, name)))
    sys.addaudithook(lambda event, _: sign() if event in TOUCHED else None)


def write_moments(file: Path) -> None:
    """Appends the phase of each sign of life to a file, a line each."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    watch(lambda moment: os.write(descriptor, f"{moment.phase}\n".encode()))


def count_moments(file: Path) -> Counter[str]:
    """Signs of life in each phase, from what `write_moments` wrote."""
    return Counter(file.read_text().split())


@dataclass(frozen=True)
class End:
    """A signal at a moment, or so many seconds after it."""

    moment: Moment
    number: int
    delay: float = 0.0

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        late = f", {1000 * self.delay:.1f} ms after it" if self.delay else ""
        return f"{name} at sign {self.moment.number} of {self.moment.phase}{late}"


def end_at(end: End, slow_disk: float = 0.0) -> None:
    """Makes this process send itself a signal at a moment; without a delay always at the same instruction.

    Args:
        end: what is sent, and when.
        slow_disk: seconds that each wait for the disk takes longer.
    """
    if slow_disk:
        os.fsync = _after(lambda: time.sleep(slow_disk), os.fsync)
    arrived = False

    def act(moment: Moment) -> None:
        nonlocal arrived
        if arrived or moment != end.moment:
            return
        arrived = True
        if not end.delay:
            os.kill(os.getpid(), end.number)
            return
        # Another process: a thread of this one would wait for this one's lock.
        here = os.getpid()
        if os.fork() == 0:
            try:
                time.sleep(end.delay)
                os.kill(here, end.number)
            finally:
                os._exit(0)

    watch(act)


def _after(first: Callable[[], object], function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        first()
        return function(*args, **kwargs)

    return wrapped
