from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.spec import state_specs
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory


class NetActor(nn.Module):
    """A network of the size that policies have, with fixed random weights that move the robot about."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(18, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 6))
        generator = torch.Generator().manual_seed(0)
        for parameter in self.net.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.tanh(self.net(torch.cat([observations, contexts], dim=1)))


class FunctionActor:
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return self.function(observations)


@pytest.fixture(scope="module")
def suite() -> HalfCheetahVelocity:
    return HalfCheetahVelocity(horizon=60, reference=None)


@pytest.fixture(scope="module")
def episodes(suite: HalfCheetahVelocity) -> list[Episode]:
    return [Episode(task, 100 + seed) for task in suite.tasks for seed in range(4)]


@pytest.fixture(scope="module")
def expected(suite: HalfCheetahVelocity, episodes: list[Episode]) -> list[Trajectory]:
    return rollout(NetActor(), suite, episodes)


def bits(array: NDArray[Any] | None) -> tuple[object, bytes]:
    assert array is not None
    return array.dtype, array.tobytes()


def same_bits(a: Trajectory, b: Trajectory) -> bool:
    return (
        (a.task, a.seed, a.success, dict(a.metrics)) == (b.task, b.seed, b.success, dict(b.metrics))
        and {name: bits(entry) for name, entry in a.observations.items()}
        == {name: bits(entry) for name, entry in b.observations.items()}
        and bits(a.actions) == bits(b.actions)
        and bits(a.rewards) == bits(b.rewards)
    )


def test_trajectories_come_in_the_order_of_the_episodes(episodes: list[Episode], expected: list[Trajectory]) -> None:
    assert [(t.task, t.seed) for t in expected] == [(e.task.name, e.seed) for e in episodes]
    assert all(t.length == 60 for t in expected)
    assert len({t.state.tobytes() for t in expected}) == len(episodes)


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(40)), count=st.integers(1, 40))
def test_an_episode_does_not_depend_on_slot_neighbours_chunks_or_history(
    suite: HalfCheetahVelocity, episodes: list[Episode], expected: list[Trajectory], order: list[int], count: int
) -> None:
    again = rollout(NetActor(), suite, [episodes[i] for i in order[:count]])
    assert all(same_bits(found, expected[i]) for found, i in zip(again, order, strict=False))


def test_an_episode_does_not_depend_on_a_fresh_suite(episodes: list[Episode], expected: list[Trajectory]) -> None:
    fresh = HalfCheetahVelocity(horizon=60, reference=None)
    assert same_bits(rollout(NetActor(), fresh, episodes[7:8])[0], expected[7])


def test_an_episode_does_not_depend_on_threads_or_the_global_generators(
    suite: HalfCheetahVelocity, episodes: list[Episode], expected: list[Trajectory]
) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            np.random.seed(threads)
            again = rollout(NetActor(), suite, episodes[:8])
            assert torch.get_num_threads() == threads
            assert all(same_bits(*pair) for pair in zip(again, expected, strict=False))
    finally:
        torch.set_num_threads(before)


def test_noise_changes_what_is_executed_but_not_the_recorded_action(
    suite: HalfCheetahVelocity, episodes: list[Episode], expected: list[Trajectory]
) -> None:
    actor = NetActor()
    noisy = rollout(actor, suite, episodes[:3], noise=0.2)
    assert not np.array_equal(noisy[0].state, expected[0].state)
    contexts = torch.tensor([episodes[0].task.context] * 60)
    clean = actor.act(torch.from_numpy(noisy[0].state[:-1]), contexts).detach().numpy()
    np.testing.assert_allclose(noisy[0].actions, clean, atol=1e-5)
    # The noise is keyed by the episode: alone or among others, it is the same.
    assert same_bits(rollout(actor, suite, episodes[2:3], noise=0.2)[0], noisy[2])


def test_uniform_actions_are_uniform_and_keyed(suite: HalfCheetahVelocity, episodes: list[Episode]) -> None:
    episodes = [Episode(episode.task, seed) for seed, episode in enumerate(episodes)]
    first = rollout(UniformActor(6), suite, episodes)
    assert same_bits(rollout(UniformActor(6), suite, episodes[5:6])[0], first[5])
    actions = np.concatenate([trajectory.actions for trajectory in first])
    counts, _ = np.histogram(actions, bins=10, range=(-1, 1))
    expectation = actions.size / 10
    assert np.abs(counts - expectation).max() < 5 * np.sqrt(expectation)
    assert abs(np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1]) < 0.1


def test_steps_are_reported(suite: HalfCheetahVelocity, episodes: list[Episode]) -> None:
    steps: list[int] = []
    rollout(NetActor(), suite, episodes[:5], width=4, on_step=steps.append)
    assert sum(steps) == 5 * 60
    assert set(steps) == {4, 1}


def test_an_action_that_is_not_a_number_is_refused(suite: HalfCheetahVelocity, episodes: list[Episode]) -> None:
    calls = 0

    def broken(observations: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.full((len(observations), 6), torch.nan if calls > 3 else 0.0)

    with pytest.raises(UserCodeError, match=r"Task 'v=-3', seed 100, step 3: the action is not finite"):
        rollout(FunctionActor(broken), suite, episodes[:2])


def test_an_action_of_the_wrong_shape_is_refused(suite: HalfCheetahVelocity, episodes: list[Episode]) -> None:
    with pytest.raises(UserCodeError, match=r"FunctionActor\.act gave shape \[32, 5\].*6 action dimensions"):
        rollout(FunctionActor(lambda observations: torch.zeros(len(observations), 5)), suite, episodes[:1])


def test_an_observation_of_the_wrong_shape_is_refused(episodes: list[Episode]) -> None:
    class Wrong(HalfCheetahVelocity):
        observation = state_specs(18)

    with pytest.raises(InputError, match=r"the observation has shape \(17,\), the suite says \(18,\)"):
        rollout(UniformActor(6), Wrong(horizon=60, reference=None), episodes[:1])


@pytest.mark.parametrize(("width", "noise"), [(0, 0.0), (32, -0.1)])
def test_impossible_options_are_refused(suite: HalfCheetahVelocity, width: int, noise: float) -> None:
    with pytest.raises(InputError, match="width >= 1 and noise >= 0"):
        rollout(UniformActor(6), suite, [], width=width, noise=noise)
