"""Mixtures of normal distributions over chunks: against torch.distributions, and through what a run does with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributions as td
from test_act import TINY as ACT
from test_act import made as made_act
from test_encoders import ACTIONS, CONTEXT, SMALL, TREE, rows
from torch import Tensor
from torch.func import functional_call, jacrev

from amf_lightning.errors import InputError
from amf_lightning.policies.act import ActionChunkingTransformer
from amf_lightning.policies.capabilities import LearnsFromTeacher
from amf_lightning.policies.chunked_mlp import ChunkedMLP
from amf_lightning.policies.modes import Modes
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.weights import build_policy, load_policy, save_policy
from amf_lightning.retention.adaptive import AdaptivePrior
from amf_lightning.retention.importance import diagonal_fisher
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Dimensions, Specs
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import gradient_factors, last_layer_features
from tiny import TinySuite

ENCODER = {"class_path": "amf_lightning.policies.conv_encoder.ConvEncoder", "init_args": SMALL}
KINDS = ["ChunkedMLP", "ActionChunkingTransformer"]
MODES = 3


def made(kind: str, modes: int = MODES) -> Any:
    if kind != "ChunkedMLP":
        return made_act(modes=modes)

    def factory(observation: Specs, context_dim: int, action_dim: int) -> Policy:
        options: dict[str, Any] = {"horizon": 4, "hidden": (12, 8), "encoder": ENCODER}
        return ChunkedMLP(observation, context_dim, action_dim, **options, modes=modes)

    policy = build_policy(factory, Dimensions(TREE, CONTEXT, ACTIONS), torch.Generator().manual_seed(1))
    policy.fit_normaliser(rows(20))
    return policy.eval()


def mixture(modes: Modes, row: int, within: int) -> Any:
    """torch's own, of the first steps of one row."""
    means, stds = (entries[row, :, :within].flatten(1) for entries in (modes.means, modes.stds))
    return td.MixtureSameFamily(td.Categorical(logits=modes.logits[row]), td.Independent(td.Normal(means, stds), 1))


@pytest.mark.parametrize("kind", KINDS)
def test_its_density_and_its_loss_are_those_of_a_mixture_of_normal_distributions(kind: str) -> None:
    policy, seen = made(kind), rows(5)
    modes = policy.modes_of(seen)
    assert modes.means.shape == modes.stds.shape == (5, MODES, 4, ACTIONS) and bool((modes.stds >= 0.01).all())
    found, loss = policy.log_prob(seen), policy.loss(seen)
    for row, within in ((0, 4), (4, 1)):  # the chunk of the last row is cut off after an action
        expected = mixture(modes, row, within).log_prob(seen.shown_actions[row, :within].flatten())
        torch.testing.assert_close(found[row], expected)
        torch.testing.assert_close(loss[row], -expected / (within * ACTIONS))
    diagonal_fisher(policy, seen)  # by maps over single rows


