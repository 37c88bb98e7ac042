"""What a LeRobot dataset says of itself: `meta/info.json`, `meta/tasks.parquet` and `meta/episodes/`."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from amf_lightning.demonstrations.facts import FACTS
from amf_lightning.demonstrations.importing.columns import damage
from amf_lightning.demonstrations.importing.described import read_description, shape_of, text_of
from amf_lightning.demonstrations.importing.recorded import AGAIN, check_size
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError

VERSION = "v3.0"
INFO, TASKS, EPISODES = "meta/info.json", "meta/tasks.parquet", "meta/episodes"
AFTER_LAST = "amf_after_last"
"""Column of what is seen after the last action, as a safetensors file of its own; ours."""
LIBRARY = "LeRobot's format"
_FIELD = re.compile(r"\{(chunk_index|file_index|video_key)(?::0(\d)d)?\}")
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Feature:
    """A column of the frames, as info.json describes it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_image(self) -> bool:
        """Whether it is a camera in parquet."""
        return self.dtype == "image"

    @property
    def is_video(self) -> bool:
        """Whether it is a camera in video files."""
        return self.dtype == "video"

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers or pictures, not words."""
        return self.dtype not in ("string", "language")

    @property
    def nbytes(self) -> int:
        """Bytes of a row in memory."""
        itemsize = 1 if self.is_image or self.is_video else np.dtype(self.dtype).itemsize
        return math.prod(self.shape) * itemsize


@dataclass(frozen=True)
class EpisodeRow:
    """An episode, as `meta/episodes` describes it."""

    index: int
    length: int
    values: Mapping[str, Any]
    """Every column that says where its frames are."""
    facts: str | None
    after_last: bytes | None
    path: Path
    """The file that describes it."""

    def number(self, column: str) -> float:
        """A number in a column.

        Raises:
            InputError: there is none.
        """
        value = self.values.get(column)
        if not is_number(value) or value < 0:
            raise InputError(f"{self.path}, episode {self.index}: '{column}' is {value!r:.40}, no number. {AGAIN}")
        return float(value)


@dataclass(frozen=True)
class Dataset:
    """A dataset whose descriptions were read."""

    root: Path
    fps: float
    episodes: int
    frames: int
    features: Mapping[str, Feature]
    tasks: Mapping[int, str]
    data_path: str
    video_path: str

    def file(self, template: str, row: EpisodeRow, video: str | None = None) -> Path:
        """Where the frames of an episode lie."""
        kind = f"videos/{video}" if video is not None else "data"
        fields = {name: int(row.number(f"{kind}/{name}")) for name in ("chunk_index", "file_index")}
        named = _FIELD.sub(
            lambda match: str(video) if match[1] == "video_key" else f"{fields[match[1]]:0{match[2] or 1}d}", template
        )
        return self.root / _inside(named, f"{self.root / INFO}: the path '{template[:80]}'")

    def rows(self) -> Iterator[EpisodeRow]:
        """The episodes in order, of which never more than a batch is in memory.

        Raises:
            InputError: descriptions are missing, damaged, or not those of the episodes that info.json announces.
        """
        parquet = required("pyarrow.parquet", LIBRARY)
        expected = 0
        files = sorted((self.root / EPISODES).glob("*/*.parquet"))
        for path in files:
            with damage(str(path)):
                file = parquet.ParquetFile(path)
                columns = [name for name in file.schema_arrow.names if not name.startswith(("stats/", "tasks"))]
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                    for values in batch.to_pylist():
                        yield _row(values, expected, path)
                        expected += 1
        if expected != self.episodes:
            raise InputError(
                f"{self.root}: {EPISODES} describes {expected} episodes, but info.json {self.episodes}. A "
                f"recording that "
                "was cut off before it was finished looks like that: run LeRobot's finalize(), or record it again."
            )


def read_dataset(root: Path) -> Dataset:
    """The descriptions of a dataset.

    Raises:
        InputError: they are damaged, of another version, or lead out of the folder.
    """
    path = root / INFO
    info = read_description(path)
    version = text_of(info, "codebase_version", path)
    if re.fullmatch(r"v3\.\d+", version) is None:
        older = " Convert it first: python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=…" * (version < "v3")
        raise InputError(f"{root} is a LeRobot dataset {version[:20]}; v3.0 is read.{older or f' {AGAIN}'}")
    fps = info.get("fps")
    if not is_number(fps) or not 0 < fps < 1e6:
        raise InputError(f"{path}: 'fps' is {fps!r:.40}, not a number of frames a second. {AGAIN}")
    episodes, frames = (_total(info, key, path) for key in ("total_episodes", "total_frames"))
    features = _features(info.get("features"), path)
    return Dataset(
        root=root,
        fps=float(fps),
        episodes=episodes,
        frames=frames,
        features=features,
        tasks=_tasks(root / TASKS),
        data_path=text_of(info, "data_path", path),
        video_path=text_of(info, "video_path", path) if any(each.is_video for each in features.values()) else "",
    )


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number, and not a truth value."""
    return type(value) in (int, float) and math.isfinite(value)


