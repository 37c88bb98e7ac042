"""What was asked and what was received: the one source of truth of a run, in one SQLite file."""

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError

_APPLICATION_ID = int.from_bytes(b"AMFL", "big")
_VERSION = 1
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
CREATE TABLE jobs (
    demonstration INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,
    task TEXT NOT NULL,
    task_index INTEGER NOT NULL,
    selector TEXT NOT NULL,
    scores TEXT NOT NULL,
    seed INTEGER NOT NULL
) STRICT;
CREATE TABLE diagnostics (
    round INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,  -- NULL is NaN
    PRIMARY KEY (round, name)
) STRICT;
CREATE TABLE recorded (
    demonstration INTEGER PRIMARY KEY REFERENCES jobs,
    sha256 TEXT NOT NULL
) STRICT;
CREATE TABLE facts (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class Job:
    """One demonstration to be collected, decided before its first step is taken."""

    demonstration: int
    """Its number in the run, from 0."""
    round: int
    task: str
    task_index: int
    selector: str
    """Class name of what chose it."""
    scores: tuple[float, ...]
    """Score of every task at the moment of the choice, [K]; NaN where a task had none."""
    seed: int
    """Seed of the episode."""


class Ledger:
    """Rounds, their jobs, and which demonstrations are on the disk. Every write is one transaction, durable on return.

    No write-ahead log, which network file systems do not support; `synchronous=EXTRA` because with FULL the last
    transaction can be undone by a power cut that follows it closely.

    Args:
        path: the file. It is created, whole, by the first write; until then every read finds nothing.
        read_only: refuse writes, e.g. for a report of a run that is still going on.

    Raises:
        InputError: the file is there but is damaged, not a ledger, or of another version; or two processes write.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        if path.exists():
            self._connect()

    def open_round(self, jobs: Sequence[Job], diagnostics: Mapping[str, float]) -> None:
        """Fixes what one round will collect, all of it or nothing.

        Args:
            jobs: of one round, later than every round so far, their demonstrations numbered on from the last one.
            diagnostics: numbers of the selector that go with the round.

        Raises:
            InputError: the round is open already (it is to be completed, not chosen again).
            ValueError: no jobs, jobs of several rounds, or a gap in the numbering of rounds or demonstrations.
        """
        if len({job.round for job in jobs}) != 1:
            raise ValueError(f"open_round takes the jobs of exactly one round, got {jobs}")
        number = jobs[0].round
        with self._transaction() as connection:
            [(last_round, last)] = connection.execute("SELECT max(round), max(demonstration) FROM jobs").fetchall()
            if last_round is not None and number <= last_round:
                raise InputError(
                    f"Round {number} is open already in {self.path}. Complete it instead of choosing again."
                )
            start = 0 if last is None else last + 1
            expected = list(range(start, start + len(jobs)))
            if (got := [job.demonstration for job in jobs]) != expected:
                raise ValueError(f"round {number} must number its demonstrations {expected}, got {got}")
            connection.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)", map(_job_to_row, jobs))
            connection.executemany(
                "INSERT INTO diagnostics VALUES (?, ?, ?)",
                ((number, name, float(value)) for name, value in diagnostics.items()),
            )

    def round(self, round: int) -> list[Job] | None:
        """The jobs of a round in order, or None if it was never opened."""
        rows = self._query("SELECT * FROM jobs WHERE round = ? ORDER BY demonstration", round)
        return [_job_from_row(row) for row in rows] or None

    def jobs(self, before_round: int | None = None) -> list[Job]:
        """All jobs, or those of earlier rounds than `before_round`, ordered by demonstration."""
        bound = 2**63 - 1 if before_round is None else before_round
        rows = self._query("SELECT * FROM jobs WHERE round < ? ORDER BY demonstration", bound)
        return [_job_from_row(row) for row in rows]

    def diagnostics(self, round: int) -> dict[str, float]:
        """The numbers given with a round, by name; empty if it was never opened."""
        rows = self._query("SELECT name, value FROM diagnostics WHERE round = ? ORDER BY name", round)
        return {name: math.nan if value is None else value for name, value in rows}

    def record(self, demonstration: int, sha256: str) -> None:
        """Counts a demonstration whose file is on the disk. Doing it twice is the same as once.

        Raises:
            InputError: it is recorded with another hash.
            ValueError: no round has asked for it.
        """
        with self._transaction() as connection:
            if not connection.execute("SELECT 1 FROM jobs WHERE demonstration = ?", (demonstration,)).fetchone():
                raise ValueError(f"no round has asked for demonstration {demonstration}")
            connection.execute("INSERT OR IGNORE INTO recorded VALUES (?, ?)", (demonstration, sha256))
            [(known,)] = connection.execute("SELECT sha256 FROM recorded WHERE demonstration = ?", (demonstration,))
            if known != sha256:
                raise InputError(
                    f"Demonstration {demonstration} is recorded in {self.path} with SHA-256 {known}, not {sha256}: "
                    "it was collected twice with different outcomes. Restore its file, or start a new run folder."
                )

    def recorded(self) -> dict[int, str]:
        """SHA-256 of the file of every demonstration that counts, in order."""
        return dict(self._query("SELECT demonstration, sha256 FROM recorded ORDER BY demonstration"))

    def set_fact(self, key: str, value: str) -> None:
        """Notes something about the whole run, replacing what was noted under that key."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def fact(self, key: str) -> str | None:
        """What was noted under that key, if anything."""
        rows = self._query("SELECT value FROM facts WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def close(self) -> None:
        """Closes the file; a later call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _query(self, statement: str, *values: Any) -> list[Any]:
        if self._connection is None and not self.path.exists():
            return []
        with self._reported():
            return self._connect().execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._read_only:
            raise ValueError(f"{self.path} was opened for reading only")
        if not self.path.exists():
            write_durably(self.path, _empty_database())
        with self._reported():
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            # Readers open it for writing too, if they may: whoever comes first after a kill has to roll back.
            uri = f"{self.path.resolve().as_uri()}?mode=rw"
            with self._reported():
                connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
                try:
                    self._check(connection)
                except BaseException:
                    connection.close()
                    raise
            self._connection = connection
        return self._connection

    def _check(self, connection: sqlite3.Connection) -> None:
        if (
            size := self.path.stat().st_size
        ) < 100:  # shorter than SQLite's header, which SQLite may take for a new file
            raise sqlite3.DatabaseError(f"it has only {size} bytes")
        [(identity,)] = connection.execute("PRAGMA application_id")
        if identity != _APPLICATION_ID:
            raise InputError(f"{self.path} is a database of another program. Choose another run folder.")
        [(version,)] = connection.execute("PRAGMA user_version")
        if version != _VERSION:
            raise InputError(
                f"{self.path} is a ledger of version {version}; this amf-lightning reads version {_VERSION}. "
                "Continue the run with the amf-lightning that began it, or start a new run folder."
            )
        if (found := connection.execute("PRAGMA integrity_check(1)").fetchall()) != [("ok",)]:
            raise sqlite3.DatabaseError(str(found[0][0]))
        [(whole,)] = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        if (size := self.path.stat().st_size) < whole:  # SQLite reads a page that was cut off as if zeros followed
            raise sqlite3.DatabaseError(f"it has {size} of {whole} bytes")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute(f"PRAGMA query_only = {int(self._read_only)}")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turns what SQLite says about the file into what the user can do about it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise InputError(
                f"The ledger {self.path} cannot be used ({error}). Is another process running in this folder, "
                "is the disk full, may the file be written?"
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"The ledger {self.path} is damaged or not a ledger ({error}). "
                "Restore it from a copy, or start a new run folder."
            ) from error


def scores_to_json(scores: Sequence[float]) -> list[float | str | None]:
    """Scores in the words of JSON: NaN is null, infinities are strings.

    >>> scores_to_json([0.5, math.nan, -math.inf])
    [0.5, None, '-inf']
    """
    return [None if math.isnan(score) else float(score) if math.isfinite(score) else str(score) for score in scores]


def scores_from_json(values: Sequence[float | str | None]) -> tuple[float, ...]:
    """Inverse of `scores_to_json`, exact.

    >>> scores_from_json([0.5, None, '-inf'])
    (0.5, nan, -inf)
    """
    return tuple(math.nan if value is None else float(value) for value in values)


def _job_to_row(job: Job) -> tuple[int, int, str, int, str, str, int]:
    scores = json.dumps(scores_to_json(job.scores))
    return job.demonstration, job.round, job.task, job.task_index, job.selector, scores, job.seed


def _job_from_row(row: tuple[int, int, str, int, str, str, int]) -> Job:
    demonstration, number, task, task_index, selector, scores, seed = row
    return Job(demonstration, number, task, task_index, selector, scores_from_json(json.loads(scores)), seed)


def _empty_database() -> bytes:
    """A ledger without entries, made in memory: a file killed while SQLite creates it could not be told from damage."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return connection.serialize()
