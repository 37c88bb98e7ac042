"""Gymnasium environments as this package runs them: made by id or class, vectors in, named entries out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

import gymnasium
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from amf_lightning.errors import AmfError, InputError
from amf_lightning.import_path import imported, told
from amf_lightning.simulation.spaces import Actions, ObservationEntries
from amf_lightning.simulation.success import said_success

Env = gymnasium.Env[Any, NDArray[Any]]
SUCCESS_KEYS = ("success", "is_success", "episode_task_completions")
"""Entries of `info` that are looked for if none is named."""


def make_environment(environment: str, horizon: int, arguments: Mapping[str, Any]) -> Env:
    """A registered environment by id, or whatever the import path names, with a time limit.

    Raises:
        InputError: there is neither, it does not take the arguments, or it is no environment.
    """
    try:
        registered = ":" in environment or gymnasium.spec(environment) is not None
    except gymnasium.error.Error as unknown:
        if "." not in environment:
            raise InputError(
                f"GymnasiumSuite: there is no environment '{environment}': {str(unknown).rstrip('.')}. If a package "
                f"registers it, write `package:{environment}`; for a class of yours give its import path, module.Class."
            ) from unknown
        registered = False
    factory = None if registered else imported(environment, "suite.environment", _is_environment, "is no gymnasium.Env")
    try:
        if factory is None:
            return gymnasium.make(environment, max_episode_steps=horizon, disable_env_checker=True, **arguments)
        env = factory(**arguments)
    except AmfError:
        raise
    except Exception as error:
        raise InputError(
            f"GymnasiumSuite: '{environment}' cannot be made with arguments {dict(arguments)}: {told(error)}."
        ) from error
    if not isinstance(env, gymnasium.Env):
        raise InputError(f"GymnasiumSuite: '{environment}' made a {type(env).__name__}, which is no gymnasium.Env.")
    if not (hasattr(env, "observation_space") and hasattr(env, "action_space")):
        raise InputError(f"GymnasiumSuite: '{environment}' must set observation_space and action_space.")
    return TimeLimit(env, horizon)


def _is_environment(kind: type) -> bool:
    return issubclass(kind, gymnasium.Env)


@dataclass(frozen=True)
class Success:
    """Reads from `info` or the return whether the episode so far is a success."""

    key: str | None
    threshold: float | None
    completes: frozenset[str]
    task: str

    def __call__(self, info: Mapping[str, Any], so_far: float, last: bool) -> bool:
        if self.threshold is not None:
            return so_far >= self.threshold
        key = next((key for key in ((self.key,) if self.key else SUCCESS_KEYS) if key in info), None)
        if key is None:
            if not last:
                return False  # some environments say it at the end only
            raise InputError(
                f"Task '{self.task}': when the episode ended its info had no "
                f"{' or '.join(repr(key) for key in ([self.key] if self.key else SUCCESS_KEYS))}, only "
                f"{', '.join(sorted(info)) or 'nothing'}. Set suite.success to what says that the task is solved, or "
                "suite.return_threshold to a return that does."
            )
        value = info[key]
        if isinstance(value, list | tuple | set | frozenset):
            return bool(value) and self.completes <= set(value)
        if self.completes:
            raise InputError(
                f"Task '{self.task}' completes {', '.join(sorted(self.completes))}, but '{key}' in info is {value!r}, "
                "no list of what is done. Set suite.success to the entry that is one, or leave `completes` out."
            )
        return said_success(value, f"Task '{self.task}'", f"'{key}' in info")


class Adapted(gymnasium.Wrapper[dict[str, NDArray[Any]], NDArray[Any], Any, Any]):
    """Vectors in, entries of the observation out, and `info["success"]`."""

    def __init__(self, env: Env, observations: ObservationEntries, actions: Actions, success: Success) -> None:
        super().__init__(env)
        self._observations, self._actions, self._success = observations, actions, success
        self._return = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._return = 0.0
        return self._observations(observation), info

    def step(self, action: NDArray[Any]) -> tuple[dict[str, NDArray[Any]], SupportsFloat, bool, bool, dict[str, Any]]:
        """A step of the environment."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions(action))
        self._return += float(reward)
        flag = self._success(info, self._return, terminated or truncated)
        return self._observations(observation), reward, terminated, truncated, {"success": flag}
