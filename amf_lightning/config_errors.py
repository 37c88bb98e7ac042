"""Command-line errors a person can act on: one short paragraph, the nearest valid name, no usage dump."""

import inspect
import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from amf_lightning.experts.expert import Expert
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.importance import Importance
from amf_lightning.retention.retention import Retention
from amf_lightning.selection.context import Selector
from amf_lightning.selection.information_gain import Aggregate
from amf_lightning.selection.occupancies import Occupancy
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.uncertainty.embeddings import Embedding

BASES: tuple[type, ...] = (
    TaskSuite,
    Expert,
    Policy,
    Selector,
    Embedding,
    Occupancy,
    Aggregate,
    Retention,
    Importance,
)
"""What can be chosen by class name in a configuration."""

_LINK = re.compile(r"Call to compute_fn of link .*? failed: ")
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: ([\w.]+)")
_UNKNOWN_NAMES = (
    re.compile(r"[Uu]nrecognized arguments: (?:--)?([\w.\-]+)"),
    re.compile(r"[Kk]ey ['\"]?([\w.\-]+)['\"]? is not expected"),
    re.compile(r"[Oo]ption '([\w.\-]+)' is not accepted"),
    re.compile(r"does not accept option '([\w.\-]+)'"),
    re.compile(r"No action for key '?\"?([\w.\-]+)"),
    re.compile(r"Import path ([\w.]+)"),
    re.compile(r"has no attribute '(\w+)'"),
    re.compile(r"invalid choice: '?(\w+)"),
)


class ArgumentParser(LightningArgumentParser):
    """Lightning's parser with errors that name the nearest valid key or class."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong and exits with code 2."""
        sys.stderr.write(f"amf: {explain(message, self)}\n")
        raise SystemExit(2)


def explain(message: str, parser: Any) -> str:
    """What a parser's message says, in a sentence or two, with the nearest valid name where one was mistyped."""
    flat = _LINK.sub("", " ".join(message.split()))
    classes = [cls.__name__ for base in BASES for cls in _subclasses(base)]
    if unknown := _UNKNOWN_CLASS.search(flat):
        name = unknown.group(1)
        where = re.search(r"[Kk]ey [\"']([\w.]+)[\"']", flat)
        place = f" (key '{where.group(1)}')" if where else ""
        near = get_close_matches(name.rpartition(".")[2], classes, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Give one of {', '.join(sorted(classes))}, or an import path."
        return f"There is no class '{name}'{place}. {hint}"
    short = flat if len(flat) <= 500 else flat[:500].rsplit(" ", 1)[0] + " …"
    known = [*classes, *_keys(parser), *_options()]
    names = [name for pattern in _UNKNOWN_NAMES for name in pattern.findall(flat)]
    hints = [
        f"Did you mean '{near[0]}' instead of '{name}'?"
        for name in dict.fromkeys(names)
        if (near := get_close_matches(name, known, n=1))
    ]
    return " ".join([short if short.endswith(".") else f"{short}.", *hints])


def _keys(parser: Any) -> Iterator[str]:
    """Keys of the parser and, without what they stand under, of its groups."""
    for action in parser._actions:
        if isinstance(action.dest, str):
            yield action.dest
        if isinstance(action.choices, dict):  # subcommands, each with a parser of its own
            yield from action.choices
            for subparser in action.choices.values():
                yield from _keys(subparser)


def _options() -> Iterator[str]:
    """Names of the options of every class that can be chosen."""
    for base in BASES:
        for choice in _subclasses(base):
            yield from inspect.signature(choice).parameters


def _subclasses(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)
