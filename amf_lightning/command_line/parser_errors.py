"""Command-line errors a person can act on: one short paragraph, the nearest valid name, no usage dump."""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, NoReturn, get_args

import jsonargparse

import amf_lightning
from amf_lightning.catalogue import KINDS, base_class, classes, load_all, part_of

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


class ArgumentParser(jsonargparse.ArgumentParser):
    """A parser with errors that name the nearest valid key or class, and a help that says what can be chosen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.linked: dict[str, str] = {}
        """Keys that follow from others, and from which."""
        super().__init__(*args, **kwargs)

    def link_arguments(self, source: Any, target: str, *args: Any, **kwargs: Any) -> None:
        """Notes that nobody chooses what stands under `target`."""
        self.linked[target] = source if isinstance(source, str) else ", ".join(source)
        super().link_arguments(source, target, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong and exits with code 2."""
        sys.stderr.write(f"amf: {explain(message, self)}\n")
        raise SystemExit(2)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The configuration as text. jsonargparse gives a class the shortest path that it can be imported by.

        That would be `amf_lightning.Uniform` for a class of the public interface: the same class would be called
        otherwise than in older run folders, and its run be refused as another one.
        """
        return str(re.sub(r"\bamf_lightning\.([A-Z]\w*)(?![\w.])", _defined_in, super().dump(*args, **kwargs)))

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """The help of jsonargparse, which lists only what is imported, with the names in the catalogue."""
        for action in self._actions:
            if action.dest not in self.linked and (key := part_of(action.dest)) and classes(key):
                choices = f"One of {', '.join(classes(key))}, or the import path of a class of your own."
                if choices not in (action.help or ""):
                    action.help = f"{(action.help or '').rstrip('. ')}. {choices}".lstrip(". ")
        return super().format_help(formatter)


def _defined_in(match: re.Match[str]) -> str:
    """The full path of a class of the public interface; other text is left as it is."""
    place = amf_lightning.PLACES.get(match[1])
    return f"amf_lightning.{place}.{match[1]}" if place else match[0]


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
    keys = list(_keys(parser))
    valid_names = [*keys, *_options(keys)]
    names = dict.fromkeys(name for pattern in _UNKNOWN for name in pattern.findall(flat))
    # What follows the dot of an unknown option is its value's own: `option.goal` is a mistake in `option`.
    groups = {key.partition(".")[0] for key in valid_names}
    wrong = [name if (head := name.partition(".")[0]) in groups else head for name in names]
    hints = [_nearest(name, valid_names, others=False) for name in wrong]
    return " ".join([_shortened(flat), *filter(None, hints)])


def _explain_class(flat: str, key: str) -> str | None:
    """Says which classes there are, if the message is about one that is not, or not of that kind."""
    absent, other = _first(_NO_CLASS, flat), _first(_OTHER_CLASS, flat)
    if not (match := absent or other):
        return None
    name, part = match[1], part_of(key)
    short = name.rpartition(".")[2]
    wrong = f"There is no class '{name}'"
    if part and (other or any(short in choices(other_part) for other_part in KINDS)):
        wrong = f"'{name}' is no {KINDS[part].base.partition(':')[2]}"
    return f"{wrong} (key '{key}'). {_nearest(short, choices(part) if part else []) or 'Give an import path.'}"


def _explain_value(flat: str, key: str) -> str | None:
    """Says what was expected under a key and what was there."""
    if not (match := _first(_VALUE, flat)):
        return None
    types = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", match["types"])
    types = types.replace("config", "a mapping or a configuration file").replace("NoneType", "null")
    return _shortened(f"{key}: expected {types}, got '{match['value']}'")


def _first(patterns: Sequence[re.Pattern[str]], text: str) -> re.Match[str] | None:
    return next(filter(None, (pattern.search(text) for pattern in patterns)), None)


def _nearest(name: str, valid_names: Sequence[str], others: bool = True) -> str:
    """The valid name that was probably meant; all of them if none is near."""
    if near := get_close_matches(name, valid_names, n=1):
        return f"Did you mean '{near[0]}' instead of '{name}'?"
    return f"Give one of {', '.join(valid_names)}." if others and valid_names else ""


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


def _options(keys: Sequence[str]) -> Iterator[str]:
    """Names of the options of every class that can be chosen; none if nothing can be chosen."""
    if not any(map(part_of, keys)):
        return
    for part in KINDS:
        imported = {cls.__name__: cls for cls in _subclasses(base_class(part))}
        for cls in {**imported, **load_all(part)}.values():
            for name, parameter in inspect.signature(cls).parameters.items():
                yield name
                yield from _fields(parameter.annotation)


def _fields(annotation: Any) -> Iterator[str]:
    """Names of the fields of the dataclasses in an annotation, e.g. of `Sequence[GymnasiumTask]`."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        yield from (field.name for field in fields(annotation))
    for argument in get_args(annotation):
        yield from _fields(argument)


def choices(key: str) -> list[str]:
    """Short names of the classes that may stand under `key`: those of the catalogue, and what else is imported."""
    module, _, name = KINDS[key].base.partition(":")
    base = getattr(sys.modules.get(module), name, None)
    others = [] if base is None else [cls.__name__ for cls in _subclasses(base)]
    return sorted({*classes(key), *others})


def _subclasses(base: type) -> Iterator[type]:
    """Classes that can be chosen, of those that are imported: not the private ones of torch, nor lazy defaults."""
    subclasses: list[type] = base.__subclasses__()
    for cls in subclasses:
        if not inspect.isabstract(cls) and not cls.__name__.startswith(("_", "LazyInstance_")):
            yield cls
        yield from _subclasses(cls)
