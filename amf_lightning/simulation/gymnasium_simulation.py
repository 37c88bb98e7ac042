"""How episodes that run side by side are stepped: through gymnasium, or by a simulator that knows a faster way."""

import errno
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import AmfError, InputError, UserCodeError
from amf_lightning.import_path import told
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.simulation import (
    Env,
    Observations,
    Outcome,
    SimulatesItself,
    Simulation,
    discard,
    environments,
    renewed,
    simulator_of,
)
from amf_lightning.simulation.success import said_success
from amf_lightning.tasks.failure import Failure, FailureReason
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.task import Episode, TaskSuite

_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


def simulate(suite: TaskSuite, episodes: Sequence[Episode], may_fail: bool = False) -> Simulation:
    """The simulator's own simulation if it has one, else gymnasium's.

    Args:
        suite: of the tasks.
        episodes: what is simulated.
        may_fail: whether an environment may raise; see `rollout`.

    Raises:
        InputError: the suite has no simulator.
    """
    simulator = simulator_of(suite)
    simulation = simulator.simulation(episodes) if isinstance(simulator, SimulatesItself) else None
    return simulation or GymnasiumSimulation(suite, episodes, environments(simulator, episodes), may_fail)


class GymnasiumSimulation:
    """Steps one environment after the other.

    Where an environment may fail, one that raises at a step ends its episode. One that cannot begin an episode is
    renewed, as what ran before may have left something behind; if a fresh one cannot either, but begins another
    episode of the task, then it is this initial state that is broken: the episode ends there and shows the other one's
    first observation. An environment that cannot begin at all is refused, since no learner has done anything yet.

    Raises:
        InputError: an observation has the wrong shape or type, or `info` no 'success'.
        UserCodeError: an environment raises and may not, cannot begin, or gives what it may not give.
    """

    def __init__(
        self, suite: TaskSuite, episodes: Sequence[Episode], envs: Sequence[Env], may_fail: bool = False
    ) -> None:
        self._simulator, self._episodes, self._envs = simulator_of(suite), episodes, list(envs)
        self._may_fail = may_fail
        self._entries = [(name, spec.shape, np.dtype(spec.dtype)) for name, spec in suite.observation.items()]
        self._rewards: list[list[float]] = [[] for _ in episodes]
        self._flags: list[list[bool]] = [[] for _ in episodes]
        self._infos: list[Mapping[str, Any]] = [{} for _ in episodes]
        self.failures: dict[int, Failure] = {}
        """Of the episodes in which the environment raised, by number."""

    def reset(self) -> Observations:
        observations = self._empty(len(self._episodes))
        for number, episode in enumerate(self._episodes):
            try:
                self._begin(number, episode.seed, observations)
            except UserCodeError:
                self._begin_anew(number, observations)
        return observations

    def step(self, running: NDArray[np.intp], actions: NDArray[np.float32]) -> tuple[Observations, NDArray[np.bool_]]:
        observations = self._empty(len(running))
        ended = np.empty(len(running), dtype=np.bool_)
        for row, (number, action) in enumerate(zip(running.tolist(), actions, strict=True)):
            try:
                ended[row] = self._advance(number, action, observations, row)
            except AmfError:
                raise
            except Exception as error:
                self.failures[number] = self._blamed(number, error)
                ended[row] = True
                for entry in observations.values():
                    entry[row] = 0
        return observations, ended

    def outcome(self, number: int) -> Outcome:
        where = self._where(number)
        success = said_success(self._simulator.episode_success(self._flags[number]), where, "episode_success")
        return Outcome(np.array(self._rewards[number]), success, dict(self._infos[number].get("metrics", {})))

    def rewards(self, number: int) -> tuple[float, ...]:
        """Of an episode so far."""
        return tuple(self._rewards[number])

    def discard(self, numbers: Iterable[int]) -> None:
        """Forgets the environments of the episodes of these numbers."""
        if envs := [self._envs[number] for number in numbers]:
            discard(self._simulator, envs)

    def _begin(self, number: int, seed: int, observations: Observations) -> None:
        """Resets the environment of an episode; UserCodeError if that fails or the observation is not finite."""
        try:
            observation, _ = self._envs[number].reset(seed=seed, options=dict(self._episodes[number].task.options))
            self._take(observation, number, observations, number)
        except AmfError:
            raise
        except Exception as error:
            raise self._refused(number, error) from error
        for name, entry in observations.items():
            if entry.dtype.kind == "f" and not np.isfinite(entry[number]).all():
                raise UserCodeError(
                    f"{self._where(number)}: {_what(name)} after reset is not finite (NaN or infinite)."
                )

    def _begin_anew(self, number: int, observations: Observations) -> None:
        """In another environment; if it is not the environment that is broken, the episode has failed."""
        task, seed = self._episodes[number].task, self._episodes[number].seed
        self._envs[number] = renewed(self._simulator, task, self._envs[number])
        try:
            self._begin(number, seed, observations)
        except UserCodeError as error:
            if not self._may_fail:
                raise
            failure = Failure(FailureReason.RESET, str(error).rstrip("."))
            self._envs[number] = renewed(self._simulator, task, self._envs[number])
            self._begin(number, keyed_seed(seed, Purpose.ROLLOUT), observations)
            self.failures[number] = failure

    def _advance(self, number: int, action: NDArray[np.float32], observations: Observations, row: int) -> bool:
        """A step of one episode; whether it has ended."""
        observation, reward, terminated, truncated, info = self._envs[number].step(action)
        if "success" not in info:
            raise InputError(
                f"{self._where(number)}: the environment's info has no 'success', which every suite must report."
            )
        flag = said_success(info["success"], self._where(number), "info['success']")
        self._infos[number] = info
        self._rewards[number].append(float(reward))
        self._flags[number].append(flag)
        self._take(observation, number, observations, row)
        return bool(terminated or truncated or len(self._rewards[number]) >= self._episodes[number].task.horizon)

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

    def _blamed(self, number: int, error: Exception) -> Failure:
        """What an environment raised, as the failure of who acted; raises it where it is not that."""
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
            raise error
        if not self._may_fail or _gave_something_else(error):
            self.discard([number])
            raise self._refused(number, error) from error
        return Failure(FailureReason.EXCEPTION, f"{self._where(number)}: the environment raised {told(error)}")

    def _refused(self, number: int, error: Exception) -> UserCodeError:
        return UserCodeError(
            f"{self._where(number)}: the environment failed with {told(error)}. reset(seed=..., options=...) must "
            "give (observation, info), step(action) (observation, reward, terminated, truncated, info), with a "
            "number as reward and a dictionary as info."
        )

    def _where(self, number: int) -> str:
        return self._episodes[number].where(len(self._rewards[number]))


def _gave_something_else(error: Exception) -> bool:
    """Whether it was raised here, by what the environment gave, and not in the environment."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).parent == Path(__file__).parent


def _what(name: str) -> str:
    return "the observation" if name == STATE else f"the observation '{name}'"


def _difference(name: str, entry: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if entry.dtype != dtype:
        return f"{_what(name)} is of {entry.dtype}, the suite says {dtype}"
    return f"{_what(name)} has shape {entry.shape}, the suite says {shape}"
