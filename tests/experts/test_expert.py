import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.controller import Actor
from amf_lightning.tasks.task import Episode, TaskSuite


class GoalsSeen:
    """Does nothing but note the goals that it is given."""

    def __init__(self) -> None:
        self.goals: set[float] = set()

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        self.goals |= set(contexts[:, 0].tolist())
        return torch.zeros(len(observations), 6)


class Made(ActingExpert):
    """An expert around a given actor."""

    def __init__(self, actor: Actor, noise: float = 0.0, successes_only: bool = True, max_attempts: int = 5) -> None:
        super().__init__(noise, successes_only, max_attempts)
        self.made = actor

    def actor(self, suite: TaskSuite) -> Actor:
        return self.made


class OddSeedsSucceed(HalfCheetahVelocity):
    """Whether an episode succeeds depends on its first observation alone, so about every second seed does."""

    def __init__(self) -> None:
        super().__init__([0], horizon=3, reference=None)
        self.calls = 0

    def episode_success(self, flags: Sequence[bool]) -> bool:
        self.calls += 1
        return self.calls % 2 == 0


@pytest.fixture
def still() -> HalfCheetahVelocity:
    return HalfCheetahVelocity([0, 3], horizon=20, reference=None)


def test_one_demonstration_for_each_request_in_order(still: HalfCheetahVelocity) -> None:
    episodes = [Episode(still.tasks[i % 2], seed) for i, seed in enumerate((5, 6, 7, 5))]
    found = Made(GoalsSeen(), successes_only=False).demonstrate(still, episodes)
    assert [(t.task, t.seed) for t in found] == [("v=0", 5), ("v=3", 6), ("v=0", 7), ("v=3", 5)]


def test_equal_requests_get_equal_demonstrations_whatever_is_asked_beside(still: HalfCheetahVelocity) -> None:
    expert = Made(GoalsSeen(), noise=0.3, successes_only=False)
    many = expert.demonstrate(still, [Episode(still.tasks[1], seed) for seed in range(5)])
    (one,) = expert.demonstrate(still, [Episode(still.tasks[1], 3)])
    assert one.state.tobytes() == many[3].state.tobytes()


def test_failed_attempts_are_repeated_from_other_initial_states_and_the_order_stays() -> None:
    suite = OddSeedsSucceed()
    episodes = [Episode(suite.tasks[0], seed) for seed in range(4)]
    found = Made(GoalsSeen()).demonstrate(suite, episodes)
    # The second and the fourth succeed at once; of the two retries the second does, then the first.
    assert [t.seed == e.seed for t, e in zip(found, episodes, strict=True)] == [False, True, False, True]
    assert all(t.success for t in found)
    assert len({t.state.tobytes() for t in found}) == 4


def test_an_expert_that_never_succeeds_is_reported(still: HalfCheetahVelocity) -> None:
    with pytest.raises(InputError, match=r"did not succeed at task 'v=3' .* in 3 attempts .*max_attempts"):
        Made(GoalsSeen(), max_attempts=3).demonstrate(still, [Episode(task, 0) for task in still.tasks])


def test_the_attempts_are_as_many_as_allowed(still: HalfCheetahVelocity) -> None:
    steps: list[int] = []
    with pytest.raises(InputError):
        Made(GoalsSeen(), max_attempts=3).demonstrate(still, [Episode(still.tasks[1], 0)], on_step=steps.append)
    assert sum(steps) == 3 * 20


def test_failures_are_kept_if_successes_are_not_asked_for(still: HalfCheetahVelocity) -> None:
    (found,) = Made(GoalsSeen(), successes_only=False).demonstrate(still, [Episode(still.tasks[1], 0)])
    assert not found.success


def test_noise_is_executed_and_clean_actions_are_recorded(still: HalfCheetahVelocity) -> None:
    episodes = [Episode(still.tasks[0], 1)]
    (clean,) = rollout(GoalsSeen(), still, episodes)
    (noisy,) = Made(GoalsSeen(), noise=0.3, successes_only=False).demonstrate(still, episodes)
    assert np.array_equal(noisy.actions, np.zeros((20, 6)))
    assert np.array_equal(noisy.state[0], clean.state[0])
    assert not np.allclose(noisy.state[1:], clean.state[1:])


@pytest.mark.parametrize("one_hot", [False, True])
def test_the_actor_is_told_goals_not_contexts(one_hot: bool) -> None:
    suite = HalfCheetahVelocity([-3, 6], horizon=2, one_hot=one_hot, reference=None)
    actor = GoalsSeen()
    Made(actor, successes_only=False).demonstrate(suite, [Episode(suite.tasks[1], 0)] * 32)
    assert actor.goals == {2.0}


@pytest.mark.parametrize("options", [{"noise": -0.1}, {"max_attempts": 0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    make: Callable[..., Made] = Made
    with pytest.raises(InputError, match="noise >= 0 and max_attempts >= 1"):
        make(GoalsSeen(), **options)


def test_no_request_gives_no_demonstration(still: HalfCheetahVelocity) -> None:
    assert Made(GoalsSeen()).demonstrate(still, []) == []


def test_tasks_are_frozen(still: HalfCheetahVelocity) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        still.tasks[0].index = 3  # type: ignore[misc]
