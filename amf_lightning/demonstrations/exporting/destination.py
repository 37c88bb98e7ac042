"""Demonstrations of a store into anybody's format."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from amf_lightning.demonstrations.exporting.staging import Staging
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import described
from amf_lightning.tasks.trajectory import Trajectory

FORMATS = ("lerobot", "minari", "robomimic", "npz", "pictures")
"""Each is the name of the module that writes it, by `write(place, episodes, first, fps)` and `done(place)`."""


def export_demonstrations(
    store: DemonstrationStore,
    demonstrations: Mapping[int, str | None],
    destination: Path,
    format: str,
    fps: float = 10.0,
) -> None:
    """Writes demonstrations as a dataset of others, from which `import_demonstrations` gives them back bit for bit.

    The destination is there in the end or not at all. A call that was cut off is repeated as it was; the result has the
    same bytes. One episode is in memory at a time.

    Args:
        store: where they are.
        demonstrations: their numbers, in order, each with the SHA-256 that its file must have, or None.
        destination: a folder, or a file for robomimic; it must not be there, unless it is the same export.
        format: one of `FORMATS`.
        fps: steps a second of the recordings, for formats that say it; demonstrations here do not.

    Raises:
        InputError: a demonstration is damaged, the format cannot hold it, or the destination is taken.
    """
    if format not in FORMATS:
        raise InputError(f"There is no format '{format}'. Give one of {', '.join(FORMATS)}.")
    if not demonstrations:
        raise InputError(f"{store.folder} has no demonstrations to export.")
    if not 0 < fps < 1e6:
        raise InputError(f"fps is {fps:g}; it is the number of steps a second and must be positive.")
    hashes = {number: sha256 or _hash(store.path(number)) for number, sha256 in demonstrations.items()}
    plan = json.dumps({"format": format, "fps": fps, "demonstrations": hashes}, sort_keys=True)
    module = import_module(f"amf_lightning.demonstrations.exporting.{format}")
    staging = Staging(destination, plan)
    with staging.held():
        first = module.done(staging.content)
        module.write(staging.content, _episodes(store, hashes, first), first, fps)


def _episodes(store: DemonstrationStore, hashes: Mapping[int, str], first: int) -> Iterator[Trajectory]:
    """The demonstrations from one on, checked, with a progress bar on a terminal."""
    numbers = list(hashes)
    specs: tuple[str, int] | None = None
    bar = tqdm(numbers[first:], "Exporting", len(numbers), initial=first, unit="episode", disable=None, leave=False)
    for number in bar:
        held = store.read(number, hashes[number])
        here = described(held.specs), held.actions.shape[1]
        if specs is not None and here != specs:
            raise InputError(
                f"Demonstration {store.path(number)} has {here[0]} and {here[1]} numbers an action; those "
                f"before it have "
                f"{specs[0]} and {specs[1]}. A dataset has episodes of one kind: export them from separate folders."
            )
        specs = here
        yield held


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
