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
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.recipe import Recipe, from_recipe, recipe_of

_SPEED = 10.0
"""α is this times its parameter: Adam moves a parameter by about its learning rate, too slow for a share of one."""


class ComposedPolicy(Policy):
    """A policy made of others of the same dimensions; which task it is in is told by the nearest known context."""

    contexts: Tensor
    """Of the tasks, [K, C]."""

    def __init__(self, tasks: int, context_dim: int) -> None:
        super().__init__()
        self.register_buffer("contexts", torch.zeros(tasks, context_dim))

    def task_of(self, contexts: Tensor) -> Tensor:
        """Index of the task whose context is nearest to each row [N, C], [N] int64."""
        return (contexts[:, None] - self.contexts).square().sum(-1).argmin(dim=1)


class PriorMixture(ComposedPolicy):
    """(1 − α_c)·π0(s, c) + α_c·π_θ(s, c) with α_c in [0, 1] for each task: what `AdaptivePrior` deploys (AMF).

    With α_c = 0 it is π0 to the bit. Features and gradients are those of π_θ whatever α_c is: they say what can be
    learned, which does not depend on how much of it is used already.

    Args:
        observation_dim: O.
        context_dim: C.
        action_dim: A.
        prior: recipe of π0.
        learner: recipe of π_θ.
        tasks: K.
    """

    def __init__(
        self, observation_dim: int, context_dim: int, action_dim: int, prior: Recipe, learner: Recipe, tasks: int
    ) -> None:
        super().__init__(tasks, context_dim)
        self.options = {"prior": dict(prior), "learner": dict(learner), "tasks": tasks}
        dims = (observation_dim, context_dim, action_dim)
        self.prior, self.learner = from_recipe(prior, dims), from_recipe(learner, dims)
        self.share = nn.Parameter(torch.zeros(tasks))

    @classmethod
    def of(cls, policy: Policy, contexts: Tensor, action_dim: int, observation_dim: int) -> "PriorMixture":
        """π0 = `policy`, held fixed, and a copy of it that learns, for tasks of contexts [K, C]; α = 0."""
        recipe = recipe_of(policy)
        mixture = cls(observation_dim, contexts.shape[1], action_dim, recipe, recipe, len(contexts))
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
        return self.learner.output_layer

    @property
    def is_normalised(self) -> bool:
        return self.prior.is_normalised and self.learner.is_normalised

    def fit_normaliser(self, observations: Tensor, contexts: Tensor) -> None:
        for part in (self.prior, self.learner):
            part.fit_normaliser(observations, contexts)

    def train(self, mode: bool = True) -> "PriorMixture":
        """As every module; but a π0 that is held fixed stays in evaluation mode: it must not follow its batches."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.prior.parameters()):
            self.prior.eval()
        return self

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return mixed(
            self.alpha(contexts), self.prior.act(observations, contexts), self.learner.act(observations, contexts)
        )

    def loss(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        """Squared error of the mixed action, mean over its entries, [N]."""
        return F.mse_loss(self.act(observations, contexts), actions, reduction="none").mean(dim=1)

    def log_prob(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        """log((1 − α)p0 + αp_θ): the density of drawing from one of the two, whose mean is `act`."""
        alpha, smallest = self.alpha(contexts), torch.finfo(actions.dtype).tiny
        prior = self.prior.log_prob(observations, contexts, actions) + (1 - alpha).clamp(min=smallest).log()
        learned = self.learner.log_prob(observations, contexts, actions) + alpha.clamp(min=smallest).log()
        return torch.logaddexp(prior, learned)

    @torch.no_grad()
    def sample(self, observations: Tensor, contexts: Tensor, generator: torch.Generator) -> Tensor:
        alpha = self.alpha(contexts)
        learned = torch.rand(len(contexts), generator=generator).to(alpha) < alpha
        drawn = [part.sample(observations, contexts, generator) for part in (self.prior, self.learner)]
        return torch.where(learned[:, None], drawn[1], drawn[0])

    def features(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return self.learner.features(observations, contexts)

    def embed(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return self.learner.embed(observations, contexts)


class IsolatedPolicy(ComposedPolicy):
    """One policy for each group of tasks, with nothing shared: what `ParameterIsolation` deploys (AMF).

    Args:
        observation_dim: O.
        context_dim: C.
        action_dim: A.
        copy: recipe of each of the G policies.
        groups: the group of each task, [K], numbers from 0 to G − 1.
    """

    def __init__(
        self, observation_dim: int, context_dim: int, action_dim: int, copy: Recipe, groups: Sequence[int]
    ) -> None:
        super().__init__(len(groups), context_dim)
        self.options = {"copy": dict(copy), "groups": list(groups)}
        dims = (observation_dim, context_dim, action_dim)
        self.copies = nn.ModuleList(from_recipe(copy, dims) for _ in range(max(groups) + 1))
        self.register_buffer("groups", torch.tensor(groups), persistent=False)

    @classmethod
    def of(
        cls, policy: Policy, contexts: Tensor, groups: Sequence[int], action_dim: int, observation_dim: int
    ) -> "IsolatedPolicy":
        """A copy of `policy` for each group of the tasks with contexts [K, C]."""
        isolated = cls(observation_dim, contexts.shape[1], action_dim, recipe_of(policy), groups)
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
        within = self._every(lambda copy, rows: copy.part_of(rows), contexts, contexts)
        return group * inner + within

    @property
    def output_layer(self) -> nn.Linear:
        raise InputError("An IsolatedPolicy ends in a linear layer for each group of tasks: look at its `parts`.")

    @property
    def is_normalised(self) -> bool:
        return all(copy.is_normalised for copy in self.members)

    def fit_normaliser(self, observations: Tensor, contexts: Tensor) -> None:
        for copy in self.members:
            copy.fit_normaliser(observations, contexts)

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return self._routed(lambda copy, *rows: copy.act(*rows), contexts, observations, contexts)

    def loss(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        return self._routed(lambda copy, *rows: copy.loss(*rows), contexts, observations, contexts, actions)

    def log_prob(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        return self._routed(lambda copy, *rows: copy.log_prob(*rows), contexts, observations, contexts, actions)

    @torch.no_grad()
    def sample(self, observations: Tensor, contexts: Tensor, generator: torch.Generator) -> Tensor:
        return self._every(lambda copy, *rows: copy.sample(*rows, generator), contexts, observations, contexts)

    def features(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return self._routed(lambda copy, *rows: copy.features(*rows), contexts, observations, contexts)

    def embed(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return self._routed(lambda copy, *rows: copy.embed(*rows), contexts, observations, contexts)

    def _routed(self, call: Callable[..., Tensor], contexts: Tensor, *rows: Tensor) -> Tensor:
        """Each copy on the rows of its group, where gradients are wanted; else on all rows.

        A row has other bits in a batch of another size, and what acts must not depend on the rows beside it. A single
        row is not routed by its value either, so that `torch.func` can trace it. Copies without a row are called on
        none: their gradients are then zero rather than missing, which several processes could not agree on.
        """
        if len(contexts) == 1 or not torch.is_grad_enabled():
            return self._every(call, contexts, *rows)
        group = self.group_of(contexts)
        where = [torch.nonzero(group == number).flatten() for number in range(len(self.copies))]
        pieces = [call(copy, *(row[index] for row in rows)) for copy, index in zip(self.members, where, strict=True)]
        return torch.cat(pieces)[torch.argsort(torch.cat(where))]

    def _every(self, call: Callable[..., Tensor], contexts: Tensor, *rows: Tensor) -> Tensor:
        """Every copy on all rows, and of each row what the copy of its group says."""
        group = self.group_of(contexts)
        first, *others = [call(copy, *rows) for copy in self.members]
        for number, other in enumerate(others, start=1):
            mine = (group == number).reshape(-1, *(1,) * (other.ndim - 1))
            first = torch.where(mine, other, first)
        return first


def mixed(alpha: Tensor, prior: Tensor, learned: Tensor) -> Tensor:
    """(1 − α)·prior + α·learned of actions [N, A] with α [N].

    >>> mixed(torch.tensor([0.0, 0.25]), torch.tensor([[1.0], [0.0]]), torch.tensor([[0.5], [1.0]])).flatten()
    tensor([1.0000, 0.2500])
    """
    return (1 - alpha[:, None]) * prior + alpha[:, None] * learned
