"""Episodes at random targets, on which goal-conditioned experts are trained."""

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from amf_lightning.suites.velocity import VelocitySuite


class VelocityPractice(gymnasium.Wrapper[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]):
    """Draws a target velocity for each episode and shows it to the learner behind the observation, [O + 1] float32.

    Args:
        suite: its environment is practised, at targets v ~ U(smallest, smallest + reach · range).
        rng: where targets and initial states are drawn from.
        reach: asked at the start of each episode for the share of the range that is practised, in [0, 1].
    """

    def __init__(self, suite: VelocitySuite, rng: np.random.Generator, reach: Callable[[], float]) -> None:
        super().__init__(suite.make(suite.tasks[0]))
        self._rng, self._reach = rng, reach
        self._scale = suite.scale
        self._low, self._high = min(suite.targets), max(suite.targets)
        self._goal = 0.0
        self.observation_space = Box(-np.inf, np.inf, (suite.observation_dim + 1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts an episode; seed and options are drawn, not taken."""
        velocity = self._rng.uniform(self._low, self._low + self._reach() * (self._high - self._low))
        self._goal = velocity / self._scale
        observation, info = self.env.reset(seed=int(self._rng.integers(2**62)), options={"velocity": velocity})
        return self._with_goal(observation), info

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """A step of the suite's environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with_goal(observation), reward, terminated, truncated, info

    def _with_goal(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        return np.append(observation, self._goal).astype(np.float32)
