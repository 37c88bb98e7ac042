"""robomimic's HDF5 files: `data/demo_N/{actions, obs/…, next_obs/…, rewards}`, with T rows each.

Read with h5py alone. `next_obs` holds what is seen after each step, so its last row is the observation after the last
action. robomimic names no tasks: a file shows the one of its environment, unless our exporter wrote it. LIBERO's files
(arXiv 2306.03310) have the same form, without `next_obs`, and say the task in words. What they have for an
observation was seen after the action of its row.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from amf_lightning.demonstrations.facts import FACTS, read_facts
from amf_lightning.demonstrations.importing.hdf5 import Group, hdf5_files, opened
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.recorded import AGAIN, Recorded, as_seed, trajectory
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

_LIBRARY = "robomimic's format"
_SCENE = re.compile(r"^[A-Z_]+_SCENE\d+_")
_DEMONSTRATION = re.compile(r"demo_(\d{1,9})")


def count(path: Path) -> int:
    """How many episodes there are."""
    number = 0
    for each in hdf5_files(path):
        with opened(each, _LIBRARY) as file:
            number += len(_demonstrations(file.group("data")))
    return number


def episodes(path: Path, reading: Reading | None = None) -> Iterator[Trajectory]:
    """The episodes of the files in the order of their names, in each in the order of their numbers.

    Raises:
        InputError: a file is damaged, or holds something else.
    """
    reading = reading or Reading()
    for each in hdf5_files(path):
        with opened(each, _LIBRARY) as file:
            data = file.group("data")
            task = _instruction(each, data) or _environment(data)
            for name in _demonstrations(data):
                group = data.group(name)
                if (made := trajectory(group.where, _recorded(group, task, reading), reading)) is not None:
                    yield made


def _demonstrations(data: Group) -> list[str]:
    numbers = {name: int(match[1]) for name in data.names() if (match := _DEMONSTRATION.fullmatch(name))}
    if not numbers:
        raise InputError(f"{data.where} holds no demonstration (demo_0, demo_1, …). {AGAIN}")
    return sorted(numbers, key=lambda name: numbers[name])


def _instruction(file: Path, data: Group) -> str | None:
    """What LIBERO's file shows, in words; None for a file of others.

    LIBERO's benchmark takes the words of the file's name for the task. Those inside the file are of the scene's
    description, which differs ("Pick the akita black bowl …"), and count only where the file has another name.
    """
    try:
        words = json.loads(data.attribute("problem_info"))["language_instruction"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if file.stem.endswith("_demo"):
        return _SCENE.sub("", file.stem.removesuffix("_demo")).replace("_", " ").strip() or None
    return _printable(words.strip('" '), data) if isinstance(words, str) else None


def _printable(name: str, data: Group) -> str | None:
    """A name that the file gives, to be shown on a terminal and written into files."""
    if not name.isprintable():
        raise InputError(f"{data.where}: the task is called {name[:60]!a}, which cannot be shown as it is. {AGAIN}")
    return name or None


def _environment(data: Group) -> str | None:
    """Name of the environment; None if the file does not say it."""
    try:
        name = json.loads(data.attribute("env_args"))["env_name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return _printable(str(name), data)


def _recorded(group: Group, task: str | None, reading: Reading) -> Recorded:
    facts = read_facts(group.attribute(FACTS), group.where)
    known = facts.names if facts else {}
    seen = group.group("obs")
    names = reading.names(seen.leaves(), lambda theirs: known.get(theirs, theirs), seen.where)
    observations = {ours: seen.rows(theirs) for theirs, ours in names.items()}
    if "next_obs" in group and (facts is None or facts.after_last):
        after = group.group("next_obs")
        for theirs, ours in names.items():
            if after.length(theirs) != len(observations[ours]):
                raise InputError(
                    f"{group.where}: '{theirs}' has {len(observations[ours])} rows in obs, but "
                    f"{after.length(theirs)} in "
                    f"next_obs. {AGAIN}"
                )
            last = after.rows(theirs, -1)
            if last.shape[1:] != observations[ours].shape[1:] or last.dtype != observations[ours].dtype:
                raise InputError(f"{group.where}: '{theirs}' has another shape in next_obs than in obs. {AGAIN}")
            observations[ours] = np.concatenate([observations[ours], last])
    rewards = reading.reward or "rewards"
    return Recorded(
        observations=observations,
        actions=group.rows(reading.action or "actions"),
        rewards=group.rows(rewards) if reading.reward or rewards in group else None,
        task=task,
        seed=as_seed(group.attribute("seed"), f"{group.where}: 'seed'"),
        facts=facts,
    )
