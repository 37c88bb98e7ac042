"""Intervals: over seeds by the bootstrap, of success rates exactly. Pure functions."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError

Values = Sequence[float] | NDArray[np.float64]


class Interval(NamedTuple):
    """A statistic of the values, and the interval for it."""

    value: float
    lo: float
    hi: float


def bootstrap_interval(values: Values, level: float = 0.9, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean of values [S] with its percentile bootstrap interval (AMF reports 90 % ones; Efron, 1979).

    Args:
        values: one a seed.
        level: probability mass of the interval; (1 − level)/2 is cut off at each end.
        resamples: how often S values are drawn from the S values with replacement.
        seed: of those draws; the same seed draws the same positions, so that equal inputs give equal intervals.

    One value, or several identical ones, give an interval of width zero: it says nothing about other seeds.
    With few seeds (S < 10) the interval is somewhat too narrow.

    Raises:
        InputError: no values, or one that is not finite.

    >>> bootstrap_interval([0.5, 0.5])
    Interval(value=0.5, lo=0.5, hi=0.5)
    """
    return _bootstrap(values, np.mean, level, resamples, seed)


def median_interval(values: Values, level: float = 0.9, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Median of values [S] with its percentile bootstrap interval; otherwise like `bootstrap_interval`.

    For counts with a ceiling, such as demonstrations to a score (never = N + 1), of which a mean means little.

    >>> median_interval([3, 4, 21]).value
    4.0
    """
    return _bootstrap(values, np.median, level, resamples, seed)


def paired_interval(a: Values, b: Values, level: float = 0.9, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean of a − b, both [S] and in the same order of seeds, with the interval of `bootstrap_interval`.

    Pairing takes out what a seed does to both, so it is narrower than the difference of two unpaired means.

    Raises:
        InputError: different numbers of seeds, no values, or one that is not finite.

    >>> paired_interval([1.0, 2.0], [0.5, 1.5])
    Interval(value=0.5, lo=0.5, hi=0.5)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise InputError(f"Differences are paired by seed, but there are {len(first)} and {len(second)} values.")
    return _bootstrap(first - second, np.mean, level, resamples, seed)


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation."""

    value: float
    p: float
    """Share of random orders in which it is as far from 0."""


def rank_correlation(
    a: Values, b: Values, given: Values | None = None, orders: int = 10_000, seed: int = 0
) -> RankCorrelation | None:
    """Spearman's rank correlation of two rows of values [N], ties at the mean of their ranks, by permutation.

    Args:
        a: finite values.
        b: as many.
        given: as many, whose ranks are regressed out of those of both first: the partial correlation.
        orders: random orders that the correlation is compared with, its own counted once.
        seed: of them.

    Returns:
        The correlation; None if one of the rows does not vary, or is a function of `given`.

    >>> rank_correlation([1, 2, 3, 4, 5, 6, 7], [1, 4, 9, 16, 25, 36, 49]).value
    1.0
    """
    first, second = _standard_ranks(a), _standard_ranks(b)
    if given is not None and (third := _standard_ranks(given)) is not None:
        first, second = (None if x is None else _unit(x - (x @ third) * third) for x in (first, second))
    if first is None or second is None:
        return None
    value = float(first @ second)
    draws = np.random.default_rng(seed).permuted(np.tile(second, (orders - 1, 1)), axis=1) @ first
    as_far = 1 + int((np.abs(draws) >= abs(value) - 1e-12).sum())
    return RankCorrelation(round(value, 12), as_far / orders)


def _standard_ranks(values: Values) -> NDArray[np.float64] | None:
    """Ranks with mean 0 and sum of squares 1; None if all values are the same."""
    array = np.asarray(values, dtype=np.float64)
    below, equal = (array < array[:, None]).sum(1), (array == array[:, None]).sum(1)
    ranks = below + (equal - 1) / 2.0
    return _unit(ranks - ranks.mean())


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """With sum of squares 1; None if there is nothing but rounding."""
    length = math.sqrt(float(values @ values))
    return values / length if length > 1e-9 else None


def clopper_pearson(successes: int, trials: int, level: float = 0.9) -> tuple[float, float]:
    """The exact interval of a success rate (Clopper and Pearson, Biometrika 26, 1934): ends (low, high) in [0, 1].

    The rates at which as many successes or more, and as many or fewer, have a probability of (1 − level)/2 each. It
    holds the true rate with a probability of at least `level` whatever that rate is, also where all trials came out
    alike; for few trials it is wider than it need be.

    Args:
        successes: k, from 0 to n.
        trials: n, at least 1, independent and alike.
        level: probability mass of the interval.

    Raises:
        InputError: the counts or the level are not such.

    >>> [round(end, 4) for end in clopper_pearson(3, 3)]  # (0.05)^(1/3)
    [0.3684, 1.0]
    """
    if not (trials >= 1 and 0 <= successes <= trials):
        raise InputError(f"A success rate needs 0 to n successes in n ≥ 1 trials, got {successes} in {trials}.")
    _check_level(level)
    tail = (1.0 - level) / 2.0
    return _rate_of_tail(successes, trials, tail), 1.0 - _rate_of_tail(trials - successes, trials, tail)


def _rate_of_tail(successes: int, trials: int, tail: float) -> float:
    """The rate at which at least k of n trials succeed with probability `tail`, by bisection; 0 for k = 0."""
    if successes == 0:
        return 0.0
    more = np.arange(successes, trials + 1)
    logs = np.log(np.arange(1, trials + 1))
    factorials = np.concatenate([[0.0], np.cumsum(logs)])
    ways = factorials[trials] - factorials[more] - factorials[trials - more]  # log of the binomial coefficients
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2.0) < high:  # until there is no number between them
        log_terms = ways + more * math.log(middle) + (trials - more) * math.log1p(-middle)
        low, high = (middle, high) if np.exp(log_terms).sum() < tail else (low, middle)
    return low


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InputError(f"The level of an interval lies between 0 and 1, got {level}.")


def _bootstrap(values: Values, statistic: Callable[..., Any], level: float, resamples: int, seed: int) -> Interval:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(f"An interval needs the values of at least one seed, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError(f"An interval needs finite values, got {array.tolist()}.")
    _check_level(level)
    # Keyed by the seed alone: strategies with equally many values are resampled at the same positions.
    draws = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    lo, hi = np.quantile(statistic(array[draws], axis=1), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(statistic(array)), float(lo), float(hi))
