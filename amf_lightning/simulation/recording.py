"""What happened in episodes that ran side by side, and why those that broke off did."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.simulation.simulation import Observations, Outcome, Simulation
from amf_lightning.simulation.success import said_success
from amf_lightning.tasks.failure import Failure, FailureReason
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.user_code import refusal

Running = NDArray[np.intp]
"""Numbers of the episodes that run, [r]."""


class Recording:
    """Observations, actions and ends of some episodes, step by step.

    Args:
        suite: of the tasks.
        episodes: n of them.
        may_fail: whether an episode may break off; else what would make it is an error.
        acting: what acts; an action that is not finite is its mistake.
    """

    def __init__(self, suite: TaskSuite, episodes: Sequence[Episode], may_fail: bool, acting: object) -> None:
        self._episodes, self._may_fail, self._acting = episodes, may_fail, acting
        longest = max(episode.task.horizon for episode in episodes)
        self._observations = {
            name: np.empty((longest + 1, len(episodes), *spec.shape), dtype=spec.dtype)
            for name, spec in suite.observation.items()
        }
        self._actions = np.zeros((longest, len(episodes), suite.action_dim), dtype=np.float32)
        self._lengths = np.zeros(len(episodes), dtype=int)
        self._all = np.ones(len(episodes), dtype=np.bool_)
        self.failures: dict[int, Failure] = {}
        """Of the episodes that broke off, by number."""

    def begin(self, observations: Observations, failures: Mapping[int, Failure]) -> Running:
        """Takes the first observations, [n, *shape] each; returns what runs.

        Raises:
            InputError: one is not finite.
        """
        everything = np.arange(len(self._episodes))
        for name, entry in observations.items():
            if len(unsound := _unsound(entry)):
                raise InputError(f"{self._where(int(unsound[0]), 0)}: {_not_finite(_named(name))}.")
            self._observations[name][0] = entry
        return everything[self._broken_off(everything, failures, 1)]

    def choose(self, step: int, running: Running, actions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of `running` [r] can act by their actions [r, A]; the others break off.

        Raises:
            AmfError: one cannot, and may not fail; UserCodeError if what acts is a class of the user.
        """
        if _sound(actions):
            return self._all[: len(running)]
        unsound = running[_unsound(actions)].tolist()
        found = {number: self._failure(FailureReason.ACTION, "action", number, step) for number in unsound}
        return self._broken_off(running, found, step + 1)

    def act(self, step: int, running: Running, actions: NDArray[np.float32]) -> None:
        """Keeps what was chosen at a step, [r, A]."""
        self._actions[step, running] = actions

    def take(
        self,
        step: int,
        running: Running,
        observations: Observations,
        ended: NDArray[np.bool_],
        failures: Mapping[int, Failure],
    ) -> NDArray[np.bool_]:
        """Takes the observations after so many steps, [r, *shape] each; returns which of `running` [r] go on.

        Raises:
            InputError: an observation is not finite, and the episode may not fail.
        """
        found = {number: failures[number] for number in running.tolist() if number in failures} if failures else {}
        for name, entry in observations.items():
            if not _sound(entry):
                for number in running[_unsound(entry)].tolist():
                    if number not in found:
                        found[number] = self._failure(FailureReason.OBSERVATION, _named(name), number, step)
            self._observations[name][step, running] = entry
        if not ended.any():
            return self._broken_off(running, found, step)
        self._lengths[running[ended]] = step
        return ~ended & self._broken_off(running, found, step)

    def trajectories(self, simulation: Simulation) -> list[Trajectory]:
        """All episodes, once none of them runs any more."""
        return [self._trajectory(number, simulation) for number in range(len(self._episodes))]

    def _broken_off(self, running: Running, found: Mapping[int, Failure], length: int) -> NDArray[np.bool_]:
        """Which go on, [r]; the others end there and have so many steps."""
        if not found:
            return self._all[: len(running)]
        self.failures |= found
        self._lengths[list(found)] = length
        return ~np.isin(running, list(found))

    def _failure(self, reason: FailureReason, what: str, number: int, step: int) -> Failure:
        told = f"{self._where(number, step)}: {_not_finite(what)}"
        if not self._may_fail:
            if reason == FailureReason.ACTION:
                raise refusal(self._acting, told, f"Correct what {type(self._acting).__name__} gives.")
            raise InputError(f"{told}.")
        return Failure(reason, told)

    def _trajectory(self, number: int, simulation: Simulation) -> Trajectory:
        episode, length = self._episodes[number], int(self._lengths[number])
        began = length > 1 or number not in self.failures
        outcome = simulation.outcome(number) if began else Outcome(np.zeros(0), False)
        rewards, success = np.asarray(outcome.rewards), False
        if number not in self.failures:  # what a simulation of the user says, too
            success = said_success(outcome.success, self._where(number, length), "success")
        unsound = _unsound(rewards[:length])
        if self._may_fail and len(unsound) and (int(unsound[0]) + 1 < length or number not in self.failures):
            length = int(unsound[0]) + 1  # nothing that came later counts
            self.failures[number] = self._failure(FailureReason.REWARD, "reward", number, length)
        failure = self.failures.get(number)
        if failure is not None:
            before = rewards[: length - 1]
            rewards = np.append(before, min(0.0, *before.tolist()) if len(before) else 0.0)
        seen = length + (failure is None)
        return Trajectory(
            observations={name: entry[:seen, number].copy() for name, entry in self._observations.items()},
            actions=self._actions[:length, number].copy(),
            rewards=rewards,
            task=episode.task.name,
            seed=episode.seed,
            success=success and failure is None,
            metrics=outcome.metrics if failure is None else {},
            failure=failure,
        )

    def _where(self, number: int, step: int) -> str:
        return self._episodes[number].where(step)


def _unsound(values: NDArray[Any]) -> NDArray[np.intp]:
    """Rows of [r, ...] that are not finite."""
    if _sound(values):
        return np.empty(0, dtype=np.intp)
    return np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))


def _sound(values: NDArray[Any]) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _named(entry: str) -> str:
    """How messages name an entry of the observation."""
    return "observation" if entry == STATE else f"observation '{entry}'"


def _not_finite(what: str) -> str:
    return f"the {what} is not finite (NaN or infinite)"
