"""Gradients of the loss by all trainable weights, made short by a fixed random projection."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import Embedding
from amf_lightning.uncertainty.knowledge import Embedded, Knowledge
from amf_lightning.uncertainty.partial.parts import Parts, by_part, part_masks, prior_of_parts
from amf_lightning.uncertainty.posterior import thinned_history

_CHUNK = 2**24
"""Entries of the per-sample gradients that are held at a time; 64 MiB in float32."""


class ProjectedGradient(Embedding):
    """The gradient of the cloning loss by every trainable weight, through a fixed random projection to few numbers.

    Like `LossGradient` (AMF, arXiv 2410.05026) for the whole network instead of its last layer: residuals that are
    small say what π0 knows, and weights that the retention froze do not count. Inner products are kept to about
    ‖g‖‖g'‖/√m in m dimensions (Johnson–Lindenstrauss). They are divided each round by their mean over that round's
    states: scores of different rounds do not compare. It uses the expert's actions in the demonstrations and random
    directions keyed by `seed`, nothing beyond them.

    Args:
        dimension: m, numbers that are left of each gradient.
        seed: of the projection, the same for the whole run and for all runs, so that they differ in nothing else.
        orthogonal: orthonormalise the directions: exact if there are as many as trainable weights, else a little
            closer; takes m² operations a weight.
        condition_on_history: see `LossGradient`.
    """

    needs = (Need.EXPERT_ACTIONS, Need.GRADIENT_STEPS, Need.REPEATABLE_LOSS)
    instead = "Choose the embedding Kernel."

    def __init__(
        self, dimension: int = 256, seed: int = 0, orthogonal: bool = False, condition_on_history: bool = False
    ) -> None:
        if dimension < 1:
            raise InputError(f"ProjectedGradient: dimension is {dimension}; it must be at least 1.")
        self.dimension = dimension
        self.seed = seed
        self.orthogonal = orthogonal
        self.condition_on_history = condition_on_history
        self._matrices: dict[int, Tensor] = {}

    def embed(self, knowledge: Knowledge, candidates: Steps, targets: Steps, ridge: float) -> Embedded:
        """See `Embedding.embed`.

        Raises:
            InputError: the expert's actions are missing, or no weight is trainable.
        """
        candidate_points, target_points = self._points(knowledge, candidates), self._points(knowledge, targets)
        mean = float(
            torch.cat([part.flatten(0, -2).square().sum(1) for part in (candidate_points, target_points)]).mean()
        )
        scale = math.sqrt(mean) if mean > 0 else 1.0  # without any residual all gains are zero, and ties are drawn
        parts, none = Parts(knowledge.policy, knowledge.policy), torch.zeros_like(candidate_points[0, 0]).diag()
        past = knowledge.history if self.condition_on_history else None
        beliefs = parts.present(candidates.contexts, targets.contexts, None if past is None else past.contexts)
        moments = dict.fromkeys(beliefs, none)
        posterior = prior_of_parts(ridge, moments, dict.fromkeys(beliefs), candidate_points.shape[-1], parts.several)
        if past is not None:
            history, noise = _thinned(past, knowledge.noise)
            rows = self._points(knowledge, history) / scale
            posterior = posterior.condition(parts.named(rows, history.contexts), noise)
        candidate_points, target_points = (
            parts.named(rows / scale, states.contexts)
            for rows, states in ((candidate_points, candidates), (target_points, targets))
        )
        return Embedded(posterior, candidate_points, target_points)

    def _points(self, knowledge: Knowledge, states: Steps) -> Tensor:
        """Projected gradients by the weights of the part that acts there, [..., m] float64."""
        policy = knowledge.policy

        def of_part(part: Policy, rows: Steps) -> Tensor:
            number = next(number for number, each in enumerate(policy.parts) if each is part)
            trainable = part_masks(policy, number, knowledge.trainable)
            return projected_gradients(part, rows, trainable, self._projection(trainable_count(part, trainable)))

        return by_part(policy, states, of_part).to(knowledge.device)

    def _projection(self, count: int) -> Tensor:
        if count not in self._matrices:
            self._matrices[count] = projection(count, self.dimension, self.seed, self.orthogonal)
        return self._matrices[count]


def projection(count: int, dimension: int, seed: int, orthogonal: bool = False) -> Tensor:
    """R [count, m] float32 with E[RRᵀ] = I, a function of its arguments alone; m is at most `count` if orthogonal."""
    generator = keyed_generator(seed, Purpose.PROJECT)
    if not orthogonal:
        return torch.randn(count, dimension, generator=generator) / math.sqrt(dimension)
    dimension = min(dimension, count)
    directions: Tensor = torch.linalg.qr(torch.randn(count, dimension, generator=generator, dtype=torch.float64)).Q
    return (directions * math.sqrt(count / dimension)).to(torch.float32)


def trainable_count(policy: Policy, trainable: Mapping[str, Tensor]) -> int:
    """Entries of the policy's parameters that training may change.

    Raises:
        InputError: there are none.
    """
    parts = [int(trainable[n].sum()) if n in trainable else p.numel() for n, p in policy.named_parameters()]
    if not (count := sum(parts)):
        raise InputError("ProjectedGradient: every weight of the policy is frozen, so there is no gradient.")
    return count


def projected_gradients(policy: Policy, states: Steps, trainable: Mapping[str, Tensor], matrix: Tensor) -> Tensor:
    """Rᵀ∇ℓ of each state, ∇ by the trainable entries in the order of `named_parameters`; [..., m] float64.

    Args:
        policy: in evaluation mode, rows independent of each other.
        states: with actions, any leading shape.
        trainable: masks of parameters by name; those not named count whole.
        matrix: R, [trainable entries, m].

    Raises:
        InputError: the expert's actions are missing.
    """
    if states.actions is None:
        raise InputError(
            "ProjectedGradient needs the expert's actions at the expected states. Use ImportanceWeighted or "
            "Demonstrated."
        )
    rows = states.flatten()
    weights = {name: parameter.detach() for name, parameter in policy.named_parameters()}
    trainable_weights = {
        name: weight for name, weight in weights.items() if name not in trainable or trainable[name].any()
    }
    fixed = {f"policy.{name}": weight for name, weight in weights.items() if name not in trainable_weights}
    mask = torch.cat([_mask(name, weight, trainable) for name, weight in trainable_weights.items()])
    model = _Loss(policy)

    def loss(moving: dict[str, Tensor], row: dict[str, Any]) -> Tensor:
        moving_weights = {f"policy.{name}": weight for name, weight in moving.items()}
        step = Steps.from_tensors(row).map(lambda tensor: tensor[None])
        value: Tensor = functional_call(model, {**fixed, **moving_weights}, (step,))
        return value.squeeze(0)

    # Mapped over rows: a gradient of each row, where `backward` would give only their sum.
    gradient = vmap(grad(loss), in_dims=(None, 0))
    matrix = matrix.to(mask.device)
    # In chunks: N rows times all weights would be far larger than the policy.
    size = max(1, _CHUNK // len(mask))
    points = []
    for start in range(0, len(rows), size):
        # Of the ways in which torch computes attention this one can be mapped over rows.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            gradients = gradient(trainable_weights, rows[start : start + size].tensors())
        flat = torch.cat([gradients[name].detach().flatten(1) for name in trainable_weights], dim=1)
        points.append((flat if mask.all() else flat[:, mask]) @ matrix.to(flat.dtype))
    return torch.cat(points).to(torch.float64).reshape(*states.shape, -1)


class _Loss(nn.Module):
    """The policy's loss as a forward pass, which is what `functional_call` calls."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, steps: Steps) -> Tensor:
        return self.policy.loss(steps)


def _thinned(history: Steps, noise: Tensor | None) -> tuple[Steps, Tensor]:
    levels = torch.ones(len(history), dtype=torch.float64) if noise is None else noise
    rows, levels = thinned_history(torch.arange(len(levels), device=levels.device), levels)
    return history[rows], levels


def _mask(name: str, weight: Tensor, trainable: Mapping[str, Tensor]) -> Tensor:
    if name in trainable:
        return trainable[name].to(weight.device).flatten()
    return torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
