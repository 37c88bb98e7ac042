"""Steps of recorded episodes, drawn by number: from memory where they are few, else from the episodes' own arrays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import described
from amf_lightning.tasks.steps import Index, Steps, Window, steps_of
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
        self._in_memory = in_memory

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of the entries of the observation."""
        return tuple(self._trajectories[0].observations)

    @property
    def row_nbytes(self) -> int:
        """Bytes of what is observed in a step."""
        first = self._trajectories[0].observations.values()
        return self.window.history * sum(entry.nbytes // len(entry) for entry in first)

    def __getitem__(self, index: Tensor | slice) -> Steps:
        """The steps of these numbers, [M] int64, each at least 0, or of a slice.

        Of a slice that is too large for the memory, observations are read when they are looked at; see `UnreadSteps`.

        Raises:
            IndexError: there is no such step.
        """
        if self._memory is None and isinstance(index, slice):
            numbers = self._numbers[index]
            if len(numbers) * self.row_nbytes > self._in_memory:
                return self._unread(numbers)
        if self._plain and self._memory is not None:
            return self._memory[index] if isinstance(index, slice) else self._memory.take(index)
        present = self._numbers[index] if isinstance(index, slice) else self._numbers.index_select(0, index)
        tasks = self.tasks[present]
        observed, done, mask = self._windows(present)
        observations, actions = self._observed(observed, self.entries), self._done(done)
        return Steps(observations, tasks, self._contexts[tasks], actions, mask)

    def entry(self, name: str, numbers: Tensor) -> Tensor:
        """One entry of the observation in the steps of these numbers."""
        return self._observed(self._windows(numbers)[0], (name,))[name]

    def _unread(self, numbers: Tensor) -> "UnreadSteps":
        tasks = self.tasks[numbers]
        _, done, mask = self._windows(numbers)
        entries = _Entries(self, numbers, torch.device("cpu"))
        return UnreadSteps(entries, tasks, self._contexts[tasks], self._done(done), mask, self, numbers)

    def _windows(self, present: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Which steps are observed and which actions belong to the present ones, and which of these count."""
        observed = done = present
        mask = None
        if self._plain:
            return observed, done, mask
        episode = torch.searchsorted(self._ends, present, right=True)[..., None]
        if self.window.history > 1:
            observed = present[..., None] + torch.arange(1 - self.window.history, 1)
            observed = observed.maximum(self._starts[episode])  # before the first one stands the first again
        if self.window.horizon > 1:
            done, last = present[..., None] + torch.arange(self.window.horizon), self._ends[episode] - 1
            done, mask = done.minimum(last), done <= last
        return observed, done, mask

    def _observed(self, steps: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Entries of the observation in some steps, of any shape."""
        if self._memory is not None:
            return {name: self._memory.observations[name][steps] for name in names}
        places = list(self._places(steps))  # the same for every entry
        return {
            name: _gathered([trajectory.observations[name] for trajectory in self._trajectories], steps.shape, places)
            for name in names
        }

    def _done(self, steps: Tensor) -> Tensor:
        """Actions of some steps, of any shape."""
        if self._memory is not None:
            return self._memory.shown_actions[steps]
        actions = [trajectory.actions for trajectory in self._trajectories]
        return _gathered(actions, steps.shape, self._places(steps))

    def _places(self, steps: Tensor) -> Iterator["Place"]:
        """Which episode fills which places of the flattened result, from which of its rows."""
        flat = steps.flatten()
        episodes = torch.searchsorted(self._ends, flat, right=True)
        rows = (flat - self._starts[episodes]).numpy()
        order = episodes.argsort(stable=True).numpy()
        numbers, firsts = np.unique(episodes.numpy()[order], return_index=True)
        for number, first, end in zip(numbers.tolist(), firsts, [*firsts[1:], len(order)], strict=False):
            yield number, order[first:end], rows[order[first:end]]


@dataclass(frozen=True, eq=False)
class UnreadSteps(Steps):
    """Steps [N] whose observations are read from their files when they are looked at, each entry on its own.

    A part of them, by a slice or by numbers, is read at once, so that whoever goes through them piece by piece needs no
    more memory than a piece does.
    """

    # These are always given; but a field after one with a default has to have one.
    source: RecordedSteps = None  # type: ignore[assignment]
    numbers: Tensor = None  # type: ignore[assignment]
    """Of the steps in the source, [N]."""

    def __getitem__(self, index: Index) -> Steps:
        if not isinstance(index, slice | Tensor):
            return super().__getitem__(index)
        rows = self.source[self.numbers[index.cpu() if isinstance(index, Tensor) else index]]
        observations = {name: entry.to(self.device) for name, entry in rows.observations.items()}
        actions, mask = (None if tensor is None else tensor[index] for tensor in (self.actions, self.mask))
        return Steps(observations, self.tasks[index], self.contexts[index], actions, mask)

    def take(self, index: Tensor) -> Steps:
        return self[index]

    def to(self, device: torch.device | str) -> Steps:
        entries = _Entries(self.source, self.numbers, torch.device(device))
        actions, mask = (None if tensor is None else tensor.to(device) for tensor in (self.actions, self.mask))
        tasks, contexts = self.tasks.to(device), self.contexts.to(device)
        return UnreadSteps(entries, tasks, contexts, actions, mask, self.source, self.numbers)

    def reshape(self, *shape: int) -> Steps:
        return self if shape == tuple(self.shape) else super().reshape(*shape)

    def without_actions(self) -> Steps:
        return UnreadSteps(self.observations, self.tasks, self.contexts, None, None, self.source, self.numbers)

    def with_actions(self, actions: Tensor) -> Steps:
        return UnreadSteps(self.observations, self.tasks, self.contexts, actions, self.mask, self.source, self.numbers)


class _Entries(Mapping[str, Tensor]):
    """Entries of the observation by name, each read when it is asked for, and not kept."""

    def __init__(self, source: RecordedSteps, numbers: Tensor, device: torch.device) -> None:
        self._source, self._numbers, self._device = source, numbers, device
        self._names = source.entries

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._source.entry(name, self._numbers).to(self._device)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


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
