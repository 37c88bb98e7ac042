"""One HDF5 file as robomimic reads it: `data/demo_N`, and the tasks as filter keys under `mask`."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from amf_lightning.demonstrations.facts import FACTS, facts_of, has_after_last
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory


def done(file: Path) -> int:
    """A file that was cut off is of no use: the export begins anew."""
    file.unlink(missing_ok=True)
    return 0


def write(file: Path, episodes: Iterable[Trajectory], first: int = 0, fps: float = 10.0) -> None:
    """Writes all episodes. `fps` has no place here.

    Raises:
        InputError: h5py is not installed, or two entries would have one name.
    """
    h5py = required("h5py", "robomimic's format")
    total, members = 0, dict[str, list[str]]()
    with h5py.File(file, "w") as out:
        data = out.create_group("data")
        for number, episode in enumerate(episodes, first):
            name = f"demo_{number}"
            group = data.create_group(name)
            _write(group, episode)
            total += episode.length
            members.setdefault(episode.task, []).append(name)
        data.attrs["total"] = total
        data.attrs["env_args"] = json.dumps({"env_name": "amf-lightning", "type": 2, "env_kwargs": {}})
        for task, names in members.items():
            out[f"mask/{_flat(task)}"] = np.array(names, dtype="S")


def _write(group: "object", episode: Trajectory) -> None:
    names = {_flat(name): name for name in episode.observations}
    if len(names) < len(episode.observations):
        raise InputError(
            f"Entries {', '.join(episode.observations)} would have one name in robomimic's format, which has no slash. "
            "Export to another format."
        )
    create = group.create_dataset  # type: ignore[attr-defined]
    attributes = group.attrs  # type: ignore[attr-defined]
    create("actions", data=episode.actions)
    if episode.rewards is not None:
        create("rewards", data=episode.rewards)
    create("dones", data=np.arange(1, episode.length + 1) == episode.length, dtype="i8")
    for theirs, ours in names.items():
        entry = episode.observations[ours]
        packed = (
            {"compression": "gzip", "compression_opts": 4, "chunks": (1, *entry.shape[1:])} if entry.ndim > 2 else {}
        )
        create(f"obs/{theirs}", data=entry[: episode.length], **packed)
        if has_after_last(episode):
            create(f"next_obs/{theirs}", data=entry[1:], **packed)
    attributes["num_samples"] = episode.length
    attributes[FACTS] = facts_of(episode, names)


def _flat(name: str) -> str:
    """A name without what separates groups."""
    return re.sub(r"[/.]", "_", name) or "_"
