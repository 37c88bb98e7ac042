"""How many more demonstrations a run may need, in all and of each task: read from its folder, without torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amf_lightning.campaign.curve import MEAN, CurveRow
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import ledger_to_read
from amf_lightning.evaluation.forecast import LEVEL, TARGET, Forecast, History, forecast


@dataclass(frozen=True)
class Outlook:
    """Forecasts of one run, with intervals of 80 %, if demonstrations are chosen as they were so far."""

    target: float
    mean: Forecast
    """Of the mean score over tasks."""
    tasks: Mapping[str, Forecast]
    """Of each task, by name."""


def outlook(
    rows: Sequence[CurveRow], shown: Sequence[str], target: float = TARGET, only: Collection[str] | None = None
) -> Outlook:
    """What the curve of a run says of what is to come.

    Args:
        rows: of `curve.csv`.
        shown: task of each demonstration, in the order in which they were trained on.
        target: score that is asked for.
        only: tasks of which to tell; None: all that the curve has.
    """
    names = list(dict.fromkeys(row.task for row in rows if row.task != MEAN))
    wanted = [name for name in names if only is None or name in only]
    mean = forecast(_history([row for row in rows if row.task == MEAN], len(names)), target)
    tasks = {
        name: forecast(_history([row for row in rows if row.task == name], len(names), shown), target)
        for name in wanted
    }
    return Outlook(target, mean, tasks)


def read_outlook(path: Path, target: float = TARGET, only: Collection[str] | None = None) -> Outlook:
    """The outlook of the run in a folder. A process may be writing there.

    Raises:
        InputError: one of its files is damaged.
    """
    folder = RunFolder(path)
    with ledger_to_read(folder) as ledger:
        names = {number: task for number, _, task, _, _ in ledger.outline()}
        shown = [names[number] for number in ledger.arrivals()]
    return outlook(folder.read_curve(), shown, target, only)


def phrase(told: Forecast) -> str:
    """A forecast in words.

    >>> phrase(Forecast(0.8, low=2, middle=3, high=7))
    '2 to 7 more demonstrations (80 % interval, median 3)'
    >>> phrase(Forecast(0.8, reached_after=1))
    'reached after 1 demonstration'
    >>> phrase(Forecast(0.8, unknown="it takes 3 evaluations, and there are 2"))
    'cannot tell: it takes 3 evaluations, and there are 2'
    """
    if told.reached_after is not None:
        return f"reached after {told.reached_after} demonstration{'' if told.reached_after == 1 else 's'}"
    if told.high is None:
        return f"cannot tell: {told.unknown}"
    span = str(told.low) if told.low == told.high else f"{told.low} to {told.high}"
    return f"{span} more demonstrations ({100 * LEVEL:.0f} % interval, median {told.middle})"


def _history(rows: Sequence[CurveRow], tasks: int, shown: Sequence[str] | None = None) -> History:
    counts = [row.demonstrations for row in rows]
    own = None if shown is None else [shown[:count].count(row.task) for count, row in zip(counts, rows, strict=True)]
    episodes = rows[-1].episodes if rows else None
    return History(counts, [row.score for row in rows], tasks, own, episodes)
