"""The curves of a study's runs: read from run folders, rounded, and kept in one compressed table a seed.

One table a seed, because studies are run seed by seed: a run that is added rewrites one small file, and two machines
that work on different seeds never write the same one.
"""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from amf_lightning.campaign.curve import CURVE_COLUMNS, MEAN, CurveRow, cells, further_columns, is_header, row_from
from amf_lightning.campaign.facts import ADVICE
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError

COLUMNS = ("strategy", "seed", *CURVE_COLUMNS)
DIGITS = 6
"""Significant digits of the numbers in a table. Scores are compared by their third one."""
_ADVICE = "Restore it, or remove it to make its runs anew."
SINGLE_TABLE = "curves.csv"
"""The uncompressed table of all seeds that version 0.1 wrote; it is still read."""


@dataclass(frozen=True)
class RunRows:
    """The curve of one run."""

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

    def rounded(self) -> "RunRows":
        """The same curve with the numbers that a table keeps of it. Rounding twice changes nothing more."""
        return replace(self, rows=tuple(_rounded(row) for row in self.rows))


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
    """What `source_version` said where the run was made; None if unknown."""
    scored_by: str | None = None
    """How scores came about, a clause; None where they are normalised returns."""


def facts_from(content: Mapping[str, Any]) -> RunFacts:
    """The facts in a line of JSON.

    Raises:
        KeyError: one is missing.
        ValueError: one has a type that no run gives it.
    """
    values = {field.name: content[field.name] for field in fields(RunFacts) if field.name != "scored_by"}
    values["scored_by"] = content.get("scored_by")  # only runs without returns have it
    for name in ("uses", "asked", "pretraining_tasks"):
        names = values[name]
        if names is None and name == "pretraining_tasks":
            continue
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise ValueError(f"{name} is no list of names")
        values[name] = tuple(names)
    for name in ("environment_steps", "seconds"):
        if isinstance(values[name], bool) or not isinstance(values[name], int | float | None):
            raise ValueError(f"{name} is no number")
    for name in ("version", "scored_by"):
        if not isinstance(values[name], str | None):
            raise ValueError(f"{name} is no text")
    return RunFacts(**values)


def read_run(
    strategy: str, seed: int, folder: RunFolder, seconds: float | None = None, version: str | None = None
) -> tuple[RunRows, RunFacts]:
    """Rows, rounded, and facts of a finished run. A run that stopped early keeps its last scores up to the budget.

    Args:
        strategy: label.
        seed: seed.
        folder: of the run.
        seconds: the fact of that name, which the folder does not say.
        version: likewise.

    Raises:
        InputError: a file of the folder is damaged.
    """
    facts = folder.read_facts()
    if facts.get("stopped") and "budget" not in facts:
        raise InputError(f"{folder.evaluation} says that the run stopped, but not its 'budget'. {ADVICE}")
    pretraining = facts.get("pretraining_tasks")
    rows = folder.read_curve()
    if facts.get("stopped") and rows and (last := rows[-1].demonstrations) < facts["budget"]:
        rows += [replace(row, demonstrations=facts["budget"]) for row in rows if row.demonstrations == last]
    return RunRows(strategy, seed, tuple(rows)).rounded(), RunFacts(
        uses=tuple(facts.get("uses") or ()),
        environment_steps=facts.get("environment_steps"),
        pretraining_tasks=None if pretraining is None else tuple(pretraining),
        asked=tuple(job.task for job in folder.read_selections()),
        seconds=seconds,
        version=version,
        scored_by=facts.get("scored_by") if rows and math.isnan(rows[-1].episode_return) else None,
    )


def write_rows(folder: Path, runs: Sequence[RunRows]) -> None:
    """Writes `seed-S.csv.gz` for every seed S among the runs and removes the tables of other seeds.

    A table whose text is the same already is left as it is: another zlib would compress it to other bytes.
    """
    texts = {_table(folder, seed): _text([run for run in runs if run.seed == seed]) for seed in {r.seed for r in runs}}
    for path, text in texts.items():
        if not (path.is_file() and _unpacked(path) == text):
            write_durably(path, gzip.compress(text.encode(), mtime=0))  # no time in it: equal rows, equal bytes
    for path in set(folder.glob(_table(folder, "*").name)) - texts.keys():
        path.unlink()


def read_rows(paths: Iterable[Path]) -> list[RunRows]:
    """The runs in tables, those in `.gz` files decompressed; numbers are rounded.

    A run that is in several of the tables with the same rows counts once. If the rows differ they are all kept, so
    that their number is not what `runs.jsonl` says.

    Raises:
        InputError: a file cannot be decompressed, or a line is not one of ours; names it.
    """
    runs: dict[tuple[str, int], RunRows] = {}
    for path in paths:
        for run in _read_table(path):
            key = run.strategy, run.seed
            there = runs.setdefault(key, run)
            if there.rows != run.rows:
                runs[key] = replace(run, rows=there.rows + run.rows)
    return list(runs.values())


def tables(folder: Path) -> list[Path]:
    """The tables that `write_rows` wrote, in the order of their names."""
    return sorted(folder.glob(_table(folder, "*").name))


def _table(folder: Path, seed: int | str) -> Path:
    return folder / f"seed-{seed}.csv.gz"


def _text(runs: Sequence[RunRows]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    further = further_columns([row for run in runs for row in run.rows])
    writer.writerow((*COLUMNS, *further))
    for run in runs:
        for row in run.rows:
            writer.writerow((run.strategy, run.seed, *cells(row, further, _short)))
    return text.getvalue()


def _read_table(path: Path) -> list[RunRows]:
    runs: dict[tuple[str, int], list[CurveRow]] = {}
    reader = csv.reader(io.StringIO(_unpacked(path), newline=""))
    try:
        lines = [(line, reader.line_num) for line in reader]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num} is not a row of a table ({error}). {_ADVICE}") from error
    own = len(COLUMNS) - len(CURVE_COLUMNS)
    if not lines or tuple(lines[0][0][:own]) != COLUMNS[:own] or not is_header(lines[0][0][own:]):
        raise InputError(f"{path} does not begin with the columns {', '.join(COLUMNS)}. {_ADVICE}")
    for line, number in lines[1:]:
        try:
            row = row_from(line[own:], len(lines[0][0]) - own)
            runs.setdefault((line[0], int(line[1])), []).append(_rounded(row))
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not a row of a curve ({error}). {_ADVICE}") from error
    return [RunRows(strategy, seed, tuple(rows)) for (strategy, seed), rows in runs.items()]


def _unpacked(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). {_ADVICE}") from error


def _rounded(row: CurveRow) -> CurveRow:
    return replace(
        row,
        episode_return=float(_short(row.episode_return)),
        success=float(_short(row.success)),
        score=float(_short(row.score)),
        score_of_rounds=None if row.score_of_rounds is None else float(_short(row.score_of_rounds)),
    )


def _short(number: float) -> str:
    return f"{number:.{DIGITS}g}"
