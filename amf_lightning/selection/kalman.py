"""A Kalman filter of each task's score, and what one more demonstration of it is worth by that filter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from amf_lightning.selection.privileged import shared_out
from amf_lightning.tasks.task import TaskSuite


@dataclass(frozen=True)
class ProgressModel:
    """How a task's score moves: a level that each of its demonstrations raises by its gain, seen with noise.

    Between two evaluations with n demonstrations of the task, level' = level + n·gain + drift and gain' = gain +
    gain_drift; at each evaluation, score = level + evaluation_noise. All noises are normal and independent.
    """

    evaluation_noise: float = 0.1
    """Standard deviation of an evaluation's score around the level."""
    drift: float = 0.05
    """Of what else moves the level between two evaluations: other tasks' demonstrations, forgetting."""
    gain: float = 0.1
    """Mean and standard deviation of the gain before the first evaluation."""
    gain_drift: float = 0.02
    """Standard deviation of the change of the gain between two evaluations."""
    start: float = 0.5
    """Mean and standard deviation of the level before the first evaluation."""


class KalmanScheduler(Selector):
    """PRIVILEGED: shares demonstrations out by need and by gain, both from a Kalman filter of the evaluations.

    The scheduler of data-efficient multi-task DAgger (Fu et al., arXiv 2509.25466), reconstructed from summaries of the
    paper; docs/comparators.md says what is theirs and what is ours. For each task a Kalman filter (`ProgressModel`)
    follows the level of its score and the gain of a demonstration. Need is 1 − level, gain what one demonstration more
    is expected to add, at most the need. A task's priority is (1 − w)·rank(need) + w·rank(gain), ranks in [0, 1]; a
    batch is shared out in proportion to the priorities. Ties are broken by a draw keyed by (seed, round, position).

    Args:
        progress: w in [0, 1]: 0 goes by need alone, 1 by gain alone.
        evaluation_noise: standard deviation of an evaluated score, in units of the score.
        drift: of the change of a level between evaluations that no demonstration of the task explains.
        gain: expected gain of a demonstration before any evaluation, and its standard deviation.
        gain_drift: standard deviation of the change of a gain between evaluations.
    """

    gain_is = "priority by rank, from 0 to 1"
    needs = (Need.EVALUATIONS,)
    instead = "Choose another evaluation, or another selector."

    def __init__(
        self,
        progress: float = 0.5,
        evaluation_noise: float = 0.1,
        drift: float = 0.05,
        gain: float = 0.1,
        gain_drift: float = 0.02,
    ) -> None:
        if not 0 <= progress <= 1:
            raise InputError(f"KalmanScheduler: progress is {progress}; it is a share and lies in [0, 1].")
        if evaluation_noise <= 0 or min(drift, gain, gain_drift) < 0:
            raise InputError(
                "KalmanScheduler: evaluation_noise must be positive, and drift, gain and gain_drift not negative."
            )
        self.progress = progress
        self.model = ProgressModel(evaluation_noise, drift, gain, gain_drift)

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Filters all evaluations of the run anew, then shares the batch out.

        Raises:
            InputError: nothing was evaluated.
        """
        if not context.score_history:
            raise InputError(
                "KalmanScheduler needs an evaluation of the policy, and nobody has reported one yet. Report trials of "
                "the policy as it is now, or choose another selector."
            )
        scores = torch.tensor(context.score_history, dtype=torch.float64)
        means, _ = filtered(scores, demonstrations_between(context), self.model)
        priorities = priorities_of(means, self.progress)
        diagnostics = {
            f"{name}/{task.name}": value
            for column, name in enumerate(("level", "gain"))
            for task, value in zip(context.suite.tasks, means[:, column].tolist(), strict=True)
        }
        return replace(shared_out(context, priorities, batch_size), diagnostics=diagnostics)


def demonstrations_between(context: SelectionContext) -> Tensor:
    """Demonstrations of each task between each evaluation and the one before it, [E, K] float64; none for the first."""
    names = [trajectory.task for trajectory in context.demonstrations]
    before: Sequence[int] = (0, *context.evaluated_after[:-1])
    return torch.stack(
        [_counts(names[first:last], context.suite) for first, last in zip(before, context.evaluated_after, strict=True)]
    )


def _counts(names: Sequence[str], suite: TaskSuite) -> Tensor:
    return torch.tensor([names.count(task.name) for task in suite.tasks], dtype=torch.float64)


def filtered(scores: Tensor, demonstrations: Tensor, model: ProgressModel) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (level, gain) of each task given all its scores, by a Kalman filter.

    Args:
        scores: of all evaluations, [E, K] float64.
        demonstrations: of each task between an evaluation and the one before it, [E, K]; the first row counts for
            nothing, since the level before it is as unknown as the gain.
        model: of the scores.

    Returns:
        [K, 2] and [K, 2, 2].
    """
    tasks = scores.shape[1]
    mean = torch.tensor([model.start, model.gain], dtype=torch.float64).expand(tasks, 2)
    covariance = torch.diag(torch.tensor([model.start, model.gain], dtype=torch.float64) ** 2).expand(tasks, 2, 2)
    moved = torch.diag(torch.tensor([model.drift, model.gain_drift], dtype=torch.float64) ** 2)
    for number, score in enumerate(scores):
        if number:
            step = torch.eye(2, dtype=torch.float64).repeat(tasks, 1, 1)
            step[:, 0, 1] = demonstrations[number]
            mean = (step @ mean[:, :, None]).squeeze(2)
            covariance = step @ covariance @ step.mT + moved
        kalman_gain = covariance[:, :, 0] / (covariance[:, 0, 0] + model.evaluation_noise**2)[:, None]
        mean = mean + kalman_gain * (score - mean[:, 0])[:, None]
        covariance = covariance - kalman_gain[:, :, None] * covariance[:, None, 0, :]
    return mean, covariance


def priorities_of(means: Tensor, progress: float) -> Tensor:
    """(1 − w)·rank(need) + w·rank(gain) for filtered (level, gain) [K, 2]; [K].

    >>> priorities_of(torch.tensor([[0.9, 0.3], [0.2, 0.0], [0.5, 0.2]]), progress=0.5)
    tensor([0.2500, 0.5000, 0.7500])
    """
    need = (1 - means[:, 0]).clamp(min=0)
    gain = means[:, 1].clamp(min=0).minimum(need)
    return (1 - progress) * ranks(need) + progress * ranks(gain)


def ranks(values: Tensor) -> Tensor:
    """Place of each value among the others, from 0 for the smallest to 1 for the largest, [K]; equal ones share theirs.

    >>> ranks(torch.tensor([3.0, 1.0, 1.0, 9.0]))
    tensor([0.6667, 0.1667, 0.1667, 1.0000])
    """
    below = (values[None, :] < values[:, None]).sum(dim=1)
    equal = (values[None, :] == values[:, None]).sum(dim=1) - 1
    return (below + equal / 2).to(values) / max(1, len(values) - 1)
