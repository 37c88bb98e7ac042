"""Episodes as numpy's archives, `.npz`: a file an episode, or a folder of such files.

An archive is a zip of `.npy` files. numpy reads Python pickles in them if it is allowed to, which runs code: here it is
not, and the header of every array is looked at before anything of its size is made.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from amf_lightning.demonstrations.facts import FACTS, read_facts
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.recorded import (
    AGAIN,
    MOST_BYTES,
    Recorded,
    as_flag,
    as_seed,
    check_size,
    trajectory,
)
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.trajectory import Trajectory

SUFFIX = ".npz"
_OBSERVATION = "observation/"
_STATES = ("observations", "observation", "obs", "states", "state")
_ACTIONS, _REWARDS = ("action", "actions"), ("reward", "rewards")
_MOST_ARRAYS = 1000


def files(path: Path) -> list[Path]:
    """The archives that a path names, in the order of their names."""
    return [path] if path.is_file() else sorted(each for each in path.rglob(f"*{SUFFIX}") if each.is_file())


def count(path: Path) -> int:
    """How many episodes there are."""
    return len(files(path))


def episodes(path: Path, reading: Reading | None = None) -> Iterator[Trajectory]:
    """The episodes, one after another.

    Arrays are found by name: `observation/<name>` for each entry, or one of `observations`, `obs`, `state`, … for a
    single vector; `action` or `actions`; at will `reward` or `rewards`, and `task`, `success` and `seed`.

    Raises:
        InputError: an archive is damaged, holds a pickle or no episode.
    """
    reading = reading or Reading()
    for file in files(path):
        arrays = _arrays(file)
        if (made := trajectory(str(file), _recorded(file, arrays, reading), reading)) is not None:
            yield made


def _recorded(file: Path, arrays: Mapping[str, NDArray[Any]], reading: Reading) -> Recorded:
    facts = read_facts(_text(arrays, FACTS, file), str(file))
    available = [name for name in arrays if name.startswith(_OBSERVATION)]
    available = available or [name for name in _STATES if name in arrays][:1]
    if reading.observation is not None:
        available = list(arrays)
    known = facts.names if facts else {}
    names = reading.names(available, lambda theirs: known.get(theirs) or _ours(theirs), str(file))
    actions = _named(arrays, reading.action, _ACTIONS, file, "action")
    if actions is None:
        raise InputError(
            f"{file} has no actions, but {', '.join(sorted(arrays)[:12]) or 'nothing'}. Say under 'action' in a file "
            "for `amf import --keys` which array they are."
        )
    success, seed = arrays.get("success"), arrays.get("seed")
    return Recorded(
        observations={ours: arrays[theirs] for theirs, ours in names.items()},
        actions=actions,
        rewards=_named(arrays, reading.reward, _REWARDS, file, "reward"),
        task=_text(arrays, "task", file),
        seed=as_seed(seed, f"{file}: 'seed'"),
        success=None if success is None else as_flag(success, f"{file}: 'success'"),
        facts=facts,
    )


def _ours(theirs: str) -> str:
    return theirs.removeprefix(_OBSERVATION) if theirs.startswith(_OBSERVATION) else STATE


def _named(
    arrays: Mapping[str, NDArray[Any]], name: str | None, usual: tuple[str, ...], file: Path, key: str
) -> NDArray[Any] | None:
    if name is not None and name not in arrays:
        raise InputError(f"{file} has no array '{name}'. Correct '{key}' in the file of --keys.")
    return arrays[name] if name is not None else next((arrays[each] for each in usual if each in arrays), None)


def _text(arrays: Mapping[str, NDArray[Any]], name: str, file: Path) -> str | None:
    if name not in arrays:
        return None
    array = arrays[name]
    if array.dtype.kind != "U" or array.size != 1:
        raise InputError(f"{file}: '{name}' is {array.dtype} of shape {list(array.shape)}, not one text. {AGAIN}")
    return str(array.reshape(-1)[0])


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    """Every array of an archive by name."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MOST_ARRAYS:
                raise InputError(f"{file} holds {len(members)} files; an episode has {_MOST_ARRAYS} at most. {AGAIN}")
            check_size((sum(member.file_size for member in members),), 1, str(file))
            return {_name(member, file): _array(archive, member, file) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{file} is truncated or no archive of numpy ({str(error)[:100]}). {AGAIN}") from error


def _name(member: zipfile.ZipInfo, file: Path) -> str:
    if not member.filename.endswith(".npy"):
        raise InputError(f"{file} holds '{member.filename[:80]}', which is no array. Write it with numpy.savez.")
    return member.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: Path) -> NDArray[Any]:
    what = f"{file}: '{member.filename[:80]}'"
    with archive.open(member) as stream:
        try:
            version = npy.read_magic(stream)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if read is None:
                raise ValueError(f"version {version} of the format")
            shape, fortran, dtype = read(stream, max_header_size=10_000)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise InputError(f"{what} is no array of numpy ({str(error)[:100]}). {AGAIN}") from error
        if dtype.hasobject:
            raise InputError(
                f"{what} is a Python pickle, which runs code when it is read, and is not read here. Save it as numbers "
                "or as text."
            )
        check_size(shape, dtype.itemsize, what)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        content = stream.read(min(size + 1, MOST_BYTES))
    if len(content) != size:
        raise InputError(f"{what} has {len(content)} bytes, but shape {list(shape)} of {dtype}. {AGAIN}")
    flat = np.frombuffer(bytearray(content), dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
