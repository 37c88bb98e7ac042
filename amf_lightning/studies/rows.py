"""Reads finished runs into rows, and keeps the rows of many runs in one file, `curves.csv`."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amf_lightning.campaign.run_folder import CURVE_COLUMNS, MEAN, CurveRow, RunFolder
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError

COLUMNS = ("strategy", "seed", *CURVE_COLUMNS)


@dataclass(frozen=True)
class RunRows:
    """The curve of one run: what `curves.csv` keeps of it."""

    strategy: str
    seed: int
    rows: tuple[CurveRow, ...]

    def of(self, task: str) -> list[CurveRow]:
        """Rows of one task (or `mean`), in the order of demonstrations."""
        return sorted((row for row in self.rows if row.task == task), key=lambda row: row.demonstrations)

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order of the suite."""
        return list(dict.fromkeys(row.task for row in self.rows if row.task != MEAN))


@dataclass(frozen=True)
class RunFacts:
    """What a run folder says beyond its curve."""

    uses: tuple[str, ...]
    """What the selector used beyond the demonstrations."""
    environment_steps: float | None
    """Steps in the simulator that the selector cost beyond the demonstrations."""
    pretraining_tasks: tuple[str, ...] | None
    """Names of the tasks that π0 was trained on; None if unknown."""
    asked: tuple[str, ...]
    """Task of each demonstration, in order."""
    seconds: float | None = None
    """From the start of its process to its end; None if that is unknown or the run was resumed."""
    version: str | None = None
    """What `source_version` said where it was made; None if unknown."""


def read_run(strategy: str, seed: int, folder: RunFolder, **making: Any) -> tuple[RunRows, RunFacts]:
    """Rows and facts of a finished run. One that stopped early keeps its last scores up to the budget.

    Args:
        strategy: label.
        seed: seed.
        folder: of the run.
        making: the facts that the folder does not say, `seconds` and `version`.

    Raises:
        InputError: a file of the folder is damaged.
    """
    facts = folder.read_facts()
    pretraining = facts.get("pretraining_tasks")
    rows = folder.read_curve()
    if facts.get("stopped") and rows and (last := rows[-1].demonstrations) < facts["budget"]:
        rows += [replace(row, demonstrations=facts["budget"]) for row in rows if row.demonstrations == last]
    return RunRows(strategy, seed, tuple(rows)), RunFacts(
        uses=tuple(facts.get("uses") or ()),
        environment_steps=facts.get("environment_steps"),
        pretraining_tasks=None if pretraining is None else tuple(pretraining),
        asked=tuple(job.task for job in folder.read_selections()),
        **making,
    )


def write_rows(path: Path, runs: Sequence[RunRows]) -> None:
    """Writes `curves.csv`; floats so that reading gives the same bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        for row in run.rows:
            numbers = (repr(row.episode_return), repr(row.success), repr(row.score))
            writer.writerow((run.strategy, run.seed, row.demonstrations, row.task, *numbers))
    write_durably(path, text.getvalue())


def read_rows(path: Path) -> list[RunRows]:
    """Reads `curves.csv`, a run after the other.

    Raises:
        InputError: there is no such file, or a line is not one of ours; names it.
    """
    if not path.is_file():
        raise InputError(f"There is no {path}. Run the comparison first.")
    runs: dict[tuple[str, int], list[CurveRow]] = {}
    with path.open(newline="") as file:
        lines = csv.reader(file)
        if tuple(next(lines, ())) != COLUMNS:
            raise InputError(f"{path} does not begin with the columns {', '.join(COLUMNS)}.")
        for line in lines:
            try:
                strategy, seed, demonstrations, task, episode_return, success, score = line
                row = CurveRow(int(demonstrations), task, float(episode_return), float(success), float(score))
                runs.setdefault((strategy, int(seed)), []).append(row)
            except ValueError as error:
                raise InputError(f"{path}, line {lines.line_num} is not a row of a curve ({error}).") from error
    return [RunRows(strategy, seed, tuple(rows)) for (strategy, seed), rows in runs.items()]
