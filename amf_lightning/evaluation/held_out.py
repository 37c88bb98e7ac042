"""How far a policy's actions are from those of recordings that it was not shown: where nothing can be simulated."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from amf_lightning.demonstrations.recorded_steps import RecordedSteps
from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import Evaluator
from amf_lightning.evaluation.scores import Evaluation, weighted_mean
from amf_lightning.needs import Need
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

_ROWS = 4096
"""Steps that a policy is asked for at once."""
_CONSTANT = 1e-6


class HeldOutError(Evaluator):
    """Error of the actions on recordings that are held out, task by task; no success rates.

    The score of a task is 1 − e/e₀, not below 0: e is the root mean square of the difference between the policy's
    action and the recorded one, over the steps and action entries of the task's held-out recordings, e₀ that of one
    constant action for all tasks, the mean of the tasks' mean actions. So 0 is no better than a policy that knows
    nothing, and 1 is what was recorded. A policy that imitates better on the expert's states need not succeed more
    often, because it is not seen on its own.
    """

    needs = (Need.HELD_OUT,)
    instead = "Choose NoEvaluation or ReportedEpisodes, or the expert RecordedPool, which holds recordings out."

    def measured(
        self, policy: Policy, suite: TaskSuite, held_out: Mapping[str, Sequence[Trajectory]], demonstrations: int
    ) -> Evaluation:
        """See `Evaluator.measured`."""
        constant = torch.stack([_actions(held_out[task.name]).mean(0) for task in suite.tasks]).mean(0)
        scores = tuple(_score(policy, suite, task.name, held_out[task.name], constant) for task in suite.tasks)
        unknown = (math.nan,) * len(scores)
        mean = weighted_mean(scores, suite.distribution.tolist())
        return Evaluation(demonstrations, returns=unknown, successes=unknown, scores=scores, mean_score=mean)

    @property
    def method(self) -> str:
        return (
            "no success rates: scores are 1 less the error of the actions on held-out recordings, in units of that of "
            "the mean action"
        )


@torch.no_grad()
def action_error(policy: Policy, suite: TaskSuite, recordings: Sequence[Trajectory]) -> float:
    """Root mean square, over steps and action entries, of the policy's deterministic actions less the recorded ones.

    Args:
        policy: in evaluation mode.
        suite: whose tasks the recordings are of.
        recordings: at least one.
    """
    steps = RecordedSteps(recordings, suite, policy.window)
    acted: list[Tensor] = []
    for start in range(0, len(steps), _ROWS):
        acted.append(policy.act(steps[start : start + _ROWS].to(policy.device)).to("cpu", torch.float64))
    return _root_mean_square(torch.cat(acted) - _actions(recordings))


def _score(policy: Policy, suite: TaskSuite, task: str, recordings: Sequence[Trajectory], constant: Tensor) -> float:
    of_constant = _root_mean_square(_actions(recordings) - constant)
    if of_constant < _CONSTANT:
        raise InputError(
            f"HeldOutError: the held-out recordings of task '{task}' have the mean action of all tasks at every step, "
            "so that no policy can be better than it. Hold out others, or leave the task out."
        )
    return max(0.0, 1 - action_error(policy, suite, recordings) / of_constant)


def _actions(recordings: Sequence[Trajectory]) -> Tensor:
    return torch.cat([torch.from_numpy(each.actions).to(torch.float64) for each in recordings])


def _root_mean_square(errors: Tensor) -> float:
    return float(errors.square().mean().sqrt())
