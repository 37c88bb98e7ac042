"""What people did to a campaign, one entry each, in its ledger: who added, skipped or took back what, and when."""

import getpass
import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

ADD, SKIP, UNDO = "add", "skip", "undo"
_PREFIX = "act/"
"""Of the keys of these entries among the facts of a ledger."""
ACTS = f"SELECT value FROM facts WHERE key GLOB '{_PREFIX}*' ORDER BY key"
"""All acts in their order; see `acts_from`."""


@dataclass(frozen=True)
class Act:
    """One thing that somebody did."""

    what: str
    """`ADD`, `SKIP` or `UNDO`."""
    demonstration: int
    by: str
    """Who; empty if nobody knows."""
    time: str
    """ISO 8601, UTC."""
    content: str = ""
    """Of what was added the `fingerprint`, which is the same under any number."""


def now() -> str:
    """The time as acts have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """The name of who uses this process; empty if the machine does not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        return ""


def note(connection: sqlite3.Connection, what: str, demonstration: int, by: str, content: str = "") -> None:
    """Adds an act, in a transaction that does it."""
    [(last,)] = connection.execute(f"SELECT max(key) FROM facts WHERE key GLOB '{_PREFIX}*'")
    number = 1 + int(last.removeprefix(_PREFIX)) if last else 0
    act = Act(what, demonstration, by, now(), content)
    connection.execute("INSERT INTO facts VALUES (?, ?)", (f"{_PREFIX}{number:09d}", json.dumps(asdict(act))))


def acts_from(rows: Iterable[tuple[str]]) -> list[Act]:
    """The acts in rows of `ACTS`, or of a part of them."""
    return [Act(**json.loads(value)) for (value,) in rows]


def added(connection: sqlite3.Connection, content: str) -> list[int]:
    """Numbers under which a demonstration of that `fingerprint` was added, the first one first."""
    rows = connection.execute(f"SELECT value FROM ({ACTS}) WHERE value LIKE ?", (f'%"{content}"%',))
    return [act.demonstration for act in acts_from(rows) if act.what == ADD]


def latest(acts: Iterable[Act]) -> int | None:
    """What an undo takes back if nobody says what: the last that was added or skipped and not taken back."""
    standing: dict[int, None] = {}
    for act in acts:
        standing.pop(act.demonstration, None)  # what is done again is the last
        if act.what != UNDO:
            standing[act.demonstration] = None
    return next(reversed(standing), None)
