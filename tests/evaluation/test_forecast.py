"""Forecasts against sums over the same model, against curves that follow it, and where nothing can be told."""

import itertools
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from amf_lightning.evaluation.forecast import (
    MEAN_PRIOR,
    TASK_PRIOR,
    CurvePrior,
    Forecast,
    History,
    _Curves,
    _flips,
    forecast,
    horizon_of,
)

PLAIN = CurvePrior(
    log_m=(0.5, 0.8),
    log_alpha=(0.0, 0.4),
    log_beta=(0.1, 0.0),
    has_floor=0.5,
    start=0.0,
    log_sigma=(-2.5, 0.3),
    stays=0.6,
)
"""Five parameters, so that a grid can hold them all."""
COUNTS, SCORES = (0, 2, 4, 6, 8), (0.2, 0.4, 0.52, 0.55, 0.66)


def on_a_grid(prior: CurvePrior, points: int = 13) -> dict[str, float]:
    """Posterior mean and deviation of the gap at N = 20, by a sum over a grid of equally probable cells."""
    cells = (np.arange(points) + 0.5) / points
    normal = np.array([NormalDist().inv_cdf(cell) for cell in cells])
    total, first, second = 0.0, 0.0, 0.0
    beta, start, seen = float(np.exp(prior.log_beta[0])), 1 - SCORES[0], [1 - score for score in SCORES]
    for a, b in itertools.product(range(points), repeat=2):
        m = np.exp(prior.log_m[0] + prior.log_m[1] * normal[a])
        alpha = np.exp(prior.log_alpha[0] + prior.log_alpha[1] * normal[b])
        sigma = np.exp(prior.log_sigma[0] + prior.log_sigma[1] * normal)[:, None, None]
        floor = start * np.where(cells < prior.has_floor, cells / prior.has_floor, 0.0)[None, :, None]
        stays = (prior.stays * cells)[None, None, :]

        left = [(1 + (number / m) ** beta) ** -alpha for number in (*COUNTS, 20)]
        gaps = [floor + (start - floor) * share + 0 * sigma + 0 * stays for share in left]
        errors = [each - gap for each, gap in zip(seen, gaps, strict=False)]
        deviation = sigma / np.sqrt(1 - stays**2)
        likelihood = np.exp(-0.5 * (errors[0] / deviation) ** 2) / deviation
        for before, error in itertools.pairwise(errors):
            likelihood = likelihood * np.exp(-0.5 * ((error - stays * before) / sigma) ** 2) / sigma
        value = gaps[-1]
        total += float(np.sum(likelihood))
        first += float(np.sum(likelihood * value))
        second += float(np.sum(likelihood * value**2))
    return {"mean": first / total, "deviation": (second / total - (first / total) ** 2) ** 0.5}


def test_the_posterior_is_that_of_a_sum_over_a_grid() -> None:
    expected = on_a_grid(PLAIN)
    curves = _Curves(PLAIN, 1, 1 - SCORES[0])
    weights, _ = curves.posterior(np.array(COUNTS, float), None, 1 - np.array(SCORES), np.zeros(len(COUNTS)))
    gaps = curves.gaps(np.array([20.0]), None)[:, 0]
    mean = float(weights @ gaps)
    assert mean == pytest.approx(expected["mean"], abs=0.01)
    assert float(weights @ (gaps - mean) ** 2) ** 0.5 == pytest.approx(expected["deviation"], abs=0.01)


def drawn(prior: CurvePrior, seed: int, evaluations: int = 80) -> NDArray[np.float64]:
    """Scores of a curve that the prior might give, after 0, 1, 2, … demonstrations."""
    draw = np.random.default_rng(seed)
    m, alpha, beta, sigma = (
        np.exp(pair[0] + pair[1] * draw.standard_normal())
        for pair in (prior.log_m, prior.log_alpha, prior.log_beta, prior.log_sigma)
    )
    floor = 0.8 * draw.uniform() if draw.uniform() < prior.has_floor else 0.0
    stays, error, scores = prior.stays * draw.uniform(), 0.0, []
    for number in range(evaluations):
        error = stays * error + sigma * draw.standard_normal() if number else 0.0
        scores.append(1 - error - floor - (0.8 - floor) * (1 + (number / m) ** beta) ** -alpha)
    return np.array(scores)


