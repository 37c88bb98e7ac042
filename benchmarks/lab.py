"""How long the commands at the robot take in a run of many demonstrations: `amf next`, `status`, `skip`, `undo`, `add`.

    OMP_NUM_THREADS=1 python benchmarks/lab.py

The run has 10,000 demonstrations of 50 tasks, each predicted, handed over with `amf add` and trained on, and two open
requests. What is added is an episode of 20 MB. Each command is a process of its own, and the median is taken. Times are
of the processor (user and system), so that what else runs on the machine counts for little; those of the clock stand
beside them. "Beyond the copy" is without what it takes to copy the file durably into the same folder.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from amf_lightning.campaign import acts
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.prediction import Prediction, Realised, written
from amf_lightning.campaign.receiving import DESCRIPTION
from amf_lightning.campaign.request import Request
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.durable import write_durably
from amf_lightning.tasks.description import SuiteDescription
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.trajectory import Trajectory

ROOT = Path(__file__).resolve().parents[1]
AMF = (sys.executable, "-m", "amf_lightning")
LIMITS = {"next": 1.0, "status": 1.0, "add": 0.5}
"""Seconds: issue 14. Of `add` beyond the copy."""
NAMES = {
    "next": "amf next",
    "status": "amf status",
    "skip": "amf skip",
    "undo": "amf undo",
    "copy": "a durable copy of the file",
    "add_whole": "amf add",
    "add": "amf add, beyond the copy",
    "known": "amf add of a file that is there",
}


def make_run(folder: Path, demonstrations: int, tasks: int, steps: int) -> None:
    """A run in which all but two requests were answered with `amf add`."""
    suite = SuiteDescription(
        "lab", {"image/front": Spec((96, 96, 3), "uint8")}, 7, False, None, tuple(f"task {i}" for i in range(tasks))
    )
    (folder / "demonstrations").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"active: {{budget: {2 * demonstrations}}}\nexpert: AwaitedExpert\n")
    scores, ledger = tuple(math.sin(i) for i in range(tasks)), Ledger(folder / "ledger.sqlite")
    requests = [
        Request(number, 0, suite.task_names[number % tasks], number % tasks, "InformationGain", scores, number)
        for number in range(demonstrations + 2)
    ]
    needs = tuple(math.cos(i) ** 2 for i in range(tasks))
    predicted = {
        each.demonstration: written(
            Prediction(each.scores[each.task_index], "nats", needs[each.task_index], "variance", needs, needs)
        )
        for each in requests
    }
    ledger.ask(requests, {}, {DESCRIPTION: suite.to_json()}, predicted)
    ledger.set_realised({number: written(Realised(0.5, 0.25)) for number in range(demonstrations)})
    with ledger.transaction() as connection:
        for number in range(demonstrations):
            connection.execute("INSERT INTO recorded VALUES (?, ?, NULL)", (number, f"{number:064x}"))
            acts.note(connection, acts.ADD, number, "operator", f"{number:016x}")
            (folder / "demonstrations" / f"{number:06d}.safetensors").touch()
    ledger.close()
    for number in range(2):
        rng = np.random.default_rng(number)
        images = rng.integers(0, 256, (steps, 96, 96, 3), dtype=np.uint8)
        actions = rng.uniform(-1, 1, (steps, 7)).astype(np.float32)
        episode = Trajectory({"image/front": images}, actions, None, f"task {(demonstrations + 1) % tasks}")
        DemonstrationStore(folder / f"given-{number}").write(0, episode)


def amf(*arguments: str | Path) -> tuple[float, float]:
    """Seconds of the processor and of the clock that a command takes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([*AMF, *map(str, arguments)], env=environment, capture_output=True, check=False)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode:
        sys.exit(f"amf {arguments} failed: {done.stderr.decode()}")
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system, seconds


def copied(source: Path, target: Path) -> tuple[float, float]:
    """Seconds of the processor and of the clock that a durable copy takes."""
    before, start = time.process_time(), time.perf_counter()
    write_durably(target, source.read_bytes())
    return time.process_time() - before, time.perf_counter() - start


def measure(run: Path, demonstrations: int, repetitions: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each command, of the processor and of the clock."""
    given = run / "given-0" / "000000.safetensors"
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    amf("next", run)  # compiles and warms the cache of files
    for _ in range(repetitions):
        times["next"].append(amf("next", run, "--json"))
        times["status"].append(amf("status", run))
        times["skip"].append(amf("skip", run, str(demonstrations), "--reason", "broken"))
        times["undo"].append(amf("undo", run))
        times["copy"].append(copied(given, run / "copied"))
        times["add_whole"].append(amf("add", run, given))
        times["known"].append(amf("add", run, given))
        whole, copy = times["add_whole"][-1], times["copy"][-1]
        times["add"].append((whole[0] - copy[0], whole[1] - copy[1]))
        amf("undo", run)
        (run / "demonstrations" / f"{demonstrations + 1:06d}.safetensors").unlink()  # or the next one would check it
    cpu, clock = ({name: statistics.median(pair[i] for pair in each) for name, each in times.items()} for i in (0, 1))
    return cpu, clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demonstrations", type=int, default=10_000, help="that the run has")
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--steps", type=int, default=760, help="of the episode that is added; 27 kB each")
    parser.add_argument("--repetitions", type=int, default=5, help="processes of each command")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        run = Path(folder, "run")
        make_run(run, options.demonstrations, options.tasks, options.steps)
        megabytes = (run / "given-0" / "000000.safetensors").stat().st_size / 1e6
        cpu, clock = measure(run, options.demonstrations, options.repetitions)
    print(
        f"A run of {options.demonstrations:,} demonstrations of {options.tasks} tasks; an episode of {megabytes:.0f} MB"
    )
    print("\n| | processor, s | clock, s | at most, s |")
    print("| --- | ---: | ---: | ---: |")
    for name, text in NAMES.items():
        print(f"| {text} | {cpu[name]:.2f} | {clock[name]:.2f} | {LIMITS.get(name, '')} |")
    met = all(cpu[name] <= limit for name, limit in LIMITS.items())
    print(f"\nThe limit is that of the last column, for the processor: {'met' if met else 'MISSED'}.")
    if options.json:
        numbers = {**cpu, **{f"{name}_clock": seconds for name, seconds in clock.items()}}
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
