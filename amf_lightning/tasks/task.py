"""A task, and a suite of tasks that share observations, actions and a context."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from amf_lightning.errors import InputError


@dataclass(frozen=True)
class Task:
    """One thing the policy should be able to do."""

    name: str
    """Unique within its suite; people read it in tables."""
    index: int
    """Position within the suite."""
    context: tuple[float, ...]
    """What the policy is told about the task, [C]."""
    horizon: int
    """Steps after which an episode ends."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """`options` of the environment's `reset` that set the task."""


@dataclass(frozen=True)
class Episode:
    """An episode to be run: a task and the seed of the environment's reset."""

    task: Task
    seed: int
    number: int | None = None
    """Which demonstration of its task in a run this is, from 0, where it is one: recordings are given in that order."""

    def where(self, step: int) -> str:
        """How messages name a step of it."""
        return f"Task '{self.task.name}', seed {self.seed}, step {step}"


@dataclass(frozen=True)
class ReferenceReturns:
    """Returns between which scores are normalised, one entry a task, with the command that measured them."""

    random: tuple[float, ...]
    """Mean return of uniformly random actions."""
    expert: tuple[float, ...]
    """Mean return of the expert."""
    spread: tuple[float, ...]
    """Standard deviation of the expert's return over episodes."""
    command: str
    """What to run to measure them again."""


class TaskSuite(ABC):
    """Tasks over one observation space and one action space.

    A subclass sets `name`, `tasks`, `observation_dim`, `action_dim` and `reference`, and makes environments.
    """

    name: str
    tasks: tuple[Task, ...]
    observation_dim: int
    action_dim: int
    discrete: bool = False
    """Whether actions are choices: one-hot vectors, of which the environment reads the largest entry."""
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """What -1 and 1 stand for in the environment's own units, [A] each; None if for themselves."""
    reference: ReferenceReturns | None = None
    weights: tuple[float, ...] | None = None
    """Evaluation distribution over tasks; uniform if None. Read it through `distribution`."""
    metrics_text: str = ""
    """What the suite's metrics are, with their units: a clause of the caption of a table that shows them."""

    @abstractmethod
    def make(self, task: Task, render_mode: str | None = None) -> Any:
        """An environment in which `reset(seed=..., options=task.options)` starts an episode of `task`.

        Its actions lie in [-1, 1]. It truncates after `task.horizon` steps. `info["success"]` says at each step
        whether the episode so far is a success; `info["metrics"]`, if present, holds further numbers.
        """

    def environment_key(self, task: Task) -> str:
        """Tasks with the same key can be run in the same environment object, one after the other."""
        return self.name

    def episode_success(self, flags: Sequence[bool]) -> bool:
        """Whether an episode with these `info["success"]` flags, one a step, succeeded: the last one by default."""
        return bool(flags[-1])

    @property
    def context_dim(self) -> int:
        """C, the length of every task's context."""
        return len(self.tasks[0].context)

    @property
    def distribution(self) -> Tensor:
        """Evaluation distribution μ over tasks, [K] float64, sums to one."""
        weights = self.weights or (1.0,) * len(self.tasks)
        tensor = torch.tensor(weights, dtype=torch.float64)
        return tensor / tensor.sum()

    @property
    def contexts(self) -> Tensor:
        """Contexts of all tasks, [K, C] float32."""
        return torch.tensor([task.context for task in self.tasks], dtype=torch.float32)

    @property
    def goals(self) -> Tensor:
        """What an expert is told about each task, [K, G] float32: the contexts, unless a suite says otherwise."""
        return self.contexts

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            InputError: there is none; the message names the nearest.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        names = [task.name for task in self.tasks]
        near = get_close_matches(name, names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise InputError(f"Suite '{self.name}' has no task '{name}'.{hint} Its tasks: {', '.join(names)}.")

    def signature(self) -> dict[str, Any]:
        """What must agree for a policy, an expert or a demonstration to belong to this suite."""
        return {
            "name": self.name,
            "observation_dim": self.observation_dim,
            "action_dim": self.action_dim,
            "context_dim": self.context_dim,
            **({"discrete": True} if self.discrete else {}),
        }
