"""Policies made of others: what is deployed where a retention keeps π0 beside what was learned, or groups apart.

Each is one `Policy` like any other: it acts, is exported, and can be the π0 of a following run, without the retention
that it was trained with.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Density, Embeds, LinearHead, require
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.recipe import Recipe, from_recipe, recipe_of
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Dimensions, Specs
from amf_lightning.tasks.steps import Steps

_SPEED = 10.0
"""α is this times its parameter: Adam moves a parameter by about its learning rate, too slow for a share of one."""


class ComposedPolicy(Density, LinearHead, Policy):
    """A policy made of others of the same dimensions; which task it is in is told by the nearest known context.

    By the context and not by the task's index, because it may be the π0 of a run with other tasks. It has a capability
    if all that it is made of have it.
    """

    contexts: Tensor
    """Of the tasks, [K, C]."""

    def __init__(self, tasks: int, context_dim: int) -> None:
        super().__init__()
        self.register_buffer("contexts", torch.zeros(tasks, context_dim))

    def act_like(self, policy: Policy) -> None:
        """Sees, predicts and acts in the window and by the controller of a policy that it is made of."""
        self.window, self.samples, self.make_controller = policy.window, policy.samples, policy.make_controller

    def can(self, capability: type) -> bool:
        return super().can(capability) and all(part.can(capability) for part in self.parts)

    def deviations(self, steps: Steps) -> Tensor | None:
        return self.parts[0].deviations(steps)

    def task_of(self, contexts: Tensor) -> Tensor:
        """Index of the task whose context is nearest to each row [N, C], [N] int64."""
        return (contexts[:, None] - self.contexts).square().sum(-1).argmin(dim=1)


class PriorMixture(ComposedPolicy):
    """(1 − α_c)·π0(s, c) + α_c·π_θ(s, c) with α_c in [0, 1] for each task: what `AdaptivePrior` deploys (AMF).

    With α_c = 0 it is π0 to the bit. Features and gradients are those of π_θ whatever α_c is: they say what can be
    learned, which does not depend on how much of it is used already.

    Args:
        observation: entries of the observation.
        context_dim: C.
        action_dim: A.
        prior: recipe of π0.
        learner: recipe of π_θ.
        tasks: K.
    """

    def __init__(
        self, observation: Specs, context_dim: int, action_dim: int, prior: Recipe, learner: Recipe, tasks: int
    ) -> None:
        super().__init__(tasks, context_dim)
        self.options = {"prior": dict(prior), "learner": dict(learner), "tasks": tasks}
        dimensions = Dimensions(observation, context_dim, action_dim)
        self.prior, self.learner = from_recipe(prior, dimensions), from_recipe(learner, dimensions)
        self.share = nn.Parameter(torch.zeros(tasks))
        self.act_like(self.learner)

    @classmethod
    def of(cls, policy: Policy, contexts: Tensor, dimensions: Dimensions) -> "PriorMixture":
        """π0 = `policy`, held fixed, and a copy of it that learns, for tasks of contexts [K, C]; α = 0."""
        recipe = recipe_of(policy)
        mixture = cls(dimensions.observation, dimensions.context, dimensions.action, recipe, recipe, len(contexts))
        mixture.prior, mixture.learner = deepcopy(policy).requires_grad_(False), deepcopy(policy)
        mixture.contexts.copy_(contexts)
        return mixture

    @property
    def alphas(self) -> Tensor:
        """α of each task, [K] in [0, 1]. The gradient passes through the bounds, or α could never come back."""
        alphas = _SPEED * self.share
        return alphas + (alphas.clamp(0, 1) - alphas).detach()

    def alpha(self, contexts: Tensor) -> Tensor:
        """α of each row, [N]."""
        return self.alphas[self.task_of(contexts)]

    @torch.no_grad()
    def bound(self) -> None:
        """Puts shares that a step of an optimiser took out of [0, 1] back to the nearest bound."""
        self.share.clamp_(0, 1 / _SPEED)

    @property
    def parts(self) -> tuple[Policy, ...]:
        return self.learner.parts

    def part_of(self, contexts: Tensor) -> Tensor:
        return self.learner.part_of(contexts)

    @property
    def output_layer(self) -> nn.Linear:
        return require(self.learner, LinearHead, type(self).__name__, "Choose another part").output_layer

    @property
    def is_normalised(self) -> bool:
        return self.prior.is_normalised and self.learner.is_normalised

    def fit_normaliser(self, steps: Steps) -> None:
        for part in (self.prior, self.learner):
            part.fit_normaliser(steps)

    def train(self, mode: bool = True) -> "PriorMixture":
        """As every module; but a π0 that is held fixed stays in evaluation mode: it must not follow its batches."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.prior.parameters()):
            self.prior.eval()
        return self

    def act(self, steps: Steps) -> Tensor:
        return mixed(self.alpha(steps.contexts), self.prior.act(steps), self.learner.act(steps))

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """The mixed action, or a draw from one of the two policies; [N, 1, A]."""
        if generator is None:
            return self.act(steps)[:, None]
        # Each draws what it would draw alone, so that α = 0 is π0 to the bit; the coin comes after both.
        prior = self.prior.predict(steps, generator.copy())
        action = self.learner.predict(steps, generator)
        from_learner = generator.uniform().to(steps.device) < self.alpha(steps.contexts)
        return torch.where(from_learner[:, None, None], action, prior)

    def loss(self, steps: Steps) -> Tensor:
        """Squared error of the mixed action, mean over its entries, [N]."""
        return F.mse_loss(self.act(steps), steps.shown_actions, reduction="none").mean(dim=1)

    def log_prob(self, steps: Steps) -> Tensor:
        """log((1 − α)p0 + αp_θ): the density of drawing from one of the two, whose mean is `act`."""
        alpha, smallest = self.alpha(steps.contexts), torch.finfo(steps.shown_actions.dtype).tiny
        prior = _density(self.prior).log_prob(steps) + (1 - alpha).clamp(min=smallest).log()
        learner = _density(self.learner).log_prob(steps) + alpha.clamp(min=smallest).log()
        return torch.logaddexp(prior, learner)

    @torch.no_grad()
    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        alpha = self.alpha(steps.contexts)
        from_learner = torch.rand(len(steps), generator=generator).to(alpha) < alpha
        draws = [_density(part).sample(steps, generator) for part in (self.prior, self.learner)]
        return torch.where(from_learner[:, None], draws[1], draws[0])

    def features(self, steps: Steps) -> Tensor:
        return require(self.learner, LinearHead, type(self).__name__, "Choose another part").features(steps)

    def embed(self, steps: Steps) -> Tensor:
        return _embeds(self.learner).embed(steps)


