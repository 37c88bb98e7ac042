"""Demonstrations in this package's own format, e.g. of another run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory


def numbers(path: Path) -> list[int]:
    """Numbers of the demonstrations in a folder, in order."""
    return sorted(int(file.stem) for file in path.glob("[0-9]*.safetensors") if file.stem.isdecimal())


def count(path: Path) -> int:
    """How many there are."""
    return len(numbers(path))


def episodes(path: Path, reading: Reading | None = None) -> Iterator[Trajectory]:
    """The demonstrations in order of number; entries keep their names.

    Raises:
        InputError: a file is damaged, or entries should be renamed.
    """
    reading = reading or Reading()
    if reading != Reading(tasks=reading.tasks):
        raise InputError(
            f"{path} holds demonstrations of this package: their names and units are ours. Leave out --keys."
        )
    store = DemonstrationStore(path)
    for number in numbers(path):
        held = store.read(number)
        task = reading.task(held.task, str(store.path(number)))
        if task is not None:
            yield held if task == held.task else replace(held, task=task)
