"""How alike tasks are by a belief about the expert. Pure tensors."""

import torch
from torch import Tensor

from amf_lightning.selection.information_gain import Problem
from amf_lightning.uncertainty.posterior import Posterior


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
