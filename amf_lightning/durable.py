"""Files that are either there whole or not at all, also after a crash or a power cut."""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes | str) -> None:
    """Writes a file so that at every moment `path` holds either its old content or all of the new one.

    The bytes go into a hidden file in the same folder, reach the disk, and take the name in one step.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself must survive a power cut
    finally:
        os.close(folder)
