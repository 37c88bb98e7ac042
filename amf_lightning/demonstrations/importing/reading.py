"""How the files of others are to be read: whose entry is which of ours, what their tasks are called here."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from amf_lightning.bounded_yaml import check_yaml
from amf_lightning.configuration import read_yaml_text
from amf_lightning.errors import InputError

ANY_TASK = "*"
"""In a map of tasks: every task that the map does not name, and episodes that say no task."""
KEYS = ("observation", "action", "reward", "action_low", "action_high", "fps", "subgoals")
"""What a file for `--keys` may say."""


@dataclass(frozen=True)
class Subgoals:
    """Where one task ends in a long recording and the next begins: sub-goals, recorded beside what is reached."""

    achieved: str
    """Their name of the group of what is reached, an array for each sub-goal."""
    desired: str
    """Their name of the group of what should be, with the same names in it."""
    within: float
    """A sub-goal is reached where the two are nearer than this (Euclidean, in the source's units)."""


@dataclass(frozen=True)
class Reading:
    """How a source is to be read; with nothing said, by the names that its format has for things."""

    observation: Mapping[str, str | Sequence[str]] | None = None
    """Their name of each entry of the observation, by ours; entries that it leaves out are not read. A list of names
    makes one vector of float32 of them, in that order."""
    action: str | None = None
    """Their name of the actions."""
    reward: str | None = None
    """Their name of the rewards."""
    action_low: tuple[float, ...] | None = None
    """Their action that becomes −1, for each number of an action; with `action_high`, which becomes 1."""
    action_high: tuple[float, ...] | None = None
    fps: float | None = None
    """Steps a second that the source must have, 1/s; None if any will do."""
    tasks: Mapping[str, str | None] = field(default_factory=dict)
    """Our name of each task, by theirs; None leaves its episodes out. `*` stands for all others."""
    unsaid: str | None = None
    """The task of episodes that say none; None: they are refused."""
    subgoals: Subgoals | None = None
    """If given, each recording is cut where it reaches a sub-goal, which is the task of the part before."""

    def task(self, theirs: str | None, where: str) -> str | None:
        """Our name of a task; None if its episodes are to be left out.

        Raises:
            InputError: the source says no task, and neither does the map.
        """
        if theirs is not None and theirs in self.tasks:
            return self.tasks[theirs]
        if ANY_TASK in self.tasks:
            return self.tasks[ANY_TASK]
        if not theirs and self.unsaid is not None:
            return self.unsaid
        if not theirs:
            raise InputError(
                f"{where} says no task. Name it in a file for --tasks: '*': TASK gives all episodes to one task."
            )
        return theirs

    def names(self, available: Sequence[str], ours: Callable[[str], str], where: str) -> dict[str, str]:
        """Our name of each entry that is to be read, by theirs, in the order of ours.

        Args:
            available: their names of all entries that there are.
            ours: what an entry is called here if nobody says otherwise.
            where: for the message.

        Raises:
            InputError: an entry is not there, or two would have one name.
        """
        pairs = self._chosen(where) if self.observation is not None else {theirs: ours(theirs) for theirs in available}
        if missing := [theirs for theirs in pairs if theirs not in available]:
            raise InputError(
                f"{where} has no entry '{missing[0]}'; it has {', '.join(sorted(available)[:12]) or 'none'}. Correct "
                "'observation' in the file of --keys: it says for each of our entries which of theirs it is."
            )
        if not pairs:
            raise InputError(
                f"{where} has no observations. Name its entries under 'observation' in a file for `amf import --keys`."
            )
        if len(set(pairs.values())) < len(pairs):
            raise InputError(
                f"{where}: two of {', '.join(sorted(pairs))} would have one name here. Name them apart under "
                "'observation' in a file for `amf import --keys`."
            )
        for name in self.observation or pairs.values():
            check_name(name, where)
        return dict(sorted(pairs.items(), key=lambda pair: pair[1]))

    def _chosen(self, where: str) -> dict[str, str]:
        """Our name of each entry that is asked for, by theirs; those that are to be joined have theirs behind it."""
        asked = [(each, ours) for name in self.observation or {} for ours, each in self._parts(name).items()]
        if twice := [theirs for theirs, number in Counter(theirs for theirs, _ in asked).items() if number > 1]:
            raise InputError(f"{where}: 'observation' in the file of --keys names '{twice[0]}' twice. Name it once.")
        return dict(asked)

    def _parts(self, name: str) -> dict[str, str]:
        """Their entries that make one of ours, by what they are called until they are joined."""
        theirs = (self.observation or {})[name]
        if isinstance(theirs, str):
            return {name: theirs}
        return {f"{name} ({number}: {each})": each for number, each in enumerate(theirs, start=1)}

    def joined(self, observations: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Entries, [T, …] each, with those in one vector, [T, D] of float32, that are asked for as one."""
        made = dict(observations)
        for name, theirs in (self.observation or {}).items():
            if isinstance(theirs, str):
                continue
            vectors = [made.pop(part) for part in self._parts(name)]
            if len({len(each) for each in vectors}) > 1:
                lengths = ", ".join(f"{each} {len(rows)}" for each, rows in zip(theirs, vectors, strict=True))
                raise InputError(f"the entries that '{name}' joins have different numbers of rows: {lengths}.")
            sizes = [math.prod(each.shape[1:]) for each in vectors]
            whole = np.empty((len(vectors[0]), sum(sizes)), "<f4")
            with np.errstate(over="ignore"):  # what is too large is refused as infinite
                for each, end, size in zip(vectors, accumulate(sizes), sizes, strict=True):
                    whole[:, end - size : end] = each.reshape(len(each), size)
            made[name] = whole
        return made


def check_name(name: str, where: str) -> None:
    """Raises InputError unless an entry may have this name, which also becomes part of the path of its pictures."""
    parts = name.split("/")
    if len(name) > 200 or any(part in ("", ".", "..") or not part.isprintable() or "\\" in part for part in parts):
        raise InputError(
            f"{where}: '{name[:80]!s}' is no name for an entry of the observation: it leads out of its folder, "
            f"is empty "
            "or too long. Give it another one under 'observation' in a file for `amf import --keys`."
        )


def read_keys(path: Path) -> dict[str, Any]:
    """The arguments of `Reading` that a file for `--keys` holds.

    Raises:
        InputError: it is missing, no YAML, or says something else.
    """
    content = _mapping(path)
    if unknown := [str(key) for key in content if key not in KEYS]:
        raise InputError(f"{path}: there is no key '{unknown[0]}'; a map of keys has {', '.join(KEYS)}.")
    observation = content.get("observation")
    if observation is not None and not (
        isinstance(observation, dict)
        and observation
        and all(isinstance(name, str) and _is_named(each) for name, each in observation.items())
    ):
        raise InputError(
            f"{path}: 'observation' must say for each of our entries which of theirs it is, e.g. state: "
            "robot0_eef_pos, or which of theirs are joined, e.g. state: [robot0_eef_pos, robot0_eef_quat]."
        )
    for key in ("action", "reward"):
        if not isinstance(content.get(key, ""), str):
            raise InputError(f"{path}: '{key}' must be the name of an entry, not {content[key]!r:.60}.")
    for key in ("action_low", "action_high"):
        if key in content:
            content[key] = _numbers(content[key], f"{path}: '{key}'")
    if ("action_low" in content) != ("action_high" in content):
        raise InputError(f"{path}: give both action_low and action_high, or none of them.")
    if "fps" in content:
        [content["fps"]] = _numbers([content["fps"]], f"{path}: 'fps'")
    if "subgoals" in content:
        content["subgoals"] = _subgoals(content["subgoals"], path)
    return content


def _is_named(theirs: Any) -> bool:
    several = theirs if isinstance(theirs, list) else [theirs]
    return bool(several) and all(isinstance(each, str) for each in several)


def _subgoals(value: Any, path: Path) -> Subgoals:
    given = value if isinstance(value, dict) else {}
    achieved, desired, within = (given.get(name) for name in ("achieved", "desired", "within"))
    if (
        len(given) != 3
        or not (isinstance(achieved, str) and isinstance(desired, str))
        or achieved == desired
        or not isinstance(within, int | float)
        or isinstance(within, bool)
        or not 0 < within < 1e300
    ):
        raise InputError(
            f"{path}: 'subgoals' must name two groups of arrays and a distance above 0, e.g. {{achieved: "
            "achieved_goal, desired: desired_goal, within: 0.3}."
        )
    return Subgoals(achieved, desired, float(within))


def read_tasks(path: Path) -> dict[str, str | None]:
    """The map of tasks in a file for `--tasks`: their name to ours, or to null.

    Raises:
        InputError: it is missing, no YAML, or says something else.
    """
    content = _mapping(path)
    for theirs, ours in content.items():
        if not isinstance(theirs, str) or not (ours is None or (isinstance(ours, str) and ours)):
            raise InputError(
                f"{path}: '{theirs}: {ours}' is no pair of names; write THEIRS: OURS, or THEIRS: null to leave out."
            )
    return content


def _mapping(path: Path) -> dict[Any, Any]:
    try:
        text = read_yaml_text(path)
        check_yaml(text)
        content = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} cannot be read as YAML: {reason}. Give a file like those of docs/formats.md."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} must hold a mapping, e.g. 'pick the cube': pick (--tasks) or action: action (--keys)."
        )
    return content


def _numbers(value: Any, what: str) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else None
    if not numbers or any(type(each) not in (int, float) or not abs(each) < 1e300 for each in numbers):
        raise InputError(f"{what} must be numbers, e.g. [-180, -90] of an action with two of them.")
    return tuple(float(each) for each in numbers)
