"""Whether forecasts come true: plays every committed run forward, and forecasts at each of its evaluations.

    python benchmarks/forecast.py                    # the table of docs/results/forecast.md
    python benchmarks/forecast.py --seeds even       # the runs that the priors were found on

At each evaluation before the target is reached, `amf_lightning.evaluation.forecast` is given the curve up to there, and
its 80 % interval is held against the evaluation at which the run then reached the target. A run that never did says
only that it took more than was left of its budget: an interval that lies above that is right, one that lies below it is
wrong, and of one that holds it nobody knows; such forecasts are counted as open, and the coverage is given without them
and with all of them right.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amf_lightning.campaign.curve import MEAN
from amf_lightning.evaluation.forecast import Forecast, History, forecast
from amf_lightning.studies.rows import read_rows, tables

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
DESIGNED = "designed worlds"
NOT_DESIGNED = f"all but {DESIGNED}"
ALL = "all"
HALFCHEETAH = "HalfCheetah"
SUITES = {
    "integrator": "integrator",
    "goals": DESIGNED,
    "overlap": DESIGNED,
    "worlds-misleading": DESIGNED,
    "worlds-noisy": DESIGNED,
    "worlds-unlearnable": DESIGNED,
    "halfcheetah": HALFCHEETAH,
    "retention": HALFCHEETAH,
    "tuning-selection": HALFCHEETAH,
    "humanoid": "Humanoid",
    "tuning-worlds": "Humanoid",
    "metaworld-four": "Metaworld four",
    "metaworld-pixels": "Metaworld four",
    "mt10": "MT10",
    "mt50": "MT50",
    "fetch": "Fetch",
    "babyai": "BabyAI",
    "comparators": HALFCHEETAH,
}
"""The suite of a study by a part of its name; the first one counts."""
RIGHT, LOW, HIGH, OPEN, UNTOLD = "right", "reached before", "reached after", "open", "cannot tell"


@dataclass(frozen=True)
class PlayedRun:
    """A curve of one committed run: of the mean, or of a task."""

    study: str
    strategy: str
    seed: int
    task: str
    tasks: int
    demonstrations: Sequence[int]
    scores: Sequence[float]
    own: Sequence[int] | None
    episodes: int | None

    @property
    def suite(self) -> str:
        """What it is a run of."""
        for part, name in SUITES.items():
            if part in self.study:
                return name
        raise SystemExit(f"Which suite is '{self.study}' of? Name it in SUITES of benchmarks/forecast.py.")

    def until(self, place: int) -> History:
        """What was known at its evaluation of that number."""
        own = None if self.own is None else self.own[: place + 1]
        return History(self.demonstrations[: place + 1], self.scores[: place + 1], self.tasks, own, self.episodes)


@dataclass
class Count:
    """Forecasts by what became of them."""

    of: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    widths: list[float] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    """Whether the interval for the task's own demonstrations holds."""

    def add(self, each: "Played") -> None:
        """Counts a forecast."""
        told = each.told
        self.of[each.became] += 1
        if told.low is not None and told.high is not None:
            self.widths.append((told.high + 1) / (told.low + 1))
        if told.own is not None and each.own is not None:
            self.own.append(told.own[0] <= each.own <= told.own[1])

    @property
    def further(self) -> str:
        """What else there is to say."""
        if not self.own:
            return ""
        return (
            f"Of the task itself, the intervals hold in {sum(self.own) / len(self.own):.0%} of {len(self.own)} cases."
        )

    @property
    def told(self) -> int:
        """Those with an interval of which one knows whether it is right."""
        return self.of[RIGHT] + self.of[LOW] + self.of[HIGH]

    def line(self, name: str) -> str:
        """A line of the table."""
        every, told, still = sum(self.of.values()), self.told, self.of[OPEN]
        if not told:
            return (
                f"| {name} | {every} | {self.of[UNTOLD] / max(every, 1):.0%} | {told} | – | – | – | {still} | – | – |"
            )
        shares = [self.of[kind] / told for kind in (RIGHT, LOW, HIGH)]
        widths = sorted(self.widths)
        return (
            f"| {name} | {every} | {self.of[UNTOLD] / every:.0%} | {told} | **{shares[0]:.0%}** | {shares[1]:.0%} "
            f"| {shares[2]:.0%} | {still} | {(self.of[RIGHT] + still) / (told + still):.0%} "
            f"| {widths[len(widths) // 2]:.1f} |"
        )


