"""The one loop that runs episodes: many side by side, each a function of (weights, task, seed) alone.

The same row of a matrix product has different bits in batches of different size, and contact dynamics turn a
difference of 1e-7 into order 10 within 50 steps. So the actor is called on one thread, and always at the same padded
width; what stands in the other rows does not change a row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.tasks.actor import Actor
from amf_lightning.tasks.seeding import Purpose, keyed_generator
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

_Env = gymnasium.Env[NDArray[Any], NDArray[Any]]

# Making an environment costs as much as running an episode in it. `reset(seed=...)` leaves nothing of earlier episodes.
_ENVIRONMENTS: WeakKeyDictionary[TaskSuite, dict[str, list[_Env]]] = WeakKeyDictionary()


@torch.no_grad()
def rollout(
    actor: Actor,
    suite: TaskSuite,
    episodes: Sequence[Episode],
    *,
    noise: float = 0.0,
    width: int = 32,
    on_step: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """Runs episodes and returns their trajectories in the same order.

    An episode depends on (weights, task, seed) and the options here, not on the episodes that run beside it, on their
    order, on what ran before or on the number of threads.

    Args:
        actor: called once a step with `width` rows, float32, on the device of its parameters (CPU if it has none).
        suite: where the tasks come from.
        episodes: what to run.
        noise: standard deviation of Gaussian noise, keyed by the episode's seed, that is added to the executed
            action (then clipped to [-1, 1]). The recorded action is the one without noise.
        width: episodes side by side. Part of what must be equal for two results to be equal.
        on_step: called with the number of environment steps just taken.

    Raises:
        InputError: an action or observation is not finite or has the wrong shape; the message names task and step.
    """
    if width < 1 or noise < 0:
        raise InputError(f"rollout needs width >= 1 and noise >= 0, got width {width} and noise {noise}.")
    trajectories: list[Trajectory] = []
    with _one_thread():
        for start in range(0, len(episodes), width):
            chunk = episodes[start : start + width]
            runs = [
                _Run(suite, episode, env, noise)
                for episode, env in zip(chunk, _environments(suite, chunk), strict=True)
            ]
            _run_side_by_side(actor, suite, runs, width, on_step)
            trajectories += [run.trajectory() for run in runs]
    return trajectories


class _Run:
    """One episode on its way."""

    def __init__(self, suite: TaskSuite, episode: Episode, env: _Env, noise: float) -> None:
        self.suite, self.episode, self.env = suite, episode, env
        self.actions: list[NDArray[np.float32]] = []
        self.rewards: list[float] = []
        self.flags: list[bool] = []
        self.info: dict[str, Any] = {}
        self.done = False
        self.noise: NDArray[np.float32] | None = None
        if noise > 0:
            generator = keyed_generator(episode.seed, Purpose.DEMONSTRATE)
            drawn = torch.randn(episode.task.horizon, suite.action_dim, generator=generator)
            self.noise = (noise * drawn).numpy()
        observation, _ = env.reset(seed=episode.seed, options=dict(episode.task.options))
        self.observations = [self._checked("observation", observation, suite.observation_dim)]

    def step(self, action: NDArray[np.float32]) -> None:
        action = np.clip(self._checked("action", action, self.suite.action_dim), -1.0, 1.0)
        executed = action
        if self.noise is not None:
            executed = np.clip(action + self.noise[len(self.actions)], -1.0, 1.0)
        observation, reward, terminated, truncated, self.info = self.env.step(executed)
        if "success" not in self.info:
            raise InputError(f"{self._where}: the environment's info has no 'success', which every suite must report.")
        self.actions.append(action)
        self.rewards.append(float(reward))
        self.flags.append(bool(self.info["success"]))
        self.observations.append(self._checked("observation", observation, self.suite.observation_dim))
        self.done = terminated or truncated or len(self.actions) >= self.episode.task.horizon

    def trajectory(self) -> Trajectory:
        return Trajectory(
            observations=np.stack(self.observations),
            actions=np.stack(self.actions),
            rewards=np.array(self.rewards),
            task=self.episode.task.name,
            seed=self.episode.seed,
            success=self.suite.episode_success(self.flags),
            metrics=dict(self.info.get("metrics", {})),
        )

    @property
    def _where(self) -> str:
        return f"Task '{self.episode.task.name}', seed {self.episode.seed}, step {len(self.actions)}"

    def _checked(self, what: str, value: NDArray[Any], size: int) -> NDArray[np.float32]:
        value = np.array(value, dtype=np.float32)  # a copy: environments may reuse their buffer
        if value.shape != (size,):
            raise InputError(f"{self._where}: the {what} has shape {value.shape}, the suite says ({size},).")
        if not np.isfinite(value).all():
            raise InputError(f"{self._where}: the {what} is not finite (NaN or infinite).")
        return value


def _run_side_by_side(
    actor: Actor, suite: TaskSuite, runs: Sequence[_Run], width: int, on_step: Callable[[int], None] | None
) -> None:
    device = _device(actor)
    observations = torch.zeros(width, suite.observation_dim)
    contexts = torch.zeros(width, suite.context_dim)
    for row, run in enumerate(runs):
        contexts[row] = torch.tensor(run.episode.task.context)
    contexts = contexts.to(device)
    while active := [row for row, run in enumerate(runs) if not run.done]:
        for row in active:
            observations[row] = torch.from_numpy(runs[row].observations[-1])
        actions = actor.act(observations.to(device), contexts)
        if actions.shape != (width, suite.action_dim):
            raise InputError(
                f"The actor gave actions of shape {tuple(actions.shape)} for {width} rows of suite '{suite.name}', "
                f"which has {suite.action_dim} action dimensions."
            )
        rows = actions.detach().float().cpu().numpy()
        for row in active:
            runs[row].step(rows[row])
        if on_step is not None:
            on_step(len(active))


def _environments(suite: TaskSuite, episodes: Sequence[Episode]) -> list[_Env]:
    """An environment for each episode, made at the first use and kept as long as the suite lives."""
    pools = _ENVIRONMENTS.setdefault(suite, {})
    taken: dict[str, int] = {}
    chosen = []
    for episode in episodes:
        key = suite.environment_key(episode.task)
        pool = pools.setdefault(key, [])
        position = taken.get(key, 0)
        if position == len(pool):
            pool.append(suite.make(episode.task))
        chosen.append(pool[position])
        taken[key] = position + 1
    return chosen


def _device(actor: Actor) -> torch.device:
    first: Tensor | None = next(actor.parameters(), None) if isinstance(actor, nn.Module) else None
    return torch.device("cpu") if first is None else first.device


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
