"""Beliefs about masked last layers and separate parts, against the formula for each output and each group alone."""

from collections.abc import Mapping

import pytest
import torch
from selection_world import normal
from torch import Tensor
from torch.func import functional_call, grad, vmap

from amf_lightning.policies.mixture import IsolatedPolicy, PriorMixture
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.statistics import FeatureStatistics, feature_statistics
from amf_lightning.selection.information_gain import Blocks, Joint, Marginal, Problem, Variance, task_variances
from amf_lightning.selection.informed import InformationGain
from amf_lightning.tasks.spec import Dimensions
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import LastLayerFeatures, LossGradient, gradient_factors, last_layer_features
from amf_lightning.uncertainty.knowledge import Embedded, Knowledge
from amf_lightning.uncertainty.partial.parts import MaskedGradientKernel, last_layer_weights
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior
from amf_lightning.uncertainty.projected_gradient import ProjectedGradient
from tiny import TinySuite

SUITE = TinySuite()
ACTIONS = 3
DIMENSIONS = Dimensions(SUITE.observation, SUITE.context_dim, ACTIONS)


def states(tasks: tuple[int, ...], count: int = 5, seed: int = 0) -> Steps:
    """[M, S, ·] of these tasks."""
    shape = (len(tasks), count)
    contexts = SUITE.contexts[torch.tensor(tasks)][:, None].expand(*shape, 1)
    actions = normal(*shape, ACTIONS, seed=seed + 2).tanh().float()
    return Steps.of_state(normal(*shape, 2, seed=seed).float(), contexts, actions)


def policy(seed: int = 0) -> MLPPolicy:
    made = MLPPolicy(2, 1, ACTIONS, hidden=(8, 7))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return made


def mask(seed: int = 0, below: bool = False) -> dict[str, Tensor]:
    """Some entries of the last layer are trained, and all of those below it or none."""
    under = {n: torch.full(p.shape, below) for n, p in policy().named_parameters() if n.startswith("backbone")}
    return {"head.weight": normal(ACTIONS, 7, seed=seed) > 0, "head.bias": normal(ACTIONS, seed=seed + 1) > 0, **under}


def knowledge(
    current: Policy,
    pretrained: Policy,
    history: Steps | None = None,
    statistics: FeatureStatistics | None = None,
    trainable: Mapping[str, Tensor] | None = None,
    reference: Mapping[str, Steps] | None = None,
) -> Knowledge:
    return Knowledge(current, pretrained, statistics, history, lambda: reference or {}, trainable=trainable or {})


def statistics_of(of: Policy, known: Steps) -> FeatureStatistics:
    return feature_statistics(of, known.flatten(), {"goal=-1": 1})


def problem(embedded: Embedded, tasks: tuple[int, ...]) -> Problem:
    index, ones = torch.tensor(tasks), torch.ones(len(tasks), dtype=torch.float64)
    blocks = [Blocks(points, index, ones, 12 * ones) for points in (embedded.candidates, embedded.targets)]
    return Problem(blocks[0], blocks[1], SUITE.distribution)


@pytest.mark.parametrize("aggregate", [Marginal(), Joint(), Variance()])
def test_a_masked_last_layer_is_one_exact_belief_for_each_output(aggregate: Marginal | Joint | Variance) -> None:
    """Brute force: in the trained columns alone, with the block of the joint precision."""
    current, tasks = policy(), (0, 1, 2, 3)
    pretraining, history, ahead, wanted = (states(tasks, 6, seed) for seed in (10, 20, 30, 40))
    statistics, masks = statistics_of(current, pretraining), mask()
    known = knowledge(current, current, history.flatten(), statistics, masks)
    embedded = LastLayerFeatures().embed(known, ahead, wanted, 0.2)
    selector = InformationGain(aggregate=aggregate)
    scores = selector.score(embedded.posterior, problem(embedded, tasks))

    columns = torch.cat([masks["head.weight"], masks["head.bias"][:, None]], 1)
    whole = LastLayerFeatures().embed(knowledge(current, current, history.flatten(), statistics), ahead, wanted, 0.2)
    precision = whole.posterior.precision  # type: ignore[attr-defined]
    expected, variances = [], []
    for kept in columns:
        block = precision[kept][:, kept]
        alone = FeatureSpacePosterior(block, torch.linalg.cholesky(block))
        points = Embedded(alone, whole.candidates[..., kept], whole.targets[..., kept])
        expected.append(selector.score(alone, problem(points, tasks)))
        variances.append(task_variances(alone, problem(points, tasks).targets, 4))
    torch.testing.assert_close(scores, torch.stack(expected).mean(0), rtol=1e-9, atol=0)
    found = task_variances(embedded.posterior, problem(embedded, tasks).targets, 4)
    torch.testing.assert_close(found, torch.stack(variances).mean(0), rtol=1e-9, atol=0)
    assert not torch.allclose(scores, selector.score(whole.posterior, problem(whole, tasks)), rtol=0.01)