@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_by_the_likeliest_mode_or_by_keyed_draws_of_the_mixture(kind: str) -> None:
    policy, seen = made(kind), rows(2)
    modes = policy.modes_of(seen)
    likeliest = torch.stack([means[logits.argmax()] for means, logits in zip(modes.means, modes.logits, strict=True)])
    torch.testing.assert_close(policy.predict(seen), likeliest.clamp(-1, 1))
    one, other = (policy.predict(seen, RowGenerators([7, seed], 0)) for seed in (8, 9))
    assert torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])
    drawn = policy.sample(seen[torch.zeros(4000, dtype=torch.int64)], torch.Generator().manual_seed(0)).flatten(1)
    exact = mixture(modes, 0, 4)
    torch.testing.assert_close(drawn.mean(0), exact.mean.detach(), atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.std(0), exact.stddev.detach(), atol=0.06, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_is_copied_mode_by_mode_without_a_draw(kind: str) -> None:
    policy, seen = made(kind), rows(5)
    teacher: Any = frozen_copy(policy)
    assert policy.can(LearnsFromTeacher) and not made(kind, modes=1).can(LearnsFromTeacher)
    assert float(policy.loss_by_teacher(seen, teacher).detach().abs().max()) < 1e-6, "it is its own teacher"
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    mine, theirs = policy.modes_of(seen), teacher.modes_of(seen)
    bound = policy.loss_by_teacher(seen, teacher)
    for row, within in ((0, 4), (4, 1)):
        chances = td.Categorical(logits=theirs.logits[row])
        normal, other = (td.Normal(each.means[row, :, :within], each.stds[row, :, :within]) for each in (theirs, mine))
        of_modes = td.kl_divergence(normal, other).sum(dim=(1, 2))
        choosing = td.kl_divergence(chances, td.Categorical(logits=mine.logits[row]))
        expected = choosing + (torch.softmax(theirs.logits[row], dim=0) * of_modes).sum()
        torch.testing.assert_close(bound[row] * within * ACTIONS, expected)
    draws = mixture(theirs, 0, 4).sample(torch.Size([4000]))
    monte_carlo = (mixture(theirs, 0, 4).log_prob(draws) - mixture(mine, 0, 4).log_prob(draws)).mean()
    upper = float(bound[0].detach()) * 4 * ACTIONS
    assert 0 < float(monte_carlo) < 1.05 * upper, "the divergence is not above its bound"
    bound.sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    with pytest.raises(InputError, match="a teacher with as many"):
        policy.loss_by_teacher(seen, made(kind, modes=2))


def test_its_features_and_factors_are_gradients_by_the_last_layer() -> None:
    policy, seen = made("ChunkedMLP"), rows(3)
    weights = {"head.weight": policy.head.weight.detach(), "head.bias": policy.head.bias.detach()}
    phi, factors = last_layer_features(policy, seen).float(), gradient_factors(policy, seen).float()
    outputs = policy.head.out_features

    def loss(weights: dict[str, Tensor], row: Steps) -> Tensor:
        named = {f"policy.{name}": weight for name, weight in weights.items()}
        value: Tensor = functional_call(_Loss(policy), named, (row,))
        return value[0]

    for number in range(3):
        by = jacrev(loss)(weights, seen[number : number + 1])
        gradient = torch.cat([by["head.weight"], by["head.bias"][:, None]], dim=1)
        residual = factors[number, :outputs]
        torch.testing.assert_close(gradient, residual[:, None] * phi[number], atol=1e-5, rtol=1e-4)


class _Loss(torch.nn.Module):
    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, steps: Steps) -> Tensor:
        return self.policy.loss(steps)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_two_ways_of_doing_a_task_and_takes_one(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"horizon": 2, "modes": 2}
    policy: Any = (
        ChunkedMLP(4, 1, 1, hidden=(32,), **options)
        if kind == "ChunkedMLP"
        else ActionChunkingTransformer(4, 1, 1, **{**ACT, **options, "encoder": None, "width": 16, "latent": 0})
    )
    state, side = torch.randn(64, 4), torch.randint(0, 2, (64, 1, 1)) * 1.4 - 0.7
    steps = Steps.of_state(state, torch.zeros(64, 1), side.expand(64, 2, 1))
    policy.fit_normaliser(steps)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        policy.loss(steps).mean().backward()
        optimizer.step()
    policy.eval()
    drawn, acted = policy.predict(steps, RowGenerators(list(range(64)), 0)).detach(), policy.predict(steps).detach()
    assert float(((drawn.abs() - 0.7).abs() < 0.2).float().mean()) > 0.8
    assert float(((drawn[:, 0] > 0) == (drawn[:, 1] > 0)).float().mean()) > 0.8
    assert 0.2 < float((drawn > 0).float().mean()) < 0.8
    assert float((acted.abs() - 0.7).abs().max()) < 0.3, "a squared error would act by the middle, 0"
    signature = {**TinySuite().signature(), "observation_dim": 4}
    save_policy(tmp_path / "policy.safetensors", policy, signature, None, {})
    assert load_policy(str(tmp_path / "policy.safetensors")).options["modes"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match="modes is 0; give at least 1"):
        made(kind, modes=0)
    single = ChunkedMLP(2, 1, 1, horizon=1, hidden=(4,), modes=2)
    with pytest.raises(InputError, match="ChunkedMLP chooses among several ways of doing a task"):
        AdaptivePrior().wrap(single, TinySuite())
