"""Scores by the error on held-out recordings, against numbers that are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from selection_world import OppositeGoals, SeparatedPolicy, SmoothSteer, demonstrate, rows_of
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.evaluation.held_out import HeldOutError, action_error
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.steps import Steps

SUITE = OppositeGoals()
HELD = {task.name: demonstrate(SUITE, [task.index] * 2, expert=SmoothSteer()) for task in SUITE.tasks}


class Constant(Policy):
    """The same action everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def act(self, steps: Steps) -> Tensor:
        return torch.full((len(steps.contexts), SUITE.action_dim), self.value)


def test_a_policy_that_does_what_was_recorded_scores_one_and_others_what_they_deserve() -> None:
    policy = SeparatedPolicy(SUITE)
    policy.master(SUITE.tasks[0])
    evaluation = HeldOutError().measured(policy, SUITE, HELD, 3)
    assert evaluation.demonstrations == 3
    assert evaluation.scores[0] == pytest.approx(1, abs=1e-5), "it is the expert there"
    actions = [rows_of(SUITE, HELD[task.name]).shown_actions.double() for task in SUITE.tasks]
    mean = (actions[0].mean(0) + actions[1].mean(0)) / 2
    zero, constant = actions[1].square().mean().sqrt(), (actions[1] - mean).square().mean().sqrt()
    assert evaluation.scores[1] == pytest.approx(max(0.0, float(1 - zero / constant)), abs=1e-6)
    assert evaluation.mean_score == pytest.approx(np.mean(evaluation.scores))
    assert all(math.isnan(number) for number in (*evaluation.returns, *evaluation.successes)), "nobody knows them"


def test_the_mean_action_scores_zero_and_what_is_worse_does_too() -> None:
    means = [rows_of(SUITE, HELD[task.name]).shown_actions.mean() for task in SUITE.tasks]
    scores = HeldOutError().measured(Constant(float(sum(means)) / 2), SUITE, HELD, 0).scores
    assert scores == pytest.approx((0, 0), abs=1e-6)
    assert HeldOutError().measured(Constant(float(means[0])), SUITE, HELD, 0).scores[0] > 0.05
    assert 0.0 in HeldOutError().measured(Constant(-1.0), SUITE, HELD, 0).scores


def test_the_error_is_that_of_the_actions() -> None:
    name = SUITE.tasks[0].name
    actions = rows_of(SUITE, HELD[name]).shown_actions.double()
    assert action_error(Constant(0.5), SUITE, HELD[name]) == pytest.approx(
        float((actions - 0.5).square().mean().sqrt())
    )


def test_actions_that_never_differ_are_refused() -> None:
    still = {name: [replace(each, actions=np.ones_like(each.actions)) for each in held] for name, held in HELD.items()}
    with pytest.raises(InputError, match=f"recordings of task '{SUITE.tasks[0].name}' have the mean action of all"):
        HeldOutError().measured(Constant(0.0), SUITE, still, 0)
