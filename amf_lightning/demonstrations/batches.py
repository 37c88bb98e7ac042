"""Minibatches of a training round, drawn by key, cut into shards."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from amf_lightning.demonstrations.recorded_steps import RecordedSteps, UnreadSteps
from amf_lightning.errors import InputError
from amf_lightning.seeding import Purpose, keyed_generator, keyed_seeds
from amf_lightning.tasks.steps import Steps, Window
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

T = TypeVar("T")


class StepSource(Protocol):
    """What steps can be drawn from by number: `Steps` [N] themselves, `RecordedSteps`, or a class of one's own."""

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, index: Tensor | slice, /) -> Steps:
        """The steps of these numbers, [M] int64 from 0 on, or of a slice."""
        ...


@dataclass(frozen=True, eq=False)
class Rows:
    """Steps to learn from, with how often each is drawn and how much it counts."""

    steps: StepSource
    """[N], with the expert's actions."""
    weights: Tensor | None = None
    """Probability of each row to be drawn, up to a factor, [N]; uniform if None."""
    loss_weight: float = 1.0
    """Factor of the mean loss of these rows in the objective."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def row_nbytes(self) -> int | None:
        """Bytes of what is observed in a row; None if a class of somebody else gives the rows."""
        if isinstance(self.steps, UnreadSteps):
            return self.steps.source.row_nbytes
        if isinstance(self.steps, Steps):
            return sum(entry.nbytes for entry in self.steps.observations.values()) // max(1, len(self.steps))
        return self.steps.row_nbytes if isinstance(self.steps, RecordedSteps) else None

    def draw(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Row indices with replacement, of that shape."""
        if self.weights is None:
            return torch.randint(len(self.steps), shape, generator=generator)
        flat = torch.multinomial(self.weights, shape[0] * shape[1], replacement=True, generator=generator)
        return flat.view(shape)

    def take(self, index: Tensor) -> Steps:
        """The rows of these indices, [M]."""
        return self.steps.take(index) if isinstance(self.steps, Steps) else self.steps[index]

    def everything(self) -> Steps:
        """All N rows, in memory: for what is known to fit there."""
        return self.steps[:]

    def chunks(self, size: int = 1024) -> Iterator[Steps]:
        """All rows in order, at most `size` at once in memory."""
        for start in range(0, len(self.steps), size):
            yield self.steps[start : start + size]


MicroBatch = dict[str, Steps]
"""What one process computes one gradient on: rows of each source, by its name."""


def demonstration_rows(
    demonstrations: Sequence[Trajectory], suite: TaskSuite, balance_tasks: bool = False, window: Window | None = None
) -> Rows:
    """All state-action pairs of some demonstrations, each with the context of its task.

    Args:
        demonstrations: at least one.
        suite: whose tasks they are of.
        balance_tasks: draw every demonstrated task equally often, whatever its number of steps.
        window: what a policy sees and predicts at each step; None: one observation and one action.

    Raises:
        InputError: there is no demonstration, or they differ in what they observe.
    """
    if not demonstrations:
        raise InputError("There is no demonstration to train on yet.")
    steps = RecordedSteps(demonstrations, suite, window)
    weights = None
    if balance_tasks:
        weights = 1.0 / torch.bincount(steps.tasks, minlength=len(suite.tasks)).double()[steps.tasks]
    return Rows(steps, weights)


@dataclass(frozen=True)
class Shards:
    """How one global minibatch is cut: `count` pieces, of which this process takes `mine`, in order."""

    count: int
    mine: tuple[int, ...]

    @classmethod
    def of(cls, rank: int, world_size: int, accumulate: int) -> "Shards":
        """Piece m · world_size + rank is the m-th micro-batch of a rank.

        So that R ranks and one process that accumulates R gradients work on the same pieces.
        """
        return cls(world_size * accumulate, tuple(m * world_size + rank for m in range(accumulate)))


BLOCK = 50
"""Optimiser steps in a `Block`."""
_LARGE = 2**20
"""Bytes of a minibatch from which on it pays to take the next ones in another thread; handing one over takes 0.1 ms."""
_AHEAD = 2
"""Minibatches that are taken ahead."""


