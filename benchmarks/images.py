"""What a training step on pictures from the disk costs beside the same step on batches that are in memory already.

    OMP_NUM_THREADS=1 python benchmarks/images.py

A thousand demonstrations with a camera of 96 x 96 are written into a temporary folder as a run keeps them, and trained
on: `ChunkedMLP` with its `ConvEncoder`, AdamW, minibatches drawn and gathered as in `amf fit`. Windows of such steps
and of steps on minibatches gathered before take turns, and the best window of each counts. The limit is on the clock,
for which the second thread is there. Times of the processor, of all threads together, say what a single core would need
if nothing else ran on it.

The second table says how much memory the process holds (without what it maps from files, which the system takes back
when it needs to) while it trains, fits the normaliser and computes the statistics of an export over all demonstrations,
for which a thousand pictures pass the encoder at once.

The third table has what it takes to draw and gather a minibatch, without a step, in one process and one thread: ours,
and, where LeRobot is installed (an environment of its own: docs/from-a-lerobot-checkpoint.md), its loader's on the same
demonstrations, which `amf export` writes for it: shuffled, `LeRobotDataset` with chunks of actions in a `DataLoader`.
LeRobot keeps pictures as PNG, reads fewer bytes and decodes them each time; for that noise is the worst case.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amf_lightning.demonstrations.batches import BLOCK, MicroBatch, RoundBatches, Rows, Shards, demonstration_rows
from amf_lightning.demonstrations.exporting.destination import export_demonstrations
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.fine_tuning.round import losses_of, take_steps
from amf_lightning.policies.chunked_mlp import ChunkedMLP
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.retention.retention import NoRetention
from amf_lightning.suites.static import StaticSuite
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.trajectory import Trajectory

LIMIT = 0.9
"""Least share of the bare steps per second."""
FPS = 10
"""Frames a second that an export says there are, which is what it says by default."""
MOST = 400
"""MB that may be held, however many demonstrations there are."""


def suite_of(side: int) -> StaticSuite:
    specs = {"image/front": Spec((side, side, 3), "uint8"), "state": Spec((7,))}
    return StaticSuite("pictures", specs, 4, ["left", "right"])


def write_demonstrations(store: DemonstrationStore, suite: StaticSuite, count: int, length: int) -> int:
    """Writes demonstrations of noise; their bytes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        observations = {
            name: rng.integers(0, 256, (length, *spec.shape), np.uint8)
            if spec.is_image
            else rng.normal(size=(length, *spec.shape)).astype(np.float32)
            for name, spec in suite.observation.items()
        }
        actions = rng.uniform(-1, 1, (length, suite.action_dim)).astype(np.float32)
        store.write(number, Trajectory(observations, actions, None, suite.tasks[number % 2].name))
    return sum(path.stat().st_size for path in store.folder.iterdir())


class Training:
    """Steps of a policy on minibatches of any origin."""

    def __init__(self, policy: ChunkedMLP) -> None:
        self.policy = policy.train()
        self.optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3, fused=True)

    def steps(self, minibatches: Iterable[list[MicroBatch]]) -> None:
        take_steps(minibatches, lambda rows: losses_of(self.policy, NoRetention(), rows), {}, self.optimizer)


def minibatches(rows: Rows, batch_size: int, ahead: bool) -> Iterator[list[MicroBatch]]:
    """Endless ones, as a run draws and takes them."""
    number = 0
    while True:
        loader = RoundBatches(lambda: {"demonstrations": rows}, lambda: number, batch_size, BLOCK, Shards(1, (0,)), 0)  # noqa: B023
        for block in loader:
            yield from block if ahead else block._taken()
        number += 1


Seconds = dict[str, tuple[float, float]]
"""Of a step on each source: of the processor, and by the clock."""


def seconds_a_step(
    training: Training, sources: dict[str, Iterator[list[MicroBatch]]], steps: int, windows: int
) -> Seconds:
    """Of the best window of each; they take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for window in range(windows + 1):
        for name, source in sources.items():
            start = time.process_time(), time.perf_counter()
            training.steps(islice(source, steps))
            if window:  # the first one warms up
                end = time.process_time(), time.perf_counter()
                times[name].append(((end[0] - start[0]) / steps, (end[1] - start[1]) / steps))
    return {name: (min(each)[0], min(clock for _, clock in each)) for name, each in times.items()}


def lerobot_minibatches(store: DemonstrationStore, count: int, folder: Path, horizon: int, batch_size: int) -> Any:
    """Endless ones by LeRobot's loader, of the same demonstrations, which are exported into `folder`."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    export_demonstrations(store, dict.fromkeys(range(count)), folder, "lerobot")
    ahead = {"action": [step / FPS for step in range(horizon)]}
    dataset = LeRobotDataset("benchmark/images", root=folder, delta_timestamps=ahead)
    while True:
        yield from torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, drop_last=True)


