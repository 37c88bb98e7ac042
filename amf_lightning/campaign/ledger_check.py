"""Whether the rows of a ledger are those that were written: by their SHA-256, and by what all ledgers share."""

import hashlib
import json
import sqlite3

from amf_lightning.campaign.request import scores_from_json

SHA256 = "sha256"
"""The fact that holds the hash of all other rows, from version 3 on."""
COLUMNS = {
    "jobs": ("demonstration", "round", "task", "task_index", "selector", "scores", "seed"),
    "diagnostics": ("round", "name", "value"),
    "recorded": ("demonstration", "sha256", "round"),
    "facts": ("key", "value"),
    "skipped": ("demonstration", "reason", "time"),
    "closed": ("round",),
}
"""Of each table. Version 1 lacks the last two and the round in which an answer came."""


def rows_hash(connection: sqlite3.Connection) -> str:
    """SHA-256 of all rows but that of the hash itself, of version 2 or later."""
    digest = hashlib.sha256()
    for table, columns in COLUMNS.items():
        digest.update(f"{table}\n".encode())
        order = ", ".join(str(number + 1) for number in range(min(2, len(columns))))
        where = f"WHERE key != '{SHA256}'" if table == "facts" else ""
        for row in connection.execute(f"SELECT {', '.join(columns)} FROM {table} {where} ORDER BY {order}"):
            digest.update(f"{row!r}\n".encode())
    return digest.hexdigest()


def check_rows(connection: sqlite3.Connection, version: int) -> None:
    """Looks for rows that are missing, changed, or contradict each other.

    Raises:
        sqlite3.DatabaseError: there is one; says which.
    """
    for table, columns in COLUMNS.items():
        there = tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
        if version == 1:
            columns = {"recorded": columns[:2], "skipped": (), "closed": ()}.get(table, columns)
        if there != columns:
            raise sqlite3.DatabaseError(f"its table '{table}' has the columns {', '.join(there) or 'none'}")
    if problem := _contradiction(connection, version):
        raise sqlite3.DatabaseError(problem)
    if version >= 3:
        row = connection.execute("SELECT value FROM facts WHERE key = ?", (SHA256,)).fetchone()
        if row is None or row[0] != rows_hash(connection):
            raise sqlite3.DatabaseError("its rows are not those that were written: their SHA-256 is another")


def _contradiction(connection: sqlite3.Connection, version: int) -> str | None:
    """What no ledger says, if this one says it."""
    last_round = 0
    indices: dict[str, int] = {}
    # From version 3 on the hash says that the scores are what was written, and reading and parsing them takes long.
    of_scores = "NULL" if version >= 3 else "scores"
    jobs = connection.execute(f"SELECT demonstration, round, task, task_index, {of_scores} FROM jobs ORDER BY 1")
    for place, (number, round, task, index, scores) in enumerate(jobs):
        if number != place:
            return f"request {place} is missing"
        if round < last_round or index < 0 or indices.setdefault(task, index) != index:
            return f"request {number}, of round {round} for task '{task}', does not follow from those before it"
        last_round = round
        if scores is None:
            continue
        try:
            scores_from_json(json.loads(scores))
        except (ValueError, TypeError, RecursionError):
            return f"the scores of request {number} are {scores[:40]!r}"
    if orphans := connection.execute("PRAGMA foreign_key_check").fetchone():
        return f"its table '{orphans[0]}' tells of a request that is missing"
    if version == 1:
        return None
    both = connection.execute("SELECT demonstration FROM recorded JOIN skipped USING (demonstration)").fetchone()
    if both is not None:
        return f"request {both[0]} is both answered and skipped"
    closed = [round for (round,) in connection.execute("SELECT round FROM closed ORDER BY 1")]
    if closed != list(range(len(closed))):
        return f"of the rounds before {closed[-1] + 1} one is not closed"
    arrived = "SELECT coalesce(recorded.round, jobs.round) FROM recorded JOIN jobs USING (demonstration)"
    if without := {*closed} - {round for (round,) in connection.execute(arrived)}:
        return f"round {min(without)} is closed, but the answers of it are missing"
    return None
