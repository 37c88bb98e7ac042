"""Columns of arrow as arrays of numpy, whatever lists they are made of."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.importing.recorded import AGAIN
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError


def numbers(column: Any, shape: tuple[int, ...], what: str) -> NDArray[Any]:
    """A column of lists of lists of … numbers, [rows, *shape].

    Raises:
        InputError: it holds something else, or a row of another shape.
    """
    pyarrow = required("pyarrow", what)
    values, rows = _one(column), len(column)
    while True:
        if values.null_count:
            raise InputError(f"{what} has a row without a value. {AGAIN}")
        if isinstance(values, pyarrow.ExtensionArray):
            values = values.storage
        elif pyarrow.types.is_fixed_size_list(values.type) or _is_list(pyarrow, values.type):
            if _is_list(pyarrow, values.type) and len(set(np.diff(values.offsets.to_numpy()).tolist())) > 1:
                raise InputError(f"{what} has rows of different lengths. {AGAIN}")
            values = values.flatten()
        else:
            break
    if not (pyarrow.types.is_primitive(values.type) and not pyarrow.types.is_temporal(values.type)):
        raise InputError(f"{what} holds {str(values.type)[:60]}, no numbers. {AGAIN}")
    flat: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if flat.size != rows * math.prod(shape):
        raise InputError(
            f"{what} has {flat.size / max(1, rows):g} numbers a row, but the dataset says shape {list(shape)}. {AGAIN}"
        )
    return flat.reshape(rows, *shape)


def blobs(column: Any, what: str) -> list[bytes]:
    """A column of bytes.

    Raises:
        InputError: it holds something else, or a row without.
    """
    pyarrow = required("pyarrow", what)
    kind = column.type
    if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise InputError(f"{what} holds {str(kind)[:60]}, no encoded pictures. {AGAIN}")
    if column.null_count:
        raise InputError(f"{what} has a row without a picture. {AGAIN}")
    found: list[bytes] = column.to_pylist()
    return found


@contextmanager
def damage(what: str) -> Iterator[None]:
    """Turns what arrow says of damaged files into a refusal."""
    pyarrow = required("pyarrow", what)
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{what} is missing. {AGAIN}") from error
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise InputError(f"{what} is truncated or damaged ({' '.join(str(error).split())[:120]}). {AGAIN}") from error


def _one(column: Any) -> Any:
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _is_list(pyarrow: Any, kind: Any) -> bool:
    return bool(pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind))
