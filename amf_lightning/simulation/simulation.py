"""How episodes that run side by side are stepped: through gymnasium, or by a suite that knows a faster way."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.import_path import told
from amf_lightning.tasks.task import Episode, TaskSuite

if TYPE_CHECKING:
    import gymnasium

    Env = gymnasium.Env[NDArray[Any], NDArray[Any]]
else:  # whoever only parses a configuration, or has no simulator, imports no gymnasium
    Env = Any

# Making an environment costs as much as running an episode in it. `reset(seed=...)` leaves nothing of earlier episodes.
_ENVIRONMENTS: WeakKeyDictionary[TaskSuite, dict[str, list[Env]]] = WeakKeyDictionary()
MOST_ENVIRONMENTS = 160
"""Kept for one suite: those of a robot arm take up to 20 MB each."""


@dataclass(frozen=True)
class Outcome:
    """What an episode of T steps was worth."""

    rewards: NDArray[np.float64]
    """[T]."""
    success: bool
    """`TaskSuite.episode_success` of `info["success"]` after each step."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`info["metrics"]` after the last step."""


class Simulation(Protocol):
    """Some episodes on their way, numbered 0 to n − 1. All that run have taken the same number of steps."""

    def reset(self) -> NDArray[np.float32]:
        """Starts all episodes; their first observations [n, O]."""
        ...

    def step(
        self, running: NDArray[np.intp], actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """One step of the episodes `running` [r] with actions [r, A] in [-1, 1].

        Returns:
            Their observations [r, O], and whether each has ended [r].
        """
        ...

    def outcome(self, number: int) -> Outcome:
        """Of an episode that has ended."""
        ...


@runtime_checkable
class SimulatesItself(Protocol):
    """A suite that can step its environments faster than they step themselves, with the same bits."""

    def simulation(self, episodes: Sequence[Episode]) -> Simulation | None:
        """A simulation of the episodes; None if gymnasium should step them after all."""
        ...


def simulate(suite: TaskSuite, episodes: Sequence[Episode]) -> Simulation:
    """The suite's own simulation if it has one, else gymnasium's."""
    own = suite.simulation(episodes) if isinstance(suite, SimulatesItself) else None
    return own or GymnasiumSimulation(suite, episodes, environments(suite, episodes))


class GymnasiumSimulation:
    """Steps one environment after the other.

    Raises:
        InputError: an observation has the wrong shape, `info` no 'success', or the environment fails.
    """

    def __init__(self, suite: TaskSuite, episodes: Sequence[Episode], envs: Sequence[Env]) -> None:
        self._suite, self._episodes, self._envs = suite, episodes, envs
        self._shape = (suite.observation_dim,)
        self._rewards: list[list[float]] = [[] for _ in episodes]
        self._flags: list[list[bool]] = [[] for _ in episodes]
        self._infos: list[dict[str, Any]] = [{} for _ in episodes]

    def reset(self) -> NDArray[np.float32]:
        observations = np.empty((len(self._episodes), *self._shape), dtype=np.float32)
        for number, (episode, env) in enumerate(zip(self._episodes, self._envs, strict=True)):
            with self._named(number):
                observation, _ = env.reset(seed=episode.seed, options=dict(episode.task.options))
                observations[number] = self._checked(number, observation)
        return observations

    def step(
        self, running: NDArray[np.intp], actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        observations = np.empty((len(running), *self._shape), dtype=np.float32)
        ended = np.empty(len(running), dtype=np.bool_)
        for row, (number, action) in enumerate(zip(running.tolist(), actions, strict=True)):
            with self._named(number):
                observation, reward, terminated, truncated, info = self._envs[number].step(action)
                if "success" not in info:
                    raise InputError(
                        f"{self._where(number)}: the environment's info has no 'success', which every suite must "
                        "report."
                    )
                self._infos[number] = info
                self._rewards[number].append(float(reward))
                self._flags[number].append(bool(info["success"]))
                observations[row] = self._checked(number, observation)
                taken = len(self._rewards[number])
                ended[row] = terminated or truncated or taken >= self._episodes[number].task.horizon
        return observations, ended

    def outcome(self, number: int) -> Outcome:
        success = self._suite.episode_success(self._flags[number])
        return Outcome(np.array(self._rewards[number]), success, dict(self._infos[number].get("metrics", {})))

    def _checked(self, number: int, given: Any) -> NDArray[np.float32]:
        # Environments may reuse their buffer: what is returned is copied before their next step.
        observation: NDArray[np.float32] = np.asarray(given, dtype=np.float32)
        if observation.shape != self._shape:
            raise InputError(
                f"{self._where(number)}: the observation has shape {observation.shape}, the suite says {self._shape}."
            )
        return observation

    @contextmanager
    def _named(self, number: int) -> Iterator[None]:
        """Errors of the environment become messages that name task, seed and step."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{self._where(number)}: the environment failed with {told(error)}. reset(seed=..., options=...) must "
                "give (observation, info), step(action) (observation, reward, terminated, truncated, info), with a "
                "number as reward and a dictionary as info."
            ) from error

    def _where(self, number: int) -> str:
        return self._episodes[number].where(len(self._rewards[number]))


def environments(suite: TaskSuite, episodes: Sequence[Episode]) -> list[Env]:
    """An environment for each episode, made at the first use and kept as long as the suite lives.

    Where every task has environments of its own, those used longest ago are given up for new ones.
    """
    pools = _ENVIRONMENTS.setdefault(suite, {})
    for key in dict.fromkeys(suite.environment_key(episode.task) for episode in episodes):
        pools[key] = pools.pop(key, [])  # the last to go
    taken: dict[str, int] = {}
    chosen = []
    for episode in episodes:
        key = suite.environment_key(episode.task)
        pool = pools[key]
        position = taken.get(key, 0)
        if position == len(pool):
            pool.append(suite.make(episode.task))
        chosen.append(pool[position])
        taken[key] = position + 1
    for key in [key for key in pools if key not in taken]:
        if sum(map(len, pools.values())) <= MOST_ENVIRONMENTS:
            break
        for env in pools.pop(key):
            env.close()
    return chosen
