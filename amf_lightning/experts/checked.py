"""Checks what an expert returns before it is kept: the expert may be a class of the user."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from amf_lightning.tasks.spec import described
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.user_code import refusal

if TYPE_CHECKING:  # who only takes in a recording needs no torch
    from amf_lightning.experts.expert import Expert
    from amf_lightning.tasks.description import SuiteDescription
    from amf_lightning.tasks.task import Episode, TaskSuite

_ROUNDING = 1e-4
"""By how much an action may leave [-1, 1]: what scaling to and fro in float32 does."""


def entries_of(expert: "Expert", given: object, wanted: int) -> list[Any]:
    """What `demonstrate` gave, as a list of one entry for each episode.

    Raises:
        AmfError: it is no sequence, or not as long as the number of episodes that were asked for.
    """
    name = type(expert).__name__
    cure = "Let `demonstrate` return one for each episode, in the same order, or None in its place."
    if not isinstance(given, Iterable) or isinstance(given, str | Mapping):
        raise refusal(expert, f"{name}.demonstrate gave a {type(given).__name__}, no list", cure)
    entries = list(given)
    if len(entries) != wanted:
        raise refusal(expert, f"{name} gave {len(entries)} demonstrations when asked for {wanted}", cure)
    return entries


def remaining_of(expert: "Expert", suite: "TaskSuite", given: Sequence[int]) -> tuple[float, ...]:
    """What the expert says that it has left of each task, [K]: see `Expert.remaining`.

    Raises:
        AmfError: it is no sequence of K numbers of at least 0.
    """
    left: Any = expert.remaining(suite, given)
    fits = isinstance(left, Sequence | np.ndarray) and not isinstance(left, str) and len(left) == len(suite.tasks)
    if not fits or not all(isinstance(number, int | float | np.number) and number >= 0 for number in left):
        raise refusal(
            expert,
            f"{type(expert).__name__}.remaining gave {str(left)[:80]}",
            f"Let it return a number for each of the {len(suite.tasks)} tasks: how many more demonstrations can be "
            "had, at least 0, infinity if there is no end.",
        )
    return tuple(left)


def check_shown(expert: "Expert", suite: "TaskSuite", episode: "Episode", shown: Trajectory) -> None:
    """Raises AmfError, naming expert and task, unless `shown` demonstrates the episode in the suite's terms.

    Its own lengths, and that it is finite, a `Trajectory` has checked itself.
    """
    if reason := objection(suite, episode.task.name, shown):
        raise refusal(
            expert,
            f"{type(expert).__name__}: the demonstration of task '{episode.task.name}' of suite '{suite.name}' cannot "
            f"be used: {reason}",
            "It was not kept; correct what `demonstrate` returns and run again.",
        )


def objection(suite: "TaskSuite | SuiteDescription", task: str, shown: Trajectory) -> str | None:
    """Why a demonstration does not show the task of that name in the suite's terms; None if it does."""
    if not isinstance(shown, Trajectory):
        return f"it is a {type(shown).__name__}, not a Trajectory"
    if shown.task != task:
        return f"it is one of task '{shown.task}'; they must come in the order of the episodes"
    if reason := misfit(suite, shown):
        return reason
    if shown.failure is not None:
        return f"it broke off ({shown.failure.told})"
    if suite.discrete:
        sorted_choices = np.sort(shown.actions, axis=1)
        if (sorted_choices[:, -1] != 1).any() or sorted_choices[:, :-1].any():
            return "its actions are choices and must be one-hot: 1 where the choice is, 0 elsewhere"
    elif (largest := float(np.abs(shown.actions).max())) > 1 + _ROUNDING:
        bounds = "" if suite.action_bounds is None else f", which stand for {suite.action_bounds}"
        return f"its actions reach {largest:g}, but each entry must lie in [-1, 1]{bounds}"
    return None


def misfit(suite: "TaskSuite | SuiteDescription", trajectory: Trajectory) -> str | None:
    """How a trajectory's entries of the observation, or its actions, differ from the suite's; None if they do not.

    Whether there are rewards, a success and an observation after the last action is the trajectory's own business.
    """
    if set(trajectory.specs) != set(suite.observation):
        return (
            f"its observations consist of {described(trajectory.specs)}, those of suite '{suite.name}' of "
            f"{described(suite.observation)}"
        )
    for name, suite_spec in suite.observation.items():
        spec = trajectory.specs[name]
        if spec.shape != suite_spec.shape or not (spec == suite_spec or (spec.is_floating and suite_spec.is_floating)):
            cure = f"; convert it by astype('{suite_spec.dtype}')" if spec.shape == suite_spec.shape else ""
            return f"its observations '{name}' are {spec}, those of suite '{suite.name}' {suite_spec}{cure}"
    if (length := trajectory.actions.shape[1]) != suite.action_dim:
        return f"its actions are {length} long, those of suite '{suite.name}' {suite.action_dim}"
    return None


def in_types_of(suite: "TaskSuite | SuiteDescription", trajectory: Trajectory) -> Trajectory:
    """The trajectory with entries of floating point in the suite's precision, e.g. float64 as float32.

    Many simulators and robots compute in float64; what fits the suite otherwise need not be converted by hand.
    """
    converted = {
        name: entry.astype(suite.observation[name].dtype)
        for name, entry in trajectory.observations.items()
        if name in suite.observation and trajectory.specs[name] != suite.observation[name] and entry.dtype.kind == "f"
    }
    return replace(trajectory, observations={**trajectory.observations, **converted}) if converted else trajectory
