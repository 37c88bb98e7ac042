"""Recordings that somebody hands over, in any format known here: the one joint between formats and `amf add`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from amf_lightning.demonstrations.importing.reading import ANY_TASK, Reading
from amf_lightning.demonstrations.importing.source import detect, episodes
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

READERS = {
    ".safetensors": "amf_lightning.demonstrations.store:read_file",
    ".npz": "amf_lightning.demonstrations.numpy_archive:read_archive",
}
"""By suffix what reads the episode in such a file, `module:function`, imported when it is needed. It may leave the task
empty where the file does not say it."""


def files_of(path: Path) -> list[Path]:
    """The recordings that a path names: itself, if it is a file or a dataset, or else the files in the folder.

    Raises:
        InputError: there is none.
    """
    if path.is_dir() and _is_dataset(path):
        return [path]
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix in READERS and not each.name.startswith("."))
        if not found:
            raise InputError(f"{path} holds no recording ({', '.join(READERS)}). Name a file, or a folder with some.")
        return found
    if not path.is_file():
        raise InputError(f"There is no file or folder {path}.")
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
    if (place := READERS.get(path.suffix)) is None:
        yield from episodes(path, None if task is None else Reading(tasks={ANY_TASK: task}))
        return
    module, _, name = place.partition(":")
    read: Callable[[Path], Trajectory] = getattr(import_module(module), name)
    episode = read(path)
    yield episode if task is None else replace(episode, task=task)


def _is_dataset(folder: Path) -> bool:
    """Whether a folder as a whole is one source, and not some files of recordings."""
    return not any(each.suffix in READERS for each in folder.iterdir()) and detect(folder) not in ("store", "npz")
