"""The ledger of a run holds its requests and their answers: the one source of truth, in one SQLite file."""

import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from amf_lightning.campaign.ledger_file import LedgerFile
from amf_lightning.campaign.request import NOBODY, Request, scores_from_json, scores_to_json
from amf_lightning.errors import InputError

_ADDED_UP = "environment_steps"
"""The diagnostic that is a cost: several choices of one round add up. Of the others the last choice's stay."""
_OPEN_ROUND = "SELECT coalesce(max(round) + 1, 0) FROM closed"
_ARRIVALS_1 = "SELECT demonstration, jobs.round AS arrived FROM recorded JOIN jobs USING (demonstration)"
_ARRIVALS = _ARRIVALS_1.replace("jobs.round", "coalesce(recorded.round, jobs.round)")


@dataclass(frozen=True)
class Skip:
    """Why a request will not be answered."""

    reason: str
    time: str
    """ISO 8601, UTC."""


class Ledger:
    """Requests by round, and what became of each. Every write is one transaction, durable on return.

    Several processes may read and write at the same time.

    Args:
        path: the file. It is created, whole, by the first write; until then every read finds nothing.
        read_only: refuse writes, e.g. for a report of a run that is still going on.

    Raises:
        InputError: the file is there but is damaged, not a ledger, or of a later version; or it is locked for long.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._file = LedgerFile(path, read_only=read_only)

    # -- writing ------------------------------------------------------------------------------------------------------

    def ask(self, requests: Sequence[Request], diagnostics: Mapping[str, float]) -> bool:
        """Fixes what is asked for, all of it or nothing.

        Args:
            requests: of one round, their demonstrations numbered on from the last one.
            diagnostics: numbers of the selector that go with the choice.

        Returns:
            Whether it was written. It was not if another process has taken these numbers or closed the round, so that
            the choice has to be made again.

        Raises:
            ValueError: no requests, requests of several rounds, or a gap in the numbering of demonstrations.
        """
        if len({request.round for request in requests}) != 1:
            raise ValueError(f"ask takes the requests of exactly one round, got {requests}")
        number, first = requests[0].round, requests[0].demonstration
        if [request.demonstration for request in requests] != list(range(first, first + len(requests))):
            raise ValueError(f"round {number} must number its demonstrations without gaps, got {requests}")
        with self._file.transaction() as connection:
            start = _next_number(connection)
            if first > start:
                raise ValueError(f"round {number} must number its demonstrations from {start}, got {first}")
            [(last_round,)] = connection.execute("SELECT max(round) FROM jobs")
            if first < start or number < max(_open_round(connection), last_round or 0):
                return False
            connection.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", map(_request_to_row, requests))
            connection.executemany(
                "INSERT INTO diagnostics VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = "
                f"CASE name WHEN '{_ADDED_UP}' THEN value + excluded.value ELSE excluded.value END",
                ((number, name, float(value)) for name, value in diagnostics.items()),
            )
        return True

    def record(self, demonstration: int, sha256: str, write: Callable[[], object] | None = None) -> None:
        """Counts the answer to a request. Doing it twice is the same as once.

        Args:
            demonstration: number of the request.
            sha256: of the file of the answer.
            write: puts the file on the disk; called only if the answer is new, and while no other process can
                record one. None if the file is there.

        Raises:
            InputError: an answer is recorded with another hash, or the request is skipped.
            ValueError: there is no such request.
        """
        with self._file.transaction() as connection:
            asked_in = _round_of(connection, demonstration)
            [(recorded_hash,)] = connection.execute(
                "SELECT (SELECT sha256 FROM recorded WHERE demonstration = ?)", (demonstration,)
            )
            if recorded_hash not in (None, sha256):
                raise InputError(
                    f"Demonstration {demonstration} is recorded in {self.path} with SHA-256 {recorded_hash}, not "
                    f"{sha256}: it was collected twice with different outcomes. Restore its file, or start a new run "
                    "folder."
                )
            if connection.execute("SELECT 1 FROM skipped WHERE demonstration = ?", (demonstration,)).fetchone():
                raise InputError(f"Demonstration {demonstration} is skipped in {self.path}. Undo that to answer it.")
            if recorded_hash is not None:
                return
            # Before the row: a crash between the two leaves a file that nobody counts, never a row without its file.
            if write is not None:
                write()
            arrived = _open_round(connection)
            values = (demonstration, sha256, arrived if arrived > asked_in else None)
            connection.execute("INSERT INTO recorded VALUES (?, ?, ?)", values)

    def record_unasked(self, task: str, task_index: int, tasks: int, seed: int, write: Callable[[int], str]) -> int:
        """Gives the next number to a demonstration that nobody asked for, has it written, and counts it.

        Args:
            task: its name.
            task_index: its index.
            tasks: K, tasks of the suite.
            seed: of the episode.
            write: puts the file of a demonstration of that number on the disk and returns its SHA-256.

        Returns:
            The number.
        """
        with self._file.transaction() as connection:
            # The transaction holds the number while the file is written, so that no other process takes it.
            number, arrived = _next_number(connection), _open_round(connection)
            request = Request(number, arrived, task, task_index, NOBODY, (math.nan,) * tasks, seed)
            sha256 = write(number)
            connection.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", _request_to_row(request))
            connection.execute("INSERT INTO recorded VALUES (?, ?, NULL)", (number, sha256))
        return number

    def skip(self, demonstration: int, reason: str) -> None:
        """Notes that a request will not be answered. The first reason stays.

        Raises:
            InputError: it is answered.
            ValueError: there is no such request.
        """
        with self._file.transaction() as connection:
            _round_of(connection, demonstration)
            if connection.execute("SELECT 1 FROM recorded WHERE demonstration = ?", (demonstration,)).fetchone():
                raise InputError(f"Demonstration {demonstration} is there already. Undo that to skip it.")
            _skip(connection, demonstration, reason)

    def undo(self, demonstration: int) -> None:
        """Takes back an answer or a skip; the request is then open again. An answer nobody asked for is skipped.

        Raises:
            InputError: there is nothing to take back, or the answer was handed to training.
            ValueError: there is no such request.
        """
        with self._file.transaction() as connection:
            asked_in = _round_of(connection, demonstration)
            [(selector,)] = connection.execute("SELECT selector FROM jobs WHERE demonstration = ?", (demonstration,))
            rows = connection.execute("SELECT round FROM recorded WHERE demonstration = ?", (demonstration,)).fetchall()
            if rows and (asked_in if rows[0][0] is None else rows[0][0]) < _open_round(connection):
                raise InputError(f"Demonstration {demonstration} was trained on and cannot be taken back.")
            if rows:
                connection.execute("DELETE FROM recorded WHERE demonstration = ?", (demonstration,))
                if selector == NOBODY:  # its number stays taken, as numbers have no gaps
                    _skip(connection, demonstration, "taken back")
                return
            cursor = None
            if selector != NOBODY:
                cursor = connection.execute("DELETE FROM skipped WHERE demonstration = ?", (demonstration,))
            if cursor is None or cursor.rowcount == 0:
                raise InputError(f"Demonstration {demonstration} has no answer and is not skipped: nothing to undo.")

    def close_round(self, round: int) -> None:
        """Notes that the answers of a round are handed to training. Doing it twice is the same as once.

        Raises:
            InputError: nothing was received in the round.
            ValueError: an earlier round is open.
        """
        with self._file.transaction() as connection:
            if round > (opened := _open_round(connection)):
                raise ValueError(f"round {round} cannot be closed before round {opened}")
            if round == opened:
                if not connection.execute(f"SELECT 1 FROM ({_ARRIVALS}) WHERE arrived >= ?", (round,)).fetchone():
                    raise InputError(f"Round {round} of {self.path} has no demonstration to train on yet.")
                connection.execute("INSERT INTO closed VALUES (?)", (round,))

    def set_fact(self, key: str, value: str) -> None:
        """Notes something about the whole run, replacing what was noted under that key."""
        with self._file.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    # -- reading ------------------------------------------------------------------------------------------------------

    def round(self, round: int) -> list[Request] | None:
        """The requests of a round in order, or None if there is none."""
        rows = self._file.query("SELECT * FROM jobs WHERE round = ? ORDER BY demonstration", round)
        return [_request_from_row(row) for row in rows] or None

    def jobs(self, before_round: int | None = None) -> list[Request]:
        """All requests, or those of earlier rounds than `before_round`, ordered by demonstration."""
        bound = 2**63 - 1 if before_round is None else before_round
        rows = self._file.query("SELECT * FROM jobs WHERE round < ? ORDER BY demonstration", bound)
        return [_request_from_row(row) for row in rows]

    def diagnostics(self, round: int) -> dict[str, float]:
        """The numbers given with a round, by name; empty if nothing was asked in it."""
        rows = self._file.query("SELECT name, value FROM diagnostics WHERE round = ? ORDER BY name", round)
        return {name: math.nan if value is None else value for name, value in rows}

    def recorded(self) -> dict[int, str]:
        """SHA-256 of the file of every demonstration that counts, in order of number."""
        return dict(self._file.query("SELECT demonstration, sha256 FROM recorded ORDER BY demonstration"))

    def arrivals(self) -> dict[int, int]:
        """The round in which each demonstration that counts came, in the order in which they are trained on."""
        order = " ORDER BY arrived, demonstration"
        return dict(self._file.query((_ARRIVALS_1 if self._file.version == 1 else _ARRIVALS) + order))

    def skipped(self) -> dict[int, Skip]:
        """The requests that will not be answered, by number."""
        if self._file.version == 1:
            return {}
        rows = self._file.query("SELECT demonstration, reason, time FROM skipped ORDER BY demonstration")
        return {number: Skip(reason, time) for number, reason, time in rows}

    def pending(self) -> list[Request]:
        """The requests that are neither answered nor skipped, in order of number."""
        settled = self.recorded().keys() | self.skipped().keys()
        return [request for request in self.jobs() if request.demonstration not in settled]

    def open_round(self) -> int:
        """The round that takes what comes now: as many as are closed."""
        if self._file.version == 1:  # it trained on a round as soon as all of it was recorded
            return len({request.round for request in self.jobs()} - {request.round for request in self.pending()})
        rows = self._file.query(_OPEN_ROUND)
        return int(rows[0][0]) if rows else 0

    def fact(self, key: str) -> str | None:
        """What was noted under that key, if anything."""
        rows = self._file.query("SELECT value FROM facts WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def close(self) -> None:
        """Closes the file; a later call opens it again."""
        self._file.close()


def _next_number(connection: sqlite3.Connection) -> int:
    [(number,)] = connection.execute("SELECT coalesce(max(demonstration) + 1, 0) FROM jobs")
    return int(number)


def _open_round(connection: sqlite3.Connection) -> int:
    [(number,)] = connection.execute(_OPEN_ROUND)
    return int(number)


def _round_of(connection: sqlite3.Connection, demonstration: int) -> int:
    row = connection.execute("SELECT round FROM jobs WHERE demonstration = ?", (demonstration,)).fetchone()
    if row is None:
        raise ValueError(f"no round has asked for demonstration {demonstration}")
    return int(row[0])


def _skip(connection: sqlite3.Connection, demonstration: int, reason: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connection.execute("INSERT OR IGNORE INTO skipped VALUES (?, ?, ?)", (demonstration, reason, now))


def _request_to_row(request: Request) -> tuple[Any, ...]:
    names = ("demonstration", "round", "task", "task_index", "selector")
    return (*(getattr(request, name) for name in names), json.dumps(scores_to_json(request.scores)), request.seed)


def _request_from_row(row: tuple[int, int, str, int, str, str, int]) -> Request:
    demonstration, number, task, task_index, selector, scores, seed = row
    return Request(demonstration, number, task, task_index, selector, scores_from_json(json.loads(scores)), seed)
