"""All that the page shows of a run, in plain types: read from its folder, which may be written to meanwhile."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from amf_lightning.campaign import acts
from amf_lightning.campaign.asked import Asked, OpenRequest, ahead_of, read_asked
from amf_lightning.campaign.asked import sentences as sentences_of
from amf_lightning.campaign.curve import MEAN, CurveRow
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.receiving import DESCRIPTION, described
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.run_lock import held
from amf_lightning.campaign.status import RUNNING, ledger_to_read
from amf_lightning.campaign.trying import last_policy, reports_of, sentences
from amf_lightning.configuration import plain
from amf_lightning.desk.pictures import has_pictures
from amf_lightning.errors import InputError
from amf_lightning.evaluation.trial_reports import REPORTED, TrialReport, latest_trials
from amf_lightning.evaluation.trials import rates
from amf_lightning.tasks.description import SuiteDescription

if TYPE_CHECKING:
    from amf_lightning.campaign.outlook import Outlook

ANSWERS, REQUESTS = 10, 50
"""How many of the last answers, and of the open requests, are shown."""

View = dict[str, Any]


class Viewer:
    """Reads a run anew only if one of its files has changed: many browsers ask every second.

    Args:
        run: its folder.
    """

    def __init__(self, run: Path) -> None:
        self._folder = RunFolder(run)
        self._lock = Lock()
        self._seen: tuple[object, ...] = ()
        self._view: View = {}

    def view(self) -> View:
        """What is to be shown; only `error` and the name of the run if one of its files is damaged."""
        with self._lock:
            # Looked at first: what changes while the files are read is read again the next time.
            seen = self._signature()
            if seen != self._seen:
                try:
                    self._view = read_view(self._folder)
                except InputError as error:
                    self._view = {"run": self._folder.path.resolve().name, "error": str(error)}
                self._seen = seen
            return self._view

    def _signature(self) -> tuple[object, ...]:
        folder = self._folder
        paths = (
            *(folder.config, folder.ledger, folder.ledger.with_name(f"{folder.ledger.name}-journal"), folder.curve),
            *(folder.evaluation, folder.policy, folder.report, folder.path / REPORTED, folder.path / "judged"),
        )
        return (held(folder.path), *map(_stamp, paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_view(folder: RunFolder) -> View:
    """What is to be shown.

    Raises:
        InputError: the folder holds no run, or one of its files is damaged.
    """
    asked = read_asked(folder.path)
    with ledger_to_read(folder) as ledger:
        suite = described(ledger) if ledger.fact(DESCRIPTION) is not None else None
        done = ledger.acts()
        reasons = {number: skip.reason for number, skip in ledger.skipped().items()}
        tasks = {number: task for number, _, task, _, _ in ledger.outline()}
        undo = _undo(ledger, done, tasks)
        recorded = list(ledger.recorded())
    rows = folder.read_curve()
    shown = asked.requests[:REQUESTS]
    ahead = ahead_of(asked.status, [request.task for request in shown])
    view = {
        "run": folder.path.resolve().name,
        "folder": asked.status.folder,
        "state": asked.status.state,
        "now": _now(asked),
        "next_step": asked.next_step,
        "demonstrations": len(recorded),
        "budget": asked.status.budget,
        "requests": _requests(shown, ahead, suite, recorded, tasks),
        "open": len(asked.requests),
        "tasks": _tasks(asked, suite, rows),
        "answers": [
            {**asdict(act), "task": tasks.get(act.demonstration, ""), "reason": _reason(act, reasons)}
            for act in done[: -ANSWERS - 1 : -1]
        ],
        "undo": undo,
        "curve": [[row.demonstrations, row.score] for row in rows if row.task == MEAN],
        "forecast": None if ahead is None else _forecast(ahead),
        "trials": None if suite is None else _trials(folder, suite),
    }
    return dict(plain(view, strict=True))


def _now(asked: Asked) -> str:
    """What is going on, in a sentence."""
    status = asked.status
    if status.state == RUNNING:
        return f"`amf fit` is at work. Rounds handed to training so far: {status.campaign.open_round}."
    if not asked.requests:
        return "Nothing is open."
    many = len(asked.requests)
    return f"Waits for {many} recording{'s' if many > 1 else ''}. Round {status.campaign.open_round} takes them."


def _requests(
    requests: Iterable[OpenRequest],
    ahead: "Outlook | None",
    suite: SuiteDescription | None,
    recorded: list[int],
    tasks: Mapping[int, str],
) -> list[View]:
    newest = {tasks[number]: number for number in recorded} if suite is not None and has_pictures(suite) else {}
    return [
        {
            "number": request.number,
            "task": request.task,
            "round": request.round,
            "sentences": sentences_of(request, ahead),
            "picture": newest.get(request.task),
        }
        for request in requests
    ]


def _forecast(ahead: "Outlook") -> str:
    from amf_lightning.campaign.outlook import phrase

    return f"To a mean score of {ahead.target:g}: {phrase(ahead.mean)}."


def _tasks(asked: Asked, suite: SuiteDescription | None, rows: Sequence[CurveRow]) -> list[View]:
    """What came of each task, and its score at the last evaluation."""
    counts = asked.status.campaign.tasks
    names = counts if suite is None else suite.task_names
    scores = {row.task: row.score for row in rows}  # the last row of a task stays
    return [
        {
            "task": name,
            "came": counts[name].answered + counts[name].unasked if name in counts else 0,
            "open": counts[name].pending if name in counts else 0,
            "score": scores.get(name),
        }
        for name in names
    ]


def _reason(act: acts.Act, reasons: Mapping[int, str]) -> str:
    return reasons.get(act.demonstration, "") if act.what == acts.SKIP else ""


def _undo(ledger: Ledger, done: Sequence[acts.Act], tasks: Mapping[int, str]) -> View | None:
    """What an undo would take back, so that it takes back that and not what another has done meanwhile."""
    if (number := acts.latest(done)) is None:
        return None
    was_skipped = number in ledger.skipped()
    if not was_skipped and ledger.arrivals().get(number, -1) < ledger.open_round():
        return None  # trained on
    who = next((act.by for act in reversed(done) if act.demonstration == number), "")
    return {
        "demonstration": number,
        "what": acts.SKIP if was_skipped else acts.ADD,
        "task": tasks.get(number, ""),
        "by": who,
    }


def _trials(folder: RunFolder, suite: SuiteDescription) -> View:
    """What there is to try, and what was reported of it."""
    reports = reports_of(folder, suite)
    try:
        tried: int | None = last_policy(folder)
    except InputError:
        tried = None
    about, last = latest_trials(reports) if tried is None else (tried, _of(reports, tried))
    newest = last[-1] if last and last[-1].entry else None
    return {
        "policy": tried,
        "about": about if last else None,
        "rates": [asdict(rate) for rate in rates(last, suite.task_names)],
        "sentences": sentences(folder, last, suite) if last else [],
        "reasons": sorted({reason for each in reports for reason in each.reasons})[:20],
        "last": None if newest is None else asdict(newest),
    }


def _of(reports: Sequence[TrialReport], demonstrations: int) -> list[TrialReport]:
    return [each for each in reports if each.demonstrations == demonstrations]
