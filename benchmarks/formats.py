"""Memory and time of export and import by number of episodes: `python -m benchmarks.formats --episodes 100 10000`.

Each export and each import is a process of its own, whose peak of memory is what the system says when it has ended. An
episode has 5 steps, a state of 7 numbers and a camera of 48×48.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amf_lightning.demonstrations.exporting.destination import FORMATS, export_demonstrations
from amf_lightning.demonstrations.importing.into_store import import_demonstrations
from amf_lightning.demonstrations.importing.store import numbers
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.tasks.trajectory import Trajectory

STEPS = 5


def episode(number: int) -> Trajectory:
    generator = np.random.default_rng(number)
    observations = {
        "image/front": np.repeat(generator.integers(0, 256, (STEPS, 48, 3, 3), np.uint8), 16, axis=2),
        "state": generator.normal(size=(STEPS, 7)).astype(np.float32),
    }
    actions = generator.uniform(-1, 1, (STEPS, 4)).astype(np.float32)
    return Trajectory(observations, actions, np.zeros(STEPS), f"task {number % 10}", number, True)


def fill(folder: Path, episodes: int) -> None:
    store = DemonstrationStore(folder)
    for number in range(episodes):
        store.write(number, episode(number))


def export(folder: Path, destination: Path, format: str) -> None:
    export_demonstrations(DemonstrationStore(folder), dict.fromkeys(numbers(folder)), destination, format)


def measured(work: Callable[..., object], *arguments: Any) -> tuple[float, float]:
    """MiB at the peak and seconds of a call in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, work, arguments))
    process.start()
    peak, seconds = receiver.recv()
    process.join()
    return peak, seconds


def _measure(sender: Any, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    begun = time.perf_counter()
    work(*arguments)
    seconds = time.perf_counter() - begun
    sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    values = parser.parse_args()
    print("format     episodes  export MiB   s  import MiB   s")
    for episodes in values.episodes:
        with tempfile.TemporaryDirectory() as place:
            fill(Path(place, "store"), episodes)
            for format in values.formats:
                there = Path(place, format)
                out = measured(export, Path(place, "store"), there, format)
                back = measured(import_demonstrations, there, Path(place, f"{format}-back"))
                print(f"{format:<10} {episodes:>8}  {out[0]:>10.0f} {out[1]:>4.0f}  {back[0]:>9.0f} {back[1]:>4.0f}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
