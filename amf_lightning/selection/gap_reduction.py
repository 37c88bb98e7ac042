"""Asks for the demonstration that is expected to close most of what the policy does not do yet."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jsonargparse.typing import lazy_instance
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Part, union
from amf_lightning.selection.context import Selection, SelectionContext, Selector, argmax_keyed
from amf_lightning.selection.evidence import Evidence, OccupancyGap
from amf_lightning.selection.greedy import level_ties
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.learning_curves import LearningCurves, filtered_gaps
from amf_lightning.selection.shares import task_similarity, told_shares
from amf_lightning.tasks.task import TaskSuite

_EVIDENCE: Evidence = lazy_instance(OccupancyGap)
_INFORMATION: InformationGain = lazy_instance(InformationGain)
_WORDS = ("gain_is", "need", "need_is")


class GapReduction(Selector):
    """Asks for the demonstration that closes most of the policy's remaining gap over all tasks (ours).

    argmax_d Σ_c μ_c g_c (1 − ((1 + N_c)/(1 + N_c + s_cd))^α). Here g_c is the share of task c that the policy does
    not do yet, as the evidence of all rounds says; N_c is what the demonstrations so far count for c; and s_cd is what
    one of d counts for c. Without evidence nothing is known about the policy, and the choice is that of `information`.

    Args:
        evidence: what is seen of the policy; None: nothing.
        information: the belief about the expert. It says which tasks tell of which others before any of that was seen.
        exponent: α of the learning curve g ~ (1 + N)^−α.
        transfer: standard deviation of s_cd around the share of what is not known about c that a demonstration of d
            would tell, which is its mean; 0 counts only demonstrations of c itself.
        drift: standard deviation of what a round does to the gap of a task besides what is expected of it.
    """

    def __init__(
        self,
        evidence: Evidence | None = _EVIDENCE,
        information: InformationGain = _INFORMATION,
        exponent: float = 1.0,
        transfer: float = 0.5,
        drift: float = 0.2,
    ) -> None:
        if exponent <= 0 or transfer < 0 or drift <= 0:
            raise InputError(
                f"GapReduction needs exponent, drift > 0 and transfer >= 0, got {exponent}, {drift} and {transfer}."
            )
        self.evidence = OccupancyGap() if evidence is _EVIDENCE else evidence
        self.information = InformationGain() if information is _INFORMATION else information
        self.curves = LearningCurves(exponent, transfer)
        self.drift = drift
        if self.evidence is None:
            self.gain_is, self.need, self.need_is = (getattr(self.information, name) for name in _WORDS)
        else:
            self.gain_is = "share of the gap to the expert that it closes, mean over tasks"
            self.need, self.need_is = "gap", "share of the task that the policy does not do yet"
        self.needs = union(self.information.needs, self.evidence.needs if self.evidence is not None else ())
        self.assumes_retention = self.information.assumes_retention

    @property
    def components(self) -> Mapping[str, Part]:
        parts: dict[str, Part] = {"information": self.information}
        return parts if self.evidence is None else {"evidence": self.evidence, **parts}

    def check(self, suite: TaskSuite, budget: int) -> None:
        """Raises InputError if the costs or noise of `information` name a task that the suite lacks."""
        self.information.check(suite, budget)

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Picks the best, counts it as if it had come, and so on for the batch; what is pending counts so, too."""
        if self.evidence is None:
            return self.information.select(context, batch_size)
        context = replace(context, fresh_starts=True)
        measured = self.evidence.measure(context)
        names = [task.name for task in context.suite.tasks]
        before, (gaps, counts) = _effective_start(context), _history(context, measured.gaps)
        transfer, steps = self._transfer(context, gaps, counts, before)
        now = filtered_gaps(gaps, counts, before, transfer, self.curves.exponent, self.evidence.error, self.drift)
        numbers = before + counts.sum(0) @ transfer.T
        first = now
        for task in context.pending:
            now, numbers = self.curves.after(now, numbers, transfer, task)
        distribution, costs = context.suite.distribution.to(torch.float64), self.information.costs_of(context.suite)
        picks: list[int] = []
        scores: list[tuple[float, ...]] = []
        teaches: list[tuple[float, ...]] = []
        for position in range(batch_size):
            score = self.curves.reductions(now, numbers, transfer, distribution)
            score = score if costs is None else score / costs
            allowed = context.allowed(picks)
            picks.append(argmax_keyed(level_ties(score, allowed), allowed, context.generator(position)))
            scores.append(tuple(score.tolist()))
            expected, numbers = self.curves.after(now, numbers, transfer, picks[-1])
            taught = distribution * (now - expected)
            teaches.append(tuple((taught if costs is None else taught / costs[picks[-1]]).tolist()))
            now = expected
        diagnostics = {
            **{f"measured_gap/{name}": gap for name, gap in zip(names, measured.gaps.tolist(), strict=True)},
            **{f"gap/{name}": gap for name, gap in zip(names, first.tolist(), strict=True)},
            **{f"teaches/{name}": float(transfer[:, task].mean()) for task, name in enumerate(names)},
            "environment_steps": float(context.policy_rollout_steps + measured.environment_steps + steps),
        }
        return Selection(tuple(picks), tuple(scores), diagnostics, tuple(teaches))

    def _transfer(self, context: SelectionContext, gaps: Tensor, counts: Tensor, before: Tensor) -> tuple[Tensor, int]:
        """s_cd, [K, K], and the environment steps that it took beyond the rollouts of the policy."""
        assert self.evidence is not None
        if self.curves.transfer == 0:
            return torch.eye(len(before), dtype=torch.float64), 0
        belief = self.information.belief(replace(context, demonstrations=()))
        if belief is None:
            return torch.eye(len(before), dtype=torch.float64), 0
        posterior, problem, steps = belief
        shares = told_shares(posterior, problem, len(before))
        similarity = task_similarity(posterior, problem, len(before))
        return self.curves.transfers(shares, similarity, gaps, counts, before, self.evidence.error), steps


def _history(context: SelectionContext, now: Tensor) -> tuple[Tensor, Tensor]:
    """Gaps measured before each round and now, [R + 1, K], and demonstrations that came in each, [R, K] float64.

    NaN where nothing was measured: in rounds that another selector chose. Demonstrations of which the context does not
    say in which round they came are taken for a round before all others.
    """
    tasks = context.suite.tasks
    counts = torch.zeros(len(context.told) + 1, len(tasks), dtype=torch.float64)
    for number, came in enumerate(context.asked, start=1):
        counts[number] += torch.bincount(torch.tensor(came, dtype=torch.int64), minlength=len(tasks))
    counts[0] = torch.tensor(context.counts, dtype=torch.float64) - counts.sum(0)
    told = [[diagnostics.get(f"measured_gap/{task.name}", math.nan) for task in tasks] for diagnostics in context.told]
    unknown = [math.nan] * len(tasks)
    gaps = torch.tensor([unknown, *told, now.tolist()], dtype=torch.float64)
    return (gaps, counts) if counts[0].any() else (gaps[1:], counts[1:])


def _effective_start(context: SelectionContext) -> Tensor:
    """π0's demonstrations of each task, as its file says, [K] float64."""
    covers = context.statistics.covers if context.statistics is not None else {}
    return torch.tensor([float(covers.get(task.name, 0)) for task in context.suite.tasks], dtype=torch.float64)
