"""The statistics of a comparison over seeds, from the rows of its runs alone: pure functions on plain types."""

from collections.abc import Mapping, Sequence

import numpy as np

from amf_lightning.campaign.curve import MEAN
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Setback, area_under_curve, demonstrations_to, forgetting, largest_setback
from amf_lightning.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    clopper_pearson,
    median_interval,
    paired_interval,
)
from amf_lightning.reports.figures import Band
from amf_lightning.reports.tables import PRIVILEGED
from amf_lightning.studies.best import BestSet, best_set
from amf_lightning.studies.noise import NoiseFloor, noise_floor
from amf_lightning.studies.rows import RunFacts, RunRows
from amf_lightning.studies.specification import partner_of
from amf_lightning.studies.summary import COUNTS, METRICS, Intervals, MetricSummary, StudyFacts, SuccessRate, Summary

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
    pretrained = [
        [row.matched_score for row in run.of(task)] for task in run.tasks if task in (pretraining_tasks or ())
    ]
    moments = list(zip(*pretrained, strict=True))  # for each evaluation the scores of the pre-training tasks
    losses = [forgetting(moments[0], now, [True] * len(pretrained)) for now in moments]
    return {
        "auc": area_under_curve(*curve),
        "final": next(row.score for row in mean if row.demonstrations == budget),
        "demos_to_80": demonstrations_to(0.8, *curve),
        "demos_to_90": demonstrations_to(0.9, *curve),
        "forgetting": losses[-1].signed if losses else None,
        "forgetting_positive": losses[-1].positive if losses else None,
        "worst_forgetting": max(loss.signed for loss in losses) if losses else None,
        "setback": setback_of(run).fall,
    }


def setback_of(run: RunRows) -> Setback:
    """The largest fall of the mean score of a run from one evaluation to the next."""
    mean = run.of(MEAN)
    return largest_setback([row.demonstrations for row in mean], [row.matched_score for row in mean])


def summarise(
    runs: Sequence[RunRows],
    baseline: str,
    budget: int | None = None,
    facts: StudyFacts | None = None,
    missing: Sequence[str] = (),
    sweep: str | None = None,
    failed: Mapping[str, list[int]] | None = None,
) -> Summary:
    """The numbers of a study over seeds, with bootstrap intervals.

    Args:
        runs: every finished run.
        baseline: label that the others are paired with.
        budget: N; None stands for the largest number of demonstrations in the rows.
        facts: of the runs; forgetting is unknown for strategies whose pre-training tasks it does not name.
        missing: names of the runs that are not finished.
        sweep: what the number in the labels of a sweep is.
        failed: seeds whose runs failed, by label; no mean of such strategies and no difference to them is told.

    Raises:
        InputError: no run of the baseline, or a curve that does not reach from 0 to the budget.
    """
    labels = _labels(runs, baseline)
    budget = budget or max(row.demonstrations for run in runs for row in run.rows)
    facts, failed = facts or StudyFacts(), failed or {}
    of = {label: _of(label, runs) for label in labels}
    values = {label: _values(of[label], budget, facts.pretraining_tasks.get(label)) for label in labels}
    whole = {label: {} if label in failed else by_seed for label, by_seed in values.items()}
    best, best_unprivileged = _best_sets(whole, facts)
    return Summary(
        strategies={label: _metrics(by_seed, label in failed) for label, by_seed in values.items()},
        paired=_paired(whole, baseline),
        pairs=_pairs(whole) if len(labels) <= MOST_PAIRED else None,
        largest_fall={**dict.fromkeys(labels), **_falls(of, budget, facts, failed)},
        setbacks={label: [setback_of(run).demonstrations for run in of[label]] for label in labels},
        best=best,
        best_unprivileged=best_unprivileged,
        success={label: success_rate(of[label], budget) for label in labels},
        seeds={label: list(by_seed) for label, by_seed in values.items()},
        baseline=baseline,
        budget=budget,
        tasks=runs[0].tasks,
        level=LEVEL,
        resamples=RESAMPLES,
        facts=facts,
        missing=list(missing),
        failed=dict(failed),
        sweep=sweep,
    )


