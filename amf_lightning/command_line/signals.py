"""SIGTERM and Ctrl-C end a process within seconds, wherever it is: in Python, in a library, or waiting for another."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from amf_lightning.errors import Stopped

NAMES: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


class Signals:
    """Raises `Stopped` in the main thread when a signal arrives; ends the process if that does not end it in time.

    It does not where the main thread waits in a library, e.g. for a process of a distributed run that is gone, or where
    somebody's code swallows it. All that a run has done is durable, so that nothing is lost by ending it at once.

    Args:
        grace: seconds that the process has to end by itself.
        say: called with the number of the signal before the process is ended for it.
    """

    def __init__(self, grace: float, say: Callable[[int], None]) -> None:
        self.grace, self.say = grace, say
        self.received: int | None = None
        self.launched: Callable[[], list[subprocess.Popen[bytes]]] = list
        """Gives the list in which Lightning keeps the other ranks of a run on one machine, which end with this one."""
        self._taken: list[subprocess.Popen[bytes]] = []
        self._before: dict[int, object] = {}
        self._ignored = False

    @contextmanager
    def heeded(self) -> Iterator["Signals"]:
        """Does so until the block ends. A signal that was ignored before (`nohup`) still is."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self._before = {number: signal.getsignal(number) for number in NAMES}
        # Python's own handlers run only between two instructions of the main thread; this is written to at once.
        wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True, name="signals").start()
        self.install()
        try:
            yield self
        finally:
            if self.received is None and not self._ignored:  # else it is watched until it has really ended
                for number, handler in self._before.items():
                    signal.signal(number, handler)  # type: ignore[arg-type]
                signal.set_wakeup_fd(wakeup)
                os.close(writing)

    def install(self) -> None:
        """Sets the handlers, again where a library has set its own."""
        for number, handler in self._before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, self._stop)

    def ignore(self) -> None:
        """Ignores signals from now on, as Python shuts down: they would replace the exit code of what is done.

        After one that was received nothing changes: the process is watched until it has ended.
        """
        if self.received is None and self._before:
            self._ignored = True
            for number in self._before:
                signal.signal(number, signal.SIG_IGN)

    @property
    def children(self) -> list["subprocess.Popen[bytes]"]:
        """Processes that are to end with this one."""
        return [*self._taken, *self.launched()]

    def end_children(self) -> None:
        """Asks the other processes to end. Lightning, which would kill this one as soon as one has, forgets them."""
        self._taken = self.children
        self.launched().clear()
        for child in self.children:
            with suppress(OSError):
                child.terminate()

    def codes_of_children(self, within: float = 2.0) -> list[int | None]:
        """Exit codes of the other processes, once one has ended with another than 0 or after so many seconds."""
        deadline = time.monotonic() + within
        while not any(codes := [child.poll() for child in self.children]) and time.monotonic() < deadline:
            time.sleep(0.02)
        return codes

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:  # twice is an order, unless it is the second rank that repeats the first
            return
        self.received = number
        self.end_children()
        raise Stopped(number)

    def _watch(self, reading: int) -> None:
        """In a thread of its own: ends the process if it has not ended in time after a signal."""
        while data := os.read(reading, 1):
            if data[0] in self._before and self._before[data[0]] != signal.SIG_IGN:
                break
        else:
            os.close(reading)
            return
        self.end_children()  # the main thread may be busy
        time.sleep(self.grace)
        for child in self.children:
            with suppress(OSError):
                child.kill()
        with suppress(Exception):
            self.say(data[0])
            sys.stderr.flush()
        os._exit(128 + data[0])
