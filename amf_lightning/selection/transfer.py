"""How much of the gap of each task a demonstration of each other task closes: a prior, and what was seen. Pure tensors.

A demonstration of task d multiplies the gap g_c of task c by exp(−a_cd). The rates a are Gaussian: their mean is a
multiple of the share of what is not known about c that a demonstration of d would tell, their covariance that of the
tasks in the belief. What each round did to the gaps is an observation of sums of rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RateModel:
    """Numbers of the prior over rates, all in nats a demonstration."""

    rate: float = 1.0
    """Mean rate of a task's own demonstration."""
    spread: float = 0.5
    """Standard deviation of the factor common to all rates."""
    deviation: float = 0.5
    """Standard deviation of one rate from its mean."""
    error: float = 0.12
    """Standard deviation of a measured gap."""
    floor: float = 0.05
    """Gaps below this are as good as closed."""


def expected_rates(
    shares: Tensor, similarity: Tensor, gaps: Tensor, counts: Tensor, model: RateModel
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the rates a_cd, [K, K] each.

    Args:
        shares: s_cd in [0, 1], the share of what is unknown about c that a demonstration of d tells, [K, K].
        similarity: correlations of tasks, [K, K], positive semidefinite with a unit diagonal.
        gaps: measured before each round and after the last, [R + 1, K] in [0, 1].
        counts: demonstrations of each task that came in each round, [R, K].
        model: the prior.
    """
    k = len(shares)
    mean = model.rate * shares.flatten()
    if not len(counts):
        prior = model.spread**2 * shares**2 + model.deviation**2
        return mean.view(k, k), prior.sqrt()
    low = gaps + model.floor
    observed = (low[:-1] / low[1:]).log()  # [R, K]
    noise = model.error**2 * (low[:-1] ** -2 + low[1:] ** -2)
    # y_rc = Σ_d n_rd a_cd: cov(a_cd, a_ef) = spread² s_cd s_ef + deviation² S_ce S_df
    moved = counts.to(shares) @ shares.T  # [R, K]: Σ_d n_rd s_cd
    common = moved.flatten()
    across = counts.to(shares) @ similarity @ counts.to(shares).T  # [R, R]
    covariance = model.spread**2 * torch.outer(common, common)
    covariance += model.deviation**2 * torch.kron(across, similarity)
    covariance += torch.diag(noise.flatten())
    cross_common = model.spread**2 * torch.outer(shares.flatten(), common)
    # cov(a_cd, y_re) = deviation² S_ce Σ_f n_rf S_df
    reach = similarity @ counts.to(shares).T  # [K(d), R]
    cross = model.deviation**2 * torch.einsum("ce,dr->cdre", similarity, reach).reshape(k * k, -1)
    cross = cross + cross_common
    factor = torch.linalg.cholesky(covariance)
    residual = (observed.flatten() - model.rate * common)[:, None]
    mean = mean + (cross @ torch.cholesky_solve(residual, factor)).flatten()
    white = torch.linalg.solve_triangular(factor, cross.T, upper=False)
    prior = model.spread**2 * shares.flatten() ** 2 + model.deviation**2
    variance = (prior - white.square().sum(0)).clamp(min=0)
    return mean.view(k, k), variance.sqrt().view(k, k)


def expected_reduction(gaps: Tensor, rates: Tensor, distribution: Tensor) -> Tensor:
    """Σ_c μ_c g_c (1 − exp(−a_cd)) for each d, [K]."""
    return (distribution * gaps) @ (1 - torch.exp(-rates))


def choose_by_reduction(
    gaps: Tensor, rates: Tensor, distribution: Tensor, count: int, pending: Sequence[int] = ()
) -> list[Tensor]:
    """Scores [K] at each of `count` picks if the best is picked, each as if the ones before it had come."""
    scores = []
    for task in pending:
        gaps = gaps * torch.exp(-rates[:, task])
    for _ in range(count):
        score = expected_reduction(gaps, rates, distribution)
        scores.append(score)
        gaps = gaps * torch.exp(-rates[:, int(score.argmax())])
    return scores
