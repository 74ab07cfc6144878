"""One SQLite file: how it is opened, read, and what its errors mean. Knows no table.

Rules that hold here (and why):

- WAL with ``synchronous=FULL``: with NORMAL, a power loss takes acknowledged commits with it.
- One connection writes. SQLite before 3.51.3 can lose commits when two connections write or checkpoint
  at the same moment; every other connection is ``query_only`` and never checkpoints.
- Every write is BEGIN IMMEDIATE: a transaction that read first and then writes fails at once, without
  waiting, when another program has committed in between.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from syncd.core.errors import StateError

T = TypeVar("T")
BUSY_SECONDS = 5.0
LOG_PAGES = 4000
"""The log goes over into the database when it has so many pages of 4 KiB: some 16 MB."""

DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_CAUSES = {
    sqlite3.SQLITE_FULL: "is on a full disk; free some space there, nothing that was recorded is lost",
    sqlite3.SQLITE_IOERR: "cannot be read or written (input/output error); look at the disk and its log",
    sqlite3.SQLITE_CORRUPT: "is damaged; a restart sets it aside and builds a new one",
    sqlite3.SQLITE_NOTADB: "is damaged (not a database); a restart sets it aside and builds a new one",
    sqlite3.SQLITE_BUSY: f"has been locked by another program for {BUSY_SECONDS:g} seconds; end that program",
    sqlite3.SQLITE_READONLY: "cannot be written; check owner and mode of the directory and its files",
    sqlite3.SQLITE_PERM: "cannot be opened; check owner and mode of the directory and its files",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check owner and mode of the directory and its files",
}
# After these it is unknown what is on the disk: a later commit must not pretend that all is well.
_FATAL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


_LEAST_ROOM = 64 << 10  # bytes; the index of the log grows by half of it
# The index of the log, a file that is shared memory, could not grow; the log itself was not touched.
_INDEX_FAILED = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN})


ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises: the second where it quotes damage that is no text, which Python cannot put in words."""
Error = sqlite3.Error | UnicodeDecodeError


def primary_code(error: Error) -> int:
    """SQLite's primary result code; 0 where the error did not come from SQLite itself."""
    return _extended_code(error) & 0xFF


def _extended_code(error: Error) -> int:
    if isinstance(error, UnicodeDecodeError):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


class DatabaseFailed(StateError):
    """The database as a whole failed: every caller that waits for a transaction gets this error."""


def is_fatal(error: Error) -> bool:
    """Whether it is unknown what is on the disk."""
    return primary_code(error) in _FATAL and _extended_code(error) not in _INDEX_FAILED


def is_damage(error: Error) -> bool:
    """Whether the file holds what no database holds."""
    return primary_code(error) in DAMAGED


def state_error(error: Error, path: str) -> StateError:
    """Our error for an error of SQLite, with what the operator can do about it."""
    code = primary_code(error)
    room = room_bytes(path) if code == sqlite3.SQLITE_IOERR else None
    if room is not None and room < _LEAST_ROOM:
        code = sqlite3.SQLITE_FULL  # not everything that SQLite writes comes with that code
    cause = _CAUSES.get(code)
    if cause is None:
        return StateError(
            f"the state database {path} refused: {error}; start syncd again; if that does not help, report it"
        )
    return DatabaseFailed(f"the state database {path} {cause} ({error})")


def room_bytes(path: str) -> int | None:
    """Free space of the disk that holds the file; None if unknown."""
    try:
        disk = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def connect(path: str, *, read_only: bool, immutable: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode that waits up to five seconds for a lock. Never creates the file.

    Raises sqlite3.Error.
    """
    mode = "ro" if read_only else "rw"
    name = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode={mode}"
    if immutable:
        name += "&immutable=1"
    connection = sqlite3.connect(
        name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
    )
    connection.text_factory = _text
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    if read_only:
        connection.execute("PRAGMA query_only=ON")
    return connection


def _text(data: bytes) -> str:
    """Damage may leave no text; what is read instead matches nothing."""
    return data.decode(errors="replace")


def connect_writer(path: str) -> sqlite3.Connection:
    """The one connection that writes. Raises StateError."""
    try:
        connection = connect(path, read_only=False)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA journal_size_limit={64 << 20}")
        connection.execute(
            f"PRAGMA wal_autocheckpoint={LOG_PAGES}"
        )  # pages that change again and again go over once
    except ERRORS as error:
        raise state_error(error, path) from error
    if mode != "wal":
        connection.close()
        raise StateError(f"the file system of {path} cannot hold a write-ahead log; use a local disk")
    return connection


class Reader:
    """One connection that only reads, for all threads in turn."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = _connect_reader(path)
        self.damage: str | None = None
        """What was found wrong with the file while it was read."""

    def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """All that `query` reads is of one moment. Raises StateError."""
        try:
            with self._lock:
                self._connection.execute("BEGIN")
                try:
                    return query(self._connection)
                finally:
                    self._connection.execute("ROLLBACK")
        except ERRORS as error:
            raise self._translated(error) from error

    def run_one(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, for a `query` of one statement whose rows it takes all: that is of one moment by itself.

        Spares a begin and an end, which for a single row cost as much as the row.
        """
        try:
            with self._lock:
                return query(self._connection)
        except ERRORS as error:
            raise self._translated(error) from error

    def give_back_memory(self) -> None:
        """Keep no pages that were read. Raises StateError."""
        self.run_one(give_back_memory)

    def _translated(self, error: Error) -> StateError:
        ours = state_error(error, self._path)
        if is_damage(error):
            self.damage = str(ours)
        return ours

    def close(self) -> None:
        """Close the connection. No thread may be reading."""
        with self._lock:
            self._connection.close()


def give_back_memory(connection: sqlite3.Connection) -> None:
    """Keep no pages of the database in memory but those in use. Raises sqlite3.Error."""
    connection.execute("PRAGMA shrink_memory").fetchall()


def _connect_reader(path: str) -> sqlite3.Connection:
    """Without a writer, and without the right to make the shared index, the file is read as it is."""
    try:
        try:
            return _tried(connect(path, read_only=True))
        except sqlite3.OperationalError:
            if os.path.exists(path + "-wal"):
                raise
            return _tried(connect(path, read_only=True, immutable=True))
    except ERRORS as error:
        raise state_error(error, path) from error


def _tried(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
