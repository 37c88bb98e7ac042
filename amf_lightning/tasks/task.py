"""A task, and a suite of tasks that share observations, actions and a context."""

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE, Dimensions, Specs, specs_from_json, specs_to_json, state_size, state_specs


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


EvaluationJob = tuple[int, Episode]
"""Number of an evaluation episode within its task, and the episode."""


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
    """Tasks over one kind of observations and of actions.

    A subclass sets `name`, `tasks`, `action_dim`, and `observation` or, where that is one vector, `observation_dim`.
    One that can be simulated has a method `make(task, render_mode=None)`, which gives an environment; see `Simulator`.
    """

    name: str
    tasks: tuple[Task, ...]
    action_dim: int
    discrete: bool = False
    """Whether actions are choices: one-hot vectors, of which the environment reads the largest entry."""
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """What -1 and 1 stand for in the environment's own units, [A] each; None if for themselves."""
    reference: ReferenceReturns | None = None
    weights: tuple[float, ...] | None = None
    """Evaluation distribution over tasks; uniform if None. Read it through `distribution`."""
    parallel_episodes: int | None = None
    """How many episodes may run at once: 1 for a robot, of which there is one; None: as many as are asked for. A suite
    that says so is taken for one whose episodes are dear: each evaluated one is on the disk before the next begins."""
    language: Mapping[str, Any] | None = None
    """How what its tasks are in words became their contexts, the `signature` of a text encoder; None if it did not."""
    metrics_text: str = ""
    """What the suite's metrics are, with their units: a clause of the caption of a table that shows them."""

    @cached_property
    def observation(self) -> Specs:
        """The entries of an observation by name: one vector, unless a suite says otherwise."""
        if isinstance(getattr(type(self), "observation_dim", None), cached_property) and (
            "observation_dim" not in vars(self)
        ):
            raise InputError(f"{type(self).__name__} sets neither `observation` nor `observation_dim`.")
        return state_specs(self.observation_dim)

    @cached_property
    def observation_dim(self) -> int:
        """O, where an observation is one vector; InputError where it is not."""
        return state_size(self.observation, "A part of this run")

    @property
    def simulator(self) -> Any:
        """What runs episodes of it, a `simulation.Simulator`; None if nothing does.

        The suite itself if it can `make` environments.
        """
        return self if callable(getattr(self, "make", None)) else None

    def environment_key(self, task: Task) -> str:
        """Tasks with the same key can be run in the same environment object, one after the other."""
        return self.name

    def episode_success(self, flags: Sequence[bool]) -> bool:
        """Whether an episode with these `info["success"]` flags, one a step, succeeded: the last one by default."""
        return bool(flags[-1])

    @property
    def dimensions(self) -> Dimensions:
        """What a policy for it is made for."""
        return Dimensions(self.observation, self.context_dim, self.action_dim)

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
        raise InputError(f"Suite '{self.name}' has no task '{name}'.{hint} Name one of its tasks: {', '.join(names)}.")

    def signature(self) -> dict[str, Any]:
        """What must agree for a policy, an expert or a demonstration to belong to this suite."""
        return {
            "name": self.name,
            **_observation_signature(self.observation),
            "action_dim": self.action_dim,
            "context_dim": self.context_dim,
            **({"discrete": True} if self.discrete else {}),
            **({} if self.language is None else {"language": dict(self.language)}),
        }


def checked_parallel(episodes: int | None, suite: str, processes: int = 1) -> int | None:
    """`TaskSuite.parallel_episodes`, if it makes sense and as many processes can keep to it.

    Raises:
        InputError: it is no positive number, or several processes would each run so many.
    """
    if episodes is not None and episodes < 1:
        raise InputError(f"{suite}: parallel_episodes is {episodes}; it must be at least 1, or None.")
    if episodes is not None and processes > 1:
        raise InputError(
            f"{suite} can run {episodes} episodes at once (parallel_episodes), but {processes} processes would run "
            "some each. Set trainer.devices: 1."
        )
    return episodes


def _observation_signature(observation: Specs) -> dict[str, Any]:
    """Where there is one vector its length says it all, as files of version 0.1 have it."""
    if list(observation) == [STATE] and observation[STATE].is_vector:
        return {"observation_dim": observation[STATE].shape[0]}
    return {"observation": specs_to_json(observation)}


def dimensions_of(signature: Mapping[str, Any]) -> Dimensions:
    """Dimensions of a suite by its `signature`."""
    if "observation_dim" in signature:
        observation: Specs = state_specs(signature["observation_dim"])
    else:
        observation = specs_from_json(signature["observation"])
    return Dimensions(observation, signature["context_dim"], signature["action_dim"])
