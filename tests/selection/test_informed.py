import math
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from selection_world import context_of, demonstrate, mlp, statistics_of

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, uses_of
from amf_lightning.selection.baselines import RoundRobin, Uniform
from amf_lightning.selection.context import SelectionContext, Selector
from amf_lightning.selection.ensemble import EnsembleDisagreement
from amf_lightning.selection.information_gain import Aggregate, Joint, Marginal, Variance
from amf_lightning.selection.informed import (
    InformationGain,
    InformedSelector,
    UncertaintySampling,
)
from amf_lightning.selection.occupancies import Demonstrated, ImportanceWeighted, Occupancy, PolicyRollout
from amf_lightning.selection.privileged import LearningProgress, Oracle, Rebalancing
from amf_lightning.selection.reference_rollouts import ReferenceRollouts
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.uncertainty.embeddings import Embedding, LastLayerFeatures, LossGradient
from amf_lightning.uncertainty.kernels import RBF, Kernel
from amf_lightning.uncertainty.projected_gradient import ProjectedGradient
from tiny import TinySuite

SUITE = TinySuite()
PAIRS = [
    (LastLayerFeatures(), PolicyRollout()),
    (LastLayerFeatures(statistics=False), PolicyRollout(judge_by_expert=True)),
    (LastLayerFeatures(of_pretrained=False), PolicyRollout()),
    (LastLayerFeatures(statistics=False, unit_norm=True), PolicyRollout()),
    (LastLayerFeatures(), ImportanceWeighted()),
    (LossGradient(), ImportanceWeighted()),
    (LossGradient(condition_on_history=True), ImportanceWeighted(min_effective_sample_size=2.0)),
    (ProjectedGradient(dimension=32), ImportanceWeighted()),
    (ProjectedGradient(dimension=32, condition_on_history=True), ImportanceWeighted()),
    (Kernel(), PolicyRollout()),
]
pytestmark = pytest.mark.filterwarnings("ignore:The largest variance of the belief")


def context(suite: TinySuite = SUITE, demonstrated: tuple[int, ...] = (0, 3), number: int = 2) -> SelectionContext:
    """π0 has seen the first two goals, and some demonstrations have come since."""
    pretrained = mlp(suite)
    statistics = statistics_of(pretrained, suite, demonstrate(suite, [0, 0, 1, 1], seed=50))
    return context_of(
        suite,
        mlp(suite, seed=4),
        pretrained=pretrained,
        statistics=statistics,
        demonstrations=demonstrate(suite, demonstrated),
        round=number,
    )


@pytest.mark.parametrize(("embedding", "occupancy"), PAIRS)
def test_every_pair_scores_every_task_and_repeats_itself_after_a_restart(
    embedding: Embedding, occupancy: Occupancy
) -> None:
    for selector in (InformationGain, UncertaintySampling):
        first = selector(embedding, occupancy).select(context(), 3)
        again = selector(embedding, occupancy).select(context(), 3)
        assert first == again
        assert len(first.picks) == len(first.scores) == 3
        assert all(math.isfinite(score) and score >= 0 for row in first.scores for score in row)
        assert first.picks[0] == first.scores[0].index(max(first.scores[0]))
        assert all(f"variance/{task.name}" in first.diagnostics for task in SUITE.tasks)


def test_the_cache_of_an_earlier_round_changes_nothing() -> None:
    selector = InformationGain(LastLayerFeatures(of_pretrained=False))
    early = context(demonstrated=())
    selector.select(replace(early, round=0), 1)
    warm = selector.select(replace(early, round=2), 1)
    assert warm == InformationGain(LastLayerFeatures(of_pretrained=False)).select(replace(early, round=2), 1)


def test_steps_of_the_simulator_are_those_of_an_uninterrupted_run() -> None:
    early = context(demonstrated=())
    stored, remade = LastLayerFeatures(), LastLayerFeatures(of_pretrained=False)
    steps = [
        InformationGain(embedding).select(replace(early, round=number), 1).diagnostics["environment_steps"]
        for embedding in (stored, remade)
        for number in (0, 3)
    ]
    once = 4 * 2 * 12  # every task, two episodes, the horizon
    assert steps == [once, once, 2 * once, once]  # π0 is rolled out in the first round, where it is needed at all
    paper = InformationGain(LossGradient(), ImportanceWeighted()).select(context(), 1)
    assert paper.diagnostics["environment_steps"] == 0