def _labels(runs: Sequence[RunRows], baseline: str) -> list[str]:
    labels = list(dict.fromkeys(run.strategy for run in runs))
    if baseline not in labels:
        raise InputError(f"There is no finished run of the baseline '{baseline}' among: {', '.join(labels) or 'none'}.")
    return labels


def _best_sets(
    values: Mapping[str, Mapping[int, Mapping[str, float | None]]], facts: StudyFacts
) -> tuple[BestSet | None, BestSet | None]:
    """Who may be best: of all, and of those that use nothing privileged where others do."""
    areas = {
        label: {seed: area for seed, numbers in by_seed.items() if (area := numbers["auc"]) is not None}
        for label, by_seed in values.items()
        if by_seed
    }
    free = {label: of for label, of in areas.items() if not PRIVILEGED.intersection(facts.uses.get(label, ()))}
    whole = best_set(areas, LEVEL, RESAMPLES)
    return whole, best_set(free, LEVEL, RESAMPLES) if len(free) < len(areas) else None


def _falls(
    runs: Mapping[str, Sequence[RunRows]], budget: int, facts: StudyFacts, failed: Mapping[str, list[int]]
) -> dict[str, float | None]:
    known = facts.pretraining_tasks
    return {label: largest_fall(of, budget, known.get(label)) for label, of in runs.items() if label not in failed}


def largest_fall(runs: Sequence[RunRows], budget: int, pretraining_tasks: Sequence[str] | None) -> float | None:
    """How far the mean score of the pre-training tasks, averaged over seeds, ever falls below where it started.

    0 if it never does; None where it is unknown what π0 was trained on, or no task of the suite is one of them.
    """
    pretrained = [task for task in runs[0].tasks if task in (pretraining_tasks or ())]
    if not pretrained:
        return None
    table = np.array(
        [
            [_held([(r.demonstrations, r.matched_score) for r in run.of(task)], budget) for task in pretrained]
            for run in runs
        ]
    ).mean(axis=1)
    change = (table - table[:, :1]).mean(axis=0)
    return max(0.0, float(-change.min()))


def success_rate(runs: Sequence[RunRows], budget: int) -> SuccessRate | None:
    """Of the policies after N demonstrations, all tasks alike; None where rows do not say how many episodes."""
    rows = [row for run in runs for row in run.rows if row.demonstrations == budget and row.task != MEAN]
    counts = [(round(row.success * row.episodes), row.episodes) for row in rows if row.episodes]
    if not counts or len(counts) < len(rows):
        return None
    successes, trials = (sum(column) for column in zip(*counts, strict=True))
    return SuccessRate(successes, trials, *clopper_pearson(successes, trials, LEVEL))


def measured_noise(label: str, runs: Sequence[RunRows], repeats: Sequence[RunRows], budget: int) -> NoiseFloor | None:
    """The noise floor from the runs of one strategy and those that differ from them in their training seed alone."""
    groups = {run.seed: [run_metrics(run, budget, None)] for run in runs if run.strategy == label}
    for run in repeats:
        if run.seed in groups:
            groups[run.seed].append(run_metrics(run, budget, None))
    return noise_floor(label, groups, LEVEL)


def score_band(runs: Sequence[RunRows], budget: int) -> Band:
    """Mean over seeds of the mean score with its 90 % interval, at 0 … N demonstrations.

    Where a run was not evaluated, its last score before holds, as in the area under the curve.
    """
    table = np.array([_held([(row.demonstrations, row.score) for row in run.of(MEAN)], budget) for run in runs])
    intervals = [bootstrap_interval(column, LEVEL, RESAMPLES) for column in table.T]
    means, los, his = zip(*intervals, strict=True)
    return Band(range(budget + 1), means, los, his)


