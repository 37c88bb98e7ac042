"""Whose code an error comes from: the user's, or that of this package and of the libraries that it stands on."""

import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from amf_lightning.errors import AmfError, InputError, UserCodeError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_PACKAGE = Path(__file__).resolve().parent
_LONGEST = 300
"""Characters of an exception's text in a line; all of it is in the traceback."""
_CALLED = (
    re.compile(r"^([\w.]+)\(\) (?:got|takes|missing)\b"),
    re.compile(r"^Can't instantiate abstract class (\w+) "),
)
"""What Python says when a call does not fit what is called. The error is then raised where the call is."""


@dataclass(frozen=True)
class Place:
    """Where in code of the user an error arose."""

    name: str
    """What this package called there: `MyExpert.demonstrate`, or `the module my_expert`."""
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def blamed(error: BaseException) -> Place | None:
    """Where code of the user raised an error; None if none of its code is to blame.

    It is if it stands anywhere in the traceback: what it called, of this package or of a library, it called with
    something that cannot be. It also is if it was called as this package calls such code, and takes no such call.
    """
    if isinstance(error, SyntaxError) and error.filename and is_users(error.filename):
        return Place(f"the module {Path(error.filename).stem}", error.filename, error.lineno or 1)
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if is_users(frame.f_code.co_filename) and line is not None
    ]
    if not frames:
        return _badly_called(error)
    innermost, line = frames[-1]
    name = next(filter(None, (_method(frame) for frame, _ in frames)), None) or _name(frames[0][0])
    return Place(name, innermost.f_code.co_filename, line)


def told(error: BaseException) -> str:
    """What code of the user raised, in a line, with the place in it that led there.

    >>> told(ValueError("too large"))
    'ValueError: too large'
    """
    place = blamed(error)
    where = f" ({place})" if place else ""
    text = error.msg if isinstance(error, SyntaxError) else _shortened(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}".rstrip(": .") + where


def refusal(part: object, wrong: str, cure: str) -> AmfError:
    """The error that says what is wrong with what a part gave: of the user's code if the part's class is, else of its
    input.

    Args:
        part: what was asked; its class is what the message is about.
        wrong: what is wrong, without a full stop; the place of the class follows.
        cure: what to do, a sentence.
    """
    cls = type(part)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or "<"
    if not is_users(file):
        return InputError(f"{wrong}. {cure}")
    return UserCodeError(f"{wrong} ({file}, line {_line_of(cls)}). {cure}")


def ends_nothing(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Keeps `StopIteration` of the user's code within `function`: Lightning would take it for the end of the round."""

    @wraps(function)
    def call(*arguments: _P.args, **named: _P.kwargs) -> _T:
        try:
            return function(*arguments, **named)
        except StopIteration as error:
            raise RuntimeError("StopIteration where nothing is iterated over") from error

    return call


@cache
def is_users(filename: str) -> bool:
    """Whether code in that file is the user's: of no library that comes with Python or is installed for this package.

    A package that the user has installed is the user's: nothing here would ever call it unasked.
    """
    if filename.startswith("<"):  # made by Python itself: dataclasses, imports
        return False
    path = Path(filename).resolve()
    if path.is_relative_to(_PACKAGE):
        return False
    for folder in _folders("purelib", "platlib"):
        if path.is_relative_to(folder):
            return _installed_by_user(path.relative_to(folder).parts[0].removesuffix(".py"))
    if {"site-packages", "dist-packages"} & set(path.parts) or _installation_of(path):
        return False
    return not any(path.is_relative_to(folder) for folder in _folders("stdlib", "platstdlib"))


def _installation_of(path: Path) -> Path | None:
    """The folder, of those where modules are looked for, that `pip install --target` has put the file into."""
    places = [Path(entry).resolve() for entry in sys.path if entry]
    return next((place for place in places if path.is_relative_to(place) and any(place.glob("*.dist-info"))), None)


@cache
def _folders(*kinds: str) -> tuple[Path, ...]:
    return tuple(Path(sysconfig.get_path(kind)).resolve() for kind in kinds)


@cache
def _installed_by_user(module: str) -> bool:
    """Whether a module that is installed belongs to a distribution that this package does not need."""
    from importlib.metadata import packages_distributions  # read when there is an error: it takes a while

    owners = {_normal(name) for name in packages_distributions().get(module, ())}
    needed = _needed()
    return bool(owners and needed) and not owners & needed


@cache
def _needed() -> frozenset[str]:
    """Names of the distributions that this package stands on, extras and all; empty for a tree never installed."""
    from importlib.metadata import PackageNotFoundError, requires

    found: set[str] = set()
    waiting = ["amf-lightning"]
    while waiting:
        if (name := _normal(waiting.pop())) in found:
            continue
        try:
            # Optional requirements too: rather a library is taken for ours than one of ours for the user's.
            requirements = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [match[0] for line in requirements if (match := re.match(r"[\w.-]+", line))]
    return frozenset(found)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _method(frame: FrameType) -> str | None:
    """`Class.method`, by the class of the object that it was called on."""
    if "self" not in frame.f_code.co_varnames[:1] or "self" not in frame.f_locals:
        return None
    return f"{type(frame.f_locals['self']).__name__}.{frame.f_code.co_name}"


def _name(frame: FrameType) -> str:
    if frame.f_code.co_name == "<module>":
        return f"the module {frame.f_globals.get('__name__', frame.f_code.co_filename)}"
    return frame.f_code.co_qualname


def _badly_called(error: BaseException) -> Place | None:
    """The function or class of the user that Python says does not take the call that was made."""
    if not isinstance(error, TypeError):
        return None
    match = next(filter(None, (pattern.match(str(error)) for pattern in _CALLED)), None)
    return next(_defined(match[1]), None) if match else None


def _defined(name: str) -> Iterator[Place]:
    """The functions and classes of that qualified name in modules of the user."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not Path(file).is_absolute() or not is_users(file):
            continue
        value: Any = module
        for part in name.split("."):
            value = vars(value).get(part) if hasattr(value, "__dict__") else None
        if getattr(value, "__module__", None) == module.__name__:
            yield Place(name, file, _line_of(value))


def _line_of(defined: Any) -> int:
    """The line of a function or a class in its file; 1 if that is not known."""
    import inspect  # only where something is wrong

    try:
        return inspect.getsourcelines(defined)[1]
    except (OSError, TypeError):
        return 1


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(" ", 1)[0] + " …"
