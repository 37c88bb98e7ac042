"""A run that cannot begin leaves no trace, so that the corrected command can use the same folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.run_lock import sole_writer
from amf_lightning.durable import write_durably
from amf_lightning.errors import MachineError


@contextmanager
def clean_start(folder: RunFolder) -> Iterator[None]:
    """Makes the folder, holds it, and takes back what was written if an error ends a run before it demonstrated.

    Some errors show only when things run: an expert that never succeeds, a simulator that gives NaN. What was
    there before is left alone. A run that is under way keeps all it has: its finished rounds, and the picks of the
    round that failed, which the same command completes once the cause is mended; `config.yaml` is what it was.

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
        try:
            yield
        except Exception:
            if config is not None:
                write_durably(folder.config, config)
            elif not any(folder.demonstrations.glob("*")):
                with suppress(OSError):  # what is in the way, another process has put there: it stays
                    for entry in folder.entries():
                        if entry not in old_entries:
                            entry.rmdir() if entry.is_dir() else entry.unlink(missing_ok=True)
                    for place in new_folders:
                        place.rmdir()
            raise