def test_conditioning_a_masked_belief_is_conditioning_each_output() -> None:
    current, history, ahead = policy(), states((0, 1), 6, 20), states((2, 3), 4, 30)
    statistics = statistics_of(current, states((0, 1), 6, 10))
    before = LastLayerFeatures().embed(knowledge(current, current, None, statistics, mask()), ahead, ahead, 0.2)
    after = LastLayerFeatures().embed(
        knowledge(current, current, history.flatten(), statistics, mask()), ahead, ahead, 0.2
    )
    rows = last_layer_features(current, history.flatten()) / statistics.scale
    conditioned = before.posterior.condition(rows)
    one, other = (belief.variance(belief.prepare(after.targets)) for belief in (conditioned, after.posterior))
    torch.testing.assert_close(one, other)


def test_weights_below_the_last_layer_stand_behind_its_frozen_entries() -> None:
    """(m + β)/(1 + β), β the share that is trained below; as a prior variance of so much over ρ."""
    current, ahead = policy(), states((0, 1))
    entries = sum(p.numel() for n, p in current.named_parameters() if n.startswith("backbone"))
    trainable = {**mask(below=True), "backbone.0.bias": torch.zeros(8, dtype=torch.bool)}
    beta = 1 - 8 / entries
    kept = torch.cat([trainable["head.weight"], trainable["head.bias"][:, None]], 1).double()
    weights = last_layer_weights(current, trainable)
    assert weights is not None
    torch.testing.assert_close(weights[0], (kept + beta) / (1 + beta))
    statistics, history = statistics_of(current, states((0, 1), 6, 10)), states((0, 1), 6, 20).flatten()
    known = knowledge(current, current, history, statistics, trainable)
    embedded = LastLayerFeatures().embed(known, ahead, ahead, 0.2)
    phi, past = (last_layer_features(current, rows) / statistics.scale for rows in (ahead, history))
    moment = statistics.second_moment / statistics.scale**2 + past.T @ past
    expected = [
        (phi @ torch.linalg.inv(0.2 * torch.diag(1 / row) + moment) * phi).sum(-1) for row in (kept + beta) / (1 + beta)
    ]
    found = embedded.posterior.variance(embedded.posterior.prepare(embedded.targets))
    torch.testing.assert_close(found, torch.stack(expected).mean(0), rtol=1e-6, atol=1e-9)


def test_without_frozen_entries_and_with_a_last_layer_frozen_whole_there_is_one_belief() -> None:
    current, head = policy(), {name: each & False for name, each in mask().items() if name.startswith("head")}
    assert last_layer_weights(current, {}) is None
    weights = last_layer_weights(current, head)
    assert weights is not None and (weights == 0.5).all()
    known = knowledge(current, current, None, statistics_of(current, states((0, 1), 6, 10)), head)
    assert len(LastLayerFeatures().embed(known, states((0,)), states((1,)), 0.2).posterior.outputs) == 1


