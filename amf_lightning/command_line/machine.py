"""What the machine refuses: which errors are its, and what to free or to allow."""

import errno
import sqlite3
import sys
from pathlib import Path

_SAYS = {
    errno.ENOSPC: "there is no space left on the disk. Free some",
    errno.EDQUOT: "the quota of the disk is used up. Free some of it, or have it raised",
    errno.EROFS: "the file system can only be read. Choose another folder, or have it mounted for writing",
    errno.EACCES: "permission is denied. Allow this user to write there, or choose another folder",
    errno.EPERM: "the operation is not permitted. Allow this user to write there, or choose another folder",
    errno.EISDIR: "a folder is where a file belongs. Move it away",
    errno.ENOTDIR: "a file is where a folder belongs. Move it away, or choose another folder",
    errno.EEXIST: "something else is there already. Move it away",
    errno.ENOENT: "it is not there (any more). Let nothing else change the folder meanwhile",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
    errno.EMFILE: "too many files are open. Raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine. Close some programs",
    errno.ENOMEM: "there is not enough memory. Close other programs, or ask for a larger machine",
    errno.EAGAIN: "the machine allows no more processes or threads. Close some, or raise the limit (ulimit -u)",
    errno.EFBIG: "the file is larger than the machine allows. Raise the limit (ulimit -f)",
    errno.EIO: "the disk cannot be read or written. Check it",
    errno.ESTALE: "the network file system has lost it. Have it mounted again",
}
_WHOEVER = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EFBIG}
"""Nobody's code is to blame for these, whoever opened the file."""
_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}
_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def refused(error: BaseException, folder: Path | None) -> str | None:
    """What the machine refused, in a sentence or two; None if this error is not the machine's.

    Args:
        error: as it was raised; what it comes from is not looked at.
        folder: what is named where the error names no file, e.g. since the disk was full while one was written.
    """
    if _on_the_gpu(error):
        return (
            "There is not enough memory on the GPU. Lower data.batch_size, choose a smaller policy, end what else uses "
            "the GPU, or set trainer.accelerator: cpu."
        )
    number = _number(error)
    if number is None:
        return None
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    place = name if name is not None else folder
    if str(place).endswith(".partial"):  # hidden, and not what anybody asked for
        place = Path(str(place)).parent
    where = "" if place is None or number == errno.ENOMEM else f"{place}: "
    does = _SAYS.get(number) or f"{getattr(error, 'strerror', None) or error}. See to it"
    detail = f" ({' '.join(str(error).split())[:200]})" if number == errno.ENOMEM and str(error) else ""
    return f"{where}{does}{detail}, and run the same command again."


def whoever_asked(error: BaseException) -> bool:
    """Whether the machine alone is the reason, also where code of the user was refused: a full disk, no memory."""
    return _on_the_gpu(error) or _number(error) in _WHOEVER


def _number(error: BaseException) -> int | None:
    """The `errno` of an error of the machine, also of one that says it otherwise."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(m in str(error) for m in _MEMORY)):
        return errno.ENOMEM
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return None if code is None else _SQLITE.get(code & 0xFF)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return error.errno
    return None


def _on_the_gpu(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # where it was not imported, it did not raise
    return torch is not None and isinstance(error, torch.OutOfMemoryError)
