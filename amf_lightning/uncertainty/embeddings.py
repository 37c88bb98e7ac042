"""What makes two states alike: features of the policy or gradients of its loss, and the belief that goes with them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part
from amf_lightning.policies.capabilities import LinearHead, check_output_layer, embedded, require
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.feature_norms import clip_norms, largest_known_norm
from amf_lightning.uncertainty.knowledge import Embedded, Knowledge
from amf_lightning.uncertainty.partial.parts import (
    MaskedGradientKernel,
    Parts,
    by_part,
    last_layer_weights,
    prior_of_parts,
)
from amf_lightning.uncertainty.posterior import FunctionSpacePosterior
from amf_lightning.uncertainty.remembered import known_moment, remembered_shares, squared_change


class Embedding(Part, ABC):
    """Turns states into points of a posterior.

    One that calls `Knowledge.reference` needs `Need.SIMULATOR`: its steps are counted in the first round.
    """

    assumes_retention: bool = False
    """Whether it takes for granted that what π0 knew is not forgotten."""
    weighs_noise: bool = True
    """Whether demonstrations may differ in their observation noise."""

    @abstractmethod
    def embed(self, knowledge: Knowledge, candidates: Steps, targets: Steps, ridge: float) -> Embedded:
        """Points of candidates [M, S, ·] and targets [M', S', ·], and the belief given the history, with ridge ρ."""


class LastLayerFeatures(Embedding):
    """φ: the input of the policy's last linear layer with a 1 appended, divided by s = √(mean ‖φ‖²) of π0's states.

    The tangent kernel of the last layer. A policy can give another φ by its own `embed`. Where some entries of the last
    layer are frozen, each action entry has a belief of its own (`last_layer_weights`), and so have parts of a policy
    that share nothing.

    What π0 already knows enters as M0, the sum of φφᵀ over its pre-training states, which its file keeps (ours, not in
    AMF). M0 holds in π0's own features; in others (`of_pretrained: false` or `unit_norm: true`) it is made again each
    round from π0's own rollouts of the tasks that its file covers. M0 assumes that nothing is forgotten, unless
    `tolerance` says otherwise.

    Args:
        of_pretrained: features of π0, a basis that stays the same for the whole run; else of the current policy.
        unit_norm: divide each φ by its own norm; an ablation, for norms may coincide with difficulty.
        statistics: use what π0's file says about its pre-training states.
        tolerance: how far the current policy's actions may have moved from π0's, on states of π0's own rollouts of a
            task, until what M0 says of that task counts for less: root mean square of an action entry. Takes rollouts
            of π0, once. None never discounts.

    Raises:
        InputError: the tolerance is not positive.
    """

    instead = (
        "Choose the embedding Kernel with lengthscales of your own, which needs nothing but demonstrations, or "
        "LossGradient with the occupancy Demonstrated or ImportanceWeighted."
    )

    def __init__(
        self,
        of_pretrained: bool = True,
        unit_norm: bool = False,
        statistics: bool = True,
        tolerance: float | None = None,
    ) -> None:
        if tolerance is not None and tolerance <= 0:
            raise InputError(f"LastLayerFeatures: tolerance is {tolerance}; it must be positive, or null.")
        self.of_pretrained = of_pretrained
        self.unit_norm = unit_norm
        self.statistics = statistics
        self.tolerance = tolerance
        self.assumes_retention = statistics and tolerance is None
        # Without statistics the scale comes from π0's own rollouts.
        rolled_out = not statistics or unit_norm or not of_pretrained or tolerance is not None
        statistical, simulated = (Need.PRETRAINING_STATISTICS,) * statistics, (Need.SIMULATOR,) * rolled_out
        self.needs = (*statistical, *simulated, Need.FEATURES)

    def embed(self, knowledge: Knowledge, candidates: Steps, targets: Steps, ridge: float) -> Embedded:
        """See `Embedding.embed`.

        Raises:
            InputError: π0's file has no statistics, or those of another policy.
        """
        basis = knowledge.pretrained if self.of_pretrained else knowledge.policy
        scale = self._scale(knowledge)

        def points(states: Steps, of: Policy = basis) -> Tensor:
            features = last_layer_features(of, states).to(knowledge.device)
            return nn.functional.normalize(features, dim=-1) if self.unit_norm else features / scale

        history = None if knowledge.history is None else points(knowledge.history)
        ahead, at_targets = points(candidates), points(targets)
        if knowledge.clip and not self.unit_norm:
            bound = largest_known_norm(self._largest_norm(knowledge, points, scale), history)
            ahead, at_targets = clip_norms(ahead, bound), clip_norms(at_targets, bound)
        shares = self._remembered(knowledge)
        parts, past = Parts(knowledge.policy, knowledge.pretrained), knowledge.history
        beliefs = parts.present(candidates.contexts, targets.contexts, None if past is None else past.contexts)
        moments = {n: self._known(knowledge, points, scale, shares, *parts.split(n)) for n in beliefs}
        weights = self._weights(knowledge, ahead.shape[-1])
        of_belief = {n: None if weights is None else weights[parts.split(n)[0]] for n in beliefs}
        posterior = prior_of_parts(ridge, moments, of_belief, ahead.shape[-1], parts.several, knowledge.device)
        if past is not None and history is not None:
            posterior = posterior.condition(parts.named(history, past.contexts), noise_or_one(knowledge.noise))
        ahead, at_targets = parts.named(ahead, candidates.contexts), parts.named(at_targets, targets.contexts)
        return Embedded(posterior, ahead, at_targets, {f"remembered/{name}": share for name, share in shares.items()})

    def _scale(self, knowledge: Knowledge) -> float:
        """s, the same in every round: from the file, else from π0's first rollouts."""
        if self.statistics and knowledge.statistics is not None:
            return knowledge.statistics.scale
        reference = [last_layer_features(knowledge.pretrained, states) for states in knowledge.reference().values()]
        return float(torch.cat(reference).square().sum(1).mean().sqrt())

    def _largest_norm(self, knowledge: Knowledge, points: Callable[[Steps], Tensor], scale: float) -> float:
        """Largest norm among the states of π0: its pre-training states if the file says it, else its rollouts."""
        if self.statistics and self.of_pretrained and knowledge.statistics is not None:
            return knowledge.statistics.largest_norm / scale
        return max(float(points(states).norm(dim=-1).max()) for states in knowledge.reference().values())

    def _known(
        self,
        knowledge: Knowledge,
        points: Callable[[Steps, Policy], Tensor],
        scale: float,
        shares: Mapping[str, float],
        part: int,
        origin: int,
    ) -> Tensor | None:
        """M0/s² in the features of one part, which grew out of part `origin` of π0; what was forgotten counts less."""
        if not self.statistics:
            return None
        statistics, pretrained = knowledge.statistics, knowledge.pretrained
        if statistics is None:
            raise InputError(
                "LastLayerFeatures: the file of the pre-trained policy holds no feature statistics, so what it "
                "already knows cannot be told. Use a policy exported by `amf fit`, or LossGradient with "
                "ImportanceWeighted, or set `statistics: false` (every task then looks equally unknown)."
            )
        statistics.check_backbone(pretrained)
        holds = self.of_pretrained and not self.unit_norm
        moment = statistics.of_part(origin).to(knowledge.device) / scale**2 if holds else None
        if moment is not None and all(share == 1 for share in shares.values()):
            return moment
        basis = pretrained.parts[origin] if self.of_pretrained else knowledge.policy.parts[part]
        covered = {name: rows for name, rows in knowledge.reference().items() if statistics.covers.get(name)}
        if not covered:
            raise InputError(
                f"LastLayerFeatures: the statistics of the pre-trained policy cover {sorted(statistics.covers)}, none "
                "of which is a task of this suite. Set `statistics: false`."
            )
        same = {name: rows for name, rows in covered.items() if int(pretrained.part_of(rows.contexts)[0]) == origin}
        rollouts = {name: points(rows, basis) for name, rows in same.items()}
        count = statistics.count * len(same) / len(covered)
        return known_moment(moment, count, rollouts, shares)

    def _remembered(self, knowledge: Knowledge) -> dict[str, float]:
        """The share of M0 that each task it covers still counts for; empty where nothing is ever discounted."""
        statistics, tolerance = knowledge.statistics, self.tolerance
        if not self.statistics or tolerance is None or statistics is None:
            return {}
        changes = {
            name: squared_change(knowledge.policy, knowledge.pretrained, rows)
            for name, rows in knowledge.reference().items()
            if statistics.covers.get(name)
        }
        return remembered_shares(changes, tolerance)

    def _weights(self, knowledge: Knowledge, dimension: int) -> Tensor | None:
        """How much each entry of the last layer can learn, if φ is the input of that layer."""
        if not knowledge.policy.can(LinearHead):
            return None  # its φ is its own
        weights = last_layer_weights(knowledge.policy, knowledge.trainable)
        return weights if weights is not None and weights.shape[-1] == dimension else None


