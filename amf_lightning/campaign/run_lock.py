"""One process at a time writes into a run folder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amf_lightning.errors import InputError

_TRIES, _PAUSE = 10, 0.02
"""How often the lock is tried, and seconds between: `held` has it for an instant, which is no reason to give up."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Holds `folder` until the block ends. The kernel lets go of it however the process ends, `kill -9` included.

    The lock is on the folder itself, so that no file of it is left behind. A file system without such locks (some
    network file systems) is used without one.

    Raises:
        InputError: another process on this machine holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise InputError(
                f"Another process is writing into {folder}. Wait for it or stop it, or choose another folder with "
                "--trainer.default_root_dir."
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def held(folder: Path) -> bool:
    """Whether a process of this machine is writing into `folder`; nothing is changed by asking."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> None:
    """Takes the lock, or raises BlockingIOError; `held`, which has it for an instant, is waited for."""
    for remaining in reversed(range(_TRIES)):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not remaining:
                raise
            time.sleep(_PAUSE)
    return None
