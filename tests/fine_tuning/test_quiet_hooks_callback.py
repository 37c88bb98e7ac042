"""Empty hooks are switched off; everything that somebody wrote is called as before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler
from torch import Tensor
from torch.utils.data import DataLoader

from amf_lightning.fine_tuning.quiet_hooks_callback import QuietHooks

HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class Regression(LightningModule):
    """Two hooks of its own and four empty ones."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls
        self.layer = torch.nn.Linear(3, 1)
        with torch.no_grad():
            self.layer.weight.fill_(0.1)
            self.layer.bias.zero_()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("loss", loss := self.layer(batch).square().mean())
        return loss  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1)

    def on_before_optimizer_step(self, optimizer: object) -> None:
        self.calls.append("module on_before_optimizer_step")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.calls.append(f"module on_train_batch_end {batch_idx} {outputs['loss']:.6f}")


class Watcher(Callback):
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.calls.append("callback on_after_backward")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.calls.append(f"callback on_train_batch_start {batch_idx}")


def fit(tmp_path: Path, *more: Callback, **options: Any) -> tuple[list[str], Tensor, Trainer]:
    calls: list[str] = []
    module, watcher = Regression(calls), Watcher(calls)
    given = LambdaCallback(on_before_zero_grad=lambda *_: calls.append("function on_before_zero_grad"))
    data: Any = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[watcher, given, *more],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **options,
    )
    trainer.fit(module, DataLoader(data, batch_size=4))
    return calls, module.layer.weight.detach(), trainer


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_what_was_written_is_called_in_the_same_order_and_nothing_else_changes(tmp_path: Path) -> None:
    calls, weight, _ = fit(tmp_path)
    quiet_calls, quiet_weight, trainer = fit(tmp_path, QuietHooks())
    assert quiet_calls == calls
    assert len(calls) == 2 * 3 * 5
    assert torch.equal(quiet_weight, weight)
    parts = [trainer.lightning_module, *trainer.callbacks[:2]]  # type: ignore[attr-defined]
    assert [[hook for hook in HOOKS if callable(getattr(part, hook))] for part in parts] == [
        ["on_before_optimizer_step", "on_train_batch_end"],
        ["on_train_batch_start", "on_after_backward"],
        ["on_before_zero_grad"],
    ]


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_a_profiler_that_was_asked_for_stays(tmp_path: Path) -> None:
    profiler = SimpleProfiler(dirpath=tmp_path, filename="profile")
    *_, trainer = fit(tmp_path, QuietHooks(), profiler=profiler)
    assert trainer.profiler is profiler  # type: ignore[attr-defined]
    assert "on_before_optimizer_step" in (tmp_path / "fit-profile.txt").read_text()
    *_, trainer = fit(tmp_path, QuietHooks())
    assert isinstance(trainer.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
    assert type(trainer.profiler) is not PassThroughProfiler  # type: ignore[attr-defined]
