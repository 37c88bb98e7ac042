"""Any Gymnasium environment as a suite, from a configuration alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.simulation.gymnasium_environment import Adapted, Env, Success, make_environment
from amf_lightning.simulation.spaces import ObservationEntries, Rescaled, actions_of
from amf_lightning.suites.contexts import contexts_of
from amf_lightning.suites.language import TextEncoder, contexts_in_words
from amf_lightning.tasks.reference import given_reference, load_reference
from amf_lightning.tasks.spec import described
from amf_lightning.tasks.task import Task, TaskSuite, checked_parallel


@dataclass(frozen=True)
class GymnasiumTask:
    """One task of a `GymnasiumSuite`."""

    name: str
    """People read it in tables."""
    context: list[float] | None = None
    """What policy and expert are told, [C]; None for all tasks: one-hot, the task's number. Only the expert is told it
    where the suite has a `language`."""
    options: dict[str, Any] = field(default_factory=dict)
    """`options` of the environment's `reset`. Most stock environments ignore them."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment's constructor."""
    horizon: int | None = None
    """Steps of an episode, if not the suite's."""
    completes: list[str] = field(default_factory=list)
    """What has to be in `info` under the success key if there is a list there (`episode_task_completions`)."""
    text: str | None = None
    """What to do, in words, if not the name. Only a `language` reads it."""


