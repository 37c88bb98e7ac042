"""What a demonstration of each task is worth for each other one: a prior, and what was seen. Pure tensors.

The gap g_c of a task falls with its effective number of demonstrations N_c like (1 + N_c)^−α, the power law of learning
curves. A demonstration of task d counts as s_cd demonstrations of c: s_cc is about 1, and s_cd is Gaussian with the
share of what is not known about c that a demonstration of d tells as its mean. What each round did to the gaps is an
observation of sums of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TransferModel:
    """Numbers of the prior."""

    exponent: float = 1.0
    """α of the learning curve."""
    deviation: float = 0.5
    """Standard deviation of the transfer between two tasks from its mean."""
    own_deviation: float = 0.25
    """The same for a task's own demonstrations, whose mean is 1."""
    error: float = 0.15
    """Standard deviation of a measured gap."""
    floor: float = 0.05
    """Gaps below this are as good as closed."""
    largest: float = 2.0
    """Most that a demonstration of another task counts."""


def expected_transfer(
    shares: Tensor, similarity: Tensor, gaps: Tensor, counts: Tensor, before: Tensor, model: TransferModel
) -> Tensor:
    """Posterior mean of s_cd, [K, K] in [0, largest], the diagonal at least a half.

    Args:
        shares: prior mean of s_cd, [K, K], its diagonal 1.
        similarity: correlations of tasks, [K, K], positive semidefinite with a unit diagonal.
        gaps: measured before each round and after the last, [R + 1, K] in [0, 1].
        counts: demonstrations of each task that came in each round, [R, K].
        before: effective demonstrations of each task before the first round, [K].
        model: the prior.
    """
    k = len(shares)
    mean = shares.clone()
    if len(counts):
        low = gaps + model.floor
        observed = (low[:-1] / low[1:]).log()  # [R, K]
        noise = model.error**2 * (low[:-1] ** -2 + low[1:] ** -2)
        came = counts @ shares.T
        n = before + torch.cat([torch.zeros_like(came[:1]), came[:-1]]).cumsum(0)
        # log((1 + N + m)/(1 + N)) by its secant at the prior mean m: linear in s.
        slope = torch.where(came > 1e-9, ((1 + n + came) / (1 + n)).log() / came.clamp(min=1e-9), 1 / (1 + n))
        slope = model.exponent * slope  # [R, K]
        scale = torch.full((k, k), model.deviation, dtype=shares.dtype).fill_diagonal_(model.own_deviation)
        # cov(s_cd, s_ef) = σ_cd σ_ef S_ce S_df
        weighted = counts[:, None] * scale  # [R, K(c), K(d)]: n_rd σ_cd
        reach = weighted @ similarity  # [R, c, d]: Σ_f n_rf σ_cf S_fd
        across = torch.einsum("rcd,sed->rcse", weighted, reach)  # Σ_df n_rd σ_cd S_df σ_ef n_sf
        covariance = across * similarity[None, :, None, :] * slope[:, :, None, None] * slope[None, None]
        covariance = covariance.reshape(slope.numel(), -1) + torch.diag(noise.flatten())
        cross = scale[:, :, None, None] * similarity[:, None, None, :] * reach.permute(2, 0, 1)[None] * slope
        residual = (observed - slope * came).flatten()
        solved = torch.cholesky_solve(residual[:, None], torch.linalg.cholesky(covariance))
        mean = mean + (cross.reshape(k * k, -1) @ solved).view(k, k)
    own = mean.diagonal().clamp(0.5, model.largest)
    return mean.clamp(0, model.largest).diagonal_scatter(own)


def expected_reduction(gaps: Tensor, numbers: Tensor, transfer: Tensor, distribution: Tensor, exponent: float) -> Tensor:
    """Σ_c μ_c g_c (1 − ((1 + N_c)/(1 + N_c + s_cd))^α) for each d, [K]."""
    left = (1 + numbers)[:, None] / (1 + numbers[:, None] + transfer)
    return (distribution * gaps) @ (1 - left**exponent)


def after(gaps: Tensor, numbers: Tensor, transfer: Tensor, task: int, exponent: float) -> tuple[Tensor, Tensor]:
    """Gaps and effective numbers expected after a demonstration of a task, [K] each."""
    more = numbers + transfer[:, task]
    return gaps * ((1 + numbers) / (1 + more)) ** exponent, more
