"""An archive of numpy for each demonstration, `000000.npz`, …: arrays under our names, read back by `numpy.load`."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from amf_lightning.demonstrations.facts import FACTS, facts_of
from amf_lightning.durable import write_durably
from amf_lightning.tasks.trajectory import Trajectory

FILE = "{:06d}.npz"


def done(folder: Path) -> int:
    """How many episodes an export that was cut off has finished; what is not finished is removed."""
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    number = 0
    while (folder / FILE.format(number)).is_file():
        number += 1
    return number


def write(folder: Path, episodes: Iterable[Trajectory], first: int = 0, fps: float = 10.0) -> None:
    """Writes episodes, numbered from `first` on. `fps` has no place here."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, episode in enumerate(episodes, first):
        names = {f"observation/{name}": name for name in episode.observations}
        arrays = {theirs: episode.observations[ours] for theirs, ours in names.items()}
        arrays["action"] = episode.actions
        if episode.rewards is not None:
            arrays["reward"] = episode.rewards
        arrays["task"] = np.array(episode.task)
        if episode.success is not None:
            arrays["success"] = np.array(episode.success)
        if episode.seed is not None:
            arrays["seed"] = np.array(episode.seed)
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **arrays, **{FACTS: np.array(facts_of(episode, names))})
        write_durably(folder / FILE.format(number), stream.getvalue())
