"""The idea in its smallest form: ask where the policy is ignorant, not where it is already right."""

import pytest
import torch
from selection_world import (
    OppositeGoals,
    SeparatedPolicy,
    SmoothSteer,
    context_of,
    demonstrate,
    mlp,
    rows_of,
    statistics_of,
)

from amf_lightning.policies.protocol import Policy
from amf_lightning.selection.information_gain import Joint, Variance
from amf_lightning.selection.informed import InformationGain, InformedSelector, UncertaintySampling
from amf_lightning.selection.occupancies import ImportanceWeighted, PolicyRollout
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.task import Episode
from amf_lightning.uncertainty.embeddings import LastLayerFeatures, LossGradient

SUITE = OppositeGoals()


def mean_success(policy: Policy, task: int) -> float:
    runs = rollout(policy, SUITE, [Episode(SUITE.tasks[task], seed) for seed in range(20)])
    return sum(bool(run.success) for run in runs) / len(runs)


def perfect_on(task: int) -> SeparatedPolicy:
    policy = SeparatedPolicy(SUITE)
    policy.master(SUITE.tasks[task])
    assert mean_success(policy, task) == 1
    assert mean_success(policy, 1 - task) == 0
    return policy


@pytest.mark.parametrize("perfect", [0, 1])
@pytest.mark.parametrize(
    "selector",
    [
        InformationGain(),
        InformationGain(aggregate=Joint()),
        InformationGain(LastLayerFeatures(), ImportanceWeighted(), Variance()),
        InformationGain(LastLayerFeatures(of_pretrained=False), PolicyRollout()),
        InformationGain(LastLayerFeatures(unit_norm=True), PolicyRollout()),
        InformationGain(LossGradient(), ImportanceWeighted()),
        UncertaintySampling(),
        UncertaintySampling(LossGradient(), ImportanceWeighted()),
    ],
)
def test_the_task_that_was_not_learned_is_picked(selector: InformedSelector, perfect: int) -> None:
    policy = perfect_on(perfect)
    statistics = statistics_of(policy, SUITE, demonstrate(SUITE, [perfect] * 5, seed=500, expert=SmoothSteer()))
    # One demonstration of each, so that importance weighting has something to weigh; the policy has not used them.
    known = demonstrate(SUITE, [0, 1], expert=SmoothSteer())
    for seed in range(3):
        context = context_of(SUITE, policy, statistics=statistics, demonstrations=known, seed=seed, round=1)
        selection = selector.select(context, 1)
        assert selection.picks == (1 - perfect,)
        assert selection.scores[0][1 - perfect] > 1.2 * selection.scores[0][perfect]


@pytest.mark.parametrize("perfect", [0, 1])
def test_a_trained_network_asks_for_what_it_was_not_trained_on(perfect: int) -> None:
    """The default selector and a network that was really trained, from the first round on."""
    demonstrations = demonstrate(SUITE, [perfect] * 20, seed=500)
    policy = mlp(SUITE)
    rows = rows_of(SUITE, demonstrations)
    optimiser = torch.optim.Adam(policy.parameters(), 3e-3)
    for _ in range(400):
        optimiser.zero_grad()
        policy.loss(rows).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert mean_success(policy, perfect) == 1
    assert mean_success(policy, 1 - perfect) == 0
    statistics = statistics_of(policy, SUITE, demonstrations)
    for seed in range(3):
        selection = InformationGain().select(context_of(SUITE, policy, statistics=statistics, seed=seed), 1)
        assert selection.picks == (1 - perfect,)


def test_demonstrations_shift_the_choice_and_a_batch_spreads() -> None:
    """Ignorant of both: a batch of two asks for both, and after many of one the other is asked for."""
    policy = SeparatedPolicy(SUITE)
    selector = InformationGain(LastLayerFeatures(statistics=False), PolicyRollout())
    assert sorted(selector.select(context_of(SUITE, policy), 2).picks) == [0, 1]
    known = demonstrate(SUITE, [1, 1, 1])
    assert selector.select(context_of(SUITE, policy, demonstrations=known, round=1), 1).picks == (0,)
