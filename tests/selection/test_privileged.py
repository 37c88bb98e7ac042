import pytest
from selection_world import context_of, demonstrate, mlp

from amf_lightning.errors import InputError
from amf_lightning.selection.privileged import Rebalancing
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
    assert Rebalancing().uses == ("pre-training counts",)
    with pytest.raises(InputError, match="pre-training demonstrations"):
        Rebalancing().select(context_of(SUITE, POLICY), 1)
