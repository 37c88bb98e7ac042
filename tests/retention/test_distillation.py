import pytest
import torch

from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.retention.distillation import SelfDistillation
from amf_lightning.retention.retention import CombinedRetention, RetentionContext
from amf_lightning.tasks.rollout import rollout
from tiny import TinySuite

SUITE = TinySuite()


def prepared(**options: float) -> tuple[SelfDistillation, RetentionContext]:
    retention = SelfDistillation(**options)  # type: ignore[arg-type]
    pretrained = frozen_copy(MLPPolicy(2, 1, 1, hidden=(6, 5)))
    context = RetentionContext(SUITE, pretrained, 0, lambda actor, episodes: rollout(actor, SUITE, episodes))
    retention.prepare(context, MLPPolicy(2, 1, 1, hidden=(6, 5)))
    return retention, context


def test_the_targets_are_what_the_pretrained_policy_does() -> None:
    retention, context = prepared(weight=0.7)
    rows = retention.replay(frozenset())
    assert rows is not None
    assert len(rows.observations) == 4 * 2 * 12
    assert rows.loss_weight == 0.7
    assert torch.equal(rows.actions, context.pretrained.act(rows.observations, rows.contexts))
    assert context.pretrained.loss(rows.observations, rows.contexts, rows.actions).max() == 0


def test_demonstrated_tasks_are_left_to_the_expert() -> None:
    retention, _ = prepared()
    rows = retention.replay(frozenset({0, 2}))
    assert rows is not None
    assert set(rows.contexts.flatten().tolist()) == {-0.5, 1.0}
    assert retention.replay(frozenset(range(4))) is None


def test_two_replaying_parts_are_refused() -> None:
    parts = [prepared()[0], prepared()[0]]
    with pytest.raises(InputError, match="only one can"):
        CombinedRetention(list(parts)).replay(frozenset())
