"""What may be combined, and what may not, said before anything is run."""

import pytest
import torch
from selection_world import mlp

from amf_lightning.errors import InputError
from amf_lightning.policies.mixture import IsolatedPolicy
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.retention.adaptive import AdaptivePrior
from amf_lightning.retention.distillation import SelfDistillation
from amf_lightning.retention.frozen import FreezeByImportance, FreezeModules
from amf_lightning.retention.importance import MagnitudeImportance
from amf_lightning.retention.isolation import ParameterIsolation
from amf_lightning.retention.penalties import ElasticWeights, L2ToPretrained
from amf_lightning.retention.retention import CombinedRetention, Retention, RetentionContext
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

SUITE = TinySuite()
CONTEXT = RetentionContext(SUITE, frozen_copy(mlp(SUITE)), 0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([AdaptivePrior(), ParameterIsolation()], "AdaptivePrior and ParameterIsolation both deploy a policy"),
        ([SelfDistillation(), CombinedRetention([SelfDistillation()])], "SelfDistillation both replay"),
        ([AdaptivePrior(), AdaptivePrior()], "only one can"),
    ],
)
def test_parts_that_exclude_each_other_are_refused_with_the_reason(parts: list[Retention], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CombinedRetention(parts)


def test_a_mask_a_penalty_replay_and_isolation_act_together_on_every_copy() -> None:
    freeze, pull = FreezeByImportance(0.4, MagnitudeImportance()), L2ToPretrained(1.0)
    combined = CombinedRetention([ParameterIsolation(), freeze, FreezeModules(["head.*"]), pull, SelfDistillation()])
    policy = combined.wrap(mlp(SUITE), SUITE)
    assert isinstance(policy, IsolatedPolicy)
    combined.prepare(CONTEXT, policy)
    masks = combined.masks()
    assert masks.keys() == dict(policy.named_parameters()).keys()
    alone = FreezeByImportance(0.4, MagnitudeImportance())
    alone.prepare(CONTEXT, mlp(SUITE))
    for copy in range(4):
        assert torch.equal(masks[f"copies.{copy}.backbone.0.weight"], alone.masks()["backbone.0.weight"])
        assert not masks[f"copies.{copy}.head.weight"].any()
    penalty = combined.penalty(policy)
    assert penalty is not None and float(penalty) == 0
    assert combined.replay(frozenset()) is not None


def test_penalties_add_up() -> None:
    combined = CombinedRetention([L2ToPretrained(1.0), ElasticWeights(1.0, MagnitudeImportance()), L2ToPretrained(2.0)])
    other = mlp(SUITE, seed=5)
    combined.prepare(CONTEXT, other)
    parts = [float(penalty) for part in combined.parts if (penalty := part.penalty(other)) is not None]
    total = combined.penalty(other)
    assert total is not None and len(parts) == 3
    assert float(total) == pytest.approx(sum(parts))


def test_only_the_learner_of_a_mixture_is_frozen_and_by_the_names_of_either() -> None:
    combined = CombinedRetention([AdaptivePrior(), FreezeModules(["backbone.0.*"])])
    pretrained = mlp(SUITE)
    pretrained.fit_normaliser(Steps.of_state(torch.randn(9, 2), torch.zeros(9, 1)))
    policy = combined.wrap(pretrained, SUITE)
    combined.prepare(CONTEXT, policy)
    learner = {name for name in combined.masks() if name.startswith("learner.")}
    assert learner == {"learner.backbone.0.weight", "learner.backbone.0.bias"}
    named = FreezeModules(["learner.head.*"])
    named.prepare(CONTEXT, policy)
    assert set(named.masks()) == {"learner.head.weight", "learner.head.bias"}
