"""Selection contexts over the tests' own world, and a policy whose features are separated by task."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from amf_lightning.policies.capabilities import GaussianDensity, LinearHead
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.statistics import FeatureStatistics, feature_statistics
from amf_lightning.selection.context import SelectionContext
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, Task, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import Steer, TinySuite


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class OppositeGoals(TinySuite):
    """The two goals that are furthest apart: what is right for one is wrong for the other."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = tuple(replace(self.tasks[old], index=new) for new, old in enumerate((0, 3)))
        self.reference = None


def mlp(suite: TaskSuite, seed: int = 0, width: int = 32) -> MLPPolicy:
    """An untrained policy; the same for the same seed."""
    policy = MLPPolicy(suite.observation, suite.context_dim, suite.action_dim, hidden=(width, width))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return policy


class SeparatedPolicy(GaussianDensity, LinearHead, Policy):
    """tanh of a linear map of features that are zero outside the entries of the goal's task: no task helps another."""

    def __init__(self, suite: TaskSuite, width: int = 20) -> None:
        super().__init__()
        self.options, self.width = {}, width
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("goals", suite.contexts[:, 0])
        self.register_buffer("basis", torch.randn(3, width - 3, generator=generator))
        self.head = nn.Linear(width * len(suite.tasks), suite.action_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def hidden(self, steps: Steps) -> Tensor:
        rows = torch.cat([steps.state, torch.ones_like(steps.state[:, :1])], 1)
        features = torch.cat([rows, torch.cos(rows @ self.get_buffer("basis"))], 1)
        mine = steps.contexts == self.get_buffer("goals")
        return (mine[:, :, None] * features[:, None, :]).flatten(1)

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(self.head(self.hidden(steps)))

    @torch.no_grad()
    def master(self, task: Task) -> None:
        """Makes it `SmoothSteer` on one task, exactly."""
        block = self.head.weight[:, task.index * self.width : (task.index + 1) * self.width]
        block[:, 0], block[:, 2] = -5.0, 5.0 * task.context[0]


class SmoothSteer:
    """An expert that `SeparatedPolicy` can be equal to."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.tanh(5 * (contexts - observations[:, :1]))


def rows_of(suite: TaskSuite, demonstrations: Sequence[Trajectory]) -> Steps:
    """Every state in which an action was taken, put together without `steps_of`."""
    contexts = [torch.tensor([suite.task(d.task).context]).expand(d.length, -1) for d in demonstrations]
    return Steps.of_state(
        torch.cat([torch.from_numpy(d.state[:-1]) for d in demonstrations]),
        torch.cat(contexts),
        torch.cat([torch.from_numpy(d.actions) for d in demonstrations]),
    )


def demonstrate(
    suite: TaskSuite, tasks: Sequence[int], seed: int = 100, expert: Acting | None = None
) -> list[Trajectory]:
    """A demonstration of each of the tasks, from different initial states."""
    return rollout(expert or Steer(), suite, [Episode(suite.tasks[task], seed + i) for i, task in enumerate(tasks)])


def statistics_of(policy: Policy, suite: TaskSuite, demonstrations: Sequence[Trajectory]) -> FeatureStatistics:
    names = [demonstration.task for demonstration in demonstrations]
    return feature_statistics(policy, rows_of(suite, demonstrations), {name: names.count(name) for name in names})


def context_of(suite: TaskSuite, policy: Policy, **known: Any) -> SelectionContext:
    """A selection context of round 0 and seed 0 in which `policy` is also π0, unless `known` says otherwise."""
    defaults: dict[str, Any] = {
        "pretrained": frozen_copy(policy),
        "statistics": None,
        "demonstrations": [],
        "round": 0,
        "seed": 0,
        "rollout": lambda actor, episodes: rollout(actor, suite, episodes),
    }
    return SelectionContext(suite=suite, policy=policy, **{**defaults, **known})
