"""Which states stand for a demonstration that has not been given yet."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from amf_lightning.demonstrations.recorded_steps import RecordedSteps
from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part
from amf_lightning.selection.baselines import RoundRobin, allowed_tasks
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.importance_weights import (
    effective_sample_size,
    importance_weights,
    log_ratios,
    smallest_temperature,
)
from amf_lightning.selection.information_gain import Blocks
from amf_lightning.selection.roles import Piece, observed_and_judged, separated, thinned_steps
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Task
from amf_lightning.tasks.trajectory import Trajectory

_NEGLIGIBLE = 1e-3
"""Importance weights below this are dropped and the rest renormalised: they cost as much as the others."""


@dataclass(frozen=True, eq=False)
class StateBlocks:
    """Trajectories of M tasks thinned to S states each, with their weights; `Blocks` before they are embedded."""

    states: Steps
    """[M, S]."""
    tasks: Tensor
    weights: Tensor
    horizons: Tensor
    episodes: tuple[Trajectory, ...] = ()
    """The trajectories, [M], where the occupancy says them: of those that are rollouts a start may be named."""

    def embedded(self, points: Tensor) -> Blocks:
        """The same trajectories as points [M, S, P]."""
        device = points.device
        return Blocks(points, self.tasks.to(device), self.weights.to(device), self.horizons.to(device))


@dataclass(frozen=True, eq=False)
class Expected:
    """The states expected of a demonstration of each task, in the two roles that they play."""

    candidates: StateBlocks
    """The states that a demonstration would show."""
    targets: StateBlocks
    """The states at which the policy has to know what the expert does."""
    environment_steps: int = 0
    diagnostics: dict[str, float] = field(default_factory=dict)


class Occupancy(Part, ABC):
    """Estimates where the expert goes in each task."""

    has_actions: ClassVar[bool] = False
    """Whether the expert's actions are known at its states."""
    extrapolates: ClassVar[bool] = False
    """Whether its states may lie far from all data."""
    separates_roles: ClassVar[bool] = False
    """Whether candidate and target states differ."""

    def prefill(self, context: SelectionContext, batch_size: int) -> tuple[int, ...]:
        """Tasks that are asked first, before any is scored, at most `batch_size`: none."""
        return ()

    @abstractmethod
    def expected(self, context: SelectionContext) -> Expected | None:
        """The expected states of every task, or None while nothing is known about any."""


class PolicyRollout(Occupancy):
    """States of the current policy, rolled out on each task; the expert's own as soon as there are some (ours).

    What a demonstration would show: the expert's states in the task's latest demonstrations, or a rollout if it has
    none. Where the expert has to be known: rollouts from initial states that are not those of the demonstrations. On
    the demonstrations themselves the belief is always sure, however little it knows a step away from them; and a
    policy that still fails goes where they did not, so that its task is asked for again. Initial states are keyed by
    (seed, task), the same in every round.

    Args:
        episodes: rollouts of each task in each round, and demonstrations of it that are looked at.
        states: S, states kept of each episode.
        judge_by_expert: judge a demonstrated task by the expert's own states, with other demonstrations than those
            that it would be observed by where it has two. Saves the rollouts of such tasks; an ablation.
    """

    extrapolates = True
    separates_roles = True
    needs = (Need.SIMULATOR,)
    instead = "Choose the occupancy Demonstrated or ImportanceWeighted."

    def __init__(self, episodes: int = 2, states: int = 16, judge_by_expert: bool = False) -> None:
        if episodes < 2:
            raise InputError(
                f"PolicyRollout: episodes is {episodes}; at least 2 are needed, one to observe and another to judge by."
            )
        self.episodes = episodes
        self.states = _positive("PolicyRollout", states)
        self.judge_by_expert = judge_by_expert

    def expected(self, context: SelectionContext) -> Expected:
        """Rolls out every task whose rollouts are needed."""
        counts = context.counts
        if self.judge_by_expert and any(counts):
            episodes = context.rollout_episodes(self.episodes)
            due = [episode for episode in episodes if not counts[episode.task.index]]
            rollouts = context.rollout(context.policy, due) if due else []
        else:
            rollouts = context.policy_rollouts(self.episodes)
        candidates: list[Piece[Trajectory]] = []
        targets: list[Piece[Trajectory]] = []
        for task in context.suite.tasks:
            latest, rolled_out = _of(task, context.demonstrations)[-self.episodes :], _of(task, rollouts)
            # Judged by the expert, a demonstrated task is not rolled out: the demonstrations then play both roles.
            observed, judges = observed_and_judged(latest, rolled_out, task.index)
            candidates += observed
            targets += judges
        return Expected(
            candidates=_blocks(candidates, self.states, context, with_actions=False),
            targets=_blocks(targets, self.states, context, with_actions=False),
            environment_steps=sum(rollout.length for rollout in rollouts),
        )


