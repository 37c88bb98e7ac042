import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from amf_lightning.errors import InputError
from amf_lightning.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    clopper_pearson,
    median_interval,
    paired_interval,
    rank_correlation,
)

VALUES = np.random.default_rng(7).normal(0.7, 0.1, size=10)


def by_scipy(values: NDArray[np.float64], statistic: Callable[..., Any], level: float) -> tuple[float, float]:
    result = stats.bootstrap(
        (values,), statistic, n_resamples=50_000, confidence_level=level, method="percentile", rng=1
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_interval_of_the_mean_is_that_of_scipy(level: float) -> None:
    value, lo, hi = bootstrap_interval(VALUES, level=level, resamples=50_000)
    assert value == pytest.approx(VALUES.mean())
    assert (lo, hi) == pytest.approx(by_scipy(VALUES, np.mean, level), abs=0.02 * VALUES.std())


def test_the_interval_of_the_median_is_that_of_scipy() -> None:
    value, lo, hi = median_interval(VALUES, resamples=50_000)
    assert value == np.median(VALUES)
    assert (lo, hi) == pytest.approx(by_scipy(VALUES, np.median, 0.9), abs=0.05 * VALUES.std())


def test_the_interval_is_the_exact_one_where_all_resamples_can_be_listed() -> None:
    values = np.array([0.0, 1.0, 3.0, 7.0])
    means = [np.mean(resample) for resample in itertools.product(values, repeat=4)]
    exact = np.quantile(means, [0.05, 0.95])
    assert bootstrap_interval(values, resamples=200_000)[1:] == pytest.approx(exact, abs=0.26)  # one step of the means


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    trials = [bootstrap_interval(rng.normal(size=20), resamples=500, seed=trial) for trial in range(600)]
    coverage = np.mean([lo <= 0.0 <= hi for _, lo, hi in trials])
    assert 0.82 < coverage < 0.93  # 0.9 less the known shortfall of the percentile bootstrap at 20 values


def test_pairing_by_seed_is_the_interval_of_the_differences_and_narrower() -> None:
    effect = np.random.default_rng(1).normal(size=10)  # what a seed does to both strategies
    a, b = effect + 0.1 + 0.01 * VALUES, effect
    paired = paired_interval(a, b)
    assert paired == bootstrap_interval(a - b)
    assert paired.lo > 0.0
    unpaired = bootstrap_interval(a)
    assert paired.hi - paired.lo < 0.1 * (unpaired.hi - unpaired.lo)


def test_the_same_seed_gives_the_same_interval_and_another_a_similar_one() -> None:
    assert bootstrap_interval(VALUES, seed=3) == bootstrap_interval(list(VALUES), seed=3)
    assert bootstrap_interval(VALUES, seed=3) != bootstrap_interval(VALUES, seed=4)
    assert bootstrap_interval(VALUES, seed=3) == pytest.approx(bootstrap_interval(VALUES, seed=4), abs=0.01)


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    np.random.seed(0)
    first = bootstrap_interval(VALUES)
    after = np.random.random()
    np.random.seed(0)
    assert np.random.random() == after
    assert bootstrap_interval(VALUES) == first


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12), st.floats(-10, 10))
def test_intervals_lie_within_the_values_and_move_with_them(values: list[float], shift: float) -> None:
    value, lo, hi = bootstrap_interval(values, resamples=200)
    assert min(values) - 1e-9 <= lo <= hi <= max(values) + 1e-9
    moved = bootstrap_interval([x + shift for x in values], resamples=200)
    assert moved == pytest.approx((value + shift, lo + shift, hi + shift), abs=1e-9)


def test_one_seed_has_an_interval_of_no_width() -> None:
    assert bootstrap_interval([0.3]) == Interval(0.3, 0.3, 0.3)
    assert median_interval([3]) == Interval(3.0, 3.0, 3.0)
    assert paired_interval([0.5], [0.25]) == Interval(0.25, 0.25, 0.25)


@pytest.mark.parametrize("count", [2, 3, 7, 10])
def test_identical_values_have_an_interval_of_no_width(count: int) -> None:
    value, lo, hi = bootstrap_interval([0.1] * count)
    assert value == lo == hi == pytest.approx(0.1)


@pytest.mark.parametrize("interval", [bootstrap_interval, median_interval])
@pytest.mark.parametrize("values", [[], [0.1, float("nan")], [float("inf")], [[0.1]]])
def test_what_has_no_interval_is_refused(interval: Callable[..., Interval], values: list[Any]) -> None:
    with pytest.raises(InputError, match="An interval needs"):
        interval(values)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, -0.5])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        bootstrap_interval(VALUES, level=level)


def test_different_numbers_of_seeds_are_not_paired() -> None:
    with pytest.raises(InputError, match="paired by seed, but there are 10 and 9 values"):
        paired_interval(VALUES, VALUES[:-1])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_interval_of_a_success_rate_is_the_exact_one_of_scipy(level: float) -> None:
    cases = [(k, n) for n in (1, 2, 3, 7, 20) for k in range(n + 1)] + [(1, 5000), (2500, 5000), (4999, 5000)]
    for successes, trials in cases:
        exact = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
        assert clopper_pearson(successes, trials, level) == pytest.approx((exact.low, exact.high), rel=1e-8, abs=1e-12)


def test_the_interval_of_a_success_rate_covers_it_whatever_it_is() -> None:
    ends = [clopper_pearson(k, 20) for k in range(21)]
    for rate in np.linspace(0.0, 1.0, 101):
        chances = stats.binom.pmf(range(21), 20, rate)
        covered = sum(chance for chance, (low, high) in zip(chances, ends, strict=True) if low <= rate <= high)
        assert covered >= 0.9 - 1e-12


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_success_rate_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(InputError, match="0 to n successes in n ≥ 1 trials"):
        clopper_pearson(successes, trials)
    with pytest.raises(InputError, match="between 0 and 1"):
        clopper_pearson(1, 2, level=1.0)


def test_rank_correlation_is_spearmans_with_the_p_of_all_orders() -> None:
    a, b = [3.0, 1.0, 2.0, 2.0, 5.0], [1.0, 0.0, 4.0, 2.0, 2.0]
    value = stats.spearmanr(a, b).statistic
    every = [stats.spearmanr(a, order).statistic for order in itertools.permutations(b)]
    p = sum(abs(other) >= abs(value) - 1e-9 for other in every) / len(every)
    found = rank_correlation(a, b)
    assert found is not None and found.value == pytest.approx(value) and found.p == pytest.approx(p, abs=0.015)
    assert rank_correlation(a, [7.0] * 5) is None


def test_the_partial_rank_correlation_leaves_out_a_common_trend() -> None:
    trend, a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 3.0, 2.0, 4.0, 5.0], [2.0, 1.0, 3.0, 5.0, 4.0]
    ab, at, bt = (stats.spearmanr(x, y).statistic for x, y in ((a, b), (a, trend), (b, trend)))
    found = rank_correlation(a, b, trend)
    assert found is not None and found.value == pytest.approx((ab - at * bt) / ((1 - at**2) * (1 - bt**2)) ** 0.5)
    assert rank_correlation(trend, b, trend) is None
