import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from largest_tensor import LargestTensor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from torch import Tensor

from amf_lightning.uncertainty import posterior as posterior_module
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior, FunctionSpacePosterior, Posterior

RIDGE = 0.3


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class LinearKernel:
    """x·Sy: with S = ρ(ρI + M0)⁻¹ and ridge ρ, the prior of the feature space with M0."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ self.matrix.to(a.dtype) @ b.mT

    def diagonal(self, a: Tensor) -> Tensor:
        return ((a @ self.matrix.to(a.dtype)) * a).sum(-1)


class Gaussian:
    """exp(−‖x − y‖²/2)."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-0.5 * (a[..., :, None, :] - b[..., None, :, :]).square().sum(-1))

    def diagonal(self, a: Tensor) -> Tensor:
        return torch.ones_like(a[..., 0])


def both_spaces(dimension: int) -> tuple[Posterior, Posterior]:
    seen = normal(4, dimension, seed=9)
    known = seen.T @ seen
    inverse = torch.linalg.inv(RIDGE * torch.eye(dimension, dtype=torch.float64) + known)
    return FeatureSpacePosterior.prior(dimension, RIDGE, known), FunctionSpacePosterior(
        LinearKernel(RIDGE * inverse), RIDGE
    )


def test_variance_is_that_of_a_dense_inverse() -> None:
    data, noise, x = normal(20, 5), normal(20, seed=1).exp(), normal(7, 5, seed=2)
    known = torch.diag(torch.arange(5.0, dtype=torch.float64))
    posterior = FeatureSpacePosterior.prior(5, RIDGE, known).condition(data, noise)
    precision = RIDGE * np.eye(5) + known.numpy() + data.numpy().T @ np.diag(1 / noise.numpy()) @ data.numpy()
    covariance = x.numpy() @ np.linalg.inv(precision) @ x.numpy().T
    ready = posterior.prepare(x)
    assert np.allclose(posterior.covariance(ready, ready).numpy(), covariance, rtol=1e-10)
    assert np.allclose(posterior.variance(ready).numpy(), np.diag(covariance), rtol=1e-10)


def test_feature_space_and_function_space_agree() -> None:
    feature, function = both_spaces(6)
    for step in range(3):  # no data, one demonstration, two
        x, blocks, noise = normal(9, 6, seed=2), normal(4, 3, 6, seed=3), normal(4, seed=4).exp()
        numbers = []
        for belief in (feature, function):
            ready, ahead = belief.prepare(x), belief.prepare(blocks)
            numbers.append(
                (
                    belief.variance(ready),
                    belief.covariance(ready, ready),
                    belief.explained(ready, ahead, noise),
                    belief.block_factor(ahead, noise),
                )
            )
        for one, other in zip(*numbers, strict=True):
            assert torch.allclose(one, other, rtol=1e-8, atol=1e-10), step
        data = normal(5, 6, seed=10 + step)
        feature, function = feature.condition(data, 0.7), function.condition(data, 0.7)


def test_function_space_is_the_gaussian_process_of_scikit_learn() -> None:
    data, x = normal(8, 2), normal(5, 2, seed=1)
    posterior = FunctionSpacePosterior(Gaussian(), 1.0).condition(data[:3]).condition(data[3:])
    process = GaussianProcessRegressor(RBF(1.0), alpha=1.0, optimizer=None).fit(data.numpy(), np.zeros(8))
    covariance = process.predict(x.numpy(), return_cov=True)[1]
    ready = posterior.prepare(x)
    assert np.allclose(posterior.covariance(ready, ready).numpy(), covariance, atol=1e-10)