class LossGradient(Embedding):
    """The gradient of the cloning loss by the last layer's weights and bias, r ⊗ h, as factors (AMF, arXiv 2410.05026).

    Where π0 is already right its residuals, and so its gradients, are small: that is how what it knows enters, without
    statistics. Inner products are (r·r')(h·h'), divided each round by their mean over that round's states: scores of
    different rounds do not compare. It uses the expert's actions in the demonstrations, and nothing beyond them. Blind
    spots: a saturated wrong action has no gradient, and a policy that ignores the context shows none on tasks it has
    not seen. Entries that are frozen count for less (`last_layer_weights`), and parts of a policy that share nothing
    tell nothing of each other.

    Args:
        condition_on_history: condition on the demonstrations too, the formula to the letter. By default they act
            through the residuals of the fine-tuned policy, and only picks of the same round are conditioned on.
    """

    needs = (Need.LINEAR_HEAD, Need.EXPERT_ACTIONS, Need.REPEATABLE_LOSS)
    instead = "Choose the embedding Kernel, or LastLayerFeatures where the policy has an `embed` of its own."

    def __init__(self, condition_on_history: bool = False) -> None:
        self.condition_on_history = condition_on_history

    def embed(self, knowledge: Knowledge, candidates: Steps, targets: Steps, ridge: float) -> Embedded:
        """See `Embedding.embed`."""
        policy, weights = knowledge.policy, last_layer_weights(knowledge.policy, knowledge.trainable)
        ahead, at_targets = (self._rows(knowledge, states, weights is not None) for states in (candidates, targets))
        outputs = _head(policy.parts[0]).output_layer.out_features
        plain = GradientKernel(outputs) if weights is None else MaskedGradientKernel(weights.to(knowledge.device))
        mean = float(torch.cat([plain.diagonal(ahead).flatten(), plain.diagonal(at_targets).flatten()]).mean())
        # Without any residual there is nothing to divide: all gains are zero, and ties are drawn.
        posterior = FunctionSpacePosterior(replace(plain, scale=mean if mean > 0 else 1.0), ridge)
        if self.condition_on_history and knowledge.history is not None:
            rows = self._rows(knowledge, knowledge.history, weights is not None)
            posterior = posterior.condition(rows, noise_or_one(knowledge.noise))
        return Embedded(posterior, ahead, at_targets)

    def _rows(self, knowledge: Knowledge, states: Steps, numbered: bool) -> Tensor:
        """`gradient_factors` of the part that acts in each state, with its number in front if `numbered`."""
        factors = by_part(knowledge.policy, states, gradient_factors).to(knowledge.device)
        if not numbered:
            return factors
        of_part = knowledge.policy.part_of(states.contexts.flatten(0, -2)).reshape(factors.shape[:-1])
        return torch.cat([of_part[..., None].to(factors), factors], dim=-1)


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


