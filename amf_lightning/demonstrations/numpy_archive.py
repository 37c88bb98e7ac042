"""An episode as an archive of numpy, `.npz`. No Python objects are read from it: they would run code."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.trajectory import Trajectory

_OBSERVATION, _ACTION, _REWARD = "observation/", "action", "reward"
_ABOUT = ("task", "success", "seed")
_MOST_BYTES = 4 * 2**30
"""Of all arrays of one archive, unpacked: a small file may unpack to more than a disk holds."""
AGAIN = "Write it with numpy.savez: observation/<name>, action and, at will, reward, task, success, seed."


def read_archive(path: Path) -> Trajectory:
    """The episode in an archive.

    Its arrays are `observation/<name>` for each entry (`observation` alone is the entry `state`), [T, …] or [T + 1, …];
    `action`, [T, A]; at will `reward`, [T], and a single `task` (text), `success` and `seed`.

    Raises:
        InputError: it is damaged, holds Python objects or something else than an episode, or too much.
    """
    arrays = _arrays(path)
    observations = {
        name.removeprefix(_OBSERVATION) if name != "observation" else STATE: array
        for name, array in sorted(arrays.items())
        if name.startswith(_OBSERVATION) or name == "observation"
    }
    known = {_ACTION, _REWARD, *_ABOUT}
    foreign = [name for name in arrays if name not in known and name.partition("/")[0] != "observation"]
    if foreign or _ACTION not in arrays or not observations:
        raise InputError(f"{path} holds {', '.join(sorted(arrays)[:12]) or 'nothing'}, no episode. {AGAIN}")
    for name in (_ACTION, *([_REWARD] if _REWARD in arrays else [])):
        if arrays[name].dtype.kind not in "biuf":
            raise InputError(f"{path}: '{name}' holds {arrays[name].dtype}, no numbers. {AGAIN}")
    rewards = arrays.get(_REWARD)
    success, seed = _one(path, arrays, "success", "b"), _one(path, arrays, "seed", "iu")
    try:
        return Trajectory(
            observations,
            arrays[_ACTION].astype(np.float32),
            rewards=None if rewards is None else rewards.astype(np.float64),
            task=str(_one(path, arrays, "task", "U") or ""),
            seed=None if seed is None else int(seed),
            success=None if success is None else bool(success),
        )
    except InputError as error:
        raise InputError(f"{path} is no episode: {error}") from error


def _one(path: Path, arrays: dict[str, NDArray[Any]], name: str, kinds: str) -> Any:
    """The single value of that name; None if there is none."""
    if (array := arrays.get(name)) is None:
        return None
    if array.dtype.kind not in kinds or array.size != 1:
        raise InputError(f"{path}: '{name}' is {array.dtype} of shape {list(array.shape)}, not one value. {AGAIN}")
    return array.reshape(-1)[0]


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > _MOST_BYTES:
                raise InputError(f"{path} unpacks to {size} bytes; at most {_MOST_BYTES} are read.")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, SyntaxError) as error:
        raise InputError(
            f"{path} is truncated or no archive of numpy ({' '.join(str(error).split())[:120]}). {AGAIN}"
        ) from error
