"""Keyed randomness: every draw is a function of (seed, purpose, key), never of what was drawn before."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    LOSS = 15
    MEET = 16
    CHOOSE = 17
    REHEARSE = 18
    SEARCH = 19
    POOL = 20
    REALISE = 21


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


def keyed_seeds(count: int, seed: int, purpose: Purpose, *key: int) -> list[int]:
    """The first `count` of an endless row of seeds in [0, 2**63), which depends on the other arguments alone."""
    words = np.random.SeedSequence([seed, int(purpose), *key]).generate_state(count, np.uint64)
    seeds: list[int] = (words >> np.uint64(1)).tolist()
    return seeds


@contextmanager
def lent_global_generators() -> Iterator[Callable[[int], None]]:
    """Lends the generators that code draws from without being given one; afterwards they stand where they stood.

    They are torch's own of the CPU and of every GPU, Python's `random` and numpy's legacy one. Dropout, losses with
    noise and code of the user draw from them, and nobody else knows where they stand.

    Yields:
        Sets them all to a seed in [0, 2**63); it takes 7 µs.
    """
    of_torch = _torch_generators()
    states = [generator.get_state() for generator in of_torch]
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield _set_global_generators
    finally:
        for generator, state in zip(of_torch, states, strict=True):
            generator.set_state(state)
        random.setstate(of_python)
        np.random.set_state(of_numpy)


@contextmanager
def keyed_global_generators(seed: int, purpose: Purpose, *key: int) -> Iterator[None]:
    """Within it the global generators draw what (seed, purpose, key) says; see `lent_global_generators`."""
    with lent_global_generators() as set_to:
        set_to(keyed_seed(seed, purpose, *key))
        yield


def drawn_by(call: Callable[[], object]) -> list[str]:
    """What a call draws from of the global generators of the CPU, in words."""
    before = _global_states()
    call()
    return [name for name, state in _global_states().items() if state != before[name]]


def _torch_generators() -> list[torch.Generator]:
    # A GPU that nobody has used yet has no generator that could be set, and nothing is drawn there.
    of_gpus = torch.cuda.default_generators if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    return [torch.default_generator, *of_gpus]


def _set_global_generators(seed: int) -> None:
    # Not `torch.manual_seed`, which also asks for every kind of device and takes a tenth of a training step.
    for generator in _torch_generators():
        generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)


def _global_states() -> dict[str, object]:
    of_numpy = np.random.get_state(legacy=False)
    assert isinstance(of_numpy, dict)
    words = of_numpy["state"]["key"].tobytes(), of_numpy["state"]["pos"], of_numpy["has_gauss"]
    return {
        "torch's global generator": torch.default_generator.get_state().numpy().tobytes(),
        "Python's `random`": random.getstate(),
        "numpy's `np.random`": words,
    }


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
