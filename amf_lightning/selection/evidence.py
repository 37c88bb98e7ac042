"""What is seen of the policy's gap to the expert: the share of each task that it does not do yet."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.occupancy_gap import Summaries, occupancy_gaps
from amf_lightning.tasks.trajectory import Trajectory


@dataclass(frozen=True)
class Measured:
    """What one look at the policy says."""

    gaps: Tensor
    """[K] float64 in [0, 1]."""
    environment_steps: int = 0
    """Taken beyond the `policy_rollouts` of the context."""
    inferred: Tensor | None = None
    """The gaps if what the expert does in tasks that nobody was shown is what it is inferred to be from others, [K];
    None: those above."""


def said_earlier(context: SelectionContext, kind: str) -> Tensor:
    """The diagnostics `<kind>/<task>` of the rounds before this one, [R, K] float64; NaN where nothing was said."""
    names = [f"{kind}/{task.name}" for task in context.suite.tasks]
    rows = [[diagnostics.get(name, math.nan) for name in names] for diagnostics in context.told]
    return torch.tensor(rows, dtype=torch.float64).view(-1, len(names))


class Evidence(Part, ABC):
    """Measures how much of each task the policy does not do as the expert does it."""

    error: float
    """Standard deviation of a measured gap, at most 1."""
    sees_the_policy: ClassVar[bool] = False
    """Whether it measures the policy as it is now, and not what was reported or shown of it before."""

    @abstractmethod
    def measure(self, context: SelectionContext) -> Measured:
        """The gap of every task, from what the context shows; a function of that alone. NaN where nothing is seen."""

    def earlier(self, context: SelectionContext) -> Tensor:
        """Gaps before each of the rounds before this one, [R, K]; NaN where nothing was seen, e.g. in rounds that
        another selector chose."""
        return said_earlier(context, "measured_gap")


class OccupancyGap(Evidence):
    """Where the policy goes instead of where the expert goes, in rollouts and without rewards (ours).

    The difference of the returns of two policies is at most H·R_max times the distance of their occupancies, whatever
    the reward. See `occupancy_gaps` for how it is measured; the rollouts are those that `PolicyRollout` makes anyway.
    What the expert does is what demonstrations show, and what π0 does in tasks that its file covers. At the start
    π0 is rolled out once, unless the policy is π0.

    Args:
        episodes: rollouts of each task in each round.
    """

    sees_the_policy = True
    needs = (Need.SIMULATOR,)
    instead = "Choose the evidence PrequentialError or ReportedOutcomes, or none (evidence: null)."

    def __init__(self, episodes: int = 2) -> None:
        self.episodes = episodes
        self.error = 0.35 / episodes**0.5  # episodes succeed or fail, most of them
        self._reference = _Reference(episodes)

    def measure(self, context: SelectionContext) -> Measured:
        """See the class."""
        reference, steps = self._reference(context)
        rollouts = context.policy_rollouts(self.episodes)
        shown = [*reference, *context.demonstrations]
        suite = context.suite
        if not shown:
            return Measured(torch.ones(len(suite.tasks), dtype=torch.float64), steps)
        summaries = Summaries(shown, suite)
        expert, policy, contexts = summaries(shown), summaries(rollouts), suite.contexts.to(torch.float64)
        return Measured(
            occupancy_gaps(expert, policy, contexts), steps, occupancy_gaps(expert, policy, contexts, unknown=False)
        )


class ReportedOutcomes(Evidence):
    """One minus the score of each task at the last evaluation: what people report of trials, or simulation knows.

    Privileged where evaluations are: then the selector sees what the comparison judges it by.

    Args:
        error: standard deviation of a score, e.g. 0.15 for ten trials of a task that succeeds half of the time.
    """

    needs = (Need.EVALUATIONS,)
    instead = "Choose the evidence OccupancyGap or PrequentialError, or none (evidence: null)."

    def __init__(self, error: float = 0.15) -> None:
        if error <= 0:
            raise InputError(f"ReportedOutcomes: error is {error}; a standard deviation is positive.")
        self.error = error

    def measure(self, context: SelectionContext) -> Measured:
        """1 − score, within [0, 1]; 1 while nothing was evaluated."""
        if context.scores is None:
            return Measured(torch.ones(len(context.suite.tasks), dtype=torch.float64))
        return Measured((1 - torch.tensor(context.scores, dtype=torch.float64)).clamp(0, 1))


class PrequentialError(Evidence):
    """The error of the policy on every new demonstration, before it is trained on it (Dawid 1984); no simulator.

    Relative to the error of the mean action of everything demonstrated, at most 1. A task that nobody demonstrates is
    not seen.

    Args:
        error: standard deviation of the gap that one demonstration shows.
    """

    def __init__(self, error: float = 0.2) -> None:
        if error <= 0:
            raise InputError(f"PrequentialError: error is {error}; a standard deviation is positive.")
        self.error = error

    def measure(self, context: SelectionContext) -> Measured:
        """Nothing: what the policy does now is seen when the next demonstrations come."""
        return Measured(torch.full((len(context.suite.tasks),), math.nan, dtype=torch.float64))

    def earlier(self, context: SelectionContext) -> Tensor:
        """The mean over the demonstrations that came in each round, of each task."""
        total = torch.zeros(len(context.asked), len(context.suite.tasks), dtype=torch.float64)
        number = torch.zeros_like(total)
        came = [(number, task) for number, tasks in enumerate(context.asked) for task in tasks]
        if came and context.errors_before:
            actions = [torch.from_numpy(each.actions).to(torch.float64) for each in context.demonstrations]
            mean = torch.cat(actions).mean(0)
            for (row, task), error, shown in zip(came, context.errors_before, actions, strict=False):
                constant = float((shown - mean).square().mean().sqrt())
                if math.isfinite(error) and constant > 0:
                    total[row, task] += min(1.0, error / constant)
                    number[row, task] += 1
        return torch.where(number > 0, total / number, math.nan)


class _Reference:
    """Rollouts of π0 in the tasks that its file covers, from the same initial states in every round; cached."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._key: tuple[Policy, int] | None = None
        self._rollouts: list[Trajectory] = []

    def __call__(self, context: SelectionContext) -> tuple[Sequence[Trajectory], int]:
        """The rollouts and the steps that they cost in this round."""
        covered = context.statistics.covers if context.statistics is not None else {}
        steps = 0
        if self._key is None or self._key[0] is not context.pretrained or self._key[1] != context.seed:
            first = replace(context, fresh_starts=False)
            if context.round == 0 and weights_hash(context.policy) == weights_hash(context.pretrained):
                rollouts = first.policy_rollouts(self._episodes)
            else:
                episodes = [each for each in first.rollout_episodes(self._episodes) if each.task.name in covered]
                rollouts = context.rollout(context.pretrained, episodes)
                # A run that was resumed makes them again and counts them once.
                steps = sum(rollout.length for rollout in rollouts) if context.round == 0 else 0
            self._rollouts = [rollout for rollout in rollouts if rollout.task in covered]
            self._key = (context.pretrained, context.seed)
        return self._rollouts, steps
