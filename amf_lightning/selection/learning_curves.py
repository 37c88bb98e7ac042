"""How gaps fall with demonstrations, of the task and of others. Pure tensors.

The gap of task c falls with the effective number N_c of its demonstrations like (1 + N_c)^−α, the power law of
learning curves (Hestness et al. 2017). A demonstration of task d counts as s_cd demonstrations of c, s_cc = 1. Off the
diagonal s_cd is Gaussian around what the belief about the expert says, and every round shows sums of them: how far each
gap fell.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_CLOSED = 0.05
"""A gap below this is as good as closed: it is added where logarithms are taken."""
_MOST = 2.0
"""Demonstrations of a task that one of another counts for, at most."""


@dataclass(frozen=True)
class LearningCurves:
    """The exponent of the curves, and how well transfer is known beforehand."""

    exponent: float = 1.0
    """α."""
    transfer: float = 0.5
    """Standard deviation of s_cd."""

    def transfers(
        self, shares: Tensor, similarity: Tensor, gaps: Tensor, counts: Tensor, before: Tensor, error: float
    ) -> Tensor:
        """Posterior mean of s_cd, [K, K] in [0, 2], its diagonal 1.

        With h_rc = α log((1 + N + m)/(1 + N))/m at the prior mean m of what came in round r, log g falls by y_rc = h_rc
        Σ_d n_rd s_cd + noise, linear in s. A priori cov(s_cd, s_ef) = transfer² S_ce S_df for c ≠ d and e ≠ f.

        Args:
            shares: prior mean of s_cd, [K, K]; the diagonal is not looked at.
            similarity: S, correlations of tasks, [K, K], positive semidefinite with a unit diagonal.
            gaps: measured before each round and after the last, [R + 1, K] in [0, 1]; NaN where nothing was.
            counts: n_rd, demonstrations of each task that came in each round, [R, K].
            before: effective demonstrations of each task before the first round, [K].
            error: standard deviation of a measured gap.
        """
        k = len(before)
        mean = shares.clone().fill_diagonal_(1.0)
        low = gaps + _CLOSED
        observed, noise = (low[:-1] / low[1:]).log(), error**2 * (low[:-1] ** -2 + low[1:] ** -2)
        rounds, tasks = torch.nonzero(observed.isfinite() & (counts.sum(1) > 0)[:, None], as_tuple=True)
        if not len(rounds):
            return mean
        came = counts @ mean.T
        earlier = before + torch.cat([torch.zeros_like(came[:1]), came[:-1]]).cumsum(0)
        slope = torch.where(came > 1e-9, torch.log1p(came / (1 + earlier)) / came.clamp(min=1e-9), 1 / (1 + earlier))
        # Row i of `design` [n, K]: what observation i, of task c, says of s_c1 … s_cK.
        design = self.exponent * slope[rounds, tasks][:, None] * counts[rounds]
        residual = observed[rounds, tasks] - (design * mean[tasks]).sum(1)
        free = self.transfer * design.scatter(1, tasks[:, None], 0.0)  # s_cc is known
        reach = free @ similarity  # [n, K]
        between = similarity[tasks]  # [n, K]
        covariance = (reach @ free.T) * between[:, tasks] + torch.diag(noise[rounds, tasks])
        solved = torch.cholesky_solve(residual[:, None], torch.linalg.cholesky(covariance))[:, 0]
        mean = mean + self.transfer * (between * solved[:, None]).T @ reach
        return mean.clamp(0, _MOST).diagonal_scatter(torch.ones(k, dtype=mean.dtype))

    def reductions(self, gaps: Tensor, numbers: Tensor, transfer: Tensor, distribution: Tensor) -> Tensor:
        """Σ_c μ_c g_c (1 − ((1 + N_c)/(1 + N_c + s_cd))^α) for each d, [K]."""
        left = _left(numbers[:, None], numbers[:, None] + transfer, self.exponent)
        return (distribution * gaps) @ (1 - left)

    def after(self, gaps: Tensor, numbers: Tensor, transfer: Tensor, task: int) -> tuple[Tensor, Tensor]:
        """Gaps and effective numbers that are expected after a demonstration of a task, [K] each."""
        more = numbers + transfer[:, task]
        return gaps * _left(numbers, more, self.exponent), more


def _left(numbers: Tensor, more: Tensor, exponent: float) -> Tensor:
    """The share of a gap that is left when its effective demonstrations become more."""
    return ((1 + numbers) / (1 + more)) ** exponent


def filtered_gaps(
    gaps: Tensor, counts: Tensor, before: Tensor, transfer: Tensor, exponent: float, error: float, drift: float
) -> Tensor:
    """The gap of each task now, by a Kalman filter over the rounds, [K] in [0, 1].

    A round is expected to multiply a gap by ((1 + N)/(1 + N + Σ_d n_rd s_cd))^α.

    Args:
        gaps: measured before each round and now, [R + 1, K]; NaN where nothing was.
        counts: demonstrations of each task that came in each round, [R, K].
        before: effective demonstrations of each task before the first round, [K].
        transfer: s_cd, [K, K].
        exponent: α.
        error: standard deviation of a measured gap.
        drift: standard deviation of what a round does to a gap besides what is expected.
    """
    mean, variance, numbers = torch.ones_like(before), torch.ones_like(before), before
    for number, measured in enumerate(gaps):
        if number:
            more = numbers + transfer @ counts[number - 1]
            factor = _left(numbers, more, exponent)
            mean, variance, numbers = mean * factor, variance * factor**2 + drift**2, more
        seen = measured.isfinite()
        weight = torch.where(seen, variance / (variance + error**2), 0.0)
        mean = torch.where(seen, mean + weight * (measured.nan_to_num() - mean), mean)
        variance = (1 - weight) * variance
    return mean.clamp(0, 1)
