import pytest
import torch
from selection_world import mlp

from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.retention.importance import FisherImportance, Importance, MagnitudeImportance
from amf_lightning.retention.isolation import ParameterIsolation
from amf_lightning.retention.penalties import ElasticWeights, L2ToPretrained
from amf_lightning.retention.retention import RetentionContext
from tiny import TinySuite

SUITE = TinySuite()
CONTEXT = RetentionContext(SUITE, frozen_copy(mlp(SUITE)), 0)


def value(retention: L2ToPretrained, seed: int) -> float:
    penalty = retention.penalty(mlp(SUITE, seed=seed))
    assert penalty is not None
    return float(penalty)


def flat(seed: int) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in mlp(SUITE, seed=seed).parameters()])


def test_the_penalty_is_half_the_squared_distance() -> None:
    retention = L2ToPretrained(0.3)
    retention.prepare(CONTEXT, mlp(SUITE))
    assert value(retention, 0) == 0
    assert value(retention, 5) == pytest.approx(0.15 * float((flat(5) - flat(0)).square().sum()), rel=1e-5)


@pytest.mark.parametrize("importance", [FisherImportance(), MagnitudeImportance()])
def test_elastic_weights_are_held_by_importance_of_mean_one(importance: Importance) -> None:
    retention = ElasticWeights(0.3, importance)
    retention.prepare(CONTEXT, mlp(SUITE))
    found = torch.cat([tensor.flatten() for tensor in importance.compute(CONTEXT).values()])
    expected = 0.15 * float(((flat(5) - flat(0)).square() * found / found.mean()).sum())
    assert value(retention, 5) == pytest.approx(expected, rel=1e-4)


def test_its_gradient_pulls_back_to_the_start() -> None:
    retention, policy = L2ToPretrained(2.0), mlp(SUITE, seed=5)
    retention.prepare(CONTEXT, policy)
    penalty = retention.penalty(policy)
    assert penalty is not None
    penalty.backward()  # type: ignore[no-untyped-call]
    start = dict(mlp(SUITE).named_parameters())
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * (parameter - start[name]).detach())


def test_every_isolated_copy_is_held_to_the_same_start() -> None:
    policy = ParameterIsolation().wrap(mlp(SUITE), SUITE)
    retention = L2ToPretrained(1.0)
    retention.prepare(CONTEXT, policy)
    with torch.no_grad():
        policy.get_parameter("copies.2.head.bias").add_(2.0)
    penalty = retention.penalty(policy)
    assert penalty is not None and float(penalty) == pytest.approx(2.0)


def test_frozen_weights_are_not_penalised_and_a_negative_weight_is_refused() -> None:
    policy, retention = mlp(SUITE, seed=5).requires_grad_(False), L2ToPretrained()
    retention.prepare(CONTEXT, policy)
    assert retention.penalty(policy) is None
    with pytest.raises(InputError, match=r"ElasticWeights\.weight is -1"):
        ElasticWeights(-1.0)
