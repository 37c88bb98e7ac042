"""What the policy does not do yet decides, and what is known of the expert says what a demonstration does for it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from selection_world import context_of, demonstrate, mlp, statistics_of

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.evidence import Evidence, Measured, OccupancyGap, PrequentialError, ReportedOutcomes
from amf_lightning.selection.gap_reduction import GapReduction
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.occupancies import Demonstrated
from amf_lightning.selection.seen_needs import seen_needs
from amf_lightning.uncertainty.embeddings import LastLayerFeatures
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)
NAMES = [task.name for task in SUITE.tasks]


def context(shown: list[int], **known: Any) -> SelectionContext:
    demonstrations = demonstrate(SUITE, shown)
    statistics = statistics_of(POLICY, SUITE, demonstrate(SUITE, [0]))
    return context_of(SUITE, POLICY, **{"statistics": statistics, "demonstrations": demonstrations, **known})


def told(*gaps: float) -> dict[str, float]:
    return {f"measured_gap/{name}": gap for name, gap in zip(NAMES, gaps, strict=True)}


def reported(**options: Any) -> GapReduction:
    return GapReduction(ReportedOutcomes(error=0.1), **options)


def apart() -> GapReduction:
    """Tasks have nothing to do with each other, and no belief is asked."""
    return reported(transfer=0.0, trust=0.0)


def test_without_evidence_it_is_information_gain() -> None:
    given = context([0, 1, 1], round=1)
    mine, theirs = GapReduction(None).select(given, 3), InformationGain().select(given, 3)
    assert (mine.picks, mine.scores, dict(mine.diagnostics)) == (theirs.picks, theirs.scores, dict(theirs.diagnostics))


def test_where_nothing_is_seen_to_be_left_information_chooses_and_says_it_in_units_of_gaps() -> None:
    rounds = (told(0, 0, 0, 0),) * 3
    given = context([1, 1, 2], round=3, told=rounds, asked=((1,), (1,), (2,)), scores=(1.0,) * 4)
    mine, by_gaps = (reported(linearity=0.0, **more).select(given, 2) for more in ({}, {"resolution": 0.0}))
    theirs = InformationGain().select(replace(given, fresh_starts=True), 2)
    assert max(mine.diagnostics[f"gap/{name}"] for name in NAMES) < 0.05
    assert mine.picks == theirs.picks != by_gaps.picks
    unit = max(by_gaps.scores[0]) / max(theirs.scores[0])
    for scores, information in zip((*mine.scores, *mine.teaches), (*theirs.scores, *theirs.teaches), strict=True):
        assert scores == pytest.approx([unit * each for each in information])
    assert mine.starts == theirs.starts and mine.diagnostics.items() >= by_gaps.diagnostics.items()
    # One task in which something is seen to be left is enough, and then nothing is different.
    seen = replace(given, scores=(1.0, 1.0, 0.5, 1.0))
    assert reported(linearity=0.0).select(seen, 2) == reported(linearity=0.0, resolution=0.0).select(seen, 2)


def test_it_asks_for_the_largest_gap_and_for_it_less_the_more_it_was_shown() -> None:
    selector = apart()
    assert selector.select(context([], scores=(0.9, 0.4, 0.8, 0.7)), 1).picks == (1,)
    # What is known of a task counts π0's demonstration of task 0, too; two of task 1 count for more.
    scores = selector.select(context([1, 1], round=1, told=({},), asked=((1, 1),), scores=(0.5,) * 4), 1).scores[0]
    assert scores[2] == pytest.approx(scores[3], rel=0.05)
    assert min(scores[2:]) > scores[0] > scores[1]


def test_a_batch_goes_to_one_task_where_most_is_left_there_and_spreads_where_gaps_are_alike() -> None:
    selector = apart()
    assert len(set(selector.select(context([], scores=(0.95, 0.5, 0.5, 0.5)), 3).picks)) == 3
    assert selector.select(context([], scores=(1.0, 0.0, 1.0, 0.99)), 3).picks == (1, 1, 1)


def test_what_is_pending_counts_as_if_it_had_come() -> None:
    given = context([], scores=(0.5, 0.2, 0.3, 0.4))
    assert apart().select(given, 1).picks == (1,)
    assert apart().select(replace(given, pending=(1,)), 1).picks == (2,)


def test_costs_divide_the_reduction() -> None:
    given = context([], scores=(0.5,) * 4)
    cheap = GapReduction(ReportedOutcomes(0.1), InformationGain(costs={NAMES[3]: 0.5}), 0.0, trust=0.0)
    assert cheap.select(given, 1).picks == (3,)
    plain = apart().select(given, 1).scores[0]
    assert cheap.select(given, 1).scores[0] == pytest.approx((*plain[:3], 2 * plain[3]))


def test_rounds_that_somebody_else_chose_say_nothing_and_their_demonstrations_count() -> None:
    given = context([1, 1, 2], round=2, told=({}, {}), asked=((1, 1), (2,)), scores=(0.5,) * 4)
    for selector in (reported(), apart()):
        at_once = replace(given, round=1, told=({},), asked=((1, 1, 2),))
        selections = [selector.select(each, 2) for each in (given, at_once)]
        assert selections[0].picks == selections[1].picks
        for mine, other in zip(*(selection.scores for selection in selections), strict=True):
            assert mine == pytest.approx(other, rel=0.1)  # gaps drift twice, not once


def test_what_came_in_the_open_round_counts_like_what_is_pending() -> None:
    before = context([1], round=1, told=({},), asked=((1,),), scores=(0.5, 0.2, 0.3, 0.4))
    arrived = context([1, 2], round=1, told=({},), asked=((1,),), scores=(0.5, 0.2, 0.3, 0.4))
    for selector in (reported(), apart()):
        pending = selector.select(replace(before, pending=(2,)), 2)
        assert selector.select(arrived, 2).scores == pending.scores != selector.select(before, 2).scores


def test_rollouts_begin_elsewhere_in_every_round_and_are_made_once() -> None:
    starts: list[list[int]] = []
    for number in (0, 1, 2):
        given = context([], round=number)
        simulate = given.rollout
        seeds: list[int] = []

        def counted(actor: Any, episodes: Any, simulate: Any = simulate, seeds: list[int] = seeds) -> Any:
            seeds += [episode.seed for episode in episodes]
            return simulate(actor, episodes)

        selection = GapReduction().select(replace(given, rollout=counted), 1)
        starts.append(seeds)
        assert selection.diagnostics["environment_steps"] >= 2 * len(NAMES) * SUITE.tasks[0].horizon
    # Two of each task; later π0, which the policy is at first, is rolled out anew in the task that its file covers.
    assert [len(seeds) for seeds in starts] == [8, 8 + 2, 8 + 2]
    assert starts[1][:2] == starts[2][:2] == starts[0][:2]
    assert not set(starts[1][2:]) & set(starts[2][2:]) and not set(starts[1][2:]) & set(starts[0])


def test_it_needs_what_its_parts_need() -> None:
    assert Need.SIMULATOR in GapReduction().needs and Need.EVALUATIONS not in GapReduction().needs
    assert Need.EVALUATIONS in reported().needs
    assert (
        GapReduction(None, InformationGain(occupancy=Demonstrated())).needs
        == InformationGain(occupancy=Demonstrated()).needs
    )
    assert isinstance(GapReduction().evidence, OccupancyGap)
    first, second = GapReduction(), GapReduction()
    assert first.evidence is not second.evidence and first.information is not second.information


def test_where_no_states_are_expected_tasks_are_taken_for_independent() -> None:
    blind = GapReduction(ReportedOutcomes(), InformationGain(occupancy=Demonstrated()), linearity=0.0)
    given = context([0, 1], round=1, scores=(0.9, 0.8, 0.3, 0.5))
    assert blind.select(given, 2).picks == apart().select(given, 2).picks


@pytest.mark.parametrize(
    "options",
    [
        {"worlds": 0},
        {"drift": 0.0},
        {"transfer": -1.0},
        {"transfer": 1.1},
        {"trust": 1.0},
        {"linearity": 1.0},
        {"resolution": 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_numbers_that_mean_nothing_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="GapReduction needs"):
        GapReduction(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a standard deviation is positive"):
        ReportedOutcomes(0.0)


def one_hot() -> TinySuite:
    suite = TinySuite()
    rows = torch.eye(len(suite.tasks)).tolist()
    suite.tasks = tuple(replace(task, context=tuple(row)) for task, row in zip(suite.tasks, rows, strict=True))
    return suite


def test_tasks_are_linear_where_the_gaps_of_the_first_policy_say_so_and_where_they_can() -> None:
    def said(
        selector: GapReduction, suite: TinySuite = SUITE, known: Sequence[int] = (0, 0, 0), **more: Any
    ) -> set[str]:
        policy = mlp(suite)
        statistics = statistics_of(policy, suite, demonstrate(SUITE, list(known)))
        given = {"scores": (0.9, 0.7, 0.6, 0.4), "statistics": statistics, **more}
        return set(selector.select(context_of(suite, policy, **given), 1).diagnostics)

    word, in_words = "tasks_are_linear", TinySuite()
    in_words.language = {"class": "HashedWords"}
    assert word in said(reported())
    assert word not in said(reported(), scores=(1.0, 0.0, 0.0, 0.0))  # nothing of what it was not shown
    # Where nobody can know, or a kernel says it.
    for options in ({"linearity": 0.0}, {"trust": 0.5}, {"transfer": 0.0}):
        assert word not in said(reported(**options))
    for suite in (one_hot(), in_words):
        assert word not in said(reported(), suite)
    assert word not in said(reported(), known=(0, 1, 2, 3))
    plain = InformationGain(LastLayerFeatures(statistics=False))
    assert word in said(reported(information=plain))
    assert word not in said(reported(information=plain), statistics=None)


def test_tasks_are_linear_until_what_was_not_shown_turns_out_not_to_be_done() -> None:
    """Two demonstrations of the farthest task have come."""
    near, never, unseen = (0.1, 0.3, 0.4, 0.6), (0.0, 1.0, 1.0, 1.0), (math.nan,) * 4
    for first, now, are_linear in (
        (near, (0.1, 0.1, 0.1, 0.2), True),
        (near, (0.1, 0.9, 0.9, 0.0), False),  # what was shown alone was learned
        (never, (0.1, 0.1, 0.1, 0.2), False),
        (unseen, (0.1, 0.1, 0.1, 0.2), False),
    ):
        given = context(
            [3, 3],
            round=2,
            told=(told(*first), told(*now)),
            asked=((3,), (3,)),
            scores=tuple(1 - gap for gap in now),
            statistics=statistics_of(POLICY, SUITE, demonstrate(SUITE, [0, 0, 0])),
        )
        free, never_linear = (reported(**options).select(given, 1) for options in ({}, {"linearity": 0.0}))
        assert ("tasks_are_linear" in free.diagnostics) == are_linear
        assert (free.scores != never_linear.scores) == are_linear


class Inferring(Evidence):
    """Sees gaps that are larger where nobody was shown anything, and says what they would be if they were not."""

    needs, error = (), 0.25

    def measure(self, context: SelectionContext) -> Measured:
        return Measured(torch.tensor([0.1, 0.4, 0.4, 0.1]).double(), 0, torch.tensor([0.1, 0.1, 0.1, 0.1]).double())


def test_while_tasks_are_linear_the_expert_is_what_others_tell_of_it() -> None:
    """The gap of a task that nobody was shown is not larger for it, once something else was shown."""
    known = statistics_of(POLICY, SUITE, demonstrate(SUITE, [0, 0, 0]))
    first, names = told(0.1, 0.3, 0.4, 0.6), [f"inferred_gap/{name}" for name in NAMES]
    two = {"round": 2, "asked": ((3,), (3,)), "statistics": known}
    for told_so_far, linear in (
        ((first, told(0.9, 0.9, 0.9, 0.1) | dict.fromkeys(names, 0.1)), True),
        ((first, told(0.1, 0.1, 0.1, 0.1) | dict.fromkeys(names, 0.9)), False),
        ((first, told(0.9, 0.9, 0.9, 0.1)), False),  # where nothing else was said, what was measured counts
        ((told(0.0, 1.0, 1.0, 1.0), told(0.1, 0.1, 0.1, 0.1)), False),
    ):
        said = GapReduction(Inferring()).select(context([3, 3], told=told_so_far, **two), 1).diagnostics
        assert ("tasks_are_linear" in said) == linear
        assert said["measured_gap/goal=0.5"] == pytest.approx(0.1 if linear else 0.4)
        assert said.get("inferred_gap/goal=0.5") == (pytest.approx(0.1) if told_so_far[0] is first else None)


def test_gaps_are_in_the_unit_interval_and_the_same_again() -> None:
    given = context([0, 1, 1], round=1)
    first, again = GapReduction().select(given, 2), GapReduction().select(context([0, 1, 1], round=1), 2)
    assert first == again
    for name in NAMES:
        assert 0 <= first.diagnostics[f"measured_gap/{name}"] <= 1
        assert 0 <= first.diagnostics[f"gap/{name}"] <= 1
    assert torch.isfinite(torch.tensor(first.scores)).all()


def test_the_error_on_a_new_demonstration_is_what_was_left_of_its_task() -> None:
    known = {"round": 2, "told": ({}, {}), "asked": ((1, 2), (1,)), "errors_before": (0.6, math.nan, 0.2)}
    given = context([1, 2, 1], **known)
    evidence = PrequentialError()
    assert torch.isnan(evidence.measure(given).gaps).all()
    shown = np.concatenate([each.actions for each in given.demonstrations]).astype(float).mean(0)
    expected = [
        min(1.0, error / float(np.sqrt(np.mean((each.actions - shown) ** 2))))
        for error, each in zip((0.6, 0.0, 0.2), given.demonstrations, strict=True)
    ]
    seen = evidence.earlier(given)
    assert seen[0, 1] == pytest.approx(expected[0]) and seen[1, 1] == pytest.approx(expected[2])
    assert seen.isfinite().sum() == 2  # what is not known, and what was not demonstrated, is not seen
    selector = GapReduction(PrequentialError(), transfer=0.0, trust=0.0)
    picks = selector.select(context([1, 2, 1], **{**known, "errors_before": (1.0, 1.0, 1.0)}), 1)
    assert picks.diagnostics[f"gap/{NAMES[1]}"] > 0.4
    mastered = selector.select(context([1, 2, 1], **{**known, "errors_before": (0.0, 1.0, 0.0)}), 1)
    assert mastered.diagnostics[f"gap/{NAMES[1]}"] < 0.2
    assert not any(name.startswith("measured_gap/") for name in mastered.diagnostics)


def test_the_error_before_training_needs_no_simulator() -> None:
    assert Need.SIMULATOR not in GapReduction(PrequentialError(), InformationGain(occupancy=Demonstrated())).needs
    with pytest.raises(InputError, match="a standard deviation is positive"):
        PrequentialError(0.0)


def test_what_a_pick_teaches_adds_up_to_its_score() -> None:
    rounds = (told(1, 1, 1, 1), told(0.6, 0.5, 0.9, 1))
    given = context([1], round=1, told=rounds[:1], asked=((1,),), scores=(0.4, 0.5, 0.1, 0.0))
    costly = GapReduction(ReportedOutcomes(0.1), InformationGain(costs={NAMES[3]: 0.5}))
    for selector in (reported(), apart(), costly):
        chosen = selector.select(given, 3)
        assert [len(row) for row in chosen.teaches] == [4] * 3
        for pick, scores, row in zip(chosen.picks, chosen.scores, chosen.teaches, strict=True):
            assert sum(row) == pytest.approx(scores[pick]) and min(row) >= 0
    [row] = apart().select(given, 1).teaches
    assert sum(part > 0 for part in row) == 1, "without transfer it teaches its own task alone"


def test_its_words_are_those_of_what_it_goes_by() -> None:
    assert reported().need == "need" and "gap" in reported().gain_is
    without = GapReduction(None)
    assert (without.gain_is, without.need) == (InformationGain().gain_is, "variance")


def test_what_the_belief_says_of_rounds_decides_only_where_every_round_recorded_it() -> None:
    selector, given = (
        reported(trust=0.9),
        context([1], round=1, told=(told(1, 1, 1, 1),), asked=((1,),), scores=(0.5,) * 4),
    )
    first = selector.select(context([], scores=(0.0,) * 4), 1).diagnostics
    variances = {name: value for name, value in first.items() if name.startswith("variance/")}
    assert len(variances) == 4 and 0 < first["gaps_follow_the_belief"] < 1
    unknown, known = (selector.select(replace(given, told=({**given.told[0], **rows},)), 1) for rows in ({}, variances))
    assert "gaps_follow_the_belief" in known.diagnostics and "gaps_follow_the_belief" not in unknown.diagnostics
    assert unknown.scores == reported(linearity=0.0).select(given, 1).scores != known.scores


def test_a_batch_counts_what_the_belief_loses_with_each_pick() -> None:
    given = context([], scores=(0.5, 0.2, 0.3, 0.4))
    selector = reported(trust=0.9, transfer=0.0)
    together = selector.select(given, 2)
    assert together.scores[1] == pytest.approx(selector.select(replace(given, pending=together.picks[:1]), 1).scores[0])
    assert together.scores[0] != together.scores[1]


def test_the_need_is_what_all_rounds_show_and_the_gap_where_nothing_is_seen() -> None:
    rounds = (told(0.9, 0.8, 0.1, 0.2), told(0.7, 0.9, 0.3, 0.2))
    known = {"round": 2, "told": rounds, "asked": ((1,), (1,)), "scores": (0.6, 0.2, 0.9, 0.7)}
    said = reported().select(context([1, 1], **known), 1).diagnostics
    seen = torch.tensor([[*rounds[0].values()], [*rounds[1].values()], [0.4, 0.8, 0.1, 0.3]], dtype=torch.float64)
    assert [said[f"need/{name}"] for name in NAMES] == pytest.approx(seen_needs(seen, 0.1).tolist())
    blind = GapReduction(PrequentialError(), transfer=0.0)
    said = blind.select(context([1, 2], round=1, told=({},), asked=((1, 2),), errors_before=(0.6, 0.2)), 1).diagnostics
    assert [said[f"need/{name}"] for name in NAMES] == [said[f"gap/{name}"] for name in NAMES]
