"""JSON files in which a dataset of others describes itself, read within bounds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amf_lightning.demonstrations.importing.recorded import AGAIN
from amf_lightning.errors import InputError
from amf_lightning.reading import read_json_mapping

_LONGEST = 64 * 2**20
"""Bytes. Minari writes the bounds of every pixel of a picture."""


def read_description(path: Path) -> dict[str, Any]:
    """The mapping in such a file.

    Raises:
        InputError: it is missing, too long, or holds something else.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing. {AGAIN}") from error
    if size > _LONGEST:
        raise InputError(f"{path} has {size} bytes; at most {_LONGEST} are read. {AGAIN}")
    return read_json_mapping(path, AGAIN)


def text_of(content: Mapping[str, Any], key: str, where: Path | str) -> str:
    """A text that a description must hold.

    Raises:
        InputError: it does not.
    """
    if not isinstance(value := content.get(key), str) or not value:
        raise InputError(f"{where}: '{key}' is {value!r:.60}, not a text. {AGAIN}")
    return value


def shape_of(value: Any, where: str) -> tuple[int, ...]:
    """A shape that a description says.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, list) or any(type(length) is not int or not 0 < length < 2**31 for length in value):
        raise InputError(f"{where} has the shape {str(value)[:60]}, which is none. {AGAIN}")
    return tuple(value)
