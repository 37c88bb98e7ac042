from collections.abc import Mapping

import pytest
import torch
from selection_world import mlp, normal
from torch import Tensor
from torch.func import functional_call, grad, vmap

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import embedded as embedding_of
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.statistics import FeatureStatistics, feature_statistics
from amf_lightning.tasks.steps import Steps, cat
from amf_lightning.uncertainty.embeddings import (
    GradientKernel,
    LastLayerFeatures,
    LossGradient,
    gradient_factors,
    last_layer_features,
)
from amf_lightning.uncertainty.feature_norms import clip_norms
from amf_lightning.uncertainty.knowledge import Knowledge
from amf_lightning.uncertainty.posterior import FunctionSpacePosterior
from tiny import TinySuite

SUITE = TinySuite()


def states(*shape: int, seed: int = 0, actions: bool = True) -> Steps:
    state, contexts = normal(*shape, 2, seed=seed).float(), normal(*shape, 1, seed=seed + 1).float()
    return Steps.of_state(state, contexts, normal(*shape, 1, seed=seed + 2).tanh().float() if actions else None)


def never() -> Mapping[str, Steps]:
    raise AssertionError("π0 was rolled out without need")


def knowledge(
    policy: MLPPolicy,
    history: Steps | None = None,
    statistics: FeatureStatistics | None = None,
    reference: Mapping[str, Steps] | None = None,
    clip: bool = False,
    pretrained: MLPPolicy | None = None,
) -> Knowledge:
    return Knowledge(
        policy, pretrained or policy, statistics, history, (lambda: reference) if reference else never, clip
    )


def statistics_of(policy: MLPPolicy, known: Steps, covers: dict[str, int]) -> FeatureStatistics:
    return feature_statistics(policy, known, covers)


def test_the_belief_is_the_formula_of_the_method() -> None:
    policy, current = mlp(SUITE), mlp(SUITE, seed=5)
    pretraining, history, ahead = states(30, seed=10), states(11, seed=20), states(3, 4)
    statistics = statistics_of(policy, pretraining, {"a": 1})
    known = knowledge(current, history, statistics, pretrained=policy)
    embedded = LastLayerFeatures().embed(known, ahead, ahead, 0.2)

    def phi(of: Steps) -> Tensor:
        return embedding_of(policy, of.flatten())

    scale = phi(pretraining).square().sum(1).mean().sqrt()
    rows = [phi(part) / scale for part in (pretraining, history, ahead)]
    precision = 0.2 * torch.eye(33) + rows[0].T @ rows[0] + rows[1].T @ rows[1]
    expected = (rows[2] @ torch.linalg.inv(precision) * rows[2]).sum(1)
    found = embedded.posterior.variance(embedded.posterior.prepare(embedded.targets)).flatten()
    assert torch.allclose(found, expected, rtol=1e-6)


def test_without_statistics_the_scale_is_that_of_the_first_rollouts() -> None:
    policy, ahead = mlp(SUITE), states(3, 4)
    reference = {"a": states(5, seed=7), "b": states(5, seed=8)}
    embedded = LastLayerFeatures(statistics=False).embed(knowledge(policy, reference=reference), ahead, ahead, 0.1)
    features = torch.cat([last_layer_features(policy, part) for part in reference.values()])
    scale = features.square().sum(1).mean().sqrt()
    assert torch.allclose(embedded.targets, last_layer_features(policy, ahead) / scale)


def test_statistics_remade_from_rollouts_are_the_stored_ones_where_the_states_are_the_same() -> None:
    policy, ahead = mlp(SUITE), states(3, 4)
    one, two, unseen = states(10, seed=30), states(10, seed=40), states(10, seed=50)
    statistics = statistics_of(policy, cat([one, two]), {"a": 2, "b": 2})
    known = knowledge(policy, statistics=statistics, reference={"a": one, "b": two, "c": unseen})
    stored = LastLayerFeatures().embed(known, ahead, ahead, 0.1)
    remade = LastLayerFeatures(of_pretrained=False).embed(known, ahead, ahead, 0.1)
    variances = [belief.posterior.variance(belief.posterior.prepare(belief.targets)) for belief in (stored, remade)]
    assert torch.allclose(variances[0], variances[1], rtol=1e-9)


def test_unit_norm_features_have_norm_one() -> None:
    policy, ahead = mlp(SUITE), states(3, 4)
    reference = {"a": states(5, seed=7)}
    embedding = LastLayerFeatures(unit_norm=True, statistics=False)
    embedded = embedding.embed(knowledge(policy, reference=reference), ahead, ahead, 0.1)
    assert torch.allclose(embedded.targets.norm(dim=-1), torch.ones(3, 4).double())


