"""Writes the results of a comparison: `summary.json`, `summary.md`, `curves.png`, `allocation.png`."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.evaluation.statistics import Interval
from amf_lightning.reading import read_json_mapping
from amf_lightning.reports.figures import Band, bands_figure, counts_figure, png, sweep_figure
from amf_lightning.reports.tables import PRIVILEGED, interval, markdown_table, number, plural, uses_phrase
from amf_lightning.studies.archive import Entry
from amf_lightning.studies.rows import RunFacts
from amf_lightning.studies.sentences import told_of_best, told_of_noise, told_of_runs
from amf_lightning.studies.specification import Specification, partner_of, setting_of
from amf_lightning.studies.statistics import MOST_PAIRED, gather_facts, measured_noise, score_band, summarise
from amf_lightning.studies.summary import Intervals, MetricSummary, StudyFacts, Summary

_FEW_SEEDS = 5
_FEW_NAMES = 8
_SECONDS = (
    " Seconds a run: of the whole process on one thread, median over the runs that were not resumed; they are as good "
    "as the machines were quiet."
)


def write_summary(
    output: Path,
    entries: Sequence[Entry],
    specification: Specification,
    budget: int,
    missing: Sequence[str],
    failed: Mapping[str, list[int]] | None = None,
) -> Path:
    """Writes `summary.md` and what it shows. Returns its path.

    Args:
        output: folder.
        entries: finished runs with their facts.
        specification: says which label the others are paired with, and what the settings of a sweep are.
        budget: N.
        missing: names of the runs that are not among `entries` yet.
        failed: seeds of those of them that failed, by label.
    """
    facts: dict[str, list[RunFacts]] = {}
    for entry in entries:
        if entry.facts and entry.curve.strategy in specification.strategies:
            facts.setdefault(entry.curve.strategy, []).append(entry.facts)
    tasks = entries[0].curve.tasks if entries else []
    return _write(output, entries, specification, budget, gather_facts(facts, tasks), missing, failed)


def write_from_rows(
    output: Path,
    entries: Sequence[Entry],
    specification: Specification,
    missing: Sequence[str],
    failed: Mapping[str, list[int]] | None = None,
) -> Path:
    """Like `write_summary` with the budget that the rows show.

    What rows without facts do not say comes from the `summary.json` that is there, if one is.
    """
    path = output / "summary.json"
    if all(entry.facts for entry in entries) or not path.is_file():
        budget = max((row.demonstrations for entry in entries for row in entry.curve.rows), default=0)
        return write_summary(output, entries, specification, budget, missing, failed)
    advice = "Remove it, to summarise without what it alone says."
    try:
        meta = read_json_mapping(path, advice)["meta"]
        budget, facts = int(meta["budget"]), StudyFacts.from_json(meta)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a summary of a comparison ({error!r}). {advice}") from error
    return _write(output, entries, specification, budget, facts, missing, failed)


def summary_text(summary: Summary) -> str:
    """`summary.md`."""
    budget, baseline, facts = summary.budget, summary.baseline, summary.facts
    runs = sum(len(seeds) for seeds in summary.seeds.values())
    lines = [
        "# Comparison of strategies",
        f"{len(summary.strategies)} strategies on {plural(len(summary.tasks), 'task')}, "
        f"{plural(budget, 'demonstration')} each, {plural(runs, 'run')}. "
        f"{_meaning_of_scores(facts)} "
        f"Brackets hold {100 * summary.level:.0f} % bootstrap intervals over seeds ({summary.resamples:,} resamples).",
    ]
    if summary.missing:
        lines += _missing(summary)
    if min(map(len, summary.seeds.values())) < _FEW_SEEDS:
        lines.append(f"With fewer than {_FEW_SEEDS} seeds the intervals say little.")
    lines += [
        "![Mean score against demonstrations](curves.png)",
        *(["![Scores and forgetting against the setting](sweep.png)"] if _sweep(summary) else []),
        _strategy_table(summary),
        f"AUC: mean score over 0 … {budget} demonstrations. To 0.8 and to 0.9: demonstrations until the mean score "
        f"reaches it, median over seeds with its interval; never counts as {budget + 1}. Forgetting: mean score lost "
        "on the tasks of the pre-training, negative where it rose; worst: where a run had lost most. Largest fall: of "
        "the mean score of these tasks below its start at any time, in the mean over seeds. †: uses privileged "
        "information. Setback: the largest fall of the mean score over all tasks from one evaluation to the next, mean "
        "over seeds.",
        *told_of_runs(summary),
        *told_of_best(summary),
        *told_of_noise(summary),
        f"## Difference to {baseline}, paired by seed",
        _paired_table(summary),
        f"Strategy minus baseline{', at its own setting' if _sweep(summary) else ''}. An interval that leaves out 0 is "
        "marked: ▲ better, ▼ worse." + (" Over the seeds that both have." if summary.missing else ""),
        *_pairs_section(summary),
        "## What each selector uses",
        _uses_table(summary),
        "Beyond the demonstrations themselves. Environment steps are what the selector took in the simulator, mean "
        "over runs. Privileged: information that one would not have, or not for free."
        + (_SECONDS if facts.seconds else ""),
    ]
    if facts.versions:
        lines.append(f"Made by amf_lightning {', '.join(facts.versions)}.")
    if 0 < len(facts.asked) <= MOST_PAIRED:
        lines += ["## What was asked", "![Demonstrations of each task](allocation.png)"]
    return "\n\n".join(lines) + "\n"


def _write(
    output: Path,
    entries: Sequence[Entry],
    specification: Specification,
    budget: int,
    facts: StudyFacts,
    missing: Sequence[str],
    failed: Mapping[str, list[int]] | None,
) -> Path:
    rows = [entry.curve for entry in entries if entry.curve.strategy in specification.strategies]
    summary = summarise(rows, specification.baseline, budget, facts, missing, specification.sweep, failed)
    if specification.repeated is not None:
        repeats = [entry.curve for entry in entries if entry.curve.strategy in specification.repeats]
        summary = replace(summary, noise=measured_noise(specification.repeated, rows, repeats, summary.budget))
    bands = {
        label: score_band([run for run in rows if run.strategy == label], summary.budget) for label in summary.seeds
    }
    write_durably(output / "curves.png", png(bands_figure(_drawn(bands, summary)), small=True))
    if points := _sweep(summary):
        levels = {label: _means(summary, label) for label in summary.strategies if not setting_of(label)}
        write_durably(output / "sweep.png", png(sweep_figure(points, levels, summary.sweep or "setting"), small=True))
    if 0 < len(facts.asked) <= MOST_PAIRED:
        write_durably(output / "allocation.png", png(counts_figure(facts.asked, summary.tasks), small=True))
    write_durably(output / "summary.json", json.dumps(summary.to_json(), indent=1, allow_nan=False) + "\n")
    write_durably(output / "summary.md", summary_text(summary))
    return output / "summary.md"


def _meaning_of_scores(facts: StudyFacts) -> str:
    if facts.scored_by:
        return f"**Nothing was simulated:** {'; '.join(facts.scored_by)}."
    return "Scores are normalised: 0 is random actions, 1 the expert."


def _missing(summary: Summary) -> list[str]:
    """Which runs are not in the means, and what follows from that."""
    failures = [f"{label} seed {seed}" for label, seeds in summary.failed.items() for seed in seeds]
    lines = []
    if failures:
        lines.append(
            f"**{plural(len(failures), 'run')} failed:** {', '.join(failures)}. What fails may differ from what does "
            "not, so a mean over the rest would mislead: of such a strategy (‡) the tables tell in parentheses what "
            "the finished runs have in the mean, without an interval, and no difference to it."
        )
    if others := [name for name in summary.missing if name not in failures]:
        lines.append(f"**{plural(len(others), 'run')} missing:** {_named(others)}.")
    return lines


def _named(missing: Sequence[str]) -> str:
    """Names of runs; if there are many, the number of each strategy's."""
    if len(missing) <= _FEW_NAMES:
        return ", ".join(missing)
    counts = Counter(name.rpartition(" seed ")[0] for name in missing)
    return ", ".join(f"{count} of {label}" for label, count in counts.items())