def _total(info: Mapping[str, Any], key: str, path: Path) -> int:
    value = info.get(key)
    if type(value) is not int or value < 1:
        raise InputError(f"{path}: '{key}' is {value!r:.40}; there is nothing to read. {AGAIN}")
    return value


def _features(content: Any, path: Path) -> dict[str, Feature]:
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} describes no features. {AGAIN}")
    features = {}
    for name, entry in content.items():
        where = f"{path}: feature '{name[:80]}'"
        if not isinstance(entry, dict) or not isinstance(dtype := entry.get("dtype"), str):
            raise InputError(f"{where} has no dtype. {AGAIN}")
        shape = shape_of(entry.get("shape"), where)
        if dtype not in ("image", "video", "string", "language"):
            try:
                numeric = np.dtype(dtype).kind in "biuf"
            except TypeError:
                numeric = False
            if not numeric:
                raise InputError(f"{where} has the dtype '{dtype[:40]}', which is not known here. {AGAIN}")
        features[name] = Feature(dtype, shape)
    return features


def _tasks(path: Path) -> dict[int, str]:
    """Names of the tasks by index. pandas keeps them as the index of the table, a column whatever it is called."""
    parquet = required("pyarrow.parquet", LIBRARY)
    with damage(str(path)):
        file = parquet.ParquetFile(path)
        check_size((sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)),), 1, str(path))
        table = file.read()
        others = [name for name in table.column_names if name != "task_index"]
        if "task_index" not in table.column_names or len(others) != 1:
            raise InputError(
                f"{path} has the columns {', '.join(table.column_names)[:100]}; it must have task_index and the "
                f"names of "
                f"the tasks. {AGAIN}"
            )
        names, indices = table.column(others[0]).to_pylist(), table.column("task_index").to_pylist()
    if not all(isinstance(name, str) and name for name in names) or len(set(indices)) < len(indices):
        raise InputError(f"{path} has a task without a name, or two of one index. {AGAIN}")
    return dict(zip(indices, names, strict=True))


def _row(values: Mapping[str, Any], expected: int, path: Path) -> EpisodeRow:
    index, length = values.get("episode_index"), values.get("length")
    if index != expected:
        raise InputError(f"{path}: episode {index} stands where episode {expected} belongs. {AGAIN}")
    if type(length) is not int or length < 1:
        raise InputError(f"{path}: episode {index} has the length {length!r:.40}. {AGAIN}")
    facts, after = values.get(FACTS), values.get(AFTER_LAST)
    return EpisodeRow(
        index=index,
        length=length,
        values=values,
        facts=facts if isinstance(facts, str) else None,
        after_last=after if isinstance(after, bytes) else None,
        path=path,
    )


def _inside(name: str, what: str) -> PurePosixPath:
    """A path below the dataset. Links in it are followed: the cache of the Hub consists of them."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not name.isprintable() or "{" in name or "\\" in name:
        raise InputError(f"{what} leads out of the dataset, or is no path. Write it as LeRobot does.")
    return path
