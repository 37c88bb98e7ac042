"""Metaworld's tasks as a suite, against Metaworld's own environments."""

from typing import Any

import numpy as np
import pytest
import torch
from metaworld_marks import METAWORLD

from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import check_scorable
from amf_lightning.experts.measure import measure
from amf_lightning.experts.metaworld import MetaworldExpert
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.language import HashedWords
from amf_lightning.suites.metaworld import FOUR, Metaworld, task_sets
from amf_lightning.suites.metaworld_texts import TEXTS
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory

pytestmark = METAWORLD


def shown(suite: Metaworld, episodes: list[Episode]) -> list[Trajectory]:
    return MetaworldExpert(successes_only=False).demonstrate(suite, episodes)


def bits(trajectory: Trajectory) -> tuple[Any, ...]:
    assert trajectory.rewards is not None
    arrays = (trajectory.state, trajectory.actions, trajectory.rewards)
    return trajectory.task, trajectory.success, *(array.tobytes() for array in arrays)


def test_the_sets_are_those_of_the_papers() -> None:
    sets = task_sets()
    assert sets["four"] == FOUR
    assert len(sets["MT10"]) == 10 and len(sets["MT50"]) == 50
    assert set(FOUR) | set(sets["MT10"]) <= set(sets["MT50"])


def test_shipped_reference_returns_score_every_task() -> None:
    suite = Metaworld("MT50")
    check_scorable(suite)
    assert suite.reference is not None
    assert all(expert <= 10 * task.horizon for expert, task in zip(suite.reference.expert, suite.tasks, strict=True))
    assert suite.task("push").horizon == 200 and suite.task("push-back").horizon == 500


def test_reference_returns_are_what_their_command_measures() -> None:
    """The first task of the suite, whose episodes do not depend on how many others there are."""
    shipped = Metaworld("MT50").reference
    assert shipped is not None and task_sets()["MT50"][0] == "assembly"
    found = measure(Metaworld(["assembly"]), MetaworldExpert(successes_only=False), episodes=20)["assembly"]
    assert found.expert == pytest.approx(shipped.expert[0])
    assert found.random == pytest.approx(shipped.random[0], rel=0.05)  # contacts differ in their last bits elsewhere


def test_contexts_are_one_hot_or_one_number() -> None:
    assert torch.equal(Metaworld("MT10").contexts, torch.eye(10))
    suite = Metaworld(["push", "reach", "door-open"], one_hot=False)
    assert suite.contexts.tolist() == [[-1.0], [0.0], [1.0]]
    assert Metaworld(["push"], one_hot=False).contexts.tolist() == [[0.0]]
    other = Metaworld(["reach", "push", "door-open"], one_hot=False)
    assert suite.signature() != other.signature(), "the same number means another task"


def test_a_policy_may_be_told_in_words() -> None:
    assert set(TEXTS) == set(task_sets()["MT50"])
    suite = Metaworld(["push", "door-open"], language=HashedWords(16))
    expected = HashedWords(16).encode([TEXTS["push"], "open the door"])
    assert torch.equal(suite.contexts, torch.from_numpy(expected).float())
    assert [task.name for task in suite.tasks] == ["push", "door-open"] and "tasks" not in suite.signature()
    assert shown(suite, [Episode(suite.tasks[1], 1000)])[0].success


def test_an_episode_is_metaworlds_own_until_it_is_solved() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

    (ours,) = shown(Metaworld(["faucet-open"]), [Episode(Metaworld(["faucet-open"]).tasks[0], 1000)])
    env = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE["faucet-open-v3-goal-observable"]()
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    env.seed(1000)
    observation, _ = env.reset()
    flags = []
    assert ours.rewards is not None
    for step, action in enumerate(ours.actions):
        assert ours.state[step].tobytes() == observation.astype(np.float32).tobytes()
        observation, reward, _, _, info = env.step(action)
        flags.append(bool(info["success"]))
        if not flags[-1]:
            assert ours.rewards[step] == reward
    assert flags == [False] * (ours.length - 1) + [True]
    assert ours.success and ours.episode_return == pytest.approx(10 * 200)


def test_what_is_not_solved_is_worth_less_and_lasts_the_horizon() -> None:
    suite = Metaworld(["coffee-pull"], horizon=30, reference=None)
    (blind,) = rollout(UniformActor(4), suite, [Episode(suite.tasks[0], 1000)])
    assert (blind.length, blind.success) == (30, False)
    assert 0 <= blind.episode_return < 10 * 30


@pytest.mark.parametrize("start", range(0, 50, 10))
def test_an_episode_is_a_function_of_task_and_seed_alone(start: int) -> None:
    """In all fifty: first in a new environment, alone; then in one that was used, among others."""
    names = list(task_sets()["MT50"][start : start + 10])
    suite, used = (Metaworld(names, horizon=25, reference=None) for _ in range(2))
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
        ({"tasks": "MT9"}, "no set 'MT9'; the sets are four, MT10, MT50"),
        ({"tasks": ["psh"]}, "no task 'psh'. Did you mean 'push'?"),
        ({"tasks": ["juggle"]}, "Name one of its tasks: assembly, basketball"),
        ({"tasks": ["push", "push"]}, "different names"),
        ({"tasks": []}, "at least one"),
        ({"horizon": 501}, "between 1 and 500"),
        ({"language": HashedWords(), "one_hot": False}, "leave out one_hot"),
        ({"horizon": 0}, "between 1 and 500"),
        ({"horizon": 100}, "200-step episodes, task 'coffee-push' has 100"),
    ],
)
def test_an_impatient_person_is_told_what_is_wrong(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason.replace("?", r"\?")):
        Metaworld(**options)
