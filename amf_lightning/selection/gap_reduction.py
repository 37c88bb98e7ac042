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
from amf_lightning.selection.greedy import condition_on_task, level_ties
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.learning_curves import LearningCurves
from amf_lightning.selection.occupancies import Expected
from amf_lightning.selection.starts import BelievedStarts, RolledOut
from amf_lightning.selection.task_similarity import task_similarity
from amf_lightning.tasks.start_state import StartState
from amf_lightning.tasks.task import TaskSuite

_EVIDENCE: Evidence = lazy_instance(OccupancyGap)
_INFORMATION: InformationGain = lazy_instance(InformationGain)
_WORDS = ("gain_is", "need", "need_is")


class GapReduction(Selector):
    """Asks for the demonstration that closes most of the policy's remaining gap over all tasks (ours).

    argmax_d Σ_c μ_c E[g_c (1 − V_c(n + e_d)/V_c(n))]. Here g_c is the share of task c that the policy does not do yet,
    as the evidence of all rounds says; V_c(n) is what is not known of the task after the demonstrations n, by a
    Gaussian process over tasks; and the expectation is over how much tasks tell of each other, of which the gaps of all
    rounds tell (`LearningCurves`). Without evidence nothing is known about the policy, and the choice is that of
    `information`.

    Args:
        evidence: what is seen of the policy; None: nothing.
        information: the belief about the expert. It says how tasks are correlated.
        transfer: the share of that correlation that may be real, at most 1; 0 takes tasks for independent.
        drift: standard deviation of what a round does to the gap of a task besides what is expected of it.
        worlds: how many samples of what is not known about the tasks, at most; see `LearningCurves`.
    """

    def __init__(
        self,
        evidence: Evidence | None = _EVIDENCE,
        information: InformationGain = _INFORMATION,
        transfer: float = 1.0,
        drift: float = 0.2,
        worlds: int = 1024,
    ) -> None:
        if drift <= 0 or not 0 <= transfer <= 1 or worlds < 1:
            raise InputError(
                "GapReduction needs transfer in [0, 1], drift > 0 and worlds >= 1, got "
                f"{transfer}, {drift} and {worlds}."
            )
        self.evidence = OccupancyGap() if evidence is _EVIDENCE else evidence
        self.information = InformationGain() if information is _INFORMATION else information
        self.transfer, self.drift, self.worlds = transfer, drift, worlds
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
        """Picks the best, counts it as if it had come, and so on for the batch.

        So counts what is pending, and what came in the open round, on which the policy was not trained yet.
        """
        if self.evidence is None:
            return self.information.select(context, batch_size)
        context = replace(context, fresh_starts=True)
        measured = self.evidence.measure(context)
        names = [task.name for task in context.suite.tasks]
        gaps = torch.cat([self.evidence.earlier(context), measured.gaps[None]])
        counts, untrained = _history(context)
        # None of the demonstrations plays a role in it: the rollouts of all tasks do.
        states = self.information.occupancy.expected(replace(context, demonstrations=())) if self.transfer else None
        similarity, steps = self._similarity(context, states)
        curves = LearningCurves(similarity, _effective_start(context), self.transfer, self.drift, self.worlds)
        for number, seen in enumerate(gaps):
            if number:
                curves.train(counts[number - 1])
            curves.measure(seen, self.evidence.error)
        now, shares = curves.gaps, curves.teaches()
        if untrained.any():
            curves.train(untrained)
        distribution, costs = context.suite.distribution.to(torch.float64), self.information.costs_of(context.suite)
        picks: list[int] = []
        scores: list[tuple[float, ...]] = []
        teaches: list[tuple[float, ...]] = []
        for position in range(batch_size):
            parts = curves.reductions(distribution)
            score = parts.sum(0) if costs is None else parts.sum(0) / costs
            allowed = context.allowed(picks)
            picks.append(argmax_keyed(level_ties(score, allowed), allowed, context.generator(position)))
            scores.append(tuple(score.tolist()))
            taught = parts[:, picks[-1]]
            teaches.append(tuple((taught if costs is None else taught / costs[picks[-1]]).tolist()))
            curves.train(_one(picks[-1], len(names)))
        diagnostics = {
            **{
                f"measured_gap/{name}": gap
                for name, gap in zip(names, measured.gaps.tolist(), strict=True)
                if math.isfinite(gap)
            },
            **{f"gap/{name}": gap for name, gap in zip(names, now.tolist(), strict=True)},
            **{f"teaches/{name}": float(distribution @ shares[:, task]) for task, name in enumerate(names)},
            "environment_steps": float(context.policy_rollout_steps + measured.environment_steps + steps),
        }
        starts = () if states is None else self._starts(context, states, picks)
        return Selection(tuple(picks), tuple(scores), diagnostics, tuple(teaches), starts)

    def _similarity(self, context: SelectionContext, states: Expected | None) -> tuple[Tensor, int]:
        """Correlations of tasks before any demonstration, [K, K], and the environment steps that they took beyond the
        rollouts of the policy."""
        count = len(context.suite.tasks)
        if states is None:
            return torch.eye(count, dtype=torch.float64), 0
        posterior, problem, steps = self.information.belief(replace(context, demonstrations=()), states)
        return task_similarity(posterior, problem, count), steps

    def _starts(self, context: SelectionContext, states: Expected, picks: list[int]) -> tuple[StartState | None, ...]:
        """Where to start each pick, by what the belief does not know once those pending and before it have come."""
        if not RolledOut(states, context).enough:
            return ()
        belief, problem, _ = self.information.belief(context, states)
        for task in context.pending:
            belief = condition_on_task(belief, problem.candidates, task)
        starts = BelievedStarts(states, context, problem)
        for task in picks:
            starts.name(belief, task)
            belief = condition_on_task(belief, problem.candidates, task)
        return starts.of_picks()


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
