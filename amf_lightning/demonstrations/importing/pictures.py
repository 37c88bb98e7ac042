"""Episodes as folders that a person can open: a table `*.csv` with a row for each step, pictures or a video a camera.

    episode_000000/steps.csv           state/0, state/1, action/0, action/1, reward
    episode_000000/image/front/*.png   a picture for each row, in the order of the names; or image/front.mp4
    episode_000000/episode.json        at will: task, success, seed, fps

A last row without actions is what was seen after the last step.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.facts import FACTS, read_facts
from amf_lightning.demonstrations.importing.described import read_description
from amf_lightning.demonstrations.importing.encoded_pictures import decode
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.recorded import (
    AGAIN,
    MOST_BYTES,
    Recorded,
    as_flag,
    as_seed,
    check_size,
    trajectory,
)
from amf_lightning.demonstrations.importing.video import Video
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

DESCRIPTION, TABLE = "episode.json", "steps.csv"
_PICTURES, _VIDEOS = (".png", ".jpg", ".jpeg"), (".mp4", ".mkv", ".avi", ".mov")
_COLUMN = re.compile(r"(.+?)[./_\[](\d+)\]?")
_NOT_SEEN = {"success", "timestamp", "time", "frame", "frame_index", "step", "episode", "episode_index"}


@dataclass
class _Column:
    """Columns of a table that belong together: an entry with its numbers."""

    places: dict[int, int]
    """Place in the table, by place in the entry."""


def folders(path: Path) -> list[Path]:
    """The folders of episodes: the one that is named, or those in it, in the order of their names."""
    if _tables(path):
        return [path]
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and _tables(folder))


def count(path: Path) -> int:
    """How many episodes there are."""
    return len(folders(path))


def episodes(path: Path, reading: Reading | None = None) -> Iterator[Trajectory]:
    """The episodes, one after another.

    Raises:
        InputError: a table, a picture or a video is damaged, or they do not fit each other.
    """
    reading = reading or Reading()
    for folder in folders(path):
        if (made := trajectory(str(folder), _recorded(folder, reading), reading)) is not None:
            yield made


def _tables(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.csv"))


def _recorded(folder: Path, reading: Reading) -> Recorded:
    about = read_description(folder / DESCRIPTION) if (folder / DESCRIPTION).is_file() else {}
    facts = read_facts(about.get(FACTS), str(folder))
    header, rows = _table(folder)
    columns = _columns(header)
    cameras = _cameras(folder)
    action, reward = reading.action or "action", reading.reward or "reward"
    for needed in (action, *([reward] if reading.reward else [])):
        if needed not in columns:
            raise InputError(
                f"{folder} has no columns '{needed}/0', …, but {', '.join(sorted(columns)[:12]) or 'none'}. "
                f"Name them in "
                "a file for `amf import --keys`."
            )
    seen = [name for name in columns if name not in {action, reward, *_NOT_SEEN}] + list(cameras)
    names = reading.names(seen, lambda theirs: theirs, str(folder))
    steps = len(rows) - (not any(rows[-1][place] for place in columns[action].places.values()))
    _check_rate(rows, columns, _rate(about, folder), reading, folder)
    observations = {}
    for theirs, ours in names.items():
        if theirs in cameras:
            observations[ours] = _camera(cameras[theirs], len(rows), _rate(about, folder) or reading.fps)
        else:
            dtype = facts.specs[ours].dtype if facts and ours in facts.specs else "float32"
            observations[ours] = _numbers(rows, columns[theirs], dtype, f"{folder}: column '{theirs}'")
    return Recorded(
        observations=observations,
        actions=_numbers(rows[:steps], columns[action], "float32", f"{folder}: column '{action}'"),
        rewards=_numbers(rows[:steps], columns[reward], "float64", f"{folder}: column '{reward}'").reshape(-1)
        if reward in columns
        else None,
        task=about["task"] if isinstance(about.get("task"), str) else None,
        seed=as_seed(about.get("seed"), f"{folder}: 'seed'"),
        success=None if about.get("success") is None else as_flag(about["success"], f"{folder}: 'success'"),
        facts=facts,
    )


def _table(folder: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the one table in a folder."""
    tables = _tables(folder)
    if len(tables) != 1:
        raise InputError(f"{folder} has {len(tables)} tables *.csv; an episode has one. Move the others away.")
    [path] = tables
    # A cell becomes a text of Python, about 60 bytes each.
    check_size((path.stat().st_size, 16), 1, str(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is no table of comma-separated values ({str(error)[:80]}). {AGAIN}") from error
    if not rows or any(len(row) != len(header) for row in rows):
        wrong = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), 1)
        raise InputError(
            f"{path}: line {wrong} has not the {len(header)} cells of the header, or no row follows. {AGAIN}"
        )
    if len(set(header)) < len(header):
        raise InputError(f"{path}: a column stands twice in the header. Name the columns apart.")
    return header, rows


