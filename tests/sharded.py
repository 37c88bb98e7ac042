"""A policy whose weights are cut up between two processes (FSDP2), trained with a mask."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import SGD, AdamW, Optimizer

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.retention.frozen import mask_gradients, placed, restore_frozen, trainable_masks
from amf_lightning.tasks.steps import Steps


def initial() -> MLPPolicy:
    torch.manual_seed(3)
    return MLPPolicy(2, 1, 1, hidden=(6, 5))


def masks_of(policy: MLPPolicy) -> dict[str, torch.Tensor]:
    """The largest 40 % of the weights are frozen."""
    return trainable_masks({name: parameter.detach().abs() for name, parameter in policy.named_parameters()}, 0.4)


def train(rank: int, folder: Path, optimizer_name: str, steps: int) -> None:
    """One of two processes; that of rank 0 writes the whole weights to `folder`."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    policy = initial()
    start, masks = {name: p.detach().clone() for name, p in policy.named_parameters()}, masks_of(policy)
    fully_shard(policy, mesh=init_device_mesh("cpu", (2,)))
    register_fsdp_forward_method(policy, "loss")
    optimizer: Optimizer = AdamW(policy.parameters(), lr=1e-2, weight_decay=0.1)
    if optimizer_name == "momentum":
        optimizer = SGD(policy.parameters(), lr=1e-2, momentum=0.9, weight_decay=0.1)
    masks, start = placed(masks, policy), placed(start, policy)
    assert all(isinstance(mask, DTensor) for mask in masks.values())
    optimizer.register_step_post_hook(lambda *_: restore_frozen(policy, masks, start))
    generator = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        rows = Steps.of_state(*(torch.randn(8, width, generator=generator) for width in (2, 1, 1)))
        optimizer.zero_grad()
        policy.loss(rows).mean().backward()  # type: ignore[no-untyped-call]
        mask_gradients(policy, masks)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.1)
        optimizer.step()
    whole = {name: p.full_tensor() for name, p in policy.named_parameters() if isinstance(p, DTensor)}
    if rank == 0:
        torch.save(whole, folder / "weights.pt")
    dist.barrier()
    dist.destroy_process_group()
