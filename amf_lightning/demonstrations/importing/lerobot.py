"""LeRobot's datasets, version 3.0: frames of many episodes in parquet files, cameras as PNG in them or as videos.

Read with pyarrow, a batch of rows at a time. T observations are recorded for T actions; what follows the last action
is there only if our exporter wrote it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from amf_lightning.demonstrations.facts import Facts, read_facts
from amf_lightning.demonstrations.importing.columns import blobs, numbers
from amf_lightning.demonstrations.importing.encoded_pictures import decode
from amf_lightning.demonstrations.importing.lerobot_frames import Frames
from amf_lightning.demonstrations.importing.lerobot_meta import Dataset, EpisodeRow, Feature, read_dataset
from amf_lightning.demonstrations.importing.lerobot_video import Videos
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.recorded import AGAIN, Recorded, as_flag, check_size, trajectory
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

_OBSERVATION, _IMAGES = "observation.", "observation.images."
ACTION, REWARD, SUCCESS = "action", "next.reward", "next.success"


def count(path: Path) -> int:
    """How many episodes there are."""
    return read_dataset(path).episodes


def episodes(path: Path, reading: Reading | None = None) -> Iterator[Trajectory]:
    """The episodes in order.

    Raises:
        InputError: the dataset is damaged, of another version, or its frames do not fit its descriptions.
    """
    reading = reading or Reading()
    dataset = read_dataset(path)
    if reading.fps is not None and abs(reading.fps - dataset.fps) > 1e-9:
        raise InputError(
            f"{path} has {dataset.fps:g} frames a second, not {reading.fps:g} as --keys says. Give a dataset "
            f"recorded at "
            "that rate, or correct 'fps'."
        )
    with Frames(dataset) as frames, Videos(dataset) as videos:
        for row in dataset.rows():
            where = f"{path}, episode {row.index}"
            read = _Episode(dataset, row, where, frames, videos)
            if (made := trajectory(where, read.recorded(reading), reading)) is not None:
                yield made


def entry_name(theirs: str) -> str:
    """What an entry is called here if nobody says otherwise.

    >>> entry_name("observation.images.front"), entry_name("observation.state")
    ('image/front', 'state')
    """
    if theirs.startswith(_IMAGES):
        return "image/" + theirs.removeprefix(_IMAGES)
    return theirs.removeprefix(_OBSERVATION)


@dataclass(frozen=True)
class _Episode:
    """One episode that is being read."""

    dataset: Dataset
    row: EpisodeRow
    where: str
    frames: Frames
    videos: Videos

    def recorded(self, reading: Reading) -> Recorded:
        features = self.dataset.features
        facts = read_facts(self.row.facts, self.where)
        known = facts.names if facts else {}
        available = [name for name in features if name.startswith(_OBSERVATION) and features[name].is_numeric]
        if reading.observation is not None:
            available = [name for name in features if features[name].is_numeric]

        def here(theirs: str) -> str:
            return known.get(theirs) or entry_name(theirs)

        names = reading.names(available, here, self.where)
        action, reward = reading.action or ACTION, reading.reward or REWARD
        for needed in (action, *([reward] if reading.reward else [])):
            if needed not in features:
                raise InputError(
                    f"{self.where} has no '{needed}', but {', '.join(features)}. Name it in a file for "
                    "`amf import --keys`."
                )
        more = [name for name in (reward, SUCCESS) if name in features]
        self._check_size([features[name] for name in (*names, action, *more)])
        table = self.frames.take(self.row, [name for name in (*names, action, *more) if not features[name].is_video])
        observations = {ours: self._entry(theirs, table) for theirs, ours in names.items()}
        return Recorded(
            observations=self._with_after_last(observations, {names[t]: here(t) for t in names}, facts),
            actions=self._numbers(action, table),
            rewards=self._numbers(reward, table).reshape(-1) if reward in features else None,
            task=self._task(table),
            success=as_flag(self._numbers(SUCCESS, table), f"{self.where}: '{SUCCESS}'") if SUCCESS in more else None,
            facts=facts,
        )

    def _task(self, table: Any) -> str:
        indices = set(numbers(table.column("task_index"), (), f"{self.where}: 'task_index'").tolist())
        if len(indices) > 1:
            raise InputError(f"{self.where} shows {len(indices)} tasks. Split it into an episode for each task.")
        [index] = indices
        if index not in self.dataset.tasks:
            raise InputError(f"{self.where} shows task {index}, which meta/tasks.parquet does not name. {AGAIN}")
        return self.dataset.tasks[index]

    def _entry(self, name: str, table: Any) -> NDArray[Any]:
        feature = self.dataset.features[name]
        if feature.is_video:
            return self.videos.take(name, self.row)
        if not feature.is_image:
            return self._numbers(name, table)
        what = f"{self.where}: '{name}'"
        column = table.column(name).combine_chunks()
        if {field.name for field in column.type} != {"bytes", "path"}:
            raise InputError(f"{what} holds {str(column.type)[:60]}, no pictures. {AGAIN}")
        pictures = [
            decode(content, feature.shape, f"{what}, frame {number}")
            for number, content in enumerate(blobs(column.field("bytes"), what))
        ]
        return _stacked(pictures, what)

    def _numbers(self, name: str, table: Any) -> NDArray[Any]:
        feature = self.dataset.features[name]
        read = numbers(table.column(name), feature.shape, f"{self.where}: '{name}'")
        if read.dtype != np.dtype(feature.dtype):
            raise InputError(f"{self.where}: '{name}' holds {read.dtype}, but info.json says {feature.dtype}. {AGAIN}")
        return read

    def _with_after_last(
        self, observations: Mapping[str, NDArray[Any]], exported: Mapping[str, str], facts: Facts | None
    ) -> Mapping[str, NDArray[Any]]:
        """With what was seen after the last action, which our exporter puts beside the episode.

        Args:
            observations: by the names that are wanted, [T, …] each.
            exported: the name of each entry when it was exported, by the one that is wanted.
            facts: what our exporter noted.
        """
        if facts is None or not facts.after_last:
            return observations
        what = f"{self.where}: what is seen after the last action"
        if self.row.after_last is None:
            raise InputError(f"{what} is missing. Export the dataset again.")
        try:
            last = load(self.row.after_last)
        except (SafetensorError, ValueError) as error:
            raise InputError(f"{what} is damaged ({error}). Export the dataset again.") from error
        joined = {}
        for name, entry in observations.items():
            there = last.get(exported[name])
            if there is None or there.size * len(entry) != entry.size:
                raise InputError(f"{what} does not fit '{exported[name]}'. Export the dataset again.")
            joined[name] = np.concatenate([entry, there.reshape(1, *entry.shape[1:]).astype(entry.dtype)])
        return joined

    def _check_size(self, features: list[Feature]) -> None:
        size = sum(feature.nbytes for feature in features)
        check_size((self.row.length, size), 1, self.where)


def _stacked(pictures: list[NDArray[Any]], what: str) -> NDArray[Any]:
    if not pictures or len({(picture.shape, picture.dtype) for picture in pictures}) > 1:
        raise InputError(f"{what} has no pictures, or some of different kinds. {AGAIN}")
    return np.stack(pictures)
