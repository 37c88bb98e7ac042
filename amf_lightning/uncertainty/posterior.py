"""Gaussian beliefs about the expert's policy, in feature space and in function space, behind one interface.

Everything is in units of the observation noise σ², and the action dimensions share one precision (method, section 3).
Points are rows [..., P]: features for one belief, inputs of a kernel for the other. `prepare` turns them into
coordinates [..., Q] in which covariances are cheap; all other methods take prepared coordinates.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LONGEST_HISTORY = 2000
"""Rows that a belief in function space is conditioned on at most; its factor is a matrix between all of them."""


class Posterior(ABC):
    """The belief P(π* | D). Immutable: conditioning gives a new one."""

    @abstractmethod
    def prepare(self, points: Tensor) -> Tensor:
        """Coordinates [..., Q] of points [..., P], valid for this belief only."""

    @abstractmethod
    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """k_D between prepared [..., N, Q] and [..., M, Q], [..., N, M]."""

    @abstractmethod
    def variance(self, a: Tensor) -> Tensor:
        """v_D(x) = k_D(x, x) of prepared [..., Q], [...]."""

    @abstractmethod
    def condition(self, points: Tensor, noise: Tensor | float = 1.0) -> "Posterior":
        """The belief after observing the expert at points [N, P] (not prepared).

        Args:
            points: where it was observed.
            noise: observation noise, the variance of each observation in units of σ², positive, a number or [N]. A
                row that stands for m states has the noise 1/m.
        """

    @property
    def outputs(self) -> "tuple[Posterior, ...]":
        """The beliefs about the action entries, if they differ; itself, if they share one."""
        return (self,)

    def explained(self, targets: Tensor, blocks: Tensor, noise: Tensor) -> Tensor:
        """How much of each target's variance goes once a block is observed, [M, N].

        v_D(x) − v_{D∪τ}(x) = k_D(x, τ) (K_D(τ, τ) + nI)⁻¹ k_D(τ, x) for each block τ (AMF, equation of the variance).

        Args:
            targets: prepared, [N, Q].
            blocks: prepared, [M, S, Q]; each block is observed as a whole, apart from the others.
            noise: observation noise n of each block, a variance in units of σ², [M].
        """
        return self.whitened_covariance(targets, blocks, noise).square_().sum(1)

    def whitened_covariance(self, targets: Tensor, blocks: Tensor, noise: Tensor) -> Tensor:
        """Z = L⁻¹ k_D(τ, x) with LLᵀ = K_D(τ, τ) + nI, [M, S, N]. ZᵀZ is the covariance that observing τ removes."""
        factor = self.block_factor(blocks, noise)
        cross = self.covariance(blocks.flatten(0, 1), targets).reshape(*blocks.shape[:2], len(targets))
        return solve_triangular(factor.to(cross.dtype), cross)

    def block_factor(self, blocks: Tensor, noise: Tensor) -> Tensor:
        """Lower Cholesky factor of K_D(τ, τ) + nI of each block, [M, S, S] float64."""
        wide = blocks.to(torch.float64)
        return cholesky(self.covariance(wide, wide), noise.to(torch.float64)[:, None].expand(blocks.shape[:2]))


@dataclass(frozen=True, eq=False)
class FeatureSpacePosterior(Posterior):
    """Bayesian linear model: π*_j(x) = w_j·φ(x) + ε, with precision P_D = ρI + M0 + Φ_DᵀΦ_D of each w_j.

    >>> belief = FeatureSpacePosterior.prior(2, ridge=0.5)
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> belief.variance(belief.prepare(x))
    tensor([2.0000, 2.0000], dtype=torch.float64)
    >>> seen = belief.condition(x[:1])
    >>> seen.variance(seen.prepare(x))
    tensor([0.6667, 2.0000], dtype=torch.float64)
    """

    precision: Tensor
    """P_D, [d, d] float64."""
    factor: Tensor
    """Its lower Cholesky factor."""

    @classmethod
    def prior(
        cls, dimension: int, ridge: float, known: Tensor | None = None, device: str | None = None
    ) -> "FeatureSpacePosterior":
        """P = ρI + M0 before any demonstration.

        Args:
            dimension: d.
            ridge: ρ > 0.
            known: M0 / s², [d, d]: what is remembered of the pre-training states (ours, not in AMF).
            device: where the belief belongs; by default where `known` is.
        """
        place = known.device if device is None and known is not None else device
        precision = ridge * torch.eye(dimension, dtype=torch.float64, device=place)
        if known is not None:
            precision = precision + known.to(precision)
        return cls(precision, torch.linalg.cholesky(precision))

    def prepare(self, points: Tensor) -> Tensor:
        """Whitens: ψ = L⁻¹φ with LLᵀ = P_D, so that k_D(x, y) = ψ(x)·ψ(y)."""
        factor = self.factor.to(points.device)
        rows = points.reshape(-1, points.shape[-1]).to(torch.float64)
        return solve_triangular(factor, rows.T).T.reshape(points.shape).to(points.dtype)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """ψ(a)·ψ(b)."""
        return a @ b.mT

    def variance(self, a: Tensor) -> Tensor:
        """‖ψ‖²."""
        return a.square().sum(-1)

    def condition(self, points: Tensor, noise: Tensor | float = 1.0) -> "FeatureSpacePosterior":
        """P += Φᵀ diag(1/n) Φ. The d×d factor is made anew: d is small, the number of states is not."""
        rows = points.to(torch.float64)
        weighted = rows / torch.as_tensor(noise, dtype=torch.float64, device=rows.device).reshape(-1, 1)
        precision = self.precision.to(rows.device) + weighted.T @ rows
        return FeatureSpacePosterior(precision, torch.linalg.cholesky(precision))

    def whitened_covariance(self, targets: Tensor, blocks: Tensor, noise: Tensor) -> Tensor:
        """Whitens the blocks before the large product, not the result after it: the covariance is bilinear in ψ."""
        # The factor is made in float64, where K + nI is safely positive definite; the product may be in float32.
        white = solve_triangular(self.block_factor(blocks, noise), blocks.to(torch.float64)).to(targets.dtype)
        return (white.flatten(0, 1) @ targets.T).reshape(*blocks.shape[:2], len(targets))


class Kernel(Protocol):
    """A prior covariance between points."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """k between [..., N, P] and [..., M, P], [..., N, M]."""
        ...

    def diagonal(self, a: Tensor) -> Tensor:
        """k(x, x) of [..., P], [...]."""
        ...


@dataclass(frozen=True, eq=False)
class FunctionSpacePosterior(Posterior):
    """Gaussian process with prior covariance k/ρ in units of σ²: with k = φ·φ the same numbers as in feature space.

    Any other kernel will do, too. A prepared point carries [x, L⁻¹k(D, x)/ρ] with LLᵀ = K_DD/ρ + diag(n), n the
    observation noise, so a covariance costs one kernel and one product. The cost of `prepare` grows with the square of
    the observed rows: of more than `LONGEST_HISTORY` every m-th is kept, with 1/m of its noise, for it stands for m. Up
    to there it is exact.
    """

    kernel: Kernel
    ridge: float
    observed: Tensor | None = None
    """D, [n, P]."""
    factor: Tensor | None = None
    """L, [n, n] float64."""
    noise: Tensor | None = None
    """Observation noise: the variance of each row of D in units of σ², [n] float64."""

    def prepare(self, points: Tensor) -> Tensor:
        """[..., P + n]."""
        if self.observed is None or self.factor is None:
            return points
        rows = points.reshape(-1, points.shape[-1])
        cross = self.kernel(rows, self.observed.to(rows)) / self.ridge
        factor = self.factor.to(rows.device)
        white = solve_triangular(factor, cross.to(torch.float64).T).T
        return torch.cat([rows, white.to(rows.dtype)], dim=1).reshape(*points.shape[:-1], -1)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """k(a, b)/ρ less what D explains."""
        (xa, wa), (xb, wb) = self._split(a), self._split(b)
        prior = self.kernel(xa, xb) / self.ridge
        return prior if wa.shape[-1] == 0 else prior - wa @ wb.mT

    def variance(self, a: Tensor) -> Tensor:
        """k(x, x)/ρ less what D explains, never below zero."""
        x, white = self._split(a)
        return (self.kernel.diagonal(x) / self.ridge - white.square().sum(-1)).clamp(min=0)

    def condition(self, points: Tensor, noise: Tensor | float = 1.0) -> "FunctionSpacePosterior":
        """Appends rows to the Cholesky factor; what was factorised before stays, unless all has to be thinned."""
        rows = points.to(torch.float64)
        variances = torch.as_tensor(noise, dtype=torch.float64, device=rows.device).expand(len(rows))
        if (0 if self.observed is None else len(self.observed)) + len(rows) > LONGEST_HISTORY:
            # Old and new rows are thinned alike, or the history would be forgotten from its beginning.
            if self.observed is not None and self.noise is not None:
                rows, variances = torch.cat([self.observed.to(rows), rows]), torch.cat([self.noise.to(rows), variances])
            thinned = thinned_history(rows, variances, LONGEST_HISTORY)
            return FunctionSpacePosterior(self.kernel, self.ridge).condition(*thinned)
        prepared = self.prepare(rows)
        # The Schur complement of the rows that are factorised already: appending costs n·N² instead of (n + N)³.
        corner = cholesky(self.covariance(prepared, prepared), variances)
        if self.observed is None or self.factor is None:
            return FunctionSpacePosterior(self.kernel, self.ridge, rows, corner, variances)
        below = self._split(prepared)[1]
        above = below.new_zeros(len(self.factor), len(rows))
        factor = torch.cat([torch.cat([self.factor.to(rows), above], 1), torch.cat([below, corner], 1)])
        observed = torch.cat([self.observed.to(rows), rows])
        if self.noise is not None:
            variances = torch.cat([self.noise.to(rows), variances])
        return FunctionSpacePosterior(self.kernel, self.ridge, observed, factor, variances)

    def _split(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        width = prepared.shape[-1] - (0 if self.factor is None else len(self.factor))
        return prepared[..., :width], prepared[..., width:]


def thinned_history(rows: Tensor, noise: Tensor, longest: int = LONGEST_HISTORY) -> tuple[Tensor, Tensor]:
    """Every m-th of rows [N, ...] so that at most `longest` are left, and their observation noise [N] divided by m.

    A row that is left stands for m rows, and the mean of m independent observations has an m-th of the variance.

    >>> thinned_history(torch.arange(5), torch.ones(5), longest=2)
    (tensor([0, 3]), tensor([0.3333, 0.3333]))
    """
    stride = max(1, -(-len(rows) // longest))
    return rows[::stride], noise[::stride] / stride


def cholesky(covariance: Tensor, noise: Tensor) -> Tensor:
    """Lower Cholesky factor of covariance [..., N, N] + diag(noise), the observation noise [..., N]."""
    factor: Tensor = torch.linalg.cholesky(covariance + torch.diag_embed(noise))
    return factor


def solve_triangular(factor: Tensor, right: Tensor) -> Tensor:
    """L⁻¹R for lower factors [..., N, N] and right sides [..., N, M]."""
    solution: Tensor = torch.linalg.solve_triangular(factor, right, upper=False)
    return solution
