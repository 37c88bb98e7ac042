"""Recordings of tasks of `TinySuite`, and files of them as a lab may have them."""

from pathlib import Path
from typing import Any

import numpy as np

from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()


def shown(task: int, seed: int = 0) -> Trajectory:
    [trajectory] = TinyExpert().demonstrate(SUITE, [Episode(SUITE.tasks[task], seed)])
    assert trajectory is not None
    return trajectory


def save(path: Path, trajectory: Trajectory, **changes: Any) -> Path:
    """The recording as an archive of numpy; None leaves something out."""
    arrays: dict[str, Any] = {f"observation/{name}": entry for name, entry in trajectory.observations.items()}
    arrays |= {"action": trajectory.actions, "task": trajectory.task, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path
