"""Asks for the demonstration that is expected to close most of what the policy does not do yet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jsonargparse.typing import lazy_instance
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Part, union
from amf_lightning.selection.context import Selection, SelectionContext, Selector, argmax_keyed
from amf_lightning.selection.evidence import Evidence, Measured, OccupancyGap, PrequentialError, said_earlier
from amf_lightning.selection.greedy import level_ties
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.learning_curves import LearningCurves
from amf_lightning.selection.learning_worlds import BelievedTasks, CorrelatedTasks, LinearTasks, Worlds
from amf_lightning.selection.linearity import foretells_linear, still_linear
from amf_lightning.selection.seen_needs import seen_needs
from amf_lightning.selection.task_belief import TaskBelief
from amf_lightning.tasks.task import TaskSuite

_EVIDENCE: Evidence = lazy_instance(OccupancyGap)
_INFORMATION: InformationGain = lazy_instance(InformationGain)
_WORDS = ("gain_is", "need", "need_is")
_KINDS = {BelievedTasks: "gaps_follow_the_belief", LinearTasks: "tasks_are_linear"}
"""What the probability of a kind of world is called among the diagnostics."""


class GapReduction(Selector):
    """Asks for the demonstration that closes most of the policy's remaining gap over all tasks (ours).

    argmax_d Σ_c μ_c E[g_c s_cd]. Here g_c is the part of the gap of task c that demonstrations can close, as the
    evidence of all rounds says, and s_cd the share of it that a demonstration of d closes. The expectation is over what
    may be true of these shares (`LearningCurves`), and the gaps of all rounds tell which of it is: that they follow
    what the belief about the expert does not know (`BelievedTasks`), or that every task is learned at a pace of its
    own, while tasks tell of each other at most what that belief says (`CorrelatedTasks`). Where π0 does tasks that it
    was not shown the better the nearer they are to those that it was, tasks are taken for one linear function of the
    numbers that policies are told (`LinearTasks`). Where the evidence sees nothing left to close in any task, or there
    is no evidence, the choice is that of `information`.

    Args:
        evidence: what is seen of the policy; None: nothing.
        information: the belief about the expert. It says how tasks are correlated.
        transfer: the share of that correlation that may be real, at most 1; 0 takes tasks for independent, and never
            for linear.
        drift: standard deviation of what a round does to the gap of a task besides what is expected of it, at most.
        worlds: how many samples of what is not known about correlated, or about linear tasks, at most.
        trust: the probability, before anything is seen, that gaps follow what the belief does not know; below 1.
        linearity: the probability, before anything is seen, that tasks are linear; below 1. They are taken for so if
            the gaps of π0 make it the more probable, until something that nobody was shown turns out not to be done
            (selection/linearity.py). It counts as 0 where π0's file does not say which tasks it was shown, or says all
            of them, where contexts are words, or equally far apart as one-hot ones are, and where `trust` is not 0:
            then a kernel says what tasks tell of each other.
        deploy_margin: by how much less the policy of a round must leave undone to be deployed, a difference of mean
            gaps, unless it leaves less than half of this undone at all; None: the latest policy is always deployed.
            Needs evidence that sees the policy: `OccupancyGap`.
        resolution: the gap below which the evidence cannot tell how much of a task is done. Where all gaps are below it
            `information` chooses; 0: never.
    """

    def __init__(
        self,
        evidence: Evidence | None = _EVIDENCE,
        information: InformationGain = _INFORMATION,
        transfer: float = 1.0,
        drift: float = 0.2,
        worlds: int = 1024,
        trust: float = 0.0,
        linearity: float = 0.25,
        deploy_margin: float | None = None,
        resolution: float = 0.05,
    ) -> None:
        below_1 = (trust, linearity, resolution)
        if drift <= 0 or not 0 <= transfer <= 1 or worlds < 1 or not all(0 <= share < 1 for share in below_1):
            raise InputError(
                "GapReduction needs transfer in [0, 1], drift > 0, worlds >= 1, and trust, linearity and "
                f"resolution in [0, 1), got {transfer}, {drift}, {worlds}, {trust}, {linearity} and {resolution}."
            )
        self.evidence = OccupancyGap() if evidence is _EVIDENCE else evidence
        self.information = InformationGain() if information is _INFORMATION else information
        self.transfer, self.drift, self.worlds, self.trust = transfer, drift, worlds, trust
        self.linearity = linearity
        if self.evidence is None:
            self.gain_is, self.need, self.need_is = (getattr(self.information, name) for name in _WORDS)
        else:
            self.gain_is = "share of the gap to the expert that it closes, mean over tasks"
            self.need, self.need_is = "need", "share of the task that the policy does not do yet, by all measurements"
        self.needs = union(self.information.needs, self.evidence.needs if self.evidence is not None else ())
        self.assumes_retention = self.information.assumes_retention
        if deploy_margin is not None:
            _check_margin(deploy_margin, self.evidence)
        self.deploy_margin, self.resolution = deploy_margin, resolution

    @property
    def components(self) -> Mapping[str, Part]:
        parts: dict[str, Part] = {"information": self.information}
        return parts if self.evidence is None else {"evidence": self.evidence, **parts}

    def check(self, suite: TaskSuite, budget: int) -> None:
        """Raises InputError if the costs or noise of `information` name a task that the suite lacks."""
        self.information.check(suite, budget)

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Picks the best, counts it as if it had come, and so on for the batch.

        So counts what is pending, and what came in the open round, on which the policy was not trained yet.
        """
        if self.evidence is None:
            return self.information.select(context, batch_size)
        context, measured, belief, curves = self._look(context)
        seen = seen_needs(torch.cat([self.evidence.earlier(context), measured.gaps[None]]), self.evidence.error)
        # What was last seen before a training says little of the policy after it; then the gap stands for the need.
        needs = torch.where(measured.gaps.isfinite(), seen, curves.gaps)
        about = _diagnostics(context.suite, curves, belief, measured, needs)
        _, untrained = _history(context)
        gaps = curves.gaps
        if belief is not None:
            belief.expect_all()
        if untrained.any():
            curves.train(untrained, None if belief is None else belief.variances)
        distribution, costs = context.suite.distribution.to(torch.float64), self.information.costs_of(context.suite)
        steps = context.policy_rollout_steps + measured.environment_steps + (0 if belief is None else belief.steps)
        about["environment_steps"] = float(steps)
        if float(gaps.max()) < self.resolution:
            parts = curves.reductions(distribution, None if belief is None else belief.shares)
            most = _scores(parts, costs)[context.allowed([])].max()
            return _in_units_of_gaps(self.information.select(context, batch_size), float(most), about)
        picks, scores, teaches = list[int](), list[tuple[float, ...]](), list[tuple[float, ...]]()
        for position in range(batch_size):
            parts = curves.reductions(distribution, None if belief is None else belief.shares)
            score = _scores(parts, costs)
            allowed = context.allowed(picks)
            pick = argmax_keyed(level_ties(score, allowed), allowed, context.generator(position))
            picks.append(pick)
            scores.append(tuple(score.tolist()))
            teaches.append(tuple((parts[:, pick] if costs is None else parts[:, pick] / costs[pick]).tolist()))
            if belief is not None:
                belief.expect(pick)
            if position + 1 < batch_size:
                curves.train(_one(pick, len(distribution)), None if belief is None else belief.variances)
        starts = () if belief is None else belief.starts
        return Selection(tuple(picks), tuple(scores), about, tuple(teaches), starts)

    def gaps(self, context: SelectionContext) -> Tensor | None:
        """See `Selector.gaps`; None where the evidence does not look at the policy itself."""
        if self.evidence is None or not self.evidence.sees_the_policy:
            return None
        return self._look(context, remembers=True)[-1].gaps_of_policies

    def _look(
        self, context: SelectionContext, remembers: bool = False
    ) -> tuple[SelectionContext, Measured, TaskBelief | None, LearningCurves]:
        """The context with the starts of this round, what was seen, and what is believed before any pick."""
        assert self.evidence is not None
        context = replace(context, fresh_starts=True)
        measured, earlier = self.evidence.measure(context), self.evidence.earlier(context)
        linear = self._begin_linear(context, earlier[0] if len(earlier) else measured.gaps)
        if not linear:
            measured = replace(measured, inferred=None)
        elif len(earlier):
            linear = self._still_linear(context, measured, earlier)
            if linear and measured.inferred is not None:
                measured = replace(measured, gaps=measured.inferred)
        belief = self._belief(context)
        seen = torch.cat([earlier, measured.gaps[None]])
        return context, measured, belief, self._curves(context, belief, seen, linear, remembers)

    def _begin_linear(self, context: SelectionContext, gaps: Tensor) -> bool:
        """Whether the gaps of π0, [K], say that tasks are linear; the same in every round."""
        if not self.transfer or self.trust or context.suite.language is not None:
            return False
        contexts = context.suite.contexts.to(torch.float64)
        return foretells_linear(contexts, _effective_start(context), gaps, self.linearity)

    def _still_linear(self, context: SelectionContext, measured: Measured, earlier: Tensor) -> bool:
        """Whether nothing that came after the first of the `earlier` gaps, [R, K], speaks against it."""
        inferred = said_earlier(context, "inferred_gap")
        before = torch.where(inferred.isfinite(), inferred, earlier)
        now = measured.gaps if measured.inferred is None else measured.inferred
        gaps = torch.cat([before, now[None]])[1:]
        (counts, _), errors = _history(context), PrequentialError().earlier(context)
        return still_linear(_effective_start(context), counts, gaps, errors, self.resolution)

    def _belief(self, context: SelectionContext) -> TaskBelief | None:
        """What the belief about the expert says; None where it is not asked, or no states are expected."""
        if not self.transfer and not self.trust:
            return None
        # None of the demonstrations plays a role in it: the rollouts of all tasks do.
        states = self.information.occupancy.expected(replace(context, demonstrations=()))
        return None if states is None else TaskBelief(self.information, context, states, follow=self.trust > 0)

    def _curves(
        self, context: SelectionContext, belief: TaskBelief | None, seen: Tensor, linear: bool, remembers: bool
    ) -> LearningCurves:
        """The belief about gaps after all that were seen, [R + 1, K]."""
        assert self.evidence is not None
        count = len(context.suite.tasks)
        use = belief if self.transfer else None
        similarity = torch.eye(count, dtype=torch.float64) if use is None else use.similarity
        start, (counts, _) = _effective_start(context), _history(context)
        own = CorrelatedTasks(similarity, start, self.transfer, self.drift, self.worlds)
        kinds: list[tuple[Worlds, float]] = [(own, 1.0)]
        variances: Sequence[Tensor | None] = [None] * len(seen)
        if belief is not None and belief.of_rounds is not None:
            variances = belief.of_rounds
            kinds = [(own, 1 - self.trust), (BelievedTasks(belief.of_rounds[0], self.drift), self.trust)]
        elif linear:
            contexts = context.suite.contexts.to(torch.float64)
            kinds = [(LinearTasks(contexts, start, self.drift, self.worlds), 1.0)]
        curves = LearningCurves(kinds, remembers)
        for number, gaps in enumerate(seen):
            if number:
                curves.train(counts[number - 1], variances[number])
            curves.measure(gaps, self.evidence.error)
        return curves


