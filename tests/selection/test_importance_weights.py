"""Importance weights against exact enumeration: a tabular policy whose trajectories can all be listed."""

from itertools import pairwise, product
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from selection_world import mlp
from torch import Tensor

from amf_lightning.policies.capabilities import Density
from amf_lightning.policies.protocol import Policy
from amf_lightning.selection.importance_weights import (
    effective_sample_size,
    importance_weights,
    log_ratios,
    smallest_temperature,
)
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Task, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

HORIZON = 3
QUARTERS = np.array([[[1, 3], [2, 2]], [[3, 1], [1, 3]]])
"""Quarters of probability of the actions (down, up), [task, state, action]; an action leads to its own state."""


class TwoStates(TaskSuite):
    name = "two states"
    observation_dim = action_dim = 1
    tasks = tuple(Task(f"task {index}", index, (float(index),), HORIZON) for index in range(2))

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[NDArray[Any], NDArray[Any]]:
        raise NotImplementedError


class Tabular(Density, Policy):
    """Draws an action of ±1 with the probabilities of `QUARTERS`."""

    def __init__(self) -> None:
        super().__init__()
        self.options = {}
        self.register_buffer("table", torch.from_numpy(QUARTERS / 4).float())

    def act(self, steps: Steps) -> Tensor:
        raise NotImplementedError

    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def log_prob(self, steps: Steps) -> Tensor:
        place = steps.contexts[:, 0].long(), steps.state[:, 0].long(), (steps.shown_actions[:, 0] > 0).long()
        return self.get_buffer("table")[place].log()


def every_trajectory(task: int) -> list[tuple[tuple[int, ...], float]]:
    """States 0…H of every trajectory from a fair first state, and its probability under the task."""
    return [
        (
            path,
            0.5 * float(np.prod([QUARTERS[task, s, after] / 4 for s, after in pairwise(path)])),
        )
        for path in product((0, 1), repeat=HORIZON + 1)
    ]


def trajectory(path: tuple[int, ...], task: int) -> Trajectory:
    states = np.array(path, dtype=np.float32)[:, None]
    return Trajectory({"state": states}, states[1:] * 2 - 1, np.zeros(HORIZON), f"task {task}", 0, True)


def test_weights_turn_demonstrations_of_one_task_into_the_occupancy_of_another() -> None:
    """Each trajectory of task 0 as often as it is likely; reweighted, they are the trajectories of task 1."""
    multiples = [(path, round(probability * 2 * 4**HORIZON)) for path, probability in every_trajectory(0)]
    paths = [path for path, times in multiples for _ in range(times)]
    ratios = log_ratios(Tabular(), TwoStates(), [trajectory(path, 0) for path in paths])
    weights = importance_weights(ratios, torch.ones(2))
    for task in range(2):
        for path, probability in every_trajectory(task):
            mass = sum(float(weight) for weight, own in zip(weights[task], paths, strict=True) if own == path)
            assert mass == pytest.approx(probability, rel=1e-5)


def test_log_ratios_of_a_fixed_deviation_are_differences_of_squared_errors() -> None:
    suite, policy = TinySuite(), mlp(TinySuite())
    generator = np.random.default_rng(0)
    observations = generator.standard_normal((6, 2)).astype(np.float32)
    actions = np.tanh(generator.standard_normal((5, 1))).astype(np.float32)
    shown = Trajectory({"state": observations}, actions, np.zeros(5), suite.tasks[1].name, 0, True)
    ratios = log_ratios(policy, suite, [shown])
    states = torch.from_numpy(observations[:-1])
    with torch.no_grad():
        errors = [
            float((torch.from_numpy(actions) - policy.act(Steps.of_state(states, context))).square().sum())
            for context in (torch.full((5, 1), task.context[0]) for task in suite.tasks)
        ]
    for task, error in enumerate(errors):
        assert float(ratios[task, 0]) == pytest.approx(-(error - errors[1]) / (2 * 0.1**2), rel=1e-4, abs=1e-3)


def test_extreme_ratios_do_not_overflow_and_collapse_is_one_demonstration() -> None:
    weights = importance_weights(torch.tensor([[0.0, -4e4, 4e4]]), torch.ones(1))
    assert torch.equal(weights, torch.tensor([[0.0, 0.0, 1.0]]))
    assert float(effective_sample_size(weights)[0]) == 1


def test_ratios_without_a_density_become_equal_weights() -> None:
    ratios = torch.tensor([[torch.nan, -torch.inf, -torch.inf], [torch.nan, 0.0, 0.0]])
    weights = importance_weights(ratios, torch.ones(2))
    assert torch.allclose(weights, torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.0, 0.5, 0.5]]))


def test_the_smallest_temperature_just_reaches_the_sample_size() -> None:
    ratios = torch.tensor([[0.0, -30.0, -2000.0], [0.0, -0.1, 0.2]], dtype=torch.float64)
    temperatures = smallest_temperature(ratios, 2.0)
    sizes = effective_sample_size(importance_weights(ratios, temperatures))
    assert float(sizes[0]) == pytest.approx(2, abs=1e-6)
    assert float(temperatures[1]) == 1  # already enough without tempering
    below = effective_sample_size(importance_weights(ratios, temperatures * 0.99))
    assert float(below[0]) < 2


def test_a_sample_size_out_of_reach_gives_equal_weights() -> None:
    ratios = torch.tensor([[0.0, -4e4]], dtype=torch.float64)
    weights = importance_weights(ratios, smallest_temperature(ratios, 5.0))
    assert torch.allclose(weights, torch.tensor([[0.5, 0.5]], dtype=torch.float64))
