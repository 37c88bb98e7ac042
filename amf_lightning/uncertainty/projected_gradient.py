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
from amf_lightning.seeding import Purpose, RowGenerators, keyed_generator
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import Embedding
from amf_lightning.uncertainty.knowledge import Embedded, Knowledge
from amf_lightning.uncertainty.partial.parts import Parts, by_part, part_masks, prior_of_parts
from amf_lightning.uncertainty.posterior import thinned_history
from amf_lightning.uncertainty.remembered import known_moment

_CHUNK = 2**24
"""Entries of the per-sample gradients that are held at a time; 64 MiB in float32."""


class ProjectedGradient(Embedding):
    """The gradient of the cloning loss by every trainable weight, through a fixed random projection to few numbers.

    Like `LossGradient` (AMF, arXiv 2410.05026) for the whole network instead of its last layer: residuals that are
    small say what π0 knows, and weights that the retention froze do not count. Inner products are kept to about
    ‖g‖‖g'‖/√m in m dimensions (Johnson–Lindenstrauss). They are divided each round by their mean over that round's
    states: scores of different rounds do not compare. It uses the expert's actions in the demonstrations and random
    directions keyed by `seed`, nothing beyond them.

    With `own_sample` the target is a sample of the policy itself, as AMF has it for diffusion policies, drawn with the
    same random numbers in every state: gradients of states that are alike then are, and no expert's action is used. Its
    residual does not say what is known. So the belief is conditioned on the demonstrations, and what π0 knows enters as
    in `LastLayerFeatures` with another basis: n0 states like those of its rollouts of the tasks that its file covers.

    Args:
        dimension: m, numbers that are left of each gradient.
        seed: of the projection, the same for the whole run and for all runs, so that they differ in nothing else.
        orthogonal: orthonormalise the directions: exact if there are as many as trainable weights, else a little
            closer; takes m² operations a weight.
        condition_on_history: see `LossGradient`.
        own_sample: take a sample of the policy as the target in place of the expert's action.
    """

    needs: tuple[Need, ...] = (Need.EXPERT_ACTIONS, Need.GRADIENT_STEPS, Need.REPEATABLE_LOSS)
    instead = "Choose the embedding Kernel."

    def __init__(
        self,
        dimension: int = 256,
        seed: int = 0,
        orthogonal: bool = False,
        condition_on_history: bool = False,
        own_sample: bool = False,
    ) -> None:
        if dimension < 1:
            raise InputError(f"ProjectedGradient: dimension is {dimension}; it must be at least 1.")
        self.dimension = dimension
        self.seed = seed
        self.orthogonal = orthogonal
        self.condition_on_history = condition_on_history or own_sample
        self.own_sample = own_sample
        if own_sample:
            self.needs = (Need.GRADIENT_STEPS, Need.REPEATABLE_LOSS, Need.PRETRAINING_STATISTICS, Need.SIMULATOR)
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
        parts = Parts(knowledge.policy, knowledge.policy)
        past = knowledge.history if self.condition_on_history else None
        beliefs = parts.present(candidates.contexts, targets.contexts, None if past is None else past.contexts)
        none = torch.zeros_like(candidate_points[0, 0]).diag()
        moments = {n: self._known(knowledge, parts.split(n)[0], scale) if self.own_sample else none for n in beliefs}
        moments = {n: none if moment is None else moment for n, moment in moments.items()}
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
        if self.own_sample:
            states = states.with_actions(own_samples(policy, states, self.seed))

        def of_part(part: Policy, rows: Steps) -> Tensor:
            number = next(number for number, each in enumerate(policy.parts) if each is part)
            trainable = part_masks(policy, number, knowledge.trainable)
            return projected_gradients(part, rows, trainable, self._projection(trainable_count(part, trainable)))

        return by_part(policy, states, of_part).to(knowledge.device)

    def _known(self, knowledge: Knowledge, part: int, scale: float) -> Tensor | None:
        """M0/s² in the gradients by one part, [m, m], made again from π0's own rollouts of the tasks that it knows."""
        statistics, policy = knowledge.statistics, knowledge.policy
        if statistics is None:
            raise InputError(
                "ProjectedGradient: the file of the pre-trained policy holds no feature statistics, so what it already "
                "knows cannot be told. Use a policy exported by `amf fit`, or set own_sample: false."
            )
        covered = {name: rows for name, rows in knowledge.reference().items() if statistics.covers.get(name)}
        mine = {name: rows for name, rows in covered.items() if int(policy.part_of(rows.contexts)[0]) == part}
        rollouts = {name: self._points(knowledge, rows) / scale for name, rows in mine.items()}
        return known_moment(None, statistics.count * len(mine) / max(1, len(covered)), rollouts, {})

    def _projection(self, count: int) -> Tensor:
        if count not in self._matrices:
            self._matrices[count] = projection(count, self.dimension, self.seed, self.orthogonal)
        return self._matrices[count]


@torch.no_grad()
def own_samples(policy: Policy, states: Steps, seed: int) -> Tensor:
    """What the policy draws in states [...], with the same random numbers in each; shaped as the expert's actions."""
    rows = states.flatten()
    drawn = policy.predict(rows, RowGenerators([seed] * len(rows), 0))
    drawn = drawn[:, 0] if policy.window.horizon == 1 else drawn
    return drawn.reshape(*states.shape, *drawn.shape[1:])


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
