"""What several processes that train one policy together need of it."""

import os
import warnings
from collections.abc import Mapping

from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.refitting import check_alone
from amf_lightning.policies.protocol import Policy, RefittedPolicy
from amf_lightning.policies.rehearsal import unreached_weights
from amf_lightning.tasks.task import TaskSuite

_MOST_PER_CORE = 4
"""Processes on a core beyond which a machine has no memory left before they have begun."""


def check_cores(trainer: Trainer) -> None:
    """Processes on the CPU share its cores: warns where they are more than these.

    Raises:
        InputError: they are so many that the machine would only be busy with them.
    """
    processes = trainer.num_devices
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not isinstance(trainer.accelerator, CPUAccelerator) or processes <= cores:
        return
    said = f"trainer.devices: {processes} starts as many processes on {cores} cores of the CPU"
    cure = (
        f"Set trainer.devices to at most {cores}: with trainer.devices: 1 and trainer.accumulate_grad_batches: "
        f"{processes} one process comes to the same."
    )
    if processes > _MOST_PER_CORE * cores:
        raise InputError(f"{said}. {cure}")
    if trainer.is_global_zero:
        warnings.warn(f"{said}, which takes longer than fewer. {cure}", stacklevel=2)


def check_nodes(trainer: Trainer) -> None:
    """A run on several machines begins once all have found each other: makes sure that they can, and says who waits.

    Raises:
        InputError: nobody has started a process on so many machines, or nothing says where they are.
    """
    nodes = trainer.num_nodes
    if nodes <= 1:
        return
    started = {name: number for name, number in _nodes_by(os.environ).items() if number is not None}
    for name, number in started.items():
        if number != nodes:
            raise InputError(
                f"trainer.num_nodes is {nodes}, but {name} says {number}. Set trainer.num_nodes: {number}."
            )
    if started:
        return
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]:
        raise InputError(
            f"trainer.num_nodes is {nodes}, and nothing says where the other machines are: neither srun nor torchrun "
            f"has started this process, and {', '.join(missing)} is not set. Set trainer.num_nodes: 1, or start it on "
            "each machine with srun, torchrun, or these variables."
        )
    if trainer.is_global_zero:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        print(f"Waiting for the processes of {nodes} machines at {where}, for half an hour at most.", flush=True)


def _nodes_by(environment: Mapping[str, str]) -> dict[str, int | None]:
    """How many machines each launcher says that it has started this program on; None if it has not."""

    def number(name: str) -> int | None:
        return int(value) if (value := environment.get(name, "")).isdecimal() else None

    world, local = number("WORLD_SIZE"), number("LOCAL_WORLD_SIZE")
    elastic = world // local if "TORCHELASTIC_RUN_ID" in environment and world and local else None
    slurm = number("SLURM_NNODES") if "SLURM_NTASKS" in environment else None
    return {"SLURM (SLURM_NNODES)": slurm, "torchrun (WORLD_SIZE / LOCAL_WORLD_SIZE)": elastic}


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
