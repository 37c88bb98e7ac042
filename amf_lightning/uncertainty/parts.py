"""Beliefs about policies that do not learn as one whole: separate parts, and last layers that are partly frozen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amf_lightning.policies.protocol import Policy
from amf_lightning.uncertainty.knowledge import States
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior, Posterior


@dataclass(frozen=True, eq=False)
class SeparateParts(Posterior):
    """One belief for each part of a policy; what is seen of one says nothing of another: k = 0 between them.

    Points are rows [part, φ], the number of the part in front.
    """

    beliefs: Mapping[int, Posterior]
    """Of the same kind and dimension, by number of the part."""

    def prepare(self, points: Tensor) -> Tensor:
        """[..., 1 + Q]: each row in the coordinates of its part's belief."""
        rows = points.flatten(0, -2)
        prepared = torch.zeros_like(rows)
        for part, belief in self.beliefs.items():
            mine = rows[:, 0] == part
            prepared[mine] = torch.cat([rows[mine, :1], belief.prepare(rows[mine, 1:])], dim=1)
        return prepared.reshape(points.shape)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """ψ(a)·ψ(b) within a part, 0 between parts."""
        return (a[..., 1:] @ b[..., 1:].mT) * (a[..., :1] == b[..., :1].mT)

    def variance(self, a: Tensor) -> Tensor:
        """‖ψ‖²."""
        return a[..., 1:].square().sum(-1)

    def condition(self, points: Tensor, noise: Tensor | float = 1.0) -> "SeparateParts":
        """Each part learns from its own rows."""
        levels = torch.as_tensor(noise, dtype=torch.float64, device=points.device).expand(len(points))
        beliefs = dict(self.beliefs)
        for part, belief in self.beliefs.items():
            mine = points[:, 0] == part
            if mine.any():
                beliefs[part] = belief.condition(points[mine, 1:], levels[mine])
        return replace(self, beliefs=beliefs)


@dataclass(frozen=True, eq=False)
class MaskedPosterior(Posterior):
    """A belief about some weights, the others being fixed: φ is zero in their entries.

    Exact: given the other weights, the precision of these is their block of the joint precision.
    """

    belief: Posterior
    mask: Tensor
    """Which entries of φ belong to weights that can change, [P] bool."""

    def prepare(self, points: Tensor) -> Tensor:
        return self.belief.prepare(points * self.mask.to(points))

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        return self.belief.covariance(a, b)

    def variance(self, a: Tensor) -> Tensor:
        return self.belief.variance(a)

    def condition(self, points: Tensor, noise: Tensor | float = 1.0) -> "MaskedPosterior":
        return replace(self, belief=self.belief.condition(points * self.mask.to(points), noise))

    def whitened_covariance(self, targets: Tensor, blocks: Tensor, noise: Tensor) -> Tensor:
        return self.belief.whitened_covariance(targets, blocks, noise)


