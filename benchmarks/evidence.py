"""The README's table: what the default is worth on every suite, from the committed summaries of its comparisons.

    python benchmarks/evidence.py

A cell is the area under the curve, its mean and 90 % bootstrap interval over seeds, and the demonstrations to a mean
score of 0.8 (median over seeds). The largest mean of a row is bold. ≈ stands where the difference to the default,
paired by seed, has an interval that holds 0: the two cannot be told apart.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from amf_lightning.evaluation.statistics import paired_interval
from amf_lightning.reports.tables import markdown_table

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
DEFAULT = "GapReduction"
OTHERS = ("InformationGain", "Uniform", "RoundRobin", "Rebalancing")
SUITES = {
    "default-halfcheetah": "HalfCheetah, 4 of 10 known",
    "default-halfcheetah-one-known": "HalfCheetah, 1 of 10",
    "default-humanoid": "Humanoid, 2 of 6",
    "fetch": "Fetch, 6 of 12",
    "default-metaworld-four": "Metaworld, 2 of 4",
    "default-metaworld-mt10": "MT10, 5 of 10",
    "default-metaworld-mt50": "MT50, 25 of 50",
    "metaworld-four-flow": "Metaworld, 2 of 4, flow policy",
    "babyai": "BabyAI, 3 of 6",
}
"""Folder of each comparison, and its suite with the tasks that π0 knows."""


def table(results: Path = RESULTS) -> str:
    """The table as Markdown."""
    rows = []
    for folder, suite in SUITES.items():
        summary = json.loads((results / folder / "summary.json").read_text())
        strategies, never = summary["strategies"], summary["meta"]["budget"] + 1
        areas = {label: strategies[label]["auc"]["per_seed"] for label in (DEFAULT, *OTHERS)}
        best = max(areas, key=lambda label: float(strategies[label]["auc"]["mean"]))
        cells = []
        for label, area in areas.items():
            difference = paired_interval(area, areas[DEFAULT])
            alike = "≈" if label != DEFAULT and difference.lo <= 0 <= difference.hi else ""
            cells.append(f"{_cell(strategies[label], never, bold=label == best)}{alike}")
        rows.append([suite, str(len(areas[DEFAULT])), *cells])
    return markdown_table(["", "seeds", f"`{DEFAULT}`", *(f"`{label}`" for label in OTHERS)], rows)


def _cell(strategy: dict[str, Any], never: int, bold: bool) -> str:
    area, needed = strategy["auc"], strategy["demos_to_80"]["median"]
    shown, mark = "never" if needed >= never else f"{needed:g}", "**" if bold else ""
    return f"{mark}{area['mean']:.3f}{mark} [{area['lo']:.3f}–{area['hi']:.3f}], {shown}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the comparisons")
    print(table(parser.parse_args().results))


if __name__ == "__main__":
    main()
