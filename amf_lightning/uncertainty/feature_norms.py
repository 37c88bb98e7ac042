"""Bounds on features: expected states may lie far outside all data, where the features say nothing. Pure tensors."""

import torch
from torch import Tensor


def largest_known_norm(largest: float, history: Tensor | None) -> float:
    """The largest norm among known states: `largest` of those of π0, and of the points of the history [N, P]."""
    return largest if history is None else max(largest, float(history.norm(dim=-1).max()))


def clip_norms(points: Tensor, bound: float) -> Tensor:
    """Scales rows [..., P] that are longer than `bound` back to it."""
    norms: Tensor = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
    return points * (bound / norms).clamp(max=1)
