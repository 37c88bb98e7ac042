"""The shipped experts do what their cards say."""

import numpy as np
import pytest
import torch

from amf_lightning.experts.trained import TrainedExpert
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.task import Episode


@pytest.fixture(scope="module")
def suite() -> HalfCheetahVelocity:
    return HalfCheetahVelocity()


def test_the_shipped_expert_solves_every_task_from_fresh_initial_states(suite: HalfCheetahVelocity) -> None:
    episodes = [
        Episode(task, keyed_seed(4711, Purpose.DEMONSTRATE, task.index, i)) for task in suite.tasks for i in range(4)
    ]
    found = TrainedExpert(successes_only=False).demonstrate(suite, episodes)
    assert suite.reference is not None
    for task in suite.tasks:
        own = found[4 * task.index : 4 * task.index + 4]
        assert all(trajectory.success for trajectory in own), task.name
        limit = 0.2 if task.options["velocity"] <= 5 else 0.4
        assert np.mean([trajectory.metrics["velocity_error"] for trajectory in own]) < limit, task.name
        low, high, spread = (
            reference[task.index]
            for reference in (suite.reference.random, suite.reference.expert, suite.reference.spread)
        )
        returns = np.mean([trajectory.episode_return for trajectory in own])
        assert abs(returns - high) < 4 * spread / 2 + 0.02 * (high - low), task.name


def test_it_still_succeeds_with_noise_and_shows_clean_actions(suite: HalfCheetahVelocity) -> None:
    episodes = [Episode(task, 7) for task in suite.tasks]
    expert = TrainedExpert(noise=0.1)
    actor = expert.actor(suite)
    for episode, trajectory in zip(episodes, expert.demonstrate(suite, episodes), strict=True):
        goals = suite.goals[episode.task.index].expand(trajectory.length, 1)
        clean = actor.act(torch.from_numpy(trajectory.state[:-1]), goals).numpy()
        np.testing.assert_allclose(trajectory.actions, clean, atol=1e-4)


def test_one_hot_policies_get_the_same_demonstrations(suite: HalfCheetahVelocity) -> None:
    one_hot = HalfCheetahVelocity(one_hot=True)
    expert = TrainedExpert()
    (scalar,) = expert.demonstrate(suite, [Episode(suite.tasks[4], 1)])
    (hot,) = expert.demonstrate(one_hot, [Episode(one_hot.tasks[4], 1)])
    assert hot.state.tobytes() == scalar.state.tobytes()
