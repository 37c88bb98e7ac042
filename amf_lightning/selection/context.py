"""A selector, what it reads (`SelectionContext`), and what it returns (`Selection`)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from amf_lightning.demonstrations.recorded_steps import RecordedSteps
from amf_lightning.errors import InputError
from amf_lightning.needs import Part
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.seeding import Purpose, keyed_generator, keyed_seed
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.start_state import StartState
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


@dataclass(frozen=True)
class SelectionContext:
    """Everything that may inform the choice of round `round`. A selector declares in `needs` what it reads of it."""

    suite: TaskSuite
    policy: Policy
    """The current policy, after the rounds before this one."""
    pretrained: Policy
    """π0, frozen."""
    statistics: FeatureStatistics | None
    """What π0's file says about its pre-training states."""
    demonstrations: Sequence[Trajectory]
    """Collected so far, in order."""
    round: int
    seed: int
    rollout: Callable[[Acting, Sequence[Episode]], list[Trajectory]]
    """Runs episodes in the simulator; the steps are counted as cost of the selector."""
    pretraining_counts: tuple[int, ...] | None = None
    """Privileged: demonstrations of each task that π0 was trained on, [K]."""
    scores: tuple[float, ...] | None = None
    """Privileged: normalised score of each task at the last evaluation, [K]."""
    remaining: tuple[float, ...] | None = None
    """Demonstrations of each task that can still be had, those that are pending included, [K]; infinity if there is no
    end of them; None: all so."""
    trainable: Mapping[str, Tensor] = field(default_factory=dict)
    """Which entries of each named parameter training may change; a parameter not named is trained whole."""
    score_history: tuple[tuple[float, ...], ...] = ()
    """Privileged: `scores` of all evaluations of this run, the first before any demonstration, [E][K]."""
    evaluated_after: tuple[int, ...] = ()
    """How many of `demonstrations` the policy was trained on at each of these evaluations, [E]."""
    lookahead: Callable[[Sequence[int]], float] | None = None
    """Privileged: mean score that the round would reach if these tasks were demonstrated, in this order (clairvoyant:
    the demonstrations that would really come, the training and the evaluation that would really follow)."""
    pending: tuple[int, ...] = ()
    """Task indices of the demonstrations that are asked for and have not come yet, in order. A selector chooses as if
    they had come."""
    skipped: tuple[int, ...] = ()
    """Task indices of the demonstrations that were asked for and will not come, in order."""
    told: tuple[Mapping[str, float], ...] = ()
    """Diagnostics of the selector's choices in the rounds before this one, as they were recorded, [round]."""
    asked: tuple[tuple[int, ...], ...] = ()
    """Task indices of the demonstrations that came in each of the rounds before this one, [round][B]."""
    errors_before: tuple[float, ...] = ()
    """Of what acted before the policy was trained on each of `demonstrations`, in their order: the root mean square of
    its actions less those of the demonstration; NaN where it is unknown. () where nothing is known."""
    chosen: int = 0
    """How many demonstrations were chosen in this round before this choice: random draws go on where they ended."""
    device: str = "cpu"
    """Where a belief and its criterion are computed; see `Learner.device`."""

    fresh_starts: bool = False
    """Whether `rollout_episodes` begin where those of no earlier round did."""
    _rollouts: dict[tuple[int, bool], list[Trajectory]] = field(default_factory=dict, repr=False, compare=False)

    def policy_rollouts(self, per_task: int) -> list[Trajectory]:
        """The `rollout_episodes` of the current policy, task by task; simulated once for all who ask in this choice."""
        key = per_task, self.fresh_starts and self.round > 0
        if key not in self._rollouts:
            self._rollouts[key] = self.rollout(self.policy, self.rollout_episodes(per_task))
        return self._rollouts[key]

    @property
    def policy_rollout_steps(self) -> int:
        """Environment steps of all `policy_rollouts` of this choice."""
        return sum(rollout.length for rollouts in self._rollouts.values() for rollout in rollouts)

    def generator(self, position: int = 0) -> torch.Generator:
        """Random numbers that depend on (seed, round, position) alone, the positions counted over the whole round."""
        return keyed_generator(self.seed, Purpose.SELECT, self.round, self.chosen + position)

    def rollout_episodes(self, per_task: int) -> list[Episode]:
        """Episodes of every task, task by task, from initial states keyed by (seed, task): the same every round.

        With `fresh_starts` they are keyed by the round, too.
        """
        rounds = (self.round,) if self.fresh_starts and self.round else ()
        return [
            Episode(task, keyed_seed(self.seed, Purpose.ROLLOUT, task.index, i, *rounds))
            for task in self.suite.tasks
            for i in range(per_task)
        ]

    def steps_of(self, trajectories: Sequence[Trajectory]) -> Steps:
        """Every step in which an action was taken, [N], in the window and on the device of the policy."""
        return RecordedSteps(trajectories, self.suite, self.policy.window)[:].to(self.policy.device)

    @property
    def demonstrated_steps(self) -> Steps | None:
        """All steps of all demonstrations, [N]; None without demonstrations."""
        return self.steps_of(self.demonstrations) if self.demonstrations else None

    @property
    def counts(self) -> list[int]:
        """Demonstrations of each task so far, [K]."""
        names = [trajectory.task for trajectory in self.demonstrations]
        return [names.count(task.name) for task in self.suite.tasks]

    @property
    def expected_counts(self) -> list[int]:
        """Demonstrations of each task so far and those that are pending, [K]."""
        return [count + self.pending.count(task) for task, count in enumerate(self.counts)]

    def allowed(self, picks: Sequence[int] = ()) -> Tensor:
        """Tasks of which a demonstration can still be had once those pending and `picks` have been given, [K] bool.

        Raises:
            InputError: there is none.
        """
        count = len(self.suite.tasks)
        if self.remaining is None:
            return torch.ones(count, dtype=torch.bool)
        taken = torch.bincount(torch.tensor([*self.pending, *picks], dtype=torch.int64), minlength=count)
        mask = torch.tensor(self.remaining) > taken
        if not mask.any():
            raise InputError(f"Round {self.round}: no task has a demonstration left. Lower active.budget.")
        return mask


