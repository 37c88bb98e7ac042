"""Classes of the user, by their import path."""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, get_origin, get_type_hints

from amf_lightning.errors import InputError
from amf_lightning.user_code import told as told


def imported(path: str, key: str, fits: Callable[[type], bool], wanted: str) -> Callable[..., Any]:
    """The class `package.module.Name`, or the function that makes such objects, if it is what the key asks for.

    It is looked at before anything calls it: a configuration may come from somebody else. Importing its module does run
    that module.

    Args:
        path: its import path; a module of the user is found in the folder that the command is run in.
        key: of the configuration, for the message.
        fits: whether a class is of the kind that the key asks for.
        wanted: what such a class is or has, as the end of a message: `is no gymnasium.Env`.

    Raises:
        InputError: no path, no such module, one that fails, nothing of that name in it, or it is no such class, and no
            function of Python whose return type is one.

    >>> imported("decimal.Decimal", "number", lambda kind: hasattr(kind, "sqrt"), "has no square root")(4).sqrt()
    Decimal('2')
    """
    module, _, name = path.rpartition(".")
    if not module or not name or module.startswith("."):
        raise InputError(
            f"{key} is '{path}'; give an import path, module.Class, of a module in this folder or installed."
        )
    try:
        holder = import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{key} is '{path}', but there is no module '{error.name}'. Run the command in the folder that "
            "the module is in, or install it."
        ) from error
    except Exception as error:
        raise InputError(f"{key} is '{path}', but the module '{module}' cannot be imported: {told(error)}.") from error
    value = getattr(holder, name, None)
    if value is None:
        raise InputError(f"{key} is '{path}', but the module '{module}' has no '{name}'.")
    made = value if inspect.isclass(value) else _returned(value)
    if made is None:
        what = "a function whose return type is not a class" if inspect.isfunction(value) else f"a {_kind(value)}"
        raise InputError(
            f"{key} is '{path}', which is no class: it is {what}. Give a class, or a function that says by the type "
            "of what it returns that it makes one: def make() -> MyClass."
        )
    if not fits(made):
        raise InputError(f"{key} is '{path}', which {wanted}{'' if made is value else ' (what it returns)'}.")
    factory: Callable[..., Any] = value
    return factory


def attribute(path: str) -> Any:
    """What is at an import path whose module is imported already, also within a class; None if there is nothing."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if (found := sys.modules.get(".".join(parts[:end]))) is not None:
            for name in parts[end:]:
                found = getattr(found, name, None)
            return found
    return None


def _returned(value: Any) -> type | None:
    """The class that a function says it returns; None if it does not, or is no function of Python."""
    if not inspect.isfunction(value):
        return None
    try:
        annotation = get_type_hints(value).get("return")
    except Exception:  # a name that is not there
        return None
    kind = get_origin(annotation) or annotation
    return kind if inspect.isclass(kind) and kind is not type(None) else None


def _kind(value: Any) -> str:
    return "function that is built in" if inspect.isroutine(value) else type(value).__name__
