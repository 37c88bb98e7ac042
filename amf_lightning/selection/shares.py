"""What a belief about the expert says of pairs of tasks. Pure tensors."""

import torch
from torch import Tensor

from amf_lightning.selection.information_gain import Problem
from amf_lightning.uncertainty.posterior import Posterior


def told_shares(posterior: Posterior, problem: Problem, count: int) -> Tensor:
    """The share of the variance at the targets of c that a demonstration of d explains, [K, K] float64 in [0, 1].

    Relative to what a demonstration of c itself explains, or the one that explains most: a kernel that is short in one
    place and long in another would call the same demonstration useless and useful.
    """
    targets = posterior.prepare(problem.targets.points.flatten(0, 1))
    before = posterior.variance(targets)
    blocks, noise = posterior.prepare(problem.candidates.points), problem.candidates.noise
    explained = posterior.explained(targets, blocks, noise) / before.clamp(min=1e-12)  # [M, N]
    each = explained.view(len(blocks), len(problem.targets.tasks), -1).mean(2).to(torch.float64).cpu()
    weights = (problem.candidates.weights[:, None] * problem.targets.weights).cpu()
    pairs = (problem.targets.tasks * count + problem.candidates.tasks[:, None]).cpu()
    table = each.new_zeros(count * count).index_add(0, pairs.flatten(), (each * weights).flatten()).view(count, count)
    most = torch.maximum(table.diagonal(), table.amax(1)).clamp(min=1e-12)
    return (table / most[:, None]).clamp(0, 1)


def task_similarity(posterior: Posterior, problem: Problem, count: int) -> Tensor:
    """Correlation of the expert's mean over the target states of each two tasks, [K, K] float64."""
    points = posterior.prepare(problem.targets.points.flatten(0, 1))
    states = problem.targets.points.shape[1]
    owner = problem.targets.tasks.repeat_interleave(states)
    average = points.new_zeros(count, len(owner)).index_put((owner, torch.arange(len(owner))), points.new_ones(()))
    average = average / average.sum(1, keepdim=True)
    gram = (average @ posterior.covariance(points, points) @ average.T).to(torch.float64).cpu()
    deviation = gram.diagonal().clamp(min=1e-12).sqrt()
    return gram / deviation[:, None] / deviation
