"""Starts the process of a run: like any command, or forked from one that has imported everything."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from amf_lightning import lifeline
from amf_lightning.catalogue import KINDS, classes
from amf_lightning.studies.plan import Run

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_FORKS = multiprocessing.get_context("forkserver")


class Process(Protocol):
    """What is needed of a process, in the words of `subprocess.Popen`."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        ...

    def terminate(self) -> None:
        """Asks it to end."""
        ...

    def kill(self) -> None:
        """Ends it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises subprocess.TimeoutExpired after so many seconds."""
        ...


class Spawn(Protocol):
    """Starts the command of a run; what it prints is appended to the run's log."""

    def __call__(self, run: Run) -> Process:
        """The process."""
        ...


def cold(run: Run) -> Process:
    """A process of its own, which imports everything anew. If it is one of `amf`, it ends with this process."""
    pipe = lifeline.hold()
    with run.log.open("ab") as log:
        return subprocess.Popen(
            run.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=one_thread(os.environ) | {lifeline.VARIABLE: str(pipe)},
            pass_fds=(pipe,),
        )


class Forked:
    """A process forked from a server that imports the application once and computes nothing; a `Spawn`.

    Importing takes seconds of computing, more than a run of a small problem. The command must be `python -m MODULE`.
    The number of threads is set in the environment of this process, for the server and all of its forks to inherit.
    """

    def __init__(self, run: Run) -> None:
        os.environ.update(one_thread({}))
        _FORKS.set_forkserver_preload(application())
        self._command = run.command
        self._process = _FORKS.Process(target=_run_module, args=(run.command, run.log))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._command, timeout or 0.0)
        return self._process.exitcode


def application() -> list[str]:
    """The modules that a run may need: the command line with every part of the catalogue, and what writes its files."""
    parts = {module for key in KINDS for module in classes(key).values()}
    writers = ["torch.utils.tensorboard", "matplotlib.backends.backend_agg", "PIL.GifImagePlugin"]
    frozen = "amf_lightning.studies.forked_imports"
    return ["amf_lightning.command_line.lightning_cli", *sorted(parts), *writers, frozen]


def one_thread(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a process computes on one thread: many runs side by side share the cores."""
    return {**environment, **dict.fromkeys(_THREADS, "1")}


def _run_module(command: Sequence[str], log: Path) -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        lifeline.follow(parent.sentinel)
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ.update(one_thread({}))  # the server may have been started by somebody else
    python, _, module, *arguments = command
    sys.argv = [python, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
