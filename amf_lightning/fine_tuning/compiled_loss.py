"""torch.compile for the forward pass of training, as a callback of Lightning's."""

from typing import cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.module import BehaviouralCloning


class CompiledLoss(Callback):
    """Compiles the loss of a minibatch, in which the policy's forward pass is, when a fit starts.

    Add it with `--trainer.callbacks+ amf_lightning.fine_tuning.compiled_loss.CompiledLoss`. Rollouts, selection and the
    exported file are as without it: they work with plain copies. A compiled loss has other last bits, as another device
    has.

    Args:
        backend: of torch.compile.

    Raises:
        InputError: there is no such backend.
    """

    def __init__(self, backend: str = "inductor") -> None:
        if backend not in (known := torch.compiler.list_backends(exclude_tags=())):
            raise InputError(f"CompiledLoss: there is no backend '{backend}'. There are {', '.join(known)}.")
        self.backend = backend

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        retention = cast(BehaviouralCloning, pl_module).retention
        plain = type(retention).loss.__get__(retention)  # not what an earlier fit has left
        retention.loss = torch.compile(plain, backend=self.backend)  # type: ignore[method-assign]
