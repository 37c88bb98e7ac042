"""What a learner, or an expert, may do to an environment, and an environment to them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from fragile import BREAKS_AT, FragileEnv, FragileSuite, SaysOfSuccess
from torch import Tensor

from amf_lightning.errors import AmfError, InputError, UserCodeError
from amf_lightning.experts.checked import objection
from amf_lightning.simulation.outcomes import check_learner
from amf_lightning.simulation.repetition import repeats
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.failure import FailureReason
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import Steer, TinySuite


class Left:
    """Goes left at half speed, whatever the goal."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.full_like(contexts, -0.5)


class Diverged(Left):
    """Gives no number left of -0.35."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        wrong = (observations[:, :1] < -BREAKS_AT) & (contexts > 0)
        return torch.where(wrong, torch.nan, super().act(observations, contexts))


class Nothing:
    """Gives no number at all."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.full_like(contexts, torch.nan)


def episodes_of(suite: TaskSuite, seeds: tuple[int, ...] = (1, 2)) -> list[Episode]:
    return [Episode(task, seed) for task in suite.tasks for seed in seeds]


def bits(trajectory: Trajectory) -> tuple[Any, ...]:
    arrays = (*trajectory.observations.values(), trajectory.actions, trajectory.rewards)
    return trajectory.task, trajectory.seed, trajectory.success, *(np.asarray(array).tobytes() for array in arrays)


WAYS = {
    "raises": FailureReason.EXCEPTION,
    "observation": FailureReason.OBSERVATION,
    "reward": FailureReason.REWARD,
    "action": FailureReason.ACTION,
}


@pytest.mark.parametrize(("way", "reason"), WAYS.items())
def test_an_episode_of_a_learner_breaks_off_and_those_beside_it_do_not(way: str, reason: FailureReason) -> None:
    suite, actor = FragileSuite(way), Diverged() if way == "action" else Left()
    sound = rollout(Left(), TinySuite(), episodes_of(suite))
    found = rollout(actor, suite, episodes_of(suite), may_fail=True)
    for whole, part in zip(sound, found, strict=True):
        if part.task in ("goal=-1", "goal=-0.5"):
            assert part.failure is None and bits(part) == bits(whole)
            continue
        assert part.failure is not None and part.failure.reason == reason and not part.success
        assert f"Task '{part.task}', seed {part.seed}, step" in part.failure.told
        steps = part.length
        assert 1 < steps < whole.length and whole.rewards is not None and part.rewards is not None
        # The states before each step, and none after the last one.
        assert part.state.tobytes() == whole.state[:steps].tobytes()
        assert part.rewards[:-1].tobytes() == whole.rewards[: steps - 1].tobytes()
        assert part.rewards[-1] == part.rewards[:-1].min() and np.isfinite(part.actions).all()
        alone = rollout(actor, suite, [Episode(suite.task(part.task), part.seed or 0)], may_fail=True)
        assert bits(alone[0]) == bits(part)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_in_a_demonstration_is_refused(way: str) -> None:
    suite, actor = FragileSuite(way), Diverged() if way == "action" else Left()
    with pytest.raises(AmfError, match=r"[Tt]ask 'goal=0.5', seed \d.*(joint limit|not finite)"):
        rollout(actor, suite, episodes_of(suite))


def test_what_broke_off_is_no_demonstration() -> None:
    suite = FragileSuite()
    (broken,) = rollout(Left(), suite, [Episode(suite.tasks[3], 1)], may_fail=True)
    reason = objection(suite, suite.tasks[3].name, broken)
    assert reason is not None and "it broke off (Task 'goal=1', seed 1, step" in reason


@pytest.mark.parametrize("way", ["raises", "observation"])
def test_an_environment_in_which_something_broke_is_not_used_again(way: str) -> None:
    suite = FragileSuite(way)
    for _ in range(2):
        first = rollout(Left(), suite, episodes_of(suite), may_fail=True)
        assert sum(trajectory.failure is not None for trajectory in first) == 4
        assert all(trajectory.length > 1 for trajectory in first)
    assert all(env.closed == env.broken for env in suite.made)
    assert len(suite.made) == 8 + 4, "those that are sound stay"


def test_an_initial_state_that_cannot_be_had_is_a_failure_but_one_task_that_cannot_be_begun_is_refused() -> None:
    suite = FragileSuite("one reset")
    found = rollout(Steer(), suite, episodes_of(suite), may_fail=True)
    sound = rollout(Steer(), TinySuite(), episodes_of(suite))
    for whole, part in zip(sound, found, strict=True):
        if part.seed == 2:
            assert bits(part) == bits(whole)
        else:
            assert part.failure is not None and part.failure.reason == FailureReason.RESET and part.length == 1
            assert "RuntimeError: stuck" in part.failure.told
            assert np.abs(part.state[0, 0]) <= 0.2, "another initial state of the task"
    with pytest.raises(UserCodeError, match=r"seed 1, step 0: the environment failed with RuntimeError: stuck"):
        rollout(Steer(), suite, episodes_of(suite))
    with pytest.raises(UserCodeError, match=r"Task 'goal=-1', seed \d+, step 0: .* stuck"):
        rollout(Steer(), FragileSuite("every reset"), episodes_of(suite), may_fail=True)


class OldEnvironment(TinySuite):
    """Gives what environments gave years ago: four values."""

    def make(self, task: Any, render_mode: str | None = None) -> Any:
        env = super().make(task)
        stock = env.step
        env.step = lambda action: stock(action)[:4]  # type: ignore[method-assign,assignment,return-value]
        return env


