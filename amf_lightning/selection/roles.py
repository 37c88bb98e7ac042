"""The two roles of the states expected of a task, and how episodes are thinned: trajectories, or bare features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Shown = TypeVar("Shown")
"""What an episode is: a trajectory, or its features."""


@dataclass(frozen=True, eq=False)
class Piece(Generic[Shown]):
    """One episode in one role: read for `task`, an index, with its probability among those of that task."""

    episode: Shown
    task: int
    weight: float
    phase: float = 0.5
    """Where between two kept steps the first lies."""


Roles = tuple[list[Piece[Shown]], list[Piece[Shown]]]
"""Candidates, which a demonstration would show, and targets, at which the expert has to be known."""


def equally_probable(episodes: Sequence[Shown], task: int, phase: float = 0.5) -> list[Piece[Shown]]:
    """All of them for one task."""
    return [Piece(episode, task, 1 / len(episodes), phase) for episode in episodes]


def separated(episodes: Sequence[Shown], task: int) -> Roles[Shown]:
    """Candidates and targets among the same episodes: every other one, or different states of the only one."""
    if len(episodes) == 1:
        return equally_probable(episodes, task, phase=0.75), equally_probable(episodes, task, phase=0.25)
    return equally_probable(episodes[1::2], task), equally_probable(episodes[::2], task)


def observed_and_judged(demonstrated: Sequence[Shown], others: Sequence[Shown], task: int) -> Roles[Shown]:
    """Candidates are the expert's own episodes, targets the others; where one kind is missing the other is both.

    Args:
        demonstrated: the expert's, the latest.
        others: not the expert's: rollouts of a policy, say.
        task: index; at least one episode is of one kind.
    """
    if demonstrated and others:
        return equally_probable(demonstrated, task), equally_probable(others, task)
    return separated(demonstrated or others, task)


def thinned_steps(length: int, states: int, phase: float = 0.5) -> Tensor:
    """Steps of an episode of `length` that are kept, evenly spaced, [S] int64.

    An episode shorter than S repeats steps: a step that is kept twice weighs twice, so nothing else has to change.

    >>> thinned_steps(200, 4).tolist(), thinned_steps(2, 4).tolist()
    ([25, 75, 125, 175], [0, 0, 1, 1])
    """
    return ((torch.arange(states, dtype=torch.float64) + phase) * (length / states)).floor().to(torch.int64)
