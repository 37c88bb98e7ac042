"""Demonstrations as files: one safetensors file each, on the disk before anybody counts it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from amf_lightning.demonstrations.mapped_tensors import DTYPES, MAX_HEADER, map_tensors, read_first, read_tensors
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.trajectory import Trajectory

_FORMAT = "amf-demonstration/2"
_OBSERVATION, _ACTION, _REWARD = "observation/", "action", "reward"
_VERSION_0_1 = "amf-demonstration/1"
_NAMES_0_1 = {"observations": _OBSERVATION + STATE, "actions": _ACTION, "rewards": _REWARD}

Arrays = Mapping[str, NDArray[Any]]


class DemonstrationStore:
    """A folder of demonstrations, `000000.safetensors`, `000001.safetensors`, …

    A file has a tensor for each entry of the observation, `observation/<name>`, one for the actions, `action`, and one
    for the rewards, `reward`, if there are any; what else there is to say stands in its metadata, as JSON.

    Which of them exist is the ledger's business, not that of a listing of the folder: a file that is not recorded
    there does not count, and is replaced when its demonstration is collected again.

    Args:
        folder: created at the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, index: int) -> Path:
        """Where demonstration `index` lies."""
        return self.folder / f"{index:06d}.safetensors"

    def write(self, index: int, trajectory: Trajectory) -> str:
        """Writes a demonstration durably and returns the SHA-256 of its file, the same for the same trajectory.

        A demonstration of that index that is there already is replaced: a killed process repeats what it had not
        recorded. Anything else under that name is left alone.

        Raises:
            InputError: the file that is there is not demonstration `index`, or the trajectory has numbers of a type, or
                metrics of a length, that no file holds.
        """
        path = self.path(index)
        if path.exists():
            try:
                _read_whole(path, index)
            except InputError as error:
                raise InputError(f"{error} If it is not needed, move it away and run again.") from error
        content = _encode(path, index, trajectory)
        write_durably(path, content)
        return hashlib.sha256(content).hexdigest()

    def digest(self, index: int, trajectory: Trajectory) -> str:
        """The SHA-256 that `write` would return. Nothing is written."""
        return hashlib.sha256(_encode(self.path(index), index, trajectory)).hexdigest()

    def read(self, index: int, sha256: str | None = None, task: str | None = None) -> Trajectory:
        """Demonstration `index`, bit for bit as it was written, its entries in the order of their names.

        The arrays are views of the file, whose bytes are read when they are looked at: more demonstrations can be held
        than fit into memory. The file may be replaced or deleted meanwhile, but must not be edited in place. Entries of
        floating point are looked through at once for numbers that are not finite.

        Args:
            index: its number.
            sha256: hash that the ledger has recorded for it, compared if given.
            task: name of the task that it should show, compared if given.

        Raises:
            InputError: the file is missing, truncated, of another format, index or task, or has another hash.
        """
        path = self.path(index)
        try:
            with path.open("rb") as file:
                if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise _refused(
                        path, "was changed or damaged after it was recorded: its SHA-256 is not the ledger's"
                    )
                arrays, metadata = map_tensors(path, file)
        except OSError as error:
            raise _refused(path, f"cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise _damaged(path, error) from error
        trajectory = _decode(path, arrays, metadata, index)
        if task is not None and trajectory.task != task:
            raise _refused(path, f"shows task '{trajectory.task}', not '{task}'")
        return trajectory

    def read_start(self, index: int) -> dict[str, NDArray[Any]]:
        """The entries of the first observation of demonstration `index`, to be looked at: their hash is not compared.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = self.path(index)
        try:
            with path.open("rb") as file:
                rows = read_first(file, lambda name: name.startswith(_OBSERVATION))
        except OSError as error:
            raise _refused(path, f"cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise _damaged(path, error) from error
        return {name.removeprefix(_OBSERVATION): rows[name] for name in sorted(rows)}

    def read_all(self) -> list[Trajectory]:
        """Every demonstration in the folder, in order of number.

        For demonstrations that somebody gives: in the folder of a run, what counts is the ledger's business.

        Raises:
            InputError: there is none, or one of them is damaged.
        """
        names = sorted(path.stem for path in self.folder.glob("[0-9]*.safetensors"))
        if not names:
            raise InputError(f"There are no demonstrations in {self.folder}. Give the `demonstrations` of a run.")
        return [self.read(int(name)) for name in names]


def read_file(path: Path) -> Trajectory:
    """The demonstration in a file of any name and number, in memory: the file may go away afterwards.

    Raises:
        InputError: the file is truncated or not a demonstration.
    """
    try:
        return _read_whole(path, None)
    except InputError as error:  # of a run the advice would be another
        raise InputError(f"{str(error).partition(' Restore the file ')[0]} Give a whole copy of it.") from error


def _read_whole(path: Path, index: int | None) -> Trajectory:
    """The demonstration in a file, in memory, without torch; of any number if `index` is None."""
    try:
        with path.open("rb") as file:
            arrays, metadata = read_tensors(file)
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _damaged(path, error) from error
    return _decode(path, arrays, metadata, index)


def fingerprint(trajectory: Trajectory) -> str:
    """What tells a demonstration from others, whatever its number and folder: 16 hexadecimal digits.

    >>> fingerprint(Trajectory(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), None, "reach"))
    '61bcb252708e31ed'
    """
    return DemonstrationStore(Path()).digest(0, trajectory)[:16]


def _refused(path: Path, reason: str) -> InputError:
    return InputError(f"Demonstration {path} {reason}. Restore the file from a copy, or start a new run folder.")


def _damaged(path: Path, error: Exception) -> InputError:
    return _refused(path, f"is truncated or not a demonstration ({type(error).__name__}: {error})")


def _encode(path: Path, index: int, trajectory: Trajectory) -> bytes:
    about = {
        "format": _FORMAT,
        "index": index,
        "task": trajectory.task,
        "metrics": {name: float(value) for name, value in trajectory.metrics.items()},
        **({} if trajectory.seed is None else {"seed": int(trajectory.seed)}),
        **({} if trajectory.success is None else {"success": bool(trajectory.success)}),
        **({} if trajectory.noise == 1 else {"noise": float(trajectory.noise)}),
    }
    arrays = {_OBSERVATION + name: _plain(entry) for name, entry in trajectory.observations.items()}
    arrays[_ACTION] = _plain(trajectory.actions, np.float32)
    if trajectory.rewards is not None:
        arrays[_REWARD] = _plain(trajectory.rewards, np.float64)
    for name, array in arrays.items():
        if array.dtype not in DTYPES.values():
            raise InputError(
                f"Demonstration {path} cannot be written: {name} has type {array.dtype}. Convert it to one of "
                f"{', '.join(dtype.name for dtype in DTYPES.values())}."
            )
    # One metadata entry only: safetensors writes several in an arbitrary order, and the hash would not be the same.
    content = save(arrays, {"demonstration": json.dumps(about, sort_keys=True)})
    if int.from_bytes(content[:8], "little") > MAX_HEADER:
        raise InputError(
            f"Demonstration {path} cannot be written: its metrics and names are longer than {MAX_HEADER} bytes."
        )
    return content


def _plain(array: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
    """The same numbers in C order and little-endian: equal trajectories give equal bytes."""
    return np.ascontiguousarray(array, (array.dtype if dtype is None else np.dtype(dtype)).newbyteorder("<"))


def _decode(path: Path, arrays: Arrays, metadata: Mapping[str, Any], index: int | None) -> Trajectory:
    try:
        about = json.loads(metadata["demonstration"])
        if about["format"] not in (_FORMAT, _VERSION_0_1):
            raise _refused(path, f"has format '{about['format']}', not '{_FORMAT}'")
        if index is not None and about["index"] != index:
            raise _refused(path, f"is demonstration {about['index']} under another name")
        if about["format"] == _VERSION_0_1:
            arrays = {_NAMES_0_1.get(name, name): array for name, array in arrays.items()}
        _check_arrays(path, arrays)
        facts: dict[str, Any] = {
            "task": str(about["task"]),
            "metrics": dict(about["metrics"]),
            "noise": float(about.get("noise", 1.0)),
        }
        facts |= {name: kind(about[name]) for name, kind in (("seed", int), ("success", bool)) if name in about}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error
    try:
        return Trajectory(
            observations={
                name.removeprefix(_OBSERVATION): arrays[name]
                for name in sorted(arrays)
                if name.startswith(_OBSERVATION)
            },
            actions=arrays[_ACTION],
            rewards=arrays.get(_REWARD),
            **facts,
        )
    except InputError as error:
        raise _refused(path, f"is not a valid demonstration ({error})") from error


def _check_arrays(path: Path, arrays: Arrays) -> None:
    """Raises InputError unless there are actions, an observation, at will rewards, and nothing else."""
    types = {name: array.dtype for name, array in arrays.items() if not name.startswith(_OBSERVATION)}
    valid: list[dict[str, Any]] = [{_ACTION: np.float32}, {_ACTION: np.float32, _REWARD: np.float64}]
    if types not in valid or len(types) == len(arrays):
        contents = ", ".join(f"{name} ({array.dtype})" for name, array in sorted(arrays.items())) or "nothing"
        raise _refused(
            path, f"holds {contents} instead of action (float32), observation/<name> and, at will, reward (float64)"
        )
