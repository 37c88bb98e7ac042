"""How far a run is, read from its folder while it runs or later. Nothing is written, and torch is not imported."""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from amf_lightning.campaign.campaign_status import CampaignStatus, status_of
from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.run_lock import held
from amf_lightning.errors import InputError

RUNNING, FINISHED, STOPPED, INTERRUPTED = "running", "finished", "stopped", "interrupted"
BY_HAND, WAITING = "by hand", "waiting"
_AWAITED = "AwaitedExpert"


@dataclass(frozen=True)
class RunStatus:
    """What a run has done so far."""

    folder: str
    state: str
    """`running`: a process of this machine holds the folder. `finished`: the budget is spent. `stopped`: a rule ended
    the run before that. `by hand`: there is no run, only a `Campaign` that somebody's own code asks and tells.
    `waiting`: people are to answer, with `amf add`, what is open. `interrupted`: none of these; the command that began
    the run goes on with it."""
    reason: str | None
    """Why the run stopped before its budget was spent; None if it did not."""
    suite: str
    """Class name, as `selector`; "?" if there is no configuration that says."""
    selector: str
    seed: int | None
    budget: int | None
    """Demonstrations in all; None if the configuration does not say."""
    rounds: int
    """Rounds whose demonstrations have been chosen."""
    campaign: CampaignStatus
    """What was asked for, answered, skipped and is pending, in all and of each task."""
    score: float | None
    """Mean score at the last evaluation; None if there was none."""
    evaluated_after: int | None
    """Demonstrations before that evaluation."""


def read_status(path: Path) -> RunStatus:
    """Reads the status of the run in a folder. A process may be writing there.

    Raises:
        InputError: the folder holds no run, or one of its files is damaged.
    """
    folder = run_at(path)
    by_hand = not folder.config.is_file()
    config = {} if by_hand else folder.read_config()
    # Looked at first: a run that ends while its files are read is then called running, never interrupted.
    running = held(path)
    with ledger_to_read(folder) as ledger:
        campaign = status_of(ledger)
        if by_hand and ledger.fact("pretrained") is not None:
            raise InputError(f"{folder.config} is missing, and `amf fit` made this run. Restore it.")
    last = [row for row in folder.read_curve() if row.task == MEAN][-1:]
    budget = _get(config, "active", "budget")
    stopped = folder.stopped
    state = RUNNING if running else BY_HAND if by_hand else INTERRUPTED
    if not running and isinstance(budget, int) and folder.finished(budget):
        state = STOPPED if stopped else FINISHED
    elif state == INTERRUPTED and campaign.pending and _class_name(config, "expert") == _AWAITED:
        state = WAITING
    return RunStatus(
        folder=str(path),
        state=state,
        reason=stopped if state == STOPPED else None,
        suite=_class_name(config, "suite"),
        selector=_class_name(config, "selector"),
        seed=_get(config, "seed_everything"),
        budget=budget,
        rounds=campaign.rounds,
        campaign=campaign,
        score=last[0].score if last else None,
        evaluated_after=last[0].demonstrations if last else None,
    )


def run_at(path: Path) -> RunFolder:
    """The folder of a run, or of a campaign that somebody drives by hand.

    Raises:
        InputError: the folder holds neither.
    """
    folder = RunFolder(path)
    if not (folder.config.is_file() or folder.ledger.is_file()):
        raise InputError(f"{path} holds no run: there is no {folder.config.name}. Give the folder of a run.")
    return folder


@contextmanager
def ledger_to_read(folder: RunFolder) -> Iterator[Ledger]:
    """The ledger of a run, whatever a process does there or was killed in; nothing of the folder is changed."""
    journal = folder.ledger.with_name(f"{folder.ledger.name}-journal")
    if held(folder.path) or not journal.exists() or not _abandoned(folder.ledger):
        with closing(Ledger(folder.ledger, read_only=True)) as ledger:
            yield ledger
        return
    # Its writer was killed. Whoever opens the file rolls the transaction back, so it is opened in a copy.
    with TemporaryDirectory() as temporary:
        path = Path(temporary, folder.ledger.name)
        try:
            for each in (folder.ledger, journal):
                shutil.copy(each, temporary)
        except FileNotFoundError:  # another process has rolled it back meanwhile
            path = folder.ledger
        with closing(Ledger(path, read_only=True)) as ledger:
            yield ledger


def _abandoned(ledger: Path) -> bool:
    """Whether the writer of the transaction under way is gone. One that lives need not hold the folder: it may answer
    a campaign by hand, and its journal comes and goes while we look."""
    with closing(sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except sqlite3.Error as error:
            return error.sqlite_errorname == "SQLITE_READONLY_ROLLBACK"
    return False


def _get(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _class_name(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    path = value.get("class_path") if isinstance(value, Mapping) else value
    return str(path or "?").rpartition(".")[2]
