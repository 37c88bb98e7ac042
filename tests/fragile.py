"""The tiny world when it breaks: where the point goes away from its goal, in one way or another."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from amf_lightning.tasks.task import Task
from tiny import PointEnv, TinySuite

BREAKS_AT = 0.35
"""How far from the start, on the side where the goal is not: episodes start within 0.2, and no expert goes there."""


class FragileEnv(PointEnv):
    """Breaks as `way` says; keeps broken for ever, as if something in it had become NaN."""

    alive: ClassVar[list["FragileEnv"]] = []
    """Episodes that have begun and not ended."""
    most_alive: ClassVar[int] = 0

    def __init__(self, horizon: int, way: str) -> None:
        super().__init__(horizon)
        self.way, self.broken, self.closed = way, False, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.broken |= self.way == "every reset"
        if self.broken or (self.way == "one reset" and seed == 1):
            raise RuntimeError("stuck")
        FragileEnv.alive = [*(env for env in FragileEnv.alive if env is not self), self]
        FragileEnv.most_alive = max(FragileEnv.most_alive, len(FragileEnv.alive))
        return super().reset(seed=seed, options=options)

    def step(self, action: NDArray[Any]) -> Any:
        observation, reward, _, ended, info = super().step(action)
        if self.x * self.goal < 0 and abs(self.x) > BREAKS_AT:
            self.broken = self.way in ("raises", "observation")
            if self.way == "raises":
                raise ValueError("joint limit")
            if self.way == "full disk":
                raise OSError(28, "No space left on device")
            if self.way == "observation":
                observation = observation * np.nan
            if self.way == "reward":
                reward = float("inf")
            ended |= self.way == "leaves"
        if ended:
            FragileEnv.alive = [env for env in FragileEnv.alive if env is not self]
        return observation, reward, False, ended, info

    def close(self) -> None:
        self.closed = True


class FragileSuite(TinySuite):
    """Of environments that break.

    Args:
        way: in which they do: raises, observation, reward, leaves, one reset, every reset, full disk.
        parallel_episodes: see `TaskSuite`.
    """

    def __init__(self, way: str = "raises", parallel_episodes: int | None = None) -> None:
        super().__init__()
        self.way, self.parallel_episodes = way, parallel_episodes
        self.made: list[FragileEnv] = []

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[NDArray[Any], NDArray[Any]]:
        self.made.append(FragileEnv(self.horizon, self.way))
        return self.made[-1]


class GloballyRandomEnv(PointEnv):
    """Ignores the seed: its noise comes from numpy's global generator."""

    def step(self, action: NDArray[Any]) -> Any:
        observation, *rest = super().step(action)
        self.x += float(np.random.normal(scale=0.01))
        return observation, *rest


class GloballyRandomSuite(TinySuite):
    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[NDArray[Any], NDArray[Any]]:
        return GloballyRandomEnv(self.horizon)


class ForgetfulEnv(PointEnv):
    """Goes on from where the last episode ended, if there was one."""

    ended_at = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        observation, info = super().reset(seed=seed, options=options)
        self.x += self.ended_at
        return observation + np.array([self.ended_at, 0.0]), info

    def step(self, action: NDArray[Any]) -> Any:
        result = super().step(action)
        self.ended_at = self.x
        return result


class ForgetfulSuite(TinySuite):
    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[NDArray[Any], NDArray[Any]]:
        return ForgetfulEnv(self.horizon)


class SaysOfSuccess(TinySuite):
    """Its environments say something of their success that is neither true nor false.

    Args:
        said: what they say.
    """

    def __init__(self, said: Any = "yes") -> None:
        super().__init__()
        self.said = said

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[NDArray[Any], NDArray[Any]]:
        env, said = PointEnv(self.horizon), self.said
        stock = env.step
        env.step = lambda action: (*stock(action)[:4], {"success": said})  # type: ignore[method-assign]
        return env
