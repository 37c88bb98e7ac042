"""Humanoid-v5 asked to walk and run at target velocities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.wrappers import RescaleAction
from numpy.typing import NDArray

from amf_lightning.suites.velocity import Env, VelocitySuite, VelocityTracking, make_mujoco
from amf_lightning.tasks.spec import state_specs
from amf_lightning.tasks.task import Task


class HumanoidVelocity(VelocitySuite):
    """Humanoid-v5 at a target velocity v of its centre of mass.

    With e = |v_x − v| the reward of a step is

        1 + 2 (1 − min(e, 2.5) / 2.5) + exp(−(e / 0.4)²) − 0.3 |v_y| − 0.02 ‖a‖².

    An episode ends when the robot falls. A step in which it stands and does not yet track is worth about 1 and a
    good one 4, so that each step missed by a fall costs; a fallen robot does not succeed. The observation is positions
    and velocities, the first 45 of the stock numbers; actions are rescaled to [-1, 1]; the scalar context is v / 2.

    Args:
        targets: target velocities in m/s; by default those that the shipped expert does.
        horizon: steps of an episode, 0.015 s each.
        one_hot: tell the policy the task's number instead of v / 2.
        tolerance: an episode without a fall succeeds if the mean |v_x − v| after its first 30 % is below this, in m/s.
        reference: name of the shipped reference returns, or a path; None if nothing is to be scored.
    """

    name = "HumanoidVelocity"
    observation = state_specs(45)
    action_dim = 17

    def __init__(
        self,
        targets: Sequence[float] = (0.25, 0.5, 0.75, 1, 1.25, 1.5),
        horizon: int = 200,
        one_hot: bool = False,
        tolerance: float = 0.5,
        reference: str | None = "humanoid/reference",
    ) -> None:
        super().__init__(targets, horizon, 2.0, one_hot, tolerance, reference)

    def make(self, task: Task, render_mode: str | None = None) -> Env:
        """Humanoid-v5 with the velocity task; `task` chooses nothing, its target is given to `reset`."""
        stock = make_mujoco(
            "Humanoid-v5",
            task.horizon,
            render_mode,
            include_cinert_in_observation=False,
            include_cvel_in_observation=False,
            include_qfrc_actuator_in_observation=False,
            include_cfrc_ext_in_observation=False,
        )
        env: Env = RescaleAction(stock, np.float32(-1.0), np.float32(1.0))
        return _HumanoidTracking(env, task.horizon, self.tolerance)


class _HumanoidTracking(VelocityTracking):
    def reward_for(self, error: float, action: NDArray[Any], info: dict[str, Any]) -> float:
        tracking = 2.0 * (1.0 - min(error, 2.5) / 2.5) + float(np.exp(-((error / 0.4) ** 2)))
        return 1.0 + tracking - 0.3 * abs(float(info["y_velocity"])) - 0.02 * float(np.square(action).sum())
