"""How important each weight is to what π0 does, measured without its pre-training data."""

from abc import ABC, abstractmethod
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.retention import RetentionContext
from amf_lightning.tasks.seeding import Purpose, keyed_generator, keyed_seed
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class Importance(ABC):
    """Scores every weight of a policy; the largest are worth protecting."""

    @abstractmethod
    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        """Importance of every parameter of `context.pretrained`, same shapes."""


class FisherImportance(Importance):
    """Diagonal Fisher information of π0's own action distribution on states of its own rollouts.

    Args:
        episodes: rollouts of π0 for each task that it was pre-trained on (every task, if its file does not say).
    """

    def __init__(self, episodes: int = 2) -> None:
        if episodes < 1:
            raise InputError(f"FisherImportance.episodes is {episodes}; it must be at least 1.")
        self.episodes = episodes

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        counts = context.pretraining_counts
        known = [task.index for task in context.suite.tasks if counts is None or counts[task.index] > 0]
        observations, contexts, _ = pretrained_rows(context, known, self.episodes)
        generator = keyed_generator(context.seed, Purpose.RETAIN, 1)
        actions = context.pretrained.sample(observations, contexts, generator)
        return diagonal_fisher(context.pretrained, observations, contexts, actions)


class MagnitudeImportance(Importance):
    """|θ|: large weights are taken to matter. Needs no simulator."""

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        return {name: parameter.detach().abs() for name, parameter in context.pretrained.named_parameters()}


class RandomImportance(Importance):
    """A keyed uniform draw: the control against which an importance must show its worth."""

    def compute(self, context: RetentionContext) -> dict[str, Tensor]:
        generator = keyed_generator(context.seed, Purpose.RETAIN, 2)
        return {
            name: torch.rand(parameter.shape, generator=generator)
            for name, parameter in context.pretrained.named_parameters()
        }


def diagonal_fisher(
    policy: Policy, observations: Tensor, contexts: Tensor, actions: Tensor, chunk: int = 128
) -> dict[str, Tensor]:
    """Mean over N rows of the squared gradient of each row's log-probability: diag F = E[(∂ log π(a|s,c)/∂θ)²].

    The squared gradient of the mean would be something else: it vanishes at a maximum of the likelihood.

    Args:
        policy: π.
        observations: [N, O].
        contexts: [N, C].
        actions: drawn from the policy itself, [N, A] (otherwise it is the empirical Fisher).
        chunk: rows whose gradients are held at once.

    Returns:
        For each named parameter a tensor of its shape, not negative.
    """
    parameters = {name: parameter.detach() for name, parameter in policy.named_parameters()}
    buffers = dict(policy.named_buffers())

    def log_prob(weights: dict[str, Tensor], observation: Tensor, context: Tensor, action: Tensor) -> Tensor:
        wrapped = _LogProb(policy)
        renamed = {f"policy.{name}": tensor for name, tensor in (weights | buffers).items()}
        rows = (observation[None], context[None], action[None])
        return cast(Tensor, functional_call(wrapped, renamed, rows))[0]

    per_row = vmap(grad(log_prob), in_dims=(None, 0, 0, 0))
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for start in range(0, len(observations), chunk):
        rows = slice(start, start + chunk)
        gradients = per_row(parameters, observations[rows], contexts[rows], actions[rows])
        for name, gradient in gradients.items():
            total[name] += gradient.square().sum(dim=0)
    return {name: tensor / len(observations) for name, tensor in total.items()}


def pretrained_rows(context: RetentionContext, tasks: list[int], episodes: int) -> tuple[Tensor, Tensor, list[int]]:
    """States of π0's own rollouts of some tasks.

    Returns:
        observations [N, O] and contexts [N, C], float32, and the task index of each row, N long.
    """
    wanted = [
        Episode(context.suite.tasks[index], keyed_seed(context.seed, Purpose.RETAIN, 0, index, i))
        for index in tasks
        for i in range(episodes)
    ]
    trajectories = context.rollout(context.pretrained, wanted)
    observations, contexts = states_of(trajectories, context.suite)
    rows = [episode.task.index for episode, done in zip(wanted, trajectories, strict=True) for _ in done.actions]
    return observations, contexts, rows


def states_of(trajectories: list[Trajectory], suite: TaskSuite) -> tuple[Tensor, Tensor]:
    """The states in which actions were taken, [N, O], with the context of each one's task, [N, C]."""
    observations = torch.from_numpy(np.concatenate([trajectory.observations[:-1] for trajectory in trajectories]))
    index = torch.tensor([suite.task(trajectory.task).index for trajectory in trajectories])
    lengths = torch.tensor([trajectory.length for trajectory in trajectories])
    return observations, suite.contexts[index.repeat_interleave(lengths)]


class _LogProb(torch.nn.Module):
    """`functional_call` calls `forward`; this makes it call `log_prob`."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        return self.policy.log_prob(observations, contexts, actions)
