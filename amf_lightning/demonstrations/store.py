"""Demonstrations as files: one safetensors file each, on the disk before anybody counts it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

_FORMAT = "amf-demonstration/1"
_ARRAYS = {"observations": np.float32, "actions": np.float32, "rewards": np.float64}


class DemonstrationStore:
    """A folder of demonstrations, `000000.safetensors`, `000001.safetensors`, …

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
            InputError: the file that is there is not demonstration `index`.
        """
        path = self.path(index)
        if path.exists():
            try:
                self.read(index)
            except InputError as error:
                raise InputError(f"{error} If it is not needed, move it away and run again.") from error
        content = _encode(index, trajectory)
        write_durably(path, content)
        return hashlib.sha256(content).hexdigest()

    def digest(self, index: int, trajectory: Trajectory) -> str:
        """The SHA-256 that `write` would return. Nothing is written."""
        return hashlib.sha256(_encode(index, trajectory)).hexdigest()

    def read(self, index: int, sha256: str | None = None, task: str | None = None) -> Trajectory:
        """Demonstration `index`, bit for bit as it was written.

        Args:
            index: its number.
            sha256: hash that the ledger has recorded for it, compared if given.
            task: name of the task that it should show, compared if given.

        Raises:
            InputError: the file is missing, truncated, of another format, index or task, or has another hash.
        """
        path = self.path(index)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _refused(path, f"cannot be read ({error.strerror})") from error
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise _refused(path, "was changed or damaged after it was recorded: its SHA-256 is not the ledger's")
        trajectory = _decode(path, content, index)
        if task is not None and trajectory.task != task:
            raise _refused(path, f"shows task '{trajectory.task}', not '{task}'")
        return trajectory

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


def _refused(path: Path, reason: str) -> InputError:
    return InputError(f"Demonstration {path} {reason}. Restore the file from a copy, or start a new run folder.")


def _encode(index: int, trajectory: Trajectory) -> bytes:
    about = {
        "format": _FORMAT,
        "index": index,
        "task": trajectory.task,
        "seed": int(trajectory.seed),
        "success": bool(trajectory.success),
        "metrics": {name: float(value) for name, value in trajectory.metrics.items()},
        # Left out where it is the usual one: files and hashes stay those of versions that did not know it.
        **({} if trajectory.noise == 1 else {"noise": float(trajectory.noise)}),
    }
    arrays = {name: np.ascontiguousarray(getattr(trajectory, name), dtype) for name, dtype in _ARRAYS.items()}
    # One metadata entry only: safetensors writes several in an arbitrary order, and the hash would not be reproducible.
    return save(arrays, {"demonstration": json.dumps(about, sort_keys=True)})


def _decode(path: Path, content: bytes, index: int) -> Trajectory:
    try:
        arrays: dict[str, Any] = {name: array.copy() for name, array in load(content).items()}
        about = _metadata(content)
        if about["format"] != _FORMAT:
            raise _refused(path, f"has format '{about['format']}', not '{_FORMAT}'")
        if about["index"] != index:
            raise _refused(path, f"is demonstration {about['index']} under another name")
        if {name: array.dtype for name, array in arrays.items()} != _ARRAYS:
            found = ", ".join(f"{name} ({array.dtype})" for name, array in sorted(arrays.items())) or "nothing"
            raise _refused(path, f"holds {found} instead of {', '.join(_ARRAYS)}")
        noise = float(about.get("noise", 1.0))
        about = {name: about[name] for name in ("task", "seed", "success", "metrics")}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _refused(path, f"is truncated or not a demonstration ({type(error).__name__}: {error})") from error
    try:
        return Trajectory(**arrays, **about, noise=noise)
    except InputError as error:
        raise _refused(path, f"is not a valid demonstration ({error})") from error


def _metadata(content: bytes) -> dict[str, Any]:
    """The header of a safetensors file: 8 bytes of its length, then JSON, whose `__metadata__` maps str to str."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about: dict[str, Any] = json.loads(header["__metadata__"]["demonstration"])
    return about