def last_layer_features(policy: Policy, states: Steps) -> Tensor:
    """`Embeds.embed`, of a linear head its input with a 1 appended, [..., F + 1] float64."""
    return embedded(policy, states.flatten()).reshape(*states.shape, -1)


def gradient_factors(policy: Policy, states: Steps) -> Tensor:
    """Rows [r, h], [..., A + F + 1] float64, with d loss / d (weight, bias) of the last layer equal to r hᵀ.

    r = dℓ/dz for the output z of the last layer, before any squashing; h is its input with a 1 appended.

    Raises:
        InputError: the expert's actions are missing.
    """
    if states.actions is None:
        raise InputError("LossGradient needs the expert's actions at the expected states. Use ImportanceWeighted.")
    rows, head = states.flatten(), _head(policy)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def cut(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs.append(args[0].detach())
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handle = head.output_layer.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            loss = policy.loss(rows).sum()
    finally:
        handle.remove()
    check_output_layer(head, [tuple(each.shape) for each in inputs], len(rows))
    (residuals,) = torch.autograd.grad(loss, outputs[0])
    factors = torch.cat([residuals, inputs[0], torch.ones_like(residuals[:, :1])], dim=1).to(torch.float64)
    return factors.reshape(*states.shape, -1)


def _head(policy: Policy) -> LinearHead:
    return require(policy, LinearHead, "LossGradient", "Choose the embedding Kernel")


def noise_or_one(noise: Tensor | None) -> Tensor | float:
    """The observation noise of the history, `Knowledge.noise`; 1 where that is None."""
    return 1.0 if noise is None else noise
