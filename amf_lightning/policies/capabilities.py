"""What a policy may be able to do beyond acting and learning. Parts of a run require these by name."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.tasks.steps import Steps

T = TypeVar("T")

if TYPE_CHECKING:
    from amf_lightning.policies.protocol import Policy


# Capabilities extend Module as policies do: were they plain classes, a policy that names one first would be laid out in
# memory as they are, and FSDP2, which exchanges the class of a module, would refuse it.


class Density(nn.Module, ABC):
    """A distribution of actions whose density is known: for importance weights and Fisher information."""

    @abstractmethod
    def log_prob(self, steps: Steps) -> Tensor:
        """Log density of the actions, [N]; of a chunk, that of the actions within the episode."""

    @abstractmethod
    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        """Actions drawn from the distribution whose density `log_prob` gives, [N, A], or chunks [N, H, A]."""


class GaussianDensity(Density):
    """N(act(s, c), action_std²), the same deviation everywhere; of a policy of chunks N(predict(s, c), action_std²)."""

    action_std: float = 0.1
    """Standard deviation declared for `log_prob` and `sample`; it does not enter the loss."""

    def log_prob(self, steps: Steps) -> Tensor:
        z = (steps.shown_actions - self._mean(steps)) / self.action_std
        each = (-0.5 * z.square() - math.log(self.action_std * math.sqrt(2 * math.pi))).sum(dim=-1)
        if each.ndim == 1:
            return each
        return (each if steps.mask is None else each * steps.mask).sum(dim=1)

    def _mean(self, steps: Steps) -> Tensor:
        policy = cast("Policy", self)
        return policy.act(steps) if policy.window.horizon == 1 else policy.predict(steps)

    @torch.no_grad()
    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        mean = self._mean(steps)
        return mean + self.action_std * torch.randn(mean.shape, generator=generator).to(mean)


class Embeds(nn.Module, ABC):
    """Says what makes two states alike."""

    @abstractmethod
    def embed(self, steps: Steps) -> Tensor:
        """φ, [N, P]: what `LastLayerFeatures` compares states by.

        It must depend on nothing but the weights and the row itself, and end in a constant 1 if what is learned on top
        of it has a bias. Stored statistics are sums over it: pre-train again after changing it.
        """


class LinearHead(Embeds):
    """Actions come out of a linear layer, applied once to one row [F] of each state.

    Its input makes states alike; gradients of the loss by it are cheap.
    """

    @property
    def output_layer(self) -> nn.Linear:
        """The last linear layer: by default the one that is registered last.

        Raises:
            InputError: there is none.
        """
        policy = cast("Policy", self)
        layers = [module for module in policy.modules() if isinstance(module, nn.Linear)]
        if layers:
            return layers[-1]
        raise InputError(f"{type(self).__name__} inherits LinearHead, but has no torch.nn.Linear.")

    def features(self, steps: Steps) -> Tensor:
        """Input of `output_layer`, [N, F], read by a hook so that a subclass need not provide it."""
        captured: list[Tensor] = []
        handle = self.output_layer.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            cast("Policy", self).act(steps)
        finally:
            handle.remove()
        check_output_layer(self, [tuple(each.shape) for each in captured], len(steps))
        return captured[0]

    def embed(self, steps: Steps) -> Tensor:
        """The features with a 1 appended for the bias, [N, F + 1]: the tangent kernel of the last layer."""
        features = self.features(steps)
        return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


class LearnsFromTeacher(nn.Module, ABC):
    """Can learn more of a teacher than its actions: for `SelfDistillation`."""

    @abstractmethod
    def loss_by_teacher(self, steps: Steps, teacher: "Policy") -> Tensor:
        """Loss of each row, [N], smallest where the policy does all that the teacher, which is of its class, does.

        Args:
            steps: rows [N], with actions that the teacher has drawn.
            teacher: frozen, on the same device.
        """


class FollowsField(nn.Module, ABC):
    """Acts by following a learned field, of velocities or of noise: for `EnsembleDisagreement`."""

    @abstractmethod
    def fields(self, steps: Steps, chunk: Tensor) -> Tensor:
        """What the field says around chunks [N, H, A], [N, D, H, A].

        It says so at D times and noises that are the same for all rows and for all policies of its class and options.
        """


def check_output_layer(policy: LinearHead, inputs: Sequence[tuple[int, ...]], rows: int) -> None:
    """Raises InputError unless the layer was applied once, to one vector of each row.

    Args:
        policy: whose layer it is.
        inputs: shapes of what it was applied to.
        rows: N.
    """
    if [shape[:-1] for shape in inputs] != [(rows,)]:
        modules = cast("Policy", policy).named_modules()
        name = next(name for name, module in modules if module is policy.output_layer)
        raise InputError(
            f"{type(policy).__name__}: the layer '{name}' must be applied once to [{rows}, features] for {rows} states"
            f", but it was applied to {', '.join(map(str, inputs)) or 'nothing'}. Give the policy a property "
            "`output_layer` that is its last linear layer, or inherit Embeds and give it an `embed` of its own."
        )


_NEEDED_FOR = {
    Density: "a density of its actions (`log_prob`, `sample`)",
    Embeds: "features (`embed`), of a linear head or its own",
    LinearHead: "a linear layer at its end (`output_layer`)",
}


def require(policy: "Policy", capability: type[T], reader: str, instead: str) -> T:
    """`policy`, which has the capability.

    Args:
        policy: any.
        capability: `Density`, `Embeds` or `LinearHead`.
        reader: the part that needs it.
        instead: what to choose in place of the part, as an imperative without a full stop.

    Raises:
        InputError: it has not.
    """
    if not policy.can(capability):
        kind: Any = capability
        raise InputError(
            f"{reader} needs a policy with {_NEEDED_FOR[kind]}, and {type(policy).__name__} has none. {instead}, or "
            f"let the policy inherit {capability.__name__} (docs/your-own-policy.md)."
        )
    return cast(T, policy)


@torch.no_grad()
def embedded(policy: "Policy", steps: Steps, reader: str = "LastLayerFeatures") -> Tensor:
    """`Embeds.embed`, [N, P] float64; InputError if the policy has no features."""
    return require(policy, Embeds, reader, "Choose the embedding Kernel").embed(steps).to(torch.float64)
