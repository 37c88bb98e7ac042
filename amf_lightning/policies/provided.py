"""What a policy has of what parts of a run may need."""

import torch

from amf_lightning.needs import Need
from amf_lightning.policies.capabilities import Density, Embeds, LinearHead
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.policies.rehearsal import bearable_steps
from amf_lightning.seeding import drawn_by, lent_global_generators
from amf_lightning.tasks.task import TaskSuite

_CAPABILITIES = {Need.DENSITY: Density, Need.FEATURES: Embeds, Need.LINEAR_HEAD: LinearHead}


def lacks(policy: Policy, suite: TaskSuite | None = None) -> dict[Need, str]:
    """What a policy does not have, each with the reason as a clause, for `check_needs`.

    Args:
        policy: any.
        suite: that it is made for, to try its loss on rows of; None: it is not tried.
    """
    kind = type(policy).__name__
    missing = {need: f"{kind} has none" for need, capability in _CAPABILITIES.items() if not policy.can(capability)}
    if not isinstance(policy, GaussianProcessPolicy):
        missing[Need.OWN_POSTERIOR] = f"{kind} is none"
    if isinstance(policy, RefittedPolicy):
        missing[Need.GRADIENT_STEPS] = f"{kind} is fitted in closed form"
    elif suite is not None and (generators := draws_in_evaluation(policy, suite)):
        missing[Need.REPEATABLE_LOSS] = f"that of {kind} draws from {generators[0]} even if `self.training` is False"
    return missing


def draws_in_evaluation(policy: Policy, suite: TaskSuite) -> list[str]:
    """What the loss draws from by itself in evaluation mode, in words."""
    copy = frozen_copy(policy).cpu()
    with lent_global_generators() as set_to, torch.no_grad():
        set_to(0)
        steps, _ = bearable_steps(copy, suite)
        return drawn_by(lambda: copy.loss(steps))
