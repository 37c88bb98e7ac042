"""Files that are either there whole or not at all, also after a crash or a power cut."""

import os
from pathlib import Path
from secrets import token_hex


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
