"""Rows of a ledger: what is read and written within its transactions."""

import json
import math
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from amf_lightning.campaign import acts
from amf_lightning.campaign.ledger_file import LedgerFile
from amf_lightning.campaign.request import NOBODY, Request, scores_from_json, scores_to_json

_ADDED_UP = "environment_steps"
"""The diagnostic that is a cost: several choices of one round add up. Of the others the last choice's stay."""
NOTE_DIAGNOSTIC = (
    "INSERT INTO diagnostics VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = "
    f"CASE name WHEN '{_ADDED_UP}' THEN value + excluded.value ELSE excluded.value END"
)
NOTE_REALISED = "INSERT INTO predictions VALUES (?, NULL, ?) ON CONFLICT DO UPDATE SET realised = excluded.realised"
OPEN_ROUND = "SELECT coalesce(max(round) + 1, 0) FROM closed"


def arrivals_in(version: int) -> str:
    """Query for the demonstrations that count and the rounds in which they came, in a file of that version."""
    arrived = "jobs.round" if version == 1 else "coalesce(recorded.round, jobs.round)"
    return f"SELECT demonstration, {arrived} AS arrived FROM recorded JOIN jobs USING (demonstration)"


def insert_unasked(
    connection: sqlite3.Connection, task: str, task_index: int, tasks: int, seed: int, write: Callable[[int], str]
) -> tuple[int, str]:
    """See `Ledger.record_unasked`, whose transaction this is; the number, and the SHA-256 of the file."""
    # The transaction holds the number while the file is written, so that no other process takes it.
    number, arrived = next_number(connection), open_round(connection)
    request = Request(number, arrived, task, task_index, NOBODY, (math.nan,) * tasks, seed)
    sha256 = write(number)
    connection.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", request_to_row(request))
    connection.execute("INSERT INTO recorded VALUES (?, ?, NULL)", (number, sha256))
    return number, sha256


def next_number(connection: sqlite3.Connection) -> int:
    """The number of the next request."""
    [(number,)] = connection.execute("SELECT coalesce(max(demonstration) + 1, 0) FROM jobs")
    return int(number)


def open_round(connection: sqlite3.Connection) -> int:
    """The round that takes what comes now."""
    [(number,)] = connection.execute(OPEN_ROUND)
    return int(number)


def round_of(connection: sqlite3.Connection, demonstration: int) -> int:
    """The round in which a demonstration was asked for; ValueError if it was not."""
    row = connection.execute("SELECT round FROM jobs WHERE demonstration = ?", (demonstration,)).fetchone()
    if row is None:
        raise ValueError(f"no round has asked for demonstration {demonstration}")
    return int(row[0])


def insert_skip(connection: sqlite3.Connection, demonstration: int, reason: str) -> None:
    """Notes a skip; the first reason stays."""
    connection.execute("INSERT OR IGNORE INTO skipped VALUES (?, ?, ?)", (demonstration, reason, acts.now()))


def request_to_row(request: Request) -> tuple[Any, ...]:
    """A request as a row of the table `jobs`."""
    names = ("demonstration", "round", "task", "task_index", "selector")
    return (*(getattr(request, name) for name in names), json.dumps(scores_to_json(request.scores)), request.seed)


def request_from_row(row: tuple[int, int, str, int, str, str, int]) -> Request:
    """Inverse of `request_to_row`."""
    demonstration, number, task, task_index, selector, scores, seed = row
    return Request(demonstration, number, task, task_index, selector, scores_from_json(json.loads(scores)), seed)


def predictions(file: LedgerFile, column: str, numbers: Sequence[int] | None = None) -> dict[int, str]:
    """The column `predicted` or `realised` where it is not empty, by demonstration, of all or of these."""
    if numbers is not None:
        return {number: text for each in numbers for number, text in _of_one(file, column, each).items()}
    if file.version < 4:  # they were facts
        rows = file.query("SELECT key, value FROM facts WHERE key GLOB ? ORDER BY key", f"{column}/*")
        return {int(key.rpartition("/")[2]): text for key, text in rows}
    columns = f"demonstration, {column} FROM predictions WHERE {column} IS NOT NULL"
    return dict(file.query(f"SELECT {columns} ORDER BY demonstration"))


def _of_one(file: LedgerFile, column: str, number: int) -> dict[int, str]:
    if file.version < 4:
        rows = file.query("SELECT value FROM facts WHERE key = ?", f"{column}/{number:09d}")
    else:
        columns = f"{column} FROM predictions WHERE {column} IS NOT NULL"
        rows = file.query(f"SELECT {columns} AND demonstration = ?", number)
    return {number: rows[0][0]} if rows else {}