def counted(suite: TinySuite, steps: list[int], **known: Any) -> SelectionContext:
    """A context in which nothing was collected yet, and whose simulator counts into `steps`."""

    def run(acting: Acting, episodes: Sequence[Episode]) -> list[Trajectory]:
        return rollout(acting, suite, episodes, on_step=steps.append)

    return replace(context(suite, demonstrated=()), rollout=run, **known)


@pytest.mark.parametrize(
    "selector",
    [
        InformationGain(LastLayerFeatures(of_pretrained=False), ImportanceWeighted()),
        InformationGain(LastLayerFeatures(statistics=False), Demonstrated()),
        InformationGain(Kernel(), Demonstrated()),
        EnsembleDisagreement(members=2, steps=2, occupancy=Demonstrated()),
    ],
    ids=lambda selector: type(selector).__name__,
)
def test_rollouts_of_pi0_are_counted_in_the_first_round_even_if_nothing_is_scored_then(selector: Selector) -> None:
    assert Need.SIMULATOR in selector.needs
    steps: list[int] = []
    assert math.isnan(selector.select(counted(SUITE, steps, round=0), 1).scores[0][0])
    assert sum(steps) == 4 * 2 * 12  # every task, two episodes, the horizon
    steps.clear()
    known = demonstrate(SUITE, [0, 1, 2, 3])
    later = counted(SUITE, steps, round=4, demonstrations=known)
    resumed = deepcopy(selector)
    resumed.__dict__["_reference"] = ReferenceRollouts()
    for one in (selector, resumed):  # simulated again after a restart, counted once
        assert one.select(replace(later, pretrained=later.pretrained), 1).diagnostics["environment_steps"] == 0


def test_nothing_collected_means_a_uniform_draw_for_the_papers_combination() -> None:
    selector = InformationGain(LossGradient(), ImportanceWeighted())
    picks = [selector.select(replace(context(demonstrated=()), seed=seed), 1) for seed in range(40)]
    assert {selection.picks[0] for selection in picks} == {0, 1, 2, 3}
    assert all(math.isnan(score) for score in picks[0].scores[0])


@pytest.mark.parametrize(("embedding", "occupancy"), PAIRS)
def test_tasks_that_ran_out_are_not_asked(embedding: Embedding, occupancy: Occupancy) -> None:
    limited = replace(context(), remaining=(0, 900, 0, 900))
    assert set(InformationGain(embedding, occupancy).select(limited, 6).picks) <= {1, 3}


def sum_of(tasks: Sequence[int]) -> float:
    return float(sum(tasks))


@pytest.mark.parametrize(
    "selector",
    [
        *(InformationGain(embedding, occupancy) for embedding, occupancy in PAIRS),
        InformationGain(occupancy=Demonstrated()),
        UncertaintySampling(),
        EnsembleDisagreement(members=2, steps=2),
        EnsembleDisagreement(members=2, steps=2, occupancy=Demonstrated()),
        Uniform(),
        RoundRobin(),
        Rebalancing(),
        LearningProgress(),
        Oracle(),
    ],
    ids=lambda selector: type(selector).__name__,
)
@pytest.mark.parametrize("demonstrated", [(), (0, 3), (1, 2, 3)])
def test_a_batch_never_asks_for_more_than_there_is(selector: Selector, demonstrated: tuple[int, ...]) -> None:
    scores = (0.9, 0.0, 0.5, 0.1)
    limited = replace(
        context(demonstrated=demonstrated),
        remaining=(2, 0, 1, 1),
        pretraining_counts=(2, 2, 0, 0),
        scores=scores,
        score_history=(scores,),
        lookahead=sum_of,
    )
    assert sorted(selector.select(limited, 4).picks) == [0, 0, 2, 3]
    with pytest.raises(InputError, match="no task has a demonstration left"):
        selector.select(limited, 5)


@pytest.mark.parametrize(("aggregate", "tolerance"), [(Marginal(0.1), 0.02), (Joint(0.1), 0.06)])
def test_keeping_twice_as_many_states_changes_scores_by_a_few_per_cent(aggregate: Aggregate, tolerance: float) -> None:
    long = context(TinySuite(horizon=200), demonstrated=(2,))
    one, two = (
        torch.tensor(InformationGain(occupancy=PolicyRollout(states=count), aggregate=aggregate).select(long, 1).scores)
        for count in (16, 32)
    )
    assert float((one - two).abs().max()) < tolerance * float(one.max())


