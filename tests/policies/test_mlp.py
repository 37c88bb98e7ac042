import math

import pytest
import torch
from scipy import stats

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import embedded
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.tasks.steps import Steps


def rows(count: int) -> Steps:
    generator = torch.Generator().manual_seed(0)
    return Steps.of_state(
        torch.randn(count, 3, generator=generator),
        torch.randn(count, 2, generator=generator),
        torch.rand(count, 4, generator=generator) * 2 - 1,
    )


def test_features_are_the_input_of_the_output_layer() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8, 6))
    steps = rows(5)
    features = policy.features(steps)
    assert features.shape == (5, 6)
    assert torch.equal(torch.tanh(policy.output_layer(features)), policy.act(steps))
    assert torch.equal(embedded(policy, steps)[:, -1], torch.ones(5).double())


def test_loss_is_the_mean_squared_error_of_each_row() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8,))
    steps = rows(5)
    expected = ((policy.act(steps) - steps.shown_actions) ** 2).sum(dim=1) / 4
    assert torch.allclose(policy.loss(steps), expected)


def test_log_prob_is_scipys() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8,), action_std=0.3)
    steps = rows(5)
    mean = policy.act(steps).detach().numpy()
    expected = stats.norm(mean, 0.3).logpdf(steps.shown_actions.numpy()).sum(axis=1)
    found = policy.log_prob(steps).detach().numpy()
    assert all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(found, expected, strict=True))


def test_samples_have_the_declared_spread() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8,), action_std=0.3)
    steps = rows(1)[torch.zeros(20_000, dtype=torch.int64)]
    samples = policy.sample(steps, torch.Generator().manual_seed(0))
    assert torch.allclose(samples.std(dim=0), torch.full((4,), 0.3), rtol=0.03)
    assert torch.allclose(samples.mean(dim=0), policy.act(steps)[0], atol=0.01)


def test_normaliser_standardises_and_survives_a_constant_entry() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8,))
    steps = rows(500)
    steps.state[:, 1] = 7.0
    shifted = Steps.of_state(steps.state * 5 + 1, steps.contexts)
    assert not policy.is_normalised
    policy.fit_normaliser(shifted)
    assert policy.is_normalised
    normalised = (shifted.state - policy.mean) / policy.std
    assert torch.allclose(normalised[:, [0, 2]].std(dim=0), torch.ones(2), atol=1e-4)
    assert normalised.isfinite().all()


def test_an_entry_that_hardly_moved_is_blown_up_no_further_than_allowed() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8,), smallest_std=0.5)
    steps = rows(500)
    steps.state[:, 1] = 7.0
    policy.fit_normaliser(steps)
    assert policy.std[1] == 0.5 and (policy.std[[0, 2]] > 0.5).all()
    assert policy.options["smallest_std"] == 0.5, "whoever loads it gets the same"
    with pytest.raises(InputError, match="smallest_std is 0"):
        MLPPolicy(3, 2, 4, smallest_std=0.0)


def test_a_frozen_copy_neither_trains_nor_follows() -> None:
    policy = MLPPolicy(3, 2, 4, hidden=(8,))
    copy = frozen_copy(policy)
    assert isinstance(copy, MLPPolicy)
    before = copy.output_layer.weight.clone()
    torch.nn.init.zeros_(policy.head.weight)
    assert torch.equal(copy.output_layer.weight, before)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
