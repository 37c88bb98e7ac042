"""Several ways of doing the same: chunks of actions as a mixture of normal distributions (Bishop 1994; BC-GMM)."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import GaussianDensity, LearnsFromTeacher
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.steps import Steps

_SMALLEST_STD = 0.01
"""Of an action entry: else the likelihood of a demonstration that is met exactly has no bound."""


@dataclass(frozen=True, eq=False)
class Modes:
    """M normal distributions of chunks for each of N rows: p(a) = Σ_m w_m Π_te N(a_te; μ_mte, σ_mte²).

    A mode is chosen for the whole chunk, so that its actions belong together.
    """

    logits: Tensor
    """Of w, [N, M]."""
    means: Tensor
    """μ, [N, M, H, A]."""
    stds: Tensor
    """σ, [N, M, H, A]."""

    @classmethod
    def of(cls, logits: Tensor, shapes: Tensor) -> "Modes":
        """From what a network says: logits [N, M], and [N, M, H, 2, A], means and what becomes the deviations."""
        return cls(logits, shapes[..., 0, :], _SMALLEST_STD + torch.nn.functional.softplus(shapes[..., 1, :]))

    def log_prob(self, chunk: Tensor, mask: Tensor | None) -> Tensor:
        """Log density of chunks [N, H, A], of the steps that the mask [N, H] counts (None: all), [N]."""
        z = (chunk[:, None] - self.means) / self.stds
        each = (-0.5 * z.square() - self.stds.log() - 0.5 * math.log(2 * math.pi)).sum(dim=3)
        return torch.logsumexp(torch.log_softmax(self.logits, dim=1) + _counted(each, mask), dim=1)

    def likeliest(self) -> Tensor:
        """The mean of the mode of largest weight, [N, H, A]."""
        return _of_mode(self.means, self.logits.argmax(dim=1))

    def drawn(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """Chunks [N, H, A] out of uniform numbers [N, M] and normal ones [N, H, A]."""
        # The largest of logits with Gumbel noise is a draw from their softmax.
        chosen = (self.logits - torch.log(-torch.log(uniform.clamp(min=1e-20)))).argmax(dim=1)
        return _of_mode(self.means, chosen) + _of_mode(self.stds, chosen) * normal

    def divergence(self, other: "Modes", mask: Tensor | None) -> Tensor:
        """Σ_m w_m (log w_m/w'_m + KL(N_m ‖ N'_m)), [N]: mode by mode, from the m-th here to the m-th of `other`.

        An upper bound of KL(p ‖ p') (Hershey and Olsen 2007, eq. 17), 0 if all parameters agree, and without any draw.
        """
        logs, others = torch.log_softmax(self.logits, dim=1), torch.log_softmax(other.logits, dim=1)
        moved = (self.means - other.means).square() + self.stds.square()
        each = (other.stds.log() - self.stds.log() + moved / (2 * other.stds.square()) - 0.5).sum(dim=3)
        return (logs.exp() * (logs - others + _counted(each, mask))).sum(dim=1)


def _counted(each: Tensor, mask: Tensor | None) -> Tensor:
    """Sum over the steps of [N, M, H] that count, [N, M]."""
    return (each if mask is None else each * mask[:, None]).sum(dim=2)


def _of_mode(entries: Tensor, chosen: Tensor) -> Tensor:
    """Of entries [N, M, …] those of the mode [N] of each row."""
    return entries[torch.arange(len(chosen), device=chosen.device), chosen]


class ModalDensity(LearnsFromTeacher, GaussianDensity):
    """The density of a policy of chunks with one mode, `GaussianDensity`, or with several, if `modes` says so.

    Losses are then the negative log-likelihood of what was shown, by the action entries that count. It acts by the mean
    of the likeliest mode, or by a draw. A teacher is copied mode by mode (`Modes.divergence`): the modes of a policy
    that grew out of its teacher are the same ones, and nothing is drawn.
    """

    modes: int = 1
    """M; 1: what the policy did without any."""

    @abstractmethod
    def outputs(self, steps: Steps) -> Tensor:
        """The chunk of a policy with one mode before it is clipped, [N, H, A]."""

    @abstractmethod
    def modes_of(self, steps: Steps) -> Modes:
        """The distribution of a policy with several."""

    def can(self, capability: type) -> bool:
        """Whether it has a capability; with one mode there is no more to learn of a teacher than its actions."""
        return isinstance(self, capability) and (self.modes > 1 or capability is not LearnsFromTeacher)

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """The mean of the likeliest mode, or a draw from the distribution, clipped to [-1, 1]; [N, H, A]."""
        if self.modes == 1:
            mean = self.outputs(steps).clamp(-1, 1)
            if generator is not None:
                mean = (mean + self.action_std * generator.normal(*mean.shape[1:]).to(mean)).clamp(-1, 1)
            return mean
        modes = self.modes_of(steps)
        if generator is None:
            return modes.likeliest().clamp(-1, 1)
        uniform, normal = generator.uniform(self.modes), generator.normal(*modes.means.shape[2:])
        return modes.drawn(uniform.to(modes.means), normal.to(modes.means)).clamp(-1, 1)

    def log_prob(self, steps: Steps) -> Tensor:
        if self.modes == 1:
            return super().log_prob(steps)
        modes = self.modes_of(steps)
        return modes.log_prob(steps.shown_actions.reshape(modes.means[:, 0].shape), steps.mask)

    @torch.no_grad()
    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        if self.modes == 1:
            return super().sample(steps, generator)
        modes = self.modes_of(steps)
        uniform, normal = (
            torch.rand(modes.logits.shape, generator=generator),
            torch.randn(modes.means[:, 0].shape, generator=generator),
        )
        chunk = modes.drawn(uniform.to(modes.means), normal.to(modes.means))
        return chunk if cast(Policy, self).window.horizon > 1 else chunk[:, 0]

    def loss_by_teacher(self, steps: Steps, teacher: Policy) -> Tensor:
        """`Modes.divergence` from the teacher's distribution, by the entries that count, [N]."""
        if not isinstance(teacher, ModalDensity) or teacher.modes != self.modes:
            kinds = type(self).__name__, type(teacher).__name__
            raise InputError(
                f"{kinds[0]} learns the modes of a teacher with as many, and {kinds[1]} is another policy."
            )
        with torch.no_grad():
            taught = teacher.modes_of(steps)
        return taught.divergence(self.modes_of(steps), steps.mask) / entries_of(taught.means, steps.mask)


def entries_of(means: Tensor, mask: Tensor | None) -> Tensor:
    """How many action entries of each row of [N, M, H, A] count, [N]."""
    steps = torch.full_like(means[:, 0, 0, 0], means.shape[2]) if mask is None else mask.sum(dim=1)
    return steps * means.shape[3]


def checked_modes(kind: str, modes: int) -> int:
    """The number of modes; InputError if there is none."""
    if modes < 1:
        raise InputError(f"{kind}: modes is {modes}; give at least 1.")
    return modes