@pytest.mark.parametrize("space", [0, 1])
def test_explained_variance_is_what_conditioning_removes(space: int) -> None:
    posterior = both_spaces(6)[space].condition(normal(4, 6))
    x, blocks, noise = normal(9, 6, seed=2), normal(3, 4, 6, seed=3), normal(3, seed=4).exp()
    explained = posterior.explained(posterior.prepare(x), posterior.prepare(blocks), noise)
    for block, level, row in zip(blocks, noise, explained, strict=True):
        after = posterior.condition(block, float(level))
        removed = posterior.variance(posterior.prepare(x)) - after.variance(after.prepare(x))
        assert torch.allclose(row, removed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("space", [0, 1])
def test_a_row_of_lower_noise_stands_for_several(space: int) -> None:
    prior, data, x = both_spaces(4)[space], normal(3, 4), normal(5, 4, seed=1)
    thrice, heavy = prior.condition(data.repeat(3, 1)), prior.condition(data, 1 / 3)
    assert torch.allclose(thrice.variance(thrice.prepare(x)), heavy.variance(heavy.prepare(x)), rtol=1e-9)


def test_the_numbers_keep_the_precision_of_their_points() -> None:
    data, x, blocks = normal(20, 5), normal(7, 5, seed=2), normal(3, 4, 5, seed=3)
    for posterior in (belief.condition(data) for belief in both_spaces(5)):
        wide = posterior.explained(posterior.prepare(x), posterior.prepare(blocks), torch.ones(3))
        low = posterior.explained(posterior.prepare(x.float()), posterior.prepare(blocks.float()), torch.ones(3))
        assert (wide.dtype, low.dtype) == (torch.float64, torch.float32)
        assert torch.allclose(wide, low.double(), rtol=1e-4, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 8), space=st.integers(0, 1), noise=st.floats(1e-3, 1e3))
def test_data_never_raise_a_variance_and_noise_never_lowers_one(seed: int, rows: int, space: int, noise: float) -> None:
    prior, data, x = both_spaces(5)[space], normal(rows, 5, seed=seed), normal(6, 5, seed=seed + 1)
    before, after, noisier = prior, prior.condition(data, noise), prior.condition(data, 2 * noise)
    levels = [belief.variance(belief.prepare(x)) for belief in (after, noisier, before)]
    assert (levels[0] <= levels[1] + 1e-10).all()
    assert (levels[1] <= levels[2] + 1e-10).all()
    assert (levels[0] >= 0).all()


@pytest.mark.parametrize("parts", [[600], [400, 200], [100, 500], [300, 4, 296], [150, 100, 350]])
def test_a_history_beyond_the_bound_is_thinned_with_rows_that_stand_for_several(
    monkeypatch: pytest.MonkeyPatch, parts: list[int]
) -> None:
    """Runs of equal rows with one noise: whichever of them are kept, they must stand for all."""
    distinct, noise, x = normal(75, 2), normal(75, seed=1).exp(), normal(6, 2, seed=2)
    rows, levels = distinct.repeat_interleave(8, 0), noise.repeat_interleave(8)
    exact = FunctionSpacePosterior(Gaussian(), RIDGE).condition(rows, levels)
    monkeypatch.setattr(posterior_module, "LONGEST_HISTORY", 300)
    belief = FunctionSpacePosterior(Gaussian(), RIDGE)
    start = 0
    for count in parts:
        belief = belief.condition(rows[start : start + count], levels[start : start + count])
        start += count
        assert belief.observed is not None and belief.factor is not None
        assert len(belief.observed) == len(belief.factor) <= 300
    found, expected = (part.variance(part.prepare(x)) for part in (belief, exact))
    assert torch.allclose(found, expected, rtol=1e-6)


def test_no_matrix_between_all_states_of_a_history_or_a_batch_is_formed() -> None:
    belief = FunctionSpacePosterior(Gaussian(), RIDGE)
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        for seed in range(3):
            belief = belief.condition(normal(5000, 1, seed=seed))
    assert largest.entries <= 2000**2 < 4000**2


def test_the_same_point_a_thousand_times_does_not_break_the_factors() -> None:
    point = normal(1, 5)
    for prior in both_spaces(5):
        posterior = prior.condition(point.expand(1000, -1))
        variance = float(posterior.variance(posterior.prepare(point)))
        assert 0 < variance < 1 / 999
