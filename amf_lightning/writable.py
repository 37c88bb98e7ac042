"""Whether what a command writes at its end can be written, tried before it begins."""

import errno
import os
from pathlib import Path


def check_file(path: Path) -> None:
    """Raises OSError, as writing would, if no file of that name can be made or replaced."""
    if path.is_dir():
        raise _refused(errno.EISDIR, path)
    check_folder(path.parent)


def check_folder(path: Path) -> None:
    """Raises OSError, as writing would, if no file can be made in that folder, which may have to be made first."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise _refused(errno.ENOTDIR, there)
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        raise _refused(errno.EROFS, there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _refused(errno.EACCES, there)


def _refused(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
