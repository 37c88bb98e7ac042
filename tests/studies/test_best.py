"""Who may be best: the set holds the truly best one as often as it says, and is small where there is a difference."""

import numpy as np
import pytest
from scipy import stats

from amf_lightning.studies.best import best_set, student_quantile
from amf_lightning.studies.noise import noise_floor


def areas(means: list[float], seeds: int, spread: float, rng: np.random.Generator) -> dict[str, dict[int, float]]:
    effect = rng.normal(size=seeds)  # what a seed does to all alike: pairing takes it out
    return {
        str(index): dict(enumerate(mean + effect + spread * rng.normal(size=seeds))) for index, mean in enumerate(means)
    }


@pytest.mark.parametrize(("count", "seeds"), [(2, 4), (6, 10)])
def test_the_truly_best_one_is_in_the_set_as_often_as_it_says(count: int, seeds: int) -> None:
    rng = np.random.default_rng([count, seeds])
    sets = [best_set(areas([0.0] * count, seeds, 1.0, rng), 0.9, resamples=200) for _ in range(150)]
    inside = [label in found.with_best for found in sets if found for label in found.compared]  # all are equally good
    assert len(inside) == 150 * count
    assert 0.83 < np.mean(inside) < 0.97


def test_quantiles_of_student_are_those_of_scipy() -> None:
    for freedom in (1, 2, 5, 30):
        for probability in (0.5, 0.9, 0.99, 0.9999):
            assert student_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-3)


def test_what_is_worse_by_more_than_the_spread_is_left_out_and_what_is_not_stays() -> None:
    found = best_set(areas([0.0, 0.02, 1.0, -1.0], 10, 0.1, np.random.default_rng(0)), 0.9)
    assert found is not None
    assert (found.best, found.with_best) == ("2", ("2",))
    near = best_set(areas([0.0, 0.0, -1.0], 10, 0.1, np.random.default_rng(1)), 0.9)
    assert near is not None and set(near.with_best) == {"0", "1"} and near.compared == ("0", "1", "2")


def test_one_seed_tells_nobody_apart_and_equal_differences_do() -> None:
    one = best_set({"a": {0: 1.0}, "b": {0: 0.0}}, 0.9)
    assert one is not None and one.with_best == ("a", "b")
    same = best_set({"a": {0: 1.0, 1: 2.0}, "b": {0: 0.5, 1: 1.5}, "c": {0: 1.0, 1: 2.0, 2: 9.0}}, 0.9)
    assert same is not None and same.with_best == ("a", "c") and same.seeds == (0, 1)
    assert best_set({"a": {0: 1.0}}, 0.9) is None
    assert best_set({"a": {0: 1.0}, "b": {1: 1.0}}, 0.9) is None


def test_the_noise_floor_is_the_spread_within_seeds_alone() -> None:
    rng = np.random.default_rng(3)
    groups = {
        seed: [dict.fromkeys(("auc", "final", "setback"), effect + 0.1 * noise) for noise in rng.normal(size=4)]
        for seed, effect in enumerate(rng.normal(size=200))
    }
    floor = noise_floor("A", {**groups, 999: groups[0][:1]}, 0.9)
    assert floor is not None and floor.runs == 800 and 999 not in floor.seeds
    assert floor.deviations["auc"] == pytest.approx(0.1, rel=0.05)
    differences = 0.1 * (rng.normal(size=(4000, 200)) - rng.normal(size=(4000, 200)))  # independent of the formula
    inside = np.abs(differences.mean(axis=1)) <= floor.differences["auc"]
    assert inside.mean() == pytest.approx(0.9, abs=0.03)
    assert noise_floor("A", {0: groups[0][:1]}, 0.9) is None


def test_what_no_table_shows_tells_nobody_apart() -> None:
    areas = {"a": {0: 0.90001, 1: 0.80001, 2: 0.70001}, "b": {0: 0.9, 1: 0.8, 2: 0.7}, "c": {0: 0.8, 1: 0.7, 2: 0.6}}
    found = best_set(areas, 0.9)
    assert found is not None and found.with_best == ("a", "b")
