"""Classes of the user, by their import path."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from amf_lightning.errors import InputError


def imported(path: str, key: str) -> Callable[..., Any]:
    """The class or function `package.module.Name`.

    Args:
        path: its import path; a module of the user is found in the folder that the command is run in.
        key: of the configuration, for the message.

    Raises:
        InputError: no such module, nothing of that name in it, or it cannot be called.

    >>> imported("math.hypot", "environment")(3, 4)
    5.0
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{key} is '{path}', but there is no module '{error.name}'. Run the command in the folder that "
            "the module is in, or install it."
        ) from error
    except AttributeError as error:
        raise InputError(f"{key} is '{path}', but the module '{module}' has no '{name}'.") from error
    if not callable(found):
        raise InputError(f"{key} is '{path}', which is no class: it is a {type(found).__name__}.")
    made: Callable[..., Any] = found
    return made
