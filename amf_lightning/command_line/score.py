"""`amf score RUN --task T --success 7/10`: reports trials of the policy. Without --task: what was reported so far.

Reports add up. They are only ever added: --replaces puts one in the place of an earlier one, --withdraw takes one back.
A command that was cut off may be typed again: what it reported already does not count twice. Programs give an --id.
`amf fit` puts them into curve and report once every task was tried, where `evaluation` is ReportedEpisodes.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from amf_lightning.campaign.acts import user
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import run_at
from amf_lightning.campaign.trying import (
    check_entry,
    check_holds,
    checked_report,
    is_there,
    reports_of,
    sentences,
    suite_of,
    withdraw,
)
from amf_lightning.campaign.unconfirmed import one_at_a_time
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.errors import InputError
from amf_lightning.evaluation.trial_reports import (
    REPORTED,
    TrialReport,
    add_report,
    is_written,
    latest_trials,
    new_entry,
)
from amf_lightning.evaluation.trials import rates, verdict
from amf_lightning.tasks.description import SuiteDescription

_WORDS = {"yes": (1, 1), "no": (0, 1)}


def main(arguments: list[str]) -> None:
    """Parses the command line, adds a report, and prints what is known of the last policy that was tried."""
    parser = PlainParser(prog="amf score", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("--task", metavar="T", help="what the policy tried to do")
    parser.add_argument("--success", metavar="S", help="7/10: 7 of 10 trials; yes or no: of a single one")
    parser.add_argument("--reason", action="append", default=[], metavar="TEXT", help="why one failed; may be repeated")
    parser.add_argument("--demonstrations", type=int, metavar="N", help="of the policy; that of the last, if not given")
    parser.add_argument("--episode-file", type=Path, action="append", default=[], metavar="FILE", help="of a trial")
    parser.add_argument("--id", type=_id, help="what to call the report, for programs: the same one counts once")
    parser.add_argument("--by", default=user(), metavar="NAME", help="who reports; the user, if not given")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--replaces", metavar="ENTRY", help="put this in the place of an earlier report")
    earlier.add_argument("--withdraw", metavar="ENTRY", help="take an earlier report back")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    values = parser.parse_args(arguments)
    folder = run_at(values.run)
    suite = suite_of(folder)
    if values.withdraw:
        lines = [withdraw(folder, suite, values.withdraw, values.by)]
    elif values.task or values.success:
        return _report(values, suite, folder)
    else:
        lines = []
    return _show(values, lines, suite, folder)


def _report(values: argparse.Namespace, suite: SuiteDescription, folder: RunFolder) -> None:
    """Adds the report that the command line says, and prints; not twice if this is typed again after a kill."""
    report, path = checked_report(folder, suite, _reported(values)), folder.path / REPORTED
    typed = {"score": {**asdict(report), "time": ""}, "replaces": values.replaces}
    with one_at_a_time(folder.path) as unconfirmed:
        begun = None if values.id else unconfirmed.begun(typed)
        entry = values.id or (str(begun["entry"]) if begun else new_entry())
        if values.id and is_there(folder, entry, report):
            lines = [f"Report {entry} is there already. Nothing was added."]
        elif is_written(path, entry):
            lines = [
                f"Report {entry} says this already: the command that made it was cut off before it could say so. "
                "Nothing was added; if this is another report, type it once more."
            ]
        else:
            if values.replaces:
                check_holds(folder, suite, values.replaces)
            if not values.id:
                unconfirmed.begin(typed, entry=entry)
            add_report(path, report, values.replaces, entry)
            lines = [f"Thank you. This is report {entry}."]
        _show(values, lines, suite, folder)
        sys.stdout.flush()
        unconfirmed.confirmed(typed)


def _show(values: argparse.Namespace, lines: list[str], suite: SuiteDescription, folder: RunFolder) -> None:
    """Prints what became of the command, and what is known of the last policy that was tried."""
    reports = reports_of(folder, suite)
    print(_as_json(reports, suite, lines) if values.json else "\n".join([*lines, _as_text(reports, suite, folder)]))


def _reported(values: argparse.Namespace) -> TrialReport:
    """The report that the command line says."""
    if not (values.task and values.success):
        raise InputError("Give both --task and --success, e.g. --task pick --success 7/10.")
    success, episodes = _counts(values.success)
    return TrialReport(
        demonstrations=-1 if values.demonstrations is None else values.demonstrations,
        task=values.task,
        success=success,
        episodes=episodes,
        by=values.by,
        reasons=tuple(values.reason),
        files=tuple(f"{file} {_sha256(file)}" for file in values.episode_file),
    )


def _id(text: str) -> str:
    try:
        return check_entry(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _counts(text: str) -> tuple[int, int]:
    """Successes and trials of `7/10`, `yes` or `no`."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    successes, _, trials = text.partition("/")
    if not (successes.isdecimal() and trials.isdecimal() and int(trials) > 0 and int(successes) <= int(trials)):
        raise InputError(f"--success is {text}; write successes and trials as 7/10, or yes or no of a single trial.")
    return int(successes), int(trials)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"--episode-file {path} cannot be read: {error.strerror}.") from error


def _as_json(reports: list[TrialReport], suite: SuiteDescription, lines: list[str]) -> str:
    demonstrations, last = latest_trials(reports)
    found = rates(last, suite.task_names)
    facts: dict[str, Any] = {
        **({"said": " ".join(lines)} if lines else {}),
        "demonstrations": None if demonstrations < 0 else demonstrations,
        "rates": [asdict(rate) for rate in found],
        "verdict": verdict(found),
        "reports": [asdict(report) for report in reports],
    }
    return json.dumps(facts, indent=2, allow_nan=False)


def _as_text(reports: list[TrialReport], suite: SuiteDescription, folder: RunFolder) -> str:
    demonstrations, last = latest_trials(reports)
    if not last:
        return "Nothing was reported yet: amf score RUN --task T --success 7/10."
    found = rates(last, suite.task_names)
    width = max(len(rate.task) for rate in found)
    lines = [f"After {demonstrations} demonstrations, with exact 90 % intervals:"]
    lines += [
        f"  {rate.task:<{width}}  {rate.successes} of {rate.trials}  [{rate.low:.2f}, {rate.high:.2f}]"
        for rate in found
    ]
    reported = [f"{each.entry or 'by hand'} ({each.task} {each.success}/{each.episodes})" for each in last]
    return "\n".join([*lines, f"Reports: {', '.join(reported)}", *sentences(folder, last, suite)])
