"""A dataset as Minari reads it: `data/metadata.json` and `data/main_data.hdf5`, pictures as they are and not as JPEG.

Minari has one observation more than actions. Where what follows the last action was not recorded, the last observation
stands there twice, and the facts beside the episode say so.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amf_lightning.demonstrations.facts import FACTS, facts_of, has_after_last
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE, Spec
from amf_lightning.tasks.trajectory import Trajectory

VERSION = "0.5.4"
"""Of Minari, whose layout this is; it reads what its own version or a few before it wrote."""


def done(folder: Path) -> int:
    """A file that was cut off is of no use: the export begins anew."""
    (folder / "data" / "main_data.hdf5").unlink(missing_ok=True)
    return 0


def write(folder: Path, episodes: Iterable[Trajectory], first: int = 0, fps: float = 10.0) -> None:
    """Writes all episodes. `fps` has no place here.

    Raises:
        InputError: h5py is not installed, or an entry is a part of another.
    """
    h5py = required("h5py", "Minari's format")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    total = steps = 0
    space: dict[str, Any] = {}
    actions = 0
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as out:
        for number, episode in enumerate(episodes, first):
            if not total:
                space, actions = _space(episode.specs), episode.actions.shape[1]
            _write(out.create_group(f"episode_{number}"), episode, number)
            total, steps = total + 1, steps + episode.length
    limits = Spec((actions,), "float32")
    description = {
        "total_episodes": total,
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(space),
        "action_space": json.dumps(_box(limits, -1.0, 1.0)),
        "dataset_id": "amf/demonstrations-v0",
        "minari_version": VERSION,
        "author": ["amf-lightning"],
    }
    (folder / "data" / "metadata.json").write_text(json.dumps(description), encoding="utf-8")


def _write(group: Any, episode: Trajectory, number: int) -> None:
    alone = list(episode.observations) == [STATE]
    for name, entry in episode.observations.items():
        full = entry if has_after_last(episode) else np.concatenate([entry, entry[-1:]])
        packed = {"compression": "gzip", "compression_opts": 4, "chunks": (1, *full.shape[1:])} if full.ndim > 2 else {}
        group.create_dataset("observations" if alone else f"observations/{name}", data=full, **packed)
    steps, last = episode.length, np.arange(1, episode.length + 1) == episode.length
    group.create_dataset("actions", data=episode.actions)
    group.create_dataset("rewards", data=np.full(steps, np.nan) if episode.rewards is None else episode.rewards)
    group.create_dataset("terminations", data=last & bool(episode.success))
    group.create_dataset("truncations", data=last & (not episode.success))
    if episode.success is not None:
        group.create_dataset("infos/success", data=np.append(np.zeros(steps, bool), bool(episode.success)))
    group.attrs["id"] = number
    group.attrs["total_steps"] = steps
    group.attrs["options/task"] = episode.task
    if episode.seed is not None:
        group.attrs["seed"] = episode.seed
    names = {"" if alone else name: name for name in episode.observations}
    group.attrs[FACTS] = facts_of(episode, names)


def _space(specs: Mapping[str, Spec]) -> dict[str, Any]:
    """Gymnasium's space of an observation as Minari writes it down: `image/front` is `front` in `image`."""
    if list(specs) == [STATE]:
        return _limited(specs[STATE])
    space: dict[str, Any] = {"type": "Dict", "subspaces": {}}
    for name, spec in specs.items():
        *groups, last = name.split("/")
        place = space
        for group in groups:
            place = place["subspaces"].setdefault(group, {"type": "Dict", "subspaces": {}})
        if place["type"] != "Dict" or last in place["subspaces"]:
            raise InputError(
                f"Entry '{name}' is a part of another, which Minari cannot have. Export to another format."
            )
        place["subspaces"][last] = _limited(spec)
    return space


def _limited(spec: Spec) -> dict[str, Any]:
    if spec.is_floating:
        return _box(spec, -np.inf, np.inf)
    if spec.dtype == "bool":
        return _box(spec, 0, 1)
    limits = np.iinfo(spec.dtype)
    return _box(spec, int(limits.min), int(limits.max))


def _box(spec: Spec, low: float, high: float) -> dict[str, Any]:
    bounds = [np.full(spec.shape, value, object).tolist() for value in (low, high)]
    return {"type": "Box", "dtype": spec.dtype, "shape": list(spec.shape), "low": bounds[0], "high": bounds[1]}