def _scores(parts: Tensor, costs: Tensor | None) -> Tensor:
    """Of a demonstration of each task, [K], from what it is expected to close of every gap, [c, d]."""
    return parts.sum(0) if costs is None else parts.sum(0) / costs


def _in_units_of_gaps(chosen: Selection, most: float, about: dict[str, float]) -> Selection:
    """A choice by information, whose best first score is told as the most that is expected to be closed."""
    first = [score for score in chosen.scores[0] if math.isfinite(score)]
    unit = most / max(first) if first and max(first) > 0 else 0.0
    scores, teaches = (
        tuple(tuple(unit * each for each in row) for row in rows) for rows in (chosen.scores, chosen.teaches)
    )
    return replace(chosen, scores=scores, teaches=teaches, diagnostics={**chosen.diagnostics, **about})


def _diagnostics(
    suite: TaskSuite, curves: LearningCurves, belief: TaskBelief | None, measured: Measured, needs: Tensor
) -> dict[str, float]:
    """Numbers about the gaps before the first pick."""
    names = [task.name for task in suite.tasks]
    shares = curves.teaches(None if belief is None else belief.shares)
    taught = suite.distribution.to(torch.float64) @ shares
    by_kind = {"measured_gap": measured.gaps, "gap": curves.gaps, "need": needs, "teaches": taught}
    if measured.inferred is not None:
        by_kind["inferred_gap"] = measured.inferred
    if belief is not None and belief.variances is not None:
        by_kind["variance"] = belief.variances
    rows = {
        f"{kind}/{name}": value
        for kind, values in by_kind.items()
        for name, value in zip(names, values.tolist(), strict=True)
        if math.isfinite(value)
    }
    return rows | {_KINDS[kind]: share for kind, share in curves.kinds.items() if kind in _KINDS}