def test_masked_loss_gradients_have_the_kernel_of_their_trained_entries() -> None:
    current, rows, masks = policy(), states((0, 1, 2)).flatten(), mask()

    def loss(weights: dict[str, Tensor], *row: Tensor) -> Tensor:
        output = functional_call(current, weights, (Steps.of_state(*(part[None] for part in row[:2])),))
        error: Tensor = (output - row[2]).square().mean()
        return error

    weights = {name: parameter.detach() for name, parameter in current.named_parameters()}
    found = vmap(grad(loss), in_dims=(None, 0, 0, 0))(weights, rows.state, rows.contexts, rows.shown_actions)
    flattened = torch.cat([(found[n] * masks[n]).flatten(1) for n in ("head.weight", "head.bias")], 1).double()
    both = last_layer_weights(current, masks)
    assert both is not None
    points = torch.cat([torch.zeros(15, 1), gradient_factors(current, rows)], 1)
    kernel = MaskedGradientKernel(both)
    torch.testing.assert_close(kernel(points, points), flattened @ flattened.T, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(kernel.diagonal(points), flattened.square().sum(1), rtol=1e-4, atol=1e-8)


GROUPS = (0, 0, 1, 1)


def isolated() -> IsolatedPolicy:
    made = IsolatedPolicy.of(policy(), SUITE.contexts, GROUPS, DIMENSIONS)
    for number, copy in enumerate(made.copies):
        copy.load_state_dict(policy(seed=number + 5).state_dict())
    return made.requires_grad_(False)


@pytest.mark.parametrize(
    "embedding",
    [
        LastLayerFeatures(),
        LastLayerFeatures(of_pretrained=False),
        LossGradient(condition_on_history=True),
        ProjectedGradient(dimension=16, condition_on_history=True),
    ],
    ids=["pretrained", "current", "loss gradient", "projected gradient"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_groups_of_isolated_weights_tell_nothing_of_each_other(
    embedding: LastLayerFeatures | LossGradient | ProjectedGradient, masked: bool
) -> None:
    current, pretrained, ahead = isolated(), policy().requires_grad_(False), states((0, 1, 2, 3))
    statistics, reference = statistics_of(pretrained, states((0,), 6, 10)), {"goal=-1": states((0,), 6, 10).flatten()}
    trainable = {f"copies.{n}.{name}": each for n in (0, 1) for name, each in mask(n).items()} if masked else {}
    seen = [None, states((0, 0), 6, 50).flatten(), states((2, 2), 6, 50).flatten()]
    variances = []
    for history in seen:
        known = knowledge(current, pretrained, history, statistics, trainable, reference)
        embedded = embedding.embed(known, ahead, ahead, 0.2)
        prepared = embedded.posterior.prepare(embedded.targets.flatten(0, 1))
        variances.append(embedded.posterior.variance(prepared).reshape(4, 5))
        covariance = embedded.posterior.covariance(prepared, prepared).reshape(4, 5, 4, 5)
        assert (covariance[:2, :, 2:] == 0).all() and (covariance[0, :, 1] != 0).any()
    without, first, second = variances
    assert torch.equal(first[2:], without[2:]) and torch.equal(second[:2], without[:2])
    assert (first[:2] < without[:2]).any() and (second[2:] < without[2:]).any()


def test_what_was_known_before_the_copies_were_made_is_known_to_all_of_them() -> None:
    current, pretrained, ahead = isolated(), policy().requires_grad_(False), states((0, 3))
    statistics = statistics_of(pretrained, states((0, 3), 6, 10))
    variances = []
    for deployed in (current, pretrained):
        embedded = LastLayerFeatures().embed(knowledge(deployed, pretrained, None, statistics), ahead, ahead, 0.2)
        variances.append(embedded.posterior.variance(embedded.posterior.prepare(embedded.targets)))
    torch.testing.assert_close(variances[0], variances[1])


def test_isolated_copies_can_be_where_a_run_starts() -> None:
    """π0 with parts has a sum of its own for each, and the copies grow out of it."""
    pretrained, ahead = isolated(), states((0, 3))
    statistics = statistics_of(pretrained, states((0,), 6, 10))
    embedded = LastLayerFeatures().embed(knowledge(pretrained, pretrained, None, statistics), ahead, ahead, 0.2)
    variances = embedded.posterior.variance(embedded.posterior.prepare(embedded.targets))
    rows = last_layer_features(pretrained, ahead) / statistics.scale
    torch.testing.assert_close(variances[1], rows[1].square().sum(-1) / 0.2)  # nothing is known of the second group
    assert (variances[0] < 0.5 * rows[0].square().sum(-1) / 0.2).all()


@pytest.mark.parametrize(
    "embedding", [LossGradient(), ProjectedGradient(dimension=16), LastLayerFeatures(of_pretrained=False)]
)
def test_how_much_is_mixed_in_does_not_change_the_information(
    embedding: LastLayerFeatures | LossGradient | ProjectedGradient,
) -> None:
    variances = []
    for alpha in (0.0, 0.7):
        made = PriorMixture.of(policy(), SUITE.contexts, DIMENSIONS)
        made.learner.load_state_dict(policy(seed=5).state_dict())
        with torch.no_grad():
            made.share.fill_(alpha / 10)
        pretrained, ahead = policy().requires_grad_(False), states((0, 1))
        reference = {"goal=-1": states((0,), 6, 10).flatten()}
        known = knowledge(made, pretrained, None, statistics_of(pretrained, states((0,), 6, 10)), {}, reference)
        embedded = embedding.embed(known, ahead, ahead, 0.2)
        variances.append(embedded.posterior.variance(embedded.posterior.prepare(embedded.targets)))
    assert torch.equal(*variances) and (variances[0] > 0).any()
