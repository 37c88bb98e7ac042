from dataclasses import replace

import numpy as np
import pytest
import torch
from selection_world import mlp, normal
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.kernels import RBF, Kernel, Matern12, Matern32, Matern52, Stationary
from amf_lightning.uncertainty.knowledge import Knowledge
from amf_lightning.uncertainty.posterior import FunctionSpacePosterior
from tiny import TinySuite

POLICY = mlp(TinySuite())
LENGTHSCALES = [0.5, 2.0, 0.7]
REFERENCES = [
    (RBF(), kernels.RBF(LENGTHSCALES)),
    (Matern12(), kernels.Matern(LENGTHSCALES, nu=0.5)),
    (Matern32(), kernels.Matern(LENGTHSCALES, nu=1.5)),
    (Matern52(), kernels.Matern(LENGTHSCALES, nu=2.5)),
]


def states(*shape: int, seed: int = 0) -> Steps:
    return Steps.of_state(normal(*shape, 2, seed=seed).float(), normal(*shape, 1, seed=seed + 1).float())


def inputs(of: Steps) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return torch.cat([of.state, of.contexts], dim=-1).flatten(0, -2).double().numpy()


def knowledge(history: Steps | None = None) -> Knowledge:
    return Knowledge(POLICY, POLICY, None, history, dict)


@pytest.mark.parametrize(("ours", "reference"), REFERENCES)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_belief_is_the_gaussian_process_of_scikit_learn(
    ours: Stationary, reference: kernels.Kernel, offset: float
) -> None:
    history, ahead = states(9), states(3, 4, seed=5)
    history, ahead = (Steps.of_state(part.state + offset, part.contexts) for part in (history, ahead))
    ridge = 0.3
    embedded = Kernel(ours, LENGTHSCALES[:2], LENGTHSCALES[2]).embed(knowledge(history), ahead, ahead, ridge)
    process = GaussianProcessRegressor(kernels.ConstantKernel(1 / ridge) * reference)
    process = process.set_params(alpha=1.0, optimizer=None).fit(inputs(history), np.zeros(9))
    covariance = process.predict(inputs(ahead), return_cov=True)[1]
    ready = embedded.posterior.prepare(embedded.targets).flatten(0, 1)
    # Distances of Matérn 1/2 are square roots: rounding of 1e-13 far from the origin is 3e-7 there.
    tolerance = 1e-8 if offset == 0 else 1e-5
    assert np.allclose(embedded.posterior.covariance(ready, ready).numpy(), covariance, atol=tolerance)
    assert np.allclose(embedded.posterior.variance(ready).numpy(), np.diag(covariance), atol=tolerance)


def test_a_demonstration_at_a_time_is_all_at_once() -> None:
    points, x = normal(12, 3), normal(5, 3, seed=7)
    noise = normal(12, seed=3).exp()
    prior = FunctionSpacePosterior(Matern32(), 0.2)
    whole = prior.condition(points, noise)
    parts = prior.condition(points[:5], noise[:5]).condition(points[5:6], noise[5:6]).condition(points[6:], noise[6:])
    levels = [belief.variance(belief.prepare(x)) for belief in (whole, parts)]
    assert torch.allclose(levels[0], levels[1], rtol=1e-10)


def test_a_long_history_is_thinned_with_rows_that_stand_for_several() -> None:
    distinct, ahead = states(1500), states(2, 3, seed=9)
    double = distinct[torch.arange(1500).repeat_interleave(2)]
    embedded = Kernel(RBF(), 1.0, 1.0).embed(knowledge(double), ahead, ahead, 0.1)
    assert isinstance(embedded.posterior, FunctionSpacePosterior)
    assert embedded.posterior.observed is not None and len(embedded.posterior.observed) == 1500


def test_lengthscales_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="positive"):
        Kernel(context_lengthscales=[1.0, 0.0])
    with pytest.raises(InputError, match="observation_lengthscales has 3 entries, but the observation has 2"):
        Kernel(RBF(), [1.0, 1.0, 1.0], 1.0).embed(knowledge(), states(2, 3), states(2, 3), 0.1)


def test_lengthscales_are_measured_on_what_pi0_does_unless_they_are_given() -> None:
    reference = {"a": states(400, seed=20), "b": states(200, seed=30)}
    reference = {
        name: Steps.of_state(part.state * torch.tensor([3.0, 0.01]), torch.full_like(part.contexts, 0.1))
        for name, part in reference.items()
    }
    ahead, known = states(3, 4), replace(knowledge(states(9)), reference=lambda: reference)
    measured = Kernel()
    given = [
        float(torch.cat([part.state for part in reference.values()]).double()[:, entry].std(correction=0)) * 2**0.5
        for entry in (0, 1)
    ]
    explicit = Kernel(RBF(), given, 1.0)  # the context does not vary
    found, expected = (embedding.embed(known, ahead, ahead, 0.3) for embedding in (measured, explicit))
    assert torch.allclose(found.targets, expected.targets, rtol=1e-9)
    levels = [part.posterior.variance(part.posterior.prepare(part.targets)) for part in (found, expected)]
    assert torch.allclose(levels[0], levels[1])
    assert measured.needs == Kernel(RBF(), 1.0).needs == (Need.SIMULATOR,)
    assert explicit.needs == ()
