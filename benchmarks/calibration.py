"""Whether needs and gains come true: what selectors say of each task, against what training on it really does.

    python benchmarks/calibration.py --suite halfcheetah --output docs/results/calibration-halfcheetah
    .venv-metaworld/bin/python benchmarks/calibration.py --suite metaworld-four \
        --output docs/results/calibration-metaworld-four

One run a seed, with the default's picks. Before some of them all selectors are asked for their needs and scores, and
every task is tried out: demonstrated, trained on, evaluated, on copies. Then a need should rank tasks as the real gap
does (one minus the score, ten episodes a task), and a score as the improvement of the mean score that the trial
brought. A cell is the mean over seeds of the rank correlation over tasks, with its 90 % bootstrap interval.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from amf_lightning.configuration import read_configuration
from amf_lightning.durable import write_durably
from amf_lightning.evaluation.statistics import bootstrap_interval, rank_correlation
from amf_lightning.needs import Need, Part, union
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from amf_lightning.selection.ensemble import EnsembleDisagreement
from amf_lightning.selection.evidence import OccupancyGap, PrequentialError, ReportedOutcomes
from amf_lightning.selection.gap_reduction import GapReduction
from amf_lightning.selection.informed import InformationGain
from amf_lightning.shipped import shipped_folder
from amf_lightning.uncertainty.embeddings import LastLayerFeatures

STAGES = (0, 3, 10)
"""Demonstrations before which selectors are asked: before any, in the middle, late."""
PICKS = "gaps, rollouts"


def selectors() -> dict[str, Selector]:
    """Those that are asked, by label; `PICKS` chooses."""
    unit = InformationGain(embedding=LastLayerFeatures(unit_norm=True))
    return {
        PICKS: GapReduction(OccupancyGap(), unit),
        "gaps, errors alone": GapReduction(PrequentialError(), unit),
        "gaps, outcomes (privileged)": GapReduction(ReportedOutcomes(), unit),
        "information, unit features": unit,
        "information, features": InformationGain(),
        "information, present features": InformationGain(
            embedding=LastLayerFeatures(of_pretrained=False, unit_norm=True)
        ),
        "ensemble": EnsembleDisagreement(),
    }


class Asked(Selector):
    """Picks as one of `selectors` and writes down what all of them say, and what trials of every task bring.

    Args:
        folder: gets `seed-S.json`.
    """

    gain_is, need, need_is = "score of the selector that picks", "gap", "share that the policy does not do yet"
    instead = "Choose another selector."

    def __init__(self, folder: str) -> None:
        self._folder, self._selectors = Path(folder), selectors()
        self.needs = union(*(each.needs for each in self._selectors.values()), (Need.EVALUATIONS, Need.TRIAL_TRAINING))

    @property
    def components(self) -> Mapping[str, Part]:
        return self._selectors

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """The choice of `PICKS`."""
        asked = len(context.demonstrations) in STAGES
        chosen = {
            label: selector.select(_as_told(context, label), batch_size)
            for label, selector in self._selectors.items()
            if asked or isinstance(selector, GapReduction)  # the others carry nothing from round to round
        }
        if asked:
            self._write(context, chosen)
        told = {f"{label}|{name}": value for label, each in chosen.items() for name, value in each.diagnostics.items()}
        picks = chosen[PICKS]
        return Selection(picks.picks, picks.scores, {**told, **picks.diagnostics}, picks.teaches)

    def _write(self, context: SelectionContext, chosen: Mapping[str, Selection]) -> None:
        assert context.lookahead is not None and context.scores is not None
        names = [task.name for task in context.suite.tasks]
        before = float(context.suite.distribution.double() @ _tensor(context.scores))
        row: dict[str, Any] = {
            "gaps": [1 - score for score in context.scores],
            "improvements": [context.lookahead([task]) - before for task in range(len(names))],
        }
        for label, each in chosen.items():
            kind = self._selectors[label].need
            needs = [each.diagnostics.get(f"{kind}/{name}", math.nan) for name in names]
            row[label] = {"needs": needs, "scores": list(each.scores[0])}
        path = self._folder / f"seed-{context.seed}.json"
        there = json.loads(path.read_text()) if path.exists() else {}
        write_durably(path, json.dumps({**there, str(len(context.demonstrations)): row}, indent=0) + "\n")


def _as_told(context: SelectionContext, label: str) -> SelectionContext:
    """With what that selector said in earlier rounds, under its own names."""
    told = tuple(
        {key.removeprefix(f"{label}|"): value for key, value in each.items() if key.startswith(f"{label}|")}
        for each in context.told
    )
    return replace(context, told=told)


def _tensor(values: Sequence[float]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def _cell(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> str:
    """Mean rank correlation; rows that do not vary count as 0, for they say nothing."""
    values = []
    for said, real in pairs:
        known = [(a, b) for a, b in zip(said, real, strict=True) if math.isfinite(a)]
        if len(known) > 2:
            found = rank_correlation([a for a, _ in known], [b for _, b in known], orders=2)
            values.append(0.0 if found is None else found.value)
    if not values:
        return "–"
    interval = bootstrap_interval(values)
    return f"{interval.value:.2f} [{interval.lo:.2f}, {interval.hi:.2f}]"


def table(folder: Path) -> str:
    """What the files of all seeds say."""
    seeds = [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*.json"))]
    lines = []
    for title, said, real in (
        ("need and real gap", "needs", "gaps"),
        ("score and improvement", "scores", "improvements"),
    ):
        lines += [f"| {title} | {' | '.join(f'after {stage}' for stage in STAGES)} |", f"|:--|{'--:|' * len(STAGES)}"]
        for label in selectors():
            cells = [
                _cell([(seed[str(stage)][label][said], seed[str(stage)][real]) for seed in seeds if str(stage) in seed])
                for stage in STAGES
            ]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        lines.append("")
    largest = [max(seed[str(stage)]["gaps"]) for stage in STAGES for seed in seeds if str(stage) in seed]
    lines.append(
        f"{len(seeds)} seeds; the largest gap of a task was between {min(largest):.2f} and {max(largest):.2f}."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("halfcheetah", "metaworld-four"), required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of what was said, and of the table")
    parser.add_argument("--runs", type=Path, default=Path("runs/calibration"), help="folder of the run folders")
    parser.add_argument("--seeds", default="0:3")
    arguments = parser.parse_args()
    compare, suite = shipped_folder("configs") / "compare", arguments.suite
    selector = {"class_path": "benchmarks.calibration.Asked", "init_args": {"folder": str(arguments.output)}}
    content = {
        "base": str(compare / "bases" / f"default-{suite}.yaml"),
        "pretrain": str(compare.parent / "pretrain" / f"{suite}-mismatched.yaml"),
        "baseline": "Asked",
        "seeds": arguments.seeds,
        "strategies": {"Asked": {"selector": selector, "active": {"budget": STAGES[-1] + 1}}},
    }
    runs = arguments.runs / suite
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / "calibration.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    read_configuration(path)
    command = [sys.executable, "-m", "amf_lightning", "compare", f"--config={path}", f"--output={runs}"]
    subprocess.run([*command, "--share-imports"], check=True)
    write_durably(arguments.output / "calibration.md", table(arguments.output))
    print(table(arguments.output))


if __name__ == "__main__":
    main()
