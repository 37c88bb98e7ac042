"""HalfCheetah-v5 at target velocities, stepped straight in MuJoCo: the bits of gymnasium's environment, sooner."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from amf_lightning.simulation.simulation import Env, Observations, Outcome
from amf_lightning.suites.velocity import settling_steps
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.task import Episode

_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
"""All that the next state depends on, by MuJoCo's word: time, positions, velocities, warm start, controls, ..."""


class HalfCheetahSimulation:
    """Episodes side by side in one environment, whose state is swapped: it and the policy then stay in a core's cache.

    Gymnasium resets the environment. A step is MuJoCo's alone, and observations, rewards and success repeat the
    floating-point operations of `HalfCheetahEnv` and `VelocityTracking` in their order, for all episodes at once. Left
    out is what only `info` shows: control costs, and contact forces by body (`mj_rnePostConstraint`), which no later
    step depends on.

    Args:
        episodes: all of one horizon T.
        env: HalfCheetah-v5 with the velocity task and nothing else.
        tolerance: of a success, in m/s.
    """

    def __init__(self, episodes: Sequence[Episode], env: Env, tolerance: float) -> None:
        self._episodes, self._env, self._tolerance = episodes, env, tolerance
        stock = env.unwrapped
        self._model, self._data = stock.model, stock.data  # type: ignore[attr-defined]
        self._frames, self._dt = stock.frame_skip, stock.dt  # type: ignore[attr-defined]
        count, horizon = len(episodes), episodes[0].task.horizon
        self._states = np.zeros((count, mujoco.mj_stateSize(self._model, _STATE)))
        self._state_of = list(self._states)  # a row is not cut out of it at every step
        # Views of it, which MuJoCo orders by the bits of `mjtState`.
        below = {name: mujoco.mj_stateSize(self._model, (int(bit) - 1) & _STATE) for name, bit in _BITS.items()}
        self._moving = self._states[:, below["qpos"] : below["qpos"] + self._model.nq + self._model.nv]
        self._controls = self._states[:, below["ctrl"] : below["ctrl"] + self._model.nu]
        self._x = np.empty((horizon + 1, count))
        """Positions along x in m, before the first step and after each."""
        self._actions = np.empty((horizon, count, self._model.nu), dtype=np.float32)
        self._taken = 0
        self._lengths = np.zeros(count, dtype=int)

    def reset(self) -> Observations:
        for episode, state in zip(self._episodes, self._states, strict=True):
            self._env.reset(seed=episode.seed, options=dict(episode.task.options))
            mujoco.mj_getState(self._model, self._data, state, _STATE)
        return self._observe(np.arange(len(self._episodes)))

    def step(self, running: NDArray[np.intp], actions: NDArray[np.float32]) -> tuple[Observations, NDArray[np.bool_]]:
        rows = self._rows(running)
        self._controls[rows] = self._actions[self._taken, rows] = actions
        model, data, frames = self._model, self._data, self._frames
        set_state, step, get_state = mujoco.mj_setState, mujoco.mj_step, mujoco.mj_getState
        for number in running.tolist():
            state = self._state_of[number]
            set_state(model, data, state, _STATE)
            step(model, data, frames)
            get_state(model, data, state, _STATE)
        self._taken += 1
        self._lengths[rows] = self._taken
        return self._observe(running), np.full(len(running), self._taken == len(self._actions))

    def _observe(self, running: NDArray[np.intp]) -> Observations:
        """Positions and velocities but for the position along x, [r, 17]; that is noted."""
        self._x[self._taken] = self._moving[:, 0]
        return {STATE: self._moving[self._rows(running), 1:].astype(np.float32)}

    def _rows(self, running: NDArray[np.intp]) -> NDArray[np.intp] | slice:
        """An index of `running`: a slice, which costs less, as long as every episode runs."""
        return slice(None) if len(running) == len(self._states) else running

    def outcome(self, number: int) -> Outcome:
        length = self._lengths[number]  # of an episode that broke off: less than the horizon
        velocities = np.diff(self._x[: length + 1, number]) / self._dt
        errors = np.abs(velocities - self._episodes[number].task.options["velocity"])
        rewards = -errors - 0.05 * np.square(self._actions[:length, number]).sum(axis=1).astype(np.float64)
        settled = errors[settling_steps(len(self._actions)) :]  # empty only where it broke off before
        mean = float(np.mean(settled if len(settled) else errors))
        return Outcome(rewards, bool(len(settled)) and mean < self._tolerance, {"velocity_error": mean})


_BITS = {"qpos": mujoco.mjtState.mjSTATE_QPOS, "ctrl": mujoco.mjtState.mjSTATE_CTRL}
