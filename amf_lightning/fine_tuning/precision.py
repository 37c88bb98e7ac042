"""What precision 16-mixed cannot go together with: its losses are scaled, and so are the gradients before a step."""

from torch.optim import Optimizer

from amf_lightning.errors import InputError

SCALED = "16-mixed"
"""The precision of `trainer.precision` in which losses are scaled."""


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
