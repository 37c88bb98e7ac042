"""Policies that turn noise into chunks: exact fields lead where they should, and features, losses and samples hold."""

import math
from typing import Any

import pytest
import torch
from scipy.stats import beta
from test_act import ENCODER
from test_encoders import ACTIONS, CONTEXT, TREE, rows
from torch import Tensor
from torch.func import functional_call, jacrev

from amf_lightning.errors import InputError
from amf_lightning.policies.denoising import DenoisingPolicy
from amf_lightning.policies.diffusion import DiffusionPolicy, cosine_schedule
from amf_lightning.policies.flow import FlowPolicy
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.weights import build_policy
from amf_lightning.seeding import RowGenerators, drawn_by
from amf_lightning.tasks.spec import Dimensions, Specs
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import last_layer_features

TINY = {"encoder": ENCODER, "horizon": 4, "width": 8, "layers": 1, "steps": 3, "draws": 3}
KINDS = [FlowPolicy, DiffusionPolicy]


def made(kind: type[DenoisingPolicy], **options: Any) -> Any:
    def factory(observation: Specs, context_dim: int, action_dim: int) -> Policy:
        return kind(observation, context_dim, action_dim, **{**TINY, **options})

    policy = build_policy(factory, Dimensions(TREE, CONTEXT, ACTIONS), torch.Generator().manual_seed(1))
    policy.fit_normaliser(rows(20))
    return policy.eval()


MEAN, STD = 0.1, 0.15


