"""Keyed randomness: every draw is a function of (seed, purpose, key), never of what was drawn before."""

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


def keyed_seed(seed: int, purpose: Purpose, *key: int) -> int:
    """A seed in [0, 2**63) that depends on all arguments and nothing else.

    Args:
        seed: the run's seed (`seed_everything`), not negative.
        purpose: the stream.
        key: position within the stream, e.g. (round, task, attempt), not negative; of one length in each stream, as
            zeros at its end do not count.
    """
    words = np.random.SeedSequence([seed, int(purpose), *key]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def keyed_generator(seed: int, purpose: Purpose, *key: int) -> torch.Generator:
    """A CPU torch generator for `keyed_seed` of the same arguments."""
    return torch.Generator().manual_seed(keyed_seed(seed, purpose, *key))