@dataclass(frozen=True)
class Selection:
    """Tasks to demonstrate next, in order, and why."""

    picks: tuple[int, ...]
    """Task indices, one a demonstration."""
    scores: tuple[tuple[float, ...], ...]
    """For each pick the score of every task at the moment of that pick, [B][K]; NaN where a task has none."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """Numbers for TensorBoard, e.g. `effective_sample_size/<task>`."""
    teaches: tuple[tuple[float, ...], ...] = ()
    """For each pick what of its score is about each task, [B][K], where the selector can tell; () where it cannot."""
    starts: tuple[StartState | None, ...] = ()
    """For each pick where to start its demonstration, [B], where the selector can tell; () where it cannot. Nothing is
    started there by itself: the seed of a request stays its own."""


class Selector(Part, ABC):
    """Decides which tasks the expert should demonstrate next."""

    assumes_retention: bool = False
    """Whether it takes for granted that fine-tuning forgets nothing."""
    gain_is: str = "score"
    """What a score is, in words with its unit: what the selector expects of a demonstration."""
    need: str | None = None
    """KIND of those of its diagnostics `KIND/<task>` that say how much a task is in need; None if none does."""
    need_is: str = ""
    """What they are, in words with their unit."""
    deploy_margin: float | None = None
    """By how much less of all tasks the policy of a round must leave undone than the deployed one to be deployed in its
    place, both as `gaps` says, or to leave less than half of this undone at all; None: the latest policy always is."""

    def check(self, suite: TaskSuite, budget: int) -> None:
        """Called when the configuration is read, before anything is run or written.

        Raises:
            InputError: the selector cannot serve this suite, or not as many as `budget` demonstrations.
        """

    @abstractmethod
    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Chooses `batch_size` tasks, repetition allowed."""

    def gaps(self, context: SelectionContext) -> Tensor | None:
        """The share of each task that the policy before each choice did not do, [round + 1, K], this one last.

        As `select` infers it in the same context, from all that was seen. None where it sees nothing of the policy now.
        """
        return None


def argmax_keyed(scores: Tensor, allowed: Tensor, generator: torch.Generator) -> int:
    """Index of the largest of `scores` [K] among the `allowed`; ties are broken by a draw from `generator`."""
    best = torch.nonzero(allowed & (scores == scores[allowed].max())).flatten()
    return int(best[torch.randint(len(best), (1,), generator=generator)])