class GymnasiumSuite(TaskSuite):
    """Tasks in a Gymnasium environment of yours; see docs/your-own-environment.md.

    `reset(seed=..., options=...)` must determine an episode. Pictures become entries of the observation, `image/<key>`,
    all else one float32 vector, `state`: a `Dict` in alphabetical order of its keys. Actions of a `Box` are rescaled
    from [-1, 1] to its bounds; of `Discrete` they are one-hot.

    Args:
        environment: id of a registered environment, `module:id`, or the import path of a class, e.g.
            `my_module.MyEnv`, or of a function that makes one and says so by its return type.
        tasks: what should be learned.
        horizon: steps of an episode.
        arguments: of the environment's constructor, for all tasks.
        success: entry of `info` that says whether the episode so far is a success; if None, the first that is there
            of `success`, `is_success`, `episode_task_completions`.
        return_threshold: instead of `success`: an episode whose return reaches this is a success.
        success_at_any_step: an episode in which the flag was up at any step succeeds, not only one that ends so.
        observation_keys: which entries of a `Dict` observation are read, in this order; all if None.
        reference: file of reference returns that `amf measure` wrote; or for each task
            `{random: ..., expert: ..., spread: ...}`; None if nothing is to be scored.
        name: what policies, demonstrations and reference returns are tied to; `environment` if None.
        parallel_episodes: how many episodes may run at once, each in an environment of its own: 1 for a robot of which
            there is one; as many as are asked for if None. Results do not depend on it.
        language: tells a policy what the task is in words, instead of its context.

    Raises:
        InputError: whatever cannot work: an unknown id, unlike contexts, spaces that are not supported.
    """

    def __init__(
        self,
        environment: str,
        tasks: Sequence[GymnasiumTask],
        horizon: int = 200,
        arguments: Mapping[str, Any] | None = None,
        success: str | None = None,
        return_threshold: float | None = None,
        success_at_any_step: bool = False,
        observation_keys: Sequence[str] | None = None,
        reference: str | dict[str, dict[str, float]] | None = None,
        name: str | None = None,
        parallel_episodes: int | None = None,
        language: TextEncoder | None = None,
    ) -> None:
        self.parallel_episodes = checked_parallel(parallel_episodes, "GymnasiumSuite")
        if success is not None and return_threshold is not None:
            raise InputError("GymnasiumSuite: give `success` or `return_threshold`, not both.")
        self.name = name or environment
        self._environment, self._arguments = environment, dict(arguments or {})
        self._listed, self._observation_keys = list(tasks), observation_keys
        self._success, self._threshold, self._any_step = success, return_threshold, success_at_any_step
        names = [task.name for task in self._listed]
        self._goals = contexts = contexts_of("GymnasiumSuite", names, [task.context for task in self._listed])
        self._one_hot = self._listed[0].context is None and language is None
        if language is not None:
            texts = [task.name if task.text is None else task.text for task in self._listed]
            contexts, self.language = contexts_in_words("GymnasiumSuite", names, texts, language), language.signature()
        self.tasks = tuple(
            Task(task.name, index, contexts[index], horizon if task.horizon is None else task.horizon, task.options)
            for index, task in enumerate(self._listed)
        )
        if any(task.horizon < 1 for task in self.tasks):
            raise InputError(f"GymnasiumSuite: horizon must be at least 1, got {[t.horizon for t in self.tasks]}.")
        self._read_spaces()
        if isinstance(reference, str):
            self.reference = load_reference(reference, self.name, self.tasks)
        elif reference is not None:
            self.reference = given_reference(reference, self.tasks)

    def _read_spaces(self) -> None:
        """Makes an environment to learn what it observes and does."""
        env = self._made(self.tasks[0], None)
        try:
            observations = ObservationEntries(env.observation_space, self._observation_keys)
            actions = actions_of(env.action_space)
        finally:
            env.close()
        self.observation = observations.specs
        self._spaces = {**observations.parts, "actions": str(actions)}
        self.action_dim, self.discrete = actions.size, actions.discrete
        if isinstance(actions, Rescaled):
            self.action_bounds = tuple(actions.low.tolist()), tuple(actions.high.tolist())

    @property
    def goals(self) -> Tensor:
        """The contexts of the configuration, also where a policy is told about the tasks in words."""
        return torch.tensor(self._goals, dtype=torch.float32)

    def signature(self) -> dict[str, Any]:
        """With one-hot contexts the tasks belong to it: the same number means another task elsewhere."""
        return super().signature() | ({"tasks": [task.name for task in self.tasks]} if self._one_hot else {})

    def environment_key(self, task: Task) -> str:
        """Tasks with the same constructor arguments and horizon share environments."""
        return json.dumps([self._arguments_of(task), task.horizon], sort_keys=True, default=repr)

    def episode_success(self, flags: Sequence[bool]) -> bool:
        return any(flags) if self._any_step else super().episode_success(flags)

    def make(self, task: Task, render_mode: str | None = None) -> Env:
        """The environment behind an adapter.

        Raises:
            InputError: its spaces are not those of the first task.
        """
        env = self._made(task, render_mode)
        observations = ObservationEntries(env.observation_space, self._observation_keys)
        actions = actions_of(env.action_space)
        if (observations.specs, actions.size) != (self.observation, self.action_dim):
            raise InputError(
                f"Task '{task.name}' of suite '{self.name}' has observations {described(observations.specs)} and "
                f"{actions.size} actions, the first task {described(self.observation)} and {self.action_dim}. One "
                "policy serves all tasks: give them the same spaces."
            )
        for what, here in {**observations.parts, "actions": str(actions)}.items():
            if (there := self._spaces.get(what)) != here:
                raise InputError(
                    f"Task '{task.name}' of suite '{self.name}' differs in its {what}: {here}, in the first task "
                    f"{there or 'there are none'}. One policy serves all tasks: give them the same spaces."
                )
        completes = frozenset(self._listed[task.index].completes)
        return Adapted(env, observations, actions, Success(self._success, self._threshold, completes, task.name))

    def _arguments_of(self, task: Task) -> dict[str, Any]:
        return self._arguments | self._listed[task.index].arguments

    def _made(self, task: Task, render_mode: str | None) -> Env:
        arguments = self._arguments_of(task)
        if render_mode is not None:
            arguments |= {"render_mode": render_mode}
        return make_environment(self._environment, task.horizon, arguments)
