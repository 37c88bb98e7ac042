"""What keeps π0 in policies of chunks, flows and diffusion."""

from typing import Any

import pytest
import torch
from selection_world import demonstrate

from amf_lightning.catalogue import resolve
from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.round import losses_of
from amf_lightning.policies.capabilities import LearnsFromTeacher
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.weights import build_policy
from amf_lightning.retention.adaptive import AdaptivePrior
from amf_lightning.retention.distillation import SelfDistillation
from amf_lightning.retention.frozen import FreezeByImportance, FreezeModules, mask_gradients
from amf_lightning.retention.importance import FisherImportance, MagnitudeImportance
from amf_lightning.retention.isolation import ParameterIsolation
from amf_lightning.retention.penalties import ElasticWeights
from amf_lightning.retention.retention import CombinedRetention, RetentionContext
from tiny import TinySuite

SUITE = TinySuite()
FILM = {"class_path": "amf_lightning.policies.conv_encoder.ConvEncoder", "init_args": {"fusion": "film"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "ChunkedMLP": {"hidden": [8]},
    "ActionChunkingTransformer": {"width": 8, "heads": 2, "encoder_layers": 1},
    "FlowPolicy": {"width": 8, "layers": 1, "steps": 3, "draws": 2},
    "DiffusionPolicy": {"width": 8, "layers": 1, "steps": 3, "draws": 2},
}
FIELDS = ("FlowPolicy", "DiffusionPolicy")


def made(name: str) -> Policy:
    kind = resolve("policy", name)
    options = {"horizon": 3, "encoder": FILM, **OPTIONS[name]}
    policy = build_policy(lambda *sizes: kind(*sizes, **options), SUITE.dimensions, torch.Generator().manual_seed(0))
    rows = demonstration_rows(demonstrate(SUITE, (0, 1)), SUITE, window=policy.window)
    policy.fit_normaliser(rows.everything())
    return policy.eval()


def prepared(retention: Any, name: str) -> tuple[Policy, Policy]:
    """The policy and π0, of which the retention was told."""
    policy = made(name)
    start = frozen_copy(policy)
    retention.prepare(RetentionContext(SUITE, start, 0), policy)
    return policy, start


def shaken(policy: Policy) -> Policy:
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1)
    return policy


@pytest.mark.parametrize("name", OPTIONS)
def test_pi0_teaches_its_chunks_or_its_field(name: str) -> None:
    distillation = SelfDistillation(episodes=1)
    policy, start = prepared(CombinedRetention([distillation]), name)
    rows = distillation.replay(frozenset({0}))
    assert rows is not None
    taught = rows.everything()
    batch = {
        "demonstrations": demonstration_rows(demonstrate(SUITE, (0,)), SUITE, window=policy.window).everything(),
        "replay": taught,
    }
    retention = CombinedRetention([distillation])
    if name in FIELDS:
        assert isinstance(policy, LearnsFromTeacher)
        assert float(losses_of(policy, retention, batch)["replay"].detach()) == 0, "it does all that π0 does"
        assert float(taught.shown_actions.std()) > 0.1, "chunks that are drawn"
        again = SelfDistillation(episodes=1)
        prepared(again, name)
        repeated = again.replay(frozenset({0}))
        assert repeated is not None and torch.equal(repeated.everything().shown_actions, taught.shown_actions)
        shaken(policy)
        expected = policy.loss_by_teacher(taught, start).mean()
    else:
        torch.testing.assert_close(taught.shown_actions, start.predict(taught))
        expected = shaken(policy).loss(taught).mean()
    losses = losses_of(policy, retention, batch)
    torch.testing.assert_close(losses["replay"], expected)
    torch.testing.assert_close(losses["demonstrations"], policy.loss(batch["demonstrations"]).mean())
    assert list(losses_of(policy, retention, {"demonstrations": batch["demonstrations"]})) == ["demonstrations"]


@pytest.mark.parametrize("name", OPTIONS)
def test_masks_freeze_the_encoder_and_the_largest_weights(name: str) -> None:
    retention = CombinedRetention([FreezeModules(["encoder.*"]), FreezeByImportance(0.4, MagnitudeImportance())])
    policy, _ = prepared(retention, name)
    rows = demonstration_rows(demonstrate(SUITE, (2, 3)), SUITE, window=policy.window).everything()
    policy.train().loss(rows).mean().backward()  # type: ignore[no-untyped-call]
    mask_gradients(policy, retention.masks())
    learned = {n: p.grad.count_nonzero().item() for n, p in policy.named_parameters() if p.grad is not None}
    assert learned["encoder.film.change.weight"] == 0 and learned["head.weight"] > 0
    free = sum(int(mask.sum()) for mask in retention.masks().values())
    assert free <= 0.6 * sum(parameter.numel() for parameter in policy.parameters()) + 1


@pytest.mark.parametrize("name", OPTIONS)
def test_elastic_weights_hold_by_fisher_information_where_there_is_a_density(name: str) -> None:
    if name in FIELDS:
        with pytest.raises(InputError, match=f"{name} has none"):
            prepared(ElasticWeights(), name)
        return
    fisher = ElasticWeights(importance=FisherImportance(episodes=1))
    policy, _ = prepared(fisher, name)
    penalty = fisher.penalty(policy)
    assert penalty is not None and float(penalty.detach()) == 0
    penalty = fisher.penalty(shaken(policy))
    assert penalty is not None and float(penalty.detach()) > 0


@pytest.mark.parametrize("name", OPTIONS)
def test_a_mixture_of_chunks_is_refused_and_copies_for_groups_are_not(name: str) -> None:
    policy = made(name)
    with pytest.raises(InputError, match=f"AdaptivePrior mixes single actions, and {name} predicts 3"):
        AdaptivePrior().wrap(policy, SUITE)
    isolation = ParameterIsolation()
    wrapped = isolation.wrap(policy, SUITE).eval()
    rows = demonstration_rows(demonstrate(SUITE, (0, 1)), SUITE, window=policy.window).everything()
    with torch.no_grad():
        torch.testing.assert_close(wrapped.predict(rows), policy.predict(rows))
        torch.testing.assert_close(wrapped.loss(rows), policy.loss(rows))
