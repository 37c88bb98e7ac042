"""The rows of `curve.csv`: what every task of a run scored at each evaluation, over how many episodes."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amf_lightning.errors import InputError

if TYPE_CHECKING:  # it imports torch, which reading the folder of a run can do without
    from amf_lightning.evaluation.scores import Evaluation

MEAN = "mean"
"""What stands in the column `task` of the row that averages over tasks."""
CURVE_COLUMNS = ("demonstrations", "task", "return", "success", "score")
"""The columns that every table of rows has."""
FURTHER_COLUMNS = ("episodes", "score_of_rounds")
"""Those that follow where there is something to say in them: the first, or both."""


@dataclass(frozen=True)
class CurveRow:
    """One line of `curve.csv`."""

    demonstrations: int
    task: str
    """Name of a task, or `mean`."""
    episode_return: float
    success: float
    score: float
    episodes: int | None = None
    """How many are behind the other numbers, in the row `mean` those of all tasks together; None if unknown."""
    score_of_rounds: float | None = None
    """The score by the episodes that all evaluations of the run have; None if this one has no more than they."""

    @property
    def matched_score(self) -> float:
        """The score by the episodes that all evaluations of the run have: differences of it are of policies alone."""
        return self.score if self.score_of_rounds is None else self.score_of_rounds


def further_columns(rows: Sequence[CurveRow]) -> tuple[str, ...]:
    """Those of `FURTHER_COLUMNS` that a table of these rows has."""
    if any(row.score_of_rounds is not None for row in rows):
        return FURTHER_COLUMNS
    return FURTHER_COLUMNS[:1] if any(row.episodes is not None for row in rows) else ()


def cells(row: CurveRow, further: Sequence[str], text: Callable[[float], str] = repr) -> list[str]:
    """The row as text, in `CURVE_COLUMNS` and the further columns given; `text` writes a number.

    >>> cells(CurveRow(3, "run", -1.5, 1.0, 0.5, 20), FURTHER_COLUMNS)
    ['3', 'run', '-1.5', '1.0', '0.5', '20', '']
    """
    numbers = [text(number) for number in (row.episode_return, row.success, row.score)]
    episodes = "" if row.episodes is None else str(row.episodes)
    of_rounds = "" if row.score_of_rounds is None else text(row.score_of_rounds)
    return [str(row.demonstrations), row.task, *numbers, *[episodes, of_rounds][: len(further)]]


def row_from(line: Sequence[str], columns: int) -> CurveRow:
    """Inverse of `cells`, of a table with so many columns.

    Raises:
        ValueError: it is no such line.
    """
    if len(line) != columns:
        raise ValueError(f"{len(line)} cells under {columns} columns")
    demonstrations, task, episode_return, success, score, *further = line
    episodes, of_rounds = [*further, "", ""][:2]
    return CurveRow(
        int(demonstrations),
        task,
        float(episode_return),
        float(success),
        float(score),
        int(episodes) if episodes else None,
        float(of_rounds) if of_rounds else None,
    )


def is_header(line: Sequence[str]) -> bool:
    """Whether it names the columns of a table of rows, with further ones or without."""
    length = len(CURVE_COLUMNS)
    return tuple(line[:length]) == CURVE_COLUMNS and tuple(line[length:]) == FURTHER_COLUMNS[: len(line) - length]


def curve_table(rows: Sequence[CurveRow]) -> str:
    """`curve.csv`. Floats keep their bits."""
    text, further = io.StringIO(), further_columns(rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*CURVE_COLUMNS, *further))
    writer.writerows(cells(row, further) for row in rows)
    return text.getvalue()


def rows_of(evaluation: "Evaluation", task_names: Sequence[str], weights: Sequence[float] | None) -> Iterator[CurveRow]:
    """A row a task, then the row `mean`; see `RunFolder.write_curve`."""
    from amf_lightning.evaluation.scores import weighted_mean  # imports torch, which who only reads does without

    if MEAN in task_names:
        raise InputError(f"A task cannot be called '{MEAN}': tables keep that name for the mean over tasks.")
    weights = (1.0,) * len(task_names) if weights is None else weights
    if not math.isclose(weighted_mean(evaluation.scores, weights), evaluation.mean_score, rel_tol=1e-9, abs_tol=1e-12):
        raise ValueError(f"weights {weights} do not give the mean score {evaluation.mean_score}")
    number, unknown = evaluation.demonstrations, (None,) * len(task_names)
    episodes = evaluation.episodes or unknown
    of_rounds = evaluation.fewer.scores if evaluation.fewer else unknown
    columns = (evaluation.returns, evaluation.successes, evaluation.scores, episodes, of_rounds)
    for name, *values in zip(task_names, *columns, strict=True):
        yield CurveRow(number, name, *values)
    means = (weighted_mean(evaluation.returns, weights), weighted_mean(evaluation.successes, weights))
    total = sum(evaluation.episodes) if evaluation.episodes else None
    yield CurveRow(
        number, MEAN, *means, evaluation.mean_score, total, evaluation.fewer.mean_score if evaluation.fewer else None
    )
