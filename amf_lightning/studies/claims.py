"""Who makes a run: of several comparisons at once, each run is made by one, and the others wait for it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amf_lightning.campaign.run_lock import held
from amf_lightning.studies.plan import Run


class Claims:
    """The runs that this process makes. The kernel gives them up however the process ends, `kill -9` included.

    A claim is a lock on a file beside the run folder, which is removed with it. A file system without such locks (some
    network file systems) is used without claims.
    """

    def __init__(self) -> None:
        self._files: dict[Run, int] = {}

    def take(self, run: Run) -> bool:
        """Whether the run is ours to make now. It is not while another process makes it or still writes into it."""
        path = _path(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError:
                break
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
            os.close(descriptor)  # who held it has removed it meanwhile
        self._files[run] = descriptor
        if run.made_in.is_dir() and held(run.made_in):  # its comparison was killed, and it is about to end
            self.release(run)
            return False
        return True

    def release(self, run: Run) -> None:
        """Gives a run up, finished or not."""
        if (descriptor := self._files.pop(run, None)) is not None:
            _path(run).unlink(missing_ok=True)  # before it is unlocked: who locks it then sees that it is gone
            os.close(descriptor)

    def release_all(self) -> None:
        """Gives up what is left."""
        for run in [*self._files]:
            self.release(run)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other comparison writes into the folder, and keeps it until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _path(run: Run) -> Path:
    return run.made_in.with_name(f"{run.made_in.name}.claim")
