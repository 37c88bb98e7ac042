"""How well worlds foretell the gaps that are measured, in finished runs of `GapReduction`.

    amf compare --config configs/compare/tuning-worlds.yaml --output runs/results --runs runs/tuning-worlds
    python benchmarks/foretold.py runs/tuning-worlds/runs/GapReduction --output docs/results/foretold

Played back: what came in each round, and the gap of each task that rollouts measured before the next
(`measured_gap/<task>` in the ledger), are told to worlds with other constants. The figure is the mean over runs of the
logarithm of the density of everything that was measured in a run, in nats, minus that of independent tasks with the
constants of the default. Tasks are taken for independent or for linear, since the belief about the expert is not
on the disk.
"""

import argparse
import importlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import ledger_to_read
from amf_lightning.policies.weights import load_policy
from amf_lightning.selection.evidence import OccupancyGap
from amf_lightning.selection.learning_curves import LearningCurves
from amf_lightning.selection.learning_worlds import CorrelatedTasks, LinearTasks, Worlds

WORLDS = 512
"""Half of the default's."""
ERROR = OccupancyGap().error
DRIFT = 0.2
"""Those of the default."""


@dataclass(frozen=True)
class Played:
    """What happened in a run."""

    gaps: Tensor
    """Measured before each choice, [R, K]."""
    came: Tensor
    """Demonstrations of each task in each round, [R, K]."""
    before: Tensor
    """π0's demonstrations of each task, [K]."""
    contexts: Tensor | None
    """[K, C]; None where they are words."""


def played(folder: Path) -> Played:
    """What a finished run's ledger says."""
    run = RunFolder(folder)
    config = run.read_config()
    module, _, name = config["suite"]["class_path"].rpartition(".")
    suite = getattr(importlib.import_module(module), name)(**config["suite"].get("init_args", {}))
    names = [task.name for task in suite.tasks]
    statistics = load_policy(config["model"]["pretrained"]).statistics
    covers = {} if statistics is None else statistics.covers
    asked = {request.demonstration: request.task for request in run.read_selections()}
    with ledger_to_read(run) as ledger:
        arrivals = ledger.arrivals()
        rounds = 1 + max(arrivals.values())
        gaps = torch.full((rounds, len(names)), math.nan, dtype=torch.float64)
        came = torch.zeros_like(gaps)
        for number in range(rounds):
            said = ledger.diagnostics(number)
            gaps[number] = torch.tensor([said.get(f"measured_gap/{task}", math.nan) for task in names])
        for demonstration, number in arrivals.items():
            came[number, names.index(asked[demonstration])] += 1
    before = torch.tensor([float(covers.get(task, 0)) for task in names], dtype=torch.float64)
    return Played(gaps, came, before, None if suite.language else suite.contexts.to(torch.float64))


Make = Callable[[Played, float], Worlds]


def independent(run: Played, drift: float) -> Worlds:
    """Tasks that have nothing to do with each other."""
    return CorrelatedTasks(torch.eye(len(run.before), dtype=torch.float64), run.before, 0.0, drift, WORLDS)


def linear(run: Played, drift: float) -> Worlds:
    """Tasks that are one function of the numbers that policies are told."""
    assert run.contexts is not None
    return LinearTasks(run.contexts, run.before, drift, WORLDS)


def density(runs: Sequence[Played], make: Make, drift: float, error: float) -> float:
    """Mean over runs of the log density of all measurements, in nats."""
    total = 0.0
    for run in runs:
        curves = LearningCurves([(make(run, drift), 1.0)])
        for number, seen in enumerate(run.gaps):
            if number:
                curves.train(run.came[number - 1])
            curves.measure(seen, error)
        total += curves.log_density - 0.5 * float(run.gaps.isfinite().sum()) * math.log(2 * math.pi)
    return total / len(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategies", type=Path, nargs="+", help="folders with the run folders of several seeds")
    parser.add_argument("--drifts", type=float, nargs="+", default=[0.02, 0.05, 0.1, DRIFT])
    parser.add_argument("--errors", type=float, nargs="+", default=[ERROR, 0.18, 0.12])
    parser.add_argument("--output", type=Path, help="write the table and its numbers here too")
    arguments = parser.parse_args()
    columns = [f"drift {drift:g}" for drift in arguments.drifts]
    lines = [f"| runs | tasks | error | {' | '.join(columns)} |", f"|:--|:--|--:|{'--:|' * len(columns)}"]
    rows = []
    for folder in arguments.strategies:
        runs = [played(path.parent) for path in sorted(folder.glob("*/report.md"))]
        default = density(runs, independent, DRIFT, ERROR)
        kinds: dict[str, Make] = {"independent": independent}
        if runs[0].contexts is not None and LinearTasks.may_hold(runs[0].contexts):
            kinds["linear"] = linear
        for kind, make in kinds.items():
            for error in arguments.errors:
                gained = [density(runs, make, drift, error) - default for drift in arguments.drifts]
                label = f"{folder.parents[1].name}, {folder.name} ({len(runs)})"
                rows.append(
                    {"runs": label, "tasks": kind, "error": error, "gained": dict(zip(columns, gained, strict=True))}
                )
                lines.append(f"| {label} | {kind} | {error:.2f} | {' | '.join(f'{value:+.1f}' for value in gained)} |")
    print("\n".join(lines))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "foretold.md").write_text("\n".join(lines) + "\n")
        (arguments.output / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
