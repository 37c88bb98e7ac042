from collections.abc import Sequence
from itertools import product

import pytest
import torch

from amf_lightning.studies.evolution import Evolution, Schedule, best_of, first_schedules

TASKS, LENGTH = 3, 4
EVERY = list(product(range(TASKS), repeat=LENGTH))


def landscape(seed: int) -> dict[Schedule, float]:
    """Scores that have nothing to do with each other: nothing helps but to try."""
    numbers = torch.rand(len(EVERY), generator=torch.Generator().manual_seed(seed)).tolist()
    return dict(zip(EVERY, numbers, strict=True))


TRANSFER = ((0.6, 0.0, 0.1, 0.0), (0.0, 0.5, 0.2, 0.0), (0.2, 0.2, 0.4, 0.1), (0.0, 0.1, 0.0, 0.7))
"""Share of what is unknown of each of four tasks that a demonstration of one teaches."""


def world(schedule: Schedule) -> float:
    """Area under the mean score of four tasks."""
    unknown, area = [1.0] * 4, 0.0
    for task in schedule:
        unknown = [left * (1 - taught) for left, taught in zip(unknown, TRANSFER[task], strict=True)]
        area += 1 - sum(unknown) / 4
    return area / len(schedule)


def searched(scores: dict[Schedule, float], **options: int) -> tuple[dict[Schedule, float], list[Schedule]]:
    tried: list[Schedule] = []

    def score(schedules: Sequence[Schedule]) -> list[float]:
        tried.extend(schedules)
        return [scores[schedule] for schedule in schedules]

    settings = {"generations": 10, "children": 4, "parents": 3, **options}
    *_, known = Evolution(TASKS, LENGTH, **settings).run(first_schedules(TASKS, LENGTH), score)
    return known, tried


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_brute_force_finds_where_it_may_try_everything(seed: int) -> None:
    scores = landscape(seed)
    known, tried = searched(scores, generations=20)
    assert known == scores and len(tried) == len(set(tried)) == len(EVERY), "each once, and all of them"
    assert best_of(known)[0] == max(EVERY, key=scores.__getitem__)


def test_it_finds_the_best_of_a_world_with_a_twentieth_of_the_tries_of_brute_force() -> None:
    scores = {schedule: world(schedule) for schedule in product(range(4), repeat=6)}
    best, first = max(scores, key=scores.__getitem__), first_schedules(4, 6)
    assert len(set(best)) == 4 and max(map(scores.__getitem__, first)) < 0.99 * scores[best]
    found = 0
    for seed in range(10):
        evolution = Evolution(4, 6, generations=16, children=12, parents=4, seed=seed)
        *_, known = evolution.run(first, lambda schedules: [scores[schedule] for schedule in schedules])
        assert len(known) <= len(scores) / 20
        found += best_of(known)[0] == best
    assert found >= 8, "blind draws would find it in one search of twenty"


def test_a_longer_search_begins_like_a_shorter_one_and_another_seed_like_another() -> None:
    scores = landscape(0)
    short, long, other = (searched(scores, **options)[1] for options in ({}, {"generations": 12}, {"seed": 1}))
    assert long[: len(short)] == short and other[: len(short)] != short
    assert searched(scores)[1] == short


def test_it_begins_with_what_was_asked_for_elsewhere_if_that_is_long_enough() -> None:
    assert first_schedules(2, 2, [(1, 0), (0,), (1, 1)]) == [(1, 0), (1, 1), (0, 0), (0, 1)]
