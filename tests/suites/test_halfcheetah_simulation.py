"""The faster way to step HalfCheetah against gymnasium's own loop, bit for bit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amf_lightning.experts.uniform import UniformActor
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.simulation.gymnasium_simulation import GymnasiumSimulation, simulate
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.suites.halfcheetah_simulation import HalfCheetahSimulation
from amf_lightning.tasks.controller import Actor
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory


class NetActor(nn.Module):
    """Moves the robot about; `scale` decides how wildly."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(18, 64), nn.ReLU(), nn.Linear(64, 6))
        generator = torch.Generator().manual_seed(1)
        for parameter in self.net.parameters():
            nn.init.normal_(parameter, std=scale, generator=generator)

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        actions: Tensor = 1.5 * torch.tanh(self.net(torch.cat([observations, contexts], dim=1)))
        return actions


@torch.no_grad()
def gymnasium_loop(actor: Actor, suite: HalfCheetahVelocity, episode: Episode, row: int, noise: float) -> Trajectory:
    """One episode in an environment of its own, through `reset` and `step` alone, in a row of the padded batch."""
    env = suite.make(episode.task)
    observation, _ = env.reset(seed=episode.seed, options=dict(episode.task.options))
    generator = keyed_generator(episode.seed, Purpose.DEMONSTRATE)
    drawn = (noise * torch.randn(episode.task.horizon, 6, generator=generator)).numpy()
    observations, done = [np.asarray(observation, np.float32)], False
    actions: list[NDArray[np.float32]] = []
    rewards: list[float] = []
    info: dict[str, Any] = {}
    while not done:
        padded, contexts = torch.zeros(32, 17), torch.zeros(32, 1)
        padded[row] = torch.from_numpy(observations[-1])
        contexts[row] = torch.tensor(episode.task.context)
        action = np.clip(actor.act(padded, contexts)[row].numpy(), -1, 1)
        executed = np.clip(action + drawn[len(actions)], -1, 1) if noise else action
        observation, reward, terminated, truncated, info = env.step(executed)
        observations.append(np.asarray(observation, np.float32))
        actions.append(action)
        rewards.append(float(reward))
        done = terminated or truncated
    return Trajectory(
        {"state": np.stack(observations)},
        np.stack(actions),
        np.array(rewards),
        episode.task.name,
        episode.seed,
        info["success"],
        info["metrics"],
    )


def assert_same_bits(found: Sequence[Trajectory], expected: Sequence[Trajectory]) -> None:
    for a, b in zip(found, expected, strict=True):
        for field in ("state", "actions", "rewards"):
            ours, theirs = getattr(a, field), getattr(b, field)
            assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes()), (a.task, field)
        assert (a.task, a.seed, a.success, dict(a.metrics)) == (b.task, b.seed, b.success, dict(b.metrics))


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("scale", [0.02, 0.3])
def test_an_episode_has_the_bits_of_gymnasiums_loop(scale: float, noise: float) -> None:
    suite, actor = HalfCheetahVelocity(reference=None), NetActor(scale)
    episodes = [Episode(suite.tasks[index], 2**40 + index) for index in (0, 3, 4, 9)]
    found = rollout(actor, suite, episodes, noise=noise)
    assert_same_bits(found, [gymnasium_loop(actor, suite, e, row, noise) for row, e in enumerate(episodes)])


@pytest.mark.parametrize("horizon", [1, 2, 9, 61])
def test_short_episodes_and_successes_too(horizon: int) -> None:
    suite = HalfCheetahVelocity(targets=(0, 0.2), horizon=horizon, tolerance=0.3, reference=None)
    episodes = [Episode(task, seed) for task in suite.tasks for seed in range(12)]
    found = rollout(NetActor(0.02), suite, episodes)
    expected = [gymnasium_loop(NetActor(0.02), suite, episode, row, 0.0) for row, episode in enumerate(episodes)]
    assert_same_bits(found, expected)
    assert horizon < 4 or any(trajectory.success for trajectory in found)


def test_it_is_the_faster_way_that_is_tested_here() -> None:
    suite = HalfCheetahVelocity(reference=None)
    episodes = [Episode(task, 0) for task in suite.tasks]
    assert isinstance(simulate(suite, episodes), HalfCheetahSimulation)
    # A task of one's own, e.g. with further options, is for the environment to understand.
    odd = replace(suite.tasks[0], options={"velocity": 1.0, "wind": 3.0})
    assert isinstance(simulate(suite, [*episodes, Episode(odd, 0)]), GymnasiumSimulation)


def test_two_simulations_do_not_disturb_each_other() -> None:
    suite = HalfCheetahVelocity(reference=None, horizon=30)
    episodes = [Episode(suite.tasks[index], index) for index in (2, 7)]
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 1, 6)).astype(np.float32)
    alone = []
    for episode in episodes:
        simulation = simulate(suite, [episode])
        simulation.reset()
        alone.append([simulation.step(np.arange(1), action)[0]["state"] for action in actions])
    both = [simulate(suite, [episode]) for episode in episodes]
    for simulation in both:
        simulation.reset()
    for step, action in enumerate(actions):
        for simulation, expected in zip(both, alone, strict=True):
            np.testing.assert_array_equal(simulation.step(np.arange(1), action)[0]["state"], expected[step])


def test_what_a_subclass_changes_is_heeded() -> None:
    class Slippery(HalfCheetahVelocity):
        def make(self, *arguments: object, **options: object):  # type: ignore[no-untyped-def]
            env = super().make(*arguments, **options)  # type: ignore[arg-type]
            env.unwrapped.model.geom_friction[:] = 0.01  # type: ignore[attr-defined]
            return env

    suite, slippery = HalfCheetahVelocity(reference=None, horizon=60), Slippery(reference=None, horizon=60)
    episodes = [Episode(suite.tasks[9], 5)]
    (stock,), (changed,) = rollout(UniformActor(6), suite, episodes), rollout(UniformActor(6), slippery, episodes)
    assert not np.array_equal(stock.state, changed.state)
    assert_same_bits([changed], [gymnasium_loop(UniformActor(6), slippery, episodes[0], 0, 0.0)])
