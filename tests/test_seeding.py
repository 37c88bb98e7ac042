"""Draws are keyed: of a row by its seed and the step, and not by the rows beside it."""

import torch

from amf_lightning.seeding import Purpose, RowGenerators, keyed_generator


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
