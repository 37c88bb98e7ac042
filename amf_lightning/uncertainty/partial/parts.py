"""Beliefs about policies that do not learn as one whole: separate parts, and last layers that are partly frozen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amf_lightning.policies.capabilities import LinearHead, require
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.steps import Steps
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
            of_part = rows[:, 0] == part
            prepared[of_part] = torch.cat([rows[of_part, :1], belief.prepare(rows[of_part, 1:])], dim=1)
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
            of_part = points[:, 0] == part
            if of_part.any():
                beliefs[part] = belief.condition(points[of_part, 1:], levels[of_part])
        return replace(self, beliefs=beliefs)


@dataclass(frozen=True, eq=False)
class MaskedPosterior(Posterior):
    """A belief about weights of which some can change less, or not at all: φ is scaled by how much.

    Exact for weights that are fixed: given them, the precision of the others is their block of the joint precision.
    """

    belief: Posterior
    scale: Tensor
    """√ of how much the weight of each entry of φ can learn, [P] in [0, 1]."""

    def prepare(self, points: Tensor) -> Tensor:
        return self.belief.prepare(points * self.scale.to(points))

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        return self.belief.covariance(a, b)

    def variance(self, a: Tensor) -> Tensor:
        return self.belief.variance(a)

    def condition(self, points: Tensor, noise: Tensor | float = 1.0) -> "MaskedPosterior":
        return replace(self, belief=self.belief.condition(points * self.scale.to(points), noise))

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
        return torch.stack([belief.covariance(first, second) for belief, first, second in pairs]).mean(0)

    def variance(self, a: Tensor) -> Tensor:
        """Mean over the action entries."""
        pairs = zip(self.beliefs, a.chunk(len(self.beliefs), -1), strict=True)
        return torch.stack([belief.variance(coordinates) for belief, coordinates in pairs]).mean(0)

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
    """Σ_j r_j r'_j Σ_i w_ji h_i h'_i/scale between rows [part, r, h]: that of r ⊗ h, each entry weighted.

    Between parts it is 0. As exact as the kernel of whole layers, for A products in place of one.
    """

    weights: Tensor
    """w, how much each entry of the last layer of each part can learn, [G, A, F + 1] in [0, 1]."""
    scale: float = 1.0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """[..., N, M]."""
        (parts, r, h), (other_parts, other_r, other_h) = self._split(a), self._split(b)
        # One product after the other: a tensor [N, M, A] of all would be A times as large as the result.
        total = torch.zeros_like(r[..., :1] @ other_r[..., :1].mT)
        for output in range(self.weights.shape[1]):
            weighted = h * self.weights[parts.long(), output].to(h)
            total += (r[..., output, None] * weighted) @ (other_r[..., output, None] * other_h).mT
        return total * (parts[..., :, None] == other_parts[..., None, :]) / self.scale

    def diagonal(self, a: Tensor) -> Tensor:
        """[...]."""
        parts, r, h = self._split(a)
        features = (h.square()[..., None, :] * self.weights[parts.long()].to(h)).sum(-1)
        return (r.square() * features).sum(-1) / self.scale

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = self.weights.shape[1]
        return rows[..., 0], rows[..., 1 : 1 + outputs], rows[..., 1 + outputs :]


def by_part(policy: Policy, steps: Steps, call: Callable[[Policy, Steps], Tensor]) -> Tensor:
    """`call(part, steps where it acts)`, [n, P], for each part, put into the order of the steps, [..., P]."""
    if len(policy.parts) == 1:
        return call(policy.parts[0], steps)
    rows = steps.flatten()
    of_part = policy.part_of(rows.contexts)
    where = [torch.nonzero(of_part == number).flatten() for number in range(len(policy.parts))]
    pieces = [call(part, rows[index]) for part, index in zip(policy.parts, where, strict=True) if len(index)]
    # The inverse of the permutation that sorted the rows by part.
    values = torch.cat(pieces)[torch.argsort(torch.cat(where))]
    return values.reshape(*steps.shape, -1)


def part_masks(policy: Policy, part: int, trainable: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of `trainable` that are of one part, by the names that the part itself gives its parameters."""
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    whole_names = {name: names[id(parameter)] for name, parameter in policy.parts[part].named_parameters()}
    return {name: trainable[whole] for name, whole in whole_names.items() if whole in trainable}


