"""Episodes of narrow networks: what MKL makes of a row must not depend on the place of its episode."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.policies.chunked_mlp import ChunkedMLP
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.preflight import check_placed
from amf_lightning.policies.protocol import Policy
from amf_lightning.simulation.placement import rows_apart
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from tiny import TinySuite


class Wide(TinySuite):
    """Two actions, of which the world takes the first."""

    action_dim = 2

    def make(self, task: Any, render_mode: str | None = None) -> Any:
        env = super().make(task, render_mode)
        step = env.step
        env.step = lambda action: step(action[:1])  # type: ignore[method-assign]
        return env


WORLD = Wide()
NARROW: dict[str, Callable[..., Policy]] = {
    "MLPPolicy": partial(MLPPolicy, hidden=(9, 50)),
    "ChunkedMLP": partial(ChunkedMLP, hidden=(30,), horizon=3),
}


@pytest.mark.parametrize("name", NARROW)
def test_an_episode_of_a_narrow_network_does_not_depend_on_its_place(name: str) -> None:
    torch.manual_seed(0)
    policy = NARROW[name](WORLD.observation, 1, 2).eval()
    assert rows_apart(policy) == 4
    episodes = [Episode(WORLD.tasks[number % 4], 10 + number) for number in range(8)]
    together = rollout(policy, WORLD, episodes)
    for by in (1, 2, 3):
        moved = rollout(policy, WORLD, episodes[by:] + episodes[:by])
        for one, other in zip(together[by:] + together[:by], moved, strict=True):
            assert one.actions.tobytes() == other.actions.tobytes()
            assert one.state.tobytes() == other.state.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_placed(policy, WORLD)


def test_networks_of_the_shipped_sizes_act_as_they_always_did() -> None:
    policy = MLPPolicy(17, 1, 6)
    assert rows_apart(policy) == 1 and rows_apart(policy.controller()) == 1
    assert rows_apart(nn.MultiheadAttention(12, 2)) == 4 and rows_apart(nn.MultiheadAttention(16, 2)) == 1


class Functional(Policy):
    """Computes with a narrow matrix that is no layer."""

    def __init__(self, observation: Any, context_dim: int, action_dim: int) -> None:
        super().__init__()
        self.body = nn.Linear(2 + context_dim, 50)
        self.matrix = nn.Parameter(0.1 * torch.randn(action_dim, 50))

    def act(self, steps: Steps) -> Tensor:
        return F.linear(torch.tanh(self.body(torch.cat([steps.state, steps.contexts], dim=1))), self.matrix)


def test_a_dependence_that_no_layer_shows_is_told_of_before_anything_is_demonstrated() -> None:
    torch.manual_seed(0)
    policy = Functional(WORLD.observation, 1, 2).eval()
    steps = Steps.of_state(torch.randn(32, 2), torch.randn(32, 1))
    with torch.no_grad():
        if torch.equal(policy.act(steps[torch.arange(32).roll(1)]), policy.act(steps).roll(1, 0)):
            pytest.skip("this machine's matrix products do not depend on the place of a row")
    with pytest.warns(UserWarning, match="Functional: the last bits of a row depend on its place among 32 rows"):
        check_placed(policy, WORLD)
