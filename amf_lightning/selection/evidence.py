"""What is seen of the policy's gap to the expert: the share of each task that it does not do yet."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

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


class Evidence(Part, ABC):
    """Measures how much of each task the policy does not do as the expert does it."""

    error: float
    """Standard deviation of a measured gap, at most 1."""

    @abstractmethod
    def measure(self, context: SelectionContext) -> Measured:
        """The gap of every task, from what the context shows; a function of that alone."""


class OccupancyGap(Evidence):
    """Where the policy goes instead of where the expert goes, in rollouts and without rewards (ours).

    The difference of the returns of two policies is at most H·R_max times the distance of their occupancies, whatever
    the reward. See `occupancy_gaps` for how it is measured; the rollouts are those that `PolicyRollout` makes anyway.
    What the expert does is what demonstrations show, and what π0 does in tasks that its file covers. At the start
    π0 is rolled out once, unless the policy is π0.

    Args:
        episodes: rollouts of each task in each round.
    """

    needs = (Need.SIMULATOR,)
    instead = "Choose the evidence ReportedOutcomes, or none (evidence: null)."

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
        gaps = occupancy_gaps(summaries(shown), summaries(rollouts), suite.contexts.to(torch.float64))
        return Measured(gaps, steps)


class ReportedOutcomes(Evidence):
    """One minus the score of each task at the last evaluation: what people report of trials, or simulation knows.

    Privileged where evaluations are: then the selector sees what the comparison judges it by.

    Args:
        error: standard deviation of a score, e.g. 0.15 for ten trials of a task that succeeds half of the time.
    """

    needs = (Need.EVALUATIONS,)
    instead = "Choose the evidence OccupancyGap, or none (evidence: null)."

    def __init__(self, error: float = 0.15) -> None:
        if error <= 0:
            raise InputError(f"ReportedOutcomes: error is {error}; a standard deviation is positive.")
        self.error = error

    def measure(self, context: SelectionContext) -> Measured:
        """1 − score, within [0, 1]; 1 while nothing was evaluated."""
        if context.scores is None:
            return Measured(torch.ones(len(context.suite.tasks), dtype=torch.float64))
        return Measured((1 - torch.tensor(context.scores, dtype=torch.float64)).clamp(0, 1))


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
