"""What a policy of a user needs, and what it gets for it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import GaussianDensity, LinearHead
from amf_lightning.policies.categorical import CategoricalPolicy
from amf_lightning.policies.mixture import IsolatedPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.recipe import from_recipe, recipe_of
from amf_lightning.policies.weights import build_policy
from amf_lightning.tasks.spec import Dimensions, Specs, state_size, state_specs
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import gradient_factors

DIMS = Dimensions(state_specs(3), 2, 1)


class Least(GaussianDensity, LinearHead, Policy):
    """No more than is asked for."""

    def __init__(
        self, observation: Specs | int, context_dim: int, action_dim: int, width: int = 4, name: object = "x"
    ) -> None:
        super().__init__()
        self.body = nn.Linear(state_size(observation, type(self).__name__) + context_dim, width)
        self.top = nn.Linear(width, action_dim)

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(self.top(torch.relu(self.body(torch.cat([steps.state, steps.contexts], dim=1)))))


class Critic(Least):
    """Has a linear layer that is registered later and not used to act."""

    def __init__(self, observation: Specs | int, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.value = nn.Linear(4, 1)


class Tokens(Least):
    """Applies its last layer to two tokens of each state."""

    def act(self, steps: Steps) -> Tensor:
        hidden = torch.relu(self.body(torch.cat([steps.state, steps.contexts], dim=1)))
        return torch.tanh(self.top(torch.stack([hidden, -hidden], dim=1))).mean(dim=1)


@pytest.fixture
def rows() -> Steps:
    generator = torch.Generator().manual_seed(0)
    return Steps.of_state(*(torch.randn(5, size, generator=generator) for size in (3, 2, 1)))


def test_the_defaults_agree_with_each_other(rows: Steps) -> None:
    policy = Least(3, 2, 1)
    mean = policy(rows)
    normal = torch.distributions.Normal(mean, policy.action_std)
    log_prob = policy.log_prob(rows)
    wanted: Tensor = normal.log_prob(rows.shown_actions)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_prob, wanted.sum(1))
    torch.testing.assert_close(policy.loss(rows), (mean - rows.shown_actions).square().mean(1))
    many = rows[torch.zeros(20_000, dtype=torch.int64)]
    drawn = policy.sample(many, torch.Generator().manual_seed(1))
    assert abs(float(drawn.mean() - mean[0].detach())) < 0.005 and abs(float(drawn.std()) - 0.1) < 0.005
    assert policy.is_normalised


def test_features_are_those_of_the_last_layer(rows: Steps) -> None:
    policy = Least(3, 2, 1)
    assert policy.output_layer is policy.top
    inputs = torch.cat([rows.state, rows.contexts], dim=1)
    assert torch.equal(policy.features(rows), torch.relu(policy.body(inputs)))


@pytest.mark.parametrize(("kind", "reason"), [(Critic, "'value'.*applied to nothing"), (Tokens, r"'top'.*\(5, 2, 4\)")])
def test_a_last_layer_that_is_none_is_refused(kind: type[Least], reason: str, rows: Steps) -> None:
    policy = kind(3, 2, 1)
    with pytest.raises(InputError, match=reason):
        policy.features(rows)
    with pytest.raises(InputError, match=reason):
        gradient_factors(policy, rows)


def test_options_are_kept_however_they_are_given() -> None:
    assert Least(3, 2, 1).options == {"width": 4, "name": "x"}
    assert Least(3, 2, 1, 8, name="y").options == {"width": 8, "name": "y"}
    assert copy.deepcopy(Least(3, 2, 1, 8)).options == {"width": 8, "name": "x"}


class Loose(Least):
    """Passes on whatever it is given."""

    def __init__(self, observation: Specs | int, context_dim: int, action_dim: int, **options: Any) -> None:
        super().__init__(observation, context_dim, action_dim, **options)


def test_options_taken_in_bulk_are_kept_flat_and_make_the_policy_again() -> None:
    assert Loose(3, 2, 1).options == {}
    assert Loose(3, 2, 1, width=8).options == {"width": 8}
    copies = IsolatedPolicy.of(Loose(3, 2, 1, width=8), torch.eye(2), (0, 1), DIMS)
    made = from_recipe(recipe_of(copies), DIMS)
    made.load_state_dict(copies.state_dict())
    nested = {"class": f"{__name__}.Loose", "options": {"options": {"width": 8}}}  # as files were written once
    assert isinstance(made, IsolatedPolicy)
    assert [part.options for part in (*made.copies, from_recipe(nested, DIMS))] == [{"width": 8}] * 3


class NoAct(Policy):
    """Does not say how it acts."""


class NoChoice(CategoricalPolicy):
    """Does not say how it acts, either."""


class NoStart(Least):
    def __init__(self, observation: Specs | int, context_dim: int, action_dim: int) -> None:
        self.body = nn.Linear(state_size(observation, type(self).__name__), action_dim)


class Lazy(Least):
    def __init__(self, observation: Specs | int, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.body = nn.LazyLinear(4)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NoAct, "policy NoAct has no method `act`"),
        (NoChoice, "policy NoChoice has no method `logits`"),
        (NoStart, r"call super\(\).__init__\(\) first"),
        (Lazy, "Lazy has layers whose sizes are not known"),
    ],
)
def test_what_is_no_policy_yet_is_refused_in_words(kind: type[Policy], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        build_policy(kind, DIMS, torch.Generator().manual_seed(0))


def test_options_that_no_file_can_hold_are_refused_at_once() -> None:
    def make(observation: Specs | int, context_dim: int, action_dim: int) -> Policy:
        return Least(observation, context_dim, action_dim, name=torch.zeros(1))

    with pytest.raises(InputError, match=r"options of Least.*plain numbers"):
        build_policy(make, DIMS, torch.Generator().manual_seed(0))