def _check_margin(margin: float, evidence: Evidence | None) -> None:
    """Raises InputError for a margin that means nothing, or that nothing can be held against."""
    if not 0 <= margin <= 1:
        raise InputError(
            f"GapReduction: deploy_margin is {margin}; it is a difference of two gaps, from 0 to 1, or null."
        )
    if evidence is None or not evidence.sees_the_policy:
        name = "no evidence" if evidence is None else f"the evidence {type(evidence).__name__}"
        raise InputError(
            f"GapReduction: deploy_margin is {margin}, but {name} sees nothing of a policy that was just trained. "
            "Choose the evidence OccupancyGap, or set deploy_margin: null."
        )


def _history(context: SelectionContext) -> tuple[Tensor, Tensor]:
    """Demonstrations of each task that came in each closed round, [R, K] float64, and those that came in none or are
    pending, [K] float64."""
    tasks = context.suite.tasks
    counts = torch.zeros(len(context.told), len(tasks), dtype=torch.float64)
    for number, came in enumerate(context.asked):
        counts[number] += torch.bincount(torch.tensor(came, dtype=torch.int64), minlength=len(tasks))
    return counts, torch.tensor(context.expected_counts, dtype=torch.float64) - counts.sum(0)


def _one(task: int, count: int) -> Tensor:
    """One demonstration of a task, [K] float64."""
    return torch.zeros(count, dtype=torch.float64).index_fill_(0, torch.tensor([task]), 1.0)


def _effective_start(context: SelectionContext) -> Tensor:
    """π0's demonstrations of each task, as its file says, [K] float64."""
    covers = context.statistics.covers if context.statistics is not None else {}
    return torch.tensor([float(covers.get(task.name, 0)) for task in context.suite.tasks], dtype=torch.float64)
