"""One process at a time writes into a run folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amf_lightning.errors import InputError


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
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