def test_states_far_outside_are_clipped_to_the_largest_known_norm() -> None:
    policy, near, far = mlp(SUITE), states(3, 4), states(3, 4)
    far = Steps.of_state(far.state * 100, far.contexts)
    known = knowledge(policy, history=states(6, seed=3), reference={"a": states(5, seed=7)}, clip=True)
    embedded = LastLayerFeatures(statistics=False).embed(known, near, far, 0.1)
    scale = last_layer_features(policy, states(5, seed=7)).square().sum(1).mean().sqrt()
    rows = [last_layer_features(policy, part).norm(dim=-1).max() for part in (states(6, seed=3), states(5, seed=7))]
    assert torch.allclose(embedded.targets.norm(dim=-1).max(), max(rows) / scale)


def test_stored_statistics_bound_the_norms_without_a_rollout() -> None:
    policy, far = mlp(SUITE), states(3, 4)
    far = Steps.of_state(far.state * 100, far.contexts)
    statistics = statistics_of(policy, states(30, seed=10), {"a": 1})
    embedded = LastLayerFeatures().embed(knowledge(policy, statistics=statistics, clip=True), far, far, 0.1)
    bound = statistics.largest_norm / statistics.scale
    assert torch.allclose(embedded.targets.norm(dim=-1).max(), torch.tensor(bound).double())
    assert float(clip_norms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 1.0)[0].norm()) == pytest.approx(1)


def test_current_features_are_bounded_by_what_pi0_does_in_them() -> None:
    """The stored norm is that of π0's own features and says nothing about others."""
    pretrained, current, pretraining = mlp(SUITE), mlp(SUITE, seed=5), states(30, seed=10)
    with torch.no_grad():
        current.get_parameter("backbone.0.weight").mul_(3)
    statistics, reference = statistics_of(pretrained, pretraining, {"a": 1}), {"a": states(5, seed=7)}
    far = Steps.of_state(states(3, 4).state * 100, states(3, 4).contexts)
    known = knowledge(current, statistics=statistics, reference=reference, clip=True, pretrained=pretrained)
    embedded = LastLayerFeatures(of_pretrained=False).embed(known, far, far, 0.1)
    bound = last_layer_features(current, reference["a"]).norm(dim=-1).max() / statistics.scale
    assert torch.allclose(embedded.targets.norm(dim=-1).max(), bound)


def test_a_policy_file_without_statistics_is_refused_with_a_way_out() -> None:
    ahead = states(3, 4)
    known = knowledge(mlp(SUITE), reference={"a": states(5, seed=7)})
    with pytest.raises(InputError, match=r"LossGradient.*statistics: false"):
        LastLayerFeatures().embed(known, ahead, ahead, 0.1)


def test_statistics_of_another_policy_are_refused() -> None:
    ahead = states(3, 4)
    foreign = statistics_of(mlp(SUITE, seed=3), states(9), {"a": 1})
    with pytest.raises(InputError, match="belong to a policy with backbone"):
        LastLayerFeatures().embed(knowledge(mlp(SUITE), statistics=foreign), ahead, ahead, 0.1)


def test_gradient_factors_are_the_per_sample_gradients_of_torch_func() -> None:
    policy = MLPPolicy(2, 1, 3, hidden=(8, 6))
    rows = Steps.of_state(normal(10, 2).float(), normal(10, 1, seed=1).float(), normal(10, 3, seed=2).tanh().float())

    def loss(weights: dict[str, Tensor], observation: Tensor, context: Tensor, action: Tensor) -> Tensor:
        output = functional_call(policy, weights, (Steps.of_state(observation[None], context[None]),))
        error: Tensor = (output - action).square().mean()
        return error

    weights = {name: parameter.detach() for name, parameter in policy.named_parameters()}
    exact = vmap(grad(loss), in_dims=(None, 0, 0, 0))(weights, rows.state, rows.contexts, rows.shown_actions)
    factors = gradient_factors(policy, rows)
    gradients = factors[:, :3, None] * factors[:, None, 3:]
    assert torch.allclose(gradients[..., :-1], exact["head.weight"].double(), atol=1e-7)
    assert torch.allclose(gradients[..., -1], exact["head.bias"].double(), atol=1e-7)
    kernel, flat = GradientKernel(3, 2.0), gradients.flatten(1)
    assert torch.allclose(kernel(factors, factors[:4]), flat @ flat[:4].T / 2)
    assert torch.allclose(kernel.diagonal(factors), flat.square().sum(1) / 2)


