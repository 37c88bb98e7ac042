"""A demonstration that is asked for: which task, from which seed, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amf_lightning.tasks.task import Episode, TaskSuite

NOBODY = ""
"""What stands in place of a selector's name where a demonstration came that nobody had asked for."""


@dataclass(frozen=True)
class Request:
    """One demonstration, decided before its first step is taken."""

    demonstration: int
    """Its number in the run, from 0."""
    round: int
    """The round in which it was asked for, or came if nobody asked."""
    task: str
    task_index: int
    selector: str
    """Class name of what chose it; `NOBODY` if the demonstration came without being asked for."""
    scores: tuple[float, ...]
    """Score of every task at the moment of the choice, [K]; NaN where a task had none."""
    seed: int
    """Seed of the episode."""

    def __post_init__(self) -> None:
        # One NaN object for all: tuples compare by identity first, so that requests read twice are equal.
        object.__setattr__(self, "scores", tuple(math.nan if math.isnan(score) else score for score in self.scores))

    @property
    def asked(self) -> bool:
        """Whether somebody asked for it."""
        return self.selector != NOBODY

    def why(self, task_names: Sequence[str]) -> str:
        """One sentence on the choice, with its score and the runner-up's.

        Args:
            task_names: in the order of the suite, [K].

        >>> Request(4, 2, "left", 0, "InformationGain", (0.5, 0.25), 7).why(["left", "right"])
        'Demonstration 4 (round 2): left, chosen by InformationGain with score 0.5; runner-up right with 0.25.'
        """
        text = f"Demonstration {self.demonstration} (round {self.round}): {self.task}"
        if not self.asked:
            return f"{text}, which came without being asked for."
        others = [
            (score, name)
            for index, (score, name) in enumerate(zip(self.scores, task_names, strict=True))
            if index != self.task_index and not math.isnan(score)
        ]
        text = f"{text}, chosen by {self.selector}"
        if math.isnan(self.scores[self.task_index]) or not others:
            return f"{text}."
        score, name = max(others)
        return f"{text} with score {self.scores[self.task_index]:.4g}; runner-up {name} with {score:.4g}."

    def episode(self, suite: "TaskSuite", number: int | None = None) -> "Episode":
        """The episode that an expert is asked for.

        Args:
            suite: of the run.
            number: which demonstration of its task this is, from 0; see `Episode.number`.
        """
        from amf_lightning.tasks.task import Episode  # imports torch

        return Episode(suite.tasks[self.task_index], self.seed, number)


def scores_to_json(scores: Sequence[float]) -> list[float | str | None]:
    """Scores in the words of JSON: NaN is null, infinities are strings.

    >>> scores_to_json([0.5, math.nan, -math.inf])
    [0.5, None, '-inf']
    """
    return [None if math.isnan(score) else float(score) if math.isfinite(score) else str(score) for score in scores]


def scores_from_json(values: Sequence[float | str | None]) -> tuple[float, ...]:
    """Inverse of `scores_to_json`, exact.

    >>> scores_from_json([0.5, None, '-inf'])
    (0.5, nan, -inf)
    """
    return tuple(math.nan if value is None else float(value) for value in values)
