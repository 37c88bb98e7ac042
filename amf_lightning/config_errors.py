"""Command-line errors a person can act on: one short paragraph, the nearest valid name, no usage dump."""

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
from amf_lightning.tasks.task import TaskSuite

BASES: tuple[type, ...] = (TaskSuite, Expert, Policy, Selector, Retention, Importance)
"""What can be chosen by class name in a configuration."""


class ArgumentParser(LightningArgumentParser):
    """Lightning's parser with errors that name the nearest valid key or class."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong and exits with code 2."""
        sys.stderr.write(f"amf: {explain(message, self)}\n")
        raise SystemExit(2)


def explain(message: str, parser: Any) -> str:
    """The first sentences of a parser's message, with a suggestion for the name that was not understood."""
    flat = " ".join(message.split())
    short = flat if len(flat) <= 600 else flat[:600].rsplit(" ", 1)[0] + " …"
    suggestions = []
    for name in _unknown_names(flat):
        if near := get_close_matches(name, list(_known_names(parser)), n=1, cutoff=0.6):
            suggestions.append(f"Did you mean '{near[0]}' instead of '{name}'?")
    return " ".join([short, *dict.fromkeys(suggestions)])


def _unknown_names(message: str) -> Iterator[str]:
    """Names that a message of jsonargparse complains about."""
    patterns = (
        r"[Kk]ey '([\w.\-]+)' is not expected",
        r"Unrecognized arguments: (?:--)?([\w.\-]+)",
        r"unrecognized arguments: (?:--)?([\w.\-]+)",
        r"No action for key \"?'?([\w.\-]+)",
        r"Import path ([\w.]+)",
        r"class_path '?\"?([\w.]+)",
        r"'([\w.]+)' is not a (?:subclass|valid)",
        r"[Uu]nexpected .*?key'?:? '?([\w.]+)",
    )
    for pattern in patterns:
        yield from re.findall(pattern, message)


def _known_names(parser: Any) -> Iterator[str]:
    """Keys of the parser and its subcommands, and the classes that can be chosen."""
    for action in parser._actions:
        if isinstance(action.dest, str):
            yield action.dest
    for base in BASES:
        yield from (cls.__name__ for cls in _subclasses(base))


def _subclasses(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)
