from collections.abc import Callable, Iterable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.retention.frozen import (
    FreezeByImportance,
    FreezeModules,
    mask_gradients,
    restore_frozen,
    trainable_masks,
)
from amf_lightning.retention.importance import MagnitudeImportance
from amf_lightning.retention.retention import CombinedRetention, NoRetention, RetentionContext
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

SUITE = TinySuite()
OPTIMISERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "adamw": lambda parameters: AdamW(parameters, lr=1e-2, weight_decay=0.1),
    "fused adamw": lambda parameters: AdamW(parameters, lr=1e-2, weight_decay=0.1, fused=True),
    "adam with decay": lambda parameters: Adam(parameters, lr=1e-2, weight_decay=0.1),
    "momentum": lambda parameters: SGD(parameters, lr=1e-2, momentum=0.9, weight_decay=0.1),
}


def policy() -> MLPPolicy:
    torch.manual_seed(3)
    return MLPPolicy(2, 1, 1, hidden=(6, 5))


def context() -> RetentionContext:
    return RetentionContext(SUITE, frozen_copy(policy()), 0)


def train(model: MLPPolicy, masks: dict[str, torch.Tensor], optimiser: Optimizer, restore: bool) -> None:
    frozen = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    if restore:
        optimiser.register_step_post_hook(lambda *_: restore_frozen(model, masks, frozen))
    generator = torch.Generator().manual_seed(0)
    for step in range(1000):
        steps = Steps.of_state(*(torch.randn(8, width, generator=generator) for width in (2, 1, 1)))
        (model.loss(steps).mean() / 2).backward()  # type: ignore[no-untyped-call]
        if step % 2:  # gradients of two batches are accumulated
            mask_gradients(model, masks)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimiser.step()
            optimiser.zero_grad()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_frozen_entries_keep_their_bits_and_the_others_move(name: str) -> None:
    model, before = policy(), policy()
    masks = trainable_masks(MagnitudeImportance().compute(context()), 0.4)
    frozen = sum(int((~mask).sum()) for mask in masks.values())
    assert 0 < frozen < sum(mask.numel() for mask in masks.values())
    train(model, masks, OPTIMISERS[name](model.parameters()), restore=True)
    for key, parameter in model.named_parameters():
        old = before.get_parameter(key)
        assert torch.equal(parameter[~masks[key]], old[~masks[key]])
        assert not (parameter[masks[key]] == old[masks[key]]).any()


def test_without_restoring_weight_decay_moves_frozen_entries() -> None:
    model, before = policy(), policy()
    masks = trainable_masks(MagnitudeImportance().compute(context()), 0.4)
    train(model, masks, OPTIMISERS["adamw"](model.parameters()), restore=False)
    mask = masks["backbone.0.weight"]
    now, old = (each.get_parameter("backbone.0.weight")[~mask] for each in (model, before))
    assert not torch.equal(now, old)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1 / 3, 0.999, 1.0])
def test_exactly_the_most_important_fraction_is_frozen(fraction: float) -> None:
    importance = {"a": torch.rand(7, 3), "b": torch.rand(5)}
    masks = trainable_masks(importance, fraction)
    count = round(fraction * 26)
    frozen = torch.cat([importance[name][~masks[name]] for name in importance])
    trained = torch.cat([importance[name][masks[name]] for name in importance])
    assert len(frozen) == count
    assert not len(frozen) or not len(trained) or frozen.min() >= trained.max()


def test_equal_importance_freezes_the_fraction_too() -> None:
    masks = trainable_masks({"a": torch.ones(10)}, 0.5)
    assert int((~masks["a"]).sum()) == 5


def test_modules_are_frozen_by_pattern() -> None:
    retention = FreezeModules(["backbone.*"])
    retention.prepare(context(), policy())
    assert set(retention.masks()) == {f"backbone.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert not any(mask.any() for mask in retention.masks().values())


def test_a_pattern_without_a_parameter_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no parameter is called 'hed\.weight'\. Did you mean 'head\.weight'"):
        FreezeModules(["hed.weight"]).prepare(context(), policy())


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=r"lies in \[0, 1\]"):
        FreezeByImportance(fraction)


def test_masks_combine_so_that_an_entry_is_trained_if_all_allow_it() -> None:
    parts = [FreezeByImportance(0.4, MagnitudeImportance()), FreezeModules(["head.*"]), NoRetention()]
    combined = CombinedRetention(parts)
    combined.prepare(context(), policy())
    masks = combined.masks()
    assert not masks["head.weight"].any()
    assert torch.equal(masks["backbone.0.weight"], parts[0].masks()["backbone.0.weight"])
    assert combined.penalty(policy()) is None
    assert combined.replay(frozenset()) is None
