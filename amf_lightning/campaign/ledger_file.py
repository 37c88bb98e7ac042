"""The SQLite file behind a ledger: its schema and versions, transactions, and what is said when it is damaged."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from amf_lightning.campaign.ledger_check import SHA256, check_rows, rows_hash, table_hashes
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError

_APPLICATION_ID = int.from_bytes(b"AMFL", "big")
VERSION = 4
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = 1;
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
# NULL for an answer that came in the round of its request: the column did not exist in version 1, where all did.
_TO_VERSION_2 = (
    "ALTER TABLE recorded ADD COLUMN round INTEGER",
    """CREATE TABLE skipped (
        demonstration INTEGER PRIMARY KEY REFERENCES jobs,
        reason TEXT NOT NULL,
        time TEXT NOT NULL  -- ISO 8601, UTC
    ) STRICT""",
    "CREATE TABLE closed (round INTEGER PRIMARY KEY) STRICT",
    # Version 1 trained on a round as soon as all of it was recorded.
    """INSERT INTO closed SELECT jobs.round FROM jobs LEFT JOIN recorded USING (demonstration)
        GROUP BY jobs.round HAVING count(*) = count(sha256)""",
)
# From version 3 on the fact `sha256` is the hash of all other rows. There, predictions were facts.
_TO_VERSION_4 = (
    """CREATE TABLE predictions (
        demonstration INTEGER PRIMARY KEY REFERENCES jobs,
        predicted TEXT,
        realised TEXT
    ) STRICT""",
    """INSERT INTO predictions SELECT demonstration, predicted.value, realised.value FROM jobs
        LEFT JOIN facts AS predicted ON predicted.key = printf('predicted/%09d', demonstration)
        LEFT JOIN facts AS realised ON realised.key = printf('realised/%09d', demonstration)
        WHERE predicted.value IS NOT NULL OR realised.value IS NOT NULL""",
    "DELETE FROM facts WHERE key GLOB 'predicted/*' OR key GLOB 'realised/*'",
)
_WRITES = (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)


class LedgerFile:
    """One SQLite file. Every transaction is durable when it ends.

    No write-ahead log, which network file systems do not support; `synchronous=EXTRA` because with FULL the last
    transaction can be undone by a power cut that follows it closely. A file of an earlier version is read as it is and
    becomes one of the present version in the first transaction.

    Args:
        path: the file. It is created, whole, by the first transaction; until then every query finds nothing.
        read_only: refuse transactions.

    Raises:
        InputError: the file is there but is damaged, not a ledger, or of a later version; or it is locked for long.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._hashes: dict[str, str] = {}
        """Of the tables, as they were when `_hashed` was the file's version for this connection."""
        self._hashed = -1
        if path.exists():
            self._connect()

    @property
    def version(self) -> int:
        """Of the file at this moment: another process may have brought it to a later one."""
        rows = self.query("PRAGMA user_version")
        return int(rows[0][0]) if rows else VERSION

    def query(self, statement: str, *values: Any) -> list[Any]:
        """Rows of a statement that reads; none if there is no file yet."""
        if self._connection is None and not self.path.exists():
            return []
        with self._reported():
            return self._connect().execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Holds the file against other writers; what is done in the block is there whole after it, or not at all."""
        if self._read_only:
            raise ValueError(f"{self.path} was opened for reading only")
        if not self.path.exists():
            write_durably(self.path, _empty_database())
        with self._reported():
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                before = connection.total_changes
                _migrate(connection)
                with self._noticed(connection):
                    yield connection
                if connection.total_changes > before:
                    self._set_hash(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._hashes.clear()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _noticed(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Forgets the hashes of the tables that are written to in the block, and of all if another process wrote."""
        if _data_version(connection) != self._hashed:
            self._hashes.clear()

        def notice(action: int, table: str | None, *_: object) -> int:
            if action in _WRITES and table is not None:
                self._hashes.pop(table, None)
            return sqlite3.SQLITE_OK

        connection.set_authorizer(notice)  # statements that were prepared before are prepared anew, and noticed too
        try:
            yield
        finally:
            connection.set_authorizer(None)

    def _set_hash(self, connection: sqlite3.Connection) -> None:
        self._hashes = table_hashes(connection, self._hashes)
        self._hashed = _data_version(connection)
        _set_hash(connection, rows_hash(self._hashes))

    def close(self) -> None:
        """Closes the file; a later call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
        if not 1 <= version <= VERSION:
            raise InputError(
                f"{self.path} is a ledger of version {version}; this amf-lightning reads versions 1 to {VERSION}. "
                "Continue the run with the amf-lightning that began it, or start a new run folder."
            )
        connection.execute("BEGIN")  # one state of the file for all that is looked at
        if (problems := connection.execute("PRAGMA integrity_check(1)").fetchall()) != [("ok",)]:
            raise sqlite3.DatabaseError(" ".join(str(problems[0][0]).split()))
        self._hashes, self._hashed = check_rows(connection, version), _data_version(connection)
        [(whole,)] = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        if (size := self.path.stat().st_size) < whole:  # SQLite reads a page that was cut off as if zeros followed
            raise sqlite3.DatabaseError(f"it has {size} of {whole} bytes")
        connection.execute("COMMIT")
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
                f"The ledger {self.path} is damaged or not a ledger ({error}). Restore it from a copy, or start a new "
                "run folder; `expert: RecordedExpert` gives it the demonstrations that lie in this one."
            ) from error


def _migrate(connection: sqlite3.Connection) -> None:
    [(version,)] = connection.execute("PRAGMA user_version")
    if version == 1:
        for statement in _TO_VERSION_2:
            connection.execute(statement)
    if version < VERSION:
        for statement in _TO_VERSION_4:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        _set_hash(connection, rows_hash(table_hashes(connection)))


def _set_hash(connection: sqlite3.Connection, sha256: str) -> None:
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (SHA256, sha256))


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that changes for this connection whenever another one has written."""
    [(version,)] = connection.execute("PRAGMA data_version")
    return int(version)


def _empty_database() -> bytes:
    """A ledger without entries, made in memory: a file killed while SQLite creates it could not be told from damage."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        _migrate(connection)
        connection.commit()
        return connection.serialize()
