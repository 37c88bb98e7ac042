"""What an episode of a learner counts for: its return as scores take it, and why it failed, if it broke off."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.tasks.failure import REASONS, WORDS, Failure, FailureReason
from amf_lightning.tasks.task import Task, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

Failures = Mapping[str, int]
"""How many episodes of a task ended before their time without a success, by `FailureReason`; only those there were."""


def reason_of(trajectory: Trajectory, horizon: int) -> FailureReason | None:
    """Why an episode ended before its time without a success; None if it did not."""
    if trajectory.failure is not None:
        return trajectory.failure.reason
    return FailureReason.EARLY if trajectory.length < horizon and not trajectory.success else None


def counted_return(trajectory: Trajectory, horizon: int, random: float) -> float:
    """The return of an episode as scores take it: nobody gains by ending early.

    Where each step costs, an episode that ends before its time has a higher return than one that tries. So where it
    did not succeed each missing step counts as the worst of: the lowest reward in the episode, a step of random actions
    and 0. All other episodes, and those whose rewards and random return are not negative, count as they are.

    Args:
        trajectory: what happened.
        horizon: T, steps that the episode could have had.
        random: mean return of random actions.

    >>> import numpy as np
    >>> short = Trajectory(np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32), np.array([-1.0, -2.0]), "run")
    >>> counted_return(short, horizon=4, random=-10.0), counted_return(short, horizon=4, random=-2.0)
    (-8.0, -7.0)
    """
    own = trajectory.episode_return
    if reason_of(trajectory, horizon) is None or trajectory.rewards is None:
        return own
    rewards: list[float] = trajectory.rewards.tolist()
    if trajectory.failure is not None:
        rewards.pop()  # stands for a step of which nobody knows the reward
        own = float(trajectory.rewards[:-1].sum())
    return own + (horizon - len(rewards)) * min(0.0, random / horizon, *rewards)


def count_failures(reasons: Sequence[FailureReason | None]) -> Failures:
    """How often there was each.

    >>> count_failures([None, FailureReason.EARLY, FailureReason.ACTION, FailureReason.EARLY])
    {'action': 1, 'early': 2}
    """
    counts = Counter(reasons)
    return {str(reason): counts[reason] for reason in REASONS if counts[reason]}


@dataclass(frozen=True)
class EpisodeResult:
    """What an evaluation keeps of an episode."""

    counted_return: float
    """See the function of that name."""
    success: bool
    reason: FailureReason | None = None
    """Why it ended before its time without a success."""
    begun: bool = True
    """Whether it got further than its first step."""


def result_of(trajectory: Trajectory, task: Task, suite: TaskSuite) -> EpisodeResult:
    """What an evaluation keeps of an episode of a task of the suite."""
    random = 0.0 if suite.reference is None else suite.reference.random[task.index]
    return EpisodeResult(
        counted_return(trajectory, task.horizon, random),
        bool(trajectory.success),
        reason_of(trajectory, task.horizon),
        trajectory.failure is None or trajectory.length > 1,
    )


def warn_of_failures(trajectories: Sequence[Trajectory], what: str, count: int | None = None) -> None:
    """Warns of episodes of a learner that broke off, once for all of them.

    Args:
        trajectories: of its episodes, at least those that broke off.
        what: they are, for the message: a plural.
        count: how many there were, if not all are given.
    """
    broken = [trajectory.failure for trajectory in trajectories if trajectory.failure is not None]
    if not broken:
        return
    counts = count_failures([failure.reason for failure in broken])
    reasons = ", ".join(f"{WORDS[FailureReason(reason)]} {count}" for reason, count in counts.items())
    total = len(trajectories) if count is None else count
    warnings.warn(
        f"{len(broken)} of {total} {what} broke off and count as failures ({reasons}). The first: {broken[0].told}.",
        stacklevel=2,
    )


def check_learner(trajectories: Sequence[Trajectory], what: str) -> None:
    """Warns of episodes that broke off, and refuses what no learner has done; see `warn_of_failures` and `refuse`.

    Raises:
        InputError, UserCodeError: every episode broke off at its first step.
    """
    failures = [trajectory.failure for trajectory in trajectories if trajectory.length == 1]
    broken = [failure for failure in failures if failure is not None]
    if broken and len(broken) == len(trajectories):
        refuse(broken[0], what)
    warn_of_failures(trajectories, what)


def refuse(first: Failure, what: str) -> NoReturn:
    """Ends what cannot go on, because every episode broke off at its first step.

    Args:
        first: how one of them did.
        what: they are, for the message: a plural.

    Raises:
        InputError: the policy's action was not finite.
        UserCodeError: the environment broke: no learner has done that in a step.
    """
    if first.reason == FailureReason.ACTION:
        raise InputError(
            f"{first.told}, and so at the first step of all {what}: the policy has diverged. Train it with a lower "
            "learning rate (model.optimizer.init_args.lr) or clipped gradients (trainer.gradient_clip_val)."
        )
    raise UserCodeError(
        f"{first.told}, and so at the first step of all {what}: that is no failure of the policy. Correct the "
        "environment."
    )
