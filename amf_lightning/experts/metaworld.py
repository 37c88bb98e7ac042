"""Metaworld's own expert."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.suites.metaworld import Metaworld, metaworld_module
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import TaskSuite


class MetaworldExpert(ActingExpert):
    """The scripted policies that Metaworld ships, one for each task.

    They ask for steps of up to 25 times what the arm can do; the environment clips these to [-1, 1], and so are they
    recorded. They succeed at most tasks always, at some in 80 % of the episodes: docs/metaworld.md has the figures.

    Args:
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.
    """

    def actor(self, suite: TaskSuite) -> Controller:
        """The policies of the suite's tasks.

        Raises:
            InputError: the suite is another one.
        """
        if not isinstance(suite, Metaworld):
            raise InputError(
                f"MetaworldExpert knows the suite Metaworld, not '{suite.name}'. Choose that suite's expert."
            )
        policies = metaworld_module("policies").ENV_POLICY_MAP
        return _Scripted([policies[f"{task.name}-v3"]() for task in suite.tasks])


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
