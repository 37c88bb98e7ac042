"""Selectors that know what a user of a pre-trained policy usually does not: references, not competitors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.selection.baselines import allowed_tasks
from amf_lightning.selection.context import Selection, SelectionContext, Selector, argmax_keyed
from amf_lightning.tasks.task import TaskSuite


class Rebalancing(Selector):
    """PRIVILEGED: asks for the task with the fewest demonstrations, those of the pre-training included.

    The reference of AMF (arXiv 2410.05026): it knows how often π0 saw each task and evens that out. Ties are broken by
    a draw keyed by (seed, round, position in the batch). The score of a task is minus its number of demonstrations.
    """

    gain_is = "minus the demonstrations of the task"
    needs = (Need.PRETRAINING_COUNTS,)
    instead = "Use a policy exported by `amf fit`, or another selector."

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Picks one by one, counting the picks of the same batch and what is pending.

        Raises:
            InputError: the file of π0 does not say what it was trained on.
        """
        if context.pretraining_counts is None:
            raise InputError(
                "Rebalancing needs the number of pre-training demonstrations of each task, which the file of the "
                "pre-trained policy does not hold. Use a policy exported by `amf fit`, or another selector."
            )
        totals = torch.tensor(context.pretraining_counts, dtype=torch.float64) + torch.tensor(context.expected_counts)
        picks: list[int] = []
        scores: list[tuple[float, ...]] = []
        for position in range(batch_size):
            pick = argmax_keyed(-totals, context.allowed(picks), context.generator(position))
            scores.append(tuple((-totals).tolist()))
            picks.append(pick)
            totals[pick] += 1
        return Selection(tuple(picks), tuple(scores))


class LearningProgress(Selector):
    """PRIVILEGED: asks for the task whose evaluation is lowest or rises fastest.

    The idea of data-efficient multi-task DAgger (arXiv 2509.25466), without its filter. The score of a task is
    (1 − w)(1 − s) + w·max(0, s − s'), for its normalised score s at the last evaluation and s' some evaluations before,
    divided by 1 + the demonstrations of it that are pending or picked in the same batch. Ties are broken by a draw
    keyed by (seed, round, position).

    Args:
        progress: w in [0, 1]: 0 asks for the lowest score, 1 for the largest rise.
        window: evaluations between s' and s; fewer at the start of a run.
    """

    gain_is = "need and recent rise of the task's score"
    needs = (Need.EVALUATIONS,)
    instead = "Choose another evaluation, or another selector."

    def __init__(self, progress: float = 0.5, window: int = 3) -> None:
        if not 0 <= progress <= 1:
            raise InputError(f"LearningProgress: progress is {progress}; it is a share and lies in [0, 1].")
        if window < 1:
            raise InputError(f"LearningProgress: window is {window}; it must be at least 1.")
        self.progress = progress
        self.window = window

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Picks one by one.

        Raises:
            InputError: nothing was evaluated.
        """
        if not context.score_history:
            raise InputError(
                "LearningProgress needs an evaluation of the policy, and nobody has reported one yet. Report trials of "
                "the policy as it is now, or choose another selector."
            )
        return shared_out(context, learning_progress(context.score_history, self.progress, self.window), batch_size)


def shared_out(context: SelectionContext, priorities: Tensor, batch_size: int) -> Selection:
    """Shares a batch out in proportion to the priorities [K] ≥ 0, by highest averages, what is pending included.

    Each pick goes to the task of the largest priority / (1 + its demonstrations that are pending or picked before it).
    Ties are broken by a draw keyed by (seed, round, position).
    """
    counts = torch.bincount(torch.tensor(context.pending, dtype=torch.int64), minlength=len(priorities)).to(priorities)
    picks: list[int] = []
    scores: list[tuple[float, ...]] = []
    for position in range(batch_size):
        # Nothing is evaluated within a batch: without the division all of it would go to one task.
        current = priorities / (1 + counts)
        pick = argmax_keyed(current, context.allowed(picks), context.generator(position))
        scores.append(tuple(current.tolist()))
        picks.append(pick)
        counts[pick] += 1
    return Selection(tuple(picks), tuple(scores))


def learning_progress(history: Sequence[Sequence[float]], progress: float, window: int) -> Tensor:
    """(1 − w)(1 − s) + w·max(0, s − s') for scores of all evaluations [E][K], s' `window` before the last; [K] float64.

    >>> learning_progress([[0.0, 0.5], [0.5, 0.5]], progress=0.5, window=3)
    tensor([0.5000, 0.2500], dtype=torch.float64)
    """
    scores = torch.tensor(history, dtype=torch.float64)
    now, before = scores[-1], scores[max(0, len(scores) - 1 - window)]
    return (1 - progress) * (1 - now) + progress * (now - before).clamp(min=0)


class Oracle(Selector):
    """PRIVILEGED, clairvoyant: tries each task, trains and evaluates as the round would, and asks for the best.

    It sees the demonstrations before they are asked for and the evaluation before it takes place. Greedy, so an upper
    bound for one demonstration ahead, not for a run. The score of a task is the mean score that the round would reach.
    It costs K trainings and evaluations for each demonstration: for small suites only.

    Args:
        largest_suite: tasks of the largest suite that it is allowed for.
    """

    gain_is = "mean score that the round would reach"
    needs = (Need.EVALUATIONS, Need.TRIAL_TRAINING)
    instead = "Choose another selector."

    def __init__(self, largest_suite: int = 12) -> None:
        self.largest_suite = largest_suite

    def check(self, suite: TaskSuite, budget: int) -> None:
        """Raises InputError if the suite is too large."""
        if (count := len(suite.tasks)) > self.largest_suite:
            raise InputError(
                f"Oracle would train {count} times for each demonstration; the suite has {count} tasks, and "
                f"largest_suite is {self.largest_suite}. Raise it if you mean it."
            )

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Picks one by one, each with what is pending and the picks before it.

        Raises:
            InputError: there is no run to look ahead in.
        """
        if context.lookahead is None:
            raise InputError("Oracle looks ahead in a run of `amf fit`, and this is none.")
        picks: list[int] = []
        rows: list[tuple[float, ...]] = []
        for position in range(batch_size):
            scores = torch.full((len(context.suite.tasks),), torch.nan, dtype=torch.float64)
            for task in allowed_tasks(context, picks):
                scores[task] = context.lookahead([*context.pending, *picks, task])
            picks.append(argmax_keyed(scores, context.allowed(picks), context.generator(position)))
            rows.append(tuple(scores.tolist()))
        return Selection(tuple(picks), tuple(rows))
