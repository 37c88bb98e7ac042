"""Recordings for the tests of formats, by way of a store: awkward ones, and those of the official libraries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amf_lightning.demonstrations.exporting.destination import export_demonstrations
from amf_lightning.demonstrations.importing.into_store import Imported, import_demonstrations
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.store import numbers
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.tasks.trajectory import Trajectory

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "formats"


def awkward(after_last: bool, count: int = 4) -> list[Trajectory]:
    """Episodes with entries of many shapes and types, a task with odd letters, and numbers that are hard to write."""
    made = []
    for number in range(count):
        generator = np.random.default_rng(number)
        steps = 1 + number
        seen = steps + after_last
        made.append(
            Trajectory(
                observations={
                    "depth": generator.normal(size=(seen, 2, 3)).astype(np.float32),
                    "flag": generator.integers(0, 2, (seen, 1)).astype(bool),
                    "image/front": generator.integers(0, 256, (seen, 32, 40, 3), np.uint8),
                    "image/grey": generator.integers(0, 256, (seen, 5, 4), np.uint8),
                    "joints": np.full((seen, 2), np.pi, np.float64) / (number + 3),
                    "ticks": np.full((seen, 2), 2**62 + 1 + number, np.int64),
                },
                actions=generator.uniform(-1, 1, (steps, 1)).astype(np.float32),
                rewards=generator.normal(size=steps) * 1e-300,
                task='grasp, "the" – cup/2' if number % 2 else "reach",
                seed=2**32 - 1 - number,
                success=bool(number % 2),
                metrics={"error": 0.1 * number},
                noise=4.0 if number == 1 else 1.0,
            )
        )
    return made


def store_of(folder: Path, trajectories: Sequence[Trajectory]) -> DemonstrationStore:
    """A store with these demonstrations."""
    store = DemonstrationStore(folder)
    for number, trajectory in enumerate(trajectories):
        store.write(number, trajectory)
    return store


def exported(store: DemonstrationStore, destination: Path, format: str) -> Path:
    """All of a store in a format."""
    export_demonstrations(store, dict.fromkeys(numbers(store.folder)), destination, format)
    return destination


def imported(source: Path, folder: Path, reading: Reading | None = None) -> Imported:
    """A source, brought into a store."""
    return import_demonstrations(source, folder, reading)