def test_gradient_factors_need_no_trainable_weights_and_leave_no_gradient() -> None:
    policy = mlp(SUITE)
    with torch.no_grad():
        live = gradient_factors(policy, states(3, 4))
    assert all(parameter.grad is None for parameter in policy.parameters())
    for parameter in policy.parameters():
        parameter.requires_grad_(False)
    assert torch.equal(gradient_factors(policy, states(3, 4)), live)
    assert live.shape == (3, 4, 1 + 32 + 1)


def test_gradients_have_mean_prior_variance_one_over_ridge() -> None:
    policy, ahead, wanted = mlp(SUITE), states(3, 4), states(2, 4, seed=9)
    embedded = LossGradient().embed(knowledge(policy, history=states(5, seed=3)), ahead, wanted, 0.5)
    rows = torch.cat([embedded.candidates.flatten(0, 1), embedded.targets.flatten(0, 1)])
    assert float(embedded.posterior.variance(embedded.posterior.prepare(rows)).mean()) == pytest.approx(2)


def test_gradients_are_those_of_the_current_policy_also_where_something_was_demonstrated() -> None:
    current, ahead, wanted, history = mlp(SUITE, seed=5), states(3, 4), states(2, 4, seed=9), states(7, seed=3)
    known = knowledge(current, history=history, pretrained=mlp(SUITE))
    embedded = LossGradient(condition_on_history=True).embed(known, ahead, wanted, 0.1)
    assert torch.equal(embedded.candidates, gradient_factors(current, ahead))
    assert torch.equal(embedded.targets, gradient_factors(current, wanted))
    assert isinstance(embedded.posterior, FunctionSpacePosterior) and embedded.posterior.observed is not None
    assert torch.equal(embedded.posterior.observed, gradient_factors(current, history))


def test_the_history_conditions_gradients_only_if_asked_to() -> None:
    policy, ahead = mlp(SUITE), states(3, 4)
    known = knowledge(policy, history=states(50, seed=3))
    plain, conditioned = (LossGradient(on).embed(known, ahead, ahead, 0.1).posterior for on in (False, True))
    rows = gradient_factors(policy, ahead)
    assert (conditioned.variance(conditioned.prepare(rows)) < plain.variance(plain.prepare(rows))).all()


def test_a_long_history_of_gradients_is_thinned_with_rows_that_stand_for_several() -> None:
    policy, ahead = mlp(SUITE), states(3, 4)
    double = states(1500, seed=3)[torch.arange(1500).repeat_interleave(2)]
    # Every second row of pairs of equal rows, each for two, is the same evidence as all of them.
    short = LossGradient(True).embed(knowledge(policy, history=double), ahead, ahead, 0.1).posterior
    assert isinstance(short, FunctionSpacePosterior)
    assert short.observed is not None and len(short.observed) == 1500
    exact = FunctionSpacePosterior(short.kernel, 0.1).condition(gradient_factors(policy, double))
    rows = gradient_factors(policy, ahead)
    assert torch.allclose(short.variance(short.prepare(rows)), exact.variance(exact.prepare(rows)), rtol=1e-6)


def test_a_policy_without_residuals_gives_no_gain_but_no_failure() -> None:
    policy, ahead = mlp(SUITE), states(3, 4)
    with torch.no_grad():
        flat = policy.act(ahead.flatten())
    perfect = ahead.with_actions(flat.reshape(3, 4, 1))
    posterior = LossGradient().embed(knowledge(policy), perfect, perfect, 0.1).posterior
    assert torch.equal(posterior.variance(gradient_factors(policy, perfect)), torch.zeros(3, 4).double())


def test_gradients_of_states_without_actions_are_refused() -> None:
    with pytest.raises(InputError, match="actions"):
        gradient_factors(mlp(SUITE), states(3, 4, actions=False))


class Doubled(MLPPolicy):
    """Gives an embedding of its own."""

    def embed(self, steps: Steps) -> Tensor:
        return 2 * self.features(steps)[:, :3]


def test_a_policy_may_give_its_own_embedding_and_the_statistics_follow() -> None:
    policy, ahead = Doubled(2, 1, 1, hidden=(8,)), states(3, 4)
    rows = 2 * policy.features(ahead.flatten())[:, :3].detach().double()
    statistics = statistics_of(policy, ahead.flatten(), {"a": 1})
    assert torch.allclose(statistics.second_moment, rows.T @ rows)
    embedded = LastLayerFeatures().embed(knowledge(policy, statistics=statistics), ahead, ahead, 0.1)
    assert torch.allclose(embedded.targets.flatten(0, 1), rows / statistics.scale)
