"""What people saw when they tried a policy: lines of `outcomes.jsonl`, which are only ever added."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from amf_lightning.durable import append_durably
from amf_lightning.errors import InputError
from amf_lightning.hashed_json import hashed, unhashed
from amf_lightning.reading import read_text

REPORTED = "outcomes.jsonl"
"""Name of the file in a run folder."""
_BEGINNING = '{"entry": '
"""Of each line of ours: one that was cut off by a power cut is told by it from a line that somebody mistyped."""


@dataclass(frozen=True)
class TrialReport:
    """One report: of some trials of a task."""

    demonstrations: int
    """After which the policy was tried."""
    task: str
    success: int
    """How many trials succeeded."""
    episodes: int
    """How many there were."""
    entry: str = ""
    """What later lines call it by; empty for a line that somebody wrote by hand."""
    by: str = ""
    """Who reports it."""
    time: str = ""
    """ISO 8601, UTC."""
    reasons: tuple[str, ...] = ()
    """Why trials failed, one for each that has one."""
    files: tuple[str, ...] = ()
    """Recordings of the trials, each with its SHA-256: `name sha256`."""


def read_trial_reports(path: Path, check: Callable[[str], object]) -> list[TrialReport]:
    """The reports that hold: not those that a later line replaces or withdraws. None if there is no file.

    Args:
        path: of the file.
        check: raises InputError for what is no task of the suite.

    Raises:
        InputError: a line is not a report, or one that a later line follows is missing; names it.
    """
    held: dict[str, TrialReport] = {}
    seen: set[str] = set()
    for number, content in _lines(path):
        try:
            if (before := content.get("after")) is not None and before not in seen:
                raise InputError(
                    f"the line of report {before}, which stood before it, is missing. Restore it; to take a report "
                    f"back there is amf score RUN --withdraw {before}."
                )
            seen.add(str(content.get("entry", "")))
            if earlier := content.get("withdraws") or content.get("replaces"):
                held.pop(str(earlier), None)
                if "withdraws" in content:
                    continue
            report = _report(content)
            check(report.task)
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise _no_report(path, number, error) from error
        if not 0 <= report.success <= report.episodes or report.episodes < 1:
            raise InputError(f"{path}, line {number}: {report.success} successes in {report.episodes} episodes.")
        held[report.entry or f"line {number}"] = report
    return list(held.values())


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and content of each line; without one of ours that was cut off, and none if there is no file."""
    if not path.is_file():
        return
    for number, line in enumerate(read_text(path, "Write it in UTF-8.").splitlines(), start=1):
        try:
            yield number, unhashed(json.loads(line))
        except (ValueError, RecursionError) as error:
            if isinstance(error, json.JSONDecodeError) and line.startswith(_BEGINNING) and not line.endswith("}"):
                continue
            raise _no_report(path, number, error) from error


def _no_report(path: Path, number: int, error: Exception) -> InputError:
    return InputError(
        f"{path}, line {number} is not a report ({error!r}). Write "
        '{"demonstrations": 6, "task": "pick", "success": 7, "episodes": 10}, with no sha256.'
    )


def _report(content: Any) -> TrialReport:
    return TrialReport(
        demonstrations=int(content["demonstrations"]),
        task=str(content["task"]),
        success=int(content["success"]),
        episodes=int(content["episodes"]),
        entry=str(content.get("entry", "")),
        by=str(content.get("by", "")),
        time=str(content.get("time", "")),
        reasons=tuple(str(each) for each in content.get("reasons") or ()),
        files=tuple(str(each) for each in content.get("files") or ()),
    )


def add_report(path: Path, report: TrialReport, replaces: str | None = None, entry: str | None = None) -> str:
    """Adds a report, in the place of an earlier one if that is named; durable on return.

    Args:
        path: of the file.
        report: without an entry.
        replaces: entry of the earlier one.
        entry: that it is to have, see `new_entry`: adding the same one twice is the same as once. None for a new one.

    Returns:
        What later lines call it by.
    """
    if entry is not None and is_written(path, entry):
        return entry
    return _append(path, {**vars(report), **({"replaces": replaces} if replaces else {})}, entry or new_entry())


def new_entry() -> str:
    """What a report may be called by before it is written."""
    return token_hex(4)


def is_written(path: Path, entry: str) -> bool:
    """Whether a line of that entry is in the file, whether or not its report still holds."""
    return any(content.get("entry") == entry for _, content in _lines(path))


def report_of(path: Path, entry: str) -> TrialReport | None:
    """The report of that entry, whether or not it still holds; None if there is none."""
    return next((_report(content) for _, content in _lines(path) if content.get("entry") == entry), None)


def is_withdrawn(path: Path, entry: str) -> bool:
    """Whether a line takes that report back."""
    return any(content.get("withdraws") == entry for _, content in _lines(path))


def withdraw_report(path: Path, entry: str, by: str, time: str) -> None:
    """Notes that a report does not hold; it stays in the file."""
    _append(path, {"withdraws": entry, "by": by, "time": time}, new_entry())


def _append(path: Path, content: dict[str, Any], entry: str) -> str:
    said = {key: value for key, value in content.items() if key != "entry" and value not in ("", ())}
    # So that a line which somebody takes out of the middle is missed.
    before = [content["entry"] for _, content in _lines(path) if "entry" in content][-1:]
    after = {"after": before[0]} if before else {}
    append_durably(path, [json.dumps(hashed({"entry": entry, **after, **said}))])
    return entry


def latest_trials(reports: Sequence[TrialReport]) -> tuple[int, list[TrialReport]]:
    """The demonstrations of the policy of most of them that was tried, and its reports; −1 if none was."""
    last = max((report.demonstrations for report in reports), default=-1)
    return last, [report for report in reports if report.demonstrations == last]
