"""What may be said of whether an episode succeeded."""

from typing import Any

import numpy as np

from amf_lightning.errors import UserCodeError


def said_success(value: Any, where: str, name: str) -> bool:
    """True or false, or a number that is not NaN (true unless it is 0), alone or in an array of one.

    Args:
        value: what code of the user says.
        where: task, seed and step, for the message.
        name: what said it, for the message.

    Raises:
        UserCodeError: it is anything else: a text, nothing, NaN, several values.

    >>> said_success(np.array([1.0]), "here", "it"), said_success(False, "here", "it")
    (True, False)
    """
    if value is True or value is False:
        return value
    entries = np.asarray(value)
    if entries.size != 1 or entries.dtype.kind not in "biuf" or bool(entries.flat[0] != entries.flat[0]):
        raise UserCodeError(f"{where}: {name} is {value!r}; it must be true or false.")
    return bool(entries.flat[0])
