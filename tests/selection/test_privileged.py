import math
from collections.abc import Sequence

import pytest
from selection_world import context_of, demonstrate, mlp

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.selection.privileged import LearningProgress, Oracle, Rebalancing, learning_progress
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)


def test_rebalancing_evens_out_pretraining_and_collected_demonstrations() -> None:
    known = demonstrate(SUITE, [2])
    context = context_of(SUITE, POLICY, demonstrations=known, pretraining_counts=(3, 1, 0, 2))
    selection = Rebalancing().select(context, 6)
    assert selection.scores[0] == (-3, -1, -1, -2)
    assert sorted(selection.picks[:2]) == [1, 2]
    totals = [3, 1, 1, 2]
    for pick in selection.picks:
        totals[pick] += 1
    assert sorted(totals) == [3, 3, 3, 4]


def test_ties_are_drawn_by_key() -> None:
    first = [
        Rebalancing().select(context_of(SUITE, POLICY, seed=seed, pretraining_counts=(1, 1, 1, 1)), 1).picks[0]
        for seed in range(30)
    ]
    assert set(first) == {0, 1, 2, 3}


def test_it_declares_its_privilege_and_refuses_to_guess() -> None:
    assert Rebalancing().needs == (Need.PRETRAINING_COUNTS,)
    with pytest.raises(InputError, match="pre-training demonstrations"):
        Rebalancing().select(context_of(SUITE, POLICY), 1)


def test_learning_progress_asks_for_what_is_lowest_or_rises_fastest() -> None:
    history = ((0.0, 0.2, 0.5, 0.9), (0.1, 0.2, 0.9, 0.9))
    context = context_of(SUITE, POLICY, score_history=history)
    assert LearningProgress(progress=0.0).select(context, 1).picks == (0,)
    rising = LearningProgress(progress=1.0).select(context, 2)
    assert rising.picks[0] == 2
    assert rising.scores[0] == pytest.approx((0.1, 0.0, 0.4, 0.0))
    assert rising.scores[1] == pytest.approx((0.1, 0.0, 0.2, 0.0))
    assert LearningProgress(0.5).select(context, 1).scores[0] == pytest.approx((0.5, 0.4, 0.25, 0.05))


def test_the_window_reaches_back_as_far_as_there_are_evaluations() -> None:
    history = [[0.0], [0.5], [0.6], [0.7]]
    rises = [float(learning_progress(history, 1.0, window)) for window in (1, 2, 3, 9)]
    assert rises == pytest.approx([0.1, 0.2, 0.7, 0.7])
    assert float(learning_progress([[0.5], [0.2]], 1.0, 1)) == 0


def test_the_oracle_takes_the_best_of_all_it_tries_given_the_picks_before() -> None:
    tried: list[list[int]] = []

    def lookahead(tasks: Sequence[int]) -> float:
        tried.append(list(tasks))
        return [0.1, 0.9, 0.3, 0.2][tasks[-1]] - 0.7 * (list(tasks).count(1) > 1)

    context = context_of(SUITE, POLICY, lookahead=lookahead, remaining=(900, 900, 900, 0))
    selection = Oracle().select(context, 2)
    assert selection.picks == (1, 2)
    assert tried == [[0], [1], [2], [1, 0], [1, 1], [1, 2]]
    assert math.isnan(selection.scores[0][3])
    Oracle().check(SUITE, 5)


def test_privileged_selectors_say_so_and_refuse_what_they_lack() -> None:
    assert LearningProgress().needs == (Need.EVALUATIONS,)
    assert Oracle().needs[:2] == (Need.EVALUATIONS, Need.TRIAL_TRAINING)
    with pytest.raises(InputError, match="needs an evaluation"):
        LearningProgress().select(context_of(SUITE, POLICY), 1)
    with pytest.raises(InputError, match="looks ahead"):
        Oracle().select(context_of(SUITE, POLICY), 1)
    with pytest.raises(InputError, match="4 tasks"):
        Oracle(largest_suite=3).check(SUITE, 5)
    with pytest.raises(InputError, match="share"):
        LearningProgress(progress=1.5)
    with pytest.raises(InputError, match="window"):
        LearningProgress(window=0)