class ImportanceWeighted(Occupancy):
    """Demonstrations collected so far, read as if they were of task c, with weights w_i(c) (AMF, arXiv 2410.05026).

    log w_i(c) = (1/T) Σ_t [ log π(a_t | s_t, c) − log π(a_t | s_t, c_i) ] + const: how much better the policy explains
    demonstration i if told c instead of its own task. For a policy that declares a fixed action deviation σ_a this is
    −1/(2σ_a²T) Σ_t ( ‖a_t − π(s_t, c)‖² − ‖a_t − π(s_t, c_i)‖² ). It creates no state that no demonstration visited.
    With nothing collected yet there is nothing to weigh, and the pick is uniform. If the weights of a task collapse
    onto one demonstration, that one stands for the task; if the policy gives none of them a density, all do equally.

    Args:
        temperature: T ≥ 1; by default the number of action entries of an episode, H·A.
        min_effective_sample_size: instead of a fixed T, the smallest T with 1/Σw² at least this, for each task.
        states: S, states kept of each demonstration.
    """

    has_actions = True
    needs = (Need.DENSITY,)
    instead = "Choose the occupancy PolicyRollout or Demonstrated."

    def __init__(
        self, temperature: float | None = None, min_effective_sample_size: float | None = None, states: int = 16
    ) -> None:
        if temperature is not None and min_effective_sample_size is not None:
            raise InputError("ImportanceWeighted: give `temperature` or `min_effective_sample_size`, not both.")
        if temperature is not None and temperature < 1:
            raise InputError(f"ImportanceWeighted: temperature is {temperature}; it must be at least 1 (untempered).")
        if min_effective_sample_size is not None and min_effective_sample_size < 1:
            raise InputError(
                f"ImportanceWeighted: min_effective_sample_size is {min_effective_sample_size}; it must be at least 1."
            )
        self.temperature = temperature
        self.min_effective_sample_size = min_effective_sample_size
        self.states = _positive("ImportanceWeighted", states)

    def expected(self, context: SelectionContext) -> Expected | None:
        """Relabels every demonstration with every task."""
        demonstrations, tasks = context.demonstrations, context.suite.tasks
        if not demonstrations:
            return None
        ratios = log_ratios(context.policy, context.suite, demonstrations)
        if self.min_effective_sample_size is not None:
            temperatures = smallest_temperature(ratios, self.min_effective_sample_size)
        elif self.temperature is not None:
            temperatures = ratios.new_full((len(tasks),), self.temperature)
        else:
            temperatures = ratios.new_tensor([task.horizon * context.suite.action_dim for task in tasks])
        weights = importance_weights(ratios, temperatures)
        sizes = effective_sample_size(weights).tolist()
        # Never above what equal weights would be, or all of a long history would be negligible.
        negligible = min(_NEGLIGIBLE, 0.5 / len(demonstrations))
        thinned = torch.where(weights < negligible, torch.zeros_like(weights), weights)
        thinned = thinned / thinned.sum(1, keepdim=True)
        pieces = [Piece(demonstrations[i], c, float(thinned[c, i])) for c, i in torch.nonzero(thinned).tolist()]
        blocks = _blocks(pieces, self.states, context, with_actions=True)
        diagnostics = {f"effective_sample_size/{task.name}": size for task, size in zip(tasks, sizes, strict=True)}
        collapsed = sum(size < 1.01 for size in sizes) if len(demonstrations) > 1 else 0
        return Expected(blocks, blocks, diagnostics={**diagnostics, "collapsed_importance_weights": float(collapsed)})


