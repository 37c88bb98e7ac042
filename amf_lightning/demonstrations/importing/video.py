"""Video files, decoded by PyAV (FFmpeg)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.importing.recorded import AGAIN, check_size
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError


class Video:
    """A file that is open.

    Args:
        path: of the file.

    Raises:
        InputError: it is missing, no video, or PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._av = required("av", "A video", "video")
        self._path = path
        try:
            # Of playlists and the like, which name other files, none is read.
            self._container = self._av.open(str(path), options={"protocol_whitelist": "file"})
            if not {"mp4", "matroska", "avi"} & set(self._container.format.name.split(",")):
                self.close()
                raise InputError(
                    f"{path} is a file of the kind '{self._container.format.name}', no video. Give an MP4."
                )
            [self._stream, *_] = self._container.streams.video
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing. {AGAIN}") from error
        except (self._av.FFmpegError, ValueError) as error:
            raise InputError(f"{path} is no video that can be read ({str(error)[:80]}). {AGAIN}") from error

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    @property
    def fps(self) -> float:
        """Frames a second."""
        return float(self._stream.average_rate or 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self._stream.height), int(self._stream.width)

    def frames(self, start: float, count: int, fps: float, shape: tuple[int, ...] | None, what: str) -> NDArray[Any]:
        """Consecutive frames, [count, H, W, 3] uint8.

        Args:
            start: time of the first, s.
            count: how many.
            fps: frames a second that they must have.
            shape: of a picture as it is announced; None if nobody says so.
            what: for messages.

        Raises:
            InputError: they are not there, or of another rate or size.
        """
        height, width = self.size
        if shape is not None and (height, width) not in (shape[:2], shape[-2:]):
            raise InputError(f"{what} has frames of {height}×{width}, but the dataset says {list(shape)}. {AGAIN}")
        check_size((count, height, width, 3), 1, what)
        pictures = np.empty((count, height, width, 3), np.uint8)
        taken = 0
        try:
            for time, frame in self._from(start - 0.5 / fps):
                if abs(time - (start + taken / fps)) >= 0.5 / fps:
                    raise InputError(f"{what}: frame {taken} is not where {fps:g} frames a second put it. {AGAIN}")
                pictures[taken] = frame.to_ndarray(format="rgb24")
                taken += 1
                if taken == count:
                    return pictures
        except self._av.FFmpegError as error:
            raise InputError(f"{what} is truncated or damaged ({str(error)[:80]}). {AGAIN}") from error
        raise InputError(f"{what} has {taken} of {count} frames. {AGAIN}")

    def _from(self, start: float) -> Iterator[tuple[float, Any]]:
        """Time in s and picture of every frame that is not before `start`."""
        base = self._stream.time_base
        self._container.seek(max(0, int(start / base)), stream=self._stream)
        for frame in self._container.decode(self._stream):
            if frame.pts is not None and (time := float(frame.pts * base)) >= start:
                yield time, frame

    def count(self) -> int:
        """Frames of the whole file; 0 if it does not say."""
        return int(self._stream.frames)
