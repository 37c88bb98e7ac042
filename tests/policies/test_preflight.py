"""Policies of users that a file, or selection by features, could not take: told before anything is demonstrated."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.export import export
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.capabilities import GaussianDensity, LinearHead
from amf_lightning.policies.categorical import CategoricalPolicy
from amf_lightning.policies.mixture import IsolatedPolicy
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.preflight import check_last_layer, rehearse_export
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.tasks.spec import Specs, state_size, state_specs
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()
DIMS = (state_specs(2), 1, 1)


@pytest.fixture(autouse=True)
def nothing_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def rows(steps: Steps) -> Tensor:
    return torch.cat([steps.state, steps.contexts], dim=1)


class Plain(GaussianDensity, LinearHead, Policy):
    def __init__(self, observation: Specs, context_dim: int, action_dim: int, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Linear(state_size(observation, type(self).__name__) + context_dim, width)
        self.middle = nn.Linear(width, width)
        self.top = nn.Linear(width, action_dim)

    def act(self, steps: Steps) -> Tensor:
        hidden = torch.relu(self.body(rows(steps)))
        return torch.tanh(self.top(torch.relu(self.middle(hidden))))


class Tied(Plain):
    """Two layers share their weight, and the last one is known by two names."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.middle.weight
        del self.top
        self.top = nn.Linear(4, action_dim)
        self.head = self.top

    def act(self, steps: Steps) -> Tensor:
        hidden = torch.relu(self.body(rows(steps)))
        return torch.tanh(self.top(torch.relu(self.other(self.middle(hidden)))))


class WithoutLayers(Policy):
    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(state_size(observation, type(self).__name__) + context_dim, action_dim))

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(rows(steps) @ self.weight)


class Critic(Plain):
    """Has a layer that does not act, registered last."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.value = nn.Linear(4, 1)


class HeadFirst(Plain):
    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.body = self._modules.pop("body")  # type: ignore[assignment]


class Named(HeadFirst):
    @property
    def output_layer(self) -> nn.Linear:
        return self.top


class ParameterHead(Plain):
    """What comes after its last linear layer is a parameter."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        del self.top
        self.weight = nn.Parameter(torch.ones(4, action_dim))

    def act(self, steps: Steps) -> Tensor:
        hidden = self.middle(torch.relu(self.body(rows(steps))))
        return torch.tanh(torch.relu(hidden) @ self.weight)


class Normal(Plain):
    """Its last layer gives mean and deviation."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, 2 * action_dim)

    def act(self, steps: Steps) -> Tensor:
        return super().act(steps)[:, :1]

    def log_prob(self, steps: Steps) -> Tensor:
        mean, deviation = torch.split(super().act(steps), 1, dim=1)
        return torch.distributions.Normal(mean, deviation.exp()).log_prob(steps.shown_actions).sum(1)  # type: ignore[no-untyped-call,no-any-return]


class Choices(LinearHead, CategoricalPolicy):
    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__()
        self.top = nn.Linear(state_size(observation, type(self).__name__) + context_dim, action_dim)

    def logits(self, steps: Steps) -> Tensor:
        logits: Tensor = self.top(rows(steps))
        return logits


class TwoChoices(TinySuite):
    """Of a single choice there is nothing to learn."""

    action_dim = 2


@pytest.mark.parametrize("kind", [Plain, Tied, Named, Normal, Choices, MLPPolicy])
def test_what_has_features_and_fits_into_a_file_passes(kind: type[Policy]) -> None:
    suite = TinySuite() if kind is not Choices else TwoChoices()
    policy = kind(suite.observation, suite.context_dim, suite.action_dim)
    assert rehearse_export(policy, suite)
    assert rehearse_export(IsolatedPolicy.of(policy, suite.contexts, (0, 0, 1, 1), suite.dimensions), suite)
    assert policy.training and all(parameter.requires_grad for parameter in policy.parameters())


@pytest.mark.parametrize(("kind", "reason"), [(WithoutLayers, "WithoutLayers has none"), (Critic, "'value'.*nothing")])
def test_a_policy_without_features_is_exported_without_statistics(
    kind: type[Policy], reason: str, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Critic: no gradient of its loss")  # tests/policies/test_rehearsal.py
        with pytest.warns(UserWarning, match=f"no feature statistics.*({reason})"):
            module = BehaviouralCloning(SUITE, kind)
    shown = TinyExpert().demonstrate(SUITE, [Episode(SUITE.tasks[0], 0)])
    export(module, tmp_path / "policy.safetensors", shown)
    assert load_policy(str(tmp_path / "policy.safetensors")).statistics is None


@pytest.mark.parametrize(("kind", "layer"), [(HeadFirst, "body"), (ParameterHead, "middle")])
def test_a_last_layer_that_does_not_give_the_actions_is_refused_at_once(kind: type[Policy], layer: str) -> None:
    with pytest.raises(InputError, match=f"{kind.__name__}: '{layer}' is the linear layer that is registered last"):
        BehaviouralCloning(SUITE, kind)
    with pytest.raises(InputError, match="Register the last layer last"):
        check_last_layer(kind(*DIMS), Steps.of_state(torch.zeros(2, 2), torch.zeros(2, 1)))


def test_tied_weights_come_back_tied(tmp_path: Path) -> None:
    policy, path = Tied(*DIMS), tmp_path / "policy.safetensors"
    save_policy(path, policy, SUITE.signature(), None, {})
    made = load_policy(str(path)).make()
    assert isinstance(made, Tied) and made.other.weight is made.middle.weight and made.head is made.top
    steps = Steps.of_state(torch.randn(5, 2), torch.randn(5, 1))
    assert torch.equal(made.act(steps), policy.act(steps))


def test_what_no_file_can_hold_is_refused_at_once() -> None:
    class Sparse(Plain):
        def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
            super().__init__(observation, context_dim, action_dim)
            self.register_buffer("table", torch.eye(3).to_sparse())

    with pytest.raises(InputError, match="Sparse cannot be written into a file"):
        BehaviouralCloning(SUITE, Sparse)