class Demonstrated(Occupancy):
    """Demonstrations of task c itself: no simulator, and no guess about where the expert goes.

    A task without any is asked first: a prefill in the order of `RoundRobin`, keyed by the seed, that spends budget.
    Rows to observe and rows to judge by are different demonstrations, or different states of the only one.

    Args:
        demonstrations: of each task, the latest, that are looked at.
        states: S, states kept of each.
    """

    has_actions = True
    separates_roles = True

    def __init__(self, demonstrations: int = 4, states: int = 16) -> None:
        if demonstrations < 1:
            raise InputError(f"Demonstrated: demonstrations is {demonstrations}; it must be at least 1.")
        self.demonstrations = demonstrations
        self.states = _positive("Demonstrated", states)

    def prefill(self, context: SelectionContext, batch_size: int) -> tuple[int, ...]:
        """Tasks that were not demonstrated yet, or a whole batch while none that can be had was.

        A task whose demonstration is pending is not asked for again.
        """
        counts, expected_counts, task_indices = context.counts, context.expected_counts, allowed_tasks(context)
        undemonstrated = sum(expected_counts[task] == 0 for task in task_indices)
        count = min(batch_size, undemonstrated) if any(counts[task] for task in task_indices) else batch_size
        return RoundRobin().select(context, count).picks

    def expected(self, context: SelectionContext) -> Expected | None:
        """The latest demonstrations of each task that has any."""
        candidates: list[Piece[Trajectory]] = []
        targets: list[Piece[Trajectory]] = []
        for task in context.suite.tasks:
            if latest := _of(task, context.demonstrations)[-self.demonstrations :]:
                observed, judges = separated(latest, task.index)
                candidates += observed
                targets += judges
        if not candidates:
            return None
        return Expected(
            _blocks(candidates, self.states, context, with_actions=True),
            _blocks(targets, self.states, context, with_actions=True),
        )


def _of(task: Task, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    return [trajectory for trajectory in trajectories if trajectory.task == task.name]


def _blocks(
    pieces: Sequence[Piece[Trajectory]], states: int, context: SelectionContext, with_actions: bool
) -> StateBlocks:
    distinct = {id(piece.episode): piece.episode for piece in pieces}
    starts = dict(zip(distinct, accumulate((each.length for each in distinct.values()), initial=0), strict=False))
    rows = torch.cat([starts[id(p.episode)] + thinned_steps(p.episode.length, states, p.phase) for p in pieces])
    cut = RecordedSteps(list(distinct.values()), context.suite, context.policy.window)[rows]
    cut = (cut if with_actions else cut.without_actions()).reshape(len(pieces), states)
    tasks = torch.tensor([piece.task for piece in pieces])
    contexts = context.suite.contexts[tasks][:, None].expand(-1, states, -1)
    steps = Steps(cut.observations, tasks[:, None].expand(-1, states), contexts, cut.actions, cut.mask)
    return StateBlocks(
        steps.to(context.policy.device),
        tasks,
        torch.tensor([piece.weight for piece in pieces], dtype=torch.float64),
        torch.tensor([context.suite.tasks[piece.task].horizon for piece in pieces], dtype=torch.float64),
        tuple(piece.episode for piece in pieces),
    )


def _positive(owner: str, states: int) -> int:
    if states < 1:
        raise InputError(f"{owner}: states is {states}; at least one state of each episode has to be kept.")
    return states
