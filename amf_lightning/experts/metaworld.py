"""Metaworld's own expert."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.experts.twin import Twin
from amf_lightning.simulation.simulation import environments
from amf_lightning.suites.metaworld import Metaworld, metaworld_module
from amf_lightning.suites.metaworld_cameras import without_objects
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, TaskSuite


class MetaworldExpert(ActingExpert):
    """The scripted policies that Metaworld ships, one for each task.

    They ask for steps of up to 25 times what the arm can do; the environment clips these to [-1, 1], and so are they
    recorded. They succeed at most tasks always, at some in 80 % of the episodes: docs/metaworld.md has the figures.

    Args:
        noise: see `ActingExpert`; 0 where the suite has cameras, as the scripted policies then act in a second
            environment beside each episode, which knows nothing of the disturbance.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.
    """

    def actor(self, suite: TaskSuite) -> Controller:
        """The policies of the suite's tasks.

        Raises:
            InputError: the suite is another one; noise, where the suite has cameras.
        """
        if not isinstance(suite, Metaworld):
            raise InputError(
                f"MetaworldExpert knows the suite Metaworld, not '{suite.name}'. Choose that suite's expert."
            )
        policies = metaworld_module("policies").ENV_POLICY_MAP
        scripted = _Scripted([policies[f"{task.name}-v3"]() for task in suite.tasks])
        if suite.cameras is None:
            return scripted
        if self.noise:
            raise InputError(f"expert.noise is {self.noise}; with cameras MetaworldExpert can only act without noise.")
        return _Beside(scripted, suite.in_numbers)


class _Scripted(Controller):
    """Has the policy of each row's task act, row by row."""

    def __init__(self, policies: Sequence[Any]) -> None:
        self._policies = policies

    def act(self, steps: Steps) -> Tensor:
        """Actions [N, 4]; of a row of zeros, which stands for no episode, zeros."""
        rows = steps.state.double().cpu().numpy()
        actions = np.zeros((len(rows), 4), dtype=np.float32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constant")  # that a step is larger than the arm can do
            for number, (task, row) in enumerate(zip(steps.tasks.tolist(), rows, strict=True)):
                if row.any():
                    actions[number] = self._policies[task].get_action(row)
        return torch.from_numpy(actions.clip(-1.0, 1.0)).to(steps.state)


class _Beside(Controller):
    """Has the policies act on the 39 numbers of each episode's twin, which pictures take the place of."""

    def __init__(self, scripted: _Scripted, suite: Metaworld) -> None:
        self._scripted, self._suite = scripted, suite
        self._twins: list[Twin] = []

    def begin(self, episodes: Sequence[Episode], width: int) -> None:
        envs = environments(self._suite, episodes)
        self._twins = [Twin(env, episode) for env, episode in zip(envs, episodes, strict=True)]

    def act(self, steps: Steps) -> Tensor:
        """Actions [N, 4]; zeros in rows without an episode that goes on.

        Raises:
            InputError: a row shows something else than its twin, so that nobody knows where its objects are.
        """
        numbers = np.zeros((len(steps), *self._suite.observation[STATE].shape), dtype=np.float32)
        running = [(row, twin) for row, twin in enumerate(self._twins) if not twin.ended]
        for row, twin in running:
            seen = {STATE: steps.observations[STATE][row].cpu().numpy()}
            twin.compare(seen, {STATE: without_objects(twin.observation[STATE])}, "MetaworldExpert")
            numbers[row] = twin.observation[STATE]
        told = Steps({STATE: torch.from_numpy(numbers)}, steps.tasks, steps.contexts)
        actions = self._scripted.act(told)
        for row, twin in running:
            twin.step(actions[row].numpy())
        return actions.to(steps.device)
