"""What an episode counts for: nobody gains by ending early."""

import numpy as np
import pytest
from fragile import FragileSuite
from test_failures import Left, episodes_of

from amf_lightning.simulation.outcomes import counted_return, reason_of
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.failure import Failure, FailureReason
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite


def ended(rewards: list[float], success: bool = False, failure: FailureReason | None = None) -> Trajectory:
    steps = len(rewards)
    states, actions = np.zeros((steps, 1), np.float32), np.zeros((steps, 1), np.float32)
    broke = None if failure is None else Failure(failure, "there")
    return Trajectory({"state": states}, actions, np.array(rewards), "run", success=success, failure=broke)


@pytest.mark.parametrize(
    ("rewards", "random", "counts"),
    [
        ([-1.0, -3.0], -1.0, -4.0 - 2 * 3.0),  # the lowest reward
        ([-1.0, -1.0], -8.0, -2.0 - 2 * 2.0),  # a step of random actions
        ([2.0, 1.0], 5.0, 3.0),  # who leaves misses what there is to have
        ([0.0], -4.0, -3.0),
        ([-1.0, -1.0, -1.0, -2.0], -40.0, -5.0),  # of full length
    ],
)
def test_a_missing_step_counts_as_the_worst(rewards: list[float], random: float, counts: float) -> None:
    assert counted_return(ended(rewards), 4, random) == counts


def test_a_success_may_come_early() -> None:
    assert counted_return(ended([-1.0, -3.0], success=True), 4, -40.0) == -4.0
    assert reason_of(ended([-1.0], success=True), 4) is None and reason_of(ended([-1.0]), 4) == FailureReason.EARLY


def test_the_step_at_which_it_broke_is_missing_too() -> None:
    assert counted_return(ended([-1.0, -1.0], failure=FailureReason.EXCEPTION), 4, -8.0) == -1.0 - 3 * 2.0
    assert counted_return(ended([0.0], failure=FailureReason.ACTION), 4, -8.0) == -8.0, "like random actions"


@pytest.mark.parametrize("way", ["leaves", "raises", "reward", "observation"])
def test_who_leaves_is_worth_no_more_than_who_stays(way: str) -> None:
    """In the tiny world each step costs the distance, so that leaving early saved most of it."""
    suite = FragileSuite(way)
    stays = rollout(Left(), TinySuite(), episodes_of(suite))
    leaves = rollout(Left(), suite, episodes_of(suite), may_fail=True)
    assert suite.reference is not None
    random = suite.reference.random
    for whole, part in zip(stays, leaves, strict=True):
        task = suite.task(part.task)
        counts = counted_return(part, task.horizon, random[task.index])
        if reason_of(part, task.horizon) is None:
            assert counts == whole.episode_return == part.episode_return
        else:
            assert part.episode_return > whole.episode_return
            assert counts <= min(whole.episode_return, part.episode_return)
