"""The part of a report about what is to come: how many more demonstrations a target may take."""

from collections.abc import Sequence

from amf_lightning.campaign.curve import CurveRow
from amf_lightning.campaign.outlook import outlook, phrase
from amf_lightning.campaign.request import Request
from amf_lightning.evaluation.forecast import TARGET, Forecast
from amf_lightning.reports.tables import markdown_table

_FURTHER = 0.9
_SHOWN = 12
"""Tasks that the table has at most, those that take longest first."""


def outlook_section(rows: Sequence[CurveRow], jobs: Sequence[Request]) -> list[str]:
    """A sentence on the mean score, and a line for each task that is not there yet.

    Args:
        rows: of `curve.csv`.
        jobs: in the order in which they were trained on.
    """
    if not rows:
        return []
    shown = [job.task for job in jobs]
    near, far = outlook(rows, shown), outlook(rows, shown, _FURTHER, only=())
    sentence = f"To a mean score of {TARGET}: {phrase(near.mean)}. To {_FURTHER}: {phrase(far.mean)}."
    missing = sorted(
        ((name, told) for name, told in near.tasks.items() if told.reached_after is None),
        key=lambda pair: -(pair[1].middle or float("inf")),
    )
    lines = [[name, _own(told), phrase(told)] for name, told in missing[:_SHOWN]]
    table = [markdown_table(["task", "of its own", f"to {TARGET}, all tasks together"], lines, left=3)]
    if any(told.is_told for told in (near.mean, far.mean, *near.tasks.values())):
        sentence += " This holds if they go on to be chosen as they were."
    return ["## How many more", sentence, *(table if lines else [])]


def _own(told: Forecast) -> str:
    return "?" if told.own is None else f"{told.own[0]} to {told.own[1]}"