def _drawn(bands: Mapping[str, Band], summary: Summary) -> dict[str, Band]:
    """The bands that one picture can show: all, or the baseline and the best. A label tells how many runs failed."""
    best = sorted(bands, key=lambda label: -sum(bands[label].mean))[:MOST_PAIRED]
    shown = {label: band for label, band in bands.items() if label in {*best, summary.baseline}}
    return {
        f"{label} ({summary.seeds_of(label)} seeds)" if label in summary.failed else label: band
        for label, band in shown.items()
    }


def _sweep(summary: Summary) -> dict[str, dict[float, Intervals]]:
    """Means of the metrics by series and setting, of the strategies that are points of a sweep."""
    points: dict[str, dict[float, Intervals]] = {}
    for label in summary.strategies:
        if place := setting_of(label):
            series, setting = place
            points.setdefault(series, {})[setting] = _means(summary, label)
    return points


def _means(summary: Summary, label: str) -> Intervals:
    return {name: metric.mean for name, metric in summary.strategies[label].items()}


def _strategy_table(summary: Summary) -> str:
    header = [
        "strategy",
        "seeds",
        "AUC",
        "final score",
        "to 0.8",
        "to 0.9",
        "forgetting",
        "worst",
        "largest fall",
        "setback",
    ]
    rows = []
    for label, metrics in summary.strategies.items():
        rows.append(
            [
                _marked(label, summary),
                summary.seeds_of(label),
                *(_told(metrics[metric], metrics[metric].mean, 3) for metric in ("auc", "final")),
                *(_told(metrics[metric], metrics[metric].median, 1) for metric in ("demos_to_80", "demos_to_90")),
                *(_told(metrics[metric], metrics[metric].mean, 3) for metric in ("forgetting", "worst_forgetting")),
                number(summary.largest_fall[label], 3),
                _told(metrics["setback"], metrics["setback"].mean, 3),
            ]
        )
    return markdown_table(header, rows)


