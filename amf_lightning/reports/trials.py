"""The part of a report about trials that people reported: success rates with exact intervals."""

from collections.abc import Callable, Sequence
from pathlib import Path

from amf_lightning.evaluation.trial_reports import REPORTED, latest_trials, read_trial_reports
from amf_lightning.evaluation.trials import LEVEL, Rate, rates, verdict
from amf_lightning.reports.tables import markdown_table, plural


def trials_section(folder: Path, task_names: Sequence[str], check: Callable[[str], object]) -> list[str]:
    """Success rates of the last policy that was tried, and whether trials or demonstrations are missing.

    Args:
        folder: of the run.
        task_names: of the suite.
        check: see `read_trial_reports`.

    Raises:
        InputError: the file of reports is damaged.
    """
    demonstrations, reports = latest_trials(read_trial_reports(folder / REPORTED, check))
    if not (found := rates(reports, task_names)):
        return []
    return [
        "## How sure the success rates are",
        f"Trials of the policy after {plural(demonstrations, 'demonstration')}, with exact {100 * LEVEL:.0f} % "
        "intervals (Clopper and Pearson).",
        markdown_table(["task", "successes", "success rate", "interval", "why trials failed"], [*map(_row, found)]),
        " ".join(verdict(found)),
    ]


def _row(rate: Rate) -> list[str]:
    reasons = ", ".join(f"{reason} ({count}×)" for reason, count in rate.reasons)
    return [
        rate.task,
        f"{rate.successes} of {rate.trials}",
        f"{rate.successes / rate.trials:.2f}",
        f"[{rate.low:.2f}, {rate.high:.2f}]",
        reasons or "–",
    ]
