"""What a comparison shows over seeds, from the rows of its runs alone: pure functions on plain types."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amf_lightning.campaign.run_folder import MEAN
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import area_under_curve, demonstrations_to, forgetting
from amf_lightning.evaluation.statistics import bootstrap_interval, median_interval, paired_interval
from amf_lightning.reports.figures import Band
from amf_lightning.studies.rows import RunFacts, RunRows

METRICS = ("auc", "final", "demos_to_80", "demos_to_90", "forgetting", "forgetting_positive", "worst_forgetting")
_COUNTS = ("demos_to_80", "demos_to_90")
LEVEL = 0.9
RESAMPLES = 10_000
MOST_PAIRED = 15
"""Strategies up to which each is compared with each."""


def run_metrics(run: RunRows, budget: int, pretraining_tasks: Sequence[str] | None) -> dict[str, float | None]:
    """The numbers of one run (method, section 7).

    Args:
        run: its rows, evaluated from 0 to `budget` demonstrations.
        budget: N.
        pretraining_tasks: what π0 was trained on; forgetting is None where that is unknown or no task of the suite.

    Raises:
        InputError: the curve does not reach from 0 to N.
    """
    mean = run.of(MEAN)
    curve = [row.demonstrations for row in mean], [row.score for row in mean], budget
    kept = [[row.score for row in run.of(task)] for task in run.tasks if task in (pretraining_tasks or ())]
    moments = list(zip(*kept, strict=True))  # for each evaluation the scores of the pre-training tasks
    lost = [forgetting(moments[0], now, [True] * len(kept)) for now in moments]
    return {
        "auc": area_under_curve(*curve),
        "final": next(row.score for row in mean if row.demonstrations == budget),
        "demos_to_80": demonstrations_to(0.8, *curve),
        "demos_to_90": demonstrations_to(0.9, *curve),
        "forgetting": lost[-1].signed if lost else None,
        "forgetting_positive": lost[-1].positive if lost else None,
        "worst_forgetting": max(loss.signed for loss in lost) if lost else None,
    }


def summarise(runs: Sequence[RunRows], baseline: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of `summary.json`: `{strategies, paired, meta}`.

    `strategies[LABEL][METRIC]` holds `mean, lo, hi` (90 % bootstrap interval over seeds) and `per_seed`, in the order
    of `meta.seeds[LABEL]`; demonstrations to a score have their `median` (with `median_lo`, `median_hi`) too.
    `paired[LABEL][METRIC]` is the mean of the strategy minus the baseline over the seeds that both have.

    Args:
        runs: every finished run.
        baseline: label that the others are paired with.
        meta: what rows do not say, kept in `meta`: `pretraining_tasks` maps labels to names of tasks (or None);
            `budget` is the largest number of demonstrations in the rows if it is not given.

    Raises:
        InputError: no run of the baseline, or a curve that does not reach from 0 to the budget.
    """
    labels = list(dict.fromkeys(run.strategy for run in runs))
    if baseline not in labels:
        raise InputError(f"There is no finished run of the baseline '{baseline}' among: {', '.join(labels) or 'none'}.")
    budget = int(meta.get("budget") or max(row.demonstrations for run in runs for row in run.rows))
    known = meta.get("pretraining_tasks") or {}
    values = {
        label: {run.seed: run_metrics(run, budget, known.get(label)) for run in _of(label, runs)} for label in labels
    }
    return {
        "strategies": {
            label: {
                metric: _over_seeds(metric, [numbers[metric] for numbers in by_seed.values()]) for metric in METRICS
            }
            for label, by_seed in values.items()
        },
        "paired": {
            label: {metric: _difference(metric, by_seed, values[baseline]) for metric in METRICS}
            for label, by_seed in values.items()
            if label != baseline
        },
        "meta": {
            **meta,
            "baseline": baseline,
            "budget": budget,
            "seeds": {label: list(by_seed) for label, by_seed in values.items()},
            "pairs": _pairs(values) if len(labels) <= MOST_PAIRED else None,
            "largest_fall": {label: largest_fall(_of(label, runs), budget, known.get(label)) for label in labels},
            "tasks": runs[0].tasks,
            "level": LEVEL,
            "resamples": RESAMPLES,
        },
    }


