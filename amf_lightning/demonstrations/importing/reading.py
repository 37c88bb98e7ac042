"""How the files of others are to be read: whose entry is which of ours, what their tasks are called here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from amf_lightning.bounded_yaml import check_yaml
from amf_lightning.configuration import read_yaml_text
from amf_lightning.errors import InputError

ANY_TASK = "*"
"""In a map of tasks: every task that the map does not name, and episodes that say no task."""
_KEYS = ("observation", "action", "reward", "action_low", "action_high", "fps")


@dataclass(frozen=True)
class Reading:
    """How a source is to be read; with nothing said, by the names that its format has for things."""

    observation: Mapping[str, str] | None = None
    """Their name of each entry of the observation, by ours; entries that it leaves out are not read."""
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
        pairs = (
            {theirs: name for name, theirs in self.observation.items()}
            if self.observation is not None
            else {theirs: ours(theirs) for theirs in available}
        )
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
        for name in pairs.values():
            check_name(name, where)
        return dict(sorted(pairs.items(), key=lambda pair: pair[1]))


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
    if unknown := [str(key) for key in content if key not in _KEYS]:
        raise InputError(f"{path}: there is no key '{unknown[0]}'; a map of keys has {', '.join(_KEYS)}.")
    observation = content.get("observation")
    if observation is not None and not (
        isinstance(observation, dict) and observation and all(isinstance(each, str) for each in observation.values())
    ):
        raise InputError(
            f"{path}: 'observation' must say for each of our entries which of theirs it is, e.g. state: robot0_eef_pos."
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
    return content


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
    if not numbers or any(type(each) not in (int, float) or not math.isfinite(each) for each in numbers):
        raise InputError(f"{what} must be numbers, e.g. [-180, -90] of an action with two of them.")
    return tuple(float(each) for each in numbers)
