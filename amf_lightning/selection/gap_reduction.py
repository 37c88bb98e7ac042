"""Asks for the demonstration that is expected to close most of what the policy does not do yet."""

from dataclasses import replace

import torch
from torch import Tensor

from amf_lightning.needs import union
from amf_lightning.selection.context import Selection, SelectionContext, argmax_keyed
from amf_lightning.selection.evidence import Evidence, OccupancyGap
from amf_lightning.selection.greedy import level_ties
from amf_lightning.selection.information_gain import Problem
from amf_lightning.selection.informed import _EMBEDDING, _OCCUPANCY, InformedSelector
from amf_lightning.selection.occupancies import Occupancy
from amf_lightning.selection.transfer import TransferModel, after, expected_reduction, expected_transfer
from amf_lightning.uncertainty.embeddings import Embedding
from amf_lightning.uncertainty.posterior import Posterior


class GapReduction(InformedSelector):
    """Prototype."""

    def __init__(
        self,
        embedding: Embedding = _EMBEDDING,
        occupancy: Occupancy = _OCCUPANCY,
        rho: float = 0.1,
        exponent: float = 1.0,
        deviation: float = 0.5,
        error: float = 0.15,
        floor: float = 0.05,
        power: float = 1.0,
        belief: str = "prior",
        share: float = 1.0,
        effective: bool = True,
        learn: bool = True,
    ) -> None:
        super().__init__(embedding, occupancy, rho)
        self.evidence: Evidence = OccupancyGap()
        self.needs = union(self.needs, self.evidence.needs)
        self.model = TransferModel(exponent, deviation, 0.5 * deviation, error, floor)
        self.power, self.belief, self.share, self.effective, self.learn = power, belief, share, effective, learn

    def score(self, posterior: Posterior, problem: Problem) -> Tensor:
        raise NotImplementedError

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        suite, a = context.suite, self.model.exponent
        names = [task.name for task in suite.tasks]
        covered = context.statistics.covers if context.statistics is not None else {}
        self._reference(context)
        reference = [each for each in self._reference.rollouts if each.task in covered]
        states = self.occupancy.expected(context)
        assert states is not None
        measured = self.evidence.gaps(context, reference)
        blind = context if self.belief == "posterior" else replace(context, demonstrations=())
        posterior, problem, about = self._embed(blind, states)
        shares = self.share * told_shares(posterior, problem, len(names)) ** self.power
        shares.fill_diagonal_(1.0)
        similarity = task_similarity(posterior, problem, len(names))
        before = [[told[f"gap/{name}"] for name in names] for told in context.told]
        gaps = torch.tensor([*before, measured.gaps.tolist()], dtype=torch.float64)
        counts = torch.zeros(len(context.told), len(names), dtype=torch.float64)
        for number, tasks in enumerate(context.asked):
            for task in tasks:
                counts[number, task] += 1
        start = torch.tensor([float(covered.get(name, 0)) for name in names], dtype=torch.float64)
        known = slice(None) if self.learn else slice(0)
        transfer = expected_transfer(
            shares, similarity, gaps if self.learn else gaps[-1:], counts[known], start, self.model
        )
        n = start + counts.sum(0) @ (transfer.T if self.effective else torch.eye(len(names), dtype=torch.float64))
        now, mu = gaps[-1], suite.distribution.to(torch.float64)
        for task in context.pending:
            now, n = after(now, n, transfer, task, a)
        picks, scores = [], []
        for position in range(batch_size):
            score = expected_reduction(now, n, transfer, mu, a)
            left = context.allowed(picks)
            picks.append(argmax_keyed(level_ties(score, left), left, context.generator(position)))
            scores.append(tuple(score.tolist()))
            now, n = after(now, n, transfer, picks[-1], a)
        diagnostics = {
            **{f"gap/{name}": g for name, g in zip(names, measured.gaps.tolist(), strict=True)},
            **{f"teaches/{name}": float(transfer[:, i].mean()) for i, name in enumerate(names)},
            **about,
            "environment_steps": float(
                states.environment_steps + measured.environment_steps + self._reference.steps_in(context.round)
            ),
        }
        return Selection(tuple(picks), tuple(scores), diagnostics)


def told_shares(posterior: Posterior, problem: Problem, k: int) -> Tensor:
    """s_cd: share of the variance at the targets of c that a demonstration of d explains, relative to c's own, [K, K]."""
    targets = posterior.prepare(problem.targets.points.flatten(0, 1))
    before = posterior.variance(targets)
    blocks, noise = posterior.prepare(problem.candidates.points), problem.candidates.noise
    explained = posterior.explained(targets, blocks, noise) / before.clamp(min=1e-12)  # [M, N]
    per_block = explained.view(len(blocks), len(problem.targets.tasks), -1).mean(2)  # [M, M']
    table = per_block.new_zeros(k, k)
    weights = problem.candidates.weights[:, None] * problem.targets.weights[None]
    flat = problem.targets.tasks[None] * k + problem.candidates.tasks[:, None]
    table = table.flatten().index_add(0, flat.flatten(), (per_block * weights).flatten()).view(k, k)
    own = table.diagonal()[:, None]
    return (table / torch.maximum(own, table.amax(1, keepdim=True))).clamp(0, 1).to(torch.float64).cpu()


def task_similarity(posterior: Posterior, problem: Problem, k: int) -> Tensor:
    """Correlation of the mean of the expert over the target states of each two tasks, [K, K]."""
    points = posterior.prepare(problem.targets.points.flatten(0, 1))
    covariance = posterior.covariance(points, points)
    states = problem.targets.points.shape[1]
    owner = problem.targets.tasks.repeat_interleave(states)
    average = torch.zeros(k, len(owner), dtype=covariance.dtype)
    average[owner, torch.arange(len(owner))] = 1.0
    average = average / average.sum(1, keepdim=True)
    gram = (average @ covariance @ average.T).to(torch.float64)
    d = gram.diagonal().clamp(min=1e-12).sqrt()
    return gram / d[:, None] / d[None]
