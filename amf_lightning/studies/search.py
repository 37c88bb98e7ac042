"""`amf search-schedule`: the best schedule that a search finds, as a bound on what any selector can reach."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from amf_lightning.configuration import user_path
from amf_lightning.durable import remove_leftovers, write_durably
from amf_lightning.errors import ExitCode, InputError
from amf_lightning.reports.tables import markdown_table
from amf_lightning.studies.archive import Archive, Entry
from amf_lightning.studies.command import check_rows, make_missing
from amf_lightning.studies.evolution import Evolution, Schedule, best_of, first_schedules
from amf_lightning.studies.plan import PROGRAM, plan_runs
from amf_lightning.studies.processes import Forked, Spawn, cold
from amf_lightning.studies.runner import Failure
from amf_lightning.studies.specification import Specification, parse_seeds, read_specification
from amf_lightning.studies.statistics import run_metrics
from amf_lightning.writable import check_folder

BEST, SUMMARY = "best.yaml", "search.md"
"""What a search leaves beside its rows: a selector that asks as the best schedule says, and how it was found."""


def add_search_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `amf search-schedule`."""
    parser.add_argument("--config", type=str, required=True, help="a comparison; its base, pretrain and baseline count")
    parser.add_argument("--output", type=str, required=True, help="folder of the rows and the result, to be committed")
    parser.add_argument("--runs", type=str, default=None, help="folder of the run folders (default: OUTPUT)")
    parser.add_argument("--seeds", type=str, default="0:3", help="A:B, of the runs of each schedule (default: 0:3)")
    parser.add_argument("--budget", type=int, default=None, help="demonstrations of a schedule (default: of the base)")
    parser.add_argument("--generations", type=int, default=20, help="after the first (default: 20)")
    parser.add_argument("--children", type=int, default=12, help="new schedules a generation (default: 12)")
    parser.add_argument("--parents", type=int, default=4, help="the best so far, that they come from (default: 4)")
    parser.add_argument("--search-seed", type=int, default=0, help="of the search's own draws (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, one thread each (default: 1)")
    parser.add_argument("--share-imports", action="store_true", help="import once for all runs, on one machine")


def run_search(args: Namespace, program: Sequence[str] = PROGRAM, spawn: Spawn | None = None) -> int:
    """Searches, going on from the rows that are there. Returns the exit code.

    Args:
        args: as `add_search_arguments` has them parsed.
        program: how the application is started.
        spawn: starts a process; by default as `args` say.

    Raises:
        InputError: an argument makes no sense, or there are rows of other settings in the output folder.
    """
    for name in ("children", "parents", "jobs"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} must be at least 1, got {getattr(args, name)}.")
    if min(args.generations, args.search_seed) < 0:
        raise InputError("--generations and --search-seed must not be negative.")
    if args.budget is not None and args.budget < 1:
        raise InputError(f"--budget must be at least 1, got {args.budget}.")
    output = user_path(args.output, "--output")
    folder = output if args.runs is None else user_path(args.runs, "--runs")
    for place in (output, folder):
        check_folder(place)
    remove_leftovers(output, output / "curves")
    trials = Trials(
        read_specification(Path(args.config)),
        parse_seeds(args.seeds),
        output,
        folder,
        program,
        spawn or (Forked if args.share_imports else cold),
        args.jobs,
        args.budget,
    )
    try:
        history = _searched(trials, args)
    except TrialError as failed:
        print(f"{len(failed.failures)} failed: {', '.join(each.run.name for each in failed.failures)}. See the logs.")
        return ExitCode.RUNS_FAILED
    best = best_of(history[-1])[0]
    write_durably(output / BEST, yaml.safe_dump(trials.selector(best), sort_keys=False, default_flow_style=None))
    write_durably(output / SUMMARY, _summary(trials, history, best))
    reached = f"{history[-1][best]:.3f}, the baseline {trials.reference:.3f}"
    print(f"Best of {len(history[-1])} schedules: {reached}. Summary: {output / SUMMARY}")
    return ExitCode.FINISHED


def _searched(trials: "Trials", args: Namespace) -> list[dict[Schedule, float]]:
    """The scores of all schedules tried until then, after each generation."""
    asked = trials.run_baseline()
    length, tasks = trials.budget, len(trials.tasks)
    evolution = Evolution(tasks, length, args.generations, args.children, args.parents, args.search_seed)
    first = first_schedules(tasks, length, asked)
    most = (len(first) + args.generations * args.children) * len(trials.seeds)
    print(f"At most {most} runs of {length} demonstrations, those included that are finished already")
    history = []
    for number, known in enumerate(evolution.run(first, trials.score)):
        history.append(known)
        print(f"generation {number}: best {max(known.values()):.3f} of {len(known)} schedules")
    return history


