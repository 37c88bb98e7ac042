from typing import Any

import pytest
import torch

from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.retention.distillation import SelfDistillation
from amf_lightning.retention.retention import CombinedRetention, RetentionContext
from tiny import TinySuite

SUITE = TinySuite()


def prepared(**options: Any) -> tuple[SelfDistillation, RetentionContext]:
    retention = SelfDistillation(**options)
    torch.manual_seed(0)
    pretrained = frozen_copy(MLPPolicy(2, 1, 1, hidden=(6, 5)))
    context = RetentionContext(SUITE, pretrained, 0, pretraining_counts=(0, 3, 1, 0))
    retention.prepare(context, MLPPolicy(2, 1, 1, hidden=(6, 5)))
    return retention, context


def test_the_targets_are_what_the_pretrained_policy_does() -> None:
    retention, context = prepared(weight=0.7)
    rows = retention.replay(frozenset())
    assert rows is not None
    steps = rows.everything()
    assert len(rows) == 4 * 2 * 12
    assert rows.loss_weight == 0.7
    assert torch.equal(steps.shown_actions, context.pretrained.act(steps))
    assert context.pretrained.loss(steps).max() == 0


def test_demonstrated_tasks_are_left_to_the_expert() -> None:
    retention, _ = prepared()
    rows = retention.replay(frozenset({0, 2}))
    assert rows is not None
    assert set(rows.everything().contexts.flatten().tolist()) == {-0.5, 1.0}
    assert retention.replay(frozenset(range(4))) is None


def test_noise_moves_the_states_and_not_the_targets() -> None:
    plain = prepared()[0].replay(frozenset())
    retention, context = prepared(noise=0.5)
    noisy = retention.replay(frozenset())
    assert plain is not None and noisy is not None
    steps = noisy.everything()
    assert (steps.state - plain.everything().state).abs().max() > 0.1
    assert torch.equal(steps.shown_actions, context.pretrained.act(steps))


@pytest.mark.parametrize(
    ("tasks", "chosen"), [("all", {-1.0, -0.5, 0.5, 1.0}), ("pretrained", {-0.5, 0.5}), (["goal=1"], {1.0})]
)
def test_it_holds_on_to_the_chosen_tasks(tasks: Any, chosen: set[float]) -> None:
    rows = prepared(tasks=tasks)[0].replay(frozenset())
    assert rows is not None
    assert set(rows.everything().contexts.flatten().tolist()) == chosen


@pytest.mark.parametrize(
    "options", [{"noise": -1.0}, {"episodes": 0}, {"weight": -1.0}, {"tasks": []}, {"tasks": ["x"]}]
)
def test_a_wrong_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        prepared(**options)


def test_two_replaying_parts_are_refused() -> None:
    parts = [prepared()[0], prepared()[0]]
    with pytest.raises(InputError, match="only one can"):
        CombinedRetention(list(parts)).replay(frozenset())
