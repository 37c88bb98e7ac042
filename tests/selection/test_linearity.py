"""When tasks are taken for one linear function of what policies are told, and when no longer."""

import math

import torch
from torch import Tensor

from amf_lightning.selection.linearity import foretells_linear, still_linear

LINE = torch.arange(6, dtype=torch.float64)[:, None]
BEFORE = torch.tensor([10.0, 10.0, 0, 0, 0, 0], dtype=torch.float64)
FARTHER_IS_WORSE = torch.tensor([0.2, 0.2, 0.4, 0.6, 0.8, 0.9], dtype=torch.float64)
NOT_AT_ALL = torch.tensor([0.0, 0.0, 0.9, 1.0, 1.0, 1.0], dtype=torch.float64)
UNSEEN = torch.full((6,), math.nan, dtype=torch.float64)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_gaps_that_grow_with_the_distance_from_what_was_shown_foretell_it() -> None:
    assert foretells_linear(LINE, BEFORE, FARTHER_IS_WORSE, 0.5)
    assert not foretells_linear(LINE, BEFORE, NOT_AT_ALL, 0.5)
    assert foretells_linear(LINE, BEFORE, NOT_AT_ALL, 0.9999)
    assert not foretells_linear(LINE, BEFORE, FARTHER_IS_WORSE, 1e-6)


def test_what_cannot_tell_does_not_foretell_it() -> None:
    assert not foretells_linear(LINE, BEFORE, FARTHER_IS_WORSE, 0.0)
    assert not foretells_linear(LINE, BEFORE, UNSEEN, 0.9)
    assert not foretells_linear(torch.eye(6, dtype=torch.float64), BEFORE, FARTHER_IS_WORSE, 0.9)
    for before in (torch.zeros(6), torch.ones(6)):
        assert not foretells_linear(LINE, before.double(), FARTHER_IS_WORSE, 0.9)


def test_a_large_gap_of_what_nobody_was_shown_speaks_against_it_in_the_mean_over_policies() -> None:
    counts = rows([0, 0, 0, 0, 0, 3], [0, 0, 0, 0, 3, 0])
    errors = torch.full((2, 6), math.nan, dtype=torch.float64)
    done, not_done = [0.9, 0.9, 0.0, 0.1, 0.9, 0.9], [0.0, 0.0, 0.5, 0.4, 0.0, 0.0]
    assert still_linear(BEFORE, counts, rows(done, done), errors, 0.0)  # the large ones are of tasks that were shown
    assert not still_linear(BEFORE, counts[:1], rows(done), errors[:1], 0.0)  # task 4 was not yet
    assert not still_linear(BEFORE, counts, rows(not_done, not_done), errors, 0.0)
    assert still_linear(BEFORE, counts, rows(done, [0, 0, 0.3, 0.3, 0, 0]), errors, 0.0)
    assert not still_linear(BEFORE, counts, rows(done, [0, 0, 0.5, 0.5, 0, 0]), errors, 0.0)
    assert still_linear(BEFORE, counts, torch.stack([UNSEEN, UNSEEN]), errors, 0.0)
    nothing = torch.zeros(0, 6, dtype=torch.float64)
    assert still_linear(BEFORE, nothing, nothing, nothing, 0.0)


def test_a_new_task_on_which_the_policy_is_no_better_than_the_mean_action_does_too() -> None:
    gaps = torch.zeros(2, 6, dtype=torch.float64)
    nan = math.nan
    counts = rows([0, 0, 0, 0, 0, 3], [0, 0, 1, 0, 0, 2])
    first = [nan, nan, nan, nan, nan, 1.0]  # of a policy that nothing but π0's tasks was shown to
    assert not still_linear(BEFORE, counts, gaps, rows(first, [nan, nan, 1.0, nan, nan, 0.3]), 0.0)
    assert still_linear(BEFORE, counts, gaps, rows(first, [nan, nan, 0.8, nan, nan, 1.0]), 0.0)
    known = rows([0, 0, 0, 0, 0, 3], [3, 0, 0, 0, 0, 0])
    assert still_linear(BEFORE, known, gaps, rows(first, [1.0, nan, nan, nan, nan, nan]), 0.0)


def test_gaps_that_are_too_small_to_tell_anything_end_it() -> None:
    counts, errors = rows([0, 0, 0, 0, 0, 3]), UNSEEN[None]
    small = torch.full((1, 6), 0.04, dtype=torch.float64)
    assert still_linear(BEFORE, counts, small, errors, 0.03)
    assert not still_linear(BEFORE, counts, small, errors, 0.05)
    assert still_linear(BEFORE, counts.repeat(2, 1), torch.cat([small, 2 * small]), errors.repeat(2, 1), 0.05)
