"""What runs the episodes of a suite, and its environments, which are made once and kept for the next episodes."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.tasks.task import Episode, Task, TaskSuite

if TYPE_CHECKING:
    import gymnasium

    Env = gymnasium.Env[Any, NDArray[Any]]
else:  # whoever only parses a configuration, or has no simulator, imports no gymnasium
    Env = Any
Observations = Mapping[str, NDArray[Any]]
"""Entries of observations by name, each [n, *shape] in the type that the suite says; see `TaskSuite.observation`."""


class Simulator(Protocol):
    """What runs a suite's episodes: the suite itself, if it can make environments, or an object of its own.

    One that can step episodes faster than their environments do has a method `simulation`, too: see `SimulatesItself`.
    """

    def make(self, task: Task, render_mode: str | None = None) -> Env:
        """An environment of the task: `reset(seed=..., options=task.options)` alone determines an episode, and the
        info of a step has an entry `success`. Observations are arrays, or dictionaries of the suite's entries."""
        ...

    def environment_key(self, task: Task) -> str:
        """Tasks with the same key can be run in the same environment object, one after the other."""
        ...

    def episode_success(self, flags: Sequence[bool]) -> bool:
        """Whether an episode with these `info["success"]` flags, one a step, succeeded."""
        ...


# Making an environment costs as much as running an episode in it. `reset(seed=...)` leaves nothing of earlier episodes.
_ENVIRONMENTS: WeakKeyDictionary[Simulator, dict[str, list[Env]]] = WeakKeyDictionary()
MOST_ENVIRONMENTS = 160
"""Kept for one simulator: those of a robot arm take up to 20 MB each."""


@dataclass(frozen=True)
class Outcome:
    """The rewards, the success and the metrics of an episode of T steps."""

    rewards: NDArray[np.float64]
    """[T]."""
    success: bool
    """`Simulator.episode_success` of `info["success"]` after each step."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`info["metrics"]` after the last step."""


class Simulation(Protocol):
    """The simulation of some episodes, numbered 0 to n − 1. All that run have taken the same number of steps.

    An episode whose action, observation or reward is not finite breaks off: it is stepped on by actions of zero as long
    as others run, and asked for its outcome, of which what came before counts. What `step` raises is an error, whoever
    acts.
    """

    def reset(self) -> Observations:
        """Starts all episodes; their first observations, [n, *shape] each."""
        ...

    def step(self, running: NDArray[np.intp], actions: NDArray[np.float32]) -> tuple[Observations, NDArray[np.bool_]]:
        """One step of the episodes `running` [r] with actions [r, A] in [-1, 1].

        Returns:
            Their observations, [r, *shape] each, and whether each has ended [r].
        """
        ...

    def outcome(self, number: int) -> Outcome:
        """The outcome of an episode that has ended, or that broke off and is not stepped any more."""
        ...


@runtime_checkable
class SimulatesItself(Protocol):
    """A simulator that can step its environments faster than they step themselves, with the same bits."""

    def simulation(self, episodes: Sequence[Episode]) -> Simulation | None:
        """A simulation of the episodes; None if gymnasium should step them after all."""
        ...


def simulator_of(suite: TaskSuite) -> Simulator:
    """What runs episodes of the suite.

    Raises:
        InputError: nothing does.
    """
    simulator: Simulator | None = suite.simulator
    if simulator is None:
        raise InputError(
            f"Suite '{suite.name}' has no simulator, so no episode can be run in it. Choose parts that run none: "
            "demonstrations that are recorded or shown by a person, an occupancy of demonstrated states, no retention "
            "by rollouts, no simulated evaluation; or a suite that makes environments, e.g. GymnasiumSuite."
        )
    return simulator


def environments(simulator: Simulator, episodes: Sequence[Episode]) -> list[Env]:
    """An environment for each episode, made at the first use and kept as long as the simulator lives.

    Where every task has environments of its own, those used longest ago are given up for new ones.
    """
    pools = _ENVIRONMENTS.setdefault(simulator, {})
    for key in dict.fromkeys(simulator.environment_key(episode.task) for episode in episodes):
        pools[key] = pools.pop(key, [])  # the last to go
    in_use: dict[str, int] = {}
    envs = []
    for episode in episodes:
        key = simulator.environment_key(episode.task)
        pool = pools[key]
        position = in_use.get(key, 0)
        if position == len(pool):
            pool.append(simulator.make(episode.task))
        envs.append(pool[position])
        in_use[key] = position + 1
    for key in [key for key in pools if key not in in_use]:
        if sum(map(len, pools.values())) <= MOST_ENVIRONMENTS:
            break
        for env in pools.pop(key):
            env.close()
    return envs


def renewed(simulator: Simulator, task: Task, env: Env) -> Env:
    """Another environment of the task in the place of one that is not to be used again."""
    discard(simulator, [env])
    other = simulator.make(task)
    _ENVIRONMENTS.setdefault(simulator, {}).setdefault(simulator.environment_key(task), []).append(other)
    return other


def discard(simulator: Simulator, envs: Sequence[Env]) -> None:
    """Forgets environments in which something broke: what it left behind must not reach another episode."""
    for pool in _ENVIRONMENTS.get(simulator, {}).values():
        pool[:] = [env for env in pool if not any(env is other for other in envs)]
    for env in envs:
        with suppress(Exception):  # it is broken
            env.close()
