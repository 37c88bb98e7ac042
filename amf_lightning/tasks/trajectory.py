"""One episode, checked when it is made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What happened in one episode of T steps.

    The context of the task is not part of the observations, so the same states can be read for another task.

    Raises:
        InputError: lengths that do not fit each other, values that are not finite, or a noise that is not positive.
    """

    observations: NDArray[np.float32]
    """States before each step and after the last one, [T + 1, O]."""
    actions: NDArray[np.float32]
    """Actions to imitate, [T, A], each in [-1, 1]. With exploration noise these are the clean actions."""
    rewards: NDArray[np.float64]
    """Rewards of the environment, [T]."""
    task: str
    """Name of the task."""
    seed: int
    """Seed of the environment's reset."""
    success: bool
    """Whether the environment calls the episode a success."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further numbers of the whole episode that the suite defines, e.g. `velocity_error` in m/s."""
    noise: float = 1.0
    """Variance of the actions around what the expert means to do, in units of that of other demonstrations of the task:
    4 for a hand that is twice as shaky. Beliefs about the expert trust the demonstration that much less."""

    def __post_init__(self) -> None:
        where = f"Trajectory of task '{self.task}', seed {self.seed}"
        for name, array, ndim in (
            ("observations", self.observations, 2),
            ("actions", self.actions, 2),
            ("rewards", self.rewards, 1),
        ):
            if array.ndim != ndim:
                raise InputError(f"{where}: {name} must have {ndim} dimensions, has shape {array.shape}.")
            if not np.isfinite(array).all():
                step = int(np.argwhere(~np.isfinite(array))[0][0])
                raise InputError(f"{where}: {name} hold a value that is not finite (NaN or infinite) at step {step}.")
        if not 0 < self.noise < math.inf:
            raise InputError(f"{where}: noise is {self.noise}; it is a variance ratio and must be positive.")
        steps = len(self.actions)
        if steps == 0:
            raise InputError(f"{where}: no step was taken.")
        if len(self.observations) != steps + 1:
            raise InputError(
                f"{where}: {len(self.observations)} observations for {steps} actions; there must be one more "
                "observation than actions (the state after the last action)."
            )
        if len(self.rewards) != steps:
            raise InputError(f"{where}: {len(self.rewards)} rewards for {steps} actions; the lengths must be equal.")

    @property
    def length(self) -> int:
        """Steps taken, T."""
        return len(self.actions)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the rewards."""
        return float(self.rewards.sum())
