"""Tensors of a safetensors file, used where they lie: the file is mapped into memory and read as it is needed.

The layout is that of https://huggingface.co/docs/safetensors: 8 bytes with the length of the header, the header as
JSON, then the tensors one after the other without a gap. A file may come from anybody, so every number in its header is
checked against its size before it is used.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_HEADER = 2**20
"""Bytes of the longest header that is parsed; that of a demonstration has some hundred."""

_PREFIX = 8
"""Bytes of the number that a file starts with, the length of the header."""

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"{kind.upper()}{8 * size}": np.dtype(f"<{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""Types of numbers by their names in a header: those of the format that numpy has."""

Array = NDArray[Any]


def map_tensors(path: Path, file: BinaryIO) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors by name, as views of the mapped file, and the metadata.

    Writing to an array changes neither the file nor what others read from it. The arrays stay as they are when another
    file takes the name; but a file that is shortened in place takes the process down at the next look at them.

    Args:
        path: of the file.
        file: the same, open for reading.

    Raises:
        ValueError: the header does not describe what follows it, or another file took the name meanwhile.
        OSError: it cannot be read.
    """
    places, start, size, metadata = _layout(file)
    content = _mapped(path, size)
    # The map is made by name: make sure that it is of the file that was opened, whose hash the caller may have checked.
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise ValueError("another file took its name while it was read")
    return {name: _view(content[start:], *place) for name, place in places.items()}, metadata


def read_tensors(file: BinaryIO) -> tuple[dict[str, Array], dict[str, Any]]:
    """What `map_tensors` gives, read into memory, without torch.

    Raises:
        ValueError: the header does not describe what follows it.
        OSError: it cannot be read.
    """
    places, start, size, metadata = _layout(file)
    file.seek(start)
    content = np.frombuffer(bytearray(file.read(size - start)), np.uint8)
    if len(content) != size - start:
        raise ValueError("it became shorter while it was read")
    return {name: _view(content, *place) for name, place in places.items()}, metadata


def read_first(file: BinaryIO, names: Callable[[str], bool]) -> dict[str, Array]:
    """The first row of each tensor of these names, without the others, and without torch.

    Raises:
        ValueError: the header does not describe what follows it, or a tensor has no row.
        OSError: it cannot be read.
    """
    places, start, _, _ = _layout(file)
    rows = {}
    for name, (dtype, shape, begin, stop) in places.items():
        if names(name):
            if not shape or not shape[0]:
                raise ValueError(f"tensor '{name}' has no row")
            file.seek(start + begin)
            rows[name] = np.frombuffer(file.read((stop - begin) // shape[0]), dtype).reshape(shape[1:])
    return rows


def _layout(file: BinaryIO) -> tuple[dict[str, Any], int, int, dict[str, Any]]:
    """Where each tensor lies, where they start, the size of the file, and the metadata."""
    size = os.fstat(file.fileno()).st_size
    header, start = _header(file, size)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("its metadata are not a table")
    places = {name: _place(name, entry) for name, entry in header.items()}
    end = 0
    for _, _, begin, stop in sorted(places.values(), key=lambda place: place[2:]):
        if begin != end:
            raise ValueError(f"its tensors overlap or leave a gap at byte {min(begin, end)}")
        end = stop
    if start + end != size:
        raise ValueError(f"its header describes {start + end} bytes, but it has {size}")
    return places, start, size, metadata


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors start."""
    file.seek(0)
    prefix = file.read(_PREFIX)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _PREFIX or length > size - _PREFIX:
        raise ValueError(f"its {size} bytes are not a whole header")
    if length > MAX_HEADER:
        raise ValueError(f"its header has {length} bytes; {MAX_HEADER} are read at most")
    try:
        header = json.loads(file.read(length))
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header is not a table of tensors")
    return header, _PREFIX + length


def _place(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Type, shape, first byte and the byte after the last one, counted from where the tensors start."""
    try:
        dtype, shape, (begin, stop) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"tensor '{name}' is described by {str(entry)[:200]}") from error
    # By `type`: True is an instance of int.
    if any(type(number) is not int or number not in range(2**48) for number in (*shape, begin, stop)):
        raise ValueError(f"tensor '{name}' has a length or an offset that is no natural number, or too large")
    if stop - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor '{name}' has {stop - begin} bytes, but shape {list(shape)} of {dtype}")
    return dtype, shape, begin, stop


def _mapped(path: Path, size: int) -> NDArray[np.uint8]:
    """The bytes of a file, copied on write.

    By torch, because a map of Python or numpy keeps a descriptor of the file open, and a process may have about a
    thousand. torch is imported here so that those who only write or list demonstrations need not wait for it.
    """
    import torch

    try:
        content: NDArray[np.uint8] = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    except RuntimeError as error:
        raise ValueError(f"it cannot be mapped into memory ({error})") from error
    return content


def _view(content: NDArray[np.uint8], dtype: np.dtype[Any], shape: tuple[int, ...], begin: int, stop: int) -> Array:
    array = content[begin:stop].view(dtype).reshape(shape)
    return (
        array if array.flags.aligned else array.copy()
    )  # torch expects aligned numbers; safetensors writes such files
