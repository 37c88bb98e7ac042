"""Keeps a round whose training was cut short from being taken for a finished one."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from amf_lightning.errors import UnfinishedError
from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling


class WholeRounds(Callback):
    """Ends the run where `trainer.max_time` or `trainer.max_steps` ends a round in the middle of its training.

    Lightning would call the round complete and write its checkpoint: the same command would go on with the next round,
    from a policy that was not trained as long as others. So there is no checkpoint, and it trains the round anew.

    Args:
        active: whose rounds they are.
    """

    def __init__(self, active: ActiveSampling) -> None:
        self._active = active
        self._blocks = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._blocks = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._blocks += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._blocks < trainer.num_training_batches:
            raise UnfinishedError(
                f"unfinished: a limit of the trainer, max_time or max_steps, ended round {trainer.current_epoch} in "
                "the middle of its training. Lift it, and the same command goes on. The run is in "
                f"{trainer.default_root_dir}."
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        ended_by_itself = self._active.waiting or self._active.stopped is not None
        if not ended_by_itself and not self._active.jobs and trainer.current_epoch == 0:
            raise UnfinishedError(
                "unfinished: a limit of the trainer ended the run before its first round. Lift it, and the same "
                f"command goes on. The run is in {trainer.default_root_dir}."
            )
