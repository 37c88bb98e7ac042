"""Gymnasium's spaces as Minari writes them down, as far as demonstrations have such entries."""

import json
from dataclasses import dataclass
from typing import Any

from amf_lightning.demonstrations.importing.described import shape_of
from amf_lightning.demonstrations.importing.recorded import AGAIN
from amf_lightning.errors import InputError

_SMALLEST_PICTURE = 32
"""Pixels along a side, below which Minari encodes no picture."""


@dataclass(frozen=True)
class Box:
    """Numbers of one shape and type."""

    shape: tuple[int, ...]
    is_picture: bool
    """Whether Minari takes it for a picture: two or three dimensions of bytes from 0 to 255, large enough."""


def boxes(text: Any, where: str) -> dict[str, Box]:
    """The entries of a space by name, `image/front` for one in another; a single one has no name.

    Raises:
        InputError: it is none, or has entries that are no numbers.
    """
    if not isinstance(text, str):
        raise InputError(f"{where} is not said. {AGAIN}")
    try:
        return _boxes(json.loads(text), "", where)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON ({str(error)[:80]}). {AGAIN}") from error


def _boxes(space: Any, name: str, where: str) -> dict[str, Box]:
    kind = space.get("type") if isinstance(space, dict) else None
    if kind == "Dict" and isinstance(subspaces := space.get("subspaces"), dict):
        return {
            each: box
            for key, subspace in subspaces.items()
            for each, box in _boxes(subspace, f"{name}/{key}" if name else str(key), where).items()
        }
    if kind == "Box":
        shape = shape_of(space.get("shape"), where)
        large = len(shape) in (2, 3) and min(shape[:2]) >= _SMALLEST_PICTURE
        bounds = large and space.get("dtype") == "uint8"
        return {
            name: Box(shape, bounds and _all(space.get("low"), 0) and _all(space.get("high"), 255)),
        }
    if kind == "Discrete":
        return {name: Box((), False)}
    raise InputError(
        f"{where}: entry '{name}' is a space '{str(kind)[:40]}', which is not read; Dict and Box are. {AGAIN}"
    )


def _all(bounds: Any, value: int) -> bool:
    """Whether all numbers in nested lists are the same."""
    return all(_all(each, value) for each in bounds) if isinstance(bounds, list) else bounds == value
