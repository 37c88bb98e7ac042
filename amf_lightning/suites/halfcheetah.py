"""HalfCheetah-v5 asked to run at ten velocities, backwards to fast."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.simulation.simulation import environments
from amf_lightning.suites.velocity import Env, VelocitySuite, VelocityTracking, make_mujoco
from amf_lightning.tasks.spec import state_specs
from amf_lightning.tasks.task import Episode, Task

if TYPE_CHECKING:
    from amf_lightning.suites.halfcheetah_simulation import HalfCheetahSimulation


class HalfCheetahVelocity(VelocitySuite):
    """HalfCheetah-v5 at a target velocity v; reward −|v_x − v| − 0.05‖a‖² a step.

    The observation is the stock one, 17 numbers; the scalar context is v / 3.

    Args:
        targets: target velocities in m/s.
        horizon: steps of an episode, 0.05 s each.
        one_hot: tell the policy the task's number instead of v / 3.
        tolerance: an episode succeeds if the mean |v_x − v| after its first 30 % is below this, in m/s. 0.5 leaves
            the expert a margin on the fastest task and tells every two neighbouring targets apart.
        reference: name of the shipped reference returns, or a path; None if nothing is to be scored.
    """

    name = "HalfCheetahVelocity"
    observation = state_specs(17)
    action_dim = 6

    def __init__(
        self,
        targets: Sequence[float] = (-3, -2, -1, 0, 1, 2, 3, 4, 5, 6),
        horizon: int = 200,
        one_hot: bool = False,
        tolerance: float = 0.5,
        reference: str | None = "halfcheetah/reference",
    ) -> None:
        super().__init__(targets, horizon, 3.0, one_hot, tolerance, reference)

    def make(self, task: Task, render_mode: str | None = None) -> Env:
        """HalfCheetah-v5 with the velocity task; `task` chooses nothing, its target is given to `reset`."""
        env = make_mujoco("HalfCheetah-v5", task.horizon, render_mode)
        return _HalfCheetahTracking(env, task.horizon, self.tolerance)

    def simulation(self, episodes: Sequence[Episode]) -> "HalfCheetahSimulation | None":
        """Straight in MuJoCo. What a subclass may have changed is stepped by gymnasium."""
        if type(self) is not HalfCheetahVelocity or any(episode.task not in self.tasks for episode in episodes):
            return None
        from amf_lightning.suites.halfcheetah_simulation import HalfCheetahSimulation  # imports MuJoCo

        (env,) = environments(self, episodes[:1])
        return HalfCheetahSimulation(episodes, env, self.tolerance)


class _HalfCheetahTracking(VelocityTracking):
    def reward_for(self, error: float, action: NDArray[Any], info: dict[str, Any]) -> float:
        return -error - 0.05 * float(np.square(action).sum())
