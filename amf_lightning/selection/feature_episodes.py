"""Checks what the advisor is given: episodes of features [T, F], and numbers by task."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amf_lightning.errors import InputError

Episodes = Sequence[Any]
"""Arrays [T, F] of NumPy, or what becomes one, e.g. tensors on the CPU."""

_ROWS = 2**16
"""Rows that are looked at together: an episode may lie in a file that is mapped."""
_NAMED = 8


def objection_to(episode: Any) -> str | None:
    """Why something is no episode of features, as the end of a sentence; None if it is one."""
    if episode.ndim != 2:
        return f"has shape {list(episode.shape)}; an episode is [steps, features]"
    if not episode.shape[0] or not episode.shape[1]:
        return f"has shape {list(episode.shape)}, which holds nothing"
    if episode.dtype.kind not in "fiu":
        return f"holds {episode.dtype}; features are real numbers"
    if not all(np.isfinite(episode[start : start + _ROWS]).all() for start in range(0, len(episode), _ROWS)):
        return "holds NaN or infinity"
    return None


def listed(names: Sequence[str]) -> str:
    """Names for a message, not too many."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def checked_episodes(name: str, source: Mapping[str, Episodes], tasks: Sequence[str]) -> dict[str, list[Any]]:
    """The episodes of each task as arrays; none of a task that `source` does not name.

    Raises:
        InputError: one is no episode; the message calls them all `name`.
    """
    checked: dict[str, list[Any]] = {task: [] for task in tasks}
    for task, episodes in source.items():
        of = f"{name}['{task}']" if task else name
        checked[task] = [_checked_episode(f"{of}[{number}]", each) for number, each in enumerate(episodes)]
    return checked


def _checked_episode(name: str, episode: Any) -> Any:
    try:
        array = np.asanyarray(episode)  # a mapped file stays one
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"advise: {name} cannot be read as an array ({error}). Give NumPy's float32.") from error
    if (wrong := objection_to(array)) is not None:
        raise InputError(f"advise: {name} {wrong}.")
    return array


def common_width(episodes: Sequence[Any]) -> int:
    """F of all the episodes; InputError if there is none, or if they differ."""
    if not episodes:
        raise InputError("advise: there is no episode. Give features of what each task may look like.")
    widths = sorted({episode.shape[1] for episode in episodes})
    if len(widths) > 1:
        raise InputError(
            f"advise: episodes have {listed([str(width) for width in widths])} features; all must be alike."
        )
    return int(widths[0])


def numbers_by_task(name: str, values: Mapping[str, float], tasks: Sequence[str]) -> Tensor:
    """The value of every task, 1 where it is not named, [K] float64; InputError if one is not positive."""
    found = dict.fromkeys(tasks, 1.0)
    for task, value in values.items():
        check_known(name, task, tasks)
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"advise: {name} of task '{task}' is {value}; it must be positive.")
        found[task] = float(value)
    return torch.tensor(list(found.values()), dtype=torch.float64)


def check_known(name: str, task: str, tasks: Sequence[str]) -> None:
    """Raises InputError if the setting `name` is about a task that is none."""
    if task not in tasks:
        raise InputError(
            f"advise: {name} names task '{task}', of which there is no episode. There are {listed(tasks)}."
        )
