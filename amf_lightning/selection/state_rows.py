"""Trajectories as rows of states, each with the context of its own task."""

from collections.abc import Sequence

import torch

from amf_lightning.selection.context import SelectionContext
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.uncertainty.embeddings import States


def demonstrated_states(context: SelectionContext) -> States | None:
    """All states of all demonstrations, each with the context of its own task, [N, ·]; None without demonstrations."""
    if not context.demonstrations:
        return None
    return all_states(context.demonstrations, context)


def all_states(trajectories: Sequence[Trajectory], context: SelectionContext) -> States:
    """Every state in which an action was taken, with the context of the trajectory's own task, [N, ·]."""
    contexts = [context.suite.task(trajectory.task).context for trajectory in trajectories]
    device = context.policy.device
    lengths = torch.tensor([trajectory.length for trajectory in trajectories])
    return States(
        torch.cat([torch.from_numpy(trajectory.observations[:-1]) for trajectory in trajectories]).to(device),
        torch.tensor(contexts, dtype=torch.float32).repeat_interleave(lengths, 0).to(device),
        torch.cat([torch.from_numpy(trajectory.actions) for trajectory in trajectories]).to(device),
    )
