"""Steps of recorded episodes, drawn by number: from memory where they are few, else from the episodes' own arrays."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import described
from amf_lightning.tasks.steps import Steps, Window, steps_of
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

IN_MEMORY = 64 * 2**20
"""Bytes of observations and actions up to which they are copied into one tensor each, which is faster to draw from."""


class RecordedSteps:
    """Every step in which an action was taken, [N], in order, each read for the trajectory's own task.

    `steps[index]` is what `steps_of(trajectories, suite)[index]` is, but does not need all of them in memory: it copies
    from the arrays of the trajectories, which may be maps of files. With a history an observation [history, *shape]
    ends with the present one and repeats the first one of the episode where that was later; with a horizon actions
    [H, A] begin with the present one and repeat the last one of the episode, masked, beyond its end.

    Args:
        trajectories: at least one, all with the same entries of the observation.
        suite: whose tasks they are of.
        window: how much of the episode belongs to a step; None: nothing but the step itself.
        in_memory: bytes of observations and actions up to which they are copied once.

    Raises:
        InputError: a trajectory is of no task of the suite, or has other entries or actions than the first one.
    """

    def __init__(
        self,
        trajectories: Sequence[Trajectory],
        suite: TaskSuite,
        window: Window | None = None,
        in_memory: int = IN_MEMORY,
    ) -> None:
        _check_alike(trajectories)
        lengths = torch.tensor([trajectory.length for trajectory in trajectories])
        self.tasks = torch.tensor([suite.task(trajectory.task).index for trajectory in trajectories])
        self.tasks = self.tasks.repeat_interleave(lengths)
        """Index of the task of each step, [N] int64."""
        self.window = window or Window()
        self._plain = self.window == Window()
        self._contexts = suite.contexts
        self._ends = lengths.cumsum(0)
        self._starts = self._ends - lengths
        self._numbers = torch.arange(len(self.tasks))
        self._trajectories = tuple(trajectories)
        self._memory = steps_of(trajectories, suite) if _nbytes(trajectories) <= in_memory else None

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Tensor | slice) -> Steps:
        """The steps of these numbers, [M] int64, each at least 0, or of a slice.

        Raises:
            IndexError: there is no such step.
        """
        if self._plain and self._memory is not None:
            return self._memory[index] if isinstance(index, slice) else self._memory.take(index)
        present = self._numbers[index] if isinstance(index, slice) else self._numbers.index_select(0, index)
        tasks = self.tasks[present]
        contexts = self._contexts[tasks]
        if self._plain:
            observations, actions = self._taken(present, present)
            return Steps(observations, tasks, contexts, actions)
        episode = torch.searchsorted(self._ends, present, right=True)[..., None]
        observed = done = present
        mask = None
        if self.window.history > 1:
            observed = present[..., None] + torch.arange(1 - self.window.history, 1)
            observed = observed.maximum(self._starts[episode])  # before the first one stands the first again
        if self.window.horizon > 1:
            done, last = present[..., None] + torch.arange(self.window.horizon), self._ends[episode] - 1
            done, mask = done.minimum(last), done <= last
        observations, actions = self._taken(observed, done)
        return Steps(observations, tasks, contexts, actions, mask)

    def _taken(self, observed: Tensor, acted: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Observations of the steps `observed`, by name of the entry, and actions of the steps `acted`; any shape."""
        if self._memory is not None:
            observations = {name: entry[observed] for name, entry in self._memory.observations.items()}
            return observations, self._memory.shown_actions[acted]
        places = list(self._places(observed))  # the same for every entry
        observations = {
            name: _gathered(
                [trajectory.observations[name] for trajectory in self._trajectories], observed.shape, places
            )
            for name in self._trajectories[0].observations
        }
        actions = [trajectory.actions for trajectory in self._trajectories]
        return observations, _gathered(actions, acted.shape, self._places(acted))

    def _places(self, steps: Tensor) -> Iterator["Place"]:
        """Which episode fills which places of the flattened result, from which of its rows."""
        flat = steps.flatten()
        episodes = torch.searchsorted(self._ends, flat, right=True)
        rows = (flat - self._starts[episodes]).numpy()
        order = episodes.argsort(stable=True).numpy()
        numbers, firsts = np.unique(episodes.numpy()[order], return_index=True)
        for number, first, end in zip(numbers.tolist(), firsts, [*firsts[1:], len(order)], strict=False):
            yield number, order[first:end], rows[order[first:end]]


Place = tuple[int, NDArray[np.int64], NDArray[np.int64]]
"""Number of the episode; where in the result; rows of the episode."""


def _gathered(arrays: Sequence[NDArray[Any]], shape: torch.Size, places: Any) -> Tensor:
    """Rows of the arrays [T, *trailing] that `places` says, [*shape, *trailing]."""
    trailing = arrays[0].shape[1:]
    gathered = np.empty((shape.numel(), *trailing), arrays[0].dtype)
    for number, here, rows in places:
        gathered[here] = arrays[number][rows]
    return torch.from_numpy(gathered.reshape(*shape, *trailing))


def _nbytes(trajectories: Sequence[Trajectory]) -> int:
    return sum(
        sum(entry.nbytes for entry in trajectory.acted_on.values()) + trajectory.actions.nbytes
        for trajectory in trajectories
    )


def _kinds(trajectory: Trajectory) -> tuple[object, ...]:
    entries = {name: (entry.shape[1:], entry.dtype) for name, entry in trajectory.observations.items()}
    return entries, trajectory.actions.shape[1:]


def _check_alike(trajectories: Sequence[Trajectory]) -> None:
    first = trajectories[0]
    kinds = _kinds(first)
    for trajectory in trajectories:
        if _kinds(trajectory) != kinds:
            raise InputError(
                f"A demonstration of task '{trajectory.task}' has the observations {described(trajectory.specs)} and "
                f"{trajectory.actions.shape[1]} action dimensions, but the first one, of task '{first.task}', has "
                f"{described(first.specs)} and {first.actions.shape[1]}. Give demonstrations of one robot with one set "
                "of sensors."
            )
