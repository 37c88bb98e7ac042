"""How much each task is in need, as all measurements of its gap say, whatever demonstrations did. Pure tensors."""

import torch
from torch import Tensor

_START = (0.5, 0.4)
"""Mean and standard deviation of a gap before anything is measured."""
_WANDERS = 0.1
"""Standard deviation of what happens to a gap from one round to the next."""


def seen_needs(measured: Tensor, error: float) -> Tensor:
    """The expected gap of each task after the last round, if gaps wander: a Kalman filter of every task by itself.

    What demonstrations are expected to do does not enter: where all tasks are learned together, presuming that a
    demonstration has closed the gap of its own task most hides the tasks that go on failing
    (docs/studies/calibration.md).

    Args:
        measured: gaps in each round, [R, K]; NaN where nothing was measured.
        error: standard deviation of each.

    Returns:
        [K] in [0, 1].
    """
    mean, deviation = _START
    means, variance = measured.new_full(measured.shape[1:], mean), measured.new_full(measured.shape[1:], deviation**2)
    for number, gaps in enumerate(measured):
        if number:
            variance = variance + _WANDERS**2
        weight = torch.where(gaps.isfinite(), variance / (variance + error**2), 0.0)
        means = means + weight * (gaps.nan_to_num() - means)
        variance = variance * (1 - weight)
    return means.clamp(0, 1)
