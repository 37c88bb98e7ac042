"""Processes forked from one that has imported everything, which several threads may start and wait for side by side."""

import os
import threading
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from amf_lightning.studies.processes import application

_ASKING = threading.Lock()


class Fork(ForkServerProcess):
    """A process whose exit code is asked for by one thread at a time.

    The code comes through a pipe, once. Starting a process asks all others for theirs, and of two threads that read
    the same pipe one finds it closed: `multiprocessing` then says 255, over the code that the other one read.
    """

    def start(self) -> None:
        with _ASKING:
            super().start()

    def join(self, timeout: float | None = None) -> None:
        wait([self.sentinel], timeout)
        with _ASKING:
            super().join(0)

    @property
    def exitcode(self) -> int | None:
        with _ASKING:
            return super().exitcode


class Forks(ForkServerContext):
    """What `multiprocessing.get_context("forkserver")` gives, with such processes."""

    Process = Fork


PROCESSES = Forks()
# The server imports these once and never computes anything, so its children are as good as fresh processes. Until
# Python 3.13 it does not look where its parent found modules, but it has its environment.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
PROCESSES.set_forkserver_preload([*application(), "warm_parser"])
