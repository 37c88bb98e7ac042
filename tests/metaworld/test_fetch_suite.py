"""Fetch's tasks as a suite, against the stock environments."""

import json
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from metaworld_marks import FETCH

from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import check_scorable
from amf_lightning.experts.fetch import FetchExpert
from amf_lightning.experts.measure import measure
from amf_lightning.suites.fetch import Fetch
from amf_lightning.tasks.task import Episode, Task, dimensions_of
from amf_lightning.tasks.trajectory import Trajectory

pytestmark = FETCH
START = np.array([1.342, 0.749])
"""Where the gripper starts, on the table, in m."""


def shown(suite: Fetch, episodes: list[Episode]) -> list[Trajectory]:
    return FetchExpert(noise=0.1, successes_only=False).demonstrate(suite, episodes)


def bits(trajectory: Trajectory) -> tuple[Any, ...]:
    assert trajectory.rewards is not None
    arrays = (trajectory.state, trajectory.actions, trajectory.rewards)
    return trajectory.task, trajectory.success, *(array.tobytes() for array in arrays)


def test_contexts_are_one_hot_or_the_region() -> None:
    suite = Fetch(reference=None)
    assert torch.equal(suite.contexts, torch.eye(12))
    regions = Fetch(["reach-far-left", "push-near-right", "pick-air-left"], one_hot=False, reference=None)
    assert regions.contexts.tolist() == [
        [1.0, 0.0, 0.0, 0.5, 0.5, 0.0],
        [0.0, 1.0, 0.0, -0.5, -0.5, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.5, pytest.approx(0.275 / 0.15)],
    ]
    assert len({task.context for task in Fetch(one_hot=False, reference=None).tasks}) == 12
    other = Fetch(["push-near-right", "reach-far-left", "pick-air-left"], reference=None)
    again = Fetch(["reach-far-left", "push-near-right", "pick-air-left"], reference=None)
    assert other.signature() != again.signature(), "the same number means another task"


def test_it_keeps_to_the_contract_of_suites() -> None:
    suite = Fetch("pick")
    assert [task.name for task in suite.tasks] == [
        "pick-table-left",
        "pick-table-right",
        "pick-air-left",
        "pick-air-right",
    ]
    assert [task.index for task in suite.tasks] == list(range(4))
    assert (suite.observation_dim, suite.action_dim, suite.context_dim) == (28, 4, 4)
    signature = json.loads(json.dumps(suite.signature()))
    assert signature == suite.signature() and dimensions_of(signature) == suite.dimensions


def test_shipped_reference_returns_score_every_task_and_are_what_their_command_measures() -> None:
    suite = Fetch()
    check_scorable(suite)
    assert suite.reference is not None
    assert all(a > b for a, b in zip(suite.reference.expert, suite.reference.random, strict=True))
    found = measure(Fetch(["reach-near-left"]), FetchExpert(successes_only=False), episodes=20)["reach-near-left"]
    assert found.expert == pytest.approx(suite.reference.expert[0], rel=1e-3)
    assert found.random == pytest.approx(suite.reference.random[0], rel=0.05)  # contacts differ in last bits elsewhere


def test_goals_lie_where_the_name_of_the_task_says_and_are_not_reached_yet() -> None:
    suite = Fetch(reference=None)
    for env, tasks in [(suite.make(suite.tasks[start]), suite.tasks[start : start + 4]) for start in (0, 4, 8)]:
        for task in tasks:
            for seed in range(10):
                state = env.reset(seed=seed, options=dict(task.options))[0]["state"]
                assert_in_region(task, state[3:6], state[25:28])


def assert_in_region(task: Task, thing: np.ndarray[Any, Any], goal: np.ndarray[Any, Any]) -> None:
    kind, depth, side = task.name.split("-")
    forth, left = goal[:2] - START
    assert abs(left) < 0.155 and (left > -0.005 if side == "left" else left < 0.005)
    if kind != "pick":
        assert forth > -0.01 if depth == "far" else forth < 0.01
    above = goal[2] - thing[2]
    if kind != "reach":
        assert (0.1 <= above <= 0.45) if depth == "air" else abs(above) < 1e-4
    assert np.linalg.norm(goal - thing) >= 0.05


@pytest.mark.parametrize(
    ("task", "stock"),
    [
        ("reach-far-right", "FetchReachDense-v4"),
        ("push-near-left", "FetchPushDense-v4"),
        ("pick-air-right", "FetchPickAndPlaceDense-v4"),
    ],
)
def test_an_episode_is_the_stock_one_but_for_its_goal(task: str, stock: str) -> None:
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    suite = Fetch([task], reference=None)
    (ours,) = FetchExpert(successes_only=False).demonstrate(suite, [Episode(suite.tasks[0], 1000)])
    assert ours.rewards is not None and ours.length == 50
    env, ended, info = gymnasium.make(stock), False, {"is_success": 0.0}
    observation, _ = env.reset(seed=1000)
    goal = env.unwrapped.goal = goal_of(suite, 1000)  # type: ignore[attr-defined]
    for own, action, rewarded in zip(ours.state, ours.actions, ours.rewards, strict=False):
        seen = observation["observation"].astype(np.float32)
        assert own[25:].tobytes() == goal.astype(np.float32).tobytes()
        if task.startswith("reach"):
            assert (own[:3] == own[3:6]).all() and (own[[*range(6, 9), *range(11, 20)]] == 0).all()
            own = own[[0, 1, 2, 9, 10, *range(20, 25)]]
        assert own[: len(seen)].tobytes() == seen.tobytes()
        observation, reward, _, ended, info = env.step(action)
        assert rewarded == float(reward)
    assert ended and ours.success == bool(info["is_success"])


def goal_of(suite: Fetch, seed: int) -> np.ndarray[Any, Any]:
    env = suite.make(suite.tasks[0])
    env.reset(seed=seed, options=dict(suite.tasks[0].options))
    goal: np.ndarray[Any, Any] = env.unwrapped.goal  # type: ignore[attr-defined]
    return goal


def test_an_episode_is_a_function_of_task_and_seed_alone() -> None:
    """First in a new environment, alone; then in one that was used, for another task too, among others."""
    suite, used = (Fetch(horizon=10, reference=None) for _ in range(2))
    alone = [shown(suite, [Episode(task, 1000)])[0] for task in suite.tasks]
    np.random.seed(7)
    shown(used, [Episode(task, 1002) for task in used.tasks])
    among = shown(used, [Episode(task, seed) for task in used.tasks for seed in (1000, 1001)])
    for first, again, other in zip(alone, among[::2], among[1::2], strict=True):
        assert bits(again) == bits(first), first.task
        assert not np.array_equal(other.state[0], first.state[0]), first.task


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tasks": "pull"}, "no set 'pull'; the sets are all, reach, push, pick"),
        ({"tasks": ["push-far-lft"]}, "no task 'push-far-lft'. Did you mean 'push-far-left'?"),
        ({"tasks": ["juggle"]}, "Name one of its tasks: reach-near-left, reach-near-right"),
        ({"tasks": ["push-far-left", "push-far-left"]}, "different names"),
        ({"tasks": []}, "at least one"),
        ({"horizon": 0}, "at least 1"),
        ({"horizon": 100}, "50-step episodes, task 'reach-near-left' has 100"),
    ],
)
def test_an_impatient_person_is_told_what_is_wrong(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=re.escape(reason)):
        Fetch(**options)
