"""How important each weight is to what π0 does, measured without its pre-training data."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from amf_lightning.demonstrations.recorded_steps import RecordedSteps
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part
from amf_lightning.policies.capabilities import Density, require
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.retention import RetentionContext
from amf_lightning.seeding import Purpose, keyed_generator, keyed_seed
from amf_lightning.simulation.outcomes import check_learner
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory

_STORED_ROWS = 2000


class Importance(Part, ABC):
    """Scores every weight of a policy; the largest are worth protecting."""

    @abstractmethod
    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        """Importance of every parameter of `context.pretrained`, same shapes."""


class FisherImportance(Importance):
    """Diagonal Fisher information of π0's own action distribution on states of its own rollouts.

    Args:
        episodes: rollouts of π0 for each task.
        tasks: names of the tasks; by default those that π0 was pre-trained on (every task, if its file does not say).
    """

    needs = (Need.SIMULATOR, Need.DENSITY)
    instead = (
        "Choose the importance MagnitudeImportance or StoredImportance, or, if only the simulator is missing, "
        "DemonstratedFisher."
    )

    def __init__(self, episodes: int = 2, tasks: list[str] | None = None) -> None:
        if episodes < 1 or tasks == []:
            raise InputError("FisherImportance needs episodes >= 1 and at least one task, or `tasks: null`.")
        self.episodes = episodes
        self.tasks = tasks

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        tasks = context.pretraining_tasks()
        if self.tasks is not None:
            tasks = [context.suite.task(name).index for name in self.tasks]
        return _fisher_on(context, pretrained_steps(context, tasks, self.episodes))


class DemonstratedFisher(Importance):
    """Diagonal Fisher information of π0's own action distribution on the states of given demonstrations.

    Args:
        folder: of demonstrations, e.g. `demonstrations` in the folder of the run that made π0.
    """

    needs = (Need.DENSITY,)
    instead = "Choose the importance MagnitudeImportance."

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        return _fisher_on(context, _as_seen(context, DemonstrationStore(Path(self.folder)).read_all()))


class StoredImportance(Importance):
    """What π0's file keeps, if it was exported with `model.store_importance: true`: the Fisher diagonal on the states
    that it was trained on, so that neither those nor a simulator are needed.
    """

    needs = (Need.STORED_IMPORTANCE,)
    instead = (
        "Make it with model.store_importance: true, or choose the importance MagnitudeImportance, or FisherImportance."
    )

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        """See `Importance.compute`.

        Raises:
            InputError: π0's file keeps none.
        """
        if not context.importance:
            raise InputError(
                "StoredImportance: the file of the pre-trained policy keeps no importance. Make it with "
                "model.store_importance: true, or use FisherImportance."
            )
        return dict(context.importance)


class MagnitudeImportance(Importance):
    """|θ|: large weights are taken to matter. Needs no simulator."""

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        return {name: parameter.detach().abs() for name, parameter in context.pretrained.named_parameters()}


class RandomImportance(Importance):
    """A keyed uniform draw: the control against which an importance must show its worth."""

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        generator = keyed_generator(context.seed, Purpose.RETAIN, 2)
        return {
            name: torch.rand(parameter.shape, generator=generator)
            for name, parameter in context.pretrained.named_parameters()
        }


def diagonal_fisher(policy: Policy, steps: Steps, chunk: int = 128) -> dict[str, Tensor]:
    """Mean over N rows of the squared gradient of each row's log-probability: diag F = E[(∂ log π(a|s,c)/∂θ)²].

    The squared gradient of the mean would be something else: it vanishes at a maximum of the likelihood.

    Args:
        policy: π, with a `Density`.
        steps: [N], with actions drawn from the policy itself (otherwise it is the empirical Fisher).
        chunk: rows whose gradients are held at once.

    Returns:
        For each named parameter a tensor of its shape, not negative.
    """
    parameters = {name: parameter.detach() for name, parameter in policy.named_parameters()}
    buffers = dict(policy.named_buffers())

    def log_prob(weights: dict[str, Tensor], row: dict[str, Any]) -> Tensor:
        renamed = {f"policy.{name}": tensor for name, tensor in (weights | buffers).items()}
        step = Steps.from_tensors(row).map(lambda tensor: tensor[None])
        return cast(Tensor, functional_call(_LogProb(policy), renamed, (step,)))[0]

    per_row = vmap(grad(log_prob), in_dims=(None, 0))
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for start in range(0, len(steps), chunk):
        # Of the ways in which torch computes attention this one can be mapped over rows.
        with sdpa_kernel(SDPBackend.MATH):
            gradients = per_row(parameters, steps[start : start + chunk].tensors())
        for name, gradient in gradients.items():
            total[name] += gradient.square().sum(dim=0)
    return {name: tensor / len(steps) for name, tensor in total.items()}


def own_fisher(policy: Policy, steps: Steps, generator: torch.Generator) -> dict[str, Tensor]:
    """`diagonal_fisher` with actions drawn from the policy itself."""
    density = require(policy, Density, "FisherImportance", "Choose MagnitudeImportance")
    return diagonal_fisher(policy, steps.with_actions(density.sample(steps, generator)))


def stored_importance(policy: Policy, steps: Steps, seed: int) -> dict[str, Tensor]:
    """What an exported file keeps for `StoredImportance`: `own_fisher` on at most 2,000 of the rows, evenly spaced."""
    stride = -(-len(steps) // _STORED_ROWS)
    return own_fisher(policy, steps[::stride], keyed_generator(seed, Purpose.RETAIN, 3))


def _fisher_on(context: RetentionContext, steps: Steps) -> dict[str, Tensor]:
    return own_fisher(context.pretrained, steps, keyed_generator(context.seed, Purpose.RETAIN, 1))


def pretrained_steps(context: RetentionContext, tasks: list[int], episodes: int, noise: float = 0.0) -> Steps:
    """Steps of π0's own rollouts of some tasks, [N], with executed noise of that deviation."""
    runs = [
        Episode(context.suite.tasks[index], keyed_seed(context.seed, Purpose.RETAIN, 0, index, i))
        for index in tasks
        for i in range(episodes)
    ]
    trajectories = rollout(context.pretrained, context.suite, runs, noise=noise, may_fail=True)
    check_learner(trajectories, "episodes of the retention")
    return _as_seen(context, trajectories)


def _as_seen(context: RetentionContext, trajectories: Sequence[Trajectory]) -> Steps:
    """Every step in which an action was taken, [N], in the window of π0."""
    return RecordedSteps(trajectories, context.suite, context.pretrained.window)[:]


class _LogProb(torch.nn.Module):
    """`functional_call` calls `forward`; this makes it call `log_prob`."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, steps: Steps) -> Tensor:
        return cast(Density, self.policy).log_prob(steps)
