"""The ledger of a run holds its requests and their answers: the one source of truth, in one SQLite file."""

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from amf_lightning.campaign import acts
from amf_lightning.campaign.ledger_file import VERSION, LedgerFile
from amf_lightning.campaign.ledger_rows import (
    NOTE_DIAGNOSTIC,
    NOTE_REALISED,
    OPEN_ROUND,
    arrivals_in,
    insert_skip,
    insert_unasked,
    next_number,
    open_round,
    predictions,
    request_from_row,
    request_to_row,
    round_of,
)
from amf_lightning.campaign.request import NOBODY, Request
from amf_lightning.errors import InputError


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

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """What is done in the block is there whole after it, or not at all; no other process writes meanwhile."""
        return self._file.transaction()

    def ask(
        self,
        requests: Sequence[Request],
        diagnostics: Mapping[str, float],
        facts: Mapping[str, str] | None = None,
        predicted: Mapping[int, str] | None = None,
    ) -> bool:
        """Fixes what is asked for, all of it or nothing.

        Args:
            requests: of one round, their demonstrations numbered on from the last one.
            diagnostics: numbers of the selector that go with the choice.
            facts: about the whole run, as in `set_fact`.
            predicted: what the selector expects of requests, by number.

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
            start = next_number(connection)
            if first > start:
                raise ValueError(f"round {number} must number its demonstrations from {start}, got {first}")
            [(last_round,)] = connection.execute("SELECT max(round) FROM jobs")
            if first < start or number < max(open_round(connection), last_round or 0):
                return False
            connection.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", map(request_to_row, requests))
            connection.executemany(NOTE_DIAGNOSTIC, ((number, name, float(each)) for name, each in diagnostics.items()))
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", (facts or {}).items())
            connection.executemany("INSERT INTO predictions VALUES (?, ?, NULL)", (predicted or {}).items())
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
            asked_in = round_of(connection, demonstration)
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
            arrived = open_round(connection)
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
            return insert_unasked(connection, task, task_index, tasks, seed, write)[0]

    def skip(self, demonstration: int, reason: str, by: str = "") -> None:
        """Notes that a request will not be answered. The first reason stays.

        Raises:
            InputError: it is answered.
            ValueError: there is no such request.
        """
        with self._file.transaction() as connection:
            round_of(connection, demonstration)
            if connection.execute("SELECT 1 FROM recorded WHERE demonstration = ?", (demonstration,)).fetchone():
                raise InputError(f"Demonstration {demonstration} is there already. Undo that to skip it.")
            insert_skip(connection, demonstration, reason)
            acts.note(connection, acts.SKIP, demonstration, by)

    def undo(self, demonstration: int, by: str = "") -> None:
        """Takes back an answer or a skip; the request is then open again. An answer nobody asked for is skipped.

        Raises:
            InputError: there is nothing to take back, or the answer was handed to training.
            ValueError: there is no such request.
        """
        with self._file.transaction() as connection:
            asked_in = round_of(connection, demonstration)
            [(selector,)] = connection.execute("SELECT selector FROM jobs WHERE demonstration = ?", (demonstration,))
            rows = connection.execute("SELECT round FROM recorded WHERE demonstration = ?", (demonstration,)).fetchall()
            if rows and (asked_in if rows[0][0] is None else rows[0][0]) < open_round(connection):
                raise InputError(f"Demonstration {demonstration} was trained on and cannot be taken back.")
            acts.note(connection, acts.UNDO, demonstration, by)
            if rows:
                connection.execute("DELETE FROM recorded WHERE demonstration = ?", (demonstration,))
                if selector == NOBODY:  # its number stays taken, as numbers have no gaps
                    insert_skip(connection, demonstration, "taken back")
                return
            of_asked = "DELETE FROM skipped WHERE demonstration = ? AND ?"
            if not connection.execute(of_asked, (demonstration, selector != NOBODY)).rowcount:
                raise InputError(f"Demonstration {demonstration} has no answer and is not skipped: nothing to undo.")

    def close_round(self, round: int) -> None:
        """Notes that the answers of a round are handed to training. Doing it twice is the same as once.

        Raises:
            InputError: nothing was received in the round.
            ValueError: an earlier round is open.
        """
        with self._file.transaction() as connection:
            if round > (opened := open_round(connection)):
                raise ValueError(f"round {round} cannot be closed before round {opened}")
            if round == opened:
                if not connection.execute(
                    f"SELECT 1 FROM ({arrivals_in(VERSION)}) WHERE arrived >= ?", (round,)
                ).fetchone():
                    raise InputError(f"Round {round} of {self.path} has no demonstration to train on yet.")
                connection.execute("INSERT INTO closed VALUES (?)", (round,))

    def set_fact(self, key: str, value: str) -> None:
        """Notes something about the whole run, replacing what was noted under that key."""
        self.set_facts({key: value})

    def set_facts(self, facts: Mapping[str, str]) -> None:
        """Notes several at once, all of them or none."""
        with self._file.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    def set_realised(self, realised: Mapping[int, str]) -> None:
        """Notes what came of answers, by number. Doing it twice is the same as once."""
        with self._file.transaction() as connection:
            connection.executemany(NOTE_REALISED, realised.items())

    # -- reading ------------------------------------------------------------------------------------------------------

    def round(self, round: int) -> list[Request] | None:
        """The requests of a round in order, or None if there is none."""
        rows = self._file.query("SELECT * FROM jobs WHERE round = ? ORDER BY demonstration", round)
        return [request_from_row(row) for row in rows] or None

    def jobs(self, before_round: int | None = None) -> list[Request]:
        """All requests, or those of earlier rounds than `before_round`, ordered by demonstration."""
        bound = 2**63 - 1 if before_round is None else before_round
        rows = self._file.query("SELECT * FROM jobs WHERE round < ? ORDER BY demonstration", bound)
        return [request_from_row(row) for row in rows]

    def request(self, demonstration: int) -> Request | None:
        """The request of that number, if there is one."""
        rows = self._file.query("SELECT * FROM jobs WHERE demonstration = ?", demonstration)
        return request_from_row(rows[0]) if rows else None

    def outline(self) -> list[tuple[int, int, str, int, bool]]:
        """Of all requests, in order of number: number, round, name and index of the task, whether it was asked for.

        For who needs no scores, which take most of the time to read.
        """
        columns = f"demonstration, round, task, task_index, selector != '{NOBODY}'"
        rows = self._file.query(f"SELECT {columns} FROM jobs ORDER BY demonstration")
        return [(number, round, task, index, bool(asked)) for number, round, task, index, asked in rows]

    def diagnostics(self, round: int) -> dict[str, float]:
        """The numbers given with a round, by name; empty if nothing was asked in it."""
        rows = self._file.query("SELECT name, value FROM diagnostics WHERE round = ? ORDER BY name", round)
        return {name: math.nan if value is None else value for name, value in rows}

    def recorded(self) -> dict[int, str]:
        """SHA-256 of the file of every demonstration that counts, in order of number."""
        return dict(self._file.query("SELECT demonstration, sha256 FROM recorded ORDER BY demonstration"))

    def arrivals(self) -> dict[int, int]:
        """The round in which each demonstration that counts came, in the order in which they are trained on."""
        return dict(self._file.query(f"{arrivals_in(self._file.version)} ORDER BY arrived, demonstration"))

    def skipped(self) -> dict[int, Skip]:
        """The requests that will not be answered, by number."""
        if self._file.version == 1:
            return {}
        rows = self._file.query("SELECT demonstration, reason, time FROM skipped ORDER BY demonstration")
        return {number: Skip(reason, time) for number, reason, time in rows}

    def pending(self) -> list[Request]:
        """The requests that are neither answered nor skipped, in order of number."""
        settled = self.recorded().keys() | self.skipped().keys()
        numbers = [number for number, *_ in self.outline() if number not in settled]
        return [request for number in numbers if (request := self.request(number)) is not None]

    def open_round(self) -> int:
        """The round that takes what comes now: as many as are closed."""
        if self._file.version == 1:  # it trained on a round as soon as all of it was recorded
            return len({round for _, round, *_ in self.outline()} - {request.round for request in self.pending()})
        rows = self._file.query(OPEN_ROUND)
        return int(rows[0][0]) if rows else 0

    def fact(self, key: str) -> str | None:
        """What was noted under that key, if anything."""
        rows = self._file.query("SELECT value FROM facts WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def predicted(self, numbers: Sequence[int] | None = None) -> dict[int, str]:
        """What was expected of requests, by number; only of these numbers, if any are given."""
        return predictions(self._file, "predicted", numbers)

    def realised(self) -> dict[int, str]:
        """What came of answers, by number."""
        return predictions(self._file, "realised")

    def acts(self) -> list[acts.Act]:
        """What people did, in that order."""
        return acts.acts_from(self._file.query(acts.ACTS))

    def close(self) -> None:
        """Closes the file; a later call opens it again."""
        self._file.close()
