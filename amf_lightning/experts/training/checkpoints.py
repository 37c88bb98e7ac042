"""Everything a training needs to go on after a crash, in one folder that is there whole or not at all.

Needs the extra `[experts]`.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from flax.serialization import from_bytes, to_bytes
from sbx import SAC

from amf_lightning.errors import InputError
from amf_lightning.experts.training.progress import Counters
from amf_lightning.reading import read_json_mapping

_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class Checkpoints:
    """Everything a training needs to go on: actor, critics, optimisers, temperature, replay buffer, counters.

    A checkpoint is a folder that gets its final name only when it is complete; the one before is then removed.

    Args:
        folder: where the checkpoints are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, model: SAC, wall_seconds: float) -> None:
        """Saves, durably, then removes older checkpoints and what a crash left of unfinished ones."""
        final = self._folder / f"checkpoint-{model.num_timesteps:012d}"
        unfinished = final.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        policy = model.policy
        trees = {"actor": policy.actor_state, "critic": policy.qf_state, "temperature": model.ent_coef_state}
        for name, tree in trees.items():
            (unfinished / f"{name}.msgpack").write_bytes(to_bytes(tree))
        buffer = model.replay_buffer
        rows = buffer.buffer_size if buffer.full else buffer.pos
        np.savez(unfinished / "replay.npz", **{name: getattr(buffer, name)[:rows] for name in _BUFFER})
        counters = {
            "env_steps": model.num_timesteps,
            "gradient_steps": model._n_updates,
            "wall_seconds": wall_seconds,
            "position": buffer.pos,
            "full": buffer.full,
        }
        (unfinished / "counters.json").write_text(json.dumps(counters))
        # On the disk before the rename: a power cut must not leave the final name on files without bytes.
        for file in unfinished.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(final, ignore_errors=True)
        unfinished.replace(final)
        # Last: until the new one has its name, the older one is what a training goes on from.
        for other in self._folder.glob("checkpoint-*"):
            if other != final:
                shutil.rmtree(other)

    def counters(self) -> Counters:
        """How far the newest complete checkpoint is; zeros if there is none."""
        newest = self._newest()
        if newest is None:
            return Counters(0.0, 0, 0)
        content = self._content(newest)
        return Counters(content["wall_seconds"], content["env_steps"], content["gradient_steps"])

    def restore(self, model: SAC) -> None:
        """Puts the newest complete checkpoint, if any, into a fresh model of the same recipe."""
        newest = self._newest()
        if newest is None:
            return
        policy = model.policy
        policy.actor_state = from_bytes(policy.actor_state, (newest / "actor.msgpack").read_bytes())
        policy.qf_state = from_bytes(policy.qf_state, (newest / "critic.msgpack").read_bytes())
        model.ent_coef_state = from_bytes(model.ent_coef_state, (newest / "temperature.msgpack").read_bytes())
        content = self._content(newest)
        model.num_timesteps, model._n_updates = content["env_steps"], content["gradient_steps"]
        buffer = model.replay_buffer
        buffer.pos, buffer.full = content["position"], content["full"]
        with np.load(newest / "replay.npz") as arrays:
            for name in _BUFFER:
                getattr(buffer, name)[: len(arrays[name])] = arrays[name]

    def _content(self, newest: Path) -> dict[str, Any]:
        path, advice = newest / "counters.json", f"Remove {newest}: the training then begins anew."
        content = read_json_mapping(path, advice)
        if not {"wall_seconds", "env_steps", "gradient_steps", "position", "full"} <= content.keys():
            raise InputError(f"{path} does not say how far the training was. {advice}")
        return content

    def _newest(self) -> Path | None:
        complete = sorted(path for path in self._folder.glob("checkpoint-*") if path.suffix == "")
        return complete[-1] if complete else None
