"""Draws are keyed: of a row by its seed and the step, and not by the rows beside it."""

import random

import numpy as np
import pytest
import torch

from amf_lightning.seeding import (
    Purpose,
    RowGenerators,
    drawn_by,
    keyed_generator,
    keyed_global_generators,
    keyed_seeds,
)


def test_a_row_draws_the_same_alone_and_in_any_place_beside_others() -> None:
    seeds = [5, 9, 2**62, 0, 7]
    together = RowGenerators(seeds, 3).normal(4, 2)
    for place, seed in enumerate(seeds):
        assert torch.equal(RowGenerators([seed], 3).normal(4, 2)[0], together[place])
    assert torch.equal(RowGenerators(seeds[::-1], 3).normal(4, 2).flip(0), together)


def test_the_stream_goes_on_and_is_that_of_the_key() -> None:
    generators, stream = RowGenerators([5, 6], 3), keyed_generator(5, Purpose.ACT, 3)
    first, second, third = generators.normal(2), generators.uniform(3), generators.normal(2)
    assert torch.equal(first[0], torch.randn(2, generator=stream))
    assert torch.equal(second[0], torch.rand(3, generator=stream))
    assert torch.equal(third[0], torch.randn(2, generator=stream))


def test_a_copy_goes_on_from_where_it_was_made() -> None:
    generators = RowGenerators([5, 6], 3)
    generators.normal(2)
    copy = generators.copy()
    first = copy.normal(4)
    assert torch.equal(generators.normal(4), first) and not torch.equal(generators.normal(4), first)


def test_other_seeds_and_other_steps_draw_otherwise() -> None:
    drawn = [RowGenerators([seed], step).normal(8) for seed in (1, 2) for step in (0, 1)]
    assert len({tuple(row.flatten().tolist()) for row in drawn}) == 4


def test_numbers_have_the_distribution_that_is_asked_for() -> None:
    generators = RowGenerators(range(2000), 0)
    normal, uniform = generators.normal(5), generators.uniform()
    assert normal.shape == (2000, 5) and uniform.shape == (2000,)
    assert abs(float(normal.mean())) < 0.04 and abs(float(normal.std()) - 1) < 0.03
    assert float(uniform.min()) >= 0 and float(uniform.max()) < 1 and abs(float(uniform.mean()) - 0.5) < 0.03


def draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_lent_generators_draw_what_the_key_says_and_go_on_afterwards_as_if_nothing_had_been() -> None:
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = [draws(), draws()]
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    seen = [draws()]
    keyed = []
    for key in (1, 2, 1):
        with keyed_global_generators(5, Purpose.MEET, key):
            keyed.append((draws(), draws()))
    assert keyed[0] == keyed[2] and not set(keyed[0][0]) & set(keyed[1][0])
    with pytest.raises(RuntimeError, match="inside"), keyed_global_generators(5, Purpose.MEET, 1):
        draws()
        raise RuntimeError("inside")
    assert [*seen, draws()] == expected


def test_what_is_drawn_from_is_named() -> None:
    assert drawn_by(lambda: torch.rand(1)) == ["torch's global generator"]
    assert drawn_by(lambda: np.random.randn()) == ["numpy's `np.random`"]
    assert drawn_by(random.random) == ["Python's `random`"]
    assert drawn_by(lambda: torch.rand(1, generator=torch.Generator())) == []
    assert len(drawn_by(draws)) == 3


def test_seeds_of_a_stream_do_not_depend_on_how_many_are_asked_for() -> None:
    seeds = keyed_seeds(100, 3, Purpose.LOSS, 1, 0)
    assert keyed_seeds(7, 3, Purpose.LOSS, 1, 0) == seeds[:7] and len(set(seeds)) == 100
    assert not set(seeds) & set(keyed_seeds(100, 3, Purpose.LOSS, 1, 1))
    assert all(0 <= seed < 2**63 for seed in seeds)
