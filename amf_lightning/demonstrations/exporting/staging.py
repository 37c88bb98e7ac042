"""A place beside the destination where an export grows, and which takes its name in one step when it is whole."""

import fcntl
import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amf_lightning.durable import sync_tree, write_durably
from amf_lightning.errors import InputError


class Staging:
    """The place.

    Args:
        destination: what is to be there in the end, a file or a folder.
        plan: says everything that the result depends on. What a call with the same plan left when it was killed is
            gone on with; anything else that lies there is removed.
    """

    def __init__(self, destination: Path, plan: str) -> None:
        self._destination, self._plan = destination, plan
        self._folder = destination.with_name(f".{destination.name}.exporting")
        self.content = self._folder / "content"
        """The growing file or folder; whoever writes makes it."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the place for this process, and hands its content over when the block is done.

        Raises:
            InputError: another export is under way there, or the destination holds something else.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"Another export to {self._destination} is under way. Wait until it is finished."
                ) from error
            plan = self._folder / "plan.json"
            if not plan.is_file() or plan.read_text(encoding="utf-8") != self._plan:
                for each in self._folder.iterdir():
                    _remove(each)
                write_durably(plan, self._plan)
            yield
            self._hand_over()
        finally:
            os.close(descriptor)

    def _hand_over(self) -> None:
        destination = self._destination
        sync_tree(self.content)
        if destination.is_dir() and not any(destination.iterdir()):
            destination.rmdir()
        if destination.exists():
            same = _same(self.content, destination)
            shutil.rmtree(self._folder)
            if not same:
                raise InputError(f"{destination} is there and holds something else. Name another destination.")
            return
        self.content.replace(destination)
        sync_tree(destination.parent, below=False)
        with suppress(OSError):  # the export is whole; the next call to this destination removes the rest
            shutil.rmtree(self._folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _same(ours: Path, theirs: Path) -> bool:
    """Whether two files, or two folders with all that is in them, have the same bytes."""
    if ours.is_file() and theirs.is_file():
        return filecmp.cmp(ours, theirs, shallow=False)
    if not (ours.is_dir() and theirs.is_dir()):
        return False
    names = sorted(each.name for each in ours.iterdir())
    return names == sorted(each.name for each in theirs.iterdir()) and all(
        _same(ours / name, theirs / name) for name in names
    )
