"""Knowledge that fine-tuning destroyed is not counted as known, and is asked for again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_world import SeparatedPolicy, SmoothSteer, context_of, demonstrate, mlp, normal, statistics_of

from amf_lightning.errors import InputError
from amf_lightning.needs import uses_of
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.selection.context import Selection
from amf_lightning.selection.informed import InformationGain
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import LastLayerFeatures
from amf_lightning.uncertainty.remembered import known_moment, remembered_shares, squared_change
from tiny import TinySuite

SUITE = TinySuite()


@settings(max_examples=50, deadline=None)
@given(change=st.floats(0, 4), tolerance=st.floats(0.01, 1))
def test_a_share_is_one_within_the_tolerance_and_falls_with_the_square_beyond(change: float, tolerance: float) -> None:
    share = remembered_shares({"a": change}, tolerance)["a"]
    assert 0 < share <= 1
    assert (share == 1) == (change <= tolerance**2)
    assert share == 1 or share * change == pytest.approx(tolerance**2)


def moments() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    rollouts = {name: normal(20, 6, seed=seed) for seed, name in enumerate("abc")}
    pretraining = normal(90, 6, seed=7)
    return pretraining.T @ pretraining, rollouts


def test_without_forgetting_the_stored_sum_is_kept_to_the_bit() -> None:
    stored, rollouts = moments()
    assert known_moment(stored, 90, rollouts, dict.fromkeys("abc", 1.0)) is not None
    assert torch.equal(known_moment(stored, 90, rollouts, {}), stored)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(shares=st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_the_discounted_sum_is_continuous_and_never_negative(shares: list[float]) -> None:
    stored, rollouts = moments()
    left = known_moment(stored, 90, rollouts, dict(zip("abc", shares, strict=True)))
    assert left is not None and torch.linalg.eigvalsh(left).min() > -1e-9
    near = known_moment(
        stored, 90, rollouts, dict(zip("abc", (min(1.0, share + 1e-9) for share in shares), strict=True))
    )
    torch.testing.assert_close(near, left, rtol=1e-6, atol=1e-6)


def test_what_is_left_of_one_task_is_its_own_states() -> None:
    stored, rollouts = moments()
    left = known_moment(stored, 90, rollouts, {"a": 1.0, "b": 1e-12, "c": 1e-12})
    expected = 90 / 3 * rollouts["a"].T @ rollouts["a"] / 20
    torch.testing.assert_close(left, expected, rtol=1e-6, atol=1e-6)


def test_the_change_is_that_of_actions() -> None:
    steps = Steps.of_state(normal(9, 2).float(), SUITE.contexts[torch.arange(9) % 4])
    one, other = mlp(SUITE), mlp(SUITE, seed=5)
    expected = (one.act(steps) - other.act(steps)).square().mean().detach()
    assert squared_change(one, other, steps) == pytest.approx(float(expected), rel=1e-5)
    assert squared_change(one, one, steps) == 0


def asked_after_forgetting(tolerance: float | None, forgotten: int | None) -> Selection:
    """π0 masters tasks 0 to 2; the expert has shown task 3; fine-tuning has wrecked `forgotten` meanwhile."""
    pretrained = SeparatedPolicy(SUITE)
    for task in SUITE.tasks[:3]:
        pretrained.master(task)
    known = demonstrate(SUITE, [0, 1, 2] * 3, expert=SmoothSteer())
    current: Policy = frozen_copy(pretrained)
    assert isinstance(current, SeparatedPolicy)
    current.master(SUITE.tasks[3])
    if forgotten is not None:
        width = current.width
        current.head.weight[:, forgotten * width : (forgotten + 1) * width] = (
            0.0  # it stands still, where much is known
        )
    context = context_of(
        SUITE,
        current,
        pretrained=frozen_copy(pretrained),
        statistics=statistics_of(pretrained, SUITE, known),
        demonstrations=demonstrate(SUITE, [3] * 3, seed=200, expert=SmoothSteer()),
        round=1,
    )
    return InformationGain(LastLayerFeatures(tolerance=tolerance)).select(context, 1)


@pytest.mark.parametrize("forgotten", [0, 1, 2])
def test_a_task_that_was_destroyed_becomes_uncertain_and_is_asked_again(forgotten: int) -> None:
    name = SUITE.tasks[forgotten].name
    trusting, measuring = (asked_after_forgetting(tolerance, forgotten) for tolerance in (None, 0.2))
    assert measuring.picks == (forgotten,)
    assert measuring.diagnostics[f"variance/{name}"] > 2 * trusting.diagnostics[f"variance/{name}"]
    assert measuring.scores[0][forgotten] > 1.5 * trusting.scores[0][forgotten]
    assert measuring.diagnostics[f"remembered/{name}"] < 0.3
    others = [task.name for task in SUITE.tasks[:3] if task.index != forgotten]
    assert all(measuring.diagnostics[f"remembered/{other}"] == 1 for other in others)
    for other in others:
        assert measuring.diagnostics[f"variance/{other}"] < 0.5 * measuring.diagnostics[f"variance/{name}"]


def test_where_nothing_was_forgotten_nothing_changes() -> None:
    trusting, measuring = (asked_after_forgetting(tolerance, None) for tolerance in (None, 0.2))
    assert measuring.scores == trusting.scores and measuring.picks == trusting.picks


def test_the_tolerance_is_positive_and_says_that_it_simulates() -> None:
    with pytest.raises(InputError, match="tolerance is 0"):
        LastLayerFeatures(tolerance=0.0)
    assert uses_of(LastLayerFeatures(tolerance=0.2)) == ["pre-training statistics", "simulator rollouts"]
    assert [LastLayerFeatures(tolerance=t).assumes_retention for t in (None, 0.2)] == [True, False]
    assert not LastLayerFeatures(statistics=False).assumes_retention
