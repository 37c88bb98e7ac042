"""Writes what a comparison found: `summary.json`, `summary.md`, `curves.png`, `allocation.png`."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amf_lightning.durable import write_durably
from amf_lightning.reports.figures import Band, bands_figure, counts_figure, png, sweep_figure
from amf_lightning.reports.tables import PRIVILEGED, interval, markdown_table, number, plural, uses_phrase
from amf_lightning.studies.archive import Entry
from amf_lightning.studies.rows import RunFacts, RunRows
from amf_lightning.studies.specification import Comparison, setting_of
from amf_lightning.studies.statistics import MOST_PAIRED, gather_facts, score_band, summarise

_FEW_SEEDS = 5
_FEW_NAMES = 8
_SECONDS = (
    " Seconds a run: of the whole process on one thread, median over the runs that were not resumed; they are as good "
    "as the machines were quiet."
)


def write_summary(
    output: Path, entries: Sequence[Entry], comparison: Comparison, budget: int, missing: Sequence[str]
) -> Path:
    """Writes `summary.md` and what it shows. Returns its path.

    Args:
        output: folder.
        entries: finished runs with their facts.
        comparison: says which label the others are paired with, and what the settings of a sweep are.
        budget: N.
        missing: names of the runs that are not among `entries` yet.
    """
    facts: dict[str, list[RunFacts]] = {}
    for entry in entries:
        if entry.facts:
            facts.setdefault(entry.curve.strategy, []).append(entry.facts)
    meta = {"budget": budget, "missing": list(missing)}
    tasks = entries[0].curve.tasks if entries else []
    return _write(output, [entry.curve for entry in entries], comparison, meta | gather_facts(facts, tasks))


def write_from_rows(output: Path, entries: Sequence[Entry], comparison: Comparison, missing: Sequence[str]) -> Path:
    """Like `write_summary` with the budget that the rows show.

    What rows without facts do not say comes from the `summary.json` that is there, if one is.
    """
    rows = [entry.curve for entry in entries]
    if all(entry.facts for entry in entries):
        budget = max((row.demonstrations for run in rows for row in run.rows), default=0)
        return write_summary(output, entries, comparison, budget, missing)
    path = output / "summary.json"
    return _write(output, rows, comparison, json.loads(path.read_text())["meta"] if path.is_file() else {})


def summary_text(summary: Mapping[str, Any]) -> str:
    """`summary.md`."""
    meta = summary["meta"]
    budget, baseline = meta["budget"], meta["baseline"]
    runs = sum(len(seeds) for seeds in meta["seeds"].values())
    lines = [
        "# Comparison of strategies",
        f"{len(summary['strategies'])} strategies on {plural(len(meta['tasks']), 'task')}, "
        f"{plural(budget, 'demonstration')} each, {plural(runs, 'run')}. "
        "Scores are normalised: 0 is random actions, 1 the expert. "
        f"Brackets hold {100 * meta['level']:.0f} % bootstrap intervals over seeds ({meta['resamples']:,} resamples).",
    ]
    if missing := meta.get("missing"):
        lines.append(f"**{plural(len(missing), 'run')} missing:** {_named(missing)}.")
    if min(map(len, meta["seeds"].values())) < _FEW_SEEDS:
        lines.append(f"With fewer than {_FEW_SEEDS} seeds the intervals say little.")
    lines += [
        "![Mean score against demonstrations](curves.png)",
        *(["![Scores and forgetting against the setting](sweep.png)"] if _sweep(summary) else []),
        _strategy_table(summary),
        f"AUC: mean score over 0 … {budget} demonstrations. To 0.8 and to 0.9: demonstrations until the mean score "
        f"reaches it, median over seeds with its interval; never counts as {budget + 1}. Forgetting: mean score lost "
        "on the tasks of the pre-training, negative where it rose; worst: where a run had lost most. Largest fall: of "
        "the mean score of these tasks below its start at any time, in the mean over seeds. †: uses privileged "
        "information.",
        f"## Difference to {baseline}, paired by seed",
        _paired_table(summary),
        "Strategy minus baseline. An interval that leaves out 0 is marked: ▲ better, ▼ worse.",
        *_pairs_section(summary),
        "## What each selector uses",
        _uses_table(meta, list(summary["strategies"])),
        "Beyond the demonstrations themselves. Environment steps are what the selector took in the simulator, mean "
        "over runs. Privileged: information that one would not have, or not for free."
        + (_SECONDS if meta.get("seconds") else ""),
    ]
    if versions := meta.get("versions"):
        lines.append(f"Made by amf_lightning {', '.join(versions)}.")
    if 0 < len(meta.get("asked") or ()) <= MOST_PAIRED:
        lines += ["## What was asked", "![Demonstrations of each task](allocation.png)"]
    return "\n\n".join(lines) + "\n"


def _write(output: Path, rows: Sequence[RunRows], comparison: Comparison, known: Mapping[str, Any]) -> Path:
    summary = summarise(rows, comparison.baseline, {**known, "sweep": comparison.sweep})
    meta = summary["meta"]
    bands = {
        label: score_band([run for run in rows if run.strategy == label], meta["budget"]) for label in meta["seeds"]
    }
    write_durably(output / "curves.png", png(bands_figure(_drawn(bands, comparison.baseline))))
    if points := _sweep(summary):
        levels = {label: of for label, of in summary["strategies"].items() if not setting_of(label)}
        write_durably(output / "sweep.png", png(sweep_figure(points, levels, comparison.sweep or "setting")))
    if (asked := meta.get("asked")) and len(asked) <= MOST_PAIRED:
        write_durably(output / "allocation.png", png(counts_figure(asked, meta["tasks"])))
    write_durably(output / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    write_durably(output / "summary.md", summary_text(summary))
    return output / "summary.md"


def _named(missing: Sequence[str]) -> str:
    """Names of runs; if there are many, the number of each strategy's."""
    if len(missing) <= _FEW_NAMES:
        return ", ".join(missing)
    counts = Counter(name.rpartition(" seed ")[0] for name in missing)
    return ", ".join(f"{count} of {label}" for label, count in counts.items())


