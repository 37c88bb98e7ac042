"""How many more demonstrations to a target score: a Bayesian power law of the curve so far. numpy alone, no torch.

The gap g = 1 − score falls with demonstrations as learning curves do (Hestness et al. 2017), to a floor that may be 0:

    g(N) = f + (g₀ − f)·(1 + (N/m)^β)^(−α)

For the mean over tasks N counts all demonstrations; for one task a demonstration of another counts as a share s of one
of its own. What an evaluation shows deviates from the law by an error that stays in part to the next evaluation (first
order autoregressive): policies differ, and evaluations have few episodes. All parameters have priors, particles are
weighted by their likelihoods, and futures are drawn from the posterior, errors included, until the first evaluation at
which the score is there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.8
"""Probability mass of the intervals."""
TARGET = 0.8
"""The score that is asked for unless somebody says another."""
FEWEST = 3
"""Evaluations without which nothing is said."""
WIDEST = 8.0
"""(High + 1)/(low + 1) beyond which an interval says too little to be given."""
_PARTICLES, _FUTURES, _LONGEST = 2048, 1000, 200
"""Draws of the prior, futures, and evaluations that a future has at most."""
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23)


@dataclass(frozen=True)
class CurvePrior:
    """What learning curves are like before one is seen; found on the runs with even seeds (docs/results/forecast.md).

    Pairs are mean and standard deviation of a normal distribution.
    """

    log_m: tuple[float, float] = (1.2, 1.4)
    """log of m, in demonstrations for each task that N is about."""
    log_alpha: tuple[float, float] = (0.7, 0.25)
    log_beta: tuple[float, float] = (0.2, 0.3)
    has_floor: float = 0.1
    """Probability that there is a floor at all; it is then uniform between 0 and g₀."""
    start: float = 0.08
    """Standard deviation of the error at the first evaluation."""
    log_sigma: tuple[float, float] = (-2.75, 0.6)
    """log of the standard deviation of an error beyond what stays."""
    stays: float = 0.25
    """The share of an error that stays is uniform between 0 and this."""
    of_episodes: float = 0.1
    """Share of the variance of as many coin flips as there are episodes that an error has in addition."""
    transfer: float = 1.0
    """s is u to this power, u uniform in [0, 1]."""
    trust: float = 1.0
    """Power of the likelihood: below 1 where the law holds only roughly (Grünwald 2012, "The safe Bayesian")."""
    mass: float = 0.75
    """Of the futures in an interval: as many as it took for `LEVEL` of the intervals to hold."""


MEAN_PRIOR = CurvePrior()
TASK_PRIOR = CurvePrior(
    log_m=(0.5, 1.2),
    log_alpha=(0.35, 0.75),
    log_beta=(0.45, 0.35),
    has_floor=0.4,
    start=0.19,
    log_sigma=(-2.2, 0.35),
    stays=0.9,
    of_episodes=1.0,
    trust=0.5,
)
"""The curve of one task is rougher than that of the mean: it jumps, and often it stays where it is."""


@dataclass(frozen=True)
class History:
    """A curve so far."""

    demonstrations: Sequence[int]
    """Of all tasks together at each evaluation, [E], increasing."""
    scores: Sequence[float]
    """In [0, 1], [E]."""
    tasks: int = 1
    """K, of which the score is the mean; 1 for that of one task."""
    own: Sequence[int] | None = None
    """Of the task itself at each evaluation, [E]; None for the mean over tasks."""
    episodes: int | None = None
    """How many are behind each score; None if unknown."""


@dataclass(frozen=True)
class Forecast:
    """How many more demonstrations until an evaluation first shows the target; they come as they came so far."""

    target: float
    reached_after: int | None = None
    """Demonstrations at the first evaluation that showed it; None if none did."""
    low: int | None = None
    """First of the interval; None, like `middle` and `high`, if there is none."""
    middle: int | None = None
    """Median."""
    high: int | None = None
    own: tuple[int, int] | None = None
    """Of one task: how many of the `low` to `high` are of the task itself, if its share stays."""
    unknown: str | None = None
    """Why it cannot be told; None if it can."""

    @property
    def is_told(self) -> bool:
        """Whether there is an interval."""
        return self.high is not None


def forecast(history: History, target: float = TARGET, prior: CurvePrior | None = None) -> Forecast:
    """The interval for one curve. The same history gives the same one.

    Args:
        history: of the mean, or of one task.
        target: score that is asked for.
        prior: of the curve; None: `MEAN_PRIOR` or `TASK_PRIOR`.
    """
    known = [index for index, score in enumerate(history.scores) if math.isfinite(score)]
    counts, scores = [history.demonstrations[i] for i in known], [history.scores[i] for i in known]
    for count, score in zip(counts, scores, strict=True):
        if score >= target:
            return Forecast(target, reached_after=count)
    if len(known) < FEWEST:
        return Forecast(target, unknown=f"it takes {FEWEST} evaluations, and there are {len(known)}")
    chosen = prior or (MEAN_PRIOR if history.own is None else TASK_PRIOR)
    return _told(target, chosen.mass, *futures(history, target, chosen))


def futures(history: History, target: float, prior: CurvePrior) -> tuple[Array, NDArray[np.int64], float | None]:
    """What may come.

    Returns:
        The probability that the target is first there at each of the coming evaluations, and, last, that it is there at
        none, [T + 1]; how many more demonstrations these evaluations are after, [T]; and, of one task, the share of
        them that are of the task itself.
    """
    known = [index for index, score in enumerate(history.scores) if math.isfinite(score)]
    known = [*known[: -_LONGEST : 1 + len(known) // _LONGEST], *known[-_LONGEST:]]
    total = np.array([history.demonstrations[i] for i in known], float)
    scores = np.array([history.scores[i] for i in known])
    own = None if history.own is None else np.array([history.own[i] for i in known], float)
    curves = _Curves(prior, 1 if own is not None else history.tasks, 1 - scores[0])
    weights, error = curves.posterior(total, own, 1 - scores, _flips(scores, history.episodes) * prior.of_episodes)
    step, last = int(total[-1] - total[-2]), int(total[-1])
    ahead = step * np.arange(1, min(_LONGEST, -(-horizon_of(last, history.tasks) // step)) + 1)
    share = None if own is None else float((own[-1] + 1 / history.tasks) / (last + 1))
    own_ahead = None if own is None or share is None else own[-1] + share * ahead
    first = curves.first_hits(weights, error, total[-1] + ahead, own_ahead, 1 - target)
    return np.bincount(first, minlength=len(ahead) + 1) / len(first), ahead, share


def horizon_of(demonstrations: int, tasks: int) -> int:
    """How many more demonstrations are looked ahead: a curve says nothing about what is far beyond it."""
    return 4 * max(demonstrations, tasks) + tasks


def _told(target: float, mass: float, chances: Array, ahead: NDArray[np.int64], share: float | None) -> Forecast:
    """The shortest interval that holds a mass of what `futures` gives."""
    cumulated = np.cumsum(chances)
    if chances[-1] > 1 - mass:
        return Forecast(target, unknown=f"the curve does not show that {ahead[-1]} more would do")
    spans = []
    for first, before in enumerate(cumulated - chances):
        last = int(np.searchsorted(cumulated, before + mass - 1e-9))
        if last < len(ahead):
            spans.append((last - first, before - cumulated[last], first, last))
    _, _, first, last = min(spans)
    low, high = int(ahead[first]), int(ahead[last])
    if high + 1 > WIDEST * (low + 1):
        return Forecast(target, unknown=f"the interval, {low} to {high} more, is too wide to help")
    own = None if share is None else (math.floor(share * low), math.ceil(share * high))
    return Forecast(target, low=low, middle=int(ahead[np.searchsorted(cumulated, 0.5)]), high=high, own=own)


def _flips(scores: Array, episodes: int | None) -> Array:
    """Variance of as many coin flips as there are episodes, with one of each kind added, [E]; 0 if nobody counted."""
    if not episodes:
        return np.zeros(len(scores))
    rates = (scores * episodes + 1) / (episodes + 2)
    return np.asarray(rates * (1 - rates) / episodes)


class _Curves:
    """Particles of the prior: curves in gap space, and how errors behave."""

    def __init__(self, prior: CurvePrior, tasks: int, first_gap: float) -> None:
        uniform, normal = _cube()
        self._m = tasks * np.exp(prior.log_m[0] + prior.log_m[1] * normal[0])
        self._alpha = np.exp(prior.log_alpha[0] + prior.log_alpha[1] * normal[1])
        self._beta = np.exp(prior.log_beta[0] + prior.log_beta[1] * normal[2])
        self._sigma = np.exp(prior.log_sigma[0] + prior.log_sigma[1] * normal[3])
        self._start = np.clip(first_gap + prior.start * normal[4], 0.02, 1.2)
        below = uniform[5] < prior.has_floor
        self._floor = self._start * np.where(below, uniform[5] / max(prior.has_floor, 1e-9), 0.0)
        self._stays = prior.stays * uniform[6]
        self._transfer = uniform[7] ** prior.transfer
        self._trust = prior.trust

    def gaps(self, total: Array, own: Array | None, chosen: Any = slice(None)) -> Array:
        """Of chosen particles after numbers of demonstrations [T], [P, T]."""

        def pick(values: Array) -> Array:
            return np.asarray(values[chosen][:, None])

        counts = total[None] if own is None else own + pick(self._transfer) * (total - own)
        fallen = (1 + (counts / pick(self._m)) ** pick(self._beta)) ** -pick(self._alpha)
        return np.asarray(pick(self._floor) + pick(self._start - self._floor) * fallen)

    def posterior(self, total: Array, own: Array | None, seen: Array, flips: Array) -> tuple[Array, Array]:
        """Weights of the particles, [P], and their errors at the last evaluation, [P]."""
        errors = seen - self.gaps(total, own)
        variances = self._sigma[:, None] ** 2 + flips
        new = errors[:, 1:] - self._stays[:, None] * errors[:, :-1]
        start = variances[:, 0] / (1 - self._stays**2)
        log = -0.5 * (new**2 / variances[:, 1:] + np.log(variances[:, 1:])).sum(1)
        log -= 0.5 * (errors[:, 0] ** 2 / start + np.log(start))
        weights = np.exp(self._trust * (log - log.max()))
        self._deviation = np.sqrt(variances[:, -1])
        return weights / weights.sum(), errors[:, -1]

    def first_hits(
        self, weights: Array, error: Array, total: Array, own: Array | None, limit: float
    ) -> NDArray[np.int64]:
        """Of each future the first of the coming evaluations with a gap of at most `limit`, [F]; T if none has."""
        cumulated = np.cumsum(weights)
        chosen = np.searchsorted(cumulated, (np.arange(_FUTURES) + 0.5) / _FUTURES * cumulated[-1])
        gaps, noise = self.gaps(total, own, chosen), _noise()
        stays, deviation, now = self._stays[chosen], self._deviation[chosen], error[chosen]
        first = np.full(_FUTURES, len(total), dtype=np.int64)
        for place in range(len(total)):
            now = stays * now + deviation * noise[place]
            first[(gaps[:, place] + now <= limit) & (first == len(total))] = place
        return first


@cache
def _cube() -> tuple[Array, Array]:
    """Points that fill the unit cube evenly (Halton 1960), [9, P], and the same as standard normal numbers."""
    uniform = np.array([_radical_inverse(base) for base in _BASES])
    inverse = NormalDist().inv_cdf
    return uniform, np.array([[inverse(value) for value in row] for row in uniform[:5].tolist()])


def _radical_inverse(base: int) -> Array:
    numbers, share, values = np.arange(1, _PARTICLES + 1), 1.0, np.zeros(_PARTICLES)
    while numbers.any():
        share /= base
        values += share * (numbers % base)
        numbers //= base
    return values


@cache
def _noise() -> Array:
    """Standard normal numbers of the futures, [T, F]; always the same."""
    return np.random.default_rng(0).standard_normal((_LONGEST, _FUTURES))
