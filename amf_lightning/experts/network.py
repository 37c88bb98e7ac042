"""Experts that are plain networks in files that other programs wrote."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.tasks.controller import Acting, Actor, Controller
from amf_lightning.tasks.spec import state_size
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import TaskSuite

Finish = Callable[[Tensor, TaskSuite], Tensor]
"""From outputs of the last layer [N, A] to actions in [-1, 1]."""


def squashed(outputs: Tensor, suite: TaskSuite) -> Tensor:
    """tanh: the network was trained with actions in [-1, 1]."""
    return torch.tanh(outputs)


def in_own_units(outputs: Tensor, suite: TaskSuite) -> Tensor:
    """The network gives actions of the environment: clipped to its bounds, which become -1 and 1."""
    low, high = (-1.0, 1.0) if suite.action_bounds is None else map(outputs.new_tensor, suite.action_bounds)
    return ((outputs - low) / (high - low) * 2 - 1).clamp(-1, 1)


def largest(outputs: Tensor, suite: TaskSuite) -> Tensor:
    """One-hot of the largest output, for discrete actions."""
    return F.one_hot(outputs.argmax(dim=1), outputs.shape[1]).to(outputs)


@dataclass(frozen=True, eq=False)
class Network:
    """Linear layers with an activation between them."""

    path: Path
    layers: Sequence[tuple[Tensor, Tensor]]
    """Weight [out, in] and bias [out] of each."""
    activation: Callable[[Tensor], Tensor]
    finish: Finish
    discrete: bool | None = None
    """Whether its outputs are the worth of choices; None if that is the suite's to say."""

    def __post_init__(self) -> None:
        shapes = [tuple(weight.shape) for weight, _ in self.layers]
        for (weight, bias), shape in zip(self.layers, shapes, strict=True):
            if weight.ndim != 2 or bias.shape != weight.shape[:1]:
                raise InputError(
                    f"{self.path}: a weight of shape {shape} with a bias of shape {tuple(bias.shape)} is no linear "
                    "layer, [out, in] and [out]. Such a network needs a class of yours, chosen by ActorExpert."
                )
        if not shapes:
            raise InputError(f"{self.path}: expert.layers names none; leave it out for all that there are.")
        if any(lower[0] != upper[1] for lower, upper in pairwise(shapes)):
            raise InputError(f"{self.path}: layers of shapes {shapes} [out, in] do not follow one another.")

    def actor(self, suite: TaskSuite) -> Actor:
        """Acts on observations, or, where its input is wider by as much, on observations followed by the goal.

        Raises:
            InputError: its input or output has another width, the other kind of actions, or the suite's observations
                are no vectors.
        """
        inputs, outputs = self.layers[0][0].shape[1], self.layers[-1][0].shape[0]
        observations, goals = state_size(suite.observation, f"{self.path}"), suite.goals.shape[1]
        if inputs not in (observations, observations + goals):
            raise InputError(
                f"{self.path} reads {inputs} numbers; suite '{suite.name}' has observations of {observations} and "
                f"goals of {goals}. The expert must have been trained on the observations, alone or followed by goals."
            )
        if outputs != suite.action_dim or self.discrete not in (None, suite.discrete):
            kinds = {True: "discrete ", False: "continuous ", None: ""}
            raise InputError(
                f"{self.path} has {outputs} {kinds[self.discrete]}actions, suite '{suite.name}' has "
                f"{suite.action_dim} {kinds[suite.discrete]}ones."
            )
        return _Acting(self, suite, with_goal=inputs > observations)


class _Acting:
    def __init__(self, network: Network, suite: TaskSuite, with_goal: bool) -> None:
        self._network, self._suite, self._with_goal = network, suite, with_goal

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        hidden = torch.cat([observations, contexts], dim=1) if self._with_goal else observations
        *below, (weight, bias) = self._network.layers
        for w, b in below:
            hidden = self._network.activation(F.linear(hidden, w, b))
        finish = largest if self._suite.discrete else self._network.finish
        return finish(F.linear(hidden, weight, bias), self._suite)


class NetworkExpert(ActingExpert):
    """Networks from files: one for all tasks, or one for each.

    Args:
        weights: a file, or for each task, by name, its own.
        read: makes the network of a file.
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.
    """

    @abstractmethod  # it is not for configurations, which cannot say how files are read
    def __init__(
        self,
        weights: str | Mapping[str, str],
        read: Callable[[Path], Network],
        noise: float,
        successes_only: bool,
        max_attempts: int,
    ) -> None:
        super().__init__(noise, successes_only, max_attempts)
        self._shared = read(Path(weights)) if isinstance(weights, str) else None
        self._own = {} if isinstance(weights, str) else {task: read(Path(file)) for task, file in weights.items()}

    def actor(self, suite: TaskSuite) -> Acting:
        """The network, or one that asks each task's own.

        Raises:
            InputError: a task has none, one is for no task, or a network does not fit the suite.
        """
        if self._shared is not None:
            return self._shared.actor(suite)
        names = [task.name for task in suite.tasks]
        if unknown := sorted(set(self._own) - set(names)):
            raise InputError(f"expert.weights names files for {', '.join(unknown)}; the tasks are {', '.join(names)}.")
        if missing := [name for name in names if name not in self._own]:
            raise InputError(f"expert.weights names no file for {', '.join(missing)}. Name one for each task, or one.")
        return _EachItsOwn([self._own[task.name].actor(suite) for task in suite.tasks], suite.goals)


class _EachItsOwn(Controller):
    """Has the actor of each row's task act, on the goal of that task."""

    def __init__(self, actors: Sequence[Actor], goals: Tensor) -> None:
        self._actors, self._goals = actors, goals

    def act(self, steps: Steps) -> Tensor:
        goals = self._goals[steps.tasks]
        # Every actor gets the whole batch: at another width the same row would have other bits.
        tasks = steps.tasks.tolist()
        actions = {task: self._actors[task].act(steps.state, goals) for task in set(tasks)}
        return torch.stack([actions[task][row] for row, task in enumerate(tasks)])
