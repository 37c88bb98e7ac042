"""The one catalogue of parts: what a key of a configuration can be, found in the source files without importing them.

A class is offered because it is there: concrete, not `_private`, and below the base class of its key. The command line,
its error messages and the completion of the shell read this catalogue; only the modules of the classes that are
named are ever imported.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from amf_lightning.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Kind:
    """What may stand under one key."""

    base: str
    """Base class, `module:Class`."""
    rooms: tuple[str, ...]
    """Folders of the package whose files are searched for classes below it; none for a base that is not ours."""
    concrete: bool = False
    """Whether the base class may stand there itself."""


KINDS: Mapping[str, Kind] = {
    "suite": Kind("amf_lightning.tasks.task:TaskSuite", ("suites",)),
    "language": Kind("amf_lightning.suites.language:TextEncoder", ("suites",)),
    "expert": Kind("amf_lightning.experts.expert:Expert", ("experts",)),
    "policy": Kind("amf_lightning.policies.protocol:Policy", ("policies",)),
    "encoder": Kind("amf_lightning.policies.encoder:Encoder", ("policies",)),
    "optimizer": Kind("torch.optim:Optimizer", ()),
    "selector": Kind("amf_lightning.selection.context:Selector", ("selection",)),
    "embedding": Kind("amf_lightning.uncertainty.embeddings:Embedding", ("uncertainty",)),
    "kernel": Kind("amf_lightning.uncertainty.kernels:Stationary", ("uncertainty",)),
    "occupancy": Kind("amf_lightning.selection.occupancies:Occupancy", ("selection",)),
    "evidence": Kind("amf_lightning.selection.evidence:Evidence", ("selection",)),
    "information": Kind("amf_lightning.selection.informed:InformationGain", ("selection",), concrete=True),
    "aggregate": Kind("amf_lightning.selection.information_gain:Aggregate", ("selection",)),
    "retention": Kind("amf_lightning.retention.retention:Retention", ("retention",)),
    "evaluation": Kind("amf_lightning.evaluation.evaluators:Evaluator", ("evaluation",)),
    "controller": Kind("amf_lightning.policies.controllers:PolicyController", ("policies",)),
    "importance": Kind("amf_lightning.retention.importance:Importance", ("retention",)),
}
"""By key. A new kind is one line here; a new class of a kind is a file in its room, and nothing else."""

ALIASES: Mapping[str, str] = {"parts": "retention"}
"""Keys under which the parts of another key stand."""


def part_of(key: str) -> str | None:
    """The key of `KINDS` that a dotted key of a configuration holds a part of; None if it holds none.

    >>> part_of("selector.init_args.occupancy"), part_of("retention.init_args.parts"), part_of("data.batch_size")
    ('occupancy', 'retention', None)
    """
    last = key.rpartition(".")[2]
    last = ALIASES.get(last, last)
    return last if last in KINDS else None


@cache
def classes(key: str) -> dict[str, str]:
    """Short names of the classes that may stand under `key`, sorted, each with its module. Nothing is imported.

    Raises:
        KeyError: there is no such key.
    """
    part = KINDS[key]
    below = {
        cls.name: cls.module
        for room in part.rooms
        for cls in _room(room)
        if not cls.name.startswith("_")
        and part.base in list(_lineage(cls))[0 if part.concrete else 1 :]
        and not _abstract(cls)
    }
    return dict(sorted(below.items()))


def resolve(key: str, name: str) -> type:
    """The class of that short name; imports its module and what that needs.

    Raises:
        InputError: there is no class of that name; says the nearest one.
    """
    if (module := classes(key).get(name)) is None:
        near = get_close_matches(name, classes(key), n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Give one of {', '.join(classes(key))}."
        raise InputError(f"There is no {key} '{name}'. {hint}")
    cls: type = getattr(import_module(module), name)
    return cls


def load_all(key: str) -> dict[str, type]:
    """Every class of `key` by short name; imports all of their modules."""
    return {name: resolve(key, name) for name in classes(key)}


def base_class(key: str) -> type:
    """The base class of `key`, imported."""
    module, _, name = KINDS[key].base.partition(":")
    cls: type = getattr(import_module(module), name)
    return cls


def parameters(place: str) -> tuple[str, ...]:
    """Names of the parameters of the constructor of a class of the package, `module:Class`. Nothing is imported."""
    cls = _defined(place)
    lineage = [_defined(ancestor) for ancestor in _lineage(cls)] if cls else []
    return next((each.parameters for each in lineage if each and each.parameters is not None), ())


def import_named(content: Any) -> None:
    """Imports the modules of all classes whose short names stand anywhere in `content`.

    jsonargparse resolves a short name among the subclasses that are imported, so this comes before it parses. A word
    that only looks like a class imports a module too many, and nothing else happens.

    Args:
        content: text, or mappings and sequences of it, as YAML or a command line gives them.
    """
    words = {word for text in _texts(content) for word in re.findall(r"[A-Za-z_]\w*", text)}
    for key in KINDS:
        for name, module in classes(key).items():
            if name in words and module not in sys.modules:
                import_module(module)


@dataclass(frozen=True)
class _Class:
    """What the source says of one class."""

    name: str
    module: str
    bases: tuple[str, ...]
    """`module:Class` each."""
    abstract: frozenset[str]
    """Names that it declares abstract."""
    concrete: frozenset[str]
    """Names that it defines."""
    parameters: tuple[str, ...] | None
    """Of its own constructor; None if it inherits one."""

    @property
    def place(self) -> str:
        return f"{self.module}:{self.name}"


@cache
def _room(room: str) -> tuple[_Class, ...]:
    """The classes of every file in a folder of the package."""
    return tuple(cls for path in sorted((_PACKAGE / room).rglob("*.py")) for cls in _file(path))


@cache
def _file(path: Path) -> tuple[_Class, ...]:
    """The classes at the top of a file."""
    module = ".".join([_PACKAGE.name, *path.relative_to(_PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    text = path.read_text(encoding="utf-8")
    if "class " not in text:
        return ()
    tree = ast.parse(text)
    names: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}:{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            names[node.name] = f"{module}:{node.name}"
    return tuple(_read(node, module, names) for node in tree.body if isinstance(node, ast.ClassDef))


def _read(node: ast.ClassDef, module: str, names: Mapping[str, str]) -> _Class:
    methods = [entry for entry in node.body if isinstance(entry, ast.FunctionDef | ast.AsyncFunctionDef)]
    abstract = {method.name for method in methods if any("abstract" in ast.unparse(d) for d in method.decorator_list)}
    values = {
        target.id
        for entry in node.body
        if isinstance(entry, ast.Assign) or (isinstance(entry, ast.AnnAssign) and entry.value is not None)
        for target in (entry.targets if isinstance(entry, ast.Assign) else [entry.target])
        if isinstance(target, ast.Name)
    }
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    resolved = (names.get(base.id, base.id) if isinstance(base, ast.Name) else _dotted(base) for base in bases)
    defined = {method.name for method in methods} - abstract | values
    own = next((parameters_of(method) for method in methods if method.name == "__init__"), None)
    return _Class(node.name, module, tuple(resolved), frozenset(abstract), frozenset(defined), own)


def parameters_of(method: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    """Names of the parameters of a method, without the first one."""
    arguments = method.args
    return tuple(argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs][1:])


def _dotted(base: ast.expr) -> str:
    """`module:Class` of a base that is written with the full name of its module."""
    module, _, name = ast.unparse(base).rpartition(".")
    return f"{module}:{name}"


@cache
def _defined(place: str) -> _Class | None:
    """The class at `module:Class`, if it is one of the package."""
    module, _, name = place.partition(":")
    first, *parts = module.split(".")
    path = _PACKAGE.joinpath(*parts).with_suffix(".py")
    if first != _PACKAGE.name or not path.is_file():
        return None
    return next((cls for cls in _file(path) if cls.name == name), None)


def _lineage(cls: _Class) -> Iterator[str]:
    """The class and all that it inherits from, nearest first and depth first."""
    yield cls.place
    for base in cls.bases:
        if (ours := _defined(base)) is not None:
            yield from _lineage(ours)
        else:
            yield base


def _abstract(cls: _Class) -> bool:
    """Whether a method is declared abstract that nothing nearer defines."""
    settled: set[str] = set()
    for place in _lineage(cls):
        if (ancestor := _defined(place)) is None:
            continue
        settled |= ancestor.concrete
        if ancestor.abstract - settled:
            return True
    return False


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        yield from _texts(list(content.values()))
    elif isinstance(content, Iterable):
        for entry in content:
            yield from _texts(entry)