def seconds_a_minibatch(sources: dict[str, Iterator[Any]], count: int, windows: int) -> Seconds:
    """Of the best window of each, without a step; they take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for window in range(windows + 1):
        for name, source in sources.items():
            start = time.process_time(), time.perf_counter()
            for _ in range(count):
                next(source)
            if window:  # the first one warms up
                end = time.process_time(), time.perf_counter()
                times[name].append(((end[0] - start[0]) / count, (end[1] - start[1]) / count))
    return {name: (min(each)[0], min(clock for _, clock in each)) for name, each in times.items()}


class Memory:
    """Watches how much memory the process holds, in a thread of its own."""

    def __enter__(self) -> "Memory":
        self.before = self.peak = held()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.peak = max(self.peak, held())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return max(1, self.peak - self.before)


def held() -> int:
    """Bytes of memory that are not those of files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


def measure(count: int, length: int, side: int, batch_size: int, steps: int, windows: int) -> dict[str, float]:
    """All numbers of both tables."""
    suite = suite_of(side)
    with tempfile.TemporaryDirectory() as folder:
        store = DemonstrationStore(Path(folder))
        size = write_demonstrations(store, suite, count, length)
        torch.manual_seed(0)
        policy = ChunkedMLP(suite.observation, suite.context_dim, suite.action_dim)
        training = Training(policy)
        shown = [store.read(number) for number in range(count)]
        rows = demonstration_rows(shown, suite, window=policy.window)
        ready = list(islice(minibatches(rows, batch_size, ahead=False), 4))
        sources = {
            "bare": cycle(ready),
            "loader": minibatches(rows, batch_size, ahead=True),
            "one_thread": minibatches(rows, batch_size, ahead=False),
        }
        alone: dict[str, Iterator[Any]] = {"minibatch": minibatches(rows, batch_size, ahead=False)}
        if find_spec("lerobot") is not None:
            place = Path(folder) / "lerobot"
            alone["lerobot"] = lerobot_minibatches(store, count, place, policy.window.horizon, batch_size)
        seconds = seconds_a_step(training, sources, steps, windows) | seconds_a_minibatch(alone, steps, windows)

        def train() -> None:
            training.steps(islice(sources["loader"], 2 * steps))

        def export() -> None:
            feature_statistics(frozen_copy(policy), rows.everything(), {})

        phases: dict[str, Callable[[], None]] = {
            "training": train,
            "normaliser": lambda: policy.fit_normaliser(rows.everything()),
            "export": export,
        }
        grown = {}
        for name, phase in phases.items():
            with Memory() as memory:
                phase()
            grown[f"{name}_bytes"] = float(memory.grown)
    of_processor, by_clock = ({name: each[kind] for name, each in seconds.items()} for kind in range(2))
    return {
        **of_processor,
        **{f"{name}_clock": value for name, value in by_clock.items()},
        "ratio": by_clock["bare"] / by_clock["loader"],
        "processor_ratio": of_processor["bare"] / of_processor["loader"],
        "bytes": float(size),
        **grown,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demonstrations", type=int, default=1000)
    parser.add_argument("--length", type=int, default=20, help="steps of each")
    parser.add_argument("--side", type=int, default=96, help="of the pictures, in pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps of a window")
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    row = measure(given.demonstrations, given.length, given.side, given.batch_size, given.steps, given.windows)
    print("| a step on | ms of the processor | share | ms by the clock | share |\n|---|---:|---:|---:|---:|")
    for what, name in (
        ("batches in memory", "bare"),
        ("batches from the files, taken ahead", "loader"),
        ("the same, taken when they are needed", "one_thread"),
    ):
        of_processor = f"{1e3 * row[name]:.1f} | {row['bare'] / row[name]:.2f}"
        clock = row[f"{name}_clock"]
        print(f"| {what} | {of_processor} | {1e3 * clock:.1f} | {row['bare_clock'] / clock:.2f} |")
    print(f"\nThe limit is {LIMIT}: {'met' if row['ratio'] >= LIMIT else 'MISSED'}.\n")
    print(f"| with {row['bytes'] / 1e6:.0f} MB of demonstrations | MB more in memory |\n|---|---:|")
    phases = ("training", "normaliser", "export")
    for name in phases:
        print(f"| {name} | {row[f'{name}_bytes'] / 1e6:.0f} |")
    worst = max(row[f"{name}_bytes"] for name in phases) / 1e6
    print(f"\nThe limit is {MOST} MB: {'met' if worst <= MOST else 'MISSED'}.")
    print("\n| a minibatch without a step | ms of the processor | ms by the clock |\n|---|---:|---:|")
    for what, name in (("ours", "minibatch"), ("LeRobot's loader", "lerobot")):
        if name in row:
            print(f"| {what} | {1e3 * row[name]:.1f} | {1e3 * row[f'{name}_clock']:.1f} |")
    if "lerobot" not in row:
        print("\nLeRobot's loader is left out: lerobot is not installed (docs/from-a-lerobot-checkpoint.md).")
    if given.json:
        given.json.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
