"""Whether a selector knows which tasks are in need: what it said of them against the real gap, round by round.

    amf compare --config configs/compare/needs-humanoid.yaml --output runs/needs-humanoid
    python benchmarks/needs.py runs/needs-humanoid/runs/*

Before every choice a selector may say how much each task is in need: `GapReduction` the need that all rollouts so far
show, the gap that its learning curves expect, and what the rollouts of that round alone show, `InformationGain` the
variance of its belief (`need/<task>`, `gap/<task>`, `measured_gap/<task>` and `variance/<task>` in the ledger). The
real gap is one minus the score at the evaluation of the same policy, so the runs must deploy the latest one
(`deploy_margin: null`). A row is the mean, over the runs in a folder, of the rank correlation over tasks, in rounds
in which the largest real gap exceeds a limit: where no task is in need, there is no order to find. Rounds whose needs
are all alike count as 0.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import ledger_to_read
from amf_lightning.evaluation.statistics import Interval, bootstrap_interval, rank_correlation

KINDS = ("need", "gap", "measured_gap", "variance")


@dataclass(frozen=True)
class Round:
    """One choice."""

    demonstrations: int
    """That the policy was trained on."""
    largest_gap: float
    correlation: float


def rounds_of(folder: Path, kind: str) -> list[Round]:
    """The choices of a run of which the selector said needs of that kind and the policy was evaluated."""
    run = RunFolder(folder)
    curve = {(row.demonstrations, row.task): row.score for row in run.read_curve()}
    tasks = list(dict.fromkeys(task for _, task in curve if task != MEAN))
    found, trained_on = [], 0
    with ledger_to_read(run) as ledger:
        arrivals = list(ledger.arrivals().values())
        for number in sorted(set(arrivals)):
            said = ledger.diagnostics(number)
            needs = [said.get(f"{kind}/{task}", float("nan")) for task in tasks]
            gaps = [1 - curve.get((trained_on, task), float("nan")) for task in tasks]
            if np.isfinite(needs).all() and np.isfinite(gaps).all():
                correlation = rank_correlation(needs, gaps, orders=1)
                found.append(Round(trained_on, max(gaps), 0.0 if correlation is None else correlation.value))
            trained_on += arrivals.count(number)
    return found


@dataclass(frozen=True)
class Agreement:
    """Of the needs of a kind with the real gaps, over runs of one strategy."""

    runs: int
    rounds: int
    correlation: Interval
    """The mean over runs of the mean over their rounds, with its 90 % bootstrap interval."""
    thirds: tuple[float | None, ...]
    """Means over the first, middle and last rounds of the runs; None where there are none."""


def agreement(runs: Sequence[Path], kind: str, limit: float) -> Agreement | None:
    """Means over runs; None if no run has a round that counts."""
    rounds = [[each for each in rounds_of(run, kind) if each.largest_gap > limit] for run in runs]
    if not (rounds := [each for each in rounds if each]):
        return None
    means = [float(np.mean([each.correlation for each in some])) for some in rounds]
    thirds = [
        [each.correlation for some in rounds for each in some[len(some) * third // 3 : len(some) * (third + 1) // 3]]
        for third in range(3)
    ]
    of_thirds = tuple(float(np.mean(third)) if third else None for third in thirds)
    return Agreement(len(rounds), sum(map(len, rounds)), bootstrap_interval(means), of_thirds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategies", type=Path, nargs="+", help="folders with the run folders of several seeds")
    parser.add_argument("--limit", type=float, default=0.1, help="largest gap that a round has to exceed")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    rows = {}
    print("| | need | runs | rounds | rank correlation | first, middle, last third |\n|:--|:--|--:|--:|--:|:--|")
    for folder in arguments.strategies:
        runs = sorted(path.parent for path in folder.glob("*/curve.csv"))
        for kind in KINDS:
            if (row := agreement(runs, kind, arguments.limit)) is not None:
                rows[f"{folder.name}, {kind}"] = asdict(row)
                thirds = ", ".join("" if third is None else f"{third:.2f}" for third in row.thirds)
                mean, low, high = row.correlation
                print(
                    f"| {folder.name} | {kind} | {row.runs} | {row.rounds} | {mean:.2f} [{low:.2f}, {high:.2f}] "
                    f"| {thirds} |"
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
