"""Files that are either there whole or not at all, also after a crash or a power cut."""

import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO


def write_durably(path: Path, content: bytes | str) -> None:
    """Writes a file so that at every moment `path` holds either its old content or all of the new one.

    The bytes go into a hidden file in the same folder, reach the disk, and take the name in one step.
    """
    data = content.encode() if isinstance(content, str) else content
    _make_folder(path.parent)
    # In the same folder, as a rename is atomic only within a file system; a name of its own, as two may write at once.
    partial = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # before the rename, or a power cut could leave the new name on no bytes
    partial.replace(path)
    _sync_names(path.parent)


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
