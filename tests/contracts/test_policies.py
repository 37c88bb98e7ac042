"""What every policy and every controller keeps to."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from making import every

from amf_lightning.catalogue import resolve
from amf_lightning.policies.capabilities import Density, Embeds, LinearHead
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.policies.weights import build_policy, load_policy, save_policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from tiny import TinySuite

SUITE = TinySuite()
ROWS = 6


ACTIONS = 3


def policy_of(name: str, actions: int = ACTIONS) -> Policy:
    """Of the class, for the tiny suite with actions of that length, normalised or fitted to some rows."""
    dimensions = replace(SUITE.dimensions, action=actions)
    policy = build_policy(resolve("policy", name), dimensions, torch.Generator().manual_seed(3))
    if isinstance(policy, RefittedPolicy):
        policy.refit(frozen_copy(policy), steps(20, actions))
    elif not policy.is_normalised:
        policy.fit_normaliser(steps(20))
    return policy.eval()


def steps(count: int, actions: int = ACTIONS) -> Steps:
    generator = torch.Generator().manual_seed(0)
    tasks = torch.randint(len(SUITE.tasks), (count,), generator=generator)
    action = torch.rand(count, actions, generator=generator) * 2 - 1
    return Steps({"state": torch.randn(count, 2, generator=generator)}, tasks, SUITE.contexts[tasks], action)


@pytest.mark.parametrize("name", every("policy"))
def test_it_predicts_actions_in_their_range_the_same_each_time(name: str) -> None:
    policy, rows = policy_of(name), steps(ROWS)
    horizon = policy.window.horizon
    predicted = policy.predict(rows)
    assert predicted.shape == (ROWS, horizon, ACTIONS) and float(predicted.detach().abs().max()) <= 1
    assert torch.equal(policy.act(rows), predicted[:, 0]) and torch.equal(policy.predict(rows), predicted)


@pytest.mark.parametrize("name", every("policy"))
def test_its_samples_depend_on_the_streams_of_their_own_rows(name: str) -> None:
    policy, rows = policy_of(name), steps(ROWS)
    whole = policy.predict(rows, RowGenerators(list(range(ROWS)), 4))
    other = policy.predict(rows, RowGenerators([0, *range(50, 49 + ROWS)], 4))
    assert whole.shape == (ROWS, policy.window.horizon, ACTIONS) and float(whole.detach().abs().max()) <= 1
    assert torch.equal(whole[0], other[0])


@pytest.mark.parametrize("name", every("policy"))
def test_its_loss_is_a_number_for_each_row_that_does_not_depend_on_the_others(name: str) -> None:
    policy, rows = policy_of(name), steps(ROWS)
    loss = policy.loss(rows)
    assert loss.shape == (ROWS,) and bool(torch.isfinite(loss).all())
    torch.testing.assert_close(policy.loss(rows[2:4]), loss[2:4])
    if not isinstance(policy, RefittedPolicy):
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in policy.parameters())


@pytest.mark.parametrize("name", every("policy"))
def test_what_it_says_that_it_can_it_can(name: str) -> None:
    policy, rows = policy_of(name), steps(ROWS)
    if policy.can(Density):
        assert isinstance(policy, Density)
        drawn = policy.sample(rows, torch.Generator().manual_seed(0))
        assert drawn.shape == (ROWS, ACTIONS) and policy.log_prob(rows.with_actions(drawn)).shape == (ROWS,)
    if policy.can(Embeds):
        assert isinstance(policy, Embeds)
        phi = policy.embed(rows)
        assert phi.ndim == 2 and len(phi) == ROWS
        torch.testing.assert_close(policy.embed(rows[:2]), phi[:2])
    if policy.can(LinearHead):
        assert isinstance(policy, LinearHead)
        assert policy.features(rows).shape == (ROWS, policy.output_layer.in_features)


@pytest.mark.parametrize("name", every("policy"))
def test_its_file_makes_it_again(name: str, tmp_path: Path) -> None:
    policy, rows = policy_of(name), steps(ROWS)
    signature = {**SUITE.signature(), "action_dim": ACTIONS}
    save_policy(tmp_path / "policy.safetensors", policy, signature, None, {})
    file = load_policy(str(tmp_path / "policy.safetensors"))
    again = file.make().eval()
    assert type(again) is type(policy) and again.options == policy.options
    assert torch.equal(again.act(rows), policy.act(rows))


@pytest.mark.parametrize("controller", every("controller"))
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("name", every("policy"))
def test_an_episode_is_a_function_of_weights_task_and_seed(name: str, controller: str, sample: bool) -> None:
    policy = policy_of(name, SUITE.action_dim)
    if policy.discrete != SUITE.discrete:
        pytest.skip("its actions are choices, those of the tiny suite are not")
    acting = resolve("controller", controller)(policy, sample=sample)
    episodes = [Episode(SUITE.tasks[number % 4], 100 + number) for number in range(5)]
    together = rollout(acting, SUITE, episodes)
    alone = [rollout(acting, SUITE, [episode])[0] for episode in reversed(episodes)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert one.actions.tobytes() == other.actions.tobytes() and one.state.tobytes() == other.state.tobytes()
