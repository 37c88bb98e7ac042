"""Selectors choose as if what is asked for, and has not come, had come."""

from collections import Counter
from pathlib import Path

import pytest
from selection_world import context_of, demonstrate, mlp, statistics_of

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.learner import Learner
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.experts.limited import LimitedExpert
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.selection.baselines import FixedSchedule, RoundRobin, Uniform
from amf_lightning.selection.context import Selector
from amf_lightning.selection.ensemble import EnsembleDisagreement
from amf_lightning.selection.informed import InformationGain, UncertaintySampling
from amf_lightning.selection.kalman import KalmanScheduler
from amf_lightning.selection.occupancies import Demonstrated, ImportanceWeighted
from amf_lightning.selection.privileged import LearningProgress, Oracle, Rebalancing
from amf_lightning.selection.save import SAVE
from amf_lightning.uncertainty.embeddings import LastLayerFeatures
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()
NAMES = [task.name for task in SUITE.tasks]
pytestmark = pytest.mark.filterwarnings("ignore:The largest variance of the belief")


class Tabled:
    """A lookahead that likes variety: the score is the number of different tasks, and of the first task in part."""

    steps = 0

    def __call__(self, tasks: list[int]) -> float:
        return len(set(tasks)) + 0.1 * list(tasks).count(0)


def learner() -> Learner:
    policy = mlp(SUITE)
    scores = (0.9, 0.2, 0.5, 0.1)
    return Learner(
        policy=mlp(SUITE, seed=4),
        pretrained=frozen_copy(policy),
        statistics=statistics_of(policy, SUITE, demonstrate(SUITE, [0, 0, 1, 1], seed=50)),
        pretraining_counts=(2, 2, 0, 0),
        evaluations=[Evaluation(0, scores, scores, scores, 0.425)],
        lookahead=Tabled(),  # type: ignore[arg-type]
    )


SELECTORS: list[Selector] = [
    Uniform(),
    RoundRobin(),
    FixedSchedule(["goal=1", "goal=-1", "goal=-1", "goal=0.5", "goal=1", "goal=-0.5"]),
    Rebalancing(),
    LearningProgress(),
    KalmanScheduler(),
    Oracle(),
    InformationGain(),
    InformationGain(occupancy=ImportanceWeighted()),
    InformationGain(occupancy=Demonstrated()),
    UncertaintySampling(),
    EnsembleDisagreement(members=2, steps=5),
    SAVE(steps=5),
]


def ids(selector: Selector) -> str:
    return type(selector).__name__


@pytest.mark.parametrize("demonstrated", [[], [0, 3]], ids=["at the start", "later"])
@pytest.mark.parametrize("selector", SELECTORS, ids=ids)
def test_asking_one_by_one_without_an_answer_is_asking_for_a_batch(
    selector: Selector, demonstrated: list[int], tmp_path: Path
) -> None:
    many, single = (Campaign(tmp_path / name, SUITE, selector, seed=3) for name in ("many", "single"))
    for campaign in (many, single):
        for trajectory in demonstrate(SUITE, demonstrated):
            campaign.tell_unasked(trajectory)
        if demonstrated:
            campaign.close_round()
    batch = many.ask(4, learner())
    for number in range(1, 5):
        requests = single.ask(number, learner())
    assert repr(requests) == repr(batch)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_round_robin_repeats_nothing_within_a_cycle_whatever_is_pending(batch: int, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, SUITE, RoundRobin())
    for open_requests in range(batch, 9, batch):
        campaign.ask(open_requests)
    counts = Counter(request.task for request in campaign.pending)
    assert max(counts.values()) - min(counts.get(name, 0) for name in NAMES) <= 1


def test_a_task_whose_last_demonstration_is_pending_is_not_asked_for() -> None:
    context = context_of(SUITE, mlp(SUITE), remaining=(1.0, 1.0, 0.0, 2.0), pending=(0, 3))
    assert context.allowed().tolist() == [False, True, False, True]
    assert context.allowed([3]).tolist() == [False, True, False, False]
    assert context.counts == [0, 0, 0, 0] and context.expected_counts == [1, 0, 0, 1]


def test_a_campaign_asks_a_limited_expert_for_no_more_than_it_has(tmp_path: Path) -> None:
    expert = LimitedExpert(TinyExpert(), dict(zip(NAMES, (1, 0, 2, 0), strict=True)))
    campaign = Campaign(tmp_path, SUITE, Uniform(), expert=expert)
    campaign.ask(2)
    assert Counter(request.task for request in campaign.ask(10)) == {NAMES[0]: 1, NAMES[2]: 2}
    assert campaign.exhausted()
    assert len(campaign.ask(10)) == 3


def test_information_gain_conditions_on_what_is_pending() -> None:
    """The scores change by more than which task is asked for: the belief does."""
    about = learner()
    free = context_of(SUITE, about.policy, pretrained=about.pretrained, statistics=about.statistics)
    batch = InformationGain().select(free, 2)
    known = {"pretrained": about.pretrained, "statistics": about.statistics, "chosen": 1}
    waiting = context_of(SUITE, about.policy, pending=batch.picks[:1], **known)
    alone = InformationGain().select(waiting, 1)
    assert (alone.picks, alone.scores) == (batch.picks[1:], batch.scores[1:])
    assert alone.scores[0][batch.picks[0]] < batch.scores[0][batch.picks[0]]


def test_what_is_pending_and_has_no_expected_states_says_nothing() -> None:
    selector = InformationGain(LastLayerFeatures(statistics=False), Demonstrated())
    policy, demonstrations = mlp(SUITE), demonstrate(SUITE, [0, 1])
    waiting, free = (
        selector.select(context_of(SUITE, policy, demonstrations=demonstrations, remaining=left, pending=pending), 1)
        for left, pending in (((9.0, 9.0, 1.0, 0.0), (2,)), ((9.0, 9.0, 0.0, 0.0), ()))
    )
    assert repr((waiting.picks, waiting.scores)) == repr((free.picks, free.scores))
