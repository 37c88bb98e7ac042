"""Pictures in files of others: PNG (every pixel as it was), JPEG (about as it was), TIFF (depth)."""

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amf_lightning.demonstrations.importing.recorded import AGAIN
from amf_lightning.errors import InputError

_KINDS = ("PNG", "JPEG", "TIFF")
_MODES = {"L": (np.uint8, ()), "RGB": (np.uint8, (3,)), "RGBA": (np.uint8, (4,)), "I;16": (np.uint16, ())}
_MOST_PIXELS = 2**26


def decode(content: bytes, shape: tuple[int, ...] | None, what: str) -> NDArray[Any]:
    """A picture, [H, W, 3] uint8, or [H, W] where it has no colours.

    Args:
        content: the encoded bytes.
        shape: what it must have, [H, W, C] or [C, H, W] in their order; None if nobody says so. A picture of another
            size is refused before its pixels are unpacked.
        what: for messages.

    Raises:
        InputError: it is damaged, or another picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=_KINDS)
            width, height = picture.size
            if shape is not None and not _fits((height, width), shape):
                raise InputError(
                    f"{what} is a picture of {height}×{width}, but the dataset says "
                    f"{'×'.join(map(str, shape))}. {AGAIN}"
                )
            if width * height > _MOST_PIXELS:
                raise InputError(f"{what} has {width * height} pixels; at most {_MOST_PIXELS} are read. {AGAIN}")
            if picture.mode not in _MODES:
                picture = picture.convert("RGB")  # type: ignore[assignment]
            dtype, _ = _MODES[picture.mode]
            return np.asarray(picture, dtype)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{what} is no picture that can be read ({' '.join(str(error).split())[:100]}). {AGAIN}"
        ) from error


def encode(picture: NDArray[Any]) -> bytes:
    """A picture as PNG, the same bytes for the same pixels."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def is_picture(shape: tuple[int, ...], dtype: str) -> bool:
    """Whether PNG holds an entry of that shape and type: bytes, with three colours or none."""
    return dtype == "uint8" and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))


def _fits(size: tuple[int, int], shape: tuple[int, ...]) -> bool:
    """Whether a picture of that height and width has the shape, wherever its channels stand."""
    return size in (shape[:2], shape[-2:]) and len(shape) in (2, 3)
