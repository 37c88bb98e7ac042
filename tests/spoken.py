"""The tests' own world with tasks in words: the point is pushed to a goal that a sentence names."""

from dataclasses import replace

import torch
from torch import Tensor

from amf_lightning.suites.language import TextEncoder, contexts_in_words
from amf_lightning.tasks.task import ReferenceReturns
from tiny import GOALS, TinySuite

SENTENCES = (
    "push the point far to the left",
    "push the point a little to the left",
    "push the point a little to the right",
    "push the point far to the right",
)


class SpokenSuite(TinySuite):
    """`TinySuite`, whose policies are told a sentence and whose expert is told the goal.

    Args:
        language: makes contexts of the sentences.
        goals: numbers of the goals that are tasks.
        horizon: steps of an episode.
    """

    name = "spoken"

    def __init__(self, language: TextEncoder, goals: tuple[int, ...] = (0, 1, 2, 3), horizon: int = 12) -> None:
        super().__init__(horizon)
        self._spoken = goals
        names = [SENTENCES[goal] for goal in goals]
        contexts = contexts_in_words("SpokenSuite", names, names, language)
        self.language = language.signature()
        self.tasks = tuple(
            replace(self.tasks[goal], name=name, index=index, context=context)
            for index, (goal, name, context) in enumerate(zip(goals, names, contexts, strict=True))
        )
        bad, good, some = ((number,) * len(goals) for number in (-2.0 * horizon, 0.0, 0.1))
        self.reference = ReferenceReturns(bad, good, some, "none")

    @property
    def goals(self) -> Tensor:
        return torch.tensor([[GOALS[goal]] for goal in self._spoken])
