"""Selectors that need nothing but the names of the tasks and what was collected so far."""

from collections.abc import Sequence

import torch

from amf_lightning.errors import InputError
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from amf_lightning.tasks.task import TaskSuite


class Uniform(Selector):
    """Draws every task with equal probability, with replacement: the baseline of AMF (arXiv 2410.05026)."""

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Draws from the tasks that can still be had, keyed by (seed, round, position in the round)."""
        return draw_uniformly(context, batch_size)


class RoundRobin(Selector):
    """Asks for every task once, in a random order, before any is asked again: a stronger baseline than `Uniform`.

    The order of each cycle is keyed by (seed, cycle). A task that ran out is left to the others.
    """

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Picks a task with the fewest demonstrations, had or pending, that comes first in the order of that cycle."""
        counts = context.expected_counts
        picks: list[int] = []
        for _ in range(batch_size):
            allowed = allowed_tasks(context, picks)
            cycle = min(counts[task] for task in allowed)
            generator = keyed_generator(context.seed, Purpose.SELECT, cycle)
            order = torch.randperm(len(counts), generator=generator).tolist()
            pick = next(task for task in order if task in allowed and counts[task] == cycle)
            counts[pick] += 1
            picks.append(pick)
        return without_scores(picks, len(counts))


class FixedSchedule(Selector):
    """Asks for demonstrations in an order that was written down: pre-training, ablations, repeating a run.

    Args:
        tasks: names of tasks in the order in which they are asked, or the number of demonstrations of each
            (`{"v=-3": 3, "v=2": 1}`), which are then asked in turn until each has its number.
    """

    def __init__(self, tasks: list[str] | dict[str, int]) -> None:
        if isinstance(tasks, dict):
            for name, count in tasks.items():
                if count < 0:
                    raise InputError(f"FixedSchedule: {count} demonstrations of task '{name}'; it cannot be negative.")
            self.schedule = [
                name for turn in range(max(tasks.values(), default=0)) for name, count in tasks.items() if turn < count
            ]
        else:
            self.schedule = list(tasks)
        if not self.schedule:
            raise InputError("FixedSchedule: `tasks` names no demonstration. Give task names, or counts above 0.")

    def check(self, suite: TaskSuite, budget: int) -> None:
        """Raises InputError if the suite lacks a task of the schedule, or the schedule is shorter than the budget."""
        for name in self.schedule:
            suite.task(name)
        if budget > len(self.schedule):
            raise InputError(
                f"FixedSchedule names {len(self.schedule)} demonstrations, but {budget} are asked for. "
                f"Set active.budget to {len(self.schedule)} or less, or write a longer schedule."
            )

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Takes the entries that follow those collected, pending or skipped so far.

        Raises:
            InputError: the schedule names a task that the suite lacks or that ran out, or it is too short.
        """
        start = len(context.demonstrations) + len(context.pending) + len(context.skipped)
        self.check(context.suite, start + batch_size)
        picks = [context.suite.task(name).index for name in self.schedule[start : start + batch_size]]
        for position, pick in enumerate(picks):
            if not context.allowed(picks[:position])[pick]:
                name = context.suite.tasks[pick].name
                raise InputError(f"FixedSchedule asks for task '{name}', of which no demonstration is left.")
        return without_scores(picks, len(context.suite.tasks))


def draw_uniformly(context: SelectionContext, batch_size: int) -> Selection:
    """Independent draws from the tasks that can still be had, without scores."""
    generator = keyed_generator(context.seed, Purpose.SELECT, context.round)
    torch.randint(2, (context.chosen,), generator=generator)  # the draws of earlier choices of this round
    picks: list[int] = []
    for _ in range(batch_size):
        allowed = allowed_tasks(context, picks)
        picks.append(allowed[int(torch.randint(len(allowed), (1,), generator=generator))])
    return without_scores(picks, len(context.suite.tasks))


def allowed_tasks(context: SelectionContext, picks: Sequence[int] = ()) -> list[int]:
    """Indices of `context.allowed(picks)`; raises InputError if there is none."""
    allowed: list[int] = torch.nonzero(context.allowed(picks)).flatten().tolist()
    return allowed


def without_scores(picks: list[int], task_count: int) -> Selection:
    """A selection whose choice rests on no number."""
    return Selection(tuple(picks), tuple((float("nan"),) * task_count for _ in picks))
