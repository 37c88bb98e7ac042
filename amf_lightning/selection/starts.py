"""Where to start a demonstration: as that one of a task's episodes does on which least is known, if it stands out."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.information_gain import Problem
from amf_lightning.selection.occupancies import Expected
from amf_lightning.tasks.start_state import StartState
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.uncertainty.posterior import Posterior

FEWEST, _STANDS_OUT = 3, 1.25
"""With fewer episodes of a task nothing is said; and what is not known of the one that is named is at least that many
times the median of the others."""


@dataclass(frozen=True)
class Outlier:
    """An episode of which much less is known than of the others of its task."""

    episode: int
    unknown: float
    others: float
    """The median."""


def standing_out(unknown: Tensor, named: Collection[int]) -> Outlier | None:
    """The episode of which least is known, if it stands out.

    Args:
        unknown: how little is known of each episode, [E]; none is negative.
        named: episodes that were said before, and are not said again.
    """
    if len(unknown) < FEWEST:
        return None
    left = unknown.clone()
    left[list(named)] = -torch.inf
    best = int(left.argmax())
    others = float(torch.cat([unknown[:best], unknown[best + 1 :]]).median())
    if best in named or not float(unknown[best]) > 0 or float(unknown[best]) < _STANDS_OUT * others:
        return None
    return Outlier(best, float(unknown[best]), others)


def mean_variances(belief: Posterior, points: Tensor) -> Tensor:
    """Mean variance of the belief over the points of each episode [E, S, P]; [E] float64 on the CPU."""
    return belief.variance(belief.prepare(points)).to(torch.float64).mean(1).cpu()


class RolledOut:
    """The rollouts that a choice has looked at, by task, and which of them it has named. Nothing is simulated here.

    Args:
        expected: what the occupancy gave.
        context: of the choice. Its demonstrations are no rollouts, in whatever role they were looked at.
    """

    def __init__(self, expected: Expected, context: SelectionContext) -> None:
        shown = {id(demonstration) for demonstration in context.demonstrations}
        self._rows: dict[int, dict[int, int]] = {}
        self._episodes: dict[int, Trajectory] = {}
        first = 0
        for blocks in (expected.candidates, expected.targets):
            # An occupancy of the user's may not say which episodes they were.
            for row, (task, episode) in enumerate(zip(blocks.tasks.tolist(), blocks.episodes, strict=False), first):
                if id(episode) not in shown:  # a rollout may play both roles
                    self._rows.setdefault(task, {}).setdefault(id(episode), row)
                    self._episodes[row] = episode
            first += len(blocks.tasks)
        self._pictures = {name for name, spec in context.suite.observation.items() if spec.is_image}
        self._named: dict[int, set[int]] = {}

    @property
    def enough(self) -> bool:
        """Whether a start can be said of any task."""
        return any(len(rows) >= FEWEST for rows in self._rows.values())

    def start(self, task: int, unknown: Callable[[list[int]], Tensor]) -> StartState | None:
        """Where to start the next demonstration of a task; None where no rollout stands out, or there are few.

        Args:
            task: its index.
            unknown: how little is known of the trajectories of these rows, the candidates' before the targets', [E].
        """
        rows = list(self._rows.get(task, {}).values())
        named = self._named.setdefault(task, set())
        if len(rows) < FEWEST or (found := standing_out(unknown(rows), named)) is None:
            return None
        named.add(found.episode)
        episode = self._episodes[rows[found.episode]]
        return StartState.of(episode.seed, _numbers(episode, self._pictures), found.unknown, found.others)


class BelievedStarts:
    """The starts of a batch, by what a belief does not know of the rollouts that were looked at.

    Args:
        expected: what the occupancy gave.
        context: of the choice.
        problem: the same states as points of the belief.
    """

    def __init__(self, expected: Expected, context: SelectionContext, problem: Problem) -> None:
        self._rolled_out = RolledOut(expected, context)
        self._problem = problem
        self._starts: list[StartState | None] = []

    def name(self, belief: Posterior, task: int) -> None:
        """Names the start of the next pick, of that task, by the belief before it."""
        candidates, targets = self._problem.candidates.points, self._problem.targets.points

        def unknown(rows: list[int]) -> Tensor:
            of = [candidates[row] if row < len(candidates) else targets[row - len(candidates)] for row in rows]
            return mean_variances(belief, torch.stack(of))

        self._starts.append(self._rolled_out.start(task, unknown))

    def of_picks(self, unexplained: int = 0) -> tuple[StartState | None, ...]:
        """`Selection.starts` of a batch whose first picks, that many, were not named."""
        return (None,) * unexplained + tuple(self._starts) if any(self._starts) else ()


def _numbers(episode: Trajectory, pictures: Collection[str]) -> dict[str, tuple[float, ...]]:
    """The first observation, but for pictures."""
    return {
        name: tuple(map(float, entry[0].ravel()))
        for name, entry in episode.observations.items()
        if name not in pictures
    }
