"""What every retention, importance, expert, suite and evaluation keeps to."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from field_policies import CameraSuite
from making import every, made
from selection_world import demonstrate, mlp, rows_of

from amf_lightning.catalogue import classes, resolve
from amf_lightning.evaluation.evaluators import Evaluator
from amf_lightning.experts.expert import Expert
from amf_lightning.needs import Need, Part
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.retention.retention import Retention, RetentionContext
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.task import Episode, TaskSuite, dimensions_of
from tiny import TinySuite

SUITE = TinySuite()
SUITES = [*every("suite"), "CameraSuite"]
"""Of the package, which has none that simulates pictures, and one that does."""


def prepared(name: str) -> tuple[Retention, Policy, RetentionContext]:
    """A retention, the policy that it trains, and what it was told."""
    retention, pretrained = made("retention", name, SUITE), mlp(SUITE)
    pretrained.normalised.fill_(True)
    context = RetentionContext(SUITE, frozen_copy(pretrained), seed=0, pretraining_counts=(1, 1, 0, 0))
    policy = retention.wrap(pretrained, SUITE)
    retention.prepare(context, policy)
    return retention, policy, context


@pytest.mark.parametrize("name", every("retention"))
def test_a_retention_gives_what_the_training_step_takes(name: str) -> None:
    retention, policy, _ = prepared(name)
    steps = rows_of(SUITE, demonstrate(SUITE, [2, 3]))
    parameters = dict(policy.named_parameters())
    for parameter, mask in retention.masks().items():
        assert mask.dtype == torch.bool and mask.shape == parameters[parameter].shape
    each, penalty = retention.loss(policy, steps), retention.penalty(policy)
    assert each.shape == (len(steps),) and (penalty is None or penalty.shape == ())
    (each.mean() + (0 if penalty is None else penalty)).backward()  # type: ignore[no-untyped-call]
    retention.before_step(policy)
    retention.after_step(policy)
    replayed = retention.replay(frozenset({2, 3}))
    assert replayed is None or (len(replayed) > 0 and replayed.everything().actions is not None)
    assert all(isinstance(value, float) for value in retention.measure(policy, SUITE).values())


@pytest.mark.parametrize("name", every("retention"))
def test_a_retention_starts_from_the_pre_trained_policy_and_repeats_itself(name: str) -> None:
    (_, policy, context), (_, again, _) = prepared(name), prepared(name)
    steps = rows_of(SUITE, demonstrate(SUITE, [0, 1]))
    assert torch.equal(policy.act(steps), context.pretrained.act(steps)), "nothing was trained yet"
    assert torch.equal(policy.act(steps), again.act(steps))
    first, second = (prepared(name)[0].replay(frozenset()) for _ in range(2))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert torch.equal(first.everything().shown_actions, second.everything().shown_actions)


@pytest.mark.parametrize("name", every("importance"))
def test_an_importance_scores_every_weight(name: str) -> None:
    pretrained = mlp(SUITE)
    context = RetentionContext(SUITE, frozen_copy(pretrained), seed=0, pretraining_counts=(1, 1, 0, 0))
    importance = made("importance", name, SUITE).compute(context)
    assert {n: tuple(t.shape) for n, t in importance.items()} == {
        n: tuple(p.shape) for n, p in pretrained.named_parameters()
    }
    assert all(bool((tensor >= 0).all()) for tensor in importance.values())


@pytest.mark.parametrize("key", ["retention", "importance", "selector", "embedding", "occupancy", "evaluation"])
def test_a_part_says_what_it_needs_and_what_to_choose_instead(key: str) -> None:
    for parameter in every(key):
        part = made(key, parameter.values[0], SUITE)
        assert isinstance(part, Part) and all(isinstance(need, Need) for need in part.needs)
        own = set(part.needs) - {need for inner in part.components.values() for need in inner.needs}
        missing = own - set(part.does_without) - {Need.EXPERT_ACTIONS}
        assert part.instead or not missing, f"{type(part).__name__} does not say what to choose instead of it"


@pytest.mark.parametrize("key", ["retention", "importance", "selector", "embedding", "occupancy"])
def test_what_a_part_names_first_to_choose_instead_does_not_need_what_may_be_missing(key: str) -> None:
    for parameter in every(key):
        part = made(key, parameter.values[0], SUITE)
        named = [word for word in re.findall(r"[A-Z]\w+", part.instead) if word in classes(key)]
        own = set(part.needs) - set(part.does_without)
        if named:
            needed: tuple[Need, ...] = resolve(key, named[0]).needs  # type: ignore[attr-defined]
            assert not own & set(needed), f"{type(part).__name__} sends its user to {named[0]}"


@pytest.mark.parametrize("name", every("expert"))
def test_an_expert_gives_equal_requests_equal_demonstrations(name: str) -> None:
    suite: TaskSuite = Integrator()
    expert: Expert = made("expert", name, suite)
    if name == "TrainedExpert":
        from amf_lightning.suites.halfcheetah import HalfCheetahVelocity

        suite = HalfCheetahVelocity(targets=(0, 1), horizon=10, reference=None)
        expert.successes_only = False  # type: ignore[attr-defined]
    episodes = [Episode(task, 7) for task in suite.tasks[:2]]
    first, second = (expert.demonstrate(suite, episodes) for _ in range(2))
    for one, other, episode in zip(first, second, episodes, strict=True):
        assert (one is None) == (other is None) == (name == "AwaitedExpert")
        if one is None or other is None:
            continue
        assert one.task == episode.task.name and one.actions.tobytes() == other.actions.tobytes()
    assert all(left > 0 for left in expert.remaining(suite, [0] * len(suite.tasks)))


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_says_what_it_is(name: str) -> None:
    suite: TaskSuite = CameraSuite() if name == "CameraSuite" else made("suite", name, SUITE)
    assert [task.index for task in suite.tasks] == list(range(len(suite.tasks)))
    assert len({task.name for task in suite.tasks}) == len(suite.tasks) == len({task.context for task in suite.tasks})
    assert suite.contexts.shape == (len(suite.tasks), suite.context_dim)
    assert math.isclose(float(suite.distribution.sum()), 1)
    signature = json.loads(json.dumps(suite.signature()))
    assert signature == suite.signature() and dimensions_of(signature) == suite.dimensions


@pytest.mark.parametrize("name", SUITES)
def test_an_episode_of_a_suite_depends_on_task_and_seed_alone(name: str) -> None:
    suite: TaskSuite = CameraSuite() if name == "CameraSuite" else made("suite", name, SUITE)
    if suite.simulator is None:
        return

    class Still:
        def act(self, observations: object, contexts: torch.Tensor) -> torch.Tensor:
            return contexts.new_zeros(len(contexts), suite.action_dim)

    episodes = [Episode(suite.tasks[number % len(suite.tasks)], number) for number in range(3)]
    together, alone = rollout(Still(), suite, episodes), rollout(Still(), suite, episodes[-1:])
    last = alone[0].observations
    assert all(seen.tobytes() == last[entry].tobytes() for entry, seen in together[-1].observations.items())
    assert together[0].specs == dict(suite.observation)


@pytest.mark.parametrize("name", every("evaluation"))
def test_an_evaluation_says_how_scores_come_about_and_repeats_its_episodes(name: str, tmp_path: Path) -> None:
    evaluation: Evaluator = made("evaluation", name, SUITE)
    evaluation.check(SUITE)
    first, second = (evaluation.episodes(SUITE, 2, 5) for _ in range(2))
    assert first == second and evaluation.method
    assert len(first) in (0, 2 * len(SUITE.tasks)) and bool(first) == (Need.SIMULATOR in evaluation.needs)
    assert evaluation.reported(tmp_path, 3, SUITE) is None, "nobody has reported anything"
