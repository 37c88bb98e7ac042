"""A process that ends when the one that started it does, however that ends: nobody would wait for its result."""

import os
import signal
import threading
import time

VARIABLE = "AMF_LIFELINE"
"""Environment variable with the number of a pipe that somebody who started this process holds open."""
_PATIENCE = 10.0
"""Seconds between asking a process to end and ending it."""

_pipes: dict[int, tuple[int, int]] = {}
"""Both ends of the pipe of this process, by its number: a fork needs one of its own."""


def hold() -> int:
    """The descriptor that a child has to inherit, and to find in `VARIABLE`; the other end closes with this process."""
    if os.getpid() not in _pipes:
        _pipes[os.getpid()] = os.pipe()
    return _pipes[os.getpid()][0]


def end_with_parent() -> None:
    """Makes this process end with the one that started it, if that one asked for it."""
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
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)
