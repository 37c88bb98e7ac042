"""What makes two states alike: features of the policy or gradients of its loss, and the belief that goes with them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy, check_output_layer, features_with_bias
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior, FunctionSpacePosterior, Posterior

_LONGEST_HISTORY = 2000
"""Rows of a history in function space; longer ones are thinned, each row standing for several states."""


@dataclass(frozen=True, eq=False)
class States:
    """States as a policy sees them, with any leading shape."""

    observations: Tensor
    """[..., O] float32."""
    contexts: Tensor
    """[..., C] float32: the task that the states are read for."""
    actions: Tensor | None = None
    """What the expert does there, [..., A] float32, where that is known."""


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What a belief about the expert can rest on."""

    policy: Policy
    """The current policy."""
    pretrained: Policy
    """π0."""
    statistics: FeatureStatistics | None
    """What π0's file says about its pre-training states."""
    history: States | None
    """All states demonstrated so far, each with the context of its own task and the expert's action; [N, ·]."""
    reference: Callable[[], Mapping[str, States]]
    """States of π0's own first rollouts of each task, by name, [N, ·]. Called only where needed: it may simulate."""
    clip: bool = False
    """Whether expected states may lie far outside all data, so that their features have to be bounded."""
    noise: Tensor | None = None
    """Variance of the observation at each state of the history in units of σ², [N] float64; 1 if None."""
    trainable: Mapping[str, Tensor] = field(default_factory=dict)
    """Which entries of each named parameter training may change; a parameter not named is trained whole."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A belief that knows the history, and the points of the expected states."""

    posterior: Posterior
    candidates: Tensor
    """[M, S, P] float64."""
    targets: Tensor
    """[M', S', P] float64."""


class Embedding(ABC):
    """Turns states into points of a posterior."""

    needs_actions: ClassVar[bool] = False
    """Whether expected states must come with the expert's actions."""
    uses: tuple[str, ...] = ()
    """What it needs beyond the demonstrations, in the words of `Selector.uses`."""

    @abstractmethod
    def embed(self, knowledge: Knowledge, candidates: States, targets: States, ridge: float) -> Embedded:
        """Points of candidates [M, S, ·] and targets [M', S', ·], and the belief given the history, with ridge ρ."""


class LastLayerFeatures(Embedding):
    """φ: the input of the policy's last linear layer with a 1 appended, divided by s = √(mean ‖φ‖²) of π0's states.

    The tangent kernel of the last layer. A policy can give another φ by its own `embed`. What π0 already knows enters
    as M0, the sum of φφᵀ over its pre-training states, which its file keeps (ours, not in AMF). M0 holds in π0's own
    features; in others (`of_pretrained: false` or `unit_norm: true`) it is made again each round from π0's own
    rollouts of the tasks that its file covers.
    M0 assumes that nothing is forgotten: set `statistics: false` when fine-tuning without retention.

    Args:
        of_pretrained: features of π0, a basis that stays the same for the whole run; else of the current policy.
        unit_norm: divide each φ by its own norm; an ablation, for norms may coincide with difficulty.
        statistics: use what π0's file says about its pre-training states.
    """

    def __init__(self, of_pretrained: bool = True, unit_norm: bool = False, statistics: bool = True) -> None:
        self.of_pretrained = of_pretrained
        self.unit_norm = unit_norm
        self.statistics = statistics
        remade = statistics and (unit_norm or not of_pretrained)
        self.uses = (("pre-training statistics",) if statistics else ()) + (("simulator rollouts",) if remade else ())

    def embed(self, knowledge: Knowledge, candidates: States, targets: States, ridge: float) -> Embedded:
        """See `Embedding.embed`.

        Raises:
            InputError: π0's file has no statistics, or those of another policy.
        """
        basis = knowledge.pretrained if self.of_pretrained else knowledge.policy
        scale = self._scale(knowledge)

        def points(states: States) -> Tensor:
            features = last_layer_features(basis, states)
            return nn.functional.normalize(features, dim=-1) if self.unit_norm else features / scale

        history = None if knowledge.history is None else points(knowledge.history)
        ahead, wanted = points(candidates), points(targets)
        if knowledge.clip and not self.unit_norm:
            bound = self._largest_norm(knowledge, points, scale)
            if history is not None:
                bound = max(bound, float(history.norm(dim=-1).max()))
            ahead, wanted = clip_norms(ahead, bound), clip_norms(wanted, bound)
        prior = FeatureSpacePosterior.prior(ahead.shape[-1], ridge, self._known(knowledge, points, scale))
        return Embedded(prior if history is None else prior.condition(history, _or_one(knowledge.noise)), ahead, wanted)

    def _scale(self, knowledge: Knowledge) -> float:
        """s, the same in every round: from the file, else from π0's first rollouts."""
        if self.statistics and knowledge.statistics is not None:
            return knowledge.statistics.scale
        reference = [last_layer_features(knowledge.pretrained, states) for states in knowledge.reference().values()]
        return float(torch.cat(reference).square().sum(1).mean().sqrt())

    def _largest_norm(self, knowledge: Knowledge, points: Callable[[States], Tensor], scale: float) -> float:
        """Largest norm among the states of π0: its pre-training states if the file says it, else its rollouts."""
        if self.statistics and self.of_pretrained and knowledge.statistics is not None:
            return knowledge.statistics.largest_norm / scale
        return max(float(points(states).norm(dim=-1).max()) for states in knowledge.reference().values())

    def _known(self, knowledge: Knowledge, points: Callable[[States], Tensor], scale: float) -> Tensor | None:
        """M0/s² in the features of `points`."""
        if not self.statistics:
            return None
        statistics = knowledge.statistics
        if statistics is None:
            raise InputError(
                "LastLayerFeatures: the file of the pre-trained policy holds no feature statistics, so what it "
                "already knows cannot be told. Use a policy exported by `amf fit`, or LossGradient with "
                "ImportanceWeighted, or set `statistics: false` (every task then looks equally unknown)."
            )
        statistics.check_backbone(knowledge.pretrained)
        if self.of_pretrained and not self.unit_norm:
            return statistics.second_moment / scale**2
        # Every covered task counts the same: how often each was demonstrated would be privileged information.
        rollouts = [points(states) for name, states in knowledge.reference().items() if statistics.covers.get(name)]
        if not rollouts:
            raise InputError(
                f"LastLayerFeatures: the statistics of the pre-trained policy cover {sorted(statistics.covers)}, none "
                "of which is a task of this suite. Set `statistics: false`."
            )
        return statistics.count * torch.stack([rows.T @ rows / len(rows) for rows in rollouts]).mean(0)


