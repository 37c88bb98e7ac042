"""What all measurements of gaps say of needs, against the conditional of one dense Gaussian."""

import math

import pytest
import torch
from torch import Tensor

from amf_lightning.selection.seen_needs import seen_needs

ERROR = 0.25


def dense(measured: Tensor, error: float) -> Tensor:
    """Gaps of a task in R rounds are Gaussian: 0.5 ± 0.4 at first, plus steps of 0.1 between rounds."""
    rounds = torch.arange(len(measured), dtype=torch.float64)
    covariance = 0.4**2 + 0.1**2 * torch.minimum(rounds[:, None], rounds[None])
    expected = []
    for gaps in measured.T:
        seen = gaps.isfinite()
        noisy = covariance[seen][:, seen] + error**2 * torch.eye(int(seen.sum()), dtype=torch.float64)
        expected.append(0.5 + covariance[-1, seen] @ torch.linalg.solve(noisy, gaps[seen] - 0.5))
    return torch.stack(expected).clamp(0, 1)


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_needs_are_the_conditional_mean_of_gaps_that_wander(rounds: int) -> None:
    measured = torch.rand(rounds, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(rounds))
    torch.testing.assert_close(seen_needs(measured, ERROR), dense(measured, ERROR))
    if rounds > 2:
        measured[1, 0] = measured[-1, 1] = measured[:, 2] = math.nan
        torch.testing.assert_close(seen_needs(measured, ERROR), dense(measured, ERROR))
        assert seen_needs(measured, ERROR)[2] == 0.5, "nothing was ever seen of it"


def test_a_task_that_goes_on_failing_is_in_need_although_one_lucky_round_says_otherwise() -> None:
    failing, solved = [0.9, 0.9, 0.9, 0.1], [0.9, 0.1, 0.1, 0.2]
    needs = seen_needs(torch.tensor([failing, solved], dtype=torch.float64).T, ERROR)
    assert needs[0] > needs[1]
