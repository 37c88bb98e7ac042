"""Files on their way in: a folder in the run's own, so that they are on its disk, which is emptied at each start."""

import re
import shutil
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from anyio import to_thread

from amf_lightning.campaign.run_lock import sole_writer
from amf_lightning.errors import InputError

FOLDER = ".uploads"
LARGEST = 4 * 2**30
"""Bytes of the largest file that is taken in if nobody says otherwise: no format here reads a larger episode."""
_AT_ONCE = 2**20
"""Bytes that are collected before they are written."""
_FOUL = re.compile(r"[\x00-\x1f\x7f/\\\ud800-\udfff]")
"""What no file's name has that a browser sends: one with these would lie somewhere else than here."""


class TooLargeError(InputError):
    """A file is larger than what is taken in."""


class Uploads:
    """Takes files in, piece by piece.

    Args:
        run: folder of the run.
        largest: bytes.
    """

    def __init__(self, run: Path, largest: int = LARGEST) -> None:
        self._folder = run / FOLDER
        self.largest = largest

    @contextmanager
    def opened(self) -> Iterator["Uploads"]:
        """Removes what a killed server has left, and in the end what this one has.

        Raises:
            InputError: another server takes files in for this run.
        """
        self._folder.mkdir(exist_ok=True)
        with sole(self._folder):
            self._empty()
            try:
                yield self
            finally:
                with suppress(OSError):
                    self._empty()
                    self._folder.rmdir()

    @contextmanager
    def place(self, name: str) -> Iterator[Path]:
        """Where to put a file of that name; it is gone after the block, whatever happens in it.

        Raises:
            InputError: it is no name of a file.
        """
        folder = self._folder / token_hex(8)
        folder.mkdir()
        try:
            yield folder / check_name(name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def check_size(self, size: int) -> None:
        """Raises TooLargeError if so many bytes are too many."""
        if size > self.largest:
            raise TooLargeError(
                f"It is larger than {self.largest / 2**20:.4g} MiB. Split it, or let it in with `amf add` on the "
                "machine of the run, or start `amf desk` with a larger --largest."
            )

    async def write(self, path: Path, pieces: AsyncIterable[bytes]) -> int:
        """Writes what comes to a file; how many bytes it was.

        Raises:
            TooLargeError: more comes than is taken in.
        """
        size, waiting = 0, bytearray()
        with path.open("xb") as file:
            async for piece in pieces:
                self.check_size(size := size + len(piece))
                waiting += piece
                if len(waiting) >= _AT_ONCE:
                    await to_thread.run_sync(file.write, waiting)  # a slow disk holds nobody else up
                    waiting = bytearray()
            await to_thread.run_sync(file.write, waiting)
        return size

    def _empty(self) -> None:
        for each in self._folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()


def check_name(name: str) -> str:
    """The name of a file that somebody hands over.

    Raises:
        InputError: it leads to another folder, or no file can have it.
    """
    if _FOUL.search(name) or name.strip() in ("", ".", "..") or len(name.encode()) > 200:
        raise InputError(f"'{_FOUL.sub('?', name)[:60]}' is no name of a file. Rename it, and hand it over again.")
    return name


@contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Holds the folder of uploads; the kernel lets go of it however the process ends."""
    holding = sole_writer(folder)
    try:
        holding.__enter__()
    except InputError:
        raise InputError(
            f"Another `amf desk` serves {folder.parent} already. Open its page: any number of browsers may."
        ) from None
    try:
        yield
    finally:
        holding.__exit__(None, None, None)
