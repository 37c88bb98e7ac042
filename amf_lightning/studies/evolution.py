"""Evolutionary search for the best schedule: pure, and the same again for the same scores."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import torch

from amf_lightning.seeding import Purpose, keyed_generator

Schedule = tuple[int, ...]
"""Numbers of the tasks in the order in which they are demonstrated."""
_TRIES = 100
"""Changes of a child until it is given up that they lead to a schedule nobody has tried."""


@dataclass(frozen=True)
class Evolution:
    """What a search does: (μ + λ) evolution, in which nothing is scored twice."""

    tasks: int
    """K of the suite."""
    length: int
    """N, demonstrations of a schedule."""
    generations: int
    """After the first."""
    children: int
    """λ, new schedules of a generation."""
    parents: int
    """μ, the best of all so far, from which the children come."""
    seed: int = 0
    """Of the draws."""

    def run(
        self, first: Sequence[Schedule], score: Callable[[Sequence[Schedule]], Sequence[float]]
    ) -> Iterator[dict[Schedule, float]]:
        """The scores of all schedules tried so far, in the order in which they were, after each generation.

        Every draw is keyed by (seed, generation, child), so that a search that goes on with the scores it had before
        tries what it tried before, and one with more generations begins like one with fewer.

        Args:
            first: the schedules of the first generation.
            score: of schedules that were not tried yet, each the larger the better.
        """
        known: dict[Schedule, float] = {}
        for generation in range(self.generations + 1):
            tried = self._children(known, generation) if generation else list(dict.fromkeys(first))
            known |= zip(tried, score(tried) if tried else (), strict=True)
            yield dict(known)

    def _children(self, known: dict[Schedule, float], generation: int) -> list[Schedule]:
        """New schedules, none tried before, fewer where there are no more."""
        parents = best_of(known)[: self.parents]
        children: dict[Schedule, None] = {}
        for number in range(self.children):
            generator = keyed_generator(self.seed, Purpose.SEARCH, generation, number)
            if (child := self._child(parents, {*known, *children}, generator)) is not None:
                children[child] = None
        return list(children)

    def _child(self, parents: list[Schedule], tried: set[Schedule], generator: torch.Generator) -> Schedule | None:
        """A parent, or the beginning of one and the end of another, changed until nobody has tried it."""

        def draw(count: int) -> int:
            return int(torch.randint(count, (1,), generator=generator))

        child = list(parents[draw(len(parents))])
        if draw(2):
            cut = draw(self.length + 1)
            child[cut:] = parents[draw(len(parents))][cut:]
        for _ in range(_TRIES):
            if tuple(child) not in tried:
                return tuple(child)
            here, there = draw(self.length), draw(self.length)
            match draw(4):
                case 0 | 1:
                    child[here] = draw(self.tasks)
                case 2:
                    child[here], child[there] = child[there], child[here]
                case _:
                    child.insert(there, child.pop(here))
        # Nearly all has been tried, so the next that was not is near: at most as many places on as were tried.
        every = islice(product(range(self.tasks), repeat=self.length), len(tried) + 1)
        return next((schedule for schedule in every if schedule not in tried), None)


def best_of(known: dict[Schedule, float]) -> list[Schedule]:
    """The schedules, best first; of equal ones that which was tried first."""
    return sorted(known, key=lambda schedule: -known[schedule])


def first_schedules(tasks: int, length: int, asked: Sequence[Schedule] = ()) -> list[Schedule]:
    """Where a search begins: what was asked for elsewhere, every task alone, and all in turn.

    >>> first_schedules(2, 3)
    [(0, 0, 0), (1, 1, 1), (0, 1, 0)]
    """
    alone = [(task,) * length for task in range(tasks)]
    in_turn = tuple(number % tasks for number in range(length))
    return list(dict.fromkeys([*(schedule for schedule in asked if len(schedule) == length), *alone, in_turn]))
