"""How far episodes of a policy are from where the expert goes. Pure tensors but for the summaries of episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

_SMALLEST_SPREAD = 0.1
"""Standard deviation between tasks, in units of that of all states, below which an entry of a summary tells nothing."""
_HALF = 3.0
"""Distance at which half of an episode counts as not done."""
_LENGTHSCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False)
class EpisodeSummaries:
    """What is compared of M episodes."""

    entries: Tensor
    """ψ = [mean over steps, standard deviation over steps] of each entry of the observation, [M, 2O] float64, in units
    of the standard deviation of the entry over everything shown."""
    lengths: Tensor
    """Steps in units of the horizon, [M]."""
    tasks: Tensor
    """Index of each episode's task, [M] int64."""


class Summaries:
    """Summarises episodes in the units of what was shown.

    Args:
        shown: at least one episode.
        suite: whose tasks they are of.
    """

    def __init__(self, shown: Sequence[Trajectory], suite: TaskSuite) -> None:
        self._suite = suite
        self._unit = torch.cat([_vectors(each) for each in shown]).std(0).clamp(min=1e-6)

    def __call__(self, episodes: Sequence[Trajectory]) -> EpisodeSummaries:
        """ψ, length and task of each episode."""
        tasks = [self._suite.task(episode.task) for episode in episodes]
        entries = []
        for episode in episodes:
            vectors = _vectors(episode) / self._unit
            entries.append(torch.cat([vectors.mean(0), vectors.std(0, unbiased=False)]))
        lengths = [episode.length / task.horizon for episode, task in zip(episodes, tasks, strict=True)]
        return EpisodeSummaries(
            torch.stack(entries),
            torch.tensor(lengths, dtype=torch.float64),
            torch.tensor([task.index for task in tasks]),
        )


def _vectors(episode: Trajectory) -> Tensor:
    """All vectors of the observation side by side, [T, O] float64."""
    entries = [torch.from_numpy(entry) for entry in episode.acted_on.values() if entry.ndim == 2]
    if not entries:
        raise InputError(
            f"OccupancyGap compares vectors, and the observation of task '{episode.task}' has none. Choose another "
            "evidence, or none (evidence: null)."
        )
    return torch.cat([entry.to(torch.float64) for entry in entries], dim=1)


def occupancy_gaps(shown: EpisodeSummaries, rolled: EpisodeSummaries, contexts: Tensor, unknown: bool = True) -> Tensor:
    """The gap of each task, the mean over its rollouts of 1 − (1 − g)(1 − h), [K] float64.

    h is the share of the expert's length that a rollout is shorter or longer by. g = D/(D + 3), with
    D = Σ_j q_j max((ψ_j − m_j)² − W_j, 0)/A_j / Σ_j q_j − D_E + u. W is the variance of ψ between shown episodes of one
    task, A that between tasks, q = A/(A + W): what differs between episodes of the expert tells little. m is the
    expert's summary of the task as a Gaussian process over contexts predicts it, u in [0, 1] the share of its variance
    that is unknown. D_E is the mean distance of the expert's own episodes from the others of their task.

    Args:
        shown: episodes of the expert, at least one.
        rolled: episodes of the policy, at least one of each task.
        contexts: of all tasks, [K, C] float64.
        unknown: False: u counts as 0, that is m as what the expert does.
    """
    count = len(contexts)
    number = torch.bincount(shown.tasks, minlength=count).to(torch.float64)
    known = torch.nonzero(number).flatten()
    both = torch.cat([shown.entries, shown.lengths[:, None]], dim=1)
    means = both.new_zeros(count, both.shape[1]).index_add(0, shown.tasks, both)[known] / number[known, None]
    place = torch.empty(count, dtype=torch.int64).index_put((known,), torch.arange(len(known)))
    within = shown.entries - means[place[shown.tasks], :-1]
    freedom = len(within) - len(known)
    w = within.square().sum(0) / freedom if freedom > 0 else torch.full_like(within[0], 0.05**2)
    between = means[:, :-1].var(0, unbiased=False).clamp(min=_SMALLEST_SPREAD**2)
    q = between / (between + w)
    expected, share = _interpolated(means, number[known], known, contexts, float((w / between).mean()))

    def distance(entries: Tensor, expectation: Tensor) -> Tensor:
        return ((entries - expectation).square() - w).clamp(min=0) / between @ q / q.sum()

    # The expert's own episodes, each beside the mean of the others of its task.
    others = number[shown.tasks] - 1
    again = others > 0
    left_out = shown.entries + within * (-number[shown.tasks] / others.clamp(min=1))[:, None]
    ground = distance(shown.entries[again], left_out[again]).mean() if again.any() else w.new_zeros(())
    there = expected[rolled.tasks]
    d = (distance(rolled.entries, there[:, :-1]) - ground).clamp(min=0)
    if unknown:
        d = d + share[rolled.tasks]
    h = ((rolled.lengths - there[:, -1]).abs() / there[:, -1].clamp(min=0.05)).clamp(0, 1)
    gaps = 1 - _HALF / (d + _HALF) * (1 - h)
    rollouts = torch.bincount(rolled.tasks, minlength=count)
    return gaps.new_zeros(count).index_add(0, rolled.tasks, gaps) / rollouts


def _interpolated(
    values: Tensor, numbers: Tensor, known: Tensor, contexts: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Values of all tasks and the unknown share of each, by a Gaussian process over contexts (squared exponential).

    Args:
        values: means of the known tasks, [k, P].
        numbers: episodes behind each, [k].
        known: indices of those tasks, [k].
        contexts: of all tasks, [K, C].
        noise: variance of one episode's value in units of that between tasks.

    Returns:
        [K, P] and [K]; the lengthscale is that of the largest marginal likelihood on a grid.
    """
    deviation = contexts.std(0, unbiased=False)
    x = contexts / torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    squared = torch.cdist(x, x).square() / (deviation > 0).sum().clamp(min=1)
    centre = (values * numbers[:, None]).sum(0) / numbers.sum()
    residual = values - centre
    size = residual.square().mean(0).clamp(min=1e-12).sqrt()
    best, result = -float("inf"), (values.new_zeros(0), values.new_zeros(0))
    for lengthscale in _LENGTHSCALES:
        kernel = torch.exp(-0.5 * squared / lengthscale**2)
        factor = torch.linalg.cholesky(kernel[known][:, known] + torch.diag(noise / numbers + 1e-6))
        solved = torch.cholesky_solve(residual / size, factor)
        likelihood = float(-0.5 * (residual / size * solved).mean(1).sum() - factor.diagonal().log().sum())
        if likelihood > best:
            cross = kernel[:, known]
            white = torch.linalg.solve_triangular(factor, cross.T, upper=False)
            best = likelihood
            result = (centre + cross @ solved * size, (1 - white.square().sum(0)).clamp(min=0))
    return result
