"""A dataset as LeRobot 3.0 reads it: frames in parquet, a row group an episode, cameras as PNG and never as video.

A file of frames and the file that describes its episodes are finished together, so a call that was cut off goes on
after the last pair. What LeRobot has no place for stands in two columns of `meta/episodes`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from amf_lightning.demonstrations.exporting.lerobot_statistics import of_pictures, of_rows, together
from amf_lightning.demonstrations.exporting.lerobot_tables import IMAGE, columns_of, table_of, tasks_table
from amf_lightning.demonstrations.facts import FACTS, facts_of, has_after_last
from amf_lightning.demonstrations.importing.lerobot import ACTION, REWARD, SUCCESS
from amf_lightning.demonstrations.importing.lerobot_meta import AFTER_LAST, EPISODES, INFO, LIBRARY, TASKS, VERSION
from amf_lightning.demonstrations.optional import required
from amf_lightning.durable import sync_tree
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.trajectory import Trajectory

FILE_BYTES = 100 * 2**20
"""Bytes of the frames in a file before they are compressed, after which the next file begins."""
FILE_EPISODES = 200
"""Episodes in a file, likewise: their descriptions are in memory until it is finished, and its list of row groups
whenever it is read."""
_FILES_A_CHUNK = 1000
_FEATURES = b"amf_features"
"""Note of the files that describe episodes: the features, as info.json will have them."""
_INDICES = {
    "timestamp": Spec((1,), "float32"),
    **{name: Spec((1,), "int64") for name in ("frame_index", "episode_index", "index", "task_index")},
}


def done(folder: Path) -> int:
    """How many episodes an export that was cut off has finished; what is not finished is removed."""
    parquet = required("pyarrow.parquet", LIBRARY)
    return sum(parquet.read_metadata(path).num_rows for path in _described(folder))


def write(folder: Path, episodes: Iterable[Trajectory], first: int = 0, fps: float = 10.0) -> None:
    """Writes episodes, numbered from `first` on, and then what describes all of them.

    Args:
        folder: made if it is not there.
        episodes: one after another.
        first: number of the first one.
        fps: frames a second.

    Raises:
        InputError: pyarrow is not installed, or two entries would have one name.
    """
    writer = _Writer(folder, fps, first)
    for episode in episodes:
        writer.add(episode)
    writer.finish()


class _Writer:
    def __init__(self, folder: Path, fps: float, first: int) -> None:
        self._parquet = required("pyarrow.parquet", LIBRARY)
        self._folder, self._fps, self._number = folder, fps, first
        held = list(_rows(folder, ["tasks", "length"]))
        self._tasks = list(dict.fromkeys(row["tasks"][0] for row in held))
        self._frames = sum(row["length"] for row in held)
        self._file = len(_described(folder))
        self._open: Any = None
        self._bytes, self._episodes = 0, list[dict[str, Any]]()
        self._features: dict[str, Any] = {}

    def add(self, episode: Trajectory) -> None:
        """Writes the frames of an episode."""
        columns, names = columns_of(episode)
        if episode.task not in self._tasks:
            self._tasks.append(episode.task)
        steps, task = episode.length, self._tasks.index(episode.task)
        values: dict[str, NDArray[Any]] = {
            **columns,
            "timestamp": (np.arange(steps) / self._fps).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, self._number),
            "index": np.arange(self._frames, self._frames + steps),
            "task_index": np.full(steps, task),
        }
        self._features = self._features or _features(columns, names, episode)
        table = table_of(values, self._features)
        if self._open is None:
            path = self._path("data", ".parquet.partial")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open = self._parquet.ParquetWriter(path, table.schema, compression="snappy")
        self._open.write_table(table, row_group_size=steps)
        self._episodes.append(self._description(episode, names, values))
        self._number, self._frames, self._bytes = self._number + 1, self._frames + steps, self._bytes + table.nbytes
        if self._bytes >= FILE_BYTES or len(self._episodes) >= FILE_EPISODES:
            self._close()

    def finish(self) -> None:
        """Writes what describes the whole dataset."""
        if self._open is not None:
            self._close()
        # A call that was cut off after the last episode makes none anew, and finds them where it had described it.
        described = self._parquet.read_schema(_described(self._folder)[-1]).metadata
        features = json.loads(described[_FEATURES])
        statistics = {
            feature: {name: value.tolist() for name, value in self._together(feature).items()} for feature in features
        }
        info = {
            "codebase_version": VERSION,
            "fps": int(self._fps) if self._fps == int(self._fps) else self._fps,
            "features": features,
            "total_episodes": self._number,
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": _FILES_A_CHUNK,
            "data_files_size_in_mb": FILE_BYTES >> 20,
            "video_files_size_in_mb": 200,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": None,
            "robot_type": None,
            "splits": {"train": f"0:{self._number}"},
        }
        self._parquet.write_table(tasks_table(self._tasks), self._folder / TASKS)
        (self._folder / "meta/stats.json").write_text(json.dumps(statistics, indent=4))
        (self._folder / INFO).write_text(json.dumps(info, indent=4))

    def _together(self, feature: str) -> Mapping[str, NDArray[Any]]:
        """Statistics of a feature over all episodes."""
        prefix = f"stats/{feature}/"
        names = [
            f"{prefix}{name}" for name in ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
        ]
        return together(
            {name.removeprefix(prefix): np.asarray(value) for name, value in row.items()}
            for row in _rows(self._folder, names)
        )

    def _description(
        self, episode: Trajectory, names: Mapping[str, str], values: Mapping[str, NDArray[Any]]
    ) -> dict[str, Any]:
        chunk, file = divmod(self._file, _FILES_A_CHUNK)
        last = {name: entry[-1:].copy() for name, entry in episode.observations.items()}
        row = {
            "episode_index": self._number,
            "tasks": [episode.task],
            "length": episode.length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self._frames,
            "dataset_to_index": self._frames + episode.length,
            "meta/episodes/chunk_index": chunk,
            "meta/episodes/file_index": file,
            FACTS: facts_of(episode, names),
            AFTER_LAST: save(last) if has_after_last(episode) else b"",
        }
        for feature, value in values.items():
            found = of_pictures(value) if self._features[feature]["dtype"] == IMAGE else of_rows(value)
            row |= {f"stats/{feature}/{name}": number.tolist() for name, number in found.items()}
        return row

    def _close(self) -> None:
        """Finishes a file of frames, then the one that describes its episodes, which counts it."""
        pyarrow = required("pyarrow", LIBRARY)
        self._open.close()
        frames, described = self._path("data", ".parquet"), self._path(EPISODES, ".parquet")
        described.parent.mkdir(parents=True, exist_ok=True)
        partial = frames.with_name(f"{frames.name}.partial")
        sync_tree(partial)
        partial.replace(frames)
        partial = described.with_name(f"{described.name}.partial")
        table = pyarrow.Table.from_pylist(self._episodes)
        self._parquet.write_table(table.replace_schema_metadata({_FEATURES: json.dumps(self._features)}), partial)
        sync_tree(partial)
        partial.replace(described)
        self._open, self._bytes, self._episodes, self._file = None, 0, [], self._file + 1

    def _path(self, kind: str, suffix: str) -> Path:
        chunk, file = divmod(self._file, _FILES_A_CHUNK)
        return self._folder / kind / f"chunk-{chunk:03d}" / f"file-{file:03d}{suffix}"


def _described(folder: Path) -> list[Path]:
    """The files that describe episodes whose frames are whole, in order."""
    return sorted((folder / EPISODES).glob("*/*.parquet"))


def _rows(folder: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    parquet = required("pyarrow.parquet", LIBRARY)
    for path in _described(folder):
        for batch in parquet.ParquetFile(path).iter_batches(64, columns=columns):
            yield from batch.to_pylist()


def _features(columns: Mapping[str, NDArray[Any]], names: Mapping[str, str], episode: Trajectory) -> dict[str, Any]:
    """The features as info.json describes them."""
    features: dict[str, Any] = {}
    for name, array in columns.items():
        spec = Spec(array.shape[1:] or (1,), array.dtype.name)
        is_image = name in names and len(spec.shape) == 3 and spec.shape[2] == 3 and spec.is_image
        features[name] = {
            "dtype": IMAGE if is_image else spec.dtype,
            "shape": list(spec.shape),
            "names": ["height", "width", "channels"] if is_image else None,
        }
    if ACTION not in features or {REWARD, SUCCESS} & set(names):
        raise InputError(f"Entry '{REWARD}' or '{SUCCESS}' cannot be a part of the observation in LeRobot's format.")
    return features | {name: {"dtype": s.dtype, "shape": [1], "names": None} for name, s in _INDICES.items()}
