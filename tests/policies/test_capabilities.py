"""Parts of a run require what a policy can do by name, and name what to choose where it cannot."""

from pathlib import Path

import pytest
import torch
from selection_world import context_of, demonstrate, mlp, statistics_of
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Density, Embeds, GaussianDensity, LinearHead, embedded, require
from amf_lightning.policies.categorical import CategoricalMLPPolicy
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.mixture import IsolatedPolicy, PriorMixture
from amf_lightning.policies.preflight import rehearse_export
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.retention.importance import FisherImportance, MagnitudeImportance
from amf_lightning.retention.retention import RetentionContext
from amf_lightning.selection.baselines import Uniform
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.occupancies import Demonstrated, ImportanceWeighted
from amf_lightning.tasks.spec import Specs, state_size
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import LossGradient, last_layer_features
from amf_lightning.uncertainty.kernels import Kernel
from tiny import TinySuite

SUITE = TinySuite()


class Bilinear(Policy):
    """Acts by a matrix and has nothing else: no density, no features."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(state_size(observation, "Bilinear") + context_dim, action_dim) / 2)

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(torch.cat([steps.state, steps.contexts], dim=1) @ self.weight)


class Pooled(Embeds, Bilinear):
    """Says itself what makes states alike, without any linear layer."""

    def embed(self, steps: Steps) -> Tensor:
        rows = torch.cat([steps.state, steps.contexts], dim=1)
        return torch.cat([torch.cos(rows), torch.ones_like(rows[:, :1])], dim=1)


def bilinear() -> Bilinear:
    return Bilinear(SUITE.observation, SUITE.context_dim, SUITE.action_dim)


def pooled() -> Pooled:
    return Pooled(SUITE.observation, SUITE.context_dim, SUITE.action_dim)


@pytest.mark.parametrize(
    ("policy", "able"),
    [
        (mlp(SUITE), {Density, Embeds, LinearHead}),
        (CategoricalMLPPolicy(2, 1, 3), {Density, Embeds, LinearHead}),
        (GaussianProcessPolicy(2, 1, 1), {Density}),
        (bilinear(), set()),
        (pooled(), {Embeds}),
        (PriorMixture.of(mlp(SUITE), SUITE.contexts, SUITE.dimensions), {Density, Embeds, LinearHead}),
        (IsolatedPolicy.of(pooled(), SUITE.contexts, (0, 0, 1, 1), SUITE.dimensions), {Embeds}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Policy) else "",
)
def test_what_a_policy_can_do(policy: Policy, able: set[type]) -> None:
    assert {each for each in (Density, Embeds, LinearHead) if policy.can(each)} == able
    for each in able:
        assert require(policy, each, "A reader", "Choose another") is policy


@pytest.mark.parametrize(
    ("capability", "phrase"), [(Density, "a density"), (Embeds, "features"), (LinearHead, "a linear layer")]
)
def test_what_is_missing_is_named_with_the_way_out(capability: type, phrase: str) -> None:
    wanted = (
        rf"Reader needs a policy with {phrase}.*Bilinear has none\. Choose Other, or.*inherit {capability.__name__}"
    )
    with pytest.raises(InputError, match=wanted):
        require(bilinear(), capability, "Reader", "Choose Other")


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (InformationGain(occupancy=Demonstrated()), "LastLayerFeatures needs a policy with features.*embedding Kernel"),
        (InformationGain(LossGradient(), Demonstrated()), "LossGradient needs a policy with a linear layer.*Kernel"),
        (InformationGain(Kernel(), ImportanceWeighted()), "ImportanceWeighted needs a policy with a density.*Demonstr"),
    ],
    ids=["features", "gradient", "density"],
)
def test_selection_says_what_the_policy_lacks_and_what_works_instead(selector: InformationGain, message: str) -> None:
    statistics = statistics_of(mlp(SUITE), SUITE, demonstrate(SUITE, [0]))
    context = context_of(SUITE, bilinear(), statistics=statistics, demonstrations=demonstrate(SUITE, [0, 1, 2, 3]))
    with pytest.raises(InputError, match=message):
        selector.select(context, 1)


def test_a_kernel_and_uniform_need_nothing_of_the_policy() -> None:
    context = context_of(SUITE, bilinear(), demonstrations=demonstrate(SUITE, [0, 3]), round=2)
    scores = InformationGain(Kernel()).select(context, 2).scores
    assert all(score > 0 for row in scores for score in row)
    assert len(Uniform().select(context, 3).picks) == 3


def test_retention_says_what_the_policy_lacks() -> None:
    context = RetentionContext(SUITE, frozen_copy(bilinear()), 0)
    with pytest.raises(InputError, match=r"FisherImportance needs a policy with a density.*MagnitudeImportance"):
        FisherImportance().compute(context)
    assert torch.equal(MagnitudeImportance().compute(context)["weight"], torch.full((3, 1), 0.5))


def test_features_of_a_policys_own_are_scored_stored_and_exported_without_a_linear_layer(tmp_path: Path) -> None:
    policy, seen = pooled(), demonstrate(SUITE, [0, 0, 1])
    statistics = statistics_of(policy, SUITE, seen)
    assert statistics.second_moment.shape == (4, 4) and rehearse_export(policy, SUITE)
    save_policy(tmp_path / "policy.safetensors", policy, SUITE.signature(), statistics, {"goal=-1": 2})
    file = load_policy(str(tmp_path / "policy.safetensors"))
    made = file.make()
    assert isinstance(made, Pooled) and file.statistics is not None
    file.statistics.check_backbone(made)
    context = context_of(SUITE, made, statistics=file.statistics, demonstrations=demonstrate(SUITE, [3]), round=1)
    selection = InformationGain().select(context, 1)
    assert all(score > 0 for score in selection.scores[0])
    with pytest.raises(InputError, match="LossGradient needs a policy with a linear layer"):
        InformationGain(LossGradient(), Demonstrated()).select(
            context_of(SUITE, made, demonstrations=demonstrate(SUITE, [0, 1, 2, 3])), 1
        )


def test_its_backbone_is_all_of_its_weights() -> None:
    policy, steps = pooled(), Steps.of_state(torch.randn(9, 2), torch.randn(9, 1))
    statistics = feature_statistics(policy, steps, {})
    torch.testing.assert_close(statistics.second_moment, (rows := embedded(policy, steps)).T @ rows)
    assert torch.equal(last_layer_features(policy, steps.reshape(3, 3)).flatten(0, 1), rows)
    with torch.no_grad():
        policy.weight.add_(1)
    with pytest.raises(InputError, match="belong to a policy with backbone"):
        statistics.check_backbone(policy)


def test_a_density_and_a_head_can_be_had_one_without_the_other() -> None:
    class Noisy(GaussianDensity, Bilinear):
        action_std = 0.2

    policy = Noisy(SUITE.observation, SUITE.context_dim, SUITE.action_dim)
    fisher = FisherImportance().compute(RetentionContext(SUITE, frozen_copy(policy), 0))
    assert (fisher["weight"] > 0).any()
    with pytest.raises(InputError, match="LastLayerFeatures needs a policy with features"):
        embedded(policy, Steps.of_state(torch.zeros(1, 2), torch.zeros(1, 1)))
