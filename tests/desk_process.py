"""`amf desk` as a process that listens, for tests."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from amf_process import TESTS

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}


class Serving:
    """A desk that answers."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process, self.url = process, url

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.split(":")[2].partition("/")[0])

    def end(self, number: int) -> int:
        """Sends it a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Serving]:
    """Starts a desk on a port that is free, or on one that is named, and ends it."""
    arguments = ["--port", "0", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "amf_lightning", "desk", str(run), *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"{line} {process.poll()}"
        yield Serving(process, found[0])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until(true: Callable[[], object], seconds: float = 15) -> None:
    """Waits for something, but not for ever."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)
