"""Learning curves with transfer, beside dense Gaussians that are conditioned at once."""

import pytest
import torch
from torch import Tensor

from amf_lightning.selection.learning_curves import LearningCurves, filtered_gaps

K, ROUNDS, ERROR, CLOSED = 4, 5, 0.2, 0.05


def world(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    roots = torch.randn(K, 3, generator=generator, dtype=torch.float64)
    gram = roots @ roots.T + 0.1 * torch.eye(K, dtype=torch.float64)
    deviation = gram.diagonal().sqrt()
    return {
        "shares": torch.rand(K, K, generator=generator, dtype=torch.float64).fill_diagonal_(1.0),
        "similarity": gram / deviation[:, None] / deviation,
        "gaps": torch.rand(ROUNDS + 1, K, generator=generator, dtype=torch.float64),
        "counts": torch.randint(0, 3, (ROUNDS, K), generator=generator).to(torch.float64),
        "before": torch.tensor([3.0, 0.0, 1.0, 0.0], dtype=torch.float64),
    }


def dense_transfers(curves: LearningCurves, shares: Tensor, similarity: Tensor, gaps: Tensor, counts: Tensor,
                    before: Tensor) -> Tensor:  # fmt: skip
    """Conditions the Gaussian over all K² entries at once; the diagonal has no variance."""
    free = [(c, d) for c in range(K) for d in range(K) if c != d]
    prior = torch.zeros(K * K, K * K, dtype=torch.float64)
    for c, d in free:
        for e, f in free:
            prior[c * K + d, e * K + f] = curves.transfer**2 * similarity[c, e] * similarity[d, f]
    rows, values, noises = [], [], []
    numbers = before.clone()
    for number in range(len(counts)):
        came = shares @ counts[number]
        for c in range(K):
            low, then = gaps[number, c] + CLOSED, gaps[number + 1, c] + CLOSED
            if counts[number].sum() and torch.isfinite(low) and torch.isfinite(then):
                row = torch.zeros(K * K, dtype=torch.float64)
                slope = torch.log((1 + numbers[c] + came[c]) / (1 + numbers[c])) / came[c]
                row[c * K : (c + 1) * K] = curves.exponent * slope * counts[number]
                rows.append(row)
                values.append(torch.log(low / then))
                noises.append(ERROR**2 * (1 / low**2 + 1 / then**2))
        numbers = numbers + came
    design, y = torch.stack(rows), torch.stack(values)
    covariance = design @ prior @ design.T + torch.diag(torch.stack(noises))
    mean = shares.flatten() + prior @ design.T @ torch.linalg.solve(covariance, y - design @ shares.flatten())
    transfers: Tensor = mean.view(K, K)
    return transfers


@pytest.mark.parametrize("seed", range(4))
def test_transfer_is_the_conditional_of_one_dense_gaussian(seed: int) -> None:
    curves, given = LearningCurves(exponent=0.7, transfer=0.3), world(seed)
    given["gaps"][2, 1] = torch.nan  # a round in which nothing was measured of a task
    given["counts"][3] = 0.0  # and one in which nothing came
    expected = dense_transfers(curves, **given)
    found = curves.transfers(**given, error=ERROR)
    torch.testing.assert_close(found, expected.clamp(0, 2))
    assert torch.equal(found.diagonal(), torch.ones(K, dtype=torch.float64))
    assert not torch.equal(found, given["shares"])


def test_what_a_demonstration_did_to_other_gaps_is_believed() -> None:
    given = world()
    given |= {
        "similarity": torch.eye(K, dtype=torch.float64),
        "counts": torch.eye(K, dtype=torch.float64)[[0, 0, 0, 0, 0]],
    }
    # Demonstrations of task 0 close the gap of task 1 and leave that of task 2.
    fall = torch.tensor([0.8, 0.5, 0.3, 0.15, 0.05, 0.0], dtype=torch.float64)
    given["gaps"] = torch.stack([fall, fall, torch.full((6,), 0.8), torch.full((6,), 0.8)], dim=1).to(torch.float64)
    found = LearningCurves(transfer=1.0).transfers(**given, error=0.1)
    assert found[1, 0] > given["shares"][1, 0] and found[2, 0] < given["shares"][2, 0]
    assert torch.equal(found[:, 1:], given["shares"][:, 1:])  # nothing was seen of those


def test_without_a_round_it_is_what_the_belief_says() -> None:
    given = world()
    found = LearningCurves().transfers(
        **{**given, "gaps": given["gaps"][:1], "counts": given["counts"][:0]}, error=ERROR
    )
    assert torch.equal(found, given["shares"])


def test_a_reduction_is_the_fall_that_is_expected_of_the_mean_gap() -> None:
    curves, given = LearningCurves(exponent=0.5), world()
    gaps, numbers, transfer = given["gaps"][0], given["before"], given["shares"]
    distribution = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    scores = curves.reductions(gaps, numbers, transfer, distribution)
    for task in range(K):
        then, more = curves.after(gaps, numbers, transfer, task)
        torch.testing.assert_close(scores[task], distribution @ (gaps - then))
        torch.testing.assert_close(more, numbers + transfer[:, task])
    twice, _ = curves.after(*curves.after(gaps, numbers, transfer, 1), transfer, 1)
    torch.testing.assert_close(twice, gaps * ((1 + numbers) / (1 + numbers + 2 * transfer[:, 1])).sqrt())


def dense_gap(measured: Tensor, factors: Tensor, error: float, drift: float) -> float:
    """The last gap of one task given all measurements: a joint Gaussian of start, drifts and errors."""
    rounds = len(measured)
    latent = torch.zeros(rounds, 1 + rounds, dtype=torch.float64)  # of each round's gap: start, drifts
    latent[0, 0] = 1.0
    means = torch.ones(rounds, dtype=torch.float64)
    for number in range(1, rounds):
        latent[number] = factors[number - 1] * latent[number - 1]
        latent[number, number] += drift
        means[number] = factors[number - 1] * means[number - 1]
    seen = measured.isfinite()
    observed = latent[seen] @ latent[seen].T + error**2 * torch.eye(int(seen.sum()), dtype=torch.float64)
    weights = torch.linalg.solve(observed, latent[seen] @ latent[-1])
    return float(means[-1] + weights @ (measured[seen] - means[seen]))


@pytest.mark.parametrize("rounds", [0, 1, ROUNDS])
def test_the_filter_is_the_conditional_of_one_dense_gaussian(rounds: int) -> None:
    given = world(1)
    gaps, counts, transfer = given["gaps"][: rounds + 1].clone(), given["counts"][:rounds], given["shares"]
    if rounds > 2:
        gaps[1, 0] = gaps[rounds, 2] = torch.nan
    found = filtered_gaps(gaps, counts, given["before"], transfer, 0.8, ERROR, 0.15)
    for task in range(K):
        numbers = given["before"][task] + torch.cat([torch.zeros(1), counts @ transfer[task]]).cumsum(0)
        factors = ((1 + numbers[:-1]) / (1 + numbers[1:])) ** 0.8
        assert float(found[task]) == pytest.approx(min(1.0, max(0.0, dense_gap(gaps[:, task], factors, ERROR, 0.15))))
