"""Commands that were begun and may not have been confirmed: whoever types one again does not do it twice.

A command that would count twice if it were repeated (`amf score`, `amf undo`) writes down what it is about to do, does
it, says so, and takes the note away. A note that is still there when the same command comes again is of one that was
cut off: killed, or its terminal was gone. Whether it was done is then looked up, and said instead of doing it again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.hashed_json import hashed, unhashed
from amf_lightning.reading import read_json_mapping

_FOLDER = ".unconfirmed"
"""Of the notes, in the folder of the run: a file each, named after what was typed."""
_ADVICE = "Look what was done, then remove the file."


@contextmanager
def one_at_a_time(run: Path) -> Iterator["Unconfirmed"]:
    """Such commands in one run wait for each other until the block ends, on file systems that have locks.

    So a note that is found within the block is of a command that has ended, however it did.

    Args:
        run: folder of the run.
    """
    notes = Unconfirmed(run / _FOLDER)
    notes.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(notes.folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield notes
    finally:
        os.close(descriptor)


class Unconfirmed:
    """The notes of a run; see `one_at_a_time`.

    Args:
        folder: that they lie in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begun(self, typed: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the same command was about to do that was never confirmed; None if there is none.

        Args:
            typed: all that says that it is the same command, in types of JSON; who typed it belongs to it.

        Raises:
            InputError: the note is damaged.
        """
        path = self._path(typed)
        if not path.exists():
            return None
        try:
            return unhashed(read_json_mapping(path, _ADVICE))
        except ValueError as error:
            raise InputError(f"{path}: {error}. {_ADVICE}") from error

    def begin(self, typed: Mapping[str, Any], **planned: Any) -> None:
        """Writes down what a command is about to do; durable on return."""
        write_durably(self._path(typed), json.dumps(hashed(planned)))

    def confirmed(self, typed: Mapping[str, Any]) -> None:
        """Takes the note of a command away, once it was said what it did, or that it did nothing."""
        self._path(typed).unlink(missing_ok=True)

    def _path(self, typed: Mapping[str, Any]) -> Path:
        name = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / f"{name}.json"
