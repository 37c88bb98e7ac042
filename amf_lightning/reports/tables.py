"""Tables and phrases of the reports, in markdown."""

import math
from collections.abc import Sequence

from amf_lightning.evaluation.scores import Evaluation, weighted_mean
from amf_lightning.needs import Need
from amf_lightning.tasks.task import TaskSuite

PRIVILEGED = frozenset(need.value for need in Need if need.privileged)
"""What a selector may use although nobody has it for free, in words: the reports mark it."""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A markdown table whose first `left` columns are aligned left and the others right.

    >>> print(markdown_table(["task", "score"], [["run", "0.50"], ["a|b", "1.00"]]))
    | task | score |
    |:-----|------:|
    | run  |  0.50 |
    | a\\|b |  1.00 |
    """
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [header, *rows]]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(":" + "-" * (width + 1) if i < left else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([line(cells[0]), f"|{rule}|", *(line(row) for row in cells[1:])])


def evaluation_table(evaluation: Evaluation, suite: TaskSuite) -> str:
    """Return, success and score of every task, and their mean under the suite's distribution."""
    weights = suite.distribution.tolist()
    columns = (evaluation.returns, evaluation.successes, evaluation.scores)
    rows = [
        [task.name, number(value, 1), percent(success), number(score, 3)]
        for task, value, success, score in zip(suite.tasks, *columns, strict=True)
    ]
    value, success = (weighted_mean(column, weights) for column in columns[:2])
    rows.append(["mean", number(value, 1), percent(success), number(evaluation.mean_score, 3)])
    return markdown_table(["task", "return", "success", "score"], rows)


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """A number of a table; an en dash for None and NaN.

    >>> number(0.126), number(0.126, signed=True), number(None), number(-0.0001), number(1234567.0, 0)
    ('0.13', '+0.13', '–', '0.00', '1,234,567')
    """
    if value is None or math.isnan(value):
        return "–"
    rounded = round(value, digits) + 0.0  # adding zero turns -0.0 into 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}"


def percent(share: float) -> str:
    """A share of a table; an en dash for NaN.

    >>> percent(0.126), percent(float("nan"))
    ('13 %', '–')
    """
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def interval(mean: float | None, lo: float | None, hi: float | None, digits: int = 2, signed: bool = False) -> str:
    """A mean with its interval.

    >>> interval(0.5, 0.41, 0.58), interval(None, None, None)
    ('0.50 [0.41, 0.58]', '–')
    """
    if mean is None:
        return "–"
    low, high = number(lo, digits, signed), number(hi, digits, signed)
    return f"{number(mean, digits, signed)} [{low}, {high}]"


def uses_phrase(uses: Sequence[str]) -> str:
    """What a selector uses beyond the demonstrations, privileged information marked.

    >>> uses_phrase([])
    'nothing'
    >>> uses_phrase(["simulator rollouts", "pre-training counts"])
    'simulator rollouts, pre-training counts (privileged)'
    """
    return ", ".join(f"{use} (privileged)" if use in PRIVILEGED else use for use in uses) or "nothing"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "round"), plural(2, "round")
    ('1 round', '2 rounds')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
