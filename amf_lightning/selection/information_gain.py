"""The criterion: what a demonstration of each task would tell about the expert on all tasks. Pure tensors."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.uncertainty.posterior import Posterior

_CHUNK = 2**20
"""Entries of the largest intermediate tensor: 8 MiB in float64, which stays in caches and is not mapped anew."""
_LARGE_CHUNK = 2**26
"""The same on an accelerator, which takes as long for a small tensor as for a larger one: 512 MiB in float64."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Trajectories that stand for demonstrations not yet seen, each thinned to S states."""

    points: Tensor
    """Points of the posterior, [M, S, P]."""
    tasks: Tensor
    """Index of each trajectory's task, [M] int64."""
    weights: Tensor
    """Probability of each trajectory among those of its task, [M] float64; sums to one over a task."""
    horizons: Tensor
    """Horizon H_c of each trajectory's task in steps, [M] float64."""
    levels: Tensor | None = None
    """Observation noise of each trajectory, a variance in units of σ², [M] float64; 1 if None."""

    @property
    def thinning(self) -> Tensor:
        """S/H_c, [M]: the states kept for each step of the horizon."""
        return self.points.shape[1] / self.horizons

    @property
    def noise(self) -> Tensor:
        """S/H_c times the level, [M]: the observation noise of a state, which stands for H_c/S states, in σ²."""
        return self.thinning if self.levels is None else self.thinning * self.levels

    def of_task(self, task: int) -> "Blocks":
        """Those of one task."""
        mine = self.tasks == task
        levels = None if self.levels is None else self.levels[mine]
        return Blocks(self.points[mine], self.tasks[mine], self.weights[mine], self.horizons[mine], levels)


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything a criterion looks at: what may be observed, where it counts, and how much each task counts."""

    candidates: Blocks
    targets: Blocks
    distribution: Tensor
    """μ, [K] float64."""
    costs: Tensor | None = None
    """What a demonstration of each task costs, [K] float64; all the same if None."""

    @property
    def block_weights(self) -> Tensor:
        """μ(c)·p_i of each target trajectory, [M]."""
        return self.distribution[self.targets.tasks] * self.targets.weights

    @property
    def state_weights(self) -> Tensor:
        """w_x = μ(c)·p_i·H_c/S of each target state, [M, S]."""
        weights = self.block_weights / self.targets.thinning
        return weights[:, None].expand(self.targets.points.shape[:2])


class Aggregate(ABC):
    """How the uncertainty that a candidate removes is summed over the target states."""

    kappa: float | None = None
    """κ, if there is one."""
    needs_other_targets: ClassVar[bool] = False
    """Whether it means nothing where candidate and target states coincide."""
    gain_is: ClassVar[str] = "information about the expert, nats"
    """What a gain is, with its unit."""

    @abstractmethod
    def gains(self, posterior: Posterior, problem: Problem) -> Tensor:
        """Gain of observing each candidate trajectory, [M] float64, none negative."""


class Marginal(Aggregate):
    """Σ_x w_x ½ log((v + κ)/(v' + κ)): AMF's criterion (arXiv 2410.05026), nats.

    Args:
        kappa: κ > 0 in units of the observation noise. 1 is the strict model, in which targets are observed with fresh
            observation noise; smaller values count what happens at small variances for more.
    """

    def __init__(self, kappa: float = 0.1) -> None:
        if kappa <= 0:
            raise InputError(f"Marginal: kappa is {kappa}; it must be positive (1 is the strict model).")
        self.kappa: float = kappa

    def gains(self, posterior: Posterior, problem: Problem) -> Tensor:
        """See the class."""
        return marginal_gains(posterior, problem, self.kappa)


class Variance(Aggregate):
    """Σ_x w_x (v − v'): the variance removed (VTL). Unbounded: states far outside the data can rule it."""

    gain_is = "variance of the belief about the expert that it removes, in units of the observation noise"

    def gains(self, posterior: Posterior, problem: Problem) -> Tensor:
        """See the class."""
        return variance_gains(posterior, problem)


class Joint(Aggregate):
    """Σ_i μ(c_i)p_i ½ log det(T_i)/det(T_i'): information about each target trajectory as a whole (ITL), nats.

    Args:
        kappa: κ > 0, noise of each target state in units of σ² per state of the trajectory; 0 would be the noise-free
            policy itself, whose covariance can be singular.
    """

    needs_other_targets = True

    def __init__(self, kappa: float = 0.1) -> None:
        if kappa <= 0:
            raise InputError(f"Joint: kappa is {kappa}; it must be positive.")
        self.kappa: float = kappa

    def gains(self, posterior: Posterior, problem: Problem) -> Tensor:
        """See the class."""
        return joint_gains(posterior, problem, self.kappa)


def marginal_gains(posterior: Posterior, problem: Problem, kappa: float) -> Tensor:
    """Σ_x w_x ½ log((v + κ)/(v' + κ)) for each candidate trajectory, [M] float64."""
    weights = problem.state_weights.flatten()
    terms = _marginal_terms(posterior, problem, kappa)
    return torch.cat([rows @ weights.to(rows.dtype) * -0.5 for rows in terms]).to(torch.float64)


def marginal_gain_by_task(posterior: Posterior, problem: Problem, kappa: float, task: int) -> Tensor:
    """What a demonstration of `task` is expected to tell about each task, [K] float64; sums to its score, nats."""
    chosen = problem.candidates.of_task(task)
    only, weights = replace(problem, candidates=chosen), problem.state_weights.flatten()
    terms = torch.cat(list(_marginal_terms(posterior, only, kappa))).to(torch.float64)
    gains = (chosen.weights @ terms) * weights * -0.5
    of_state = problem.targets.tasks[:, None].expand(problem.targets.points.shape[:2]).flatten()
    return torch.zeros(len(problem.distribution), dtype=torch.float64).index_add(0, of_state.cpu(), gains.cpu())


def variance_gains(posterior: Posterior, problem: Problem) -> Tensor:
    """Σ_x w_x (v − v') for each candidate trajectory, [M] float64."""
    targets = posterior.prepare(problem.targets.points.flatten(0, 1))
    weights = problem.state_weights.flatten().to(targets.dtype)
    return torch.cat([explained @ weights for explained in _explained(posterior, problem, targets)]).to(torch.float64)


def joint_gains(posterior: Posterior, problem: Problem, kappa: float) -> Tensor:
    """Σ_i μ(c_i)p_i ½ log det(T_i before)/det(T_i after), T = K_D + κ(S/H)I, for each candidate trajectory, [M]."""
    candidates, targets = problem.candidates, problem.targets
    blocks = posterior.prepare(targets.points)
    factors = posterior.block_factor(blocks, kappa * targets.thinning)
    inner = torch.eye(candidates.points.shape[1], dtype=torch.float64, device=blocks.device)
    gains = []
    for chunk, noise in _chunks(posterior, candidates, blocks.shape[0] * blocks.shape[1]):
        removed = posterior.whitened_covariance(blocks.flatten(0, 1), chunk, noise).to(torch.float64)
        # [m, S, N] -> [m, targets, S_t, S]; det(T − ZᵀZ)/det T = det(I − WᵀW) with W = L_T⁻¹Zᵀ.
        cross = removed.reshape(*removed.shape[:2], *blocks.shape[:2]).permute(0, 2, 3, 1)
        white = torch.linalg.solve_triangular(factors, cross, upper=False)
        gains.append(-0.5 * torch.linalg.slogdet(inner - white.mT @ white).logabsdet @ problem.block_weights)
    return torch.cat(gains)


def task_scores(gains: Tensor, candidates: Blocks, task_count: int) -> Tensor:
    """Σ_i p_i · gain(τ_i) for each task, [K] float64 on the CPU: the expectation over demonstrations, outside the log.

    NaN for a task without a candidate.
    """
    # On an accelerator the order of the sum would differ from run to run, and with it the last bits.
    tasks, weighted = candidates.tasks.cpu(), (candidates.weights * gains).cpu()
    scores = weighted.new_zeros(task_count).index_add(0, tasks, weighted)
    covered = torch.zeros(task_count, dtype=torch.bool)
    covered[tasks] = True
    return torch.where(covered, scores, torch.full_like(scores, torch.nan))


def task_variances(posterior: Posterior, targets: Blocks, task_count: int) -> Tensor:
    """Mean of v_D over the target states of each task, [K] float64; NaN for a task without any."""
    variances = posterior.variance(posterior.prepare(targets.points)).to(torch.float64).mean(1)
    return task_scores(variances, targets, task_count)


def variance_shares(posterior: Posterior, problem: Problem) -> Tensor:
    """The share of the variance of task c that a demonstration of d is expected to remove, [c, d], [K, K] float64.

    0 for a task d without a candidate, NaN for a task c without target states.
    """
    count, states = len(problem.distribution), problem.targets.points.shape[1]
    of_state = problem.targets.tasks.cpu().repeat_interleave(states)
    weights = (problem.targets.weights.cpu() / states).repeat_interleave(states)
    candidates = problem.candidates.tasks.cpu(), problem.candidates.weights.cpu()
    removed, before = weights.new_zeros(count, count), weights.new_zeros(count)
    for belief in posterior.outputs:
        targets = belief.prepare(problem.targets.points.flatten(0, 1))
        terms = torch.cat([rows.to("cpu", torch.float64) for rows in _explained(belief, problem, targets)])
        about = weights.new_zeros(len(terms), count).index_add(1, of_state, terms * weights)
        removed = removed.index_add(0, candidates[0], about * candidates[1][:, None])
        before = before.index_add(0, of_state, belief.variance(targets).to("cpu", torch.float64) * weights)
    return removed.T / before[:, None]


def information_scores(posterior: Posterior, problem: Problem, aggregate: Aggregate) -> Tensor:
    """Expected information gain of each task, for each unit of cost, [K] float64; NaN without a candidate."""
    gains = torch.stack([aggregate.gains(belief, problem) for belief in posterior.outputs]).mean(0)
    scores = task_scores(gains, problem.candidates, len(problem.distribution))
    return scores if problem.costs is None else scores / problem.costs.to(scores)


def information_by_task(posterior: Posterior, problem: Problem, aggregate: Aggregate, task: int) -> Tensor:
    """What of the score of `task` is about each task, [K] float64; empty where the aggregate is no sum over states."""
    if not isinstance(aggregate, Marginal):
        return torch.empty(0, dtype=torch.float64)
    each = [marginal_gain_by_task(belief, problem, aggregate.kappa, task) for belief in posterior.outputs]
    parts = torch.stack(each).mean(0)
    return parts if problem.costs is None else parts / problem.costs[task].to(parts)


def _marginal_terms(posterior: Posterior, problem: Problem, kappa: float) -> Iterator[Tensor]:
    """log((v' + κ)/(v + κ)) of each candidate trajectory at each target state, in chunks [m, N]."""
    targets = posterior.prepare(problem.targets.points.flatten(0, 1))
    before = posterior.variance(targets)
    for explained in _explained(posterior, problem, targets):
        # log((v + κ)/(v' + κ)) = −log(1 − (v − v')/(v + κ)), exact also where the gain is tiny. Rounding may explain
        # more variance than there was: the minimum keeps every gain finite, also for a small κ.
        yield torch.log1p(-torch.minimum(explained, before) / (before + kappa)).to(before.dtype)


def _explained(posterior: Posterior, problem: Problem, targets: Tensor) -> Iterator[Tensor]:
    """`posterior.explained` in chunks of candidates, so that memory does not grow with their number."""
    for chunk, noise in _chunks(posterior, problem.candidates, len(targets)):
        yield posterior.explained(targets, chunk, noise)


def _chunks(posterior: Posterior, candidates: Blocks, targets: int) -> Iterator[tuple[Tensor, Tensor]]:
    entries = _CHUNK if candidates.points.device.type == "cpu" else _LARGE_CHUNK
    size = max(1, entries // (targets * candidates.points.shape[1]))
    for points, noise in zip(torch.split(candidates.points, size), torch.split(candidates.noise, size), strict=True):
        yield posterior.prepare(points), noise
