"""How good a policy is, and how good a curve of policies is: pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.task import ReferenceReturns, TaskSuite

SMALLEST_GAP = 2.0
"""R_expert − R_random must be more than so many standard deviations of the expert's return for a task to be scored."""


@dataclass(frozen=True)
class Evaluation:
    """Every task's performance after a number of demonstrations, in the order of the suite."""

    demonstrations: int
    """How many the policy was trained on."""
    returns: tuple[float, ...]
    """Mean return over the evaluation episodes as scores take it (`counted_return`), not clipped, [K]."""
    successes: tuple[float, ...]
    """Share of successful episodes, [K]."""
    scores: tuple[float, ...]
    """Normalised returns in [0, 1], [K]."""
    mean_score: float
    """Mean of the scores under the suite's distribution μ."""
    retention: Mapping[str, float] = field(default_factory=dict)
    """What the retention says of the policy at that moment, e.g. `alpha/<task>`."""
    failures: tuple[Mapping[str, int], ...] = ()
    """How many evaluation episodes of each task ended before their time without a success, by reason, [K]; none: ()."""
    episodes: tuple[int, ...] = ()
    """How many episodes of each task there were, [K]; (): unknown, as in checkpoints of earlier versions."""
    fewer: "Evaluation | None" = None
    """The same policy by the episodes that evaluations after rounds have, where these are more of them."""

    @property
    def of_rounds(self) -> "Evaluation":
        """The same policy by the episodes that all evaluations of the run have."""
        return self.fewer or self

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as checkpoints hold them."""
        return {
            "demonstrations": self.demonstrations,
            "returns": list(self.returns),
            "successes": list(self.successes),
            "scores": list(self.scores),
            "mean_score": self.mean_score,
            "retention": dict(self.retention),
            **({"failures": [dict(each) for each in self.failures]} if any(self.failures) else {}),
            **({"episodes": list(self.episodes)} if self.episodes else {}),
            **({"fewer": self.fewer.to_dict()} if self.fewer else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evaluation":
        """Inverse of `to_dict`."""
        return cls(
            demonstrations=values["demonstrations"],
            returns=tuple(values["returns"]),
            successes=tuple(values["successes"]),
            scores=tuple(values["scores"]),
            mean_score=values["mean_score"],
            retention=values.get("retention", {}),  # checkpoints of earlier versions have none
            failures=tuple(values.get("failures", ())),
            episodes=tuple(values.get("episodes", ())),
            fewer=cls.from_dict(values["fewer"]) if values.get("fewer") else None,
        )


def evaluations_from(values: Any) -> list[Evaluation]:
    """The evaluations that a checkpoint holds, as lists of `to_dict`.

    Raises:
        InputError: they are missing, or something else.
    """
    try:
        return [Evaluation.from_dict(each) for each in values]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"The evaluations in the checkpoint cannot be read ({error!r}). Restore it, or remove it: the same command "
            "then trains again from the start on the demonstrations, all of which the run has kept."
        ) from error


def matched(before: Evaluation, now: Evaluation) -> tuple[Evaluation, Evaluation]:
    """Both as they are if they have equally many episodes, else by those that both have: a difference between them is
    then one of the policies, not of the episodes."""
    return (before, now) if before.episodes == now.episodes else (before.of_rounds, now.of_rounds)


class Forgetting(NamedTuple):
    """Score lost on the pre-training tasks, averaged over them."""

    signed: float
    """Mean of (score of π0 − score now): negative if they got better."""
    positive: float
    """Mean of max(score of π0 − score now, 0): what one task gains does not make up for what another loses."""


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Σ w_c x_c / Σ w_c for weights [K] that need not be normalised. The sums are rounded once.

    >>> weighted_mean([1.0, 4.0], [2.0, 1.0])
    2.0
    """
    return math.fsum(weight * value for weight, value in zip(weights, values, strict=True)) / math.fsum(weights)