def _drawn(bands: Mapping[str, Band], baseline: str) -> dict[str, Band]:
    """The bands that one picture can show: all, or the baseline and the best."""
    best = sorted(bands, key=lambda label: -sum(bands[label].mean))[:MOST_PAIRED]
    return {label: band for label, band in bands.items() if label in {*best, baseline}}


def _sweep(summary: Mapping[str, Any]) -> dict[str, dict[float, Mapping[str, Any]]]:
    """Metrics by series and setting, of the strategies that are points of a sweep."""
    points: dict[str, dict[float, Mapping[str, Any]]] = {}
    for label, metrics in summary["strategies"].items():
        if found := setting_of(label):
            points.setdefault(found[0], {})[found[1]] = metrics
    return points


def _strategy_table(summary: Mapping[str, Any]) -> str:
    header = ["strategy", "seeds", "AUC", "final score", "to 0.8", "to 0.9", "forgetting", "worst", "largest fall"]
    rows = []
    for label, metrics in summary["strategies"].items():
        counts = [metrics[metric] for metric in ("demos_to_80", "demos_to_90")]
        rows.append(
            [
                _marked(label, summary["meta"]),
                str(len(summary["meta"]["seeds"][label])),
                *(_interval(metrics[metric], 3) for metric in ("auc", "final")),
                *(interval(count["median"], count["median_lo"], count["median_hi"], 1) for count in counts),
                *(_interval(metrics[metric], 3) for metric in ("forgetting", "worst_forgetting")),
                number(summary["meta"]["largest_fall"][label], 3),
            ]
        )
    return markdown_table(header, rows)


def _paired_table(summary: Mapping[str, Any]) -> str:
    seeds = summary["meta"]["seeds"]
    more_is_better = {"auc": True, "final": True, "demos_to_80": False, "demos_to_90": False, "forgetting": False}
    rows = []
    for label, metrics in summary["paired"].items():
        told = len({*seeds[label]} & {*seeds[summary["meta"]["baseline"]]}) > 1  # one seed has no spread to judge by
        cells = []
        for metric, upwards in more_is_better.items():
            found = metrics[metric]
            digits = 1 if metric.startswith("demos") else 3
            text = _interval(found, digits, signed=True)
            if told and found["mean"] is not None and (found["lo"] > 0 or found["hi"] < 0):
                text += " ▲" if (found["lo"] > 0) == upwards else " ▼"
            cells.append(text)
        rows.append([_marked(label, summary["meta"]), *cells])
    return markdown_table(["strategy", "AUC", "final score", "to 0.8", "to 0.9", "forgetting"], rows)


def _pairs_section(summary: Mapping[str, Any]) -> list[str]:
    pairs = summary["meta"]["pairs"]
    if not pairs:
        return []
    rows = [
        [
            _marked(label, summary["meta"]),
            *(_interval(of[other], 3, signed=True) if other != label else "" for other in pairs),
        ]
        for label, of in pairs.items()
    ]
    table = markdown_table(["strategy", *pairs], rows)
    return ["## Area under the curve, each against each", table, "Row minus column, paired by seed."]


def _uses_table(meta: Mapping[str, Any], labels: Sequence[str]) -> str:
    uses, steps, seconds = (meta.get(key) or {} for key in ("uses", "environment_steps", "seconds"))
    header = ["strategy", "uses", "environment steps", *(["seconds a run"] if seconds else [])]
    rows = [
        [
            label,
            uses_phrase(uses[label]) if label in uses else "–",
            number(steps.get(label), digits=0),
            *([number(seconds.get(label), digits=0)] if seconds else []),
        ]
        for label in labels
    ]
    return markdown_table(header, rows, left=2)


def _marked(label: str, meta: Mapping[str, Any]) -> str:
    """The label, with a dagger if its selector uses privileged information."""
    return f"{label} †" if PRIVILEGED.intersection((meta.get("uses") or {}).get(label, ())) else label


def _interval(found: Mapping[str, float | None], digits: int, signed: bool = False) -> str:
    return interval(found["mean"], found["lo"], found["hi"], digits, signed)
