"""What the rest of the package needs of a policy, and nothing more."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from itertools import chain
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.errors import InputError


class Policy(nn.Module, ABC):
    """A task-conditioned policy: any torch module that acts and ends in a linear layer, or a `RefittedPolicy`.

    A subclass gives `act` and, unless its last linear layer is the last one that it registers, `output_layer`. All
    else has a default: an action distribution N(act(s, c), action_std²), trained by the mean squared error, and inputs
    that are not normalised. See docs/your-own-policy.md.

    Shapes: observations [N, O], contexts [N, C], actions [N, A] in [-1, 1]. Constructed as
    `cls(observation_dim, context_dim, action_dim, **options)`, where the options are plain types: they are written
    into the policy's file so that it can be made again without its configuration.
    """

    discrete: ClassVar[bool] = False
    """Whether actions are choices, one-hot; must agree with the suite."""
    action_std: float = 0.1
    """Standard deviation declared for `log_prob` and `sample`; it does not enter the loss."""
    options: dict[str, object]
    """Keyword arguments of the constructor beyond the three dimensions, defaults included; kept by themselves."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keeps the options that the constructor is called with; copies are made without any."""
        if inspect.isabstract(cls):
            missing = ", ".join(f"`{name}`" for name in sorted(cls.__abstractmethods__))
            raise InputError(f"The policy {cls.__name__} has no method {missing}: see docs/your-own-policy.md.")
        policy = super().__new__(cls)
        if args or kwargs:
            signature = inspect.signature(cls)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            given, further = dict(bound.arguments), {}
            for name, parameter in signature.parameters.items():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    further = given.pop(name)
            options = {**dict(list(given.items())[3:]), **further}
            # Lists, as the file will give them back.
            policy.__dict__["options"] = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        return policy

    @property
    def output_layer(self) -> nn.Linear:
        """The last linear layer, applied once to one row [F] of each state: by default the last one registered.

        Raises:
            InputError: this policy has none.
        """
        layers = [module for module in self.modules() if isinstance(module, nn.Linear)]
        if layers:
            return layers[-1]
        raise InputError(
            f"{type(self).__name__} does not end in a linear layer, so it has neither features nor gradients of one. "
            "Where an embedding asks for them, choose one that is a kernel on states and contexts."
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

    def forward(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """`act`."""
        return self.act(observations, contexts)

    def loss(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        """Behavioural-cloning loss of each row, [N]. Its graph passes through `output_layer`, if there is one."""
        return F.mse_loss(self.act(observations, contexts), actions, reduction="none").mean(dim=1)

    def log_prob(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        """Log density of the actions under the policy's action distribution, [N]."""
        z = (actions - self.act(observations, contexts)) / self.action_std
        return (-0.5 * z.square() - math.log(self.action_std * math.sqrt(2 * math.pi))).sum(dim=1)

    @torch.no_grad()
    def sample(self, observations: Tensor, contexts: Tensor, generator: torch.Generator) -> Tensor:
        """Actions drawn from the action distribution whose density `log_prob` gives, [N, A]."""
        mean = self.act(observations, contexts)
        return mean + self.action_std * torch.randn(mean.shape, generator=generator).to(mean)

    def fit_normaliser(self, observations: Tensor, contexts: Tensor) -> None:
        """Sets the input normalisation from data. Called once, before the first training of a new policy."""

    @property
    def is_normalised(self) -> bool:
        """Whether `fit_normaliser` was called, now or before the policy was saved; or has nothing to do."""
        return True

    def features(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """Input of `output_layer`, [N, F], read by a hook so that a subclass need not provide it."""
        captured: list[Tensor] = []
        handle = self.output_layer.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            self.act(observations, contexts)
        finally:
            handle.remove()
        check_output_layer(self, [tuple(found.shape) for found in captured], len(observations))
        return captured[0]

    def embed(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """φ, what makes two states alike to `LastLayerFeatures`, [N, P]: `features` with a 1 appended for the bias.

        A policy that knows better, e.g. a pooled representation of a transformer, may give its own. It must depend on
        nothing but the weights and the row itself, and end in a constant 1 if its last layer has a bias. Stored
        statistics are sums over it: pre-train again after changing it.
        """
        features = self.features(observations, contexts)
        return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


def check_output_layer(policy: Policy, inputs: Sequence[tuple[int, ...]], rows: int) -> None:
    """Raises InputError unless the layer was applied once, to one vector of each row.

    Args:
        policy: whose layer it is.
        inputs: shapes of what it was applied to.
        rows: N.
    """
    if [shape[:-1] for shape in inputs] != [(rows,)]:
        name = next(name for name, module in policy.named_modules() if module is policy.output_layer)
        raise InputError(
            f"{type(policy).__name__}: the layer '{name}' must be applied once to [{rows}, features] for {rows} states"
            f", but it was applied to {', '.join(map(str, inputs)) or 'nothing'}. Give the policy a property "
            "`output_layer` that is its last linear layer, or an `embed` of its own."
        )


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
