"""A transformer of discrete actions: what it remembers, and what makes states alike for it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_encoders import ACTIONS, CONTEXT, TREE, rows
from torch import Tensor
from torch.func import functional_call, jacrev

from amf_lightning.errors import InputError
from amf_lightning.policies.categorical_transformer import CategoricalTransformer
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import last_layer_features

TINY: dict[str, Any] = {"width": 16, "heads": 2, "layers": 1, "dropout": 0.0}


def test_it_learns_what_only_the_observation_before_tells() -> None:
    torch.manual_seed(0)
    policy = CategoricalTransformer({"state": Spec((1,))}, 1, 2, history=2, **TINY)
    state = torch.randn(128, 2, 1)
    rose = (state[:, 1] > state[:, 0]).long().squeeze(1)
    tasks, actions = torch.zeros(128, dtype=torch.int64), F.one_hot(rose, 2).float()
    steps = Steps({"state": state}, tasks, torch.zeros(128, 1), actions)
    policy.fit_normaliser(steps)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        policy.loss(steps).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    chosen = policy.eval().act(steps).argmax(dim=1)
    assert float((chosen == rose).float().mean()) > 0.95


def test_its_features_are_the_last_token() -> None:
    torch.manual_seed(0)
    policy = CategoricalTransformer(TREE, CONTEXT, ACTIONS, encoder=None, **TINY).eval()
    seen = rows(2, history=4)
    module = _Logits(policy)
    weights = {"head.weight": policy.head.weight.detach(), "head.bias": policy.head.bias.detach()}

    def logits(weights: dict[str, Tensor], row: Steps) -> Tensor:
        said: Tensor = functional_call(module, {f"policy.{name}": weight for name, weight in weights.items()}, (row,))
        return said

    phi = last_layer_features(policy, seen).float()
    for number in range(2):
        by = jacrev(logits)(weights, seen[number : number + 1])
        for action in range(ACTIONS):
            gradient = torch.cat([by["head.weight"][action, action], by["head.bias"][action, action, None]])
            torch.testing.assert_close(gradient, phi[number], atol=1e-5, rtol=1e-5)


class _Logits(torch.nn.Module):
    def __init__(self, policy: CategoricalTransformer) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, steps: Steps) -> Tensor:
        return self.policy.logits(steps)[0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="multiple of heads"):
        CategoricalTransformer(TREE, CONTEXT, ACTIONS, encoder=None, width=9)
