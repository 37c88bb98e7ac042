"""Command-line errors a person can act on: one short paragraph, the nearest valid name, no usage dump."""

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer

from amf_lightning.experts.expert import Expert
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.importance import Importance
from amf_lightning.retention.retention import Retention
from amf_lightning.selection.context import Selector
from amf_lightning.selection.information_gain import Aggregate
from amf_lightning.selection.occupancies import Occupancy
from amf_lightning.suites.gymnasium_suite import GymnasiumTask
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.uncertainty.embeddings import Embedding

KINDS: dict[str, type] = {
    "suite": TaskSuite,
    "expert": Expert,
    "policy": Policy,
    "optimizer": Optimizer,
    "selector": Selector,
    "embedding": Embedding,
    "occupancy": Occupancy,
    "aggregate": Aggregate,
    "retention": Retention,
    "parts": Retention,
    "importance": Importance,
}
"""What can be chosen by class name in a configuration, by the last part of its key."""

_LINK = re.compile(r"Call to compute_fn of link .*? failed: ")
_LINKED = re.compile(r"argument (?:\w+\()?([\w., ]+?)\)? --> ([\w., ]+): invalid")
_KEY = re.compile(r'Parser key "([\w.]+)":')
_NO_CLASS = (
    re.compile(r"Expected a dot import path string: (\S+)"),
    re.compile(r"Problem with given class_path '(\S+?)': (?:No module named|module '\S+' has no attribute)"),
)
_OTHER_CLASS = (re.compile(r"does not correspond to a subclass of .* Given value: (\S+)"),)
_VALUE = (
    re.compile(r"Expected a (?P<types><class '\w+'>)\. Got value: ?(?P<value>.*)"),
    re.compile(r"Union subtypes Subtypes: \[(?P<types>.*?)\] Errors: .* Given value: ?(?P<value>.*)"),
    re.compile(r"Unable to load (?P<types>config) '(?P<value>.*?)'"),
)
_UNKNOWN = (
    re.compile(r"[Uu]nrecognized arguments: (?:--)?([\w.\-]+)"),
    re.compile(r"[Kk]ey ['\"]?([\w.\-]+)['\"]? is not expected"),
    re.compile(r"[Oo]ption '([\w.\-]+)' is not accepted"),
    re.compile(r"does not accept option '([\w.\-]+)'"),
    re.compile(r"No action for key '?\"?([\w.\-]+)"),
)
_SUBCOMMAND = re.compile(r"invalid choice: '(.*?)' \(choose from (.*?)\)")
_MOST = 400


class ArgumentParser(LightningArgumentParser):
    """Lightning's parser with errors that name the nearest valid key or class."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong and exits with code 2."""
        sys.stderr.write(f"amf: {explain(message, self)}\n")
        raise SystemExit(2)


def explain(message: str, parser: Any) -> str:
    """What a parser's message says, in a sentence or two, with the nearest valid name where one was mistyped."""
    flat = _LINK.sub("", " ".join(message.split()))
    if linked := _LINKED.search(flat):
        return f"{linked[2]} follows from {linked[1]}; set that instead."
    if choice := _SUBCOMMAND.search(flat):
        return f"There is no '{choice[1]}'. {_nearest(choice[1], re.findall(r'[a-z]+', choice[2]))}"
    if "is not accepted before subcommand" in flat:
        return "Options come after the subcommand: amf fit --config FILE."
    if (key := _KEY.search(flat)) and (better := _explain_class(flat, key[1]) or _explain_value(flat, key[1])):
        return better
    known = [*_keys(parser), *_options()]
    names = dict.fromkeys(name for pattern in _UNKNOWN for name in pattern.findall(flat))
    # What follows the dot of an unknown option is its value's own: `option.goal` is a mistake in `option`.
    groups = {key.partition(".")[0] for key in known}
    wrong = [name if (head := name.partition(".")[0]) in groups else head for name in names]
    hints = [_nearest(name, known, others=False) for name in wrong]
    return " ".join([_shortened(flat), *filter(None, hints)])


def _explain_class(flat: str, key: str) -> str | None:
    """Says which classes there are, if the message is about one that is not, or not of that kind."""
    absent, other = _first(_NO_CLASS, flat), _first(_OTHER_CLASS, flat)
    if not (found := absent or other):
        return None
    name, kind = found[1], KINDS.get(key.rpartition(".")[2])
    short = name.rpartition(".")[2]
    ours = {cls.__name__ for base in KINDS.values() for cls in _subclasses(base)}
    wrong = f"There is no class '{name}'"
    if kind and (other or short in ours):
        wrong = f"'{name}' is no {kind.__name__}"
    choices = sorted(cls.__name__ for cls in _subclasses(kind)) if kind else []
    return f"{wrong} (key '{key}'). {_nearest(short, choices) or 'Give an import path.'}"


def _explain_value(flat: str, key: str) -> str | None:
    """Says what was expected under a key and what was there."""
    if not (found := _first(_VALUE, flat)):
        return None
    types = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", found["types"])
    types = types.replace("config", "a mapping or a configuration file").replace("NoneType", "null")
    return _shortened(f"{key}: expected {types}, got '{found['value']}'")


def _first(patterns: Sequence[re.Pattern[str]], text: str) -> re.Match[str] | None:
    return next(filter(None, (pattern.search(text) for pattern in patterns)), None)


def _nearest(name: str, known: Sequence[str], others: bool = True) -> str:
    """The valid name that was probably meant; all of them if none is near."""
    if near := get_close_matches(name, known, n=1):
        return f"Did you mean '{near[0]}' instead of '{name}'?"
    return f"Give one of {', '.join(known)}." if others and known else ""


def _shortened(text: str) -> str:
    short = text if len(text) <= _MOST else text[:_MOST].rsplit(" ", 1)[0] + " …"
    return short if short.endswith(".") else f"{short}."


def _keys(parser: Any) -> Iterator[str]:
    """Keys of the parser and of its subcommands."""
    for action in parser._actions:
        if isinstance(action.dest, str) and not action.dest.endswith(".help"):
            yield action.dest
        if isinstance(action.choices, dict):  # subcommands, each with a parser of its own
            for subparser in action.choices.values():
                yield from _keys(subparser)


def _options() -> Iterator[str]:
    """Names of the options of every class that can be chosen."""
    for kind in KINDS.values():
        for cls in _subclasses(kind):
            yield from inspect.signature(cls).parameters
    yield from inspect.signature(GymnasiumTask).parameters


def _subclasses(base: type) -> Iterator[type]:
    """Classes that can be chosen; those of torch that are private are left out."""
    subclasses: list[type] = base.__subclasses__()
    for cls in subclasses:
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_"):
            yield cls
        yield from _subclasses(cls)
