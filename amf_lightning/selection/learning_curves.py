"""The belief about the gaps of all tasks, over what may be true of how they fall with demonstrations. Pure tensors.

The gap of a task is a part that demonstrations close and a floor that they do not: what cannot be learned, or what is
measured of a policy that does as the expert does. How fast the part shrinks, and how much a demonstration of one task
does for another, is not known beforehand: a fixed sample of worlds says it, and each world is weighted by how well it
foretells the gaps that are measured.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from amf_lightning.selection.learning_worlds import Worlds

_FLOOR = (0.05, 0.2)
"""Mean and standard deviation of the floor."""


class LearningCurves:
    """The belief about the gaps of K tasks in S sampled worlds; what happened is told to it in order.

    Args:
        kinds: of worlds, each with the probability that one of them is true before anything is measured.
        remembers: whether `gaps_of_policies` will be asked for, which takes memory for each measurement.
    """

    def __init__(self, kinds: Sequence[tuple[Worlds, float]], remembers: bool = False) -> None:
        self._remembers = remembers
        self._kinds = [kind for kind, _ in kinds]
        start = torch.cat([kind.start for kind in self._kinds])
        mean, spread = _FLOOR
        # Of what demonstrations close and of the floor, [S, K, 2], and covariances, [S, K, 2, 2].
        self._means = torch.stack([start, torch.full_like(start, mean)], dim=2)
        self._covariances = start.new_zeros(*start.shape, 2, 2)
        self._covariances[:, :, 0, 0] = torch.cat([kind.deviation for kind in self._kinds]).square()
        self._covariances[:, :, 1, 1] = spread**2
        self._drift = torch.cat([kind.drift for kind in self._kinds])
        # Of each world, beside that of one of the first kind.
        each = [share / len(kind.start) for kind, share in kinds]
        self._log_prior = math.log(each[0])
        self._log_likelihood = torch.cat(
            [
                start.new_full((len(kind.start),), math.log(of / each[0]))
                for (kind, _), of in zip(kinds, each, strict=True)
            ]
        )

        self._filtered: list[tuple[Tensor, Tensor]] = []
        """Means and covariances once the gaps of each policy were measured."""
        self._kept: list[Tensor] = []
        """What training left of both parts between two measurements, [S, K, 2]."""

    @property
    def weights(self) -> Tensor:
        """Posterior probability of each world, [S]."""
        return self._log_likelihood.softmax(0)

    @property
    def kinds(self) -> dict[type[Worlds], float]:
        """Posterior probability of each kind of world."""
        parts = torch.split(self.weights, [len(kind.start) for kind in self._kinds])
        return {type(kind): float(part.sum()) for kind, part in zip(self._kinds, parts, strict=True)}

    @property
    def log_density(self) -> float:
        """Logarithm of the density of everything that was measured, up to a constant for each measured gap."""
        return float(self._log_likelihood.logsumexp(0)) + self._log_prior

    @property
    def gaps(self) -> Tensor:
        """The expected gap of each task, [K] in [0, 1]."""
        return self.weights @ self._means.sum(2).clamp(0, 1)

    def measure(self, gaps: Tensor, error: float) -> None:
        """Gaps were measured, [K]; NaN where nothing was. `error` is the standard deviation of each."""
        seen = gaps.isfinite()
        with_gap = self._covariances.sum(3)
        total = with_gap.sum(2) + error**2
        surprise = torch.where(seen, gaps.nan_to_num() - self._means.sum(2), 0.0)
        density = -0.5 * (surprise.square() / total + total.log())
        self._log_likelihood = self._log_likelihood + torch.where(seen, density, 0.0).sum(1)
        weight = torch.where(seen[:, None], with_gap / total[:, :, None], 0.0)
        self._means = self._means + weight * surprise[:, :, None]
        self._covariances = self._covariances - weight[:, :, :, None] * with_gap[:, :, None, :]
        if self._remembers:
            self._filtered.append((self._means, self._covariances))

    def train(self, counts: Tensor, variances: Tensor | None = None) -> None:
        """The policy was, or will be, trained on so many more demonstrations; the arguments are those of `Worlds`."""
        left = torch.cat([kind.train(counts, variances) for kind in self._kinds])
        kept = torch.stack([left, torch.ones_like(left)], dim=2)
        self._means = self._means * kept
        self._covariances = self._covariances * kept[:, :, :, None] * kept[:, :, None, :]
        self._covariances[:, :, 0, 0] += self._drift**2
        if self._remembers:
            self._kept.append(kept)

    @property
    def gaps_of_policies(self) -> Tensor:
        """The expected gap of each policy that was measured, given all measurements, [R, K] in [0, 1].

        What a later policy does tells of an earlier one (Rauch, Tung and Striebel 1965). To be asked after a
        measurement that no training has followed.
        """
        means, _ = self._filtered[-1]
        found = [means]
        for (earlier, covariances), kept in zip(self._filtered[-2::-1], self._kept[::-1], strict=True):
            predicted = covariances * kept[:, :, :, None] * kept[:, :, None, :]
            predicted[:, :, 0, 0] += self._drift**2
            # Symmetric, so that the transpose of P A (A P A + Q)⁻¹ is a solution with P A on the right.
            gain = torch.linalg.solve(predicted, kept[:, :, :, None] * covariances).mT
            means = earlier + (gain @ (means - kept * earlier)[:, :, :, None])[:, :, :, 0]
            found.append(means)
        gaps = torch.stack(found[::-1]).sum(3).clamp(0, 1)
        return torch.einsum("s,rsk->rk", self.weights, gaps)

    def teaches(self, told: Tensor | None = None) -> Tensor:
        """The share that one more demonstration of d is expected to close of what can be closed of gap c, [K, K].

        Args:
            told: that of `Worlds.shares`.
        """
        return torch.einsum("s,scd->cd", self.weights, self._shares(told))

    def reductions(self, distribution: Tensor, told: Tensor | None = None) -> Tensor:
        """By how much a demonstration of d is expected to reduce μ_c g_c, [c, d]; μ is [K], `told` as in `teaches`."""
        closable = distribution * self._means[:, :, 0].clamp(0, 1)
        return torch.einsum("s,sc,scd->cd", self.weights, closable, self._shares(told))

    def _shares(self, told: Tensor | None) -> Tensor:
        return torch.cat([kind.shares(told) for kind in self._kinds])
