"""Rows and gradients in every precision; in 16-mixed losses are scaled, and so are the gradients before a step."""

import torch
from lightning.pytorch.plugins import Precision
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from amf_lightning.demonstrations.batches import MicroBatch
from amf_lightning.errors import InputError
from amf_lightning.tasks.steps import Steps

SCALED = "16-mixed"
"""The precision of `trainer.precision` in which losses are scaled."""


def converted(microbatch: MicroBatch, precision: Precision, device: torch.device) -> MicroBatch:
    """The rows of a micro-batch in the trainer's precision and on a device."""
    # Lightning converts nests of plain types only.
    plain = {name: precision.convert_input(rows.tensors()) for name, rows in microbatch.items()}
    rows_of = {name: Steps.from_tensors(tensors) for name, tensors in plain.items()}
    if device.type == "cpu":  # to ask each tensor is 2 % of a step
        return rows_of
    return {name: rows.to(device) for name, rows in rows_of.items()}


def scaled_back(optimizer: Optimizer, precision: str, clip: int | float | None) -> Optimizer:
    """The optimiser, before whose steps gradients are scaled back in time.

    Args:
        optimizer: of the trained weights.
        precision: `trainer.precision`.
        clip: norm or value that gradients are clipped to; None or 0 clips nothing.

    Raises:
        InputError: gradients are to be clipped that the optimiser itself scales back afterwards, as fused ones do.
    """
    if precision == SCALED and clip and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise InputError(
            f"In precision {SCALED} a fused {type(optimizer).__name__} scales the gradients back by itself, when they "
            "have been clipped already. Set trainer.precision: bf16-mixed, trainer.gradient_clip_val: 0, or "
            f"model.optimizer: {{class_path: {type(optimizer).__name__}, init_args: {{fused: false}}}}."
        )
    return optimizer


def clip_gradients(optimizer: Optimizer, largest: int | float, algorithm: str | None) -> None:
    """Clips the gradients of all weights of an optimiser. Lightning's own refuses fused ones in bf16-mixed too.

    Args:
        optimizer: whose weights have complete gradients.
        largest: norm of all gradients together, or size of each entry; 0 or less clips nothing.
        algorithm: `value` for entries, else the norm.
    """
    if largest <= 0:
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if algorithm == "value":
        clip_grad_value_(weights, largest)
    else:
        clip_grad_norm_(weights, largest)