HEADER = (
    "| | forecasts | cannot tell | told | right | reached before | reached after | open | right, open ones too "
    "| median (high + 1)/(low + 1) |\n|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def played(seeds: str, of_tasks: bool, studies: str = "*") -> Iterator[PlayedRun]:
    """The curves of all committed runs with even or odd seeds, of the studies whose names match a pattern."""
    parity = {"even": 0, "odd": 1}[seeds]
    for folder in sorted(path.parent for path in RESULTS.glob(f"{studies}/curves")):
        asked, episodes = _facts(folder / "runs.jsonl")
        for run in read_rows(tables(folder / "curves")):
            if run.seed % 2 != parity:
                continue
            picks, count = asked.get((run.strategy, run.seed)), len(run.tasks)
            for task in run.tasks if of_tasks else [MEAN]:
                rows, own = run.of(task), None
                if of_tasks:
                    if picks is None:
                        continue
                    own = [picks[: row.demonstrations].count(task) for row in rows]
                each = episodes and (episodes if of_tasks else episodes * count)
                counts, scores = [row.demonstrations for row in rows], [row.score for row in rows]
                yield PlayedRun(folder.name, run.strategy, run.seed, task, count, counts, scores, own, each)


def _facts(path: Path) -> tuple[dict[tuple[str, int], list[str]], int | None]:
    """What each run asked for, and how many episodes of each task an evaluation had."""
    shared, *runs = [json.loads(line) for line in path.read_text().splitlines()]
    episodes = shared["shared_settings"].get("data.evaluation_episodes")
    return {(run["strategy"], run["seed"]): run["asked"] for run in runs if "asked" in run}, episodes


@dataclass(frozen=True)
class Played:
    """A forecast, and what became of it."""

    told: Forecast
    became: str
    took: int | None
    """Demonstrations until the target was reached; None if it was not."""
    own: int | None
    """Those of the task itself among them."""


def outcomes(run: PlayedRun, target: float) -> Iterator[Played]:
    """The forecast at each evaluation before the target is reached."""
    place_then = next((place for place, score in enumerate(run.scores) if score >= target), None)
    for place, now in enumerate(run.demonstrations[:-1]):
        if place_then is not None and place >= place_then:
            return
        told, left = forecast(run.until(place), target), run.demonstrations[-1] - now
        took = None if place_then is None else run.demonstrations[place_then] - now
        own = None if place_then is None or run.own is None else run.own[place_then] - run.own[place]
        yield Played(told, judged(told, left, took), took, own)


def judged(told: Forecast, left: int, took: int | None) -> str:
    """What became of a forecast: `took` demonstrations it took, or None if not all that were `left` sufficed."""
    if told.low is None or told.high is None:
        return UNTOLD
    if took is not None:
        return LOW if took < told.low else HIGH if took > told.high else RIGHT
    return RIGHT if told.low > left else HIGH if told.high <= left else OPEN


def counted(runs: Sequence[PlayedRun], target: float) -> dict[str, Count]:
    """Counts by suite, and of all."""
    counts: dict[str, Count] = defaultdict(Count)
    for run in runs:
        for each in outcomes(run, target):
            for name in (run.suite, ALL, *(() if run.suite == DESIGNED else (NOT_DESIGNED,))):
                counts[name].add(each)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", choices=("odd", "even"), default="odd", help="which runs; the priors were found on even seeds"
    )
    parser.add_argument("--targets", type=float, nargs="+", default=[0.8, 0.9])
    options = parser.parse_args()
    for of_tasks in (False, True):
        runs = list(played(options.seeds, of_tasks))
        for target in options.targets:
            counts = counted(runs, target)
            print(
                f"\n{'Single tasks' if of_tasks else 'The mean over tasks'} to {target}, {options.seeds} seeds:\n\n"
                f"{HEADER}"
            )
            for name in dict.fromkeys([HALFCHEETAH, *SUITES.values(), NOT_DESIGNED, ALL]):
                print(counts[name].line(name))
            if further := counts[ALL].further:
                print(f"\n{further}")


if __name__ == "__main__":
    main()
