"""The tiny world with an entry that no goal moves but the last one, which sets it to 1."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from amf_lightning.experts.expert import ActingExpert
from amf_lightning.tasks.controller import Actor
from amf_lightning.tasks.spec import state_specs
from amf_lightning.tasks.task import Task, TaskSuite
from tiny import GOALS, PointEnv, Steer, TinySuite


class StillEnv(PointEnv):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))

    def reset(self, **options: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        observation, info = super().reset(**options)
        self.flag = float(self.goal == GOALS[-1])
        return np.append(observation, self.flag), info

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return np.append(observation, self.flag), reward, terminated, truncated, info


class StillSuite(TinySuite):
    name = "still"
    observation_dim = 3
    observation = state_specs(3)

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[Any, NDArray[Any]]:
        return StillEnv(self.horizon)


class StillExpert(ActingExpert):
    def actor(self, suite: TaskSuite) -> Actor:
        return Steer()