def largest_fall(runs: Sequence[RunRows], budget: int, pretraining_tasks: Sequence[str] | None) -> float | None:
    """How far the mean score of the pre-training tasks, averaged over seeds, ever falls below where it started.

    0 if it never does; None where it is unknown what π0 was trained on, or no task of the suite is one of them.
    """
    kept = [task for task in runs[0].tasks if task in (pretraining_tasks or ())]
    if not kept:
        return None
    table = np.array(
        [[_held([(r.demonstrations, r.score) for r in run.of(task)], budget) for task in kept] for run in runs]
    ).mean(axis=1)
    change = (table - table[:, :1]).mean(axis=0)
    return max(0.0, float(-change.min()))


def score_band(runs: Sequence[RunRows], budget: int) -> Band:
    """Mean over seeds of the mean score with its 90 % interval, at 0 … N demonstrations.

    Where a run was not evaluated, its last score before holds, as in the area under the curve.
    """
    table = np.array([_held([(row.demonstrations, row.score) for row in run.of(MEAN)], budget) for run in runs])
    intervals = [bootstrap_interval(column, LEVEL, RESAMPLES) for column in table.T]
    means, los, his = zip(*intervals, strict=True)
    return Band(range(budget + 1), means, los, his)


def gather_facts(facts: Mapping[str, Sequence[RunFacts]], tasks: Sequence[str]) -> dict[str, Any]:
    """Facts of the runs of each strategy as entries of `meta`, by label.

    `environment_steps` is the mean over runs, `seconds` the median, `asked` the mean demonstrations of each task, [K].
    `versions` are those of all runs together.
    """
    return {
        "uses": {label: list(dict.fromkeys(use for fact in of for use in fact.uses)) for label, of in facts.items()},
        "environment_steps": {label: _mean([fact.environment_steps for fact in of]) for label, of in facts.items()},
        "seconds": {label: _median([fact.seconds for fact in of]) for label, of in facts.items()},
        "versions": sorted({fact.version for of in facts.values() for fact in of if fact.version}),
        "pretraining_tasks": {label: _common(label, of) for label, of in facts.items()},
        "asked": {
            label: [float(np.mean([fact.asked.count(task) for fact in of])) for task in tasks]
            for label, of in facts.items()
        },
    }


def _of(label: str, runs: Sequence[RunRows]) -> list[RunRows]:
    return [run for run in runs if run.strategy == label]


def _pairs(values: Mapping[str, Mapping[int, Mapping[str, float | None]]]) -> dict[str, Any]:
    """Difference in area under the curve of each strategy to each other one."""
    return {
        label: {other: _difference("auc", by_seed, values[other]) for other in values if other != label}
        for label, by_seed in values.items()
    }


def _over_seeds(metric: str, values: Sequence[float | None]) -> dict[str, Any]:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return {"mean": None, "lo": None, "hi": None, "per_seed": []}
    mean, lo, hi = bootstrap_interval(numbers, LEVEL, RESAMPLES)
    summary: dict[str, Any] = {"mean": mean, "lo": lo, "hi": hi, "per_seed": numbers}
    if metric in _COUNTS:
        median, median_lo, median_hi = median_interval(numbers, LEVEL, RESAMPLES)
        summary |= {"median": median, "median_lo": median_lo, "median_hi": median_hi}
    return summary


def _difference(
    metric: str, ours: Mapping[int, Mapping[str, float | None]], baseline: Mapping[int, Mapping[str, float | None]]
) -> dict[str, float | None]:
    pairs = [
        (value, other)
        for seed, numbers in ours.items()
        if seed in baseline and (value := numbers[metric]) is not None and (other := baseline[seed][metric]) is not None
    ]
    if not pairs:
        return {"mean": None, "lo": None, "hi": None}
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    mean, lo, hi = paired_interval(first, second, LEVEL, RESAMPLES)
    return {"mean": mean, "lo": lo, "hi": hi}


def _held(curve: Sequence[tuple[int, float]], budget: int) -> list[float]:
    """Score at 0 … N demonstrations; `curve` starts at 0."""
    known = dict(curve)
    held = [known[0]]
    for count in range(1, budget + 1):
        held.append(known.get(count, held[-1]))
    return held


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def _median(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.median(numbers)) if numbers else None


def _common(label: str, facts: Sequence[RunFacts]) -> list[str] | None:
    found = {fact.pretraining_tasks for fact in facts}
    if len(found) > 1:
        raise InputError(
            f"The runs of '{label}' began with policies that were pre-trained on different tasks: {found}."
        )
    tasks = found.pop() if found else None
    return None if tasks is None else list(tasks)