class TrialError(Exception):
    """Some runs of a search failed, so that a schedule has no score."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(", ".join(failure.run.name for failure in failures))
        self.failures = list(failures)


@dataclass
class Trials:
    """Tries schedules in runs, each once for each seed, and keeps their rows."""

    specification: Specification
    """Whose base and pretrain the runs have, and whose baseline is the reference."""
    seeds: Sequence[int]
    output: Path
    """Of the rows."""
    folder: Path
    """Of the run folders."""
    program: Sequence[str]
    spawn: Spawn
    jobs: int
    length: int | None = None
    """Demonstrations of a schedule; None: as the base says."""
    tasks: list[str] = field(default_factory=list)
    """Of the suite, in its order, known once the baseline has run."""
    budget: int = 0
    """N of the runs."""
    by_seed: dict[str, list[float]] = field(default_factory=dict)
    """Area under the curve of each strategy, seed by seed."""

    @property
    def reference(self) -> float:
        """Mean area under the curve of the baseline."""
        return mean(self.by_seed[self.specification.baseline])

    def run_baseline(self) -> list[Schedule]:
        """Runs the baseline, which tells the names of the tasks; what it asked for with each seed."""
        baseline = self.specification.baseline
        entries = self._made({baseline: self.specification.strategies[baseline]})
        self.tasks = entries[0].curve.tasks
        asked = [entry.facts.asked for entry in entries if entry.facts]
        return [tuple(self.tasks.index(task) for task in tasks) for tasks in asked]

    def score(self, schedules: Sequence[Schedule]) -> list[float]:
        """Mean area under the curve of each schedule over the seeds.

        Raises:
            TrialError: a run failed.
        """
        self._made({self.label(schedule): {"selector": self.selector(schedule)} for schedule in schedules})
        return [mean(self.by_seed[self.label(schedule)]) for schedule in schedules]

    def selector(self, schedule: Schedule) -> dict[str, Any]:
        """The selector that asks for it."""
        return {"class_path": "FixedSchedule", "init_args": {"tasks": [self.tasks[task] for task in schedule]}}

    def label(self, schedule: Schedule) -> str:
        """Name of a schedule in folders and rows: a hash, for it may be longer than a name can be."""
        names = json.dumps([self.tasks[task] for task in schedule])
        return f"schedule-{hashlib.sha256(names.encode()).hexdigest()[:12]}"

    def _made(self, strategies: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
        """Runs some strategies where they have no rows yet; their entries, strategy by strategy."""
        length = {} if self.length is None else {"active.budget": self.length}
        settings = {label: {**each, **length} for label, each in strategies.items()}
        trial = replace(self.specification, strategies=settings, repeated=None, repeat_count=0)
        runs = plan_runs(trial, self.seeds, self.folder, self.program)
        # In the order in which they are tried, so that the files grow at their end.
        archive = Archive(self.output, list(dict.fromkeys([*self.by_seed, *strategies])))
        check_rows(archive, runs, runs, drop=False)
        if failures := make_missing(trial, archive, runs, runs, self.output, self.jobs, self.spawn):
            raise TrialError(failures)
        self.budget = runs[0].budget
        entries = [entry for entry in archive.entries_of(runs) if entry.curve.strategy in strategies]
        for label in strategies:
            curves = [entry.curve for entry in entries if entry.curve.strategy == label]
            areas = [run_metrics(curve, self.budget, None)["auc"] for curve in curves]
            self.by_seed[label] = [area for area in areas if area is not None]
        return entries


def mean(values: Sequence[float]) -> float:
    """The mean of at least one number."""
    return sum(values) / len(values)


def _summary(trials: Trials, history: Sequence[Mapping[Schedule, float]], best: Schedule) -> str:
    """The page of a search."""
    seeds = f"seeds {trials.seeds[0]} to {trials.seeds[-1]}"
    of_best, of_baseline = trials.by_seed[trials.label(best)], trials.by_seed[trials.specification.baseline]
    areas = [
        [name, *(f"{area:.3f}" for area in values), f"{mean(values):.3f}"]
        for name, values in (("best schedule", of_best), (trials.specification.baseline, of_baseline))
    ]
    generations = [[str(number), str(len(known)), f"{max(known.values()):.3f}"] for number, known in enumerate(history)]
    return "\n".join(
        [
            "# The best schedule that a search found\n",
            f"Of {len(history[-1])} schedules of {trials.budget} demonstrations the best is\n",
            f"> {', '.join(trials.tasks[task] for task in best)}\n",
            f"Area under the curve ({seeds}):\n",
            markdown_table(["", *map(str, trials.seeds), "mean"], areas),
            "\nIt was chosen on these seeds and knows what no selector knows: their luck, too. Run it on others "
            f"(`--selector {BEST}`) before its area is taken for one that can be reached.\n",
            markdown_table(["generation", "schedules tried", "best area so far"], generations),
            "",
        ]
    )