@dataclass(frozen=True, eq=False)
class IndependentOutputs(Posterior):
    """A belief for each action entry, where they do not share one precision. Its variance is their mean.

    A criterion that is not linear in variances must look at `outputs` one by one; its mean over them is exact, because
    given the states the entries are independent.
    """

    beliefs: tuple[Posterior, ...]
    """[A], of the same dimension."""

    @property
    def outputs(self) -> tuple[Posterior, ...]:
        return self.beliefs

    def prepare(self, points: Tensor) -> Tensor:
        """[..., A·Q]: the coordinates of all beliefs, one after the other."""
        return torch.cat([belief.prepare(points) for belief in self.beliefs], dim=-1)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean over the action entries."""
        pairs = zip(self.beliefs, a.chunk(len(self.beliefs), -1), b.chunk(len(self.beliefs), -1), strict=True)
        return torch.stack([belief.covariance(mine, other) for belief, mine, other in pairs]).mean(0)

    def variance(self, a: Tensor) -> Tensor:
        """Mean over the action entries."""
        pairs = zip(self.beliefs, a.chunk(len(self.beliefs), -1), strict=True)
        return torch.stack([belief.variance(mine) for belief, mine in pairs]).mean(0)

    def condition(self, points: Tensor, noise: Tensor | float = 1.0) -> "IndependentOutputs":
        """Every action entry is observed at every point."""
        return IndependentOutputs(tuple(belief.condition(points, noise) for belief in self.beliefs))


@dataclass(frozen=True, eq=False)
class Parts:
    """Which belief each state belongs to: that about the part of the policy that acts there, grown out of one of π0's.

    Beliefs have numbers, part of the policy · parts of π0 + part of π0. Where there is one only, points do not name it.
    """

    policy: Policy
    pretrained: Policy

    @property
    def several(self) -> bool:
        """Whether points name their belief."""
        return len(self.policy.parts) * len(self.pretrained.parts) > 1

    def of(self, contexts: Tensor) -> Tensor:
        """Number of the belief of each state with contexts [..., C], [...] int64."""
        rows = contexts.flatten(0, -2)
        numbers = self.policy.part_of(rows) * len(self.pretrained.parts) + self.pretrained.part_of(rows)
        return numbers.reshape(contexts.shape[:-1])

    def split(self, number: int) -> tuple[int, int]:
        """Part of the policy, and part of π0, of a belief."""
        return divmod(number, len(self.pretrained.parts))

    def present(self, *contexts: Tensor | None) -> list[int]:
        """Numbers of the beliefs that any of these states belong to."""
        if not self.several:
            return [0]
        return sorted({n for rows in contexts if rows is not None for n in self.of(rows).flatten().tolist()})

    def named(self, points: Tensor, contexts: Tensor) -> Tensor:
        """Points [..., P] with the number of their belief in front, if there are several."""
        return torch.cat([self.of(contexts)[..., None].to(points), points], dim=-1) if self.several else points


@dataclass(frozen=True, eq=False)
class MaskedGradientKernel:
    """Σ_j r_j r'_j Σ_i m_ji h_i h'_i/scale between rows [part, r, h]: that of r ⊗ h in the trained entries.

    Between parts it is 0. As exact as the kernel of whole layers, for A products in place of one.
    """

    masks: Tensor
    """m, [G, A, F + 1] bool."""
    scale: float = 1.0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """[..., N, M]."""
        (parts, r, h), (other_parts, other_r, other_h) = self._split(a), self._split(b)
        total = torch.zeros_like(r[..., :1] @ other_r[..., :1].mT)
        for output in range(self.masks.shape[1]):
            mine = h * self.masks[parts.long(), output].to(h)
            total += (r[..., output, None] * mine) @ (other_r[..., output, None] * other_h).mT
        return total * (parts[..., :, None] == other_parts[..., None, :]) / self.scale

    def diagonal(self, a: Tensor) -> Tensor:
        """[...]."""
        parts, r, h = self._split(a)
        features = (h.square()[..., None, :] * self.masks[parts.long()].to(h)).sum(-1)
        return (r.square() * features).sum(-1) / self.scale

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = self.masks.shape[1]
        return rows[..., 0], rows[..., 1 : 1 + outputs], rows[..., 1 + outputs :]


def by_part(policy: Policy, states: States, call: Callable[[Policy, States], Tensor]) -> Tensor:
    """`call(part, states where it acts)`, [n, P], for each part, put into the order of the states, [..., P]."""
    if len(policy.parts) == 1:
        return call(policy.parts[0], states)
    observations, contexts = states.observations.flatten(0, -2), states.contexts.flatten(0, -2)
    actions = None if states.actions is None else states.actions.flatten(0, -2)
    of_part = policy.part_of(contexts)
    where = [torch.nonzero(of_part == number).flatten() for number in range(len(policy.parts))]
    pieces = [
        call(part, States(observations[index], contexts[index], None if actions is None else actions[index]))
        for part, index in zip(policy.parts, where, strict=True)
        if len(index)
    ]
    found = torch.cat(pieces)[torch.argsort(torch.cat(where))]
    return found.reshape(*states.observations.shape[:-1], -1)


def part_masks(policy: Policy, part: int, trainable: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of `trainable` that are of one part, by the names that the part itself gives its parameters."""
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    mine = {name: names[id(parameter)] for name, parameter in policy.parts[part].named_parameters()}
    return {name: trainable[whole] for name, whole in mine.items() if whole in trainable}


def last_layer_masks(policy: Policy, trainable: Mapping[str, Tensor]) -> Tensor | None:
    """Which entries of (weight, bias) of its last layer each part of the policy may train, [G, A, F + 1] bool.

    None if there is one part and it trains all of them. A layer that is frozen whole counts as trained whole: the
    gradient of that layer would tell nothing, while its inputs still say which states are alike.
    """
    found = []
    for part, policy_part in enumerate(policy.parts):
        layer, masks = policy_part.output_layer, part_masks(policy, part, trainable)
        names = {id(parameter): name for name, parameter in policy_part.named_parameters()}
        weight = masks.get(names[id(layer.weight)], torch.ones_like(layer.weight, dtype=torch.bool))
        whole = torch.ones(layer.out_features, dtype=torch.bool)
        bias = masks.get(names.get(id(layer.bias), ""), whole)
        both = torch.cat([weight.cpu(), bias.cpu()[:, None]], dim=1)
        found.append(both if both.any() else torch.ones_like(both))
    masks_of_parts = torch.stack(found).to(policy.device)
    return None if len(found) == 1 and bool(masks_of_parts.all()) else masks_of_parts


def prior_of_parts(
    ridge: float, known: Mapping[int, Tensor | None], masks: Mapping[int, Tensor | None], dimension: int, keyed: bool
) -> Posterior:
    """P = ρI + M0 of each part and, where masks differ, of each action entry.

    Args:
        ridge: ρ.
        known: M0/s² of each part, [P, P].
        masks: which entries of its last layer each part trains, [A, P]; None if all.
        dimension: P.
        keyed: whether points name their part; else there is only one.
    """
    alike = all(mask is None or bool((mask == mask[:1]).all()) for mask in masks.values())
    outputs = 1 if alike else max(len(mask) for mask in masks.values() if mask is not None)
    beliefs: list[Posterior] = []
    for output in range(outputs):
        priors = {
            part: _prior(ridge, moment, None if (mask := masks[part]) is None else mask[output], dimension)
            for part, moment in known.items()
        }
        beliefs.append(SeparateParts(priors) if keyed else next(iter(priors.values())))
    return beliefs[0] if outputs == 1 else IndependentOutputs(tuple(beliefs))


def _prior(ridge: float, known: Tensor | None, mask: Tensor | None, dimension: int) -> Posterior:
    if mask is None or bool(mask.all()):
        return FeatureSpacePosterior.prior(dimension, ridge, known)
    block = None if known is None else known * mask.to(known).outer(mask.to(known))
    return MaskedPosterior(FeatureSpacePosterior.prior(dimension, ridge, block), mask)
