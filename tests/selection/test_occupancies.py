from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from selection_world import context_of, demonstrate, mlp, rows_of

from amf_lightning.errors import InputError
from amf_lightning.experts.scripted import IntegratorExpert
from amf_lightning.selection.baselines import RoundRobin
from amf_lightning.selection.occupancies import (
    Demonstrated,
    ImportanceWeighted,
    PolicyRollout,
    StateBlocks,
)
from amf_lightning.selection.roles import thinned_steps
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)


def rows(blocks: StateBlocks, task: int) -> torch.Tensor:
    return blocks.states.state[blocks.tasks == task].flatten(0, 1)


def test_kept_steps_are_evenly_spaced_and_phases_interleave() -> None:
    assert thinned_steps(12, 4).tolist() == [1, 4, 7, 10]
    early, late = thinned_steps(200, 16, 0.25), thinned_steps(200, 16, 0.75)
    assert ((early < late)[:-1] & (late[:-1] < early[1:])).all()
    assert thinned_steps(3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert int(thinned_steps(7, 7, 0.999).max()) == 6


def test_rollouts_are_of_the_current_policy_and_the_same_every_round() -> None:
    expected = [PolicyRollout(states=4).expected(context_of(SUITE, POLICY, round=number)) for number in (0, 5)]
    assert torch.equal(expected[0].targets.states.state, expected[1].targets.states.state)
    episodes = context_of(SUITE, POLICY).rollout_episodes(2)
    runs = rollout(POLICY, SUITE, [episode for episode in episodes if episode.task.index == 2])
    for blocks, run in ((expected[0].targets, runs[0]), (expected[0].candidates, runs[1])):
        assert torch.equal(rows(blocks, 2), torch.from_numpy(run.state)[thinned_steps(12, 4)])
    assert expected[0].environment_steps == 4 * 2 * 12


@pytest.mark.parametrize("judge_by_expert", [False, True])
def test_candidates_and_targets_are_different_states(judge_by_expert: bool) -> None:
    known = demonstrate(SUITE, [0, 1, 1, 1])
    occupancy = PolicyRollout(states=4, judge_by_expert=judge_by_expert)
    expected = occupancy.expected(context_of(SUITE, POLICY, demonstrations=known))
    for task in range(4):
        assert not torch.equal(rows(expected.candidates, task), rows(expected.targets, task))
    for blocks in (expected.candidates, expected.targets):
        sums = torch.zeros(4, dtype=torch.float64).index_add(0, blocks.tasks, blocks.weights)
        assert torch.allclose(sums, torch.ones(4, dtype=torch.float64))


def test_a_demonstrated_task_is_observed_where_the_expert_went_and_judged_where_the_policy_goes() -> None:
    known = demonstrate(SUITE, [1, 1, 1])
    expected = PolicyRollout(states=4).expected(context_of(SUITE, POLICY, demonstrations=known))
    steps = thinned_steps(12, 4)
    latest = torch.cat([torch.from_numpy(demonstration.state)[steps] for demonstration in known[1:]])
    assert torch.equal(rows(expected.candidates, 1), latest)
    runs = rollout(POLICY, SUITE, context_of(SUITE, POLICY).rollout_episodes(2)[2:4])
    assert torch.equal(rows(expected.targets, 1), torch.cat([torch.from_numpy(run.state)[steps] for run in runs]))
    assert expected.environment_steps == 4 * 2 * 12


def test_judged_by_the_expert_a_demonstrated_task_is_not_rolled_out() -> None:
    known = demonstrate(SUITE, [0, 1, 1, 1])
    asked: list[int] = []

    def watched(acting: Acting, episodes: Sequence[Episode]) -> list[Trajectory]:
        asked.extend(episode.task.index for episode in episodes)
        return rollout(acting, SUITE, episodes)

    context = context_of(SUITE, POLICY, demonstrations=known, rollout=watched)
    expected = PolicyRollout(states=4, judge_by_expert=True).expected(context)
    assert asked == [2, 2, 3, 3]
    assert expected.environment_steps == 4 * 12
    steps = thinned_steps(12, 4)
    assert torch.equal(rows(expected.targets, 1), torch.from_numpy(known[2].state)[steps])
    assert torch.equal(rows(expected.candidates, 1), torch.from_numpy(known[3].state)[steps])
    early, late = thinned_steps(12, 4, 0.25), thinned_steps(12, 4, 0.75)
    assert torch.equal(rows(expected.targets, 0), torch.from_numpy(known[0].state)[early])
    assert torch.equal(rows(expected.candidates, 0), torch.from_numpy(known[0].state)[late])


def test_judged_by_the_expert_nothing_is_simulated_once_every_task_was_demonstrated() -> None:
    known = demonstrate(SUITE, [0, 1, 2, 3])
    context = context_of(SUITE, POLICY, demonstrations=known, rollout=None)
    assert PolicyRollout(judge_by_expert=True).expected(context).environment_steps == 0


def test_importance_weighting_reads_demonstrations_for_every_task() -> None:
    known = demonstrate(SUITE, [0, 3])
    expected = ImportanceWeighted(temperature=1e6, states=4).expected(context_of(SUITE, POLICY, demonstrations=known))
    assert expected is not None and expected.candidates is expected.targets
    blocks = expected.candidates
    assert blocks.tasks.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert torch.allclose(blocks.weights, torch.full((8,), 0.5, dtype=torch.float64), atol=0.01)
    assert torch.equal(blocks.states.state[0], blocks.states.state[2])
    assert torch.equal(blocks.states.contexts[:, 0, 0], SUITE.contexts[blocks.tasks, 0])
    assert blocks.states.actions is not None
    assert torch.equal(blocks.states.actions[1], torch.from_numpy(known[1].actions)[thinned_steps(12, 4)])
    assert all(1.9 < expected.diagnostics[f"effective_sample_size/{task.name}"] <= 2 for task in SUITE.tasks)


def test_negligible_weights_are_dropped_and_the_rest_renormalised() -> None:
    known = demonstrate(SUITE, [0, 1, 2, 3])
    expected = ImportanceWeighted(temperature=1.0, states=4).expected(context_of(SUITE, POLICY, demonstrations=known))
    assert expected is not None
    blocks = expected.candidates
    assert len(blocks.tasks) < 16
    assert float(blocks.weights.min()) > 1e-3
    sums = torch.zeros(4, dtype=torch.float64).index_add(0, blocks.tasks, blocks.weights)
    assert torch.allclose(sums, torch.ones(4, dtype=torch.float64))
    assert 0 <= expected.diagnostics["collapsed_importance_weights"] <= 4


def test_collapsed_weights_are_reported() -> None:
    # A policy that reacts to its context so strongly that only a task's own demonstration explains the actions.
    policy = mlp(SUITE)
    with torch.no_grad():
        policy.get_parameter("backbone.0.weight")[:, 2] *= 20
    policy.action_std = 1e-3
    known = demonstrate(SUITE, [0, 3])
    expected = ImportanceWeighted(temperature=1.0).expected(context_of(SUITE, policy, demonstrations=known))
    assert expected is not None
    assert expected.diagnostics["collapsed_importance_weights"] == 4
    assert len(expected.candidates.tasks) == 4
    tempered = ImportanceWeighted(min_effective_sample_size=1.5).expected(
        context_of(SUITE, policy, demonstrations=known)
    )
    assert tempered is not None
    assert tempered.diagnostics["collapsed_importance_weights"] == 0
    assert tempered.diagnostics["effective_sample_size/goal=1"] == pytest.approx(1.5, abs=1e-6)


def test_demonstrated_tasks_are_looked_at_through_their_own_latest_demonstrations() -> None:
    known = demonstrate(SUITE, [2, 0, 2, 2, 0])
    expected = Demonstrated(demonstrations=2, states=6).expected(context_of(SUITE, POLICY, demonstrations=known))
    assert expected is not None and expected.environment_steps == 0
    assert sorted(expected.candidates.tasks.tolist()) == sorted(expected.targets.tasks.tolist()) == [0, 2]
    steps = thinned_steps(known[0].length, 6)
    for task, shown, judged in ((0, 4, 1), (2, 3, 2)):
        for blocks, trajectory in ((expected.candidates, known[shown]), (expected.targets, known[judged])):
            assert torch.equal(rows(blocks, task), torch.from_numpy(trajectory.state)[steps])
            assert blocks.states.actions is not None
            actions = blocks.states.actions[blocks.tasks == task].flatten(0, 1)
            assert torch.equal(actions, torch.from_numpy(trajectory.actions)[steps])


def test_one_demonstration_is_observed_and_judged_at_different_states() -> None:
    [known] = demonstrate(SUITE, [1])
    expected = Demonstrated(states=4).expected(context_of(SUITE, POLICY, demonstrations=[known]))
    assert expected is not None
    observations = torch.from_numpy(known.state)
    assert torch.equal(rows(expected.candidates, 1), observations[[2, 5, 8, 11]])
    assert torch.equal(rows(expected.targets, 1), observations[[0, 3, 6, 9]])


def test_tasks_without_a_demonstration_are_asked_first_in_the_order_of_round_robin() -> None:
    occupancy = Demonstrated()
    for seed in range(5):
        fresh = context_of(SUITE, POLICY, seed=seed)
        order = RoundRobin().select(fresh, 4).picks
        assert occupancy.prefill(fresh, 3) == order[:3]
        assert occupancy.prefill(fresh, 6)[:4] == order
        begun = context_of(SUITE, POLICY, seed=seed, demonstrations=demonstrate(SUITE, order[:2]), round=2)
        assert occupancy.prefill(begun, 5) == order[2:]
    known = demonstrate(SUITE, [0, 1, 2])
    limited = context_of(SUITE, POLICY, demonstrations=known, remaining=(900, 900, 900, 0))
    assert occupancy.prefill(limited, 2) == ()
    lost = context_of(SUITE, POLICY, demonstrations=known, remaining=(0, 0, 0, 900))
    assert occupancy.prefill(lost, 2) == (3, 3)


def test_a_demonstration_that_ended_early_stands_for_its_whole_horizon() -> None:
    [known] = demonstrate(SUITE, [1])
    short = replace(known, observations={"state": known.state[:6]}, actions=known.actions[:5], rewards=None)
    context = context_of(SUITE, POLICY, demonstrations=[short])
    for occupancy in (PolicyRollout(), Demonstrated(), ImportanceWeighted()):
        expected = occupancy.expected(context)
        assert expected is not None
        for blocks in (expected.candidates, expected.targets):
            assert (blocks.horizons == 12).all()


def test_the_default_temperature_is_the_number_of_action_entries_of_an_episode() -> None:
    suite = Integrator()
    policy, count = mlp(suite), suite.tasks[0].horizon * suite.action_dim
    known = IntegratorExpert().demonstrate(suite, [Episode(suite.tasks[task], task) for task in (0, 4, 7)])
    context = context_of(suite, policy, demonstrations=known)
    default, same, other = (
        ImportanceWeighted(temperature=temperature).expected(context)
        for temperature in (None, float(count), float(suite.tasks[0].horizon))
    )
    assert default is not None and same is not None and other is not None
    assert default.diagnostics == same.diagnostics != other.diagnostics


def test_rollouts_start_where_the_seed_and_the_task_say() -> None:
    def seeds(seed: int, number: int) -> list[int]:
        context = context_of(SUITE, POLICY, seed=seed, round=number)
        return [episode.seed for episode in context.rollout_episodes(2)]

    assert len(set(seeds(0, 0) + seeds(1, 0))) == 2 * 4 * 2
    assert seeds(0, 0) == seeds(0, 3)


def test_nothing_collected_gives_no_expectation() -> None:
    assert ImportanceWeighted().expected(context_of(SUITE, POLICY)) is None
    assert Demonstrated().expected(context_of(SUITE, POLICY)) is None
    assert context_of(SUITE, POLICY).demonstrated_steps is None


def test_the_history_holds_every_state_with_the_context_of_its_own_task() -> None:
    known = demonstrate(SUITE, [2, 0])
    steps = context_of(SUITE, POLICY, demonstrations=known).demonstrated_steps
    assert steps is not None
    expected = rows_of(SUITE, known)
    assert torch.equal(steps.state, expected.state)
    assert torch.equal(steps.contexts, expected.contexts)
    assert torch.equal(steps.shown_actions, expected.shown_actions)
    assert steps.tasks.tolist() == [2] * 12 + [0] * 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolicyRollout(episodes=1), "at least 2"),
        (lambda: PolicyRollout(states=0), "at least one state"),
        (lambda: ImportanceWeighted(states=0), "at least one state"),
        (lambda: Demonstrated(states=0), "at least one state"),
        (lambda: Demonstrated(demonstrations=0), "at least 1"),
        (lambda: ImportanceWeighted(temperature=0.5), "at least 1"),
        (lambda: ImportanceWeighted(min_effective_sample_size=0.5), "at least 1"),
        (lambda: ImportanceWeighted(temperature=2.0, min_effective_sample_size=2.0), "not both"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=message):
        make()
