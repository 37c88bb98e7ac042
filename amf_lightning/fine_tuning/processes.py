"""What several processes that train one policy together need of it."""

from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.refitting import check_alone
from amf_lightning.policies.protocol import Policy, RefittedPolicy
from amf_lightning.policies.rehearsal import unreached_weights
from amf_lightning.tasks.task import TaskSuite


def check_strategy(strategy: object) -> None:
    """Raises InputError if a strategy of Lightning's shards the policy between processes."""
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        name = type(strategy).__name__
        raise InputError(f"trainer.strategy is {name}, which shards the policy between processes. Use auto or ddp.")


def check_processes(policy: Policy, suite: TaskSuite, trainer: Trainer) -> None:
    """Makes sure that the processes have gradients to share, of all weights or as they are told to look for.

    Args:
        policy: to be trained.
        suite: that it is made for.
        trainer: with the processes, their strategy and their precision.

    Raises:
        InputError: the policy has none, or of some weights only.
    """
    processes = trainer.world_size
    if isinstance(policy, RefittedPolicy):
        check_alone(policy, processes, str(trainer.precision))
        return
    if processes == 1 or getattr(trainer.strategy, "_ddp_kwargs", {}).get("find_unused_parameters"):
        return
    if missed := unreached_weights(policy, suite):
        raise InputError(
            f"{processes} processes wait for a gradient of every weight, but none of the loss of "
            f"{type(policy).__name__} reaches {', '.join(missed)}. Set trainer.strategy: "
            "ddp_find_unused_parameters_true or trainer.devices: 1, or call requires_grad_(False) on such weights."
        )
