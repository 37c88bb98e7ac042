"""The part that all suites share in which a robot is asked to run at a target velocity."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.reference import load_reference
from amf_lightning.tasks.task import Task, TaskSuite

Env = gymnasium.Env[NDArray[Any], NDArray[Any]]

SETTLING = 0.3
"""Share of the horizon that a robot has to reach its target; what comes after counts for success."""


def settling_steps(horizon: int) -> int:
    """Steps of an episode that do not count for success."""
    return int(SETTLING * horizon)


class VelocitySuite(TaskSuite):
    """One task a target velocity, named `v=2` or `v=-0.5`, in m/s along x.

    Args:
        targets: target velocities in m/s, all different.
        horizon: steps of an episode.
        scale: the scalar context is target / scale.
        one_hot: tell the policy the task's number instead of the scalar; experts still get the scalar.
        tolerance: an episode that reaches the horizon succeeds if the mean |v_x − v| after the first 30 % of its
            steps is below this, in m/s.
        reference: name of the shipped reference returns, or a path; None if nothing is to be scored.

    Raises:
        InputError: no target, a target twice, a horizon or tolerance that is not positive, unknown reference.
    """

    metrics_text = "velocity\nerror: mean |v_x − v| after the first 30 %, in m/s"

    def __init__(
        self,
        targets: Sequence[float],
        horizon: int,
        scale: float,
        one_hot: bool,
        tolerance: float,
        reference: str | None,
    ) -> None:
        if not targets or len(set(targets)) != len(targets):
            raise InputError(f"{self.name}: targets must be at least one velocity and all different, got {targets}.")
        if horizon < 1 or tolerance <= 0:
            raise InputError(f"{self.name}: horizon {horizon} and tolerance {tolerance} must be positive.")
        self.targets, self.scale, self.tolerance = tuple(targets), scale, tolerance
        self._one_hot = one_hot
        self._goals = torch.tensor([[target / scale] for target in targets], dtype=torch.float32)
        contexts = torch.eye(len(targets)) if one_hot else self._goals
        self.tasks = tuple(
            Task(f"v={target:g}", index, tuple(contexts[index].tolist()), horizon, {"velocity": float(target)})
            for index, target in enumerate(targets)
        )
        self.reference = None if reference is None else load_reference(reference, self.name, self.tasks)

    def signature(self) -> dict[str, Any]:
        """With a one-hot context the tasks belong to it: the same number means another velocity elsewhere."""
        return super().signature() | ({"targets": list(self.targets)} if self._one_hot else {})

    @abstractmethod
    def make(self, task: Task, render_mode: str | None = None) -> Env:
        """The robot's environment, whose target `reset(options=task.options)` sets."""

    @property
    def goals(self) -> Tensor:
        """The scalar target / scale of each task, [K, 1] float32."""
        return self._goals


class VelocityTracking(gymnasium.Wrapper[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]):
    """Makes a MuJoCo environment that reports `info["x_velocity"]` one whose task is a target velocity.

    `reset(options={"velocity": v})` sets the target in m/s. `info["metrics"]["velocity_error"]` is the mean |v_x − v|
    of the episode so far after the first 30 % of the horizon (before that: of all steps), `info["success"]` whether
    it is below the tolerance and the robot has not fallen.

    Args:
        env: the environment, which truncates at `horizon`.
        horizon: steps of an episode.
        tolerance: of a success, in m/s.
    """

    def __init__(self, env: Env, horizon: int, tolerance: float) -> None:
        super().__init__(env)
        self._settled = settling_steps(horizon)
        self._tolerance = tolerance
        self._target = 0.0
        self._errors: list[float] = []

    @abstractmethod
    def reward_for(self, error: float, action: NDArray[Any], info: dict[str, Any]) -> float:
        """Reward of a step with |v_x − v| = `error`."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts an episode with target `options["velocity"]`."""
        if not options or "velocity" not in options:
            raise InputError("reset needs options={'velocity': <m/s>}: these environments have no default target.")
        self._target = float(options["velocity"])
        self._errors = []
        return self.env.reset(seed=seed)

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """A step of the environment with the reward and information of the task."""
        observation, _, terminated, truncated, info = self.env.step(action)
        error = abs(float(info["x_velocity"]) - self._target)
        self._errors.append(error)
        settled = self._errors[self._settled :]
        mean = float(np.mean(settled or self._errors))
        info["success"] = bool(settled) and mean < self._tolerance and not terminated
        info["metrics"] = {"velocity_error": mean}
        return observation, self.reward_for(error, action, info), terminated, truncated, info


def make_mujoco(name: str, horizon: int, render_mode: str | None, **options: Any) -> Env:
    """`gymnasium.make` with a time limit of `horizon` and a camera that stays with the robot.

    The check of every step that gymnasium adds is left out.
    """
    with _known_deprecations_ignored():
        return gymnasium.make(
            name,
            max_episode_steps=horizon,
            render_mode=render_mode,
            disable_env_checker=True,
            camera_name="track",
            **options,
        )


@contextmanager
def _known_deprecations_ignored() -> Iterator[None]:
    """MuJoCo 4 says of gymnasium's own robot files that they use a deprecated attribute, once for each environment,
    and writes it into MUJOCO_LOG.TXT. Users can do nothing about it; everything else is passed on as a warning."""

    def on_warning(message: str) -> None:
        if "is deprecated" not in message:
            warnings.warn(message, stacklevel=2)

    import mujoco  # when an environment is made: whoever only parses a configuration does not wait for it

    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(on_warning)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)
