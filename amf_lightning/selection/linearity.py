"""Whether all tasks are one linear function of the numbers that policies are told. Pure tensors."""

import math

import torch
from torch import Tensor

from amf_lightning.selection.learning_worlds import CorrelatedTasks, LinearTasks

_WORLDS = 1024
"""Samples of each kind of world, at most."""
_NOT_DONE = 0.2
"""The mean gap of the tasks that nobody was shown, above which what was shown of others was not enough for them."""


def foretells_linear(contexts: Tensor, before: Tensor, gaps: Tensor, probability: float) -> bool:
    """Whether the gaps of π0 make it the more probable that tasks are linear, beside that they have nothing in common.

    False where they cannot say it: where contexts are equally far apart, where π0 was shown all tasks or none, and
    where nothing was seen of it.

    Args:
        contexts: of all tasks, [K, C] float64.
        before: π0's demonstrations of each task, [K] float64.
        gaps: of π0, [K]; NaN where nothing was seen.
        probability: that tasks are linear, before anything is seen; below 1.
    """
    shown_some = bool(before.any()) and not bool(before.all())
    if not probability or not shown_some or not gaps.isfinite().any() or not LinearTasks.may_hold(contexts):
        return False
    linear = LinearTasks(contexts, before, 0.0, _WORLDS)
    apart = CorrelatedTasks(torch.eye(len(before), dtype=torch.float64), before, 0.0, 0.0, _WORLDS)
    odds = math.log(probability / (1 - probability))
    return odds + linear.foretold(gaps) - apart.foretold(gaps) > 0


def still_linear(before: Tensor, counts: Tensor, gaps: Tensor, errors: Tensor, resolution: float) -> bool:
    """Whether tasks that began as linear are still to be taken for it: nothing that came since speaks against it.

    If tasks are linear, what nobody was shown is done once enough was shown of others. So it does speak against it if
    the gaps of the tasks that nobody was ever shown are large, in the mean over them and over the policies after π0; or
    if a demonstration of a task that had not been shown came, after the first round, and the policy was no better on it
    than the mean action. And where the mean gap of all tasks and of these policies is below `resolution`, what is seen
    could not speak against it any more.

    Args:
        before: π0's demonstrations of each task, [K] float64.
        counts: demonstrations of each task that came in each closed round, [R, K] float64.
        gaps: of the policies after each of them, [R, K]; NaN where nothing was seen.
        errors: of the policy on the demonstrations of each task that came in each round, before it was trained on
            them, relative to that of the mean action and at most 1, mean over them, [R, K]; NaN where nothing is known.
        resolution: the gap below which what is seen cannot tell how much of a task is done.
    """
    if not len(counts):
        return True
    shown = before + counts.cumsum(0)
    never, new = gaps[:, shown[-1] == 0], errors[1:][shown[:-1] == 0]
    against = float(never.nanmean()) > _NOT_DONE or bool((new >= 1).any())
    return not against and not float(gaps.nanmean()) < resolution
