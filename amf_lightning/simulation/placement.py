"""Rows whose bits depend on their place in a batch, and how far apart they have to lie not to.

MKL adds the products of a narrow layer (up to 11 outputs, measured) in an order that depends on where in memory a row
begins: on its address modulo 16 bytes. Rows of 4·n numbers of float32 all begin alike, and so does every fourth row of
any length. Wider layers, and those of one output, do not depend on it.
"""

import torch
from torch import nn

_APART = 4
_NARROW = 16


def rows_apart(acting: object) -> int:
    """At every which row of a batch an episode has to lie so that its place makes no difference: 1, or 4.

    4 for anything with a linear layer that is narrow, or an attention whose heads are, of rows that are no multiple of
    4 numbers long; it then computes four times as many rows. What a module computes without such layers cannot be seen
    here: the check at the start of a run (policies/preflight.py) tries it, and warns.

    Args:
        acting: a module, or an object that has some among its attributes.

    >>> rows_apart(nn.Sequential(nn.Linear(18, 64), nn.Linear(64, 6))), rows_apart(nn.Linear(18, 6))
    (1, 4)
    """
    if isinstance(acting, nn.Module):
        held = [acting]
    else:
        held = [each for each in getattr(acting, "__dict__", {}).values() if isinstance(each, nn.Module)]
    return _APART if any(_depends(module) for each in held for module in each.modules()) else 1


def _depends(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return 1 < module.out_features < _NARROW and module.in_features % _APART > 0
    return isinstance(module, nn.MultiheadAttention) and module.head_dim % _APART > 0


def spaced(entry: torch.Tensor, apart: int) -> torch.Tensor:
    """A copy of rows [N, …] in which each stands `apart` times, [N·apart, …]."""
    return entry.clone() if apart == 1 else entry.repeat_interleave(apart, dim=0)