def _columns(header: Sequence[str]) -> dict[str, _Column]:
    """Columns by the name of their entry: `state/0` and `state/1` are `state`."""
    found: dict[str, _Column] = {}
    for place, title in enumerate(header):
        match = _COLUMN.fullmatch(title.strip())
        name, number = (match[1], int(match[2])) if match else (title.strip(), 0)
        found.setdefault(name, _Column({})).places[number] = place
    return found


def _numbers(rows: Sequence[Sequence[str]], column: _Column, dtype: str, what: str) -> NDArray[Any]:
    if sorted(column.places) != list(range(len(column.places))):
        raise InputError(f"{what} does not count 0, 1, 2, …: {sorted(column.places)[:12]}. Rename the columns.")
    places = [column.places[number] for number in range(len(column.places))]
    kind = np.dtype(dtype).kind
    parsed = {"f": np.float64, "u": np.uint64}.get(kind, np.int64)
    try:
        with np.errstate(over="ignore"):
            return np.array([[row[place] for place in places] for row in rows]).astype(parsed).astype(dtype)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{what} has a cell that is no number ({str(error)[:60]}). {AGAIN}") from error


def _cameras(folder: Path) -> dict[str, list[Path]]:
    """Pictures in the order of their names, or one video, by the name of their camera: its path below the folder."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        kind, place = path.suffix.lower(), path.relative_to(folder)
        if kind in _PICTURES and place.parent != Path():
            found.setdefault(place.parent.as_posix(), []).append(path)
        elif kind in _VIDEOS:
            found.setdefault(place.with_suffix("").as_posix(), []).append(path)
    return found


def _camera(paths: Sequence[Path], rows: int, fps: float | None) -> NDArray[Any]:
    where = f"{paths[0].parent if len(paths) > 1 else paths[0]}"
    if paths[0].suffix.lower() in _VIDEOS:
        if len(paths) > 1:
            raise InputError(f"{where} has both a video and pictures of one camera. Move one of them away.")
        return _video(paths[0], rows, fps)
    if len(paths) != rows:
        raise InputError(f"{where} has {len(paths)} pictures for {rows} rows of the table. {AGAIN}")
    first = decode(_bytes(paths[0]), None, str(paths[0]))
    check_size((rows, *first.shape), first.itemsize, where)
    pictures = np.empty((rows, *first.shape), first.dtype)
    for number, path in enumerate(paths):
        picture = decode(_bytes(path), first.shape, str(path))
        if picture.shape != first.shape or picture.dtype != first.dtype:
            raise InputError(
                f"{path} is a picture of {list(picture.shape)}, the first one of {list(first.shape)}. {AGAIN}"
            )
        pictures[number] = picture
    return pictures


def _video(path: Path, rows: int, fps: float | None) -> NDArray[Any]:
    video = Video(path)
    try:
        if fps is not None and abs(video.fps - fps) > 1e-3 * fps:
            raise InputError(f"{path} has {video.fps:g} frames a second, but the episode {fps:g}. {AGAIN}")
        if video.count() not in (0, rows):
            raise InputError(f"{path} has {video.count()} frames for {rows} rows of the table. {AGAIN}")
        return video.frames(0.0, rows, video.fps or 1.0, None, str(path))
    finally:
        video.close()


def _bytes(path: Path) -> bytes:
    if (size := path.stat().st_size) > MOST_BYTES // 16:
        raise InputError(f"{path} has {size} bytes, too many for a picture. {AGAIN}")
    return path.read_bytes()


def _rate(about: Mapping[str, Any], folder: Path) -> float | None:
    fps = about.get("fps")
    if fps is not None and (type(fps) not in (int, float) or not 0 < fps < 1e6):
        raise InputError(f"{folder}: 'fps' is {fps!r:.40}, not a number of steps a second. {AGAIN}")
    return None if fps is None else float(fps)


def _check_rate(
    rows: Sequence[Sequence[str]],
    columns: Mapping[str, _Column],
    fps: float | None,
    reading: Reading,
    folder: Path,
) -> None:
    """Raises InputError if the steps come at another rate than is said."""
    if None not in (fps, reading.fps) and fps != reading.fps:
        raise InputError(
            f"{folder} has {fps:g} steps a second, not {reading.fps:g} as --keys says. Correct 'fps' there."
        )
    rate = fps or reading.fps
    if rate is None or "timestamp" not in columns:
        return
    times = _numbers(rows, columns["timestamp"], "float64", f"{folder}: column 'timestamp'").reshape(-1)
    off = np.abs(times - times[0] - np.arange(len(rows)) / rate) < 0.5 / rate
    if not off.all():
        raise InputError(
            f"{folder}: row {int(np.argmin(off))} is not when {rate:g} steps a second put it. Correct 'fps', or "
            f"record again."
        )