def test_eighty_per_cent_of_the_intervals_hold_what_comes_on_curves_of_the_prior() -> None:
    prior, right, told = replace(MEAN_PRIOR, log_m=(1.5, 0.7), start=0.0, of_episodes=0.0, mass=0.8), 0, 0
    for seed in range(120):
        scores = drawn(prior, seed)
        reached = next((number for number, score in enumerate(scores) if score >= 0.8), None)
        if reached is None or reached < 6:
            continue
        found = forecast(History(range(6), scores[:6].tolist(), 1), 0.8, prior)
        if found.low is not None and found.high is not None:
            told += 1
            right += found.low <= reached - 5 <= found.high
    # Whole numbers make it a little more than eighty; of 30 or more, 0.6 and 1 are three deviations away.
    assert told >= 30 and 0.6 <= right / told < 1


def test_a_curve_without_noise_is_continued() -> None:
    counts = list(range(0, 20, 2))
    scores = [1 - 0.8 / (1 + count / 8) for count in counts]  # 0.8 is reached at 24, six after the last evaluation
    sure = replace(PLAIN, log_m=(2.0, 0.5), log_beta=(0.0, 0.0), has_floor=0.0, log_sigma=(-5.0, 0.1), stays=0.0)
    found = forecast(History(counts, scores, 1), 0.8, sure)
    assert found.low is not None and found.high is not None
    assert 4 <= found.low <= 6 <= found.high <= 8


def test_a_demonstration_of_another_task_counts_for_less() -> None:
    curves, total = _Curves(replace(PLAIN, transfer=1.0), 1, 0.8), np.array([0.0, 4.0, 8.0])
    all_own, half, none = (curves.gaps(total, share * total) for share in (1.0, 0.5, 0.0))
    assert (all_own <= half).all() and (half <= none).all() and (none[:, 0] == all_own[:, 0]).all()
    assert (none[:, 2] < none[:, 0]).mean() > 0.9, "it counts for something"


def test_of_one_task_it_says_how_many_are_its_own() -> None:
    history = History([0, 4, 8, 12, 16, 20], [0.3, 0.45, 0.55, 0.6, 0.66, 0.7], 4, own=[0, 1, 2, 3, 4, 5])
    found = forecast(history, 0.75, replace(TASK_PRIOR, has_floor=0.0, log_sigma=(-4.0, 0.1)))
    assert found.low is not None and found.high is not None and found.own is not None
    assert found.own[0] == found.low // 4 and found.own[1] >= -(-found.high // 4)


def test_it_says_so_where_nothing_can_be_told() -> None:
    few = forecast(History([0, 1], [0.1, 0.2], 4))
    assert few == Forecast(0.8, unknown="it takes 3 evaluations, and there are 2")
    flat = forecast(History(range(12), [0.3] * 12, 4))
    assert flat.high is None and flat.unknown is not None and "does not show" in flat.unknown
    assert not flat.is_told
    there = forecast(History([0, 3, 6], [0.1, 0.81, 0.7], 4))
    assert there == Forecast(0.8, reached_after=3)
    unknown = forecast(History([0, 1, 2, 3], [float("nan")] * 4, 4))
    assert unknown.unknown is not None and "there are 0" in unknown.unknown


def test_a_higher_target_takes_longer_and_the_same_curve_says_the_same() -> None:
    history = History(range(6), [0.2, 0.35, 0.45, 0.55, 0.6, 0.64], 4)
    near, far = forecast(history, 0.7), forecast(history, 0.8)
    assert near.middle is not None and far.middle is not None and near.middle < far.middle
    assert forecast(history, 0.8) == far and far.high is not None and far.high <= horizon_of(5, 4)


def test_more_episodes_make_a_forecast_surer() -> None:
    scores, total = np.array([0.1, 0.3, 0.5, 0.6, 0.7, 0.75]), np.arange(0.0, 12.0, 2.0)
    curves, deviations = _Curves(PLAIN, 1, 0.9), []
    for episodes in (3, 300, None):
        weights, _ = curves.posterior(total, None, 1 - scores, _flips(scores, episodes))
        later = curves.gaps(np.array([40.0]), None)[:, 0]
        deviations.append(float(weights @ (later - weights @ later) ** 2))
    assert deviations[0] > deviations[1] >= deviations[2]
    assert _flips(np.array([0.5]), 10) == pytest.approx(0.025)


def test_a_long_curve_is_read_in_time() -> None:
    counts = list(range(3000))
    found = forecast(History(counts, [0.98 - 0.97 / (1 + count / 1500) for count in counts], 10), 0.7)
    assert found.low is not None and 1 <= found.low < 2000
