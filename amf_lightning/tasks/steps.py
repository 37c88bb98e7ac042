"""Rows of experience: what was observed, in which task, and what was done. One type, sliced and moved as one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

Index = Tensor | slice | int | tuple[Any, ...]
_WITHOUT_SELECTION = {torch.uint16, torch.uint32, torch.uint64}
"""Types of numbers that torch indexes but has no `index_select` for."""


@dataclass(frozen=True)
class Window:
    """How much of an episode a policy sees, and how much of it it predicts, at each step."""

    history: int = 1
    """Observations up to the present one."""
    horizon: int = 1
    """H, actions from the present one on."""

    def __post_init__(self) -> None:
        if self.history < 1 or self.horizon < 1:
            raise InputError(f"A window of history {self.history} and horizon {self.horizon}: both must be at least 1.")


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps of episodes, with any leading shape [...]: [N] rows, [M, S] states of M trajectories.

    For a window with a history longer than 1, entries of the observation are [..., history, *shape]. With a horizon
    longer than 1, actions are [..., H, A], and `mask` says which of the H actions lie within the episode. A dimension
    that would have length 1 is absent.
    """

    observations: Mapping[str, Tensor]
    """Entries of the observation by name, [..., *shape] each; see `TaskSuite.observation`."""
    tasks: Tensor
    """Index of the task that each step is read for, [...] int64."""
    contexts: Tensor
    """What a policy is told about that task, [..., C] float32."""
    actions: Tensor | None = None
    """What the expert does, [..., A] float32, where that is known."""
    mask: Tensor | None = None
    """Which actions of a window count, [..., H] bool; None: all."""

    @classmethod
    def of_state(cls, state: Tensor, contexts: Tensor, actions: Tensor | None = None) -> "Steps":
        """Steps [N] whose observation is one vector [N, O], with contexts [N, C]; tasks are not told apart."""
        tasks = torch.zeros(contexts.shape[:-1], dtype=torch.int64, device=contexts.device)
        return cls({STATE: state}, tasks, contexts, actions)

    @property
    def shape(self) -> torch.Size:
        """The leading shape."""
        return self.tasks.shape

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.contexts.device

    @property
    def state(self) -> Tensor:
        """The one vector that the observation consists of, [..., O].

        Raises:
            InputError: it has other entries.
        """
        if STATE not in self.observations or len(self.observations) > 1:
            raise InputError(
                f"One vector, '{STATE}', is read here, but the observation consists of "
                f"{', '.join(map(repr, self.observations))}."
            )
        return self.observations[STATE]

    @property
    def plain_observations(self) -> Tensor | Mapping[str, Tensor]:
        """The vector where there is nothing else, or all entries by name: what `Actor.act` is told."""
        return self.state if list(self.observations) == [STATE] else self.observations

    @property
    def shown_actions(self) -> Tensor:
        """`actions`; InputError where they are unknown."""
        if self.actions is None:
            raise InputError("The expert's actions at these steps are needed, but they are not known.")
        return self.actions

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Index) -> "Steps":
        return self.map(lambda tensor: tensor[index])

    def take(self, index: Tensor) -> "Steps":
        """The steps [M] of these numbers, each at least 0, of steps [N]: what indexing gives, in half the time."""
        return self.map(
            lambda tensor: tensor[index] if tensor.dtype in _WITHOUT_SELECTION else tensor.index_select(0, index)
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "Steps":
        """Every tensor changed alike; its trailing dimensions must stay."""
        return Steps(
            {name: change(entry) for name, entry in self.observations.items()},
            change(self.tasks),
            change(self.contexts),
            None if self.actions is None else change(self.actions),
            None if self.mask is None else change(self.mask),
        )

    def to(self, device: torch.device | str) -> "Steps":
        """The same on a device."""
        return self.map(lambda tensor: tensor.to(device))

    def flatten(self) -> "Steps":
        """Leading shape [N]."""
        return self.reshape(self.tasks.numel())

    def reshape(self, *shape: int) -> "Steps":
        """Another leading shape with as many steps."""
        leading = self.tasks.ndim
        return self.map(lambda tensor: tensor.reshape(*shape, *tensor.shape[leading:]))

    def without_actions(self) -> "Steps":
        """The same without what the expert does there."""
        return Steps(self.observations, self.tasks, self.contexts)

    def with_actions(self, actions: Tensor) -> "Steps":
        """The same with other actions, [..., A]."""
        return Steps(self.observations, self.tasks, self.contexts, actions, self.mask)

    def tensors(self) -> dict[str, Any]:
        """All tensors as a nest of plain dictionaries, which `torch.func` can map over; inverse of `from_tensors`."""
        optional = {name: tensor for name in ("actions", "mask") if (tensor := getattr(self, name)) is not None}
        return {"observations": dict(self.observations), "tasks": self.tasks, "contexts": self.contexts, **optional}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any]) -> "Steps":
        """Inverse of `tensors`."""
        return cls(**tensors)


def cat(parts: Sequence[Steps]) -> Steps:
    """Steps one after the other; all have the same entries, actions or none."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Steps(
        {name: torch.cat([part.observations[name] for part in parts]) for name in first.observations},
        torch.cat([part.tasks for part in parts]),
        torch.cat([part.contexts for part in parts]),
        None if first.actions is None else torch.cat([part.shown_actions for part in parts]),
        None if first.mask is None else torch.cat([_mask(part) for part in parts]),
    )


def steps_of(trajectories: Sequence[Trajectory], suite: TaskSuite) -> Steps:
    """Every step in which an action was taken, [N], in order, each read for the trajectory's own task.

    Args:
        trajectories: at least one.
        suite: whose tasks they are of.
    """
    lengths = torch.tensor([trajectory.length for trajectory in trajectories])
    tasks = torch.tensor([suite.task(trajectory.task).index for trajectory in trajectories]).repeat_interleave(lengths)
    acted = [trajectory.acted_on for trajectory in trajectories]
    return Steps(
        {name: torch.from_numpy(np.concatenate([entries[name] for entries in acted])) for name in acted[0]},
        tasks,
        suite.contexts[tasks],
        torch.from_numpy(np.concatenate([trajectory.actions for trajectory in trajectories])),
    )


def read_for(steps: Steps, task: int, suite: TaskSuite) -> Steps:
    """The same steps, read for another task of the suite."""
    context = suite.contexts[task].to(steps.device).expand(*steps.shape, -1)
    return Steps(steps.observations, torch.full_like(steps.tasks, task), context, steps.actions, steps.mask)


def _mask(steps: Steps) -> Tensor:
    assert steps.mask is not None  # all parts of a concatenation are cut by the same window
    return steps.mask