def normalised_scores(returns: Tensor, reference: ReferenceReturns) -> Tensor:
    """(R − R_random) / (R_expert − R_random), clipped to [0, 1]; ours.

    Args:
        returns: mean return of each task, [K] floating point.
        reference: of the same K tasks.

    Raises:
        InputError: another number of tasks.

    >>> reference = ReferenceReturns(random=(-100.0,), expert=(100.0,), spread=(1.0,), command="")
    >>> normalised_scores(torch.tensor([50.0]), reference)
    tensor([0.7500])
    """
    random = torch.tensor(reference.random, dtype=returns.dtype, device=returns.device)
    expert = torch.tensor(reference.expert, dtype=returns.dtype, device=returns.device)
    if returns.shape != random.shape:
        raise InputError(f"Returns of shape {list(returns.shape)} for reference returns of {len(random)} tasks.")
    return ((returns - random) / (expert - random)).clamp(0.0, 1.0)


def check_scorable(suite: TaskSuite) -> None:
    """Refuses a suite whose scores would be noise: R_expert − R_random of a task must exceed `SMALLEST_GAP` spreads.

    Raises:
        InputError: no reference returns, of another number of tasks, or too small a gap; names the tasks.
    """
    reference, count = _reference(suite), len(suite.tasks)
    if {len(reference.random), len(reference.expert), len(reference.spread)} != {count}:
        raise InputError(
            f"The reference returns of suite '{suite.name}' are not those of its {count} tasks. "
            f"Measure them again: {reference.command}"
        )
    bad = [
        f"{task.name} (random {random:.4g}, expert {expert:.4g} ± {spread:.4g})"
        for task, random, expert, spread in zip(
            suite.tasks, reference.random, reference.expert, reference.spread, strict=True
        )
        if not (math.isfinite(expert - random) and expert - random > max(SMALLEST_GAP * spread, 0.0))
    ]
    if bad:
        raise InputError(
            f"Suite '{suite.name}' has tasks that cannot be scored, because the expert's return is not more than "
            f"{SMALLEST_GAP:g} of its standard deviations above that of random actions: {', '.join(bad)}. "
            f"Leave them out, or give a better expert and measure again: {reference.command}"
        )


def evaluate_returns(
    demonstrations: int,
    returns: Tensor,
    successes: Tensor,
    suite: TaskSuite,
    failures: Sequence[Mapping[str, int]] = (),
) -> Evaluation:
    """Puts together what was measured after `demonstrations` demonstrations.

    Args:
        demonstrations: number that the policy was trained on.
        returns: mean return of each task, [K].
        successes: success rate of each task, [K].
        suite: gives the reference returns and μ.
        failures: of each task by reason, [K], if any.

    Raises:
        InputError: the suite has no reference returns, or other than K tasks.
    """
    returns = returns.detach().to("cpu", torch.float64)
    scores = tuple(normalised_scores(returns, _reference(suite)).tolist())
    return Evaluation(
        demonstrations=demonstrations,
        returns=tuple(returns.tolist()),
        successes=tuple(successes.detach().to("cpu", torch.float64).tolist()),
        scores=scores,
        mean_score=weighted_mean(scores, suite.distribution.tolist()),
        failures=tuple(failures) if any(failures) else (),
    )


def area_under_curve(demonstrations: Sequence[int], scores: Sequence[float], budget: int) -> float:
    """AUC = 1/(N + 1) Σ_{n=0…N} score after n demonstrations; ours.

    Where n was not evaluated (rounds of several demonstrations), the score of the last evaluation before it holds,
    because that is the policy one has at that moment.

    Args:
        demonstrations: numbers at which it was evaluated, increasing from 0. Those beyond the budget are ignored.
        scores: mean score at each of them.
        budget: N.

    Raises:
        InputError: the curve does not reach from 0 to N, or a score is NaN.

    >>> area_under_curve([0, 2, 4], [0.0, 0.5, 1.0], budget=4)  # 0, 0, 0.5, 0.5, 1
    0.4
    """
    curve = _checked_curve(demonstrations, scores, budget)
    ends = [*(start for start, _ in curve[1:]), budget + 1]
    lengths = [end - start for (start, _), end in zip(curve, ends, strict=True)]
    return weighted_mean([score for _, score in curve], lengths)


