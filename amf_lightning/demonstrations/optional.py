"""Libraries that only some formats need, imported when they are."""

from importlib import import_module
from typing import Any

from amf_lightning.errors import InputError


def required(module: str, what: str, extra: str = "formats") -> Any:
    """A module that may not be installed.

    Args:
        module: its name.
        what: what needs it, for the message.
        extra: the extra of this package that brings it.

    Raises:
        InputError: it is not installed; says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{what} needs {module.partition('.')[0]}, which is not installed ({error}). Install it with: "
            f"pip install 'amf-lightning[{extra}]'"
        ) from error
