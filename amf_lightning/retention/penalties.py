"""Penalties on the distance from π0's weights: plain, and weighted by how much each weight matters."""

from collections.abc import Mapping

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Part
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.importance import FisherImportance, Importance
from amf_lightning.retention.retention import Retention, RetentionContext, origin


class L2ToPretrained(Retention):
    """weight/2 · Σ_i (θ_i − θ0_i)²: every weight is held alike (a comparator of AMF, arXiv 2410.05026).

    Args:
        weight: factor of the penalty beside the loss on the demonstrations.

    Raises:
        InputError: the weight is negative.
    """

    def __init__(self, weight: float = 0.001) -> None:
        self.weight = _not_negative(type(self).__name__, weight)
        self._start: dict[str, Tensor] = {}
        self._importance: dict[str, Tensor] = {}

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        start = dict(context.pretrained.named_parameters())
        names = {name: source for name, _ in policy.named_parameters() if (source := origin(name, start)) is not None}
        self._start = {name: start[source].detach().clone() for name, source in names.items()}
        importance = self.importance_of(context)
        self._importance = {name: importance[source] for name, source in names.items() if source in importance}

    def importance_of(self, context: RetentionContext) -> Mapping[str, Tensor]:
        """How much each weight of π0 is held, by name; 1 for parameters that are not named."""
        return {}

    def penalty(self, policy: Policy) -> Tensor | None:
        trainable = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
        for tensors in (self._start, self._importance):
            for name in tensors.keys() & trainable.keys():
                tensors[name] = tensors[name].to(trainable[name].device)  # once: afterwards it is there
        terms = [
            distance(weight, self._start[name], self._importance.get(name))
            for name, weight in trainable.items()  # in order: a sum has other bits in another one
            if name in self._start
        ]
        return 0.5 * self.weight * torch.stack(terms).sum() if terms else None


class ElasticWeights(L2ToPretrained):
    """weight/2 · Σ_i F_i (θ_i − θ0_i)² with F the importance, divided by its mean (EWC, arXiv 1612.00796).

    So divided, `weight` means what it means for `L2ToPretrained`, and the action deviation that a policy declares for
    its density does not matter.

    Args:
        weight: factor of the penalty beside the loss on the demonstrations.
        importance: F; by default the diagonal Fisher information.
    """

    def __init__(self, weight: float = 0.001, importance: Importance | None = None) -> None:
        super().__init__(weight)
        self.importance = importance or FisherImportance()
        self.needs = self.importance.needs

    @property
    def components(self) -> Mapping[str, Part]:
        return {"importance": self.importance}

    def importance_of(self, context: RetentionContext) -> Mapping[str, Tensor]:
        importance = self.importance.compute(context)
        mean = torch.cat([tensor.flatten() for tensor in importance.values()]).mean()
        if not mean > 0:
            raise InputError("ElasticWeights: no weight of the policy matters on the given states, so none is held.")
        return {name: tensor / mean for name, tensor in importance.items()}


def distance(weights: Tensor, start: Tensor, importance: Tensor | None = None) -> Tensor:
    """Σ_i F_i (θ_i − θ0_i)² of one parameter of any shape, F = 1 if None.

    >>> distance(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.5]))
    tensor(3.)
    """
    squares = (weights - start).square()
    return (squares if importance is None else squares * importance).sum()


def _not_negative(owner: str, weight: float) -> float:
    if weight < 0:
        raise InputError(f"{owner}.weight is {weight}; it must not be negative.")
    return weight
