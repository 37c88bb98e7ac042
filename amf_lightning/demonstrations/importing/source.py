"""Demonstrations in anybody's format: which one it is, by what is in the file, and the episodes in it.

`episodes(path)` is all that others need; each format has a module of its own with `episodes(path, reading)` and
`count(path)`.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from amf_lightning.demonstrations.importing.hdf5 import SIGNATURE, files_inside, opened
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.recorded import AGAIN
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

FORMATS = {
    "lerobot": "a LeRobot dataset (v3.0): the folder with meta/info.json",
    "minari": "a Minari dataset: the folder with metadata.json, or with data/metadata.json",
    "robomimic": "a file of robomimic or LIBERO (HDF5), or a folder of them",
    "npz": "an archive of numpy (.npz), or a folder of them",
    "pictures": "a folder of episodes, each with a table (.csv) and pictures or videos",
    "store": "a folder of demonstrations of this package (000000.safetensors, …)",
}
"""The formats by name, and what of theirs is given. The name is that of the module that reads it."""

_ZIP, _PARQUET = (b"PK\x03\x04", b"PK\x05\x06"), b"PAR1"


def detect(path: Path) -> str:
    """The format of a file or folder, a key of `FORMATS`.

    Raises:
        InputError: there is nothing, or nothing that is known here.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist. Name a file or folder of demonstrations.")
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if found is None:
        raise InputError(
            f"{path} holds no demonstrations in a format that is known here. Give {'; or '.join(FORMATS.values())}."
        )
    return found


def episodes(path: Path, reading: Reading | None = None, format: str | None = None) -> Iterator[Trajectory]:
    """The episodes of a source in any format, one after another; no more than one is in memory.

    Args:
        path: file or folder.
        reading: names of entries and tasks, units; the format's own if None.
        format: a key of `FORMATS`; found by what is in the file if None.

    Raises:
        InputError: what cannot be used, where, and what to do. No code of a file is run.
    """
    format = format or detect(path)
    if format != "minari" and reading is not None and reading.subgoals is not None:
        raise InputError(
            f"{path}: 'subgoals' in the file of --keys cuts recordings of Minari alone, and this is {FORMATS[format]}. "
            "Take it out."
        )
    yield from _reader(format).episodes(path, reading)


def count(path: Path, format: str | None = None) -> int:
    """How many episodes a source says it has."""
    number: int = _reader(format or detect(path)).count(path)
    return number


def _reader(format: str) -> ModuleType:
    return import_module(f"amf_lightning.demonstrations.importing.{format}")


def _of_folder(path: Path) -> str | None:
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    if any((folder / "metadata.json").is_file() for folder in (path, path / "data")):
        return "minari"
    if any(path.glob("[0-9]*.safetensors")):
        return "store"
    if any(path.rglob("*.npz")):
        return "npz"
    if inside := files_inside(path):
        return _of_hdf5(inside[0])
    # Last: a table of notes may lie beside recordings of any kind.
    if any(path.glob("*.csv")) or any(path.glob("*/*.csv")):
        return "pictures"
    return None


def _of_file(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(8)
    if start == SIGNATURE:
        return _of_hdf5(path)
    if start.startswith(_ZIP):
        return "npz"
    if start.startswith(_PARQUET):
        raise InputError(
            f"{path} is a table of a dataset. Give the folder of the dataset, the one with meta/info.json."
        )
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        raise InputError(
            f"{path} is a Python pickle, which runs code when it is read, and is not read here. Save its arrays with "
            "numpy.savez, without objects."
        )
    return None


def _of_hdf5(path: Path) -> str:
    with opened(path, "HDF5") as file:
        if "data" in file:
            return "robomimic"
        if any(name.startswith("episode_") for name in file.names()):
            raise InputError(f"{path} is a part of a Minari dataset. Give its folder, the one with metadata.json.")
        raise InputError(
            f"{path} holds {', '.join(file.names()[:12]) or 'nothing'}, not data/demo_0 as robomimic's. {AGAIN}"
        )
