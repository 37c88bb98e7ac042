"""Frozen entries keep their bits through whole runs that are interrupted, whatever the optimiser does to the others."""

import signal
from collections.abc import Callable
from pathlib import Path

import kill_points
import pytest
import torch
from frozen_entries import frozen_mask, weights
from tiny_runs import FINE_TUNING, PRETRAINING, Run
from torch import Tensor

from amf_lightning.configuration import merge
from amf_lightning.fine_tuning import module
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import load_policy
from amf_lightning.retention.frozen import FreezeByImportance
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps

ADAMW = ("--model.optimizer=AdamW", "--model.optimizer.lr=0.01", "--model.optimizer.weight_decay=0.1")
MOMENTUM = (
    "--model.optimizer=SGD",
    "--model.optimizer.lr=0.05",
    "--model.optimizer.momentum=0.9",
    "--model.optimizer.weight_decay=0.01",
)


FUSED = (*ADAMW, "--model.optimizer.fused=true", "--trainer.accumulate_grad_batches=2")


@pytest.mark.parametrize("optimizer", [ADAMW, MOMENTUM, FUSED], ids=["AdamW", "momentum", "fused, accumulated"])
def test_frozen_entries_keep_their_bits_and_the_others_move(
    make_run: Callable[..., Run], pretrained: Path, optimizer: tuple[str, ...]
) -> None:
    frozen = frozen_mask(pretrained, FreezeByImportance(0.3))
    assert 0 < frozen.sum() < frozen.numel()
    run = make_run("run", {}, (*optimizer, "--trainer.gradient_clip_val=0.1"))
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    before, after = weights(pretrained), weights(run.complete().folder.policy)
    assert torch.equal(after[frozen], before[frozen])
    assert (after != before)[~frozen].all()


def without_restoring() -> None:
    vars(module)["restore_frozen"] = lambda *_: None


def test_without_restoring_them_frozen_entries_move(make_run: Callable[..., Run], pretrained: Path) -> None:
    frozen = frozen_mask(pretrained, FreezeByImportance(0.3))
    run = make_run().complete(without_restoring)
    before, after = weights(pretrained), weights(run.folder.policy)
    assert (after != before)[frozen].any()


def test_frozen_modules_keep_their_bits_and_the_others_move(make_run: Callable[..., Run], pretrained: Path) -> None:
    retention = {"class_path": "FreezeModules", "init_args": {"patterns": ["backbone.*"]}}
    run = make_run("run", {"retention": retention}).complete()
    before, after = weights(pretrained), weights(run.folder.policy)
    head = 16 + 1
    assert torch.equal(after[:-head], before[:-head])
    assert (after != before)[-head:].all()


def test_a_policy_that_is_frozen_whole_is_refused(make_run: Callable[..., Run]) -> None:
    run = make_run("run", {"retention": {"class_path": "FreezeModules", "init_args": {"patterns": ["*"]}}})
    assert run.finish() == 2
    assert "freezes every weight of the policy" in run.log.read_text()
    assert "Traceback" not in run.log.read_text()


def test_importance_that_the_pre_training_stored_freezes_the_next_run(tmp_path: Path) -> None:
    start = Run(tmp_path / "start", PRETRAINING, ("--model.store_importance=true",)).complete().folder.policy
    retention = {
        "class_path": "FreezeByImportance",
        "init_args": {"fraction": 0.4, "importance": {"class_path": "StoredImportance"}},
    }
    changes = {"retention": retention, "model": {"pretrained": str(start)}, "active": {"budget": 1, "batch_size": 1}}
    run = Run(tmp_path / "run", merge(FINE_TUNING, changes)).complete()
    kept = torch.cat([tensor.flatten() for tensor in load_policy(str(start)).importance.values()])
    names = load_policy(str(start)).importance
    before, after = (
        torch.cat([load_policy(str(path)).tensors[name].flatten() for name in names])
        for path in (start, run.folder.policy)
    )
    frozen = before == after
    assert int(frozen.sum()) == round(0.4 * len(kept))
    assert kept[frozen].min() >= kept[~frozen].max()
    assert "| **all**" in run.folder.report.read_text() and "39.9 %" in run.folder.report.read_text()


class Normed(MLPPolicy):
    """With two normalisation layers that follow their batches."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int, hidden: list[int]) -> None:
        super().__init__(observation, context_dim, action_dim, hidden)
        self.backbone.append(torch.nn.BatchNorm1d(hidden[-1]))
        self.free = torch.nn.BatchNorm1d(hidden[-1])

    def act(self, steps: Steps) -> Tensor:
        hidden = self.free(self.backbone(torch.cat([steps.state, steps.contexts], dim=1)))
        return torch.tanh(self.head(hidden))


def test_statistics_of_a_frozen_normalisation_layer_stay_and_those_of_a_free_one_move(tmp_path: Path) -> None:
    retention = {"class_path": "FreezeModules", "init_args": {"patterns": ["backbone.*"]}}
    changes = {"retention": retention, "model": {"policy": {"class_path": f"{__name__}.Normed"}}}
    active = {"data": {"steps_per_round": 5}, "active": {"budget": 2, "batch_size": 1}}
    selector = {"selector": {"class_path": "RoundRobin"}}
    run = Run(tmp_path / "run", {**changes, **active, **selector}).complete()
    tensors = load_policy(str(run.folder.policy)).tensors
    assert int(tensors["backbone.4.num_batches_tracked"]) == 0 and not tensors["backbone.4.running_mean"].any()
    assert int(tensors["free.num_batches_tracked"]) == 10 and tensors["free.running_mean"].any()