def last_layer_weights(policy: Policy, trainable: Mapping[str, Tensor]) -> Tensor | None:
    """How much each entry of (weight, bias) of the last layer can learn, of each part, [G, A, F + 1] in [0, 1].

    (m + β)/(1 + β) with m = 1 for entries that are trained and 0 for those that are not, and β the share of trained
    entries below the last layer (ours). Exact where everything below is frozen, and where nothing is. In between the
    weights below move the features themselves, which in the tangent kernel of a wide network adds a term like that of
    the whole last layer: a frozen entry then still stands for what they can do. Without it a layer whose important
    entries are frozen would tell apart only states that nobody visits. `ProjectedGradient` needs no such stand-in.

    None if there is one part and all of it is trained.
    """
    of_parts = []
    for number, part in enumerate(policy.parts):
        head = require(part, LinearHead, "LossGradient", "Choose the embedding Kernel")
        layer, masks = head.output_layer, part_masks(policy, number, trainable)
        names = {id(parameter): name for name, parameter in part.named_parameters()}
        whole = torch.ones(layer.out_features, dtype=torch.bool)
        weight = masks.get(names[id(layer.weight)], whole[:, None].expand(layer.weight.shape))
        bias = masks.get(names.get(id(layer.bias), ""), whole)
        mask = torch.cat([weight.cpu(), bias.cpu()[:, None]], dim=1).to(torch.float64)
        below = {name: p for name, p in part.named_parameters() if p is not layer.weight and p is not layer.bias}
        entries = sum(parameter.numel() for parameter in below.values())
        free = sum(int(masks[name].sum()) if name in masks else p.numel() for name, p in below.items())
        beta = free / entries if entries else 0.0
        of_parts.append((mask + beta) / (1 + beta))
    weights = torch.stack(of_parts).to(policy.device)
    return None if len(of_parts) == 1 and bool((weights == 1).all()) else weights


def prior_of_parts(
    ridge: float,
    known: Mapping[int, Tensor | None],
    weights: Mapping[int, Tensor | None],
    dimension: int,
    keyed: bool,
    device: str = "cpu",
) -> Posterior:
    """P = ρI + M0 of each part and, where their weights differ, of each action entry.

    Args:
        ridge: ρ.
        known: M0/s² of each part, [P, P].
        weights: `last_layer_weights` of each part, [A, P]; None if all are 1.
        dimension: P.
        keyed: whether points name their part; else there is only one.
        device: where the belief belongs.
    """
    alike = all(each is None or bool((each == each[:1]).all()) for each in weights.values())
    outputs = 1 if alike else max(len(each) for each in weights.values() if each is not None)
    beliefs: list[Posterior] = []
    for output in range(outputs):
        priors = {
            part: _prior(
                ridge, moment, None if (of_outputs := weights[part]) is None else of_outputs[output], dimension, device
            )
            for part, moment in known.items()
        }
        beliefs.append(SeparateParts(priors) if keyed else next(iter(priors.values())))
    return beliefs[0] if outputs == 1 else IndependentOutputs(tuple(beliefs))


def _prior(ridge: float, moment: Tensor | None, weights: Tensor | None, dimension: int, device: str) -> Posterior:
    if weights is None or bool((weights == 1).all()):
        return FeatureSpacePosterior.prior(dimension, ridge, moment, device)
    scale = weights.sqrt().to(device)
    scaled = None if moment is None else moment * scale.to(moment).outer(scale.to(moment))
    return MaskedPosterior(FeatureSpacePosterior.prior(dimension, ridge, scaled, device), scale)
