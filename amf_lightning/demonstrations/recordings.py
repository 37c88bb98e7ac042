"""Recordings that somebody hands over, in any format known here: the one joint between formats and `amf add`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from amf_lightning.demonstrations.importing.reading import ANY_TASK, Reading
from amf_lightning.demonstrations.importing.source import detect, episodes
from amf_lightning.demonstrations.store import read_file
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

_OWN = ".safetensors"
_SUFFIXES = (_OWN, ".npz")
"""Of files that hold an episode each, and of which a folder may hold several."""


def files_of(path: Path) -> list[Path]:
    """The recordings that a path names: itself, if it is a file or a dataset, or else the files in the folder.

    Raises:
        InputError: there is none.
    """
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and not each.name.startswith("."))
        if not files:
            detect(path)  # says what could have been given
        return files or [path]
    if not path.is_file():
        raise InputError(f"There is no file or folder {path}. Give a recording, or a folder of them.")
    return [path]


def read_demonstrations(path: Path, task: str | None = None) -> Iterator[Trajectory]:
    """The episodes in a file or dataset, one after another; no more than one is in memory.

    Args:
        path: of the file, or of the folder of a dataset.
        task: what the episodes show, whatever the file says; None for what it says. Where it says nothing, the task of
            an episode is empty.

    Raises:
        InputError: what cannot be used, where, and what to do. No code of a file is run.
    """
    if path.suffix == _OWN:
        episode = read_file(path)
        yield episode if task is None else replace(episode, task=task)
    else:
        yield from episodes(path, Reading(unsaid="") if task is None else Reading(tasks={ANY_TASK: task}))
