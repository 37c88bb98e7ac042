"""How long `amf` takes to start beside the bare import of LightningCLI.

    OMP_NUM_THREADS=1 python benchmarks/startup.py

Each command is a process of its own; their order is shuffled in every round, and the median is taken. Times are of the
processor (user and system), so that what else runs on the machine counts for little; the JSON also has those of the
clock. "Start of a run" is all that `amf fit` does before it makes its parts: it reads the configuration and prints it.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AMF = (sys.executable, "-m", "amf_lightning")
BARE = "bare"
LIMIT_OF_READERS, LIMIT_OF_FIT = 1.0, 1.2
"""Seconds that a command may take which only reads, and times the bare import that `fit` may take."""


def commands(run: Path) -> dict[str, tuple[str, ...]]:
    return {
        BARE: (sys.executable, "-c", "from lightning.pytorch.cli import LightningCLI"),
        "fit_help": (*AMF, "fit", "--help"),
        "fit_start": (*AMF, "fit", "--config", "configs/halfcheetah.yaml", "--print_config"),
        "help": (*AMF, "--help"),
        "status": (*AMF, "status", str(run)),
        "completion": (*AMF, "__complete", "fit", "--selector", ""),
    }


NAMES = {
    BARE: "import LightningCLI",
    "fit_help": "amf fit --help",
    "fit_start": "start of a run",
    "help": "amf --help",
    "status": "amf status",
    "completion": "completion",
}


def measured(command: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of the processor and of the clock that a process takes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode:
        sys.exit(f"{command} failed: {done.stderr.decode()}")
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7, help="processes of each command")
    parser.add_argument("--json", type=Path, help="write the numbers here, too")
    options = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text("active: {budget: 3}\n")
        every = commands(Path(folder))
        for command in every.values():
            measured(command)  # compiles and warms the cache of files
        for _ in range(options.repetitions):
            for name in random.sample(list(every), len(every)):
                times.setdefault(name, []).append(measured(every[name]))
    cpu = {name: statistics.median(pair[0] for pair in times[name]) for name in every}
    clock = {name: statistics.median(pair[1] for pair in times[name]) for name in every}
    ratio = max(cpu["fit_help"], cpu["fit_start"]) / cpu[BARE]
    print("| | processor, s | clock, s | times the bare import | at most |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, text in NAMES.items():
        limit = f"{LIMIT_OF_FIT} ×" if name.startswith("fit") else "" if name == BARE else f"{LIMIT_OF_READERS} s"
        print(f"| {text} | {cpu[name]:.2f} | {clock[name]:.2f} | {cpu[name] / cpu[BARE]:.2f} | {limit} |")
    met = ratio <= LIMIT_OF_FIT and max(cpu[name] for name in ("help", "status", "completion")) < LIMIT_OF_READERS
    print(f"\nThe limit is {LIMIT_OF_FIT}, and {LIMIT_OF_READERS} s for what only reads: {'met' if met else 'MISSED'}.")
    if options.json:
        numbers = {**cpu, **{f"{name}_clock": seconds for name, seconds in clock.items()}, "ratio": ratio}
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
