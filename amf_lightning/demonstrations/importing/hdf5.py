"""HDF5 files of anybody: nothing of them is followed to other files, and nothing is made before its size is known."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.importing.recorded import AGAIN, check_size
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
SUFFIXES = (".hdf5", ".h5")
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
"""Those that come with HDF5 and h5py. Any other is a plug-in: a library that would be loaded to read the file."""


class Group:
    """A group of a file that is open for reading.

    Args:
        group: of h5py.
        where: file and place in it, for messages.
    """

    def __init__(self, group: Any, where: str) -> None:
        self._group, self.where = group, where

    def names(self) -> list[str]:
        """What is in it, in the order of the names."""
        return sorted(self._group.keys())

    def __contains__(self, name: str) -> bool:
        return name in self._group.keys()  # noqa: SIM118  # `in group` would follow a path

    def group(self, name: str) -> "Group":
        """The group of that name.

        Raises:
            InputError: there is none, or it lies in another file.
        """
        found = self._member(name)
        if not hasattr(found, "keys"):
            raise InputError(f"{self.where}: '{name}' is an array where a group of arrays belongs. {AGAIN}")
        return Group(found, f"{self.where}/{name}")

    def is_group(self, name: str) -> bool:
        """Whether a group has that name, not an array."""
        return hasattr(self._member(name), "keys")

    def leaves(self, prefix: str = "") -> list[str]:
        """Names of all arrays below, as `image/front`."""
        names = []
        for name in self.names():
            if prefix.count("/") > 8:
                raise InputError(f"{self.where}: its groups are nested more than 8 deep. {AGAIN}")
            path = f"{prefix}{name}"
            names += self.group(name).leaves(f"{path}/") if self.is_group(name) else [path]
        return names

    def length(self, name: str) -> int:
        """Rows of an array."""
        shape = self._array(name).shape
        return int(shape[0]) if shape else 0

    def rows(self, name: str, start: int = 0) -> NDArray[Any]:
        """The rows of an array from one on, with negative ones counted from the end.

        Raises:
            InputError: there is none, it holds no numbers, is damaged, too large or lies in other files.
        """
        array = self._array(name)
        what = f"{self.where}: '{name}'"
        if array.dtype.kind not in "biuf":
            raise InputError(f"{what} holds {array.dtype}, no numbers. {AGAIN}")
        check_size(array.shape, array.dtype.itemsize, what)
        if not array.shape:
            raise InputError(f"{what} is one number, not one for each step. {AGAIN}")
        with _damage(what):
            read: NDArray[Any] = array[start:] if start >= 0 else array[max(0, len(array) + start) :]
        return read

    def blobs(self, name: str) -> list[bytes]:
        """The rows of an array of bytes of any length, e.g. of encoded pictures."""
        array, what = self._array(name), f"{self.where}: '{name}'"
        if array.ndim == 2 and array.dtype == np.uint8:
            return [row.tobytes() for row in self.rows(name)]
        if array.ndim != 1 or array.dtype.kind != "O":
            raise InputError(f"{what} holds {array.dtype}, no encoded pictures. {AGAIN}")
        check_size(array.shape, 1024, what)
        with _damage(what):
            return [np.asarray(array[row], np.uint8).tobytes() for row in range(len(array))]

    def attribute(self, name: str) -> Any:
        """What is noted of the group under that name; None if nothing is. Texts are `str`."""
        with _damage(f"{self.where}: the attribute '{name}'"):
            value = self._group.attrs.get(name)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def _array(self, name: str) -> Any:
        found: Any = self
        *groups, last = name.split("/")
        for each in groups:
            found = found.group(each)
        array = found._member(last)
        what = f"{self.where}: '{name}'"
        if hasattr(array, "keys"):
            raise InputError(f"{what} is a group where an array belongs. {AGAIN}")
        if array.external or array.is_virtual:
            raise InputError(f"{what} lies in other files, which are not followed. Copy it into this one (h5repack).")
        plist = array.id.get_create_plist()
        for number in range(plist.get_nfilters()):
            if (code := plist.get_filter(number)[0]) not in _FILTERS:
                raise InputError(
                    f"{what} is compressed by the plug-in {code}, a library that would have to be loaded. Write it "
                    "with gzip (h5repack -f GZIP=4)."
                )
        return array

    def _member(self, name: str) -> Any:
        """What has that name, if it lies in this file."""
        import h5py

        where = f"{self.where}: '{name}'"
        if name not in self:
            raise InputError(f"{where} is missing; there is {', '.join(self.names()[:12]) or 'nothing'}. {AGAIN}")
        with _damage(where):
            if not isinstance(self._group.get(name, getlink=True), h5py.HardLink):
                raise InputError(
                    f"{where} is a link to another place or file, which is not followed. Copy it (h5copy)."
                )
            return self._group[name]


def hdf5_files(path: Path) -> list[Path]:
    """The file, or those in the folder, by name; hidden ones are left out.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return [path]
    if found := files_inside(path):
        return found
    raise InputError(f"{path} is no HDF5 file and holds none (.hdf5, .h5). Correct the path.")


def files_inside(folder: Path) -> list[Path]:
    """The HDF5 files in a folder, by name, in any case; hidden ones are left out."""
    named = [each for each in folder.glob("*") if each.suffix.lower() in SUFFIXES and each.is_file()]
    return sorted(each for each in named if not each.name.startswith("."))


@contextmanager
def opened(path: Path, extra: str) -> Iterator[Group]:
    """A file, open for reading.

    Raises:
        InputError: it is damaged, or h5py is not installed.
    """
    h5py = required("h5py", extra)
    with _damage(str(path)):
        file = h5py.File(path, "r")
    with file:
        yield Group(file, str(path))


@contextmanager
def _damage(what: str) -> Iterator[None]:
    """Turns what h5py says of damaged files into a refusal."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{what} does not exist. Correct the path.") from error
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, UnicodeDecodeError, MemoryError) as error:
        raise InputError(f"{what} is truncated or damaged ({' '.join(str(error).split())[:120]}). {AGAIN}") from error