def test_an_environment_that_gives_what_it_may_not_is_refused_whoever_acts() -> None:
    suite = OldEnvironment()
    with pytest.raises(UserCodeError, match=r"ValueError: not enough values .* must give"):
        rollout(Left(), suite, episodes_of(suite), may_fail=True)


def test_what_fails_at_the_first_step_of_every_episode_is_no_failure_of_a_learner() -> None:
    suite = FragileSuite("one reset")
    broken = rollout(Left(), suite, episodes_of(suite, (1,)), may_fail=True)
    with pytest.raises(UserCodeError, match=r"stuck.*so at the first step of all episodes here"):
        check_learner(broken, "episodes here")
    with pytest.warns(UserWarning, match=r"1 of 2 episodes here broke off .*could not begin 1.*: Task"):
        check_learner([broken[0], *rollout(Left(), TinySuite(), episodes_of(suite)[:1])], "episodes here")
    nothing = lambda observations, contexts: torch.full_like(contexts, torch.nan)  # noqa: E731
    diverged = rollout(
        type("Nan", (), {"act": staticmethod(nothing)})(), suite, episodes_of(suite, (2,)), may_fail=True
    )
    assert {trajectory.length for trajectory in diverged} == {1}
    with pytest.raises(InputError, match="the policy has diverged"):
        check_learner(diverged, "episodes here")


def test_a_full_disk_is_no_failure_of_a_learner() -> None:
    suite = FragileSuite("full disk")
    with pytest.raises(OSError, match="No space left"):
        rollout(Left(), suite, episodes_of(suite), may_fail=True)


class HalfCheetahByGymnasium(HalfCheetahVelocity):
    """The same, stepped by gymnasium."""

    def simulation(self, episodes: Sequence[Episode]) -> None:
        return None


@pytest.mark.parametrize("broken", [(0,), (1, 2), (0, 1, 2)])
def test_a_simulation_of_its_own_goes_on_without_the_rows_that_broke_off(broken: tuple[int, ...]) -> None:
    class Counting:
        """NaN in some rows from the fourth step on."""

        calls = 0

        def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
            self.calls += 1
            actions = torch.sin(observations[:, :6] * 7)
            if self.calls > 3:
                actions[list(broken)] = torch.nan
            return actions

    found = []
    for suite in (HalfCheetahVelocity(horizon=20, reference=None), HalfCheetahByGymnasium(horizon=20, reference=None)):
        episodes = [Episode(task, 5) for task in suite.tasks[:3]]
        found.append(rollout(Counting(), suite, episodes, may_fail=True))
    assert [trajectory.length for trajectory in found[0]] == [4 if row in broken else 20 for row in range(3)]
    assert list(map(bits, found[0])) == list(map(bits, found[1]))


@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_episodes_run_at_once_than_the_suite_says_and_the_bits_stay(parallel: int) -> None:
    FragileEnv.alive, FragileEnv.most_alive = [], 0
    suite = FragileSuite("none", parallel)
    found = rollout(Steer(), suite, episodes_of(suite))
    assert FragileEnv.most_alive == len(suite.made) == parallel
    assert list(map(bits, found)) == list(map(bits, rollout(Steer(), TinySuite(), episodes_of(suite))))


def test_a_configuration_says_how_many_run_at_once() -> None:
    tasks = [GymnasiumTask("one", [1.0])]
    made: Callable[..., GymnasiumSuite] = lambda **options: GymnasiumSuite("Pendulum-v1", tasks, **options)  # noqa: E731
    assert made(parallel_episodes=1).parallel_episodes == 1 and made().parallel_episodes is None
    with pytest.raises(InputError, match="parallel_episodes is 0; it must be at least 1"):
        made(parallel_episodes=0)


@pytest.mark.parametrize("said", ["yes", "", None, float("nan"), np.array([]), np.array([True, False]), {}, [1.0, 2.0]])
def test_a_success_that_is_neither_true_nor_false_is_refused_by_name(said: Any) -> None:
    suite = SaysOfSuccess(said)
    with pytest.raises(UserCodeError, match=r"Task 'goal=-1', seed 1, step 0: info\['success'\] is .*true or false"):
        rollout(Left(), suite, episodes_of(suite), may_fail=True)


@pytest.mark.parametrize(("said", "success"), [(np.True_, True), (0, False), (np.array([1.0]), True), (0.0, False)])
def test_numbers_and_arrays_of_one_say_it_too(said: Any, success: bool) -> None:
    suite = SaysOfSuccess(said)
    assert rollout(Left(), suite, episodes_of(suite)[:1])[0].success is success


@pytest.mark.parametrize(
    ("suite", "answer"),
    [
        ("tiny.TinySuite", True),
        ("fragile.FragileSuite", True),
        ("fragile.GloballyRandomSuite", False),
        ("fragile.ForgetfulSuite", False),
        ("amf_lightning.suites.halfcheetah.HalfCheetahVelocity", None),
    ],
)
def test_what_does_not_repeat_is_found(suite: str, answer: bool | None) -> None:
    module, _, name = suite.rpartition(".")
    made: TaskSuite = getattr(__import__(module, fromlist=[name]), name)()
    assert repeats(made, 0) is answer
    made.parallel_episodes = 1
    assert repeats(made, 0) is None
