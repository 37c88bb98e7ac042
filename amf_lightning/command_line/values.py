"""Looks through a parsed configuration before anything of it is made: classes are classes, numbers are numbers.

A type says little of a value: NaN is a float, True an int, and jsonargparse takes null for anything and calls a
function that stands where a class should. What is checked here holds for every option of every part, present and to
come.
"""

import inspect
import math
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse import Namespace

from amf_lightning.catalogue import KINDS
from amf_lightning.configuration import read_mapping
from amf_lightning.errors import InputError
from amf_lightning.import_path import attribute

SIGNED = frozenset({"return_threshold", "below", "devices", "max_epochs", "max_steps", "seed_everything", "threads"})
"""Options that are single numbers and may be negative, or whose own check says more."""
DIVISORS = ("trainer.check_val_every_n_epoch", "trainer.val_check_interval")
"""Numbers that Lightning divides by without a look."""
LARGEST = 10**9
"""No integer of the package or of the trainer is larger; all of them count something that takes time or memory."""
LONGEST_EPISODE = 10**6
"""Steps. Some suites simulate an episode to be made at all."""


def check_values(values: Mapping[str, Any], parser: Any) -> None:
    """Looks through what a parser has read.

    Args:
        values: nested mappings by key.
        parser: jsonargparse's, whose actions know the types.

    Raises:
        InputError: names the key: null where something is needed, a number that is not finite, negative where no number
            can be, a truth value for a number, or something that would be called and is not what the key asks for.
    """
    for action in parser._actions:
        value: Any = values
        for name in action.dest.split("."):
            value = value.get(name, _ABSENT) if isinstance(value := _mapping(value), Mapping) else _ABSENT
        annotation = getattr(action, "_typehint", None)
        if value is not _ABSENT and annotation is not None and action.dest not in parser.linked:
            _check(action.dest, value, annotation, ours=True)
            if action.dest in DIVISORS and value == 0:
                raise InputError(f"{action.dest} is 0; it must be larger.")


def check_followers(paths: Sequence[str], parser: Any) -> None:
    """Makes sure that no configuration sets what follows from other keys: jsonargparse would set it anew in silence.

    Args:
        paths: of the configurations.
        parser: which knows the keys that follow.

    Raises:
        InputError: names the file, the key and what it follows from.
    """
    for path in paths:
        content = read_mapping(Path(path))
        for key, source in parser.linked.items():
            value: Any = content
            for name in key.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            if value is not None:
                raise InputError(f"{path}: {key} follows from {source}; set that instead, and leave this out.")


_ABSENT = object()
_BASES = frozenset(kind.base for kind in KINDS.values() if not kind.concrete)


def _mapping(value: Any) -> Any:
    return vars(value) if isinstance(value, Namespace) else value


def _check(key: str, value: Any, annotation: Any, ours: bool) -> None:
    """Looks through one value.

    Args:
        key: where it stands.
        value: of any kind.
        annotation: what the parameter's type is; None if it is not known.
        ours: whether it is an option of this package, none of which but a few is ever negative.
    """
    kinds, value = list(_members(annotation)), _mapping(value)
    anything = any(kind in (Any, object) for kind in kinds)
    if value is None and kinds and not anything and types.NoneType not in kinds:
        raise InputError(f"{key} is null; give {_wanted(kinds)}, or leave the key out for its default.")
    if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        if anything:
            raise InputError(
                f"{key} names the class '{value['class_path']}' where plain values belong. A class of yours gets an "
                "object there if the type of its parameter says of which class."
            )
        _check_class(key, value)
    elif isinstance(value, Mapping):
        record: Any = next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)
        hints = _hints(record) if record else {}
        for name, entry in value.items():
            _check(f"{key}.{name}", entry, hints.get(str(name), _elements(kinds)), ours and record is not None)
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            # Of several real numbers some may be negative: contexts, targets.
            inner = _elements(kinds)
            _check(f"{key}[{index}]", entry, inner, ours and float not in _members(inner))
    elif isinstance(value, bool | int | float) and not anything:
        _check_number(key, value, kinds, ours)
    elif callable(value) and not inspect.isclass(value) and _foreign(value):
        raise InputError(f"{key} is {value!r}, which is no function of yours. Give the import path of a class.")


