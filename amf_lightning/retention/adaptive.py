"""π0 stays, and each task moves away from it only as far as its demonstrations justify (AMF, arXiv 2410.05026)."""

from typing import cast

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import LearnsFromTeacher
from amf_lightning.policies.mixture import PriorMixture, mixed
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.retention import Retention
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import TaskSuite


class AdaptivePrior(Retention):
    """Deploys (1 − α_c)·π0 + α_c·π_θ, with α_c in [0, 1] learned for each task (AMF's final version).

    π_θ learns by behavioural cloning as if it were alone. α_c learns by the squared error of the mixture with π_θ held
    fixed, plus caution·α_c: it leaves 0 where π_θ is nearer to the expert than π0 is, by about caution/2 in squared
    error. A task without demonstrations keeps α_c = 0 and is π0 to the bit; nothing is transferred to it either.

    Args:
        caution: price of α_c = 1, in units of the squared error of an action entry.

    Raises:
        InputError: the caution is negative.
    """

    def __init__(self, caution: float = 0.01) -> None:
        if caution < 0:
            raise InputError(f"AdaptivePrior.caution is {caution}; it must not be negative.")
        self.caution = caution

    def wrap(self, policy: Policy, suite: TaskSuite) -> Policy:
        if policy.discrete:
            raise InputError(
                "AdaptivePrior mixes actions, and those of this suite are choices. Use SelfDistillation or "
                "ParameterIsolation."
            )
        if policy.window.horizon > 1:
            raise InputError(
                f"AdaptivePrior mixes single actions, and {type(policy).__name__} predicts {policy.window.horizon} at "
                "a time. Use SelfDistillation or ParameterIsolation."
            )
        if policy.samples or policy.can(LearnsFromTeacher):
            raise InputError(
                f"AdaptivePrior mixes actions, and {type(policy).__name__} chooses among several ways of doing a task, "
                "between which lies none. Use SelfDistillation or ParameterIsolation."
            )
        if not policy.is_normalised:
            raise InputError("AdaptivePrior holds on to π0, and there is none: set model.pretrained.")
        return PriorMixture.of(policy, suite.contexts, suite.dimensions)

    def loss(self, policy: Policy, steps: Steps) -> Tensor:
        mixture = cast(PriorMixture, policy)
        with torch.no_grad():
            prior, learned = mixture.prior.act(steps), mixture.learner.act(steps)
        alpha = mixture.alpha(steps.contexts)
        error = (mixed(alpha, prior, learned) - steps.shown_actions).square().mean(dim=1)
        return mixture.learner.loss(steps) + error + self.caution * alpha

    def after_step(self, policy: Policy) -> None:
        cast(PriorMixture, policy).bound()

    def measure(self, policy: Policy, suite: TaskSuite) -> dict[str, float]:
        if not isinstance(policy, PriorMixture):  # another policy is validated under this configuration
            return {}
        alphas = policy.alphas.tolist()
        return {f"alpha/{task.name}": alpha for task, alpha in zip(suite.tasks, alphas, strict=True)}
