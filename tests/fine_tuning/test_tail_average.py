"""The mean of a round's last weights, beside the mean written out."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from tiny_runs import Run, checkpoint

from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.fine_tuning.tail_average import TailAverage
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import load_policy
from amf_lightning.tasks.spec import state_specs
from tiny import TinySuite

STEPS = 10


@pytest.mark.parametrize(("share", "kept"), [(0.3, 3), (0.5, 5), (1.0, 10), (0.01, 1)])
def test_it_is_the_mean_of_the_weights_after_the_last_steps(share: float, kept: int) -> None:
    generator = torch.Generator().manual_seed(0)
    policy = MLPPolicy(state_specs(2), 1, 1, hidden=[4])
    first = next(name for name, _ in policy.named_parameters() if name.endswith("bias"))
    policy.get_parameter(first).requires_grad_(False)
    averaged, frozen = deepcopy(policy), policy.get_parameter(first).clone()
    tail, history = TailAverage(policy, averaged, STEPS, share), []
    for _ in range(STEPS):
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn(parameter.shape, generator=generator)
        tail.after_step({})
        history.append([parameter.detach().clone() for parameter in policy.parameters()])
    for mean, *weights in zip(averaged.parameters(), *history[-kept:], strict=True):
        torch.testing.assert_close(mean.data, torch.stack(weights).double().mean(0).float())
    assert torch.equal(averaged.get_parameter(first), frozen)


def test_the_mean_is_exported_and_training_goes_on_from_the_last_weights(uninterrupted: Run) -> None:
    kept, exported = checkpoint(uninterrupted)["state_dict"], load_policy(str(uninterrupted.folder.policy)).tensors
    assert {name: tensor for name, tensor in kept.items() if name.startswith("averaged.")}.keys() == {
        f"averaged.{name}" for name in exported
    }
    moved = 0
    for name, tensor in exported.items():
        assert torch.equal(tensor, kept[f"averaged.{name}"]), name
        moved += int((tensor != kept[f"policy.{name}"]).sum())
    assert moved > 0


def test_frozen_entries_of_the_mean_are_those_of_pi_zero(uninterrupted: Run, pretrained: Path) -> None:
    before, after = (load_policy(str(file)).tensors for file in (pretrained, uninterrupted.folder.policy))
    same = sum(int((before[name] == after[name]).sum()) for name in before)
    assert same >= 0.3 * sum(tensor.numel() for tensor in before.values()) - len(before)


def test_without_it_the_last_weights_act(make_run: Callable[..., Run]) -> None:
    run = make_run("run", {"model": {"average": 0.0}, "active": {"budget": 2}}).complete()
    kept, exported = checkpoint(run)["state_dict"], load_policy(str(run.folder.policy)).tensors
    assert not any(name.startswith("averaged.") for name in kept)
    assert all(torch.equal(tensor, kept[f"policy.{name}"]) for name, tensor in exported.items())


def test_a_share_is_between_nothing_and_all() -> None:
    with pytest.raises(InputError, match=r"model\.average is 1\.5"):
        BehaviouralCloning(TinySuite(), average=1.5)
