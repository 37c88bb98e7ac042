"""Recordings that somebody hands over, in any format known here: the one joint between formats and `amf add`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

READERS = {
    ".safetensors": "amf_lightning.demonstrations.store:read_file",
    ".npz": "amf_lightning.demonstrations.numpy_archive:read_archive",
}
"""By suffix what reads the episode in such a file, `module:function`, imported when it is needed. It may leave the task
empty where the file does not say it."""


def files_of(path: Path) -> list[Path]:
    """The files of recordings that a path names: itself, or those in the folder, in the order of their names.

    Raises:
        InputError: there is none.
    """
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix in READERS and not each.name.startswith("."))
        if not found:
            raise InputError(f"{path} holds no recording ({', '.join(READERS)}). Name a file, or a folder with some.")
        return found
    if not path.is_file():
        raise InputError(f"There is no file or folder {path}.")
    return [path]


def read_demonstrations(path: Path, task: str | None = None) -> Iterator[Trajectory]:
    """The episodes in a file, one after another; no more than one is in memory.

    Args:
        path: of the file.
        task: what the episodes show, whatever the file says; None for what it says. Where it says nothing, the task of
            an episode is empty.

    Raises:
        InputError: what cannot be used, where, and what to do. No code of a file is run.
    """
    if (place := READERS.get(path.suffix)) is None:
        raise InputError(f"{path} is in no format that is known here. Give one of {', '.join(READERS)}.")
    module, _, name = place.partition(":")
    read: Callable[[Path], Trajectory] = getattr(import_module(module), name)
    episode = read(path)
    yield episode if task is None else replace(episode, task=task)
