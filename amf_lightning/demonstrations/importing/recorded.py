"""From the arrays of somebody's file to a checked `Trajectory`; what every format needs for that."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.facts import Facts
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.mapped_tensors import DTYPES
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

Array = NDArray[Any]

MOST_BYTES = 4 * 2**30
"""Of one episode in memory. A file that claims more is refused before anything of that size is made."""

AGAIN = "Record or convert it again, or leave it out."


@dataclass(frozen=True)
class Recorded:
    """One episode as a file has it."""

    observations: Mapping[str, Array]
    """By our names, [T, …] or [T + 1, …]."""
    actions: Array
    """[T, A], in their units."""
    rewards: Array | None = None
    task: str | None = None
    """Their name of it; None if the file says none."""
    seed: int | None = None
    success: bool | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Facts | None = None
    """What our exporter put beside it."""
    subgoals: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    """By name, what is reached and what should be, [T + 1, …] each, if the reading asks for parts."""


def trajectory(where: str, recorded: Recorded, reading: Reading) -> Trajectory | None:
    """The episode as our software knows it; None if the map of tasks leaves it out.

    Args:
        where: file and episode, for messages.
        recorded: what was read.
        reading: names and units.

    Raises:
        InputError: types, lengths or numbers that no demonstration has.
    """
    facts = recorded.facts
    if (task := reading.task(facts.task if facts else recorded.task, where)) is None:
        return None
    observations = {name: _entry(name, entry, facts, where) for name, entry in recorded.observations.items()}
    try:
        observations = reading.joined(observations)
        return Trajectory(
            observations=dict(sorted(observations.items())),
            actions=_actions(recorded.actions, reading, where),
            rewards=None if recorded.rewards is None else _numbers(recorded.rewards, "rewards", where).astype("<f8"),
            task=task,
            seed=facts.seed if facts else recorded.seed,
            success=facts.success if facts else recorded.success,
            metrics=facts.metrics if facts else recorded.metrics,
            noise=facts.noise if facts else 1.0,
        )
    except InputError as error:
        raise InputError(f"{where} cannot be used: {error} {AGAIN}") from error


def check_size(shape: Sequence[int], itemsize: int, what: str) -> None:
    """Raises InputError if an array of an episode is too large to be read; to be called before it is."""
    if any(length < 0 for length in shape):
        raise InputError(f"{what} has the impossible shape {list(shape)}. {AGAIN}")
    if (size := math.prod(shape) * itemsize) > MOST_BYTES:
        raise InputError(
            f"{what} would take {size / 2**30:.1f} GiB, shape {list(shape)}; an episode may have "
            f"{MOST_BYTES >> 30} GiB. "
            "Split the episode, or record smaller pictures."
        )


def as_flag(value: Any, what: str) -> bool:
    """Whether an episode is a success, by a flag or by the last one of its steps.

    Raises:
        InputError: it is no flag.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not array.size or array.reshape(-1)[-1] not in (0, 1):
        raise InputError(f"{what} is no flag of success: it must be true or false, or 0 or 1. {AGAIN}")
    return bool(array.reshape(-1)[-1])


def as_seed(value: Any, what: str) -> int | None:
    """The seed of an episode's reset.

    Raises:
        InputError: it is no integer.
    """
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.size != 1:
        raise InputError(f"{what} is no seed: it must be an integer. {AGAIN}")
    return int(array.reshape(-1)[0])


def _entry(name: str, entry: Array, facts: Facts | None, where: str) -> Array:
    """An entry of the observation, in the type and shape that it had where it came from."""
    entry = _numbers(entry, f"observation '{name}'", where)
    spec = facts.specs.get(name) if facts else None
    if spec is None:
        return entry
    if entry.size != len(entry) * math.prod(spec.shape):
        raise InputError(
            f"{where}: observation '{name}' has shape {list(entry.shape[1:])}, but was exported with "
            f"{list(spec.shape)}. "
            "Export the episode again."
        )
    return entry.reshape(len(entry), *spec.shape).astype(spec.dtype, copy=False)


def _numbers(array: Array, what: str, where: str) -> Array:
    """The array little-endian, if it holds numbers of a type that demonstrations have."""
    plain = np.asarray(array)
    if plain.dtype.newbyteorder("<") not in DTYPES.values():
        raise InputError(f"{where}: {what} holds {plain.dtype}, no numbers of a fixed size. {AGAIN}")
    if not plain.ndim:
        raise InputError(f"{where}: {what} is one number, not one for each step. {AGAIN}")
    return plain.astype(plain.dtype.newbyteorder("<"), copy=False)


def _actions(actions: Array, reading: Reading, where: str) -> NDArray[np.float32]:
    """Actions in [-1, 1], [T, A]."""
    plain = _numbers(actions, "actions", where)
    if plain.ndim == 1:
        plain = plain[:, None]
    if reading.action_low is not None and reading.action_high is not None:
        low, high = np.asarray(reading.action_low), np.asarray(reading.action_high)
        if plain.shape[1:] != low.shape or low.shape != high.shape or (high <= low).any():
            raise InputError(
                f"{where}: an action has shape {list(plain.shape[1:])}, but action_low has {len(low)} numbers and "
                f"action_high {len(high)}. Correct the file of --keys; each low must be below its high."
            )
        plain = 2 * (plain - low) / (high - low) - 1
    with np.errstate(over="ignore"):
        scaled = plain.astype("<f4", copy=False)
    if plain.size and (outside := np.abs(scaled).max()) > 1:
        raise InputError(
            f"{where}: actions go up to {outside:.4g}, but must lie in [-1, 1]. Say in a file for "
            "`amf import --keys` which action becomes -1 (action_low) and which 1 (action_high), a number for each of "
            "its numbers."
        )
    return scaled
