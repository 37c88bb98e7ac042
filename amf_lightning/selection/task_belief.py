"""What the belief about the expert says of the tasks, now and once demonstrations have come."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.greedy import condition_on_task
from amf_lightning.selection.information_gain import Problem, task_variances, variance_shares
from amf_lightning.selection.informed import InformedSelector
from amf_lightning.selection.occupancies import Expected
from amf_lightning.selection.starts import BelievedStarts, RolledOut
from amf_lightning.selection.task_similarity import task_similarity
from amf_lightning.tasks.start_state import StartState
from amf_lightning.uncertainty.posterior import Posterior


class TaskBelief:
    """The belief of an informed selector in one choice; at first that of the demonstrations which were trained on.

    Args:
        information: whose belief it is.
        context: of the choice.
        states: those expected of every task.
        follow: whether gaps may follow its variance; if not, `variances`, `of_rounds` and `shares` are None.
    """

    def __init__(
        self, information: InformedSelector, context: SelectionContext, states: Expected, follow: bool
    ) -> None:
        self._information, self._context, self._states = information, context, states
        self.steps = 0
        """Environment steps that the belief took beyond those of `states`."""
        self._trained = sum(map(len, context.asked))
        self._names_starts = RolledOut(states, context).enough
        self._starts: BelievedStarts | None = None
        self._shares: Tensor | None = None
        self._now = self._belief(self._trained) if follow or self._names_starts else None
        self.of_rounds = self._recorded() if follow else None
        """`variances` of every round so far, this one last; None where one was not recorded: rounds whose choice looked
        at no belief, e.g. those of another selector, leave nothing to follow."""

    def _belief(self, demonstrations: int) -> tuple[Posterior, Problem]:
        """Given the first so many demonstrations."""
        context = replace(self._context, demonstrations=self._context.demonstrations[:demonstrations])
        posterior, problem, self.steps = self._information.belief(context, self._states)
        return posterior, problem

    def _recorded(self) -> list[Tensor] | None:
        tasks = self._context.suite.tasks
        earlier = [[told.get(f"variance/{task.name}", math.nan) for task in tasks] for told in self._context.told]
        rows = [*torch.tensor(earlier, dtype=torch.float64).view(-1, len(tasks)), self._variances()]
        return rows if all(bool(row.isfinite().all()) for row in rows) else None

    @property
    def similarity(self) -> Tensor:
        """Correlations of tasks before any demonstration, [K, K] float64."""
        return task_similarity(*self._belief(0), len(self._context.suite.tasks))

    @property
    def variances(self) -> Tensor | None:
        """Of the belief, mean over the states of each task, [K] float64."""
        return None if self.of_rounds is None else self._variances()

    def _variances(self) -> Tensor:
        assert self._now is not None
        posterior, problem = self._now
        return task_variances(posterior, problem.targets, len(problem.distribution))

    @property
    def shares(self) -> Tensor | None:
        """The share of the variance in task c that a demonstration of d is expected to remove, [c, d] float64."""
        if self._shares is None and self.of_rounds is not None and self._now is not None:
            self._shares = variance_shares(*self._now)
        return self._shares

    def expect_all(self) -> None:
        """Counts what came in the open round, and what is pending, as if the policy had been trained on it."""
        if self._now is None:
            return
        if len(self._context.demonstrations) > self._trained:
            self._now, self._shares = self._belief(len(self._context.demonstrations)), None
        if self._names_starts:
            self._starts = BelievedStarts(self._states, self._context, self._now[1])
        for task in self._context.pending:
            self._condition(task)

    def expect(self, task: int) -> None:
        """Counts a pick as if it had come, once it was said where to start it."""
        if self._now is None:
            return
        if self._starts is not None:
            self._starts.name(self._now[0], task)
        self._condition(task)

    @property
    def starts(self) -> tuple[StartState | None, ...]:
        """Where to start each task that was picked; () where that cannot be told."""
        return () if self._starts is None else self._starts.of_picks()

    def _condition(self, task: int) -> None:
        assert self._now is not None
        posterior, problem = self._now
        self._now, self._shares = (condition_on_task(posterior, problem.candidates, task), problem), None