def _check_class(key: str, value: Mapping[str, Any]) -> None:
    """Looks through a class, as `class_path`, and its arguments."""
    path = value["class_path"]
    kind = attribute(path)
    if not isinstance(kind, type) or _foreign(kind):
        what = "a class of Python itself" if isinstance(kind, type) else f"a {type(kind).__name__} and no class"
        raise InputError(
            f"{key} is '{path}', which is {what}. Nothing that a configuration names is called but a class of the "
            "kind that the key asks for; give its import path."
        )
    if inspect.isabstract(kind) or f"{kind.__module__}:{kind.__name__}" in _BASES:
        raise InputError(f"{key} names no class; {kind.__name__} is only what such classes have in common.")
    given = [_mapping(value.get(name)) for name in ("init_args", "dict_kwargs")]
    known, hints = _known(kind), _hints(kind)
    for arguments in given:
        for name, entry in arguments.items() if isinstance(arguments, Mapping) else ():
            if known or name in hints:
                _check(f"{key}.init_args.{name}", entry, hints.get(name), kind.__module__.startswith("amf_lightning."))
            else:  # without a type: its own constructor judges numbers
                _check(f"{key}.init_args.{name}", entry, Any, False)


def _check_number(key: str, value: bool | int | float, kinds: Sequence[Any], ours: bool) -> None:
    if isinstance(value, bool):
        if bool not in kinds and (int in kinds or float in kinds):
            raise InputError(f"{key} is {str(value).lower()}; give a number.")
        return
    if not math.isfinite(value):
        raise InputError(f"{key} is {value}; give a finite number.")
    name = key.rpartition(".")[2]
    most = LONGEST_EPISODE if name == "horizon" else LARGEST
    if ours and isinstance(value, int) and value > most and not name.startswith("seed"):
        raise InputError(f"{key} is {value:.6g}; it is {most} at most.")
    if ours and value < 0 and name not in SIGNED:
        raise InputError(f"{key} is {value}; it cannot be negative.")


def _known(kind: type) -> bool:
    return _origin(kind) in ("amf_lightning", "torch", "lightning", "pytorch_lightning")


def _foreign(value: Any) -> bool:
    """Whether a class or function belongs to Python itself, or is none of Python."""
    written = inspect.isclass(value) or inspect.isfunction(value) or inspect.ismethod(value)
    return not written or _origin(value) in sys.stdlib_module_names - {"__main__"}


def _origin(value: Any) -> str:
    return str(getattr(value, "__module__", "")).partition(".")[0]


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Types of the constructor's parameters; empty if they cannot be told."""
    known: dict[str, Any] = {}
    for cls in reversed(kind.__mro__[:-1]):  # options may be passed on to a base
        if "__init__" in vars(cls):
            try:
                known |= get_type_hints(vars(cls)["__init__"])
            except Exception:  # names that exist for type checkers only
                continue
    return known


def _members(annotation: Any) -> Iterator[Any]:
    """The types of which a value may have any; none if nothing is known."""
    if annotation is None:
        return
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _elements(kinds: Sequence[Any]) -> Any:
    """The type of what is in a collection of one of these types; None if it is not known."""
    inner = [get_args(kind)[-1] for kind in kinds if get_args(kind) and get_origin(kind) is not type]
    inner = [kind for kind in inner if kind is not Ellipsis]
    return Union[tuple(inner)] if inner else None  # noqa: UP007


def _wanted(kinds: Sequence[Any]) -> str:
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    known = sorted({names[kind] for kind in kinds if kind in names})
    if known:
        return " or ".join(known)
    return "a class" if any(inspect.isclass(get_origin(kind) or kind) for kind in kinds) else "a value"