def demonstrations_to(threshold: float, demonstrations: Sequence[int], scores: Sequence[float], budget: int) -> int:
    """The first evaluated number of demonstrations at which the score is at least `threshold`; never is N + 1.

    Args:
        threshold: in the units of the scores.
        demonstrations: numbers at which it was evaluated, increasing from 0. Those beyond the budget are ignored.
        scores: mean score at each of them.
        budget: N.

    Raises:
        InputError: the curve does not reach from 0 to N, or a score is NaN.

    >>> demonstrations_to(0.8, [0, 1, 2], [0.5, 0.9, 0.7], budget=2)
    1
    """
    curve = _checked_curve(demonstrations, scores, budget)
    return next((number for number, score in curve if score >= threshold), budget + 1)


class Setback(NamedTuple):
    """The largest fall of the mean score from one evaluation to the next."""

    fall: float
    """How far it fell; 0 if it never did."""
    demonstrations: int | None
    """At the evaluation after the fall; None if there was none."""


def largest_setback(demonstrations: Sequence[int], scores: Sequence[float]) -> Setback:
    """Of a curve, by evaluations of the same episodes.

    >>> largest_setback([0, 1, 2, 3], [0.5, 0.75, 0.25, 1.0])
    Setback(fall=0.5, demonstrations=2)
    """
    falls = [(old - new, count) for old, new, count in zip(scores, scores[1:], demonstrations[1:], strict=False)]
    fall, count = max(falls, key=lambda pair: pair[0], default=(0.0, 0))
    return Setback(fall, count) if fall > 0 else Setback(0.0, None)


def forgetting(before: Sequence[float], now: Sequence[float], pretrained: Sequence[bool]) -> Forgetting:
    """Mean over the pre-training tasks of (score of π0 − score now), signed and positive part; ours.

    Args:
        before: scores of π0, [K].
        now: scores now, [K].
        pretrained: which tasks π0 was trained on, [K].

    Raises:
        InputError: it was trained on none of them.

    >>> forgetting([0.75, 0.5, 0.0], [0.25, 0.75, 1.0], [True, True, False])
    Forgetting(signed=0.125, positive=0.25)
    """
    losses = [old - new for old, new, is_pretrained in zip(before, now, pretrained, strict=True) if is_pretrained]
    if not losses:
        raise InputError("Forgetting is about the tasks of the pre-training, and none of the tasks is one.")
    return Forgetting(
        signed=math.fsum(losses) / len(losses),
        positive=math.fsum(max(loss, 0.0) for loss in losses) / len(losses),
    )


def _reference(suite: TaskSuite) -> ReferenceReturns:
    if suite.reference is None:
        raise InputError(
            f"Suite '{suite.name}' has no reference returns, so its tasks cannot be scored. Measure the returns of "
            "random actions and of the expert, and set its `reference`."
        )
    return suite.reference


def _checked_curve(demonstrations: Sequence[int], scores: Sequence[float], budget: int) -> list[tuple[int, float]]:
    curve = [(n, score) for n, score in zip(demonstrations, scores, strict=True) if n <= budget]
    numbers = [n for n, _ in curve]
    if not numbers or numbers[0] != 0 or numbers[-1] != budget or sorted(set(numbers)) != numbers:
        raise InputError(
            f"A curve over a budget of {budget} must have increasing numbers of demonstrations from 0 to {budget}, "
            f"has {numbers}. Was the run finished?"
        )
    if any(math.isnan(score) for _, score in curve):
        raise InputError(f"A curve over a budget of {budget} has a score that is NaN.")
    return curve
