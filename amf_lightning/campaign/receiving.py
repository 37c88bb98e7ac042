"""Takes in what somebody recorded: which request it answers, if any, and whether it is there already."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from amf_lightning.campaign import acts
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.ledger_rows import insert_unasked, open_round
from amf_lightning.errors import InputError
from amf_lightning.tasks.description import SuiteDescription

if TYPE_CHECKING:  # who only reads a campaign needs neither numpy nor torch
    from amf_lightning.demonstrations.store import DemonstrationStore
    from amf_lightning.tasks.task import TaskSuite
    from amf_lightning.tasks.trajectory import Trajectory

DESCRIPTION = "suite"
"""The fact in the ledger that says what a recording must be like, a `SuiteDescription`."""

_OPEN = (
    "SELECT demonstration, task, round FROM jobs WHERE demonstration NOT IN (SELECT demonstration FROM recorded) "
    "AND demonstration NOT IN (SELECT demonstration FROM skipped) ORDER BY demonstration"
)


@dataclass(frozen=True)
class Received:
    """What became of it."""

    demonstration: int
    """Its number."""
    sha256: str
    """Of its file."""
    asked: bool
    """Whether it answers a request."""
    known: bool = False
    """Whether it was there before, so that nothing was done."""


def receive(
    ledger: Ledger,
    store: "DemonstrationStore",
    suite: SuiteDescription,
    trajectory: "Trajectory",
    request: int | None,
    by: str,
) -> Received:
    """See `Campaign.receive`. One transaction: the recording is there whole after it, or not at all."""
    from amf_lightning.demonstrations.store import fingerprint

    index, shown = suite.index(trajectory.task), checked(suite, trajectory.task, trajectory)
    seed = 0 if shown.seed is None else shown.seed  # nothing reads the seed of what is there
    content = fingerprint(shown)
    with ledger.transaction() as connection:
        recorded = dict(connection.execute("SELECT demonstration, sha256 FROM recorded"))
        for number in acts.added(connection, content):
            if number in recorded and recorded[number] == (sha256 := store.digest(number, shown)):
                return Received(number, sha256, asked=False, known=True)
        waiting = {number: (task, round) for number, task, round in connection.execute(_OPEN)}
        if request is not None and request not in waiting:
            raise InputError(
                f"Request {request} is not open in {ledger.path.parent}; {', '.join(map(str, waiting)) or 'none'} are. "
                "Without --request the recording answers an open request of its task, or counts without one."
            )
        fitting = [number for number, (task, _) in waiting.items() if task == shown.task]
        if request is not None:
            fitting = [number for number in fitting if number == request]
        if fitting:
            number = fitting[0]
            # Before the row: a crash between the two leaves a file that nobody counts, never a row without its file.
            sha256, arrived = store.write(number, shown), open_round(connection)
            values = (number, sha256, arrived if arrived > waiting[number][1] else None)
            connection.execute("INSERT INTO recorded VALUES (?, ?, ?)", values)
        else:
            tasks, write = len(suite.task_names), partial(_write, store, shown)
            number, sha256 = insert_unasked(connection, shown.task, index, tasks, seed, write)
        acts.note(connection, acts.ADD, number, by, content)
    return Received(number, sha256, asked=bool(fitting))


def checked(suite: "TaskSuite | SuiteDescription", task: str, trajectory: "Trajectory") -> "Trajectory":
    """The trajectory in the suite's types.

    Raises:
        InputError: it does not show the task in the suite's terms.
    """
    from amf_lightning.experts.checked import in_types_of, objection

    if reason := objection(suite, task, trajectory):
        raise InputError(
            f"The demonstration of task '{task}' of suite '{suite.name}' cannot be used: {reason}. It was not kept. "
            "Correct the recording, and hand it over again."
        )
    return in_types_of(suite, trajectory)


def described(ledger: Ledger) -> SuiteDescription:
    """What the tasks of a campaign are, as the ledger has it from the last time that anything was asked for.

    Raises:
        InputError: it does not say.
    """
    if (text := ledger.fact(DESCRIPTION)) is None:
        raise InputError(
            f"The ledger {ledger.path} does not say what the tasks are: nothing was ever asked for, or an older "
            "amf-lightning asked. The next choice of `amf fit` notes it."
        )
    return SuiteDescription.from_json(text)


def _write(store: "DemonstrationStore", trajectory: "Trajectory", number: int) -> str:
    return store.write(number, trajectory)
