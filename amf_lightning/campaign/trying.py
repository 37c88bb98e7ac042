"""Trials of a run's policy: reports are added, replaced and withdrawn here, and checked against the run."""

import re
from collections.abc import Sequence
from dataclasses import replace

from amf_lightning.campaign.acts import now
from amf_lightning.campaign.receiving import described
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import ledger_to_read
from amf_lightning.errors import InputError
from amf_lightning.evaluation.trial_reports import (
    REPORTED,
    TrialReport,
    is_withdrawn,
    read_trial_reports,
    report_of,
    withdraw_report,
)
from amf_lightning.evaluation.trials import rates, verdict
from amf_lightning.tasks.description import SuiteDescription

_BY_PEOPLE = ("ReportedEpisodes", "AskedEpisodes")


def suite_of(folder: RunFolder) -> SuiteDescription:
    """What the tasks of a run are.

    Raises:
        InputError: its ledger does not say.
    """
    with ledger_to_read(folder) as ledger:
        return described(ledger)


def reports_of(folder: RunFolder, suite: SuiteDescription) -> list[TrialReport]:
    """The reports that hold; see `read_trial_reports`."""
    return read_trial_reports(folder.path / REPORTED, suite.index)


def checked_report(folder: RunFolder, suite: SuiteDescription, trials: TrialReport) -> TrialReport:
    """The report with the time, and about the last policy if its `demonstrations` are negative.

    Raises:
        InputError: there is no such task or policy, or there are more reasons than failures.
    """
    suite.index(trials.task)
    failed = trials.episodes - trials.success
    if len(trials.reasons) > failed:
        raise InputError(f"--reason is given {len(trials.reasons)} times, but {failed} trials failed.")
    tried = last_policy(folder) if trials.demonstrations < 0 else trials.demonstrations
    return replace(trials, demonstrations=tried, time=now())


def check_entry(text: str) -> str:
    """What somebody calls a report.

    Raises:
        InputError: it is no name for one.
    """
    if not re.fullmatch(r"[\w.-]{1,64}", text):
        raise InputError(f"{text!r} is no name for a report: up to 64 letters, digits, -, _ and .")
    return text


def is_there(folder: RunFolder, entry: str, report: TrialReport) -> bool:
    """Whether the report was added under that entry before.

    Raises:
        InputError: another one is called so.
    """
    if (earlier := report_of(folder.path / REPORTED, entry)) is None:
        return False
    said = [(each.demonstrations, each.task, each.success, each.episodes) for each in (earlier, report)]
    if said[0] != said[1]:
        raise InputError(
            f"Report {entry} is there already, and says {earlier.success}/{earlier.episodes} on '{earlier.task}' after "
            f"{earlier.demonstrations} demonstrations. Give this one another --id, and --replaces {entry} if it is in "
            "its place."
        )
    return True


def withdraw(folder: RunFolder, suite: SuiteDescription, entry: str, by: str) -> str:
    """Notes that a report does not hold, and says so; twice is the same as once.

    Raises:
        InputError: there is none of that name that holds.
    """
    if is_withdrawn(folder.path / REPORTED, entry):
        return f"Report {entry} is taken back already."
    check_holds(folder, suite, entry)
    withdraw_report(folder.path / REPORTED, entry, by, now())
    return f"Report {entry} is taken back."


def check_holds(folder: RunFolder, suite: SuiteDescription, entry: str) -> None:
    """Raises InputError if there is no report of that entry that holds."""
    if entry not in [each.entry for each in reports_of(folder, suite) if each.entry]:
        raise InputError(
            f"{folder.path / REPORTED} has no report {entry} that holds. For all of them: amf score {folder.path}"
        )


def last_policy(folder: RunFolder) -> int:
    """Demonstrations of the last policy that is there to be tried.

    Raises:
        InputError: there is none.
    """
    judged = [int(path.stem) for path in (folder.path / "judged").glob("*.safetensors") if path.stem.isdecimal()]
    if judged:
        return max(judged)
    if folder.policy.is_file() and (trained_on := folder.read_facts().get("trained_on")) is not None:
        return int(trained_on)
    raise InputError(
        f"{folder.path} has no policy to try yet. Say with --demonstrations after how many it was trained."
    )


def sentences(folder: RunFolder, reports: Sequence[TrialReport], suite: SuiteDescription) -> list[str]:
    """What is missing by the reports of one policy, which tasks were not tried, and whether the curve heeds them."""
    found = rates(reports, suite.task_names)
    lines = verdict(found)
    if missing := [task for task in suite.task_names if task not in [rate.task for rate in found]]:
        lines.append(f"Not tried yet: {', '.join(missing)}.")
    evaluation = folder.read_config().get("evaluation", {}) if folder.config.is_file() else {}
    name = str(evaluation.get("class_path") if isinstance(evaluation, dict) else evaluation).rpartition(".")[2]
    if name not in _BY_PEOPLE and folder.config.is_file():
        lines.append(f"This run is evaluated by {name}: these trials stay out of its curve, and are in its report.")
    return lines
