"""HalfCheetah-v5 at target velocities, stepped straight in MuJoCo: the bits of gymnasium's environment, sooner."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from amf_lightning.tasks.simulation import Env, Outcome
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.velocity import settling_steps


class HalfCheetahSimulation:
    """Episodes side by side, one `MjData` each; what follows from the states is computed for all at once.

    Gymnasium resets the environments. A step is then MuJoCo's alone, and observations, rewards and successes repeat
    the floating-point operations of `HalfCheetahEnv` and `VelocityTracking` in their order. Left out is what only
    `info` shows: control costs, and contact forces by body (`mj_rnePostConstraint`), which no later step depends on.

    Args:
        episodes: all of one horizon.
        envs: HalfCheetah-v5 with the velocity task and nothing else, of one and the same model.
        tolerance: of a success, in m/s.
    """

    def __init__(self, episodes: Sequence[Episode], envs: Sequence[Env], tolerance: float) -> None:
        self._episodes, self._envs, self._tolerance = episodes, envs, tolerance
        self._targets = np.array([episode.task.options["velocity"] for episode in episodes])
        stock = [env.unwrapped for env in envs]
        # One model for all: thirty of them do not fit into a core's cache.
        self._model, self._frames, self._dt = stock[0].model, stock[0].frame_skip, stock[0].dt  # type: ignore[attr-defined]
        self._data = [env.data for env in stock]  # type: ignore[attr-defined]
        self._horizon = episodes[0].task.horizon
        self._settled = settling_steps(self._horizon)
        self._states = np.empty((len(episodes), self._model.nq + self._model.nv))
        """Positions and velocities, [n, 18] float64."""
        # Looked up once: finding an attribute of MuJoCo's takes as long as copying it.
        self._parts = [
            (data, data.ctrl, data.qpos, data.qvel, state[: self._model.nq], state[self._model.nq :])
            for data, state in zip(self._data, self._states, strict=True)
        ]
        self._errors = np.empty((len(episodes), self._horizon))
        """|v_x − v| in m/s, [n, T]."""
        self._rewards = np.empty((len(episodes), self._horizon))
        self._flags = np.zeros((len(episodes), self._horizon), dtype=np.bool_)
        self._taken = 0

    def reset(self) -> NDArray[np.float32]:
        for episode, env in zip(self._episodes, self._envs, strict=True):
            env.reset(seed=episode.seed, options=dict(episode.task.options))
        for _, _, positions, velocities, to_positions, to_velocities in self._parts:
            to_positions[:] = positions
            to_velocities[:] = velocities
        return self._observations()

    def step(
        self, running: NDArray[np.intp], actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        model, frames, mj_step = self._model, self._frames, mujoco.mj_step
        before = self._states[:, 0].copy()
        for (data, control, positions, velocities, to_positions, to_velocities), action in zip(
            self._parts, actions, strict=True
        ):
            control[:] = action
            mj_step(model, data, nstep=frames)
            to_positions[:] = positions
            to_velocities[:] = velocities
        now = self._taken
        errors = np.abs((self._states[:, 0] - before) / self._dt - self._targets)
        self._errors[:, now] = errors
        self._rewards[:, now] = -errors - 0.05 * np.square(actions).sum(axis=1).astype(np.float64)
        if now >= self._settled:
            means = self._errors[:, self._settled : now + 1].mean(axis=1)
            self._flags[:, now] = means < self._tolerance
        self._taken += 1
        return self._observations(), np.full(len(running), self._taken >= self._horizon)

    def outcome(self, number: int) -> Outcome:
        errors = self._errors[number]
        mean = float(np.mean(errors[self._settled :] if self._settled < self._horizon else errors))
        return Outcome(self._rewards[number].copy(), self._flags[number].tolist(), {"velocity_error": mean})

    def _observations(self) -> NDArray[np.float32]:
        """All but the position along x, [n, 17]."""
        return self._states[:, 1:].astype(np.float32)
