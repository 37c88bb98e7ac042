import pytest
import torch
from selection_world import mlp, normal
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.flow import FlowPolicy
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.statistics import FeatureStatistics, feature_statistics
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty import projected_gradient
from amf_lightning.uncertainty.knowledge import Knowledge
from amf_lightning.uncertainty.projected_gradient import (
    ProjectedGradient,
    own_samples,
    projected_gradients,
    projection,
)
from tiny import TinySuite

POLICY = mlp(TinySuite(), width=8)


def states(*shape: int, seed: int = 0) -> Steps:
    parts = [normal(*shape, size, seed=seed + i).float() for i, size in enumerate((2, 1, 1))]
    return Steps.of_state(parts[0], parts[1], parts[2].tanh())


def knowledge(history: Steps | None = None, trainable: dict[str, Tensor] | None = None) -> Knowledge:
    return Knowledge(POLICY, POLICY, None, history, dict, trainable=trainable or {})


def exact_gradients(policy: MLPPolicy, of: Steps) -> dict[str, Tensor]:
    """One backward pass for each row."""
    found: dict[str, list[Tensor]] = {name: [] for name, _ in policy.named_parameters()}
    for index in range(len(of)):
        loss = policy.loss(of[index : index + 1]).sum()
        for name, part in zip(found, torch.autograd.grad(loss, list(policy.parameters())), strict=True):
            found[name].append(part.flatten().double())
    return {name: torch.stack(parts) for name, parts in found.items()}


def test_an_orthogonal_projection_of_full_dimension_is_exact() -> None:
    rows = states(9)
    exact = torch.cat(list(exact_gradients(POLICY, rows).values()), dim=1)
    matrix = projection(exact.shape[1], exact.shape[1], seed=3, orthogonal=True)
    points = projected_gradients(POLICY, rows, {}, matrix)
    assert torch.allclose(points @ points.T, exact @ exact.T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_inner_products_are_kept_within_the_johnson_lindenstrauss_error(orthogonal: bool) -> None:
    rows, dimension = states(40), 64
    exact = torch.cat(list(exact_gradients(POLICY, rows).values()), dim=1)
    norms = exact.norm(dim=1)
    errors = []
    for seed in range(5):
        points = projected_gradients(POLICY, rows, {}, projection(exact.shape[1], dimension, seed, orthogonal))
        errors.append(((points @ points.T - exact @ exact.T) / (norms[:, None] * norms)).square().mean())
    # The variance of each normalised inner product is (1 + cos²)/m, between 1/m and 2/m; rotations have less.
    assert float(torch.stack(errors).mean()) < 2 / dimension
    assert orthogonal or float(torch.stack(errors).mean()) > 0.3 / dimension


def test_frozen_entries_do_not_count() -> None:
    rows = states(7)
    masks = {
        "backbone.0.weight": torch.zeros(8, 3, dtype=torch.bool),
        "head.weight": torch.arange(8).reshape(1, 8) % 2 == 0,
    }
    exact = exact_gradients(POLICY, rows)
    kept = [part[:, masks[name].flatten()] if name in masks else part for name, part in exact.items()]
    expected = torch.cat(kept, dim=1)
    points = projected_gradients(POLICY, rows, masks, torch.eye(expected.shape[1]))
    assert torch.allclose(points, expected, atol=1e-7)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, matrix = states(3, 5), projection(113, 16, seed=0)
    whole = projected_gradients(POLICY, rows, {}, matrix)
    monkeypatch.setattr(projected_gradient, "_CHUNK", 4 * 113)
    assert whole.shape == (3, 5, 16)
    assert torch.allclose(projected_gradients(POLICY, rows, {}, matrix), whole, rtol=1e-5, atol=1e-8)


def test_the_projection_is_fixed_by_its_seed() -> None:
    ahead = states(3, 4)
    one, same, other = (ProjectedGradient(32, seed).embed(knowledge(), ahead, ahead, 0.1) for seed in (0, 0, 1))
    assert torch.equal(one.candidates, same.candidates)
    assert not torch.allclose(one.candidates, other.candidates)


def test_prior_variances_have_mean_one_over_ridge_and_the_history_lowers_them_only_if_asked_to() -> None:
    ahead, history = states(3, 4), states(30, seed=9)
    plain, conditioned = (
        ProjectedGradient(32, condition_on_history=on).embed(knowledge(history), ahead, ahead, 0.5)
        for on in (False, True)
    )
    before = plain.posterior.variance(plain.posterior.prepare(plain.targets))
    after = conditioned.posterior.variance(conditioned.posterior.prepare(conditioned.targets))
    assert float(before.mean()) == pytest.approx(2)
    assert (after < before).all()


def test_the_history_is_in_the_units_of_the_expected_states() -> None:
    """v = φᵀ(ρI + ΦᵀΦ)⁻¹φ, all gradients divided by the root of the mean ‖φ‖² of this round's states."""
    ahead, wanted, history = states(3, 4), states(2, 4, seed=5), states(30, seed=9)
    embedded = ProjectedGradient(16, condition_on_history=True).embed(knowledge(history), ahead, wanted, 0.5)
    rows = [projected_gradients(POLICY, part, {}, projection(113, 16, seed=0)) for part in (ahead, wanted, history)]
    scale = torch.cat([part.flatten(0, -2) for part in rows[:2]]).square().sum(1).mean().sqrt()
    ready, seen = rows[1].flatten(0, 1) / scale, rows[2] / scale
    expected = (ready @ torch.linalg.inv(0.5 * torch.eye(16) + seen.T @ seen) * ready).sum(1)
    found = embedded.posterior.variance(embedded.posterior.prepare(embedded.targets)).flatten()
    assert torch.allclose(found, expected, rtol=1e-6)


def test_a_policy_without_residuals_gives_no_gain_but_no_failure() -> None:
    ahead = states(3, 4)
    with torch.no_grad():
        actions = POLICY.act(ahead.flatten()).reshape(3, 4, 1)
    # Batched and single passes round differently, so the residual is only as good as zero: scale it away.
    perfect = ahead.with_actions(actions)
    points = projected_gradients(POLICY, perfect, {}, projection(113, 16, seed=0))
    assert float(points.abs().max()) < 1e-5


def test_what_cannot_be_done_is_refused() -> None:
    ahead = states(2, 3)
    with pytest.raises(InputError, match="actions"):
        ProjectedGradient().embed(knowledge(), ahead.without_actions(), ahead, 0.1)
    frozen = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in POLICY.named_parameters()}
    with pytest.raises(InputError, match="every weight"):
        ProjectedGradient().embed(knowledge(trainable=frozen), ahead, ahead, 0.1)
    with pytest.raises(InputError, match="dimension"):
        ProjectedGradient(dimension=0)


