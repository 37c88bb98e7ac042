"""A world small enough for many real fits: a point that is pushed to one of four goals on a line."""

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.experts.expert import ActingExpert
from amf_lightning.tasks.controller import Actor, Controlled, Controller
from amf_lightning.tasks.task import ReferenceReturns, Task, TaskSuite

GOALS = (-1.0, -0.5, 0.5, 1.0)


class PointEnv(gymnasium.Env[NDArray[Any], NDArray[Any]]):
    """Position x and the velocity of the last step; the action is the velocity; the reward −|x − goal|."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        assert options is not None
        self.goal, self.steps = float(options["goal"]), 0
        self.x, self.v = float(self.np_random.uniform(-0.2, 0.2)), 0.0
        return np.array([self.x, self.v]), {}

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self.v = 0.2 * float(action[0])
        self.x += self.v
        self.steps += 1
        error = abs(self.x - self.goal)
        return np.array([self.x, self.v]), -error, False, self.steps >= self.horizon, {"success": error < 0.1}

    def render(self) -> Any:
        """The point as a column, from -1 at the left to 1 at the right: [32, 32, 3] bytes."""
        picture = np.zeros((32, 32, 3), np.uint8)
        column = int(np.clip(16 + 14 * self.x, 2, 29))
        picture[:, column - 2 : column + 3] = 255
        return picture


class TinySuite(TaskSuite):
    """Four goals.

    Args:
        horizon: steps of an episode.
        goals: how many of the goals are tasks.
    """

    name = "tiny"
    observation_dim = 2
    action_dim = 1

    def __init__(self, horizon: int = 12, goals: int = 4) -> None:
        self.tasks = tuple(
            Task(f"goal={goal:g}", index, (goal,), horizon, {"goal": goal}) for index, goal in enumerate(GOALS[:goals])
        )
        self.horizon = horizon
        bad = tuple(-2.0 * horizon for _ in self.tasks)
        self.reference = ReferenceReturns(bad, tuple(0.0 for _ in self.tasks), tuple(0.1 for _ in self.tasks), "none")

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[NDArray[Any], NDArray[Any]]:
        return PointEnv(self.horizon)


class Steer:
    """Goes to the goal as fast as it can."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.clamp((contexts - observations[:, :1]) / 0.2, -1.0, 1.0)


class TinyExpert(ActingExpert):
    """Demonstrates with `Steer`."""

    def actor(self, suite: TaskSuite) -> Actor:
        return Steer()


class HopelessExpert(ActingExpert):
    """Never succeeds."""

    def actor(self, suite: TaskSuite) -> Actor:
        return _Still()


class _Still:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.zeros_like(contexts) - torch.sign(contexts)


class BrokenExpert(ActingExpert):
    """Gives an action that is not a number."""

    def actor(self, suite: TaskSuite) -> Actor:
        return _Broken()


class _Broken:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.full_like(contexts, torch.nan)


def actor_of(expert: ActingExpert, suite: TaskSuite) -> Actor:
    """What acts for the expert, if it is a plain actor."""
    acting = expert.actor(suite)
    assert not isinstance(acting, Controller | Controlled)
    return acting
