"""A folder for each demonstration that a person can open: a table, a PNG for each picture, and what else is known."""

import csv
import io
import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.facts import FACTS, facts_of
from amf_lightning.demonstrations.importing.encoded_pictures import encode, is_picture
from amf_lightning.demonstrations.importing.pictures import DESCRIPTION, TABLE
from amf_lightning.demonstrations.importing.reading import check_name
from amf_lightning.durable import sync_tree
from amf_lightning.tasks.trajectory import Trajectory

FOLDER = "episode_{:06d}"


def done(folder: Path) -> int:
    """How many episodes an export that was cut off has finished."""
    number = 0
    while (folder / FOLDER.format(number)).is_dir():
        number += 1
    return number


def write(folder: Path, episodes: Iterable[Trajectory], first: int = 0, fps: float = 10.0) -> None:
    """Writes episodes, numbered from `first` on.

    Args:
        folder: made if it is not there.
        episodes: one after another.
        first: number of the first one.
        fps: steps a second, which the descriptions say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    growing = folder / ".growing"
    for number, episode in enumerate(episodes, first):
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir()
        _write(growing, episode, fps)
        sync_tree(growing)
        growing.replace(folder / FOLDER.format(number))
    shutil.rmtree(growing, ignore_errors=True)


def _write(folder: Path, episode: Trajectory, fps: float) -> None:
    columns: dict[str, NDArray[Any]] = {}
    for name, entry in episode.observations.items():
        check_name(name, "The export")
        spec = episode.specs[name]
        if is_picture(spec.shape, spec.dtype):
            (folder / name).mkdir(parents=True)
            for number, picture in enumerate(entry):
                (folder / name / f"{number:06d}.png").write_bytes(encode(picture))
        else:
            columns[name] = entry
    columns["action"] = episode.actions
    if episode.rewards is not None:
        columns["reward"] = episode.rewards
    rows = len(next(iter(episode.observations.values())))
    (folder / TABLE).write_text(_table(columns, rows), encoding="utf-8")
    names = {name: name for name in episode.observations}
    about = {
        "task": episode.task,
        "fps": fps,
        **({} if episode.success is None else {"success": bool(episode.success)}),
        **({} if episode.seed is None else {"seed": int(episode.seed)}),
        FACTS: facts_of(episode, names),
    }
    (folder / DESCRIPTION).write_text(json.dumps(about, indent=2), encoding="utf-8")


def _table(columns: dict[str, NDArray[Any]], rows: int) -> str:
    """The table; numbers have as many digits as it takes to read the same ones again."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    flat = {name: _plain(array.reshape(len(array), math.prod(array.shape[1:]))) for name, array in columns.items()}
    writer.writerow([f"{name}/{number}" for name, array in flat.items() for number in range(array.shape[1])])
    for row in range(rows):
        cells: list[Any] = []
        for array in flat.values():
            cells += array[row].tolist() if row < len(array) else [""] * array.shape[1]
        writer.writerow(cells)
    return stream.getvalue()


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.uint8) if array.dtype == np.bool_ else array
