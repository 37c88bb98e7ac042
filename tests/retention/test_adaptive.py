"""α stays at 0 where there is nothing to gain, and rises where there is."""

import pytest
import torch
from selection_world import mlp

from amf_lightning.errors import InputError
from amf_lightning.policies.mixture import PriorMixture
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.retention.adaptive import AdaptivePrior
from amf_lightning.tasks.steps import Steps
from tiny import Steer, TinySuite

SUITE = TinySuite()


def normalised() -> MLPPolicy:
    policy = mlp(SUITE)
    state = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    policy.fit_normaliser(Steps.of_state(state, torch.zeros(50, 1)))
    return policy


def train(retention: AdaptivePrior, tasks: tuple[int, ...], expert: bool, updates: int = 600) -> PriorMixture:
    """A mixture trained on some tasks, towards the expert or towards π0 itself."""
    pretrained = normalised()
    policy = retention.wrap(normalised(), SUITE)
    assert isinstance(policy, PriorMixture)
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(updates):
        state = torch.randn(32, 2, generator=generator)
        contexts = SUITE.contexts[torch.tensor(tasks)[torch.randint(len(tasks), (32,), generator=generator)]]
        steps = Steps.of_state(state, contexts)
        actions = Steer().act(state, contexts) if expert else pretrained.act(steps).detach()
        optimizer.zero_grad()
        retention.loss(policy, steps.with_actions(actions)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        retention.after_step(policy)
    return policy


def test_it_rises_on_tasks_that_the_prior_fails_and_the_others_are_the_prior_to_the_bit() -> None:
    policy = train(AdaptivePrior(), tasks=(2, 3), expert=True)
    assert policy.alphas[2] > 0.9 and policy.alphas[3] > 0.9
    assert policy.alphas[:2].tolist() == [0, 0]
    state = torch.randn(40, 2)
    for task, moved in ((0, False), (1, False), (2, True)):
        steps = Steps.of_state(state, SUITE.contexts[task].expand(40, -1))
        assert torch.equal(policy.act(steps), normalised().act(steps)) is not moved


def test_it_stays_at_zero_where_the_prior_is_already_right() -> None:
    assert train(AdaptivePrior(), tasks=(2, 3), expert=False, updates=200).alphas.tolist() == [0] * 4


def test_more_caution_asks_for_more_to_gain() -> None:
    gains = [float(train(AdaptivePrior(caution), (2,), True, updates=300).alphas[2]) for caution in (0.01, 0.5, 5.0)]
    assert gains[0] > gains[1] > gains[2] == 0


def test_it_learns_what_behavioural_cloning_learns() -> None:
    """The gradient of π_θ is that of its own loss: neither α nor π0 slows it down."""
    retention = AdaptivePrior()
    policy = retention.wrap(normalised(), SUITE)
    assert isinstance(policy, PriorMixture)
    steps = Steps.of_state(torch.randn(9, 2), SUITE.contexts[torch.arange(9) % 4], torch.rand(9, 1))
    retention.loss(policy, steps).mean().backward()  # type: ignore[no-untyped-call]
    alone = normalised()
    alone.loss(steps).mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in alone.named_parameters():
        assert torch.equal(policy.learner.get_parameter(name).grad, parameter.grad)  # type: ignore[arg-type]
    assert all(parameter.grad is None for parameter in policy.prior.parameters())


def test_its_measure_is_alpha_of_each_task() -> None:
    retention = AdaptivePrior()
    policy = retention.wrap(normalised(), SUITE)
    assert retention.measure(policy, SUITE) == {f"alpha/{task.name}": 0.0 for task in SUITE.tasks}
    assert retention.measure(normalised(), SUITE) == {}


def test_without_a_prior_and_with_negative_caution_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"set model\.pretrained"):
        AdaptivePrior().wrap(mlp(SUITE), SUITE)
    with pytest.raises(InputError, match="must not be negative"):
        AdaptivePrior(-0.1)
