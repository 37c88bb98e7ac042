"""Files that are either there whole or not at all, also after a crash or a power cut."""

import fcntl
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

_PARTIAL = re.compile(r"\..+\.(?P<pid>\d+)\.(?:(?P<host>[\w-]+)\.)?[0-9a-f]{8}\.partial")
"""Names of files that are being written; version 0.2 left out the host."""
_ABANDONED_SECONDS = 24 * 3600
"""Age at which a file that is being written is given up, where nobody can tell whether its writer lives."""


def write_durably(path: Path, content: bytes | str) -> None:
    """Writes a file so that at every moment `path` holds either its old content or all of the new one.

    The bytes go into a hidden file in the same folder, reach the disk, and take the name in one step. If that fails,
    the hidden file is removed; that of a process which was killed, by `remove_leftovers`.
    """
    data = content.encode() if isinstance(content, str) else content
    _make_folder(path.parent)
    # In the same folder, as a rename is atomic only within a file system; a name of its own, as two may write at once.
    partial = path.with_name(f".{path.name}.{os.getpid()}.{_host()}.{token_hex(4)}.partial")
    try:
        with partial.open("wb") as file:
            with suppress(OSError):  # a file system without locks; the lock is only for `remove_leftovers`
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power cut could leave the new name on no bytes
            partial.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong is worth more than what could not be removed
            partial.unlink(missing_ok=True)
        raise
    _sync_names(path.parent)


def remove_leftovers(*folders: Path) -> None:
    """Removes what killed processes had begun to write in these folders, and nothing that a living one writes.

    A writer on this machine is known by its number, and by the lock that it holds, which also tells of processes of
    other containers. Of one on another machine only the age of the file tells.
    """
    for folder in folders:
        with suppress(OSError):  # no folder, or not ours to change: then they stay
            for path in folder.glob(".*.partial"):
                if _abandoned(path):
                    path.unlink(missing_ok=True)


def _abandoned(path: Path) -> bool:
    match = _PARTIAL.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] == _host():
        return not _alive(int(match["pid"])) and not _locked(path)
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _ABANDONED_SECONDS and not _locked(path)
    return False


def _host() -> str:
    """The name of this machine, without what would not do in a file name."""
    return re.sub(r"[^\w-]", "-", os.uname().nodename)[:64] or "-"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # of another user; a number that no process has cannot be asked about
        return True
    return True


def _locked(path: Path) -> bool:
    """Whether a process holds the file; False where nobody can tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def append_durably(path: Path, lines: Sequence[str]) -> None:
    """Adds lines to the end of a file; they are on the disk when this returns.

    If that is cut off there is part of a line at the end, which the next call ends: whoever reads leaves it out.
    """
    _make_folder(path.parent)
    is_new = not path.exists()
    with path.open("a+b") as file:
        if file.tell() and not _ends_with_line(file):
            file.write(b"\n")
        file.write("".join(f"{line}\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_names(path.parent)


def _ends_with_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _make_folder(folder: Path) -> None:
    """`mkdir(parents=True, exist_ok=True)` whose new names are on the disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_names(folder.parent)


def _sync_names(folder: Path) -> None:
    """Puts the names in a folder on the disk: without it a file can be lost although its bytes are there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path, *, below: bool = True) -> None:
    """Puts a file or folder on the disk; of a folder also all that is in it, unless `below` is false."""
    if path.is_dir():
        for each in path.iterdir() if below else ():
            sync_tree(each)
    _sync_names(path)  # of a file, its bytes