@pytest.mark.parametrize("aggregate", [Marginal(), Joint()])
@pytest.mark.parametrize("embedding", [LastLayerFeatures(), LossGradient(), ProjectedGradient(dimension=32), Kernel()])
def test_demonstrated_tasks_are_scored_once_all_have_a_demonstration(
    embedding: Embedding, aggregate: Aggregate
) -> None:
    selector = InformationGain(embedding, Demonstrated(), aggregate)
    mixed = selector.select(context(demonstrated=(0, 3)), 3)
    assert set(mixed.picks[:2]) == {1, 2} and mixed.picks[2] in (0, 3)
    assert all(math.isnan(score) for row in mixed.scores[:2] for score in row)
    assert [math.isnan(score) for score in mixed.scores[2]] == [False, True, True, False]
    full = selector.select(context(demonstrated=(0, 1, 2, 3, 3)), 2)
    assert all(math.isfinite(score) for row in full.scores for score in row)
    assert full.diagnostics["environment_steps"] == 0
    assert selector.select(context(demonstrated=()), 6).diagnostics == {}


def test_gradients_with_rollouts_are_refused() -> None:
    for selector in (InformationGain, UncertaintySampling):
        for embedding in (LossGradient(), ProjectedGradient()):
            with pytest.raises(InputError, match="Gradient needs the expert's actions"):
                selector(embedding, PolicyRollout())


def test_costs_turn_gains_into_gains_per_cost() -> None:
    plain = InformationGain().select(context(), 1)
    dear = SUITE.tasks[plain.picks[0]].name
    selector = InformationGain(costs={dear: 100.0})
    selector.check(SUITE, 5)
    costly = selector.select(context(), 1)
    assert costly.picks != plain.picks
    factors = [100.0 if task.name == dear else 1.0 for task in SUITE.tasks]
    assert costly.scores[0] == pytest.approx([score / c for score, c in zip(plain.scores[0], factors, strict=True)])


@pytest.mark.parametrize(
    ("embedding", "occupancy"),
    [
        (LastLayerFeatures(), PolicyRollout()),
        (Kernel(), PolicyRollout()),
        (LossGradient(condition_on_history=True), ImportanceWeighted()),
        (ProjectedGradient(dimension=32, condition_on_history=True), ImportanceWeighted()),
    ],
)
def test_noise_makes_what_was_demonstrated_count_for_less(embedding: Embedding, occupancy: Occupancy) -> None:
    name = SUITE.tasks[3].name
    plain, noisy = (
        InformationGain(embedding, occupancy, noise=noise).select(context(), 1) for noise in (None, {name: 25.0})
    )
    assert noisy.diagnostics[f"variance/{name}"] > plain.diagnostics[f"variance/{name}"]
    same = InformationGain(embedding, occupancy, noise={name: 1.0}).select(context(), 1)
    assert same.scores[0] == pytest.approx(plain.scores[0], rel=1e-9)


@pytest.mark.parametrize("embedding", [LastLayerFeatures(), Kernel()])
def test_a_demonstration_may_carry_a_noise_of_its_own(embedding: Embedding) -> None:
    """On top of that of its task: 5 times 5 is 25, but what is expected has only the task's."""
    name, known = SUITE.tasks[3].name, context()
    carried = [replace(d, noise=5.0 if d.task == name else 1.0) for d in known.demonstrations]
    belief = (InformationGain(embedding, noise=noise) for noise in ({name: 5.0}, {name: 25.0}, None))
    both = next(belief).select(replace(known, demonstrations=carried), 1)
    task_alone = next(belief).select(known, 1)
    own_alone = next(belief).select(replace(known, demonstrations=carried), 1)
    for task in SUITE.tasks:
        key = f"variance/{task.name}"
        assert both.diagnostics[key] == pytest.approx(task_alone.diagnostics[key])
        assert both.diagnostics[key] >= own_alone.diagnostics[key]
    assert both.scores[0][3] > task_alone.scores[0][3]
    assert own_alone.diagnostics[f"variance/{name}"] < both.diagnostics[f"variance/{name}"]