def test_euler_steps_along_the_field_of_a_normal_distribution_carry_noise_to_it() -> None:
    policy = made(FlowPolicy, steps=150)

    def field(seen: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        t = time[:, None, None]  # E[a − ε | τa + (1 − τ)ε] for a ~ N(MEAN, STD²), by regression
        said: Tensor = MEAN + (t * STD**2 - (1 - t)) / (t**2 * STD**2 + (1 - t) ** 2) * (noisy - t * MEAN)
        return said

    policy.field = field
    generator = RowGenerators([1, 2, 3], 0)
    noise = generator.copy().normal(4, ACTIONS)
    drawn = policy.predict(rows(3), generator)
    torch.testing.assert_close(drawn, MEAN + STD * noise, atol=0.02, rtol=0)


def test_ddim_steps_along_the_noise_of_a_normal_distribution_carry_noise_to_it() -> None:
    policy = made(DiffusionPolicy, levels=400, steps=400)

    def field(seen: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        kept = policy.kept[policy.level(time)][:, None, None]  # E[ε | √ᾱa + √(1 − ᾱ)ε], likewise
        spread = kept * STD**2 + 1 - kept
        said: Tensor = (1 - kept).sqrt() * (noisy - kept.sqrt() * MEAN) / spread
        return said

    policy.field = field
    generator = RowGenerators([1, 2, 3], 0)
    noise = generator.copy().normal(4, ACTIONS)
    drawn = policy.predict(rows(3), generator)
    torch.testing.assert_close(drawn, MEAN + STD * noise, atol=0.02, rtol=0)


def test_the_cosine_schedule_is_that_of_the_paper() -> None:
    kept = cosine_schedule(50)
    assert kept.shape == (50,) and bool((kept.diff() < 0).all()) and float(kept[-1]) > 0
    f = [math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(51)]
    for t in (0, 10, 40):
        assert float(kept[t]) == pytest.approx(f[t + 1] / f[0], rel=1e-5)
    assert float(kept[-1] / kept[-2]) == pytest.approx(0.001, rel=1e-4)


def test_times_are_distributed_as_those_of_pi0_or_evenly() -> None:
    uniform = torch.tensor([0.0, 0.1, 0.5, 0.9])
    times = made(FlowPolicy).times(uniform)
    assert [float(t) for t in times] == pytest.approx([0.999 * (1 - beta(1.5, 1).ppf(1 - float(u))) for u in uniform])
    assert torch.equal(made(FlowPolicy, times="uniform").times(uniform), uniform)


@pytest.mark.parametrize("kind", KINDS)
def test_its_features_are_the_gradient_of_the_mean_field_by_the_last_layer(kind: type[DenoisingPolicy]) -> None:
    policy, seen = made(kind), rows(3)
    weights = {"head.weight": policy.head.weight.detach(), "head.bias": policy.head.bias.detach()}

    def mean_field(weights: dict[str, Tensor], row: Steps) -> Tensor:
        named = {f"policy.{name}": weight for name, weight in weights.items()}
        field: Tensor = functional_call(_Field(policy), named, (row,))
        return field.flatten()

    phi = last_layer_features(policy, seen).float()
    for number in range(3):
        by = jacrev(mean_field)(weights, seen[number : number + 1])
        for output in (0, 5, 11):
            gradient = torch.cat([by["head.weight"][output, output], by["head.bias"][output, output, None]])
            torch.testing.assert_close(gradient, phi[number], atol=1e-5, rtol=1e-5)
    spread = phi[:, :-1].std(dim=0)
    assert float(spread.max()) > 1e-3, "states differ"


class _Field(torch.nn.Module):
    """The mean over the fixed draws of the field around chunks of zeros."""

    def __init__(self, policy: DenoisingPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, steps: Steps) -> Tensor:
        policy, seen = self.policy, self.policy.encoder(steps)
        fields = []
        for noise, time in zip(policy.fixed_noise, policy.times(policy.quantiles), strict=True):
            noisy, _ = policy.corrupted(torch.zeros_like(noise)[None], noise[None], time[None])
            fields.append(policy.field(seen, noisy, time[None])[0])
        return torch.stack(fields).mean(dim=0)


@pytest.mark.parametrize("kind", KINDS)
def test_its_loss_draws_in_training_and_is_fixed_in_evaluation(kind: type[DenoisingPolicy]) -> None:
    policy, seen = made(kind), rows(5)
    assert not drawn_by(lambda: policy.loss(seen))
    assert seen.mask is not None
    beyond = torch.where(seen.mask[..., None], seen.shown_actions, torch.tensor(0.7))
    assert drawn_by(lambda: policy.train().loss(seen)) == ["torch's global generator"]
    policy.eval()
    network, field = policy.field, []

    def spied(features: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        field.append(noisy)
        said: Tensor = network(features, noisy, time)
        return said.detach() * 0

    policy.field = spied
    loss = policy.loss(seen.with_actions(beyond))  # of a field that says 0: the square of the target
    assert len(field) == 3
    for row, within in ((0, 4), (4, 1)):
        targets = policy.fixed_noise[:, :within]
        if kind is FlowPolicy:
            targets = beyond[row, :within] - targets
        torch.testing.assert_close(loss[row], targets.square().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_is_copied_at_the_same_noise_and_time(kind: type[DenoisingPolicy]) -> None:
    policy, seen = made(kind), rows(5)
    teacher = frozen_copy(policy)
    policy.train()
    policy.encoder.eval()  # of pictures that are shifted it would see others than the teacher
    assert float(policy.loss_by_teacher(seen, teacher).detach().max()) == 0, "it is its own teacher"
    torch.manual_seed(0)
    with torch.no_grad():
        policy.head.bias += 0.5
    loss = policy.loss_by_teacher(seen, teacher)
    torch.testing.assert_close(loss, torch.full_like(loss, 0.25))
    loss.sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    with pytest.raises(InputError, match="MLPPolicy is another policy"):
        policy.loss_by_teacher(seen, MLPPolicy(3, 1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_two_ways_of_doing_a_task_and_takes_one(kind: type[DenoisingPolicy]) -> None:
    options: dict[str, Any] = {"horizon": 2, "width": 32, "layers": 1, "steps": 10}
    torch.manual_seed(0)
    policy: DenoisingPolicy = (FlowPolicy if kind is FlowPolicy else DiffusionPolicy)(4, 1, 1, **options)
    state, side = torch.randn(64, 4), torch.randint(0, 2, (64, 1, 1)) * 1.4 - 0.7
    steps = Steps.of_state(state, torch.zeros(64, 1), side.expand(64, 2, 1))
    policy.fit_normaliser(steps)
    optimizer = torch.optim.Adam(policy.parameters(), 5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        policy.loss(steps).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    drawn = policy.eval().predict(steps, RowGenerators(list(range(64)), 0)).detach()
    near = (drawn.abs() - 0.7).abs() < 0.2
    alike = (drawn[:, 0] > 0) == (drawn[:, 1] > 0)
    assert float(near.float().mean()) > 0.8 and float(alike.float().mean()) > 0.8
    assert 0.25 < float((drawn > 0).float().mean()) < 0.75


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FlowPolicy, {"times": "late"}, "'beta' or 'uniform'"),
        (FlowPolicy, {"steps": 0}, "from 1"),
        (FlowPolicy, {"width": 7}, "must be even"),
        (DiffusionPolicy, {"steps": 101}, "from 1 to 100"),
        (DiffusionPolicy, {"levels": 0}, "levels is 0"),
    ],
)
def test_what_cannot_be_is_refused(kind: type[DenoisingPolicy], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(kind, **options)