class IsolatedPolicy(ComposedPolicy):
    """One policy for each group of tasks, with nothing shared: what `ParameterIsolation` deploys (AMF).

    Args:
        observation: entries of the observation.
        context_dim: C.
        action_dim: A.
        copy: recipe of each of the G policies.
        groups: the group of each task, [K], numbers from 0 to G − 1.
    """

    def __init__(
        self, observation: Specs, context_dim: int, action_dim: int, copy: Recipe, groups: Sequence[int]
    ) -> None:
        super().__init__(len(groups), context_dim)
        self.options = {"copy": dict(copy), "groups": list(groups)}
        dimensions = Dimensions(observation, context_dim, action_dim)
        self.copies = nn.ModuleList(from_recipe(copy, dimensions) for _ in range(max(groups) + 1))
        self.register_buffer("groups", torch.tensor(groups), persistent=False)
        self.act_like(self.members[0])

    @classmethod
    def of(cls, policy: Policy, contexts: Tensor, groups: Sequence[int], dimensions: Dimensions) -> "IsolatedPolicy":
        """A copy of `policy` for each group of the tasks with contexts [K, C]."""
        made_for = dimensions.observation, dimensions.context, dimensions.action
        isolated = cls(*made_for, recipe_of(policy), groups)
        isolated.copies = nn.ModuleList(deepcopy(policy) for _ in isolated.copies)
        isolated.contexts.copy_(contexts)
        return isolated

    @property
    def members(self) -> tuple[Policy, ...]:
        """The copies, [G]."""
        return tuple(cast(Policy, copy) for copy in self.copies)

    def group_of(self, contexts: Tensor) -> Tensor:
        """Group of each row, [N] int64."""
        return self.get_buffer("groups")[self.task_of(contexts)]

    @property
    def parts(self) -> tuple[Policy, ...]:
        return tuple(part for copy in self.members for part in copy.parts)

    def part_of(self, contexts: Tensor) -> Tensor:
        group, inner = self.group_of(contexts), len(self.members[0].parts)
        within = self._chosen([copy.part_of(contexts) for copy in self.members], contexts)
        return group * inner + within

    @property
    def output_layer(self) -> nn.Linear:
        raise InputError("An IsolatedPolicy ends in a linear layer for each group of tasks: look at its `parts`.")

    @property
    def is_normalised(self) -> bool:
        return all(copy.is_normalised for copy in self.members)

    def fit_normaliser(self, steps: Steps) -> None:
        for copy in self.members:
            copy.fit_normaliser(steps)

    def act(self, steps: Steps) -> Tensor:
        return self._routed(lambda copy, rows: copy.act(rows), steps)

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        if generator is None:
            return self._routed(lambda copy, rows: copy.predict(rows), steps)
        # Streams belong to rows, so every copy is asked for all of them, and each draws what it would draw alone.
        return self._every(lambda copy, rows: copy.predict(rows, generator.copy()), steps)

    def loss(self, steps: Steps) -> Tensor:
        return self._routed(lambda copy, rows: copy.loss(rows), steps)

    def log_prob(self, steps: Steps) -> Tensor:
        return self._routed(lambda copy, rows: _density(copy).log_prob(rows), steps)

    @torch.no_grad()
    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        return self._every(lambda copy, rows: _density(copy).sample(rows, generator), steps)

    def features(self, steps: Steps) -> Tensor:
        return self._routed(
            lambda copy, rows: require(copy, LinearHead, "IsolatedPolicy", "Choose another part").features(rows), steps
        )

    def embed(self, steps: Steps) -> Tensor:
        return self._routed(lambda copy, rows: _embeds(copy).embed(rows), steps)

    def _routed(self, call: Callable[[Policy, Steps], Tensor], steps: Steps) -> Tensor:
        """Each copy on the rows of its group, where gradients are wanted; else on all rows.

        A row has other bits in a batch of another size, and what acts must not depend on the rows beside it. A single
        row is not routed by its value either, so that `torch.func` can trace it. Copies without a row are called on
        none: their gradients are then zero rather than missing, which several processes could not agree on.
        """
        if len(steps) == 1 or not torch.is_grad_enabled():
            return self._every(call, steps)
        group = self.group_of(steps.contexts)
        where = [torch.nonzero(group == number).flatten() for number in range(len(self.copies))]
        pieces = [call(copy, steps[index]) for copy, index in zip(self.members, where, strict=True)]
        return torch.cat(pieces)[torch.argsort(torch.cat(where))]

    def _every(self, call: Callable[[Policy, Steps], Tensor], steps: Steps) -> Tensor:
        """Every copy on all rows, and of each row what the copy of its group says."""
        return self._chosen([call(copy, steps) for copy in self.members], steps.contexts)

    def _chosen(self, answers: Sequence[Tensor], contexts: Tensor) -> Tensor:
        """Of each row the answer of the copy of its group; answers [N, …] of every copy."""
        group = self.group_of(contexts)
        first, *further = answers
        for number, other in enumerate(further, start=1):
            of_copy = (group == number).reshape(-1, *(1,) * (other.ndim - 1))
            first = torch.where(of_copy, other, first)
        return first


def _density(policy: Policy) -> Density:
    return require(policy, Density, "A policy made of others", "Choose another part")


def _embeds(policy: Policy) -> Embeds:
    return require(policy, Embeds, "LastLayerFeatures", "Choose the embedding Kernel")


def mixed(alpha: Tensor, prior: Tensor, learned: Tensor) -> Tensor:
    """(1 − α)·prior + α·learned of actions [N, A] with α [N].

    >>> mixed(torch.tensor([0.0, 0.25]), torch.tensor([[1.0], [0.0]]), torch.tensor([[0.5], [1.0]])).flatten()
    tensor([1.0000, 0.2500])
    """
    return (1 - alpha[:, None]) * prior + alpha[:, None] * learned
