"""What fine-tuning is for a policy that is fitted in closed form: no gradient, no mask, no replay, no shards."""

import torch
from torch.optim import SGD, Optimizer

from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.precision import SCALED
from amf_lightning.policies.protocol import RefittedPolicy
from amf_lightning.retention.retention import NoRetention, Retention


def check_refitted(policy: RefittedPolicy, retention: Retention) -> None:
    """Raises InputError if a retention is asked for: each refit begins with all that π0 knows."""
    if not isinstance(retention, NoRetention):
        raise InputError(
            f"{type(policy).__name__} is fitted anew in each round, to all that π0 knows and the demonstrations, so "
            f"{type(retention).__name__} has nothing to protect. Set retention: NoRetention."
        )


def check_alone(policy: RefittedPolicy, processes: int, precision: str) -> None:
    """Raises InputError if there are several processes, or losses are scaled: it has no gradient."""
    if processes > 1:
        raise InputError(
            f"{type(policy).__name__} is fitted in closed form, which {processes} processes cannot share. "
            "Set trainer.devices: 1 and trainer.num_nodes: 1."
        )
    if precision == SCALED:
        raise InputError(
            f"{type(policy).__name__} is fitted in closed form, and precision {SCALED} scales gradients, of which it "
            "has none. Set trainer.precision: 32-true."
        )


def idle_optimizer() -> Optimizer:
    """An optimiser of nothing: Lightning counts its steps, and saves a checkpoint only after one."""
    return SGD([torch.zeros(())], lr=0.0)