class LossGradient(Embedding):
    """The gradient of the cloning loss by the last layer's weights and bias, r ⊗ h, as factors (AMF, arXiv 2410.05026).

    Where π0 is already right its residuals, and so its gradients, are small: that is how what it knows enters, without
    statistics. Inner products are (r·r')(h·h'), divided each round by their mean over that round's states: scores of
    different rounds do not compare. Blind spots: a saturated wrong action has no gradient, and a policy that ignores
    the context shows none on tasks it has not seen.

    Args:
        condition_on_history: condition on the demonstrations too, the formula to the letter. By default they act
            through the residuals of the fine-tuned policy, and only picks of the same round are conditioned on.
    """

    needs_actions = True

    def __init__(self, condition_on_history: bool = False) -> None:
        self.condition_on_history = condition_on_history

    def embed(self, knowledge: Knowledge, candidates: States, targets: States, ridge: float) -> Embedded:
        """See `Embedding.embed`."""
        ahead, wanted = gradient_factors(knowledge.policy, candidates), gradient_factors(knowledge.policy, targets)
        outputs = knowledge.policy.output_layer.out_features
        plain = GradientKernel(outputs)
        mean = float(torch.cat([plain.diagonal(ahead).flatten(), plain.diagonal(wanted).flatten()]).mean())
        # Without any residual there is nothing to divide: all gains are zero, and ties are drawn.
        posterior = FunctionSpacePosterior(GradientKernel(outputs, mean if mean > 0 else 1.0), ridge)
        if self.condition_on_history and knowledge.history is not None:
            rows = gradient_factors(knowledge.policy, knowledge.history)
            posterior = posterior.condition(*thinned_history(rows, knowledge.noise))
        return Embedded(posterior, ahead, wanted)


@dataclass(frozen=True)
class GradientKernel:
    """(r·r')(h·h')/scale between rows [r, h] whose first `outputs` columns are r: the kernel of r ⊗ h, not formed."""

    outputs: int
    scale: float = 1.0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """[..., N, M]."""
        residuals = a[..., : self.outputs] @ b[..., : self.outputs].mT
        return residuals * (a[..., self.outputs :] @ b[..., self.outputs :].mT) / self.scale

    def diagonal(self, a: Tensor) -> Tensor:
        """[...]."""
        return a[..., : self.outputs].square().sum(-1) * a[..., self.outputs :].square().sum(-1) / self.scale


def last_layer_features(policy: Policy, states: States) -> Tensor:
    """`Policy.embed`: input of the last layer with a 1 appended, [..., F + 1] float64."""
    observations, contexts = states.observations.flatten(0, -2), states.contexts.flatten(0, -2)
    return features_with_bias(policy, observations, contexts).reshape(*states.observations.shape[:-1], -1)


def gradient_factors(policy: Policy, states: States) -> Tensor:
    """Rows [r, h], [..., A + F + 1] float64, with d loss / d (weight, bias) of the last layer equal to r hᵀ.

    r = dℓ/dz for the output z of the last layer, before any squashing; h is its input with a 1 appended.

    Raises:
        InputError: the expert's actions are missing.
    """
    if states.actions is None:
        raise InputError("LossGradient needs the expert's actions at the expected states. Use ImportanceWeighted.")
    rows = [tensor.flatten(0, -2) for tensor in (states.observations, states.contexts, states.actions)]
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def cut(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs.append(args[0].detach())
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handle = policy.output_layer.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            loss = policy.loss(*rows).sum()
    finally:
        handle.remove()
    check_output_layer(policy, [tuple(found.shape) for found in inputs], len(rows[0]))
    (residuals,) = torch.autograd.grad(loss, outputs[0])
    factors = torch.cat([residuals, inputs[0], torch.ones_like(residuals[:, :1])], dim=1).to(torch.float64)
    return factors.reshape(*states.observations.shape[:-1], -1)


def thinned_history(
    rows: Tensor, noise: Tensor | None = None, longest: int = _LONGEST_HISTORY
) -> tuple[Tensor, Tensor | float]:
    """Every m-th of rows [N, ...] so that at most `longest` are left, and their noise over m: each stands for m.

    >>> thinned_history(torch.arange(5), longest=2)
    (tensor([0, 3]), 0.3333333333333333)
    """
    stride = max(1, -(-len(rows) // longest))
    return rows[::stride], 1 / stride if noise is None else noise[::stride] / stride


def _or_one(noise: Tensor | None) -> Tensor | float:
    return 1.0 if noise is None else noise


def clip_norms(points: Tensor, bound: float) -> Tensor:
    """Scales rows [..., P] that are longer than `bound` back to it."""
    norms: Tensor = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
    return points * (bound / norms).clamp(max=1)
