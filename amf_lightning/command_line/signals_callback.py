"""Keeps Lightning from handling SIGTERM: its handler talks to the other ranks, which may wait for something else."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from amf_lightning.command_line.signals import Signals


class OwnSignals(Callback):
    """Sets the handlers of `Signals` again after Lightning has set its own.

    Lightning sets them after `on_fit_start`. What arrives before the first hook after that ends the process too, only
    later: see `Signals`.
    """

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()
