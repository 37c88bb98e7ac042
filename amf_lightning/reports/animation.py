"""A moving picture of a few tasks, before and after fine-tuning, side by side."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amf_lightning.durable import write_durably
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.render import RenderingUnavailable, render_frames
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.task import Episode, TaskSuite

Frame = NDArray[np.uint8]
"""An image, [height, width, 3]."""

_SIZE = 128
_LABEL_HEIGHT = 16
_GAP = 4
_FRAMES = 50
_MILLISECONDS = 100
_COLOURS = 128
_FEWER_COLOURS = 64
_SAMPLED = 6
"""Frames whose colours make the palette."""


def write_animation(
    path: Path, suite: TaskSuite, before: Acting, after: Acting, tasks: Sequence[int], seed: int
) -> bool:
    """Writes a GIF with a row for each task, `before` on the left of `after`, from the same initial state.

    Args:
        path: the file.
        suite: its simulator makes the environments.
        before: who acts on the left.
        after: who acts on the right.
        tasks: indices of the tasks shown.
        seed: of the run; the initial state of a task is keyed by it.

    Returns:
        Whether it was written. Where nothing can render it warns once and writes nothing.
    """
    rows: list[list[Frame]] = []
    for index in tasks:
        task = suite.tasks[index]
        episode = Episode(task, keyed_seed(seed, Purpose.REPORT, index))
        every = max(1, task.horizon // _FRAMES)
        try:
            left, right = (render_frames(acting, suite, episode, every=every, size=_SIZE) for acting in (before, after))
        except RenderingUnavailable as reason:
            warnings.warn(f"{path.name} is left out, because nothing can be rendered here: {reason}", stacklevel=2)
            return False
        rows.append(side_by_side(left, right, f"{task.name} before", f"{task.name} after"))
    frames = [np.concatenate(row, axis=0) for row in zip(*_of_equal_length(rows), strict=True)]
    write_durably(path, _gif(frames, _COLOURS, _MILLISECONDS))
    return True


def thinned(gif: bytes) -> bytes:
    """A GIF of ours with every other of its frames and fewer colours: a third of the bytes, for event files."""
    from PIL import Image, ImageSequence

    with Image.open(BytesIO(gif)) as image:
        frames = [np.asarray(frame.convert("RGB"), dtype=np.uint8) for frame in ImageSequence.Iterator(image)]
    return _gif(frames[::2], _FEWER_COLOURS, 2 * _MILLISECONDS)


def _gif(frames: Sequence[Frame], colours: int, milliseconds: int) -> bytes:
    """A GIF in one palette for all frames: a palette for each, and dithering, take twice the bytes and five times as
    long."""
    from PIL import Image

    sample = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // _SAMPLED)]))
    palette = sample.quantize(colours, dither=Image.Dither.NONE)
    first, *others = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = BytesIO()
    first.save(buffer, format="gif", save_all=True, append_images=others, duration=milliseconds, loop=0)
    return buffer.getvalue()


def side_by_side(left: Sequence[Frame], right: Sequence[Frame], first: str, second: str) -> list[Frame]:
    """Frames of two episodes next to each other with their labels; the shorter one waits in its last frame."""
    pairs = zip(*_of_equal_length([left, right]), strict=True)
    return [np.concatenate([_labelled(one, first), _labelled(other, second)], axis=1) for one, other in pairs]


def _of_equal_length(episodes: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    longest = max(map(len, episodes))
    return [[*frames, *[frames[-1]] * (longest - len(frames))] for frames in episodes]


def _labelled(frame: Frame, text: str) -> Frame:
    """The frame below a strip that says what it is, with a gap around: [height + label + gap, width + gap, 3]."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = frame.shape[:2]
    image = Image.new("RGB", (width + _GAP, height + _LABEL_HEIGHT + _GAP), "white")
    image.paste(Image.fromarray(frame), (0, _LABEL_HEIGHT))
    ImageDraw.Draw(image).text((2, 1), text, fill="black", font=ImageFont.load_default(size=12))
    return np.asarray(image, dtype=np.uint8)