def _paired_table(summary: Summary) -> str:
    more_is_better = {"auc": True, "final": True, "demos_to_80": False, "demos_to_90": False, "forgetting": False}
    rows = []
    for label, differences in summary.paired.items():
        pairs = {*summary.seeds[label]} & {*summary.seeds[partner_of(label, summary.baseline, summary.seeds)]}
        cells = []
        for metric, upwards in more_is_better.items():
            difference = differences[metric]
            text = _interval(difference, 1 if metric.startswith("demos") else 3, signed=True)
            # One seed has no spread to judge by.
            if difference and len(pairs) > 1 and (difference.lo > 0 or difference.hi < 0):
                text += " ▲" if (difference.lo > 0) == upwards else " ▼"
            cells.append(text)
        rows.append([_marked(label, summary), *cells])
    return markdown_table(["strategy", "AUC", "final score", "to 0.8", "to 0.9", "forgetting"], rows)


def _pairs_section(summary: Summary) -> list[str]:
    if not summary.pairs:
        return []
    rows = [
        [
            _marked(label, summary),
            *(_interval(differences[other], 3, signed=True) if other != label else "" for other in summary.pairs),
        ]
        for label, differences in summary.pairs.items()
    ]
    table = markdown_table(["strategy", *summary.pairs], rows)
    return ["## Area under the curve, each against each", table, "Row minus column, paired by seed."]


def _uses_table(summary: Summary) -> str:
    facts = summary.facts
    header = ["strategy", "uses", "environment steps", *(["seconds a run"] if facts.seconds else [])]
    rows = [
        [
            f"{label} ‡" if label in summary.failed else label,
            uses_phrase(facts.uses[label]) if label in facts.uses else "–",
            number(facts.environment_steps.get(label), digits=0),
            *([number(facts.seconds.get(label), digits=0)] if facts.seconds else []),
        ]
        for label in summary.strategies
    ]
    return markdown_table(header, rows, left=2)


def _marked(label: str, summary: Summary) -> str:
    """The label, with a dagger if its selector uses privileged information, a double one if runs of it failed."""
    privileged = PRIVILEGED.intersection(summary.facts.uses.get(label, ()))
    return label + " †" * bool(privileged) + " ‡" * (label in summary.failed)


def _told(metric: MetricSummary, middle: Interval | None, digits: int) -> str:
    """A metric by its mean or median; in parentheses and without an interval if runs failed."""
    if metric.over_finished is not None:
        return f"({number(metric.over_finished, digits)})"
    return _interval(middle, digits)


def _interval(of: Interval | None, digits: int, signed: bool = False) -> str:
    return interval(of.value, of.lo, of.hi, digits, signed) if of else interval(None, None, None)
