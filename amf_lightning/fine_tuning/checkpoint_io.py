"""Checkpoints that are whole or not there: Lightning's own may be torn when a process dies while it writes."""

import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError

_FORMAT = "amf-checkpoint/1"
"""Says in a checkpoint that its SHA-256 is at its end; those of version 0.2 have none."""
_MARK, _HEX = b"amf-sha256:", 64
_NEEDED = {
    "state_dict": Mapping,
    "demonstrations": int,
    "epoch": int,
    "global_step": int,
    "loops": Mapping,
    "callbacks": Mapping,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""What a run goes on from, with its types."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint through a temporary file in the same folder, with its SHA-256, which reading compares.

    The file is what `torch.save` writes, a zip; the hash is the zip's comment, so that it travels with the file and
    `torch.load` still reads it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        # In memory first: what fails while it is serialised leaves the old checkpoint as it is.
        buffer = io.BytesIO()
        torch.save({**checkpoint, "format": _FORMAT}, buffer)
        buffer.seek(-2, os.SEEK_END)  # a zip ends with the length of its comment, of which there is none yet
        buffer.write((len(_MARK) + _HEX).to_bytes(2, "little") + _MARK)
        buffer.write(hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
        write_durably(Path(path), buffer.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location or "cpu")


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint of a run, read without running any code that is in it.

    Raises:
        InputError: it is missing, truncated, changed by as much as a bit, or something else.
    """
    try:
        with path.open("rb") as file:
            hashed = _check_hash(path, file)
            with warnings.catch_warnings(action="ignore"):  # of odd protocols: the error below says enough
                checkpoint = torch.load(file, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"There is no checkpoint {path}. A run keeps its own in checkpoints/last.ckpt.") from None
    except (InputError, MemoryError, PermissionError):
        raise
    except Exception as error:  # the unpickler meets random bytes with whatever they lead it to
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise InputError(f"{path} is truncated or not a checkpoint ({reason}). {_advice(path)}") from None
    if not isinstance(checkpoint, dict) or "suite" not in checkpoint or "state_dict" not in checkpoint:
        raise InputError(f"{path} is not a checkpoint of this package. Give a run's checkpoints/last.ckpt.")
    if "format" in checkpoint and not hashed:
        raise InputError(f"{path} is truncated or not a checkpoint (its SHA-256 is gone). {_advice(path)}")
    return checkpoint


def _check_hash(path: Path, file: BinaryIO) -> bool:
    """Whether the file carries its SHA-256; InputError if it is not that of what stands before it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _HEX - len(_MARK)))
    mark, sha256 = file.read(len(_MARK)), file.read()
    file.seek(0)
    if mark != _MARK:
        return False
    digest, remaining = hashlib.sha256(), size - _HEX
    while remaining and (block := file.read(min(remaining, 2**20))):
        digest.update(block)
        remaining -= len(block)
    file.seek(0)
    if digest.hexdigest().encode() != sha256:
        raise InputError(f"{path} was changed after it was written: its SHA-256 is another. {_advice(path)}")
    return True


def _advice(path: Path) -> str:
    """What to do about a checkpoint that cannot be used."""
    if (path.parent.parent / "ledger.sqlite").is_file():
        return (
            "Restore it, or remove it: the same command then trains again from the start on the demonstrations, all of "
            "which the run has kept, asks for none of them twice, and comes to the same policy."
        )
    return "Restore it, or give another."


def check_checkpoint(path: Path, suite: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> None:
    """Checks that a checkpoint belongs to a suite, by its signature, and fits a module, by the shapes of its tensors.

    Raises:
        InputError: it does not, and which difference comes first; or it cannot be read, or something in it is missing.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint["suite"] != suite:
        raise InputError(f"{path} belongs to another suite: {checkpoint['suite']} instead of {suite}.")
    if missing := [name for name, kind in _NEEDED.items() if not isinstance(checkpoint.get(name), kind)]:
        raise InputError(f"{path} has no usable '{missing[0]}', which every checkpoint has. {_advice(path)}")
    tensors = checkpoint["state_dict"].items()
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    shapes_there = {name: tuple(tensor.shape) for name, tensor in tensors if isinstance(tensor, Tensor)}
    for name in sorted(shapes.keys() | shapes_there.keys()):
        if shapes.get(name) != shapes_there.get(name):
            raise InputError(
                f"{path} does not fit the configured policy: '{name}' has shape {shapes_there.get(name)} in the "
                f"checkpoint and {shapes.get(name)} here. Give model.policy the options of that run."
            )
