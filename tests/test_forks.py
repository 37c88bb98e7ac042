"""Threads that start and wait for processes side by side, as the soak does, are each told how their own ended."""

import multiprocessing.forkserver
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from forks import PROCESSES


def code_of(code: int) -> int | None:
    """Exit code of a process that ends with it."""
    process = PROCESSES.Process(target=sys.exit, args=(code,))
    process.start()
    process.join(60)
    return process.exitcode


def test_no_two_threads_read_the_exit_code_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Callable[[int], int] = multiprocessing.forkserver.read_signed
    readers, at_once = Counter[int](), list[int]()

    def slowly(descriptor: int) -> int:
        readers[descriptor] += 1
        at_once.append(readers[descriptor])
        time.sleep(0.05)  # long enough for another thread to start a process, and to ask all others how they ended
        readers[descriptor] -= 1
        return read(descriptor)

    monkeypatch.setattr(multiprocessing.forkserver, "read_signed", slowly)
    codes = [number % 7 for number in range(24)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(code_of, codes)) == codes
    assert max(at_once) == 1
