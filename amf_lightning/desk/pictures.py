"""What a task looks like at its start: the first frame of an earlier recording of it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.description import SuiteDescription

_LONGEST = 1024
"""Pixels of the longer side of what is shown."""


def has_pictures(suite: SuiteDescription) -> bool:
    """Whether there is anything to be seen in an observation."""
    return any(spec.is_image for spec in suite.observation.values())


def start_picture(run: Path, demonstration: int) -> bytes | None:
    """The pictures in the first observation of a demonstration, side by side, as PNG; None if there is none.

    Raises:
        InputError: its file is missing or damaged.
    """
    entries = DemonstrationStore(RunFolder(run).demonstrations).read_start(demonstration)
    found = [pixels for entry in entries.values() if (pixels := _pixels(entry)) is not None]
    return _png(found) if found else None


def _pixels(entry: NDArray[Any]) -> NDArray[np.uint8] | None:
    """A picture as [H, W, 3], wherever its channels stand; None if it is none."""
    if entry.dtype != np.uint8 or entry.ndim not in (2, 3):
        return None
    if entry.ndim == 2:
        entry = entry[:, :, None]
    elif entry.shape[2] not in (1, 3, 4):
        entry = entry.transpose(1, 2, 0)
    if entry.shape[2] not in (1, 3, 4):
        return None
    colours = entry[:, :, :3]
    return np.broadcast_to(colours, (*colours.shape[:2], 3))


def _png(pictures: list[NDArray[np.uint8]]) -> bytes:
    from PIL import Image  # a tenth of a second that only who looks waits for

    drawn = [Image.fromarray(np.ascontiguousarray(each)) for each in pictures]
    height = max(each.height for each in drawn)
    scaled = [each.resize((max(1, round(each.width * height / each.height)), height)) for each in drawn]
    whole = Image.new("RGB", (sum(each.width for each in scaled), height))
    left = 0
    for each in scaled:
        whole.paste(each, (left, 0))
        left += each.width
    whole.thumbnail((_LONGEST, _LONGEST))
    content = io.BytesIO()
    whole.save(content, "PNG")
    return content.getvalue()


def check_number(text: str) -> int:
    """The number that a path names.

    Raises:
        InputError: it is none.
    """
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"There is no demonstration '{text[:20]}'.")
    return int(text)