def test_gradients_by_its_own_samples_are_those_of_single_rows_drawn_alike() -> None:
    """A flow's: backward passes of its loss with what it draws from the same noise in every state as the target."""
    policy, rows = flow(), flow_states(2, 3).flatten()
    noise = RowGenerators([7], 0).normal(3, 1).expand(6, 3, 1)
    with torch.no_grad():
        drawn = policy.denoised(policy.encoder(rows), noise).clamp(-1, 1)
    torch.testing.assert_close(own_samples(policy, rows, 7), drawn)
    exact = []
    for index in range(6):
        loss = policy.loss(rows.with_actions(drawn)[index : index + 1]).sum()
        exact.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(policy.parameters()))]))
    count = len(exact[0])
    knows = Knowledge(policy, policy, knows_about(policy), None, reference)
    embedding = ProjectedGradient(count, seed=7, orthogonal=True, own_sample=True)
    points = embedding.embed(knows, flow_states(2, 3).without_actions(), flow_states(2, 3), 0.5).targets.flatten(0, 1)
    gram = torch.stack(exact).double()
    gram = gram @ gram.T
    torch.testing.assert_close(points @ points.T * gram.diagonal().mean(), gram, rtol=1e-3, atol=1e-6)


def test_with_its_own_samples_what_pi0_knows_counts_for_as_many_states_as_its_file_says() -> None:
    policy, ahead = flow(), flow_states(2, 3)
    statistics = knows_about(policy)
    embedded = ProjectedGradient(16, own_sample=True).embed(
        Knowledge(policy, policy, statistics, None, reference), ahead, ahead, 0.5
    )
    points = embedded.targets.flatten(0, 1)
    matrix = projection(sum(p.numel() for p in policy.parameters()), 16, seed=0)

    def by_own(states: Steps) -> Tensor:
        return projected_gradients(policy, states.with_actions(own_samples(policy, states, 0)), {}, matrix)

    scale = by_own(ahead).flatten(0, 1).square().sum(1).mean().sqrt()
    known = by_own(reference()["goal=-1"]) / scale
    precision = 0.5 * torch.eye(16) + statistics.count * known.T @ known / len(known)
    expected = (points @ torch.linalg.inv(precision.double()) * points).sum(1)
    found = embedded.posterior.variance(embedded.posterior.prepare(embedded.targets)).flatten()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    with pytest.raises(InputError, match="no feature statistics"):
        ProjectedGradient(16, own_sample=True).embed(
            Knowledge(policy, policy, None, None, reference), ahead, ahead, 0.5
        )


def flow() -> FlowPolicy:
    torch.manual_seed(0)
    return FlowPolicy(2, 1, 1, horizon=3, width=4, layers=1, steps=2, draws=2).eval()


def flow_states(*shape: int, seed: int = 0) -> Steps:
    parts = [normal(*shape, size, seed=seed + i).float() for i, size in enumerate((2, 1))]
    return Steps.of_state(parts[0], parts[1], torch.zeros(*shape, 3, 1))


def reference() -> dict[str, Steps]:
    """π0's rollouts: of a task that its file covers and of one that it does not."""
    return {"goal=-1": flow_states(5, seed=20), "goal=1": flow_states(5, seed=30)}


def knows_about(policy: FlowPolicy) -> FeatureStatistics:
    return feature_statistics(policy, flow_states(8, seed=40), {"goal=-1": 2})
