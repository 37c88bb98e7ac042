"""What it would do to setbacks to deploy a round's policy only where the free evidence does not say that it is worse.

    amf compare --config configs/compare/default-humanoid.yaml --output runs/humanoid --runs runs/humanoid
    python benchmarks/deploying.py "runs/humanoid/runs/latest deployed" --output docs/results/deploying

Played back on finished runs of `GapReduction` that deploy the latest policy: it was evaluated after every round, and
before the next choice the selector said the gap of each task, as its rollouts measured it (`measured_gap/<task>` in the
ledger) and as it was inferred from the rollouts of all rounds (`gap/<task>`). A rule deploys the policy of a round if
its mean gap over tasks is below that of the deployed one by a margin, and keeps the deployed one else. Training and
choices go on from the latest policy, as they did. The last policy is left out, since no evidence saw it.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import ledger_to_read
from amf_lightning.evaluation.statistics import Interval, bootstrap_interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlayedRun:
    """Of the policies before each choice of a run, [R]."""

    scores: Array
    """Mean over tasks at the evaluation of the policy."""
    measured: Array
    """Mean gap over tasks that rollouts of it showed."""
    inferred: Array
    """Mean gap over tasks that the rollouts of all rounds so far tell."""


def played(folder: Path) -> PlayedRun:
    """What was known and what was true in a finished run."""
    run = RunFolder(folder)
    curve = {(row.demonstrations, row.task): row.score for row in run.read_curve()}
    tasks = list(dict.fromkeys(task for _, task in curve if task != MEAN))
    rows, trained_on = [], 0
    with ledger_to_read(run) as ledger:
        arrivals = list(ledger.arrivals().values())
        for number in sorted(set(arrivals)):
            said = ledger.diagnostics(number)
            gaps = [np.mean([said[f"{kind}/{task}"] for task in tasks]) for kind in ("measured_gap", "gap")]
            rows.append([np.mean([curve[trained_on, task] for task in tasks]), *gaps])
            trained_on += arrivals.count(number)
    return PlayedRun(*np.array(rows).T)


Rule = Callable[[PlayedRun], Array]


def by(evidence: Callable[[PlayedRun], Array], margin: float) -> Rule:
    """Deploys what lies below the deployed policy by `margin`."""

    def scores(run: PlayedRun) -> Array:
        said, deployed, kept = evidence(run), 0, []
        for number in range(len(run.scores)):
            if said[number] < said[deployed] - margin:
                deployed = number
            kept.append(run.scores[deployed])
        return np.array(kept)

    return scores


RULES: dict[str, Rule] = {
    "the latest policy": lambda run: run.scores,
    "measured gap below": by(lambda run: run.measured, 0.0),
    "inferred gap below": by(lambda run: run.inferred, 0.0),
    "inferred gap below by 0.01": by(lambda run: run.inferred, 0.01),
    "score above (nobody knows it)": by(lambda run: 1 - run.scores, 0.0),
}


@dataclass(frozen=True)
class Outcome:
    """Of a rule, over runs, each with its 90 % bootstrap interval."""

    setback: Interval
    """The largest fall of the score from one round to the next."""
    area: Interval
    """Of the score over rounds, minus that of the latest policies."""
    last: Interval
    """The score before the last choice."""


def outcome(rule: Rule, runs: Sequence[PlayedRun]) -> Outcome:
    """What a rule does."""
    curves = [(rule(run), run.scores) for run in runs]
    falls = [max(0.0, float(-np.diff(mine).min())) for mine, _ in curves]
    areas = [float(np.trapezoid(mine - latest) / (len(mine) - 1)) for mine, latest in curves]
    return Outcome(
        bootstrap_interval(falls),
        bootstrap_interval(areas),
        bootstrap_interval([float(mine[-1]) for mine, _ in curves]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategies", type=Path, nargs="+", help="folders with the run folders of several seeds")
    parser.add_argument("--output", type=Path, help="write the table and its numbers here too")
    arguments = parser.parse_args()
    lines = ["| suite | deployed | runs | setback | area | last score |", "|:--|:--|--:|--:|--:|--:|"]
    rows = {}
    for folder in arguments.strategies:
        suite = folder.parents[1].name
        runs = [played(path.parent) for path in sorted(folder.glob("*/curve.csv"))]
        for name, rule in RULES.items():
            found = outcome(rule, runs)
            rows[f"{suite}, {name}"] = {"runs": len(runs), **asdict(found)}
            shown = [
                f"{mean:.3f} [{low:.3f}, {high:.3f}]" for mean, low, high in (found.setback, found.area, found.last)
            ]
            lines.append(f"| {suite} | {name} | {len(runs)} | {' | '.join(shown)} |")
    print("\n".join(lines))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "deploying.md").write_text("\n".join(lines) + "\n")
        (arguments.output / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