def gather_facts(facts: Mapping[str, Sequence[RunFacts]], tasks: Sequence[str]) -> StudyFacts:
    """Facts of a study from those of the runs of each strategy, by label; `tasks` are in the order of the suite."""
    return StudyFacts(
        uses={label: list(dict.fromkeys(use for fact in of for use in fact.uses)) for label, of in facts.items()},
        environment_steps={label: _mean([fact.environment_steps for fact in of]) for label, of in facts.items()},
        seconds={label: _median([fact.seconds for fact in of]) for label, of in facts.items()},
        scored_by=sorted({fact.scored_by for of in facts.values() for fact in of if fact.scored_by}),
        versions=sorted({fact.version for of in facts.values() for fact in of if fact.version}),
        pretraining_tasks={label: _common(label, of) for label, of in facts.items()},
        asked={
            label: [float(np.mean([fact.asked.count(task) for fact in of])) for task in tasks]
            for label, of in facts.items()
        },
    )


def _of(label: str, runs: Sequence[RunRows]) -> list[RunRows]:
    return [run for run in runs if run.strategy == label]


def _paired(
    values: Mapping[str, Mapping[int, Mapping[str, float | None]]], baseline: str
) -> dict[str, dict[str, Interval | None]]:
    """Difference of each strategy to its partner in each metric."""
    partners = {label: partner_of(label, baseline, values) for label in values}
    return {
        label: {metric: _difference(metric, by_seed, values[partners[label]]) for metric in METRICS}
        for label, by_seed in values.items()
        if label != baseline
    }


def _pairs(values: Mapping[str, Mapping[int, Mapping[str, float | None]]]) -> dict[str, Intervals]:
    """Difference in area under the curve of each strategy to each other one."""
    return {
        label: {other: _difference("auc", by_seed, values[other]) for other in values if other != label}
        for label, by_seed in values.items()
    }


def _values(
    runs: Sequence[RunRows], budget: int, pretraining_tasks: Sequence[str] | None
) -> dict[int, dict[str, float | None]]:
    """The numbers of each run, by seed."""
    return {run.seed: run_metrics(run, budget, pretraining_tasks) for run in runs}


def _metrics(by_seed: Mapping[int, Mapping[str, float | None]], failed: bool) -> dict[str, MetricSummary]:
    return {
        metric: _over_seeds(metric, [numbers[metric] for numbers in by_seed.values()], failed) for metric in METRICS
    }


def _over_seeds(metric: str, values: Sequence[float | None], failed: bool) -> MetricSummary:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return MetricSummary(None, ())
    if failed:
        middle = np.median(numbers) if metric in COUNTS else np.mean(numbers)
        return MetricSummary(None, tuple(numbers), over_finished=float(middle))
    median = median_interval(numbers, LEVEL, RESAMPLES) if metric in COUNTS else None
    return MetricSummary(bootstrap_interval(numbers, LEVEL, RESAMPLES), tuple(numbers), median)


def _difference(
    metric: str, ours: Mapping[int, Mapping[str, float | None]], baseline: Mapping[int, Mapping[str, float | None]]
) -> Interval | None:
    pairs = [
        (value, other)
        for seed, numbers in ours.items()
        if seed in baseline and (value := numbers[metric]) is not None and (other := baseline[seed][metric]) is not None
    ]
    if not pairs:
        return None
    first, second = zip(*pairs, strict=True)
    return paired_interval(first, second, LEVEL, RESAMPLES)


def _held(curve: Sequence[tuple[int, float]], budget: int) -> list[float]:
    """Score at 0 … N demonstrations; `curve` starts at 0."""
    evaluated = dict(curve)
    scores = [evaluated[0]]
    for count in range(1, budget + 1):
        scores.append(evaluated.get(count, scores[-1]))
    return scores


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def _median(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.median(numbers)) if numbers else None


def _common(label: str, facts: Sequence[RunFacts]) -> list[str] | None:
    different = {fact.pretraining_tasks for fact in facts}
    if len(different) > 1:
        raise InputError(
            f"The runs of '{label}' began with policies that were pre-trained on different tasks: {different}."
        )
    tasks = different.pop() if different else None
    return None if tasks is None else list(tasks)
