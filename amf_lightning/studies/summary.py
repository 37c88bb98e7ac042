"""The contents of `summary.json`: the numbers of a study over seeds, as types that know how to be written."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from amf_lightning.evaluation.statistics import Interval
from amf_lightning.studies.best import METHOD, BestSet
from amf_lightning.studies.noise import NoiseFloor

METRICS = (
    "auc",
    "final",
    "demos_to_80",
    "demos_to_90",
    "forgetting",
    "forgetting_positive",
    "worst_forgetting",
    "setback",
)
COUNTS = ("demos_to_80", "demos_to_90")
"""Metrics that are numbers of demonstrations. Of these the median is told, because `never` counts as N + 1."""

Intervals = Mapping[str, Interval | None]
"""Means by a name; None where no run, or no seed of both strategies, has the number."""


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one strategy over its seeds."""

    mean: Interval | None
    """None if no run has this metric, or if runs failed: a mean over the others is no mean over all."""
    per_seed: tuple[float, ...]
    """Values of the runs that have it, in the order of `Summary.seeds`."""
    median: Interval | None = None
    """Only for metrics in `COUNTS`; None as above."""
    over_finished: float | None = None
    """Where runs failed: the mean over those that finished, of metrics in `COUNTS` their median."""

    def to_json(self) -> dict[str, Any]:
        """`mean, lo, hi, per_seed`, and `median, median_lo, median_hi` if there is a median."""
        entries: dict[str, Any] = {**_mean_json(self.mean), "per_seed": list(self.per_seed)}
        if self.median:
            entries |= {"median": self.median.value, "median_lo": self.median.lo, "median_hi": self.median.hi}
        if self.over_finished is not None:
            entries["over_finished"] = self.over_finished
        return entries


@dataclass(frozen=True)
class SuccessRate:
    """Of the policies at the end, over all tasks and seeds."""

    successes: int
    trials: int
    lo: float
    hi: float
    """Ends of the exact interval (`clopper_pearson`): of these policies, not of those of other seeds."""

    def to_json(self) -> dict[str, Any]:
        """Plain types, with the share."""
        return {"rate": self.successes / self.trials, **asdict(self)}


@dataclass(frozen=True)
class StudyFacts:
    """What the runs' folders say beyond the rows. The mappings are by the label of a strategy."""

    uses: Mapping[str, list[str]] = field(default_factory=dict)
    """What the selector used beyond the demonstrations."""
    environment_steps: Mapping[str, float | None] = field(default_factory=dict)
    """Steps that the selector took in the simulator, mean over runs."""
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    """Seconds of a run's process, median over runs."""
    versions: list[str] = field(default_factory=list)
    """What made the runs, of all strategies together."""
    pretraining_tasks: Mapping[str, list[str] | None] = field(default_factory=dict)
    """Names of the tasks that π0 was trained on; None if unknown."""
    asked: Mapping[str, list[float]] = field(default_factory=dict)
    """Demonstrations of each task in the order of the suite, mean over runs, [K]."""
    scored_by: list[str] = field(default_factory=list)
    """How scores came about, a clause each, of runs whose scores are not normalised returns."""

    @classmethod
    def from_json(cls, meta: Mapping[str, Any]) -> "StudyFacts":
        """The facts in the `meta` of a `summary.json`; what is not there stays empty."""
        return cls(**{entry.name: meta[entry.name] for entry in fields(cls) if meta.get(entry.name)})


@dataclass(frozen=True)
class Summary:
    """The numbers of a study. The mappings are by the label of a strategy, in the order of the specification."""

    strategies: Mapping[str, Mapping[str, MetricSummary]]
    """Each of `METRICS`."""
    paired: Mapping[str, Intervals]
    """Each of `METRICS`: the strategy minus the baseline, which is left out, over the seeds that both have; see
    `specification.partner_of`. None where runs of one of them failed."""
    pairs: Mapping[str, Intervals] | None
    """Area under the curve: the strategy minus each other one. None if there are too many strategies to show."""
    largest_fall: Mapping[str, float | None]
    """See `statistics.largest_fall`."""
    setbacks: Mapping[str, list[int | None]]
    """Demonstrations at the evaluation after the largest fall of each run, in the order of `seeds`; None: no fall."""
    best: BestSet | None
    """Who cannot be told apart from the best in area under the curve."""
    best_unprivileged: BestSet | None
    """The same of the strategies that use nothing privileged; None if that is all of them."""
    success: Mapping[str, SuccessRate | None]
    """None where rows do not say how many episodes they have."""
    seeds: Mapping[str, list[int]]
    baseline: str
    budget: int
    """Demonstrations of each run, N."""
    tasks: list[str]
    """Names, in the order of the suite."""
    level: float
    """Probability mass of the intervals."""
    resamples: int
    """Bootstrap resamples behind each interval."""
    facts: StudyFacts
    missing: list[str] = field(default_factory=list)
    """Names of the runs that are not finished."""
    failed: Mapping[str, list[int]] = field(default_factory=dict)
    """Seeds whose runs failed, of the strategies that have such; they are among `missing`, too."""
    sweep: str | None = None
    """What the number in the labels of a sweep is, with its unit."""
    noise: NoiseFloor | None = None
    """What training alone does, if the comparison measures it."""

    def seeds_of(self, label: str) -> str:
        """How many seeds of a strategy are finished, and of how many, if not of all."""
        finished = len(self.seeds[label])
        missing = sum(name.rpartition(" seed ")[0] == label for name in self.missing)
        return f"{finished} of {finished + missing}" if missing else str(finished)

    def to_json(self) -> dict[str, Any]:
        """`{strategies, paired, meta}`; `mean, lo, hi` are null where an interval is None."""
        success = {label: of for label, of in self.success.items() if of}
        return {
            "strategies": {
                label: {name: metric.to_json() for name, metric in metrics.items()}
                for label, metrics in self.strategies.items()
            },
            "paired": _nested_json(self.paired),
            "meta": {
                "budget": self.budget,
                "missing": self.missing,
                **({"failed": dict(self.failed)} if self.failed else {}),
                **{key: value for key, value in asdict(self.facts).items() if value or key != "scored_by"},
                "sweep": self.sweep,
                "baseline": self.baseline,
                "seeds": dict(self.seeds),
                "pairs": None if self.pairs is None else _nested_json(self.pairs),
                "largest_fall": dict(self.largest_fall),
                "setbacks": dict(self.setbacks),
                "best": self.best.to_json() if self.best else None,
                "best_unprivileged": self.best_unprivileged.to_json() if self.best_unprivileged else None,
                "best_method": METHOD,
                "noise_floor": self.noise.to_json() if self.noise else None,
                **({"success": {label: of.to_json() for label, of in success.items()}} if success else {}),
                "tasks": self.tasks,
                "level": self.level,
                "resamples": self.resamples,
            },
        }


def _mean_json(interval: Interval | None) -> dict[str, float | None]:
    mean, lo, hi = interval or (None, None, None)
    return {"mean": mean, "lo": lo, "hi": hi}


def _nested_json(intervals: Mapping[str, Intervals]) -> dict[str, Any]:
    return {
        label: {name: _mean_json(interval) for name, interval in of_label.items()}
        for label, of_label in intervals.items()
    }
