"""A run that cannot begin leaves no trace, a refused resume neither; what was asked or answered always stays."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.run_lock import sole_writer
from amf_lightning.durable import remove_leftovers, write_durably
from amf_lightning.errors import MachineError

TYPED = ("outcomes.jsonl", "evaluated.jsonl")
"""Names of files in the folder of a run that hold what people wrote or what a robot did."""


@contextmanager
def clean_start(folder: RunFolder) -> Iterator[None]:
    """Makes the folder, holds it, and takes back what was written if an error ends the run before it got anywhere.

    Some errors show only when things run: a simulator that gives NaN, an expert that never succeeds. What was there
    before is left alone. A request that was written down stays with its run, as somebody may have been told of it, and
    so does an answer; the same command goes on from them once the cause is mended. `config.yaml` is what it was, and so
    are the event files of a run that got no further: their points are dropped where they are about to be logged again.

    Raises:
        MachineError: the folder cannot be made.
        InputError: another process is writing into it.
    """
    path = folder.path
    new_folders = [place for place in (path, *path.parents) if not place.exists()]
    old_entries = {entry for entry in folder.entries() if entry.exists()}
    config = folder.config.read_bytes() if folder.config.exists() else None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"The run folder {path} cannot be made: {error.strerror}. Choose another with --trainer.default_root_dir."
        ) from None
    with sole_writer(path):
        remove_leftovers(path, *(place for place in path.iterdir() if place.is_dir()))
        before = _progress(folder)
        events = {} if config is None else {path: path.read_bytes() for path in folder.event_files()}
        try:
            yield
        except Exception:
            if config is not None:
                _put_back({folder.config: config})
                if _progress(folder) == before:
                    _remove([entry for entry in folder.logged() if entry not in old_entries])
                    _put_back(events)
            elif not _precious(folder):
                _remove([entry for entry in folder.entries() if entry not in old_entries], new_folders)
            raise


def _precious(folder: RunFolder) -> bool:
    """Whether something was asked or answered in this run."""
    if any(folder.demonstrations.glob("*")) or any((folder.path / name).exists() for name in TYPED):
        return True
    if not folder.ledger.exists():
        return False
    try:
        ledger = Ledger(folder.ledger, read_only=True)
    except Exception:  # whatever it is: nobody can say that it is worth nothing
        return True
    try:
        return bool(ledger.jobs())
    finally:
        ledger.close()


def _progress(folder: RunFolder) -> list[tuple[Path, int, int]]:
    """What changes in the folder as soon as a run gets anywhere, with size and time of the last change."""
    files = [folder.ledger, folder.checkpoint, *sorted(folder.demonstrations.glob("*"))]
    return [(path, state.st_size, state.st_mtime_ns) for path in files if path.exists() for state in [path.stat()]]


def _put_back(contents: dict[Path, bytes]) -> None:
    """Writes what files held before into those that hold something else now; one that was taken away stays away."""
    for path, content in contents.items():
        if path.is_file() and path.read_bytes() != content:
            write_durably(path, content)


def _remove(entries: list[Path], folders: list[Path] | None = None) -> None:
    """Removes files and empty folders, the first of which may hold the later ones."""
    for entry in entries:
        with suppress(OSError):  # what is in the way, another process has put there: it stays
            entry.rmdir() if entry.is_dir() else entry.unlink(missing_ok=True)
    with suppress(OSError):
        for place in folders or []:
            place.rmdir()
