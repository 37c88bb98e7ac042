"""Keyed randomness: every draw is a function of (seed, purpose, key), never of what was drawn before."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a stream of random numbers is for. Streams of different purposes never coincide (seeds below 2**32)."""

    PRETRAIN = 1
    DEMONSTRATE = 2
    ROLLOUT = 3
    EVALUATE = 4
    SELECT = 5
    TRAIN = 6
    REPLAY = 7
    RETAIN = 8
    INITIALISE = 9
    MEASURE = 10
    REPORT = 11
    PROJECT = 12
    ENSEMBLE = 13
    ACT = 14


def keyed_seed(seed: int, purpose: Purpose, *key: int) -> int:
    """A seed in [0, 2**63) that depends on all arguments and nothing else.

    Args:
        seed: the run's seed (`seed_everything`), not negative.
        purpose: the stream.
        key: position within the stream, e.g. (round, task, attempt), not negative; of one length in each stream, as
            zeros at its end do not count.
    """
    words = np.random.SeedSequence([seed, int(purpose), *key]).generate_state(1, np.uint64)
    # One bit less than there is: the ledger keeps seeds as the signed 64-bit integers of SQLite.
    return int(words[0] >> np.uint64(1))


def keyed_generator(seed: int, purpose: Purpose, *key: int) -> torch.Generator:
    """A CPU torch generator for `keyed_seed` of the same arguments."""
    return torch.Generator().manual_seed(keyed_seed(seed, purpose, *key))


class RowGenerators:
    """Random numbers for rows that do not know of each other: row i draws from a stream of its own.

    Args:
        seeds: of the episode in each row, [N].
        step: of the episodes; the streams are keyed by (seed, step).
    """

    def __init__(self, seeds: Sequence[int], step: int) -> None:
        self._seeds, self._step = seeds, step
        self._generators: list[torch.Generator] | None = None

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers, [N, *shape] float32 on the CPU; the next ones at every call."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._streams()])

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers in [0, 1), [N, *shape] float32 on the CPU; the next ones at every call."""
        return torch.stack([torch.rand(shape, generator=generator) for generator in self._streams()])

    def copy(self) -> "RowGenerators":
        """Streams that go on from here on their own: both draw the same numbers from now on."""
        copy = RowGenerators(self._seeds, self._step)
        for here, there in zip(self._streams(), copy._streams(), strict=True):
            there.set_state(here.get_state())
        return copy

    def _streams(self) -> list[torch.Generator]:
        if self._generators is None:  # most policies never draw
            self._generators = [keyed_generator(seed, Purpose.ACT, self._step) for seed in self._seeds]
        return self._generators