def test_costs_and_noise_must_be_positive_and_of_tasks_that_exist() -> None:
    make: Callable[..., InformationGain] = InformationGain
    for option in ("costs", "noise"):
        with pytest.raises(InputError, match=f"{option} of task 'goal=1' is 0"):
            make(**{option: {"goal=1": 0.0}})
        with pytest.raises(InputError, match="goal=7"):
            make(**{option: {"goal=7": 2.0}}).check(SUITE, 5)


def test_joint_with_the_same_states_in_both_roles_is_refused() -> None:
    with pytest.raises(InputError, match="other than the candidate's"):
        InformationGain(LossGradient(), ImportanceWeighted(), Joint())


@pytest.mark.parametrize("selector", [InformationGain, UncertaintySampling])
def test_the_ridge_must_be_positive(selector: type[InformedSelector]) -> None:
    with pytest.raises(InputError, match="ridge"):
        selector(LastLayerFeatures(), PolicyRollout(), rho=0.0)


@pytest.mark.parametrize("selector", [InformationGain, UncertaintySampling])
def test_the_ridge_is_the_prior_precision(selector: type[InformationGain] | type[UncertaintySampling]) -> None:
    selection = selector(Kernel(RBF(), 1.0, 1.0), rho=0.25).select(context(demonstrated=()), 1)
    assert [selection.diagnostics[f"variance/{task.name}"] for task in SUITE.tasks] == pytest.approx([4.0] * 4)


def test_what_is_used_follows_the_parts() -> None:
    assert uses_of(InformationGain()) == ["pre-training statistics", "simulator rollouts"]
    assert uses_of(InformationGain(LossGradient(), ImportanceWeighted())) == []
    unaided = LastLayerFeatures(statistics=False)  # its scale is that of π0's rollouts
    assert uses_of(InformationGain(unaided, ImportanceWeighted())) == ["simulator rollouts"]
    remade = LastLayerFeatures(of_pretrained=False)
    assert uses_of(InformationGain(remade, ImportanceWeighted())) == ["pre-training statistics", "simulator rollouts"]


def test_variance_warns_together_with_rollouts() -> None:
    with pytest.warns(UserWarning, match="unbounded"):
        InformationGain(aggregate=Variance())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InformationGain(LossGradient(), ImportanceWeighted(), Variance())


@pytest.mark.filterwarnings("default:The largest variance of the belief")
def test_a_kappa_that_drowns_all_variances_warns_once() -> None:
    selector = InformationGain(aggregate=Marginal(kappa=1e4))
    with pytest.warns(UserWarning, match="smaller kappa") as caught:
        first = selector.select(context(), 1)
        selector.select(context(number=3), 1)
    assert len([entry for entry in caught if "kappa" in str(entry.message)]) == 1
    assert first.diagnostics["log10_variance_over_kappa/largest"] < -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InformationGain(aggregate=Marginal(kappa=1e-6)).select(context(), 1)


def test_the_largest_variance_is_what_uncertainty_sampling_asks_for() -> None:
    selection = UncertaintySampling().select(context(), 1)
    variances = [selection.diagnostics[f"variance/{task.name}"] for task in SUITE.tasks]
    assert selection.scores[0] == pytest.approx(tuple(variances))


@pytest.mark.parametrize("costs", [None, {SUITE.tasks[1].name: 4.0}])
def test_what_a_pick_of_information_gain_teaches_adds_up_to_its_score(costs: dict[str, float] | None) -> None:
    chosen = InformationGain(costs=costs).select(context(), 3)
    for pick, scores, row in zip(chosen.picks, chosen.scores, chosen.teaches, strict=True):
        assert len(row) == len(SUITE.tasks) and sum(row) == pytest.approx(scores[pick])


@pytest.mark.parametrize(
    "selector", [UncertaintySampling(), InformationGain(aggregate=Variance(), occupancy=Demonstrated())]
)
def test_who_cannot_tell_what_a_pick_teaches_says_nothing(selector: InformedSelector) -> None:
    assert selector.select(context(), 2).teaches == ()


def test_of_prefilled_picks_nobody_knows_what_they_teach() -> None:
    chosen = InformationGain(Kernel(), Demonstrated()).select(context(demonstrated=(0, 1, 2)), 2)
    assert [len(row) for row in chosen.teaches] == [0, 4], "task 3 was never shown and is asked first"
