"""Experts that are formulas."""

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.suites.integrator import Integrator, expert_actions
from amf_lightning.tasks.controller import Actor
from amf_lightning.tasks.task import TaskSuite


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


class _Straight:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        actions = expert_actions(observations.double().cpu().numpy(), contexts.double().cpu().numpy())
        return torch.from_numpy(actions).to(observations)
