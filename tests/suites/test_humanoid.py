import gymnasium
import numpy as np
import pytest
from torch import Tensor, zeros

from amf_lightning.experts.trained import TrainedExpert
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.humanoid import HumanoidVelocity
from amf_lightning.tasks.task import Episode


class Limp:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return zeros(len(observations), 17)


def test_tasks_are_velocities_and_contexts_their_halves() -> None:
    suite = HumanoidVelocity()
    assert [task.name for task in suite.tasks] == ["v=0.25", "v=0.5", "v=0.75", "v=1", "v=1.25", "v=1.5"]
    assert suite.contexts[:, 0].tolist() == [0.125, 0.25, 0.375, 0.5, 0.625, 0.75]


def test_the_shipped_expert_walks_and_runs_without_falling() -> None:
    suite, expert = HumanoidVelocity(), TrainedExpert("humanoid/expert")
    assert suite.reference is not None
    episodes = [Episode(task, seed) for task in suite.tasks for seed in range(3)]
    shown = rollout(expert.actor(suite), suite, episodes)
    assert np.mean([trajectory.length == 200 for trajectory in shown]) > 0.8
    for task in suite.tasks:
        errors = [trajectory.metrics["velocity_error"] for trajectory in shown if trajectory.task == task.name]
        assert np.mean(errors) < 0.4, task.name


def test_observations_are_the_first_of_the_stock_ones_and_rewards_follow_the_formula() -> None:
    suite = HumanoidVelocity(reference=None)
    task = suite.task("v=1.5")
    stock = gymnasium.make("Humanoid-v5")
    env = suite.make(task)
    observation, _ = env.reset(seed=3, options=dict(task.options))
    np.testing.assert_array_equal(observation, stock.reset(seed=3)[0][:45])
    rng = np.random.default_rng(0)
    for _ in range(10):
        action = rng.uniform(-1, 1, 17).astype(np.float32)
        expected, *_, info = stock.step(np.float32(0.4) * action)
        observation, reward, *_ = env.step(action)
        np.testing.assert_allclose(observation, expected[:45], rtol=1e-4, atol=1e-4)
        e = abs(info["x_velocity"] - 1.5)
        formula = 1 + 2 * (1 - min(e, 2.5) / 2.5) + np.exp(-((e / 0.4) ** 2))
        formula -= 0.3 * abs(info["y_velocity"]) + 0.02 * float((action**2).sum())
        assert reward == pytest.approx(formula, rel=1e-3)


def test_a_fall_ends_the_episode_fails_it_and_costs_the_missing_steps() -> None:
    suite = HumanoidVelocity([0], tolerance=100.0, reference=None)
    (limp,) = rollout(Limp(), suite, [Episode(suite.tasks[0], 0)])
    assert limp.length < suite.tasks[0].horizon
    assert not limp.success
    assert limp.rewards is not None and limp.rewards.min() > 0
    assert limp.metrics["velocity_error"] < 100


def test_episodes_that_end_early_do_not_disturb_the_others() -> None:
    suite = HumanoidVelocity(reference=None)
    episodes = [Episode(task, seed) for task in suite.tasks for seed in range(3)]
    together = rollout(UniformActor(17), suite, episodes)
    assert len({trajectory.length for trajectory in together}) > 1
    for episode, trajectory in zip(episodes[::4], together[::4], strict=True):
        (alone,) = rollout(UniformActor(17), suite, [episode])
        assert alone.state.tobytes() == trajectory.state.tobytes()
