"""Cameras that LeRobot keeps as video files, each with many episodes one after another. What they show is lossy."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from amf_lightning.demonstrations.importing.lerobot_meta import Dataset, EpisodeRow
from amf_lightning.demonstrations.importing.video import Video


class Videos:
    """The video files of a dataset, of which one a camera is open.

    Args:
        dataset: whose cameras.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._open: dict[str, tuple[Path, Video]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _, video in self._open.values():
            video.close()

    def take(self, camera: str, row: EpisodeRow) -> NDArray[Any]:
        """The pictures of an episode, [T, H, W, 3] uint8.

        Raises:
            InputError: the video is damaged, or ends before the episode.
        """
        path = self._dataset.file(self._dataset.video_path, row, camera)
        held = self._open.get(camera)
        if held is None or held[0] != path:
            if held is not None:
                held[1].close()
            self._open[camera] = (path, Video(path))
        start = row.number(f"videos/{camera}/from_timestamp")
        return self._open[camera][1].frames(
            start, row.length, self._dataset.fps, self._dataset.features[camera].shape, f"{path}, episode {row.index}"
        )
