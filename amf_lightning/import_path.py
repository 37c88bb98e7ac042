"""Classes of the user, by their import path."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from amf_lightning.errors import InputError
from amf_lightning.user_code import told as told


def imported(path: str, key: str) -> Callable[..., Any]:
    """The class or function `package.module.Name`.

    Args:
        path: its import path; a module of the user is found in the folder that the command is run in.
        key: of the configuration, for the message.

    Raises:
        InputError: no path, no such module, one that fails, nothing of that name in it, or it cannot be called.

    >>> imported("math.hypot", "environment")(3, 4)
    5.0
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
    if not callable(value):
        raise InputError(f"{key} is '{path}', which is no class: it is a {type(value).__name__}.")
    factory: Callable[..., Any] = value
    return factory
