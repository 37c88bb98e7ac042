"""What the rest of the package needs of a policy, and nothing more."""

from abc import ABC, abstractmethod
from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError


class Policy(nn.Module, ABC):
    """A task-conditioned policy: one that ends in a linear layer, or a `RefittedPolicy`.

    Shapes: observations [N, O], contexts [N, C], actions [N, A] in [-1, 1]. Constructed as
    `cls(observation_dim, context_dim, action_dim, **options)`, where the options are plain types: they are written
    into the policy's file so that it can be made again without its configuration.
    """

    options: dict[str, object]
    """Keyword arguments of the constructor beyond the three dimensions."""

    @property
    def output_layer(self) -> nn.Linear:
        """The last linear layer. A policy that learns by gradient steps has one.

        Raises:
            InputError: this policy has none.
        """
        raise InputError(
            f"{type(self).__name__} does not end in a linear layer, so it has neither features nor gradients of one. "
            "Choose an embedding that is a kernel on states and contexts."
        )

    @property
    def parts(self) -> tuple["Policy", ...]:
        """The policies in it that learn, each with weights of its own: itself, unless it is made of others."""
        return (self,)

    def part_of(self, contexts: Tensor) -> Tensor:
        """Which of `parts` acts on each row, [N] int64."""
        return torch.zeros(len(contexts), dtype=torch.int64, device=contexts.device)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next(chain(self.parameters(), self.buffers())).device

    @abstractmethod
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """Deterministic actions, [N, A] (the mean of the action distribution, in [-1, 1])."""

    @abstractmethod
    def loss(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        """Behavioural-cloning loss of each row, [N]. Its graph passes through `output_layer`, if there is one."""

    @abstractmethod
    def log_prob(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        """Log density of the actions under the policy's action distribution, [N]."""

    @abstractmethod
    def sample(self, observations: Tensor, contexts: Tensor, generator: torch.Generator) -> Tensor:
        """Actions drawn from the action distribution whose density `log_prob` gives, [N, A]."""

    @abstractmethod
    def fit_normaliser(self, observations: Tensor, contexts: Tensor) -> None:
        """Sets the input normalisation from data. Called once, before the first training of a new policy."""

    @property
    @abstractmethod
    def is_normalised(self) -> bool:
        """Whether `fit_normaliser` was called, now or before the policy was saved."""

    def features(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """Input of `output_layer`, [N, F], read by a hook so that a subclass need not provide it."""
        captured: list[Tensor] = []
        handle = self.output_layer.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            self.act(observations, contexts)
        finally:
            handle.remove()
        return captured[-1]

    def embed(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """φ, what makes two states alike to `LastLayerFeatures`, [N, P]: `features` with a 1 appended for the bias.

        A policy that knows better, e.g. a pooled representation of a transformer, may give its own. It must depend on
        nothing but the weights and the row itself, and end in a constant 1 if its last layer has a bias. Stored
        statistics are sums over it: pre-train again after changing it.
        """
        features = self.features(observations, contexts)
        return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


class RefittedPolicy(Policy):
    """A policy without weights to step: it is fitted anew, in closed form, at the start of each round."""

    @abstractmethod
    def refit(self, start: Policy, observations: Tensor, contexts: Tensor, actions: Tensor) -> None:
        """Becomes what `start` is after seeing these rows too; what it was before is forgotten.

        Args:
            start: π0, of the same class and shapes.
            observations: of all demonstrations so far, [N, O].
            contexts: [N, C].
            actions: the expert's, [N, A].
        """


def frozen_copy(policy: Policy) -> Policy:
    """A deep copy in evaluation mode whose parameters need no gradient."""
    copy = deepcopy(policy).eval()
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return copy


@torch.no_grad()
def features_with_bias(policy: Policy, observations: Tensor, contexts: Tensor) -> Tensor:
    """`policy.embed`, by default the features with a 1 appended for the bias, [N, F + 1] float64."""
    return policy.embed(observations, contexts).to(torch.float64)
