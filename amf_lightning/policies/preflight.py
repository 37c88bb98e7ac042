"""Tries, before anything is demonstrated, whether all that is done with a policy later will work."""

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import GaussianDensity, LinearHead, embedded
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.policies.rehearsal import bearable_steps, rehearse
from amf_lightning.policies.statistics import backbone_hash
from amf_lightning.policies.weights import encode_policy
from amf_lightning.seeding import RowGenerators, lent_global_generators
from amf_lightning.simulation.placement import rows_apart, spaced
from amf_lightning.simulation.rollout import on_one_thread
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import TaskSuite


def rehearse_export(policy: Policy, suite: TaskSuite) -> bool:
    """Does with a copy what an export does; whether it has features, whose statistics its file can hold.

    Warns if a policy that might has none: a later run that selects by them could not start from it.

    Raises:
        InputError: it cannot be written into a file, or what it takes for its last layer is another one.
        UserCodeError: it cannot act or learn as a policy must; see `rehearse`.
    """
    rehearse(policy, suite)
    copy = frozen_copy(policy).cpu()
    check_placed(copy, suite)
    try:
        encode_policy(copy, suite.signature(), None, {})
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{type(policy).__name__} cannot be written into a file: {error}.") from error
    if isinstance(policy, RefittedPolicy):
        return False
    # Rollouts pad with rows of zeros: every policy has to bear them.
    steps = blank_steps(copy, suite)
    for part in copy.parts:
        check_last_layer(part, steps)
    try:
        embedded(copy, steps)
        backbone_hash(copy)
    except InputError as error:
        warnings.warn(f"The file of this policy will hold no feature statistics. {error}", stacklevel=2)
        return False
    return True


@torch.no_grad()
def check_placed(policy: Policy, suite: TaskSuite, rows: int = 32) -> None:
    """Warns if the bits of a row depend on its place among as many rows as episodes run side by side.

    Rollouts keep rows apart where a layer is known to do that; this finds what else does.
    """
    apart, order = rows_apart(policy), torch.arange(rows)
    with lent_global_generators() as set_to, on_one_thread():
        set_to(0)
        steps, _ = bearable_steps(policy, suite)

        def predicted(order: Tensor) -> Tensor:
            numbers = spaced(order % len(steps), apart)
            generator = RowGenerators(numbers.tolist(), 0) if policy.samples else None
            return policy.predict(steps[numbers], generator)[::apart]

        first = predicted(order)
        if not first.isfinite().all():  # said where it acts, with what to do
            return
        if all(torch.equal(predicted(order.roll(by)), first.roll(by, 0)) for by in (1, 2)):
            return
    warnings.warn(
        f"{type(policy).__name__}: the last bits of a row depend on its place among {rows} rows, so an episode is not "
        "quite the same beside others. Let the widths of its layers be multiples of 4, and compute with "
        "torch.nn.Linear rather than with products of small matrices (docs/policies.md).",
        stacklevel=2,
    )


def blank_steps(policy: Policy, suite: TaskSuite, rows: int = 2) -> Steps:
    """Rows of zeros, of the suite's first task, as the policy sees them."""
    history = (policy.window.history,) if policy.window.history > 1 else ()
    observations = {
        name: torch.from_numpy(np.zeros((rows, *history, *spec.shape), spec.dtype))
        for name, spec in suite.observation.items()
    }
    tasks = torch.zeros(rows, dtype=torch.int64)
    return Steps(observations, tasks, suite.contexts[tasks])


@torch.no_grad()
def check_last_layer(policy: Policy, steps: Steps) -> None:
    """Raises InputError if the layer that is registered last is used, but is not the one that gives the actions.

    Then another linear layer is applied after it; or it has not as many outputs as an action or a chunk has entries,
    though the policy has the default distribution, with nothing else to give. A policy that names its own
    `output_layer` knows better.
    """
    layers = [module for module in policy.modules() if isinstance(module, nn.Linear)]
    if not isinstance(policy, LinearHead) or type(policy).output_layer is not LinearHead.output_layer or not layers:
        return
    applied: list[nn.Module] = []
    handles = [layer.register_forward_pre_hook(lambda module, _: applied.append(module)) for layer in layers]
    try:
        actions = policy.act(steps)
    finally:
        for handle in handles:
            handle.remove()
    last = policy.output_layer
    log_prob = getattr(type(policy), "log_prob", GaussianDensity.log_prob)
    plain = type(policy).loss is Policy.loss and log_prob is GaussianDensity.log_prob
    of_action = actions.shape[-1]
    fits = not plain or last.out_features in (of_action, policy.window.horizon * of_action)
    if last not in applied or (applied[-1] is last and fits):
        return
    name = next(name for name, module in policy.named_modules() if module is last)
    raise InputError(
        f"{type(policy).__name__}: '{name}' is the linear layer that is registered last, but not the one that gives "
        "the actions, so its input is not the policy's features. Register the last layer last, or give the policy a "
        "property `output_layer` that is it."
    )
