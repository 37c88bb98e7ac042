"""A suite that nothing simulates: its tasks are done elsewhere, by a robot or in a data set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amf_lightning.errors import InputError
from amf_lightning.suites.contexts import contexts_of
from amf_lightning.suites.language import TextEncoder, contexts_in_words
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.task import Task, TaskSuite


@dataclass(frozen=True)
class StaticTask:
    """One task of a `StaticSuite`."""

    name: str
    """People read it in tables."""
    context: list[float] | None = None
    """What the policy is told, [C]; None for all tasks: one-hot, the task's number."""
    text: str | None = None
    """What to do, in words, if not the name. Only a `language` reads it."""


class StaticSuite(TaskSuite):
    """Tasks that are described and not simulated: no episode can be run in it, so nothing is scored by rollouts.

    In YAML:

        class_path: StaticSuite
        init_args:
          name: kitchen
          observation:
            state: {shape: [7]}
            image/front: {shape: [96, 96, 3], dtype: uint8}
          action_dim: 7
          tasks: [open the drawer, wipe the table]

    Args:
        name: what policies and demonstrations are tied to.
        observation: its entries by name, with shape and type of each; a single vector of floats is named `state`.
        action_dim: A, length of an action.
        tasks: names, or names with contexts; without contexts a policy is told the task's number, one-hot.
        horizon: most steps of an episode.
        discrete: whether actions are choices: one-hot vectors.
        action_bounds: what -1 and 1 stand for in the robot's own units: lows and highs, [A] each; None if for
            themselves.
        language: tells a policy what the task is in words, instead of its number, so that new tasks need no new number.

    Raises:
        InputError: no entry of the observation, no action, a horizon that is not positive, bounds that do not fit,
            tasks that cannot be told apart, or both contexts and a language.
    """

    def __init__(
        self,
        name: str,
        observation: dict[str, Spec],
        action_dim: int,
        tasks: Sequence[StaticTask | str],
        horizon: int = 1000,
        discrete: bool = False,
        action_bounds: tuple[list[float], list[float]] | None = None,
        language: TextEncoder | None = None,
    ) -> None:
        if not observation or action_dim < 1 or horizon < 1:
            raise InputError(
                f"StaticSuite: an observation needs at least one entry, action_dim and horizon must be at least 1; got "
                f"{', '.join(observation) or 'no entry'}, {action_dim} and {horizon}."
            )
        listed = [StaticTask(task) if isinstance(task, str) else task for task in tasks]
        names = [task.name for task in listed]
        contexts = contexts_of("StaticSuite", names, [task.context for task in listed])
        self._one_hot = listed[0].context is None and language is None
        if language is not None:
            if listed[0].context is not None:
                raise InputError("StaticSuite: give tasks contexts, or a language that makes them of words, not both.")
            texts = [task.name if task.text is None else task.text for task in listed]
            contexts, self.language = contexts_in_words("StaticSuite", names, texts, language), language.signature()
        self.name, self.observation, self.action_dim, self.discrete = name, dict(observation), action_dim, discrete
        self.action_bounds = None if action_bounds is None else _checked_bounds(action_bounds, action_dim, discrete)
        self.tasks = tuple(
            Task(task.name, index, context, horizon)
            for index, (task, context) in enumerate(zip(listed, contexts, strict=True))
        )

    def signature(self) -> dict[str, Any]:
        """With one-hot contexts the tasks belong to it: the same number means another task elsewhere."""
        return super().signature() | ({"tasks": [task.name for task in self.tasks]} if self._one_hot else {})


def _checked_bounds(
    bounds: tuple[Sequence[float], Sequence[float]], action_dim: int, discrete: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    low, high = (tuple(map(float, ends)) for ends in bounds)
    if discrete:
        raise InputError("StaticSuite: choices have no bounds; leave out action_bounds or set discrete to false.")
    if not len(low) == len(high) == action_dim or not all(
        math.isfinite(below) and math.isfinite(above) and below < above for below, above in zip(low, high, strict=True)
    ):
        raise InputError(
            f"StaticSuite: action_bounds must be lows and highs, {action_dim} finite numbers each, every low less than "
            f"its high; got {list(low)} and {list(high)}."
        )
    return low, high
