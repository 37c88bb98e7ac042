"""Somebody's demonstrations into a store: all of them checked first, then written, each once."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from amf_lightning.demonstrations.importing import source, store
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.store import DemonstrationStore, fingerprint
from amf_lightning.durable import remove_leftovers
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import described
from amf_lightning.tasks.trajectory import Trajectory


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    written: int
    """Demonstrations that are new in the store."""
    known: int
    """Demonstrations that were there already, from a call that was cut off or another source."""
    first: int
    """Number of the first new one."""
    tasks: dict[str, int]
    """Demonstrations of the source by task, new or not."""


def import_demonstrations(
    path: Path, folder: Path, reading: Reading | None = None, format: str | None = None
) -> Imported:
    """Brings the demonstrations of a source into a store, behind those that are there.

    All are read and checked before the first is written: a source that cannot be used leaves the store as it was. One
    that is in the store already is left out, so a call that was cut off is repeated as it was, and gives the same
    files. One episode is in memory at a time.

    Args:
        path: the source, in any format of `source.FORMATS`.
        folder: of the store; made if it is not there.
        reading: names of entries and tasks, units.
        format: of the source; found by its content if None.

    Raises:
        InputError: the source cannot be used, does not fit the store, or another import is under way there.
    """
    format = format or source.detect(path)
    with _alone(folder):
        remove_leftovers(folder)
        target = DemonstrationStore(folder)
        had = store.numbers(folder)
        first = had[-1] + 1 if had else 0
        kind = _Kind(str(path), target.read(had[0]) if had else None, str(folder))
        known = {fingerprint(target.read(number)) for number in tqdm(had, "Looking through the store", disable=None)}
        new, tasks = [], Counter[str]()
        for trajectory in _told(path, reading, format, "Checking"):
            kind.check(trajectory)
            new.append(fingerprint(trajectory))
            tasks[trajectory.task] += 1
        wanted = list(dict.fromkeys(each for each in new if each not in known))
        written = iter(wanted)
        awaited = next(written, None)
        number = first
        for position, trajectory in enumerate(_told(path, reading, format, "Importing") if wanted else ()):
            if fingerprint(trajectory) != new[position]:
                raise InputError(f"{path} was changed while it was read. Run the command again when it is finished.")
            if new[position] == awaited:
                target.write(number, trajectory)
                number, awaited = number + 1, next(written, None)
    return Imported(len(wanted), len(new) - len(wanted), first, dict(tasks))


def _told(path: Path, reading: Reading | None, format: str, what: str) -> Iterator[Trajectory]:
    """The episodes, with a progress bar on a terminal; into how many sub-goals cut them is not known before."""
    cut = reading is not None and reading.subgoals is not None
    yield from tqdm(
        source.episodes(path, reading, format),
        what,
        None if cut else source.count(path, format),
        unit="episode",
        disable=None,
        leave=False,
    )


class _Kind:
    """Makes sure that all demonstrations have the entries and actions of the first."""

    def __init__(self, path: str, first: Trajectory | None, folder: str) -> None:
        self._path, self._first, self._where, self._position = path, first, f"the store {folder}", -1

    def check(self, trajectory: Trajectory) -> None:
        self._position += 1
        if self._first is None:
            self._first, self._where = trajectory, "its first one"
        first = self._first
        here, there = (
            (described(dict(sorted(each.specs.items()))), each.actions.shape[1]) for each in (trajectory, first)
        )
        if here != there:
            raise InputError(
                f"{self._path}: episode {self._position} has {here[0]} and {here[1]} numbers an action; "
                f"{self._where} has "
                f"{there[0]} and {there[1]}. Choose the entries that all have with --keys, or import into "
                f"another store."
            )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a store, so that two imports do not take the same numbers.

    Raises:
        InputError: another import is under way, or the demonstrations are those of a run.
    """
    if (folder.parent / "ledger.sqlite").exists() and folder.name == "demonstrations":
        raise InputError(
            f"{folder} belongs to a run, whose ledger says which demonstrations count. Import into another folder."
        )
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"Another import into {folder} is under way. Wait until it is finished.") from error
        yield
    except InputError:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise
    finally:
        os.close(descriptor)
