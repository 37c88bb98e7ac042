"""A batch of tasks, one after the other, each as if the ones before it had been demonstrated. Pure tensors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from amf_lightning.selection.context import argmax_keyed
from amf_lightning.selection.information_gain import Blocks
from amf_lightning.uncertainty.posterior import Posterior

_TIE = 1e-9
"""Scores closer than this, relative to the largest, are ties: rounding must not choose between equal tasks."""


def choose_greedily(
    posterior: Posterior,
    candidates: Blocks,
    score: Callable[[Posterior], Tensor],
    batch_size: int,
    allowed: Callable[[Sequence[int]], Tensor],
    generator: Callable[[int], torch.Generator],
    pending: Sequence[int] = (),
    picked: Callable[[Posterior, int], object] = lambda belief, task: None,
) -> tuple[list[int], list[Tensor]]:
    """Picks `batch_size` tasks, conditioning on the expected states of each before the next (method, section 2).

    Args:
        posterior: the belief before the first pick; it is not changed.
        candidates: the states expected of a demonstration of each task.
        score: score of each task under a belief, [K]; NaN where a task has none.
        batch_size: B.
        allowed: tasks that can be picked after these, [K] bool, at least one of them.
        generator: randomness for ties at each position of the batch.
        pending: tasks whose demonstrations have been asked for and have not come: the belief is conditioned on their
            expected states first (BoTorch's `X_pending`).
        picked: is told the belief before each pick, and the pick.

    Returns:
        The picks, and for each the scores [K] at that moment.
    """
    picks: list[int] = []
    scores: list[Tensor] = []
    for task in pending:
        posterior = condition_on_task(posterior, candidates, task)
    for position in range(batch_size):
        if picks:
            posterior = condition_on_task(posterior, candidates, picks[-1])
        current = score(posterior).to("cpu", torch.float64)
        left = allowed(picks)
        picks.append(argmax_keyed(level_ties(current, left), left, generator(position)))
        scores.append(current)
        picked(posterior, picks[-1])
    return picks, scores


def condition_on_task(posterior: Posterior, candidates: Blocks, task: int) -> Posterior:
    """The belief once a demonstration of `task` has come: P += Σ_i p_i Φ_iᵀΦ_i/n over its expected trajectories.

    The same belief if none is expected of it.
    """
    chosen = candidates.tasks == task
    if not chosen.any():
        return posterior
    # Only one of the trajectories will come: each counts by its probability, as an observation with more noise.
    noise = (candidates.noise[chosen] / candidates.weights[chosen])[:, None].expand(-1, candidates.points.shape[1])
    return posterior.condition(candidates.points[chosen].flatten(0, 1), noise.flatten())


def level_ties(scores: Tensor, allowed: Tensor) -> Tensor:
    """Scores [K] with all that nearly equal the largest allowed one set to it, and NaN to −∞.

    >>> level_ties(torch.tensor([1.0, 1.0 - 1e-12, 0.5], dtype=torch.float64), torch.tensor([True, True, True]))
    tensor([1.0000, 1.0000, 0.5000], dtype=torch.float64)
    """
    scores = torch.where(scores.isnan(), torch.full_like(scores, -torch.inf), scores)
    best = scores[allowed].max()
    return torch.where(scores >= best - _TIE * best.abs(), best, scores)
