"""A process that ends when the one that started it does, however that ends: nobody would wait for its result."""

import os
import signal
import threading
import time

VARIABLE = "AMF_LIFELINE"
"""Environment variable with the number of a pipe that somebody who started this process holds open."""
LAUNCHER = "AMF_LAUNCHER"
"""Environment variable with the number of the first rank, for the other ranks that Lightning starts for it."""
_PATIENCE = 10.0
"""Seconds between asking a process to end and ending it."""

_ALIKE = 1.0
"""Seconds that a rank has to end by itself after the first one has ended."""
_LOOK = 0.2
"""Seconds between two looks at who started this process."""

_pipes: dict[int, tuple[int, int]] = {}
"""Both ends of the pipe of this process, by its number: a fork needs one of its own."""


def hold() -> int:
    """The descriptor that a child has to inherit, and to find in `VARIABLE`; the other end closes with this process."""
    if os.getpid() not in _pipes:
        _pipes[os.getpid()] = os.pipe()
    return _pipes[os.getpid()][0]


def end_with_parent() -> None:
    """Makes this process end with the one that started it, if that one asked for it, or is the first rank of a run.

    A rank that waits for the first one to be found would do so for half an hour.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.environ[LAUNCHER] = str(os.getpid())
    elif (launcher := os.environ.get(LAUNCHER, "")).isdecimal():
        threading.Thread(target=_wait_for_end, args=(int(launcher),), name="launcher", daemon=True).start()
    number = os.environ.pop(VARIABLE, "")  # taken away, as our own children do not inherit the pipe
    if number.isdecimal():
        follow(int(number))


def follow(descriptor: int) -> None:
    """Makes this process end once nobody holds the other end of a pipe."""
    threading.Thread(target=_wait, args=(descriptor,), name="lifeline", daemon=True).start()


def _wait(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1):
            pass
    except OSError:  # no pipe of ours: then there is nobody to end with
        return
    _end()


def _wait_for_end(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_LOOK)
    time.sleep(_ALIKE)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)
