"""One episode, checked when it is made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.tasks.failure import Failure
from amf_lightning.tasks.spec import STATE, Spec

Array = NDArray[Any]


class UnsoundTrajectoryError(InputError):
    """What should become a trajectory cannot be one. Whose mistake that is depends on who has made it."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What happened in one episode of T steps.

    The context of the task is not part of the observations, so the same states can be read for another task.

    Raises:
        UnsoundTrajectoryError: lengths that do not fit each other, values that are not finite, or a noise that is not
            positive.
    """

    observations: Mapping[str, Array]
    """Entries of the observation by name, of any shape and type of numbers: before each step and, if that was recorded,
    after the last one, [T + 1, …] or [T, …]. A single array is taken for the entry `state`."""
    actions: NDArray[np.float32]
    """Actions to imitate, [T, A], each in [-1, 1]. With executed noise these are the clean actions."""
    rewards: NDArray[np.float64] | None
    """Rewards of the environment, [T]; None if there are none."""
    task: str
    """Name of the task."""
    seed: int | None = None
    """Seed of the environment's reset, if there was one."""
    success: bool | None = None
    """Whether the episode is a success; None if nobody said so."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further numbers of the whole episode that the suite defines, e.g. `velocity_error` in m/s."""
    noise: float = 1.0
    """Noise of the demonstration: variance of its actions around what the expert means to do, in units of that of
    other demonstrations of the task: 4 for a hand that is twice as shaky. Beliefs about the expert trust it
    that much less."""
    failure: Failure | None = None
    """Why the episode of a learner broke off, if it did; see `rollout`. Then its last step is the one at which it did:
    the state before it is known and none after it, its action is zero where none was finite, and its reward the lowest
    one before it, or 0 if that is lower. It is no success. Demonstrations have none, and no file keeps it."""

    def __post_init__(self) -> None:
        if not isinstance(self.observations, Mapping):
            object.__setattr__(self, "observations", {STATE: self.observations})
        where = f"Trajectory of task '{self.task}'" + ("" if self.seed is None else f", seed {self.seed}")
        _check_shape(where, "actions", self.actions, 2)
        if (steps := len(self.actions)) == 0:
            raise UnsoundTrajectoryError(f"{where}: no step was taken.")
        if not self.observations:
            raise UnsoundTrajectoryError(f"{where}: it has no observations.")
        for name, entry in self.observations.items():
            _check_shape(where, "observations" if name == STATE else f"observations '{name}'", entry)
        if len({len(entry) for entry in self.observations.values()}) > 1:
            counts = ", ".join(f"{len(entry)} of '{name}'" for name, entry in self.observations.items())
            raise UnsoundTrajectoryError(f"{where}: its entries have different numbers of observations: {counts}.")
        if (count := len(next(iter(self.observations.values())))) not in (steps, steps + 1):
            raise UnsoundTrajectoryError(
                f"{where}: {count} observations for {steps} actions; there must be one for each action, or one more "
                "observation than actions (the state after the last action)."
            )
        if self.rewards is not None:
            _check_shape(where, "rewards", self.rewards, 1)
            if len(self.rewards) != steps:
                raise UnsoundTrajectoryError(
                    f"{where}: {len(self.rewards)} rewards for {steps} actions; the lengths must be equal."
                )
        if not 0 < self.noise < math.inf:
            raise UnsoundTrajectoryError(
                f"{where}: noise is {self.noise}; it is a variance ratio and must be positive."
            )

    @property
    def length(self) -> int:
        """Steps taken, T."""
        return len(self.actions)

    @property
    def state(self) -> NDArray[np.float32]:
        """The vector that the observation consists of, [T + 1, O] or [T, O].

        Raises:
            InputError: the observation has other entries.
        """
        if list(self.observations) != [STATE]:
            raise InputError(f"Task '{self.task}': the observation consists of {', '.join(self.observations)}.")
        return self.observations[STATE]

    @property
    def acted_on(self) -> dict[str, Array]:
        """The T observations in which an action was taken, by name of the entry."""
        return {name: entry[: self.length] for name, entry in self.observations.items()}

    @property
    def specs(self) -> dict[str, Spec]:
        """Shape and type of every entry."""
        return {name: Spec(entry.shape[1:], entry.dtype.name) for name, entry in self.observations.items()}

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the rewards; NaN if there are none."""
        return math.nan if self.rewards is None else float(self.rewards.sum())


def _check_shape(where: str, name: str, array: Array, ndim: int | None = None) -> None:
    """Raises UnsoundTrajectoryError unless the array has so many dimensions (at least one) and finite numbers only."""
    if array.ndim != ndim if ndim is not None else array.ndim < 1:
        raise UnsoundTrajectoryError(f"{where}: {name} must have {ndim or 'some'} dimensions, has shape {array.shape}.")
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        step = int(np.argwhere(~finite)[0][0])
        raise UnsoundTrajectoryError(
            f"{where}: {name} hold a value that is not finite (NaN or infinite) at step {step}."
        )
