"""What `evaluation.json` says about a run beside its scores, checked when it is read back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from amf_lightning.errors import InputError
from amf_lightning.hashed_json import digest
from amf_lightning.reading import read_json_mapping

ADVICE = "Remove it; the command that made the run writes it anew."
SEAL, FINISHED = "sha256", "finished"
"""Keys: SHA-256 of the tables that the file is about, and of all else in the file, by name; how many demonstrations all
results of the folder are about, or null while they are being replaced."""
_OWN = "evaluation.json"


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the file holds of the facts: with their hash, beside those of the tables."""
    return {**facts, SEAL: {**facts.get(SEAL, {}), _OWN: digest({SEAL: {}, **facts})}}


def read_facts(path: Path) -> dict[str, Any]:
    """The contents of the file; empty if there is none. Keys that are not known here pass as they are.

    Raises:
        InputError: it is damaged or was changed, or a fact has a type that no run writes; names the fact.
    """
    if not path.exists():
        return {}
    facts = read_json_mapping(path, ADVICE)
    for name, is_valid in _VALID.items():
        if name in facts and not is_valid(facts[name]):
            raise InputError(f"{path} says '{name}': {str(facts[name])[:80]!r}, which no run writes. {ADVICE}")
    own = facts.get(SEAL, {}).pop(_OWN, None)
    if own not in (None, digest(facts)):
        raise InputError(f"{path} was changed after it was written: it is not what its SHA-256 is of. {ADVICE}")
    return facts


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _frozen(value: Any) -> bool:
    """Frozen entries and entries of a parameter."""
    return isinstance(value, list) and len(value) == 2 and all(map(_count, value)) and value[0] <= value[1] > 0


def _optional(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


def _table(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_valid, value.values()))


def _of_task(value: Any) -> bool:
    """A number, a word, or failed episodes by reason."""
    return _number(value) or _text(value) or _table(_count)(value)


_VALID: Mapping[str, Callable[[Any], bool]] = {
    "demonstrations": _count,
    "tasks": _table(_table(_optional(_of_task))),
    "mean": _optional(_table(_optional(_of_task))),
    "trained_on": _count,
    "budget": _count,
    "seed": _count,
    "selector": _text,
    "uses": _names,
    "environment_steps": _optional(_number),
    "pretraining_tasks": _optional(_names),
    "retention": _text,
    "frozen": _table(_frozen),
    "measures": _table(_table(_optional(_number))),
    "scored_by": _text,
    "unscored": _text,
    "stopped": _optional(_text),
    FINISHED: _optional(_count),
    SEAL: _table(_text),
}
"""What is valid under the names that are read back."""
