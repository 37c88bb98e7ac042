"""How gaps fall with demonstrations, of the task and of others: a Gaussian process over tasks. Pure tensors.

The expert's behaviour in task c is one Gaussian number of unit variance, correlated between tasks; a demonstration of
task d observes it with noise. What is unknown of task c, V_c, so falls with demonstrations of c like 1/(1 + n/ν), a
power law of learning curves (Hestness et al. 2017), and with those of others as far as the tasks are correlated, but
not below what only c itself shows. The gap of a task is a part that shrinks like V_c and a floor, which demonstrations
do not close: what cannot be learned, or what is measured of a policy that does as the expert does.

How strongly tasks are correlated, how fast they are learned, and how much a demonstration of each tells is not known
beforehand: a fixed sample of such worlds is weighted by how well each one foretells the gaps that are measured.
"""

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

_NOISE = (0.5, 0.7)
"""Median of ν, the variance of what a demonstration tells, and standard deviation of its logarithm."""
_INFORMATIVE = 0.5
"""Standard deviation of the logarithm of how much more a demonstration of one task tells than one of another."""
_FLOOR = (0.05, 0.2)
"""Mean and standard deviation of the floor."""
_SMALLEST = 1e-9
_ENTRIES, _FEWEST = 2**22, 16
"""Entries of all covariances together that are aimed at, and the number of worlds below which that is not."""


class LearningCurves:
    """The belief about the gaps of K tasks in S sampled worlds; what happened is told to it in order.

    Args:
        similarity: correlations of tasks, [K, K] float64, positive semidefinite with a unit diagonal.
        before: demonstrations of each task before anything was measured, [K] float64.
        transfer: the share of `similarity` that may be real, at most 1. Its square is uniform between 0 and the square
            of this, and the rest of what there is to know about a task is its own.
        drift: standard deviation of what a round does to a gap besides what is expected of it.
        worlds: S at most; with more than 128 tasks fewer, but at least 16, since each of them is a [K, K] matrix.
    """

    def __init__(self, similarity: Tensor, before: Tensor, transfer: float, drift: float, worlds: int) -> None:
        k = len(before)
        worlds = min(worlds, max(_FEWEST, _ENTRIES // k**2))
        # The same points for every run; the first one is the corner of all cubes, where quantiles are infinite.
        sobol = SobolEngine(k + 2, scramble=False)  # type: ignore[no-untyped-call]
        points = sobol.draw(worlds + 1, dtype=torch.float64)[1:]
        normal = torch.special.ndtri(points[:, 1:])
        share = (transfer * points[:, 0].sqrt())[:, None, None]
        own = torch.eye(k, dtype=torch.float64)
        self._covariance = share * similarity + (1 - share) * own
        median, spread = _NOISE
        self._noise = median * (spread * normal[:, :1] - _INFORMATIVE * normal[:, 1:]).exp()  # ν of a task, [S, K]
        self._drift = drift
        floor, spread = _FLOOR
        # Of what demonstrations close and of the floor, [S, K, 2], and covariances, [S, K, 2, 2].
        self._means = points.new_tensor([1.0, floor]).repeat(worlds, k, 1)
        self._covariances = torch.diag(points.new_tensor([1.0, spread**2])).repeat(worlds, k, 1, 1)
        self._log_likelihood = points.new_zeros(worlds)
        self._condition(before)

    @property
    def weights(self) -> Tensor:
        """Posterior probability of each world, [S]."""
        return self._log_likelihood.softmax(0)

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

    def train(self, counts: Tensor) -> None:
        """The policy was, or will be, trained on so many more demonstrations of each task, [K]."""
        before = self._unknown
        self._condition(counts)
        left = self._unknown / before
        kept = torch.stack([left, torch.ones_like(left)], dim=2)
        self._means = self._means * kept
        self._covariances = self._covariances * kept[:, :, :, None] * kept[:, :, None, :]
        self._covariances[:, :, 0, 0] += self._drift**2

    def teaches(self) -> Tensor:
        """The share that one more demonstration of d is expected to close of what can be closed of gap c, [K, K]."""
        return torch.einsum("s,scd->cd", self.weights, self._shares())

    def reductions(self, distribution: Tensor) -> Tensor:
        """By how much a demonstration of d is expected to reduce μ_c g_c, [K, K]; μ is [K]."""
        closable = distribution * self._means[:, :, 0].clamp(0, 1)
        return torch.einsum("s,sc,scd->cd", self.weights, closable, self._shares())

    @property
    def _unknown(self) -> Tensor:
        """V, [S, K]."""
        return self._covariance.diagonal(dim1=1, dim2=2).clamp(min=_SMALLEST)

    def _shares(self) -> Tensor:
        """1 − V_c(n + e_d)/V_c(n), [S, K, K]: the downdate of rank one."""
        unknown = self._unknown
        told = self._covariance.square() / (self._noise + unknown)[:, None, :]
        shares: Tensor = (told / unknown[:, :, None]).clamp(max=1)
        return shares

    def _condition(self, counts: Tensor) -> None:
        """On so many demonstrations of each task, [K]."""
        for task in torch.nonzero(counts).flatten().tolist():
            column = self._covariance[:, :, task]
            total = self._noise[:, task] / counts[task] + column[:, task]
            self._covariance = self._covariance - column[:, :, None] * (column / total[:, None])[:, None, :]
