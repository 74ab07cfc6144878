"""One SQLite file: how it is opened, and one transaction for everybody who waits. Knows no table.

Rules that hold here (and why):

- WAL with ``synchronous=FULL``: with NORMAL, a power loss takes acknowledged commits with it.
- One connection writes. SQLite before 3.51.3 can lose commits when two connections write or checkpoint
  at the same moment; every other connection is ``query_only`` and never checkpoints.
- Every write is BEGIN IMMEDIATE: a transaction that read first and then writes fails at once, without
  waiting, when another program has committed in between.
- What several threads want written while one of them waits for the disk goes into one transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from syncd.errors import StateError

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], object]
"""Executes statements inside the open transaction. May be run a second time after a rollback."""

BUSY_SECONDS = 5.0
JOIN_SECONDS = 0.1
JOIN_MOST = 256

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
# After these nobody knows what is on the disk: a later commit must not pretend that all is well again.
_FATAL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error did not come from SQLite itself."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


class DatabaseFailed(StateError):
    """The database as a whole failed: whoever waits for a transaction gets this error."""


def state_error(error: sqlite3.Error, path: str) -> StateError:
    """The error of ours for an error of SQLite, with what a person can do about it."""
    cause = _CAUSES.get(primary_code(error))
    if cause is None:
        return StateError(f"the state database {path} refused: {error}")
    return DatabaseFailed(f"the state database {path} {cause} ({error})")


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
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    if read_only:
        connection.execute("PRAGMA query_only=ON")
    return connection


def connect_writer(path: str) -> sqlite3.Connection:
    """The one connection that writes. Raises StateError."""
    try:
        connection = connect(path, read_only=False)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA journal_size_limit={64 << 20}")
    except sqlite3.Error as error:
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

    def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """All that `query` reads is of one moment. Raises StateError."""
        try:
            with self._lock:
                self._connection.execute("BEGIN")
                try:
                    return query(self._connection)
                finally:
                    self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise state_error(error, self._path) from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _connect_reader(path: str) -> sqlite3.Connection:
    """Where nobody writes and we may not even make the shared index, the file is read as it lies there."""
    try:
        try:
            return _tried(connect(path, read_only=True))
        except sqlite3.OperationalError:
            if os.path.exists(path + "-wal"):
                raise
            return _tried(connect(path, read_only=True, immutable=True))
    except sqlite3.Error as error:
        raise state_error(error, path) from error


def _tried(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class _Ticket:
    """One operation in the queue. ``settled`` is called once it is on the disk, or never will be."""

    __slots__ = ("done", "error", "operation", "result", "settled", "waits")

    def __init__(self, operation: Operation, *, waits: bool, settled: Callable[[], None] | None) -> None:
        self.operation = operation
        self.waits = waits
        self.settled = settled
        self.done = False
        self.error: StateError | None = None
        self.result: object = None

    def end(self) -> None:
        self.done = True
        if self.settled is not None:
            self.settled()


class GroupWriter:
    """Group commit without a thread of its own: who gets the write lock commits for all who wait."""

    def __init__(self, path: str, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._connection = connect_writer(path)
        self._file = _identity(path)
        self._write_lock = threading.Lock()
        self._queue_lock = threading.Lock()
        self._queue: list[_Ticket] = []
        self._joined_since: float | None = None
        self._broken: str | None = None
        self.commits = 0
        """Transactions committed since the start."""

    def run(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Execute `operation` in a transaction, possibly with those of others; on the disk on return.

        Raises StateError, also the one that `operation` itself raised.
        """
        ticket = _Ticket(operation, waits=True, settled=None)
        with self._queue_lock:
            self._queue.append(ticket)
        with self._write_lock:
            if not ticket.done:
                self._commit_queue()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # the result of this very operation

    def join(self, operation: Operation, settled: Callable[[], None] | None = None) -> None:
        """Leave `operation` to a later transaction; `settled` is called when it is on the disk.

        `settled` runs inside the writer: it may take locks of its own, but not call the writer.

        Nothing but the next call writes it, so whoever stops calling has to call `flush`.
        """
        with self._queue_lock:
            self._queue.append(_Ticket(operation, waits=False, settled=settled))
            if self._joined_since is None:
                self._joined_since = self._monotonic()
            full = len(self._queue) >= JOIN_MOST
        if full:
            self.flush()

    def flush(self) -> None:
        """Write what was joined. Raises StateError; then it stays in the queue."""
        with self._write_lock:  # also when the queue is empty: somebody may be writing what was in it
            error = self._commit_queue()
        if error is not None:
            raise error

    def flush_if_due(self) -> None:
        """Write what was joined if the oldest of it waits for too long."""
        since = self._joined_since
        if since is not None and self._monotonic() - since >= JOIN_SECONDS:
            self.flush()

    def close(self) -> None:
        """Flush and close; the log goes back into the database. Raises StateError, closed nevertheless."""
        try:
            self.flush()
        finally:
            with self._write_lock:
                self._broken = "is closed"
                self._connection.close()

    def _commit_queue(self) -> StateError | None:
        """Commit all that is queued; the caller holds the write lock. Returns the error of a joined one."""
        with self._queue_lock:
            tickets, self._queue = self._queue, []
            self._joined_since = None
        if not tickets:
            return None
        try:
            error = self._attempt(tickets)
            if error is not None and not isinstance(error, DatabaseFailed) and len(tickets) > 1:
                # One of them is to blame: each alone, so that only the guilty one hears of it.
                for ticket in tickets:
                    self._attempt([ticket])
        finally:
            joined = [ticket for ticket in tickets if not ticket.waits and not ticket.done]
            if joined:
                with self._queue_lock:
                    self._queue[:0] = joined
                    self._joined_since = self._monotonic()
            for ticket in tickets:
                if ticket.waits and not ticket.done:
                    ticket.done = True
                    ticket.error = ticket.error or StateError("interrupted before it was written")
        return next((ticket.error for ticket in tickets if not ticket.waits and ticket.error), None)

    def _attempt(self, tickets: list[_Ticket]) -> StateError | None:
        """All `tickets` in one transaction, or none of them and the error."""
        connection = self._connection
        try:
            self._check_file()
            connection.execute("BEGIN IMMEDIATE")
            for ticket in tickets:
                ticket.result = ticket.operation(connection)
            connection.execute("COMMIT")
        except Exception as raised:  # noqa: BLE001  # whatever an operation raises is its caller's to hear
            error = self._translated(raised)
            self._roll_back()
            # Joined operations wait for better times; but what fails by itself would fail for ever.
            for ticket in tickets:
                ticket.error = error
                if len(tickets) == 1 and not isinstance(error, DatabaseFailed):
                    ticket.end()
            return error
        except BaseException:
            self._roll_back()
            raise
        self.commits += 1
        for ticket in tickets:
            ticket.error = None
            ticket.end()
        return None

    def _translated(self, raised: Exception) -> StateError:
        if isinstance(raised, StateError):
            return raised
        if not isinstance(raised, sqlite3.Error):
            error = StateError(f"the state database {self._path} cannot take this: {raised}")
            error.__cause__ = raised
            return error
        error = state_error(raised, self._path)
        if primary_code(raised) in _FATAL:
            self._broken = "failed before; restart syncd"
        error.__cause__ = raised
        return error

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._broken = f"could not take a transaction back ({error}); restart syncd"

    def _check_file(self) -> None:
        """An unlinked or replaced database goes on accepting rows that nobody will ever read again."""
        if self._broken is None and _identity(self._path) != self._file:
            self._broken = "was removed or replaced while in use; restart syncd"
        if self._broken is not None:
            raise DatabaseFailed(f"the state database {self._path} {self._broken}")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
