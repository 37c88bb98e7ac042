"""Whether the rows of a ledger are those that were written: by their SHA-256, and by what all ledgers share."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence

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
    "predictions": ("demonstration", "predicted", "realised"),
}
"""Of each table. Version 1 lacks the last three and the round in which an answer came, version 3 the last one."""
_EARLIER: dict[int, dict[str, tuple[str, ...]]] = {
    1: {"recorded": COLUMNS["recorded"][:2], "skipped": (), "closed": (), "predictions": ()},
    2: {"predictions": ()},
    3: {"predictions": ()},
}
"""The columns of earlier versions, where they were others."""
_OF_VERSION_3 = [table for table in COLUMNS if table not in _EARLIER[3]]
_LINE, _ROWS = "{!r}\n".format, 256
"""What is hashed of a row, and how many rows are held at once."""


def table_hashes(connection: sqlite3.Connection, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """SHA-256 of the rows of each table but that of the hash itself.

    Args:
        connection: to a ledger of the present version.
        known: hashes of tables that are not read again.
    """
    known = known or {}
    return {table: known.get(table) or _hash([table], connection) for table in COLUMNS}


def rows_hash(hashes: Mapping[str, str]) -> str:
    """SHA-256 of all rows, from those of the tables."""
    return hashlib.sha256("".join(f"{table} {hashes[table]}\n" for table in COLUMNS).encode()).hexdigest()


def _hash(tables: Sequence[str], connection: sqlite3.Connection) -> str:
    digest = hashlib.sha256()
    for table in tables:
        digest.update(f"{table}\n".encode())
        columns, where = COLUMNS[table], f"WHERE key != '{SHA256}'" if table == "facts" else ""
        cursor = connection.execute(
            f"SELECT {', '.join(columns)} FROM {table} {where} ORDER BY {', '.join(columns[:2])}"
        )
        while rows := cursor.fetchmany(_ROWS):
            digest.update("".join(map(_LINE, rows)).encode())
    return digest.hexdigest()


def check_rows(connection: sqlite3.Connection, version: int) -> dict[str, str]:
    """Looks for rows that are missing, changed, or contradict each other.

    Returns:
        The hash of each table; none of an earlier version.

    Raises:
        sqlite3.DatabaseError: there is one; says which.
    """
    for table, columns in COLUMNS.items():
        there = tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
        if there != _EARLIER.get(version, {}).get(table, columns):
            raise sqlite3.DatabaseError(f"its table '{table}' has the columns {', '.join(there) or 'none'}")
    if version < 3:  # it has no hash, which says that the rows are those that were written
        if problem := _contradiction(connection, version):
            raise sqlite3.DatabaseError(problem)
        return {}
    hashes = table_hashes(connection) if version >= 4 else {}
    row = connection.execute("SELECT value FROM facts WHERE key = ?", (SHA256,)).fetchone()
    if row is None or row[0] != (rows_hash(hashes) if hashes else _hash(_OF_VERSION_3, connection)):
        raise sqlite3.DatabaseError("its rows are not those that were written: their SHA-256 is another")
    return hashes


def _contradiction(connection: sqlite3.Connection, version: int) -> str | None:
    """What no ledger says, if this one says it."""
    last_round = 0
    indices: dict[str, int] = {}
    jobs = connection.execute("SELECT demonstration, round, task, task_index, scores FROM jobs ORDER BY 1")
    for place, (number, round, task, index, scores) in enumerate(jobs):
        if number != place:
            return f"request {place} is missing"
        if round < last_round or index < 0 or indices.setdefault(task, index) != index:
            return f"request {number}, of round {round} for task '{task}', does not follow from those before it"
        last_round = round
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