class Block:
    """Consecutive optimiser steps of a round: what Lightning's loop takes for one batch.

    A step of a small network takes a millisecond, and Lightning's bookkeeping of a batch a good part of one. It is
    paid once a block. Iterating gives the micro-batches of each step; rows are taken when it is their step's turn, or,
    where they are large, in a second thread while the steps before are computed.

    Args:
        sources: rows by name.
        drawn: indices of the rows of each source, [steps, rows of a global minibatch] int64.
        shards: how a global minibatch is cut.
        seeds: of what a loss draws by itself, for each micro-batch of each step, [steps][shards.mine].
    """

    def __init__(
        self,
        sources: Mapping[str, Rows],
        drawn: Mapping[str, Tensor],
        shards: Shards,
        seeds: Sequence[Sequence[int]],
    ) -> None:
        self.sources, self.drawn, self.shards, self.seeds = sources, drawn, shards, seeds
        self.factors = {name: rows.loss_weight for name, rows in sources.items()}
        """Of the mean losses of the sources in the objective."""

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        sizes = [self.sources[name].row_nbytes for name in self.drawn]
        rows = sum(len(index[0]) * size for index, size in zip(self.drawn.values(), sizes, strict=True) if size)
        # What a class of somebody else does it may not be able to do in another thread.
        return taken_ahead(self._taken(), _AHEAD) if rows >= _LARGE and None not in sizes else self._taken()

    def _taken(self) -> Iterator[list[MicroBatch]]:
        for indices in zip(*self.drawn.values(), strict=True):
            named = dict(zip(self.drawn, indices, strict=True))
            yield [
                {name: self.sources[name].take(index[shard :: self.shards.count]) for name, index in named.items()}
                for shard in self.shards.mine
            ]


def taken_ahead(items: Iterator[T], most: int) -> Iterator[T]:
    """The same items in the same order, of which another thread takes up to `most` before they are asked for.

    What taking one raises, is raised in its place. A caller that stops early waits for the one that is being taken.
    """
    end = object()
    thread = ThreadPoolExecutor(1, "batches")
    try:
        waiting = deque(thread.submit(next, items, end) for _ in range(most))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)


class RoundBatches:
    """One round in blocks of at most `BLOCK` optimiser steps: a loader of our own, which Lightning leaves alone.

    What is drawn depends on (seed, round) and the rows alone. The rows are asked for at the first batch, so that a
    round trains on what was collected at its start.

    Args:
        sources: called at the first batch of a round; gives the rows by name, of which at least one source.
        current_round: called at the first batch of a round.
        batch_size: rows of each source in a global minibatch.
        steps: optimiser steps in a round.
        shards: how a global minibatch is cut.
        seed: of the run.
    """

    def __init__(
        self,
        sources: Callable[[], Mapping[str, Rows]],
        current_round: Callable[[], int],
        batch_size: int,
        steps: int,
        shards: Shards,
        seed: int,
    ) -> None:
        if batch_size % shards.count:
            raise InputError(
                f"data.batch_size {batch_size} cannot be cut into {shards.count} equal shards (processes × "
                f"accumulate_grad_batches). Make it a multiple of {shards.count}."
            )
        self.sources = sources
        self.current_round = current_round
        self.batch_size = batch_size
        self.steps = steps
        self.shards = shards
        self.seed = seed

    def __len__(self) -> int:
        return -(-self.steps // BLOCK)

    def __iter__(self) -> Iterator[Block]:
        sources, number = self.sources(), self.current_round()
        drawn = {}
        for position, (name, rows) in enumerate(sources.items()):
            generator = keyed_generator(self.seed, Purpose.TRAIN, number, position)
            drawn[name] = rows.draw((self.steps, self.batch_size), generator)
        # By piece and not by process, so that two processes draw what one draws that accumulates two gradients.
        of_pieces = [keyed_seeds(self.steps, self.seed, Purpose.LOSS, number, piece) for piece in self.shards.mine]
        seeds = list(zip(*of_pieces, strict=True))
        for start in range(0, self.steps, BLOCK):
            part = slice(start, start + BLOCK)
            yield Block(sources, {name: index[part] for name, index in drawn.items()}, self.shards, seeds[part])
