"""The action chunking transformer: its latent, its features, and the controller that averages its chunks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_encoders import ACTIONS, CONTEXT, SMALL, TREE, rows
from torch import Tensor
from torch.func import functional_call, jacrev

from amf_lightning.errors import InputError
from amf_lightning.policies.act import ActionChunkingTransformer
from amf_lightning.policies.controllers import TemporalEnsemble
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.weights import build_policy
from amf_lightning.retention.importance import diagonal_fisher
from amf_lightning.seeding import RowGenerators, drawn_by
from amf_lightning.tasks.spec import Dimensions, Specs
from amf_lightning.tasks.steps import Steps, Window
from amf_lightning.tasks.task import Episode
from amf_lightning.uncertainty.embeddings import last_layer_features
from tiny import TinySuite

ENCODER = {"class_path": "amf_lightning.policies.conv_encoder.ConvEncoder", "init_args": SMALL}
TINY = {"encoder": ENCODER, "horizon": 4, "width": 8, "heads": 2, "encoder_layers": 1, "latent": 3}


def made(**options: Any) -> ActionChunkingTransformer:
    def factory(observation: Specs, context_dim: int, action_dim: int) -> Policy:
        return ActionChunkingTransformer(observation, context_dim, action_dim, **{**TINY, **options})

    policy = build_policy(factory, Dimensions(TREE, CONTEXT, ACTIONS), torch.Generator().manual_seed(1))
    assert isinstance(policy, ActionChunkingTransformer)
    policy.fit_normaliser(rows(20))
    return policy.eval()


def test_its_features_are_the_gradient_of_the_mean_action_by_the_last_layer() -> None:
    policy, seen = made(), rows(3)
    weights = {"head.weight": policy.head.weight.detach(), "head.bias": policy.head.bias.detach()}

    def mean_action(weights: dict[str, Tensor], row: Steps) -> Tensor:
        named = {f"policy.{name}": weight for name, weight in weights.items()}
        outputs: Tensor = functional_call(_Outputs(policy), named, (row,))
        return outputs[0].mean(dim=0)

    phi = last_layer_features(policy, seen).float()
    for number in range(3):
        by = jacrev(mean_action)(weights, seen[number : number + 1])
        for action in range(ACTIONS):
            gradient = torch.cat([by["head.weight"][action, action], by["head.bias"][action, action, None]])
            torch.testing.assert_close(gradient, phi[number], atol=1e-5, rtol=1e-5)


class _Outputs(torch.nn.Module):
    def __init__(self, policy: ActionChunkingTransformer) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, steps: Steps) -> Tensor:
        return self.policy.outputs(steps)


@pytest.mark.parametrize("regression", ["l1", "mse"])
def test_its_loss_in_evaluation_is_the_error_of_what_it_does(regression: str) -> None:
    policy, seen = made(regression=regression), rows(5)
    errors = policy.outputs(seen) - seen.shown_actions
    each = (errors.abs() if regression == "l1" else errors.square()).mean(dim=2)
    torch.testing.assert_close(policy.loss(seen)[:4], each[:4].mean(dim=1))
    torch.testing.assert_close(policy.loss(seen)[4], each[4, 0])
    assert not drawn_by(lambda: policy.loss(seen))


def test_in_training_the_divergence_of_the_latent_counts_and_padding_does_not() -> None:
    policy, seen = made(dropout=0.0), rows(5)
    policy.train()
    policy.encoder.eval()

    def loss(weight: float, steps: Steps) -> Tensor:
        policy.kl_weight = weight
        torch.manual_seed(0)
        return policy.loss(steps)

    assert policy.style is not None and seen.mask is not None
    mean, log_variance = policy.style(policy.encoder.pieces(seen), seen.shown_actions, seen.mask)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(normal, standard).sum(dim=1)
    torch.testing.assert_close(loss(2.0, seen) - loss(0.0, seen), 2 * divergence, atol=1e-5, rtol=1e-4)
    beyond = torch.where(seen.mask[..., None], seen.shown_actions, torch.tensor(0.7))
    torch.testing.assert_close(loss(2.0, seen.with_actions(beyond)), loss(2.0, seen))
    torch.testing.assert_close(loss(2.0, replace(seen, mask=None))[:4], loss(2.0, seen)[:4])


def test_without_a_latent_nothing_of_it_is_there() -> None:
    policy = made(latent=0)
    assert policy.style is None and not any(name.startswith("style") for name, _ in policy.named_parameters())
    policy.train()
    policy.loss(rows(3)).mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in policy.parameters())


def test_its_density_has_a_gradient_for_each_row_by_every_weight_but_those_of_the_latent() -> None:
    policy, seen = made(), rows(3)
    fisher = diagonal_fisher(policy, seen)
    for name, importance in fisher.items():
        assert bool(torch.isfinite(importance).all())
        # Of what the latent is read from, nothing enters when it acts.
        assert bool(importance.any()) == (not name.startswith("style.") or name == "style.of_z.bias"), name


@pytest.mark.parametrize("options", [{"width": 9}, {"dropout": 1.0}, {"regression": "l2"}, {"encoder_layers": 0}])
def test_what_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="ActionChunkingTransformer"):
        made(**options)


class Counting(Policy):
    """Predicts at its n-th call the actions n/10, n/10 + 0.01, …"""

    window = Window(horizon=3)

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        self.calls += 1
        return (self.calls / 10 + 0.01 * torch.arange(3.0))[None, :, None].expand(len(steps), 3, 1)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_an_ensemble_in_time_averages_what_was_predicted_for_the_present(decay: float) -> None:
    controller, task = TemporalEnsemble(Counting(), decay), TinySuite().tasks[0]
    for _ in range(2):  # another episode begins from nothing
        assert isinstance(controller.policy, Counting)
        controller.policy.calls = 0
        controller.begin([Episode(task, 0)], width=2)
        for step in range(5):
            action = controller.act(Steps.of_state(torch.zeros(2, 2), torch.zeros(2, 1)))
            calls = range(max(0, step - 2), step + 1)  # of which the prediction reaches until now, oldest first
            predictions = torch.tensor([(call + 1) / 10 + 0.01 * (step - call) for call in calls])
            weights = torch.tensor([float(torch.tensor(-decay * i).exp()) for i in range(len(predictions))])
            expected = (weights * predictions).sum() / weights.sum()
            torch.testing.assert_close(action, expected.expand(2, 1))


def test_a_negative_decay_is_refused() -> None:
    with pytest.raises(InputError, match="decay is -1"):
        TemporalEnsemble(Counting(), -1)
