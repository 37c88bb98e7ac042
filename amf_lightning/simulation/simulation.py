"""How episodes that run side by side are stepped: through gymnasium, or by a simulator that knows a faster way."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.import_path import told
from amf_lightning.tasks.spec import STATE
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
    """The simulation of some episodes, numbered 0 to n − 1. All that run have taken the same number of steps."""

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
        """The outcome of an episode that has ended."""
        ...


@runtime_checkable
class SimulatesItself(Protocol):
    """A simulator that can step its environments faster than they step themselves, with the same bits."""

    def simulation(self, episodes: Sequence[Episode]) -> Simulation | None:
        """A simulation of the episodes; None if gymnasium should step them after all."""
        ...


def simulate(suite: TaskSuite, episodes: Sequence[Episode]) -> Simulation:
    """The simulator's own simulation if it has one, else gymnasium's.

    Raises:
        InputError: the suite has no simulator.
    """
    simulator = simulator_of(suite)
    simulation = simulator.simulation(episodes) if isinstance(simulator, SimulatesItself) else None
    return simulation or GymnasiumSimulation(suite, episodes, environments(simulator, episodes))


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


class GymnasiumSimulation:
    """Steps one environment after the other.

    Raises:
        InputError: an observation has the wrong shape or type, `info` no 'success', or the environment fails.
    """

    def __init__(self, suite: TaskSuite, episodes: Sequence[Episode], envs: Sequence[Env]) -> None:
        self._simulator, self._episodes, self._envs = simulator_of(suite), episodes, envs
        self._entries = [(name, spec.shape, np.dtype(spec.dtype)) for name, spec in suite.observation.items()]
        self._rewards: list[list[float]] = [[] for _ in episodes]
        self._flags: list[list[bool]] = [[] for _ in episodes]
        self._infos: list[dict[str, Any]] = [{} for _ in episodes]

    def reset(self) -> Observations:
        observations = self._empty(len(self._episodes))
        for number, (episode, env) in enumerate(zip(self._episodes, self._envs, strict=True)):
            with self._named(number):
                observation, _ = env.reset(seed=episode.seed, options=dict(episode.task.options))
                self._take(observation, number, observations, number)
        return observations

    def step(self, running: NDArray[np.intp], actions: NDArray[np.float32]) -> tuple[Observations, NDArray[np.bool_]]:
        observations = self._empty(len(running))
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
                self._take(observation, number, observations, row)
                steps = len(self._rewards[number])
                ended[row] = terminated or truncated or steps >= self._episodes[number].task.horizon
        return observations, ended

    def outcome(self, number: int) -> Outcome:
        success = self._simulator.episode_success(self._flags[number])
        return Outcome(np.array(self._rewards[number]), success, dict(self._infos[number].get("metrics", {})))

    def _empty(self, count: int) -> dict[str, NDArray[Any]]:
        return {name: np.empty((count, *shape), dtype) for name, shape, dtype in self._entries}

    def _take(self, observation: Any, number: int, observations: Observations, row: int) -> None:
        """Copies what an environment gave into a row: environments may reuse their buffers."""
        if isinstance(observation, np.ndarray) or not isinstance(observation, Mapping):
            if len(self._entries) > 1:
                raise InputError(
                    f"{self._where(number)}: the observation is a {type(observation).__name__}, the suite says a "
                    f"dictionary of {', '.join(name for name, _, _ in self._entries)}."
                )
            observation = {self._entries[0][0]: observation}
        for name, shape, dtype in self._entries:
            if name not in observation:
                raise InputError(
                    f"{self._where(number)}: the observation has no entry '{name}', which the suite says it has."
                )
            entry = observation[name]
            # Floats of any precision will do, as ever; a picture of numbers between 0 and 1 would be black if it were
            # cast.
            if not isinstance(entry, np.ndarray) or entry.dtype != dtype:
                entry = np.asarray(entry, dtype if dtype.kind == "f" else None)
            if entry.dtype != dtype or entry.shape != shape:
                raise InputError(f"{self._where(number)}: {_difference(name, entry, shape, dtype)}.")
            observations[name][row] = entry

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


def _difference(name: str, entry: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    what = "observation" if name == STATE else f"observation '{name}'"
    if entry.dtype != dtype:
        return f"the {what} is of {entry.dtype}, the suite says {dtype}"
    return f"the {what} has shape {entry.shape}, the suite says {shape}"


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
