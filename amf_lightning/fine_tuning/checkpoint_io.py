"""Checkpoints that are whole or not there: Lightning's own may be torn when a process dies while it writes."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint through a temporary file in the same folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        # In memory first: what fails while it is serialised leaves the old checkpoint as it is.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_durably(Path(path), buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of a run, read without running any code that is in it.

    Raises:
        InputError: it is missing, truncated, or something else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd protocols: the error below says enough
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"There is no checkpoint {path}. A run keeps its own in checkpoints/last.ckpt.") from None
    except Exception as error:  # the unpickler meets random bytes with whatever they lead it to
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is truncated or not a checkpoint ({reason}). Restore it, or start in a new run folder."
        ) from None
    if not isinstance(checkpoint, dict) or "suite" not in checkpoint or "state_dict" not in checkpoint:
        raise InputError(f"{path} is not a checkpoint of this package. Give a run's checkpoints/last.ckpt.")
    return checkpoint


def check_checkpoint(path: Path, suite: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> None:
    """Checks that a checkpoint belongs to a suite, by its signature, and fits a module, by the shapes of its tensors.

    Raises:
        InputError: it does not, and which difference comes first; or it cannot be read.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint["suite"] != suite:
        raise InputError(f"{path} belongs to another suite: {checkpoint['suite']} instead of {suite}.")
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    shapes_there = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    for name in sorted(shapes.keys() | shapes_there.keys()):
        if shapes.get(name) != shapes_there.get(name):
            raise InputError(
                f"{path} does not fit the configured policy: '{name}' has shape {shapes_there.get(name)} in the "
                f"checkpoint and {shapes.get(name)} here. Give model.policy the options of that run."
            )
