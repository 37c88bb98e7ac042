"""Experts that are formulas."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.suites.integrator import Integrator, expert_actions
from amf_lightning.tasks.controller import Actor
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class IntegratorExpert(ActingExpert):
    """Goes straight to the goal: a = (g − x)/SPEED, scaled down to the length 1 where it is longer.

    Args:
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.
    """

    def actor(self, suite: TaskSuite) -> Actor:
        """The formula.

        Raises:
            InputError: the suite is not the integrator.
        """
        if not isinstance(suite, Integrator):
            raise InputError(
                f"IntegratorExpert knows the suite {Integrator.name}, not '{suite.name}'. Choose that suite's expert."
            )
        return _Straight()


class UnsteadyExpert(IntegratorExpert):
    """Goes straight to the goal but records actions that are off: demonstrations that teach little, or never agree.

    For worlds in which it is known what cannot be learned. Recorded actions are clipped to [-1, 1].

    Args:
        tasks: names of those in which it is unsteady; None for all.
        tremor: standard deviation of what is added to each recorded action, drawn anew at each step: the mean over many
            demonstrations is right.
        bias: standard deviation of what is added to all recorded actions of a demonstration, drawn once for each: two
            demonstrations contradict each other.
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.

    Raises:
        InputError: tremor or bias is negative; when it demonstrates: a task is not one of the suite.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None = None,
        tremor: float = 0.0,
        bias: float = 0.0,
        noise: float = 0.0,
        successes_only: bool = True,
        max_attempts: int = 5,
    ) -> None:
        super().__init__(noise, successes_only, max_attempts)
        if tremor < 0 or bias < 0:
            raise InputError(f"UnsteadyExpert needs tremor >= 0 and bias >= 0, got {tremor} and {bias}.")
        self.tasks, self.tremor, self.bias = tasks, tremor, bias

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """As every acting expert, with recorded actions that are off in the tasks named."""
        unsteady = {suite.task(name).name for name in self.tasks} if self.tasks is not None else None
        shown = super().demonstrate(suite, episodes, on_step)
        return [each if unsteady is not None and each.task not in unsteady else self._off(each) for each in shown]

    def _off(self, shown: Trajectory) -> Trajectory:
        generator = keyed_generator(shown.seed or 0, Purpose.DEMONSTRATE)
        draws = torch.randn(
            (1 + shown.length, shown.actions.shape[1]), generator=generator, dtype=torch.float64
        ).numpy()
        wrong = shown.actions + self.bias * draws[0] + self.tremor * draws[1:]
        return replace(shown, actions=np.clip(wrong, -1, 1).astype(shown.actions.dtype))


class _Straight:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        actions = expert_actions(observations.double().cpu().numpy(), contexts.double().cpu().numpy())
        return torch.from_numpy(actions).to(observations)
