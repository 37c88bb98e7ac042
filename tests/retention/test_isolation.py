from collections.abc import Callable, Iterable

import pytest
import torch
from selection_world import mlp
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from amf_lightning.errors import InputError
from amf_lightning.policies.mixture import IsolatedPolicy
from amf_lightning.retention.isolation import ParameterIsolation
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

SUITE = TinySuite()
NAMES = [task.name for task in SUITE.tasks]
OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "adamw": lambda parameters: AdamW(parameters, lr=1e-2, weight_decay=0.1),
    "momentum": lambda parameters: SGD(parameters, lr=1e-2, momentum=0.9, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_groups_without_demonstrations_stay_as_they_were_to_the_bit(name: str) -> None:
    retention = ParameterIsolation([NAMES[:2], NAMES[2:3], NAMES[3:]])
    policy = retention.wrap(mlp(SUITE), SUITE)
    assert isinstance(policy, IsolatedPolicy)
    optimizer = OPTIMISERS[name](policy.parameters())
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        state, actions = torch.randn(16, 2, generator=generator), torch.rand(16, 1, generator=generator)
        contexts = SUITE.contexts[torch.randint(2, (16,), generator=generator)]
        optimizer.zero_grad()
        retention.loss(policy, Steps.of_state(state, contexts, actions)).mean().backward()  # type: ignore[no-untyped-call]
        retention.before_step(policy)
        optimizer.step()
    for number, copy in enumerate(policy.copies):
        for parameter, old in zip(copy.parameters(), mlp(SUITE).parameters(), strict=True):
            assert torch.equal(parameter, old) is (number > 0)


def test_by_default_every_task_is_a_group() -> None:
    policy = ParameterIsolation().wrap(mlp(SUITE), SUITE)
    assert policy.part_of(SUITE.contexts).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([NAMES[:2]], "goal=0.5, goal=1 in no group"),
        ([NAMES, NAMES[:1]], "goal=-1 in two groups"),
        ([NAMES, []], "a group is empty"),
        ([["goal=7"]], "has no task 'goal=7'"),
    ],
)
def test_groups_hold_every_task_once(groups: list[list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ParameterIsolation(groups).wrap(mlp(SUITE), SUITE)
