"""A callback of a user's own."""

from collections import Counter
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class StepCounter(Callback):
    """Counts what Lightning tells it of, and says so at the end."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.calls["backward passes"] += 1

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.calls["steps"] += 1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.calls["blocks"] += 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        named = ", ".join(f"{self.calls[name]} {name}" for name in ("steps", "backward passes", "blocks"))
        print(f"\nsteps: {named}")
