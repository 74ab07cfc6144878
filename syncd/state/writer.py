"""Group commit without a thread of its own: the thread that gets the write lock commits for all.

A flush of the disk costs the same for one row as for hundreds. So what several threads want to write while
one of them waits for the disk goes into one transaction, and results that nothing relies on yet may join a
later one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from syncd.core.errors import MISTAKE, StateError
from syncd.state.sqlite import (
    ERRORS,
    LOG_PAGES,
    DatabaseFailed,
    connect_writer,
    is_damage,
    is_fatal,
    primary_code,
    room_bytes,
    state_error,
)

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], object]
"""Executes statements inside the open transaction. May be run a second time after a rollback."""

JOIN_SECONDS = 0.1
JOIN_MOST = 256
_LEFT_SECONDS = 3 * JOIN_SECONDS
_TIGHT_BYTES = 2 * LOG_PAGES * 4096
"""With less room than this the log is written back at every commit, so that it stays short."""


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
    """The queue of operations and the one connection that writes."""

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
        self.is_damaged = False
        """The file was found to hold what no database holds."""
        self.has_failed = False
        """A write failed since the start, so something may be missing although later ones succeeded."""
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

        Only a later call writes it, so the caller has to `flush_if_due`, and to `flush` before a pause.
        """
        with self._queue_lock:
            self._queue.append(_Ticket(operation, waits=False, settled=settled))
            if self._joined_since is None:
                self._joined_since = self._monotonic()

    def flush(self) -> None:
        """Write what was joined. Raises StateError; then it stays in the queue."""
        with self._write_lock:  # also when the queue is empty: another thread may be writing what was in it
            error = self._commit_queue()
        if error is not None:
            raise error

    def flush_if_due(self) -> None:
        """Write what was joined if the oldest of it waits for too long, or too much waits."""
        since = self._joined_since
        if since is None:
            return
        if len(self._queue) >= JOIN_MOST or self._monotonic() - since >= JOIN_SECONDS:
            self.flush()

    def flush_if_left(self) -> None:
        """Write what was joined long ago, without waiting for the lock: a reader need not stand in line.

        While there is work, another thread writes after `JOIN_SECONDS`. What is left behind is of its end.
        """
        since = self._joined_since
        if since is None or self._monotonic() - since < _LEFT_SECONDS:
            return
        if self._write_lock.acquire(blocking=False):
            try:
                self._commit_queue()
            finally:
                self._write_lock.release()

    def close(self) -> None:
        """Flush and close; the log goes back into the database. Closes also when it raises StateError."""
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
                # One of them is to blame: run each alone, so that only that one fails.
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
                    ticket.error = ticket.error or StateError(
                        "syncd ended before this was written; start it again"
                    )
        return next((ticket.error for ticket in tickets if not ticket.waits and ticket.error), None)

    def _attempt(self, tickets: list[_Ticket]) -> StateError | None:
        """All `tickets` in one transaction, or none of them and the error."""
        connection, has_begun = self._connection, False
        try:
            self._check_file()
            connection.execute("BEGIN IMMEDIATE")
            has_begun = True
            for ticket in tickets:
                ticket.result = ticket.operation(connection)
            connection.execute("COMMIT")
        except Exception as raised:  # noqa: BLE001  # whatever an operation raises goes to its caller
            self.has_failed = True
            error = self._translated(raised)
            self._roll_back()
            if isinstance(raised, sqlite3.Error) and primary_code(raised) == sqlite3.SQLITE_FULL:
                self._write_log_back("TRUNCATE")
            # Joined operations stay queued, except one that failed alone, and would always fail.
            to_blame = has_begun and not isinstance(raised, MemoryError)
            for ticket in tickets:
                ticket.error = error
                if len(tickets) == 1 and to_blame and not isinstance(error, DatabaseFailed):
                    ticket.end()
            return error
        except BaseException:
            self._roll_back()
            raise
        self.commits += 1
        room = room_bytes(self._path)
        if room is not None and room < _TIGHT_BYTES:
            self._write_log_back("PASSIVE")
        for ticket in tickets:
            ticket.error = None
            ticket.end()
        return None

    def _translated(self, raised: Exception) -> StateError:
        if isinstance(raised, StateError):
            return raised
        if not isinstance(raised, ERRORS):
            error = StateError(f"the state database {self._path} cannot store this: {raised}; {MISTAKE}")
            error.__cause__ = raised
            return error
        error = state_error(raised, self._path)
        self.is_damaged = self.is_damaged or is_damage(raised)
        if is_damage(raised):
            self._broken = f"is damaged ({raised}); a restart sets it aside and builds a new one"
        elif is_fatal(raised):
            self._broken = f"failed before ({raised}); restart syncd"
        error.__cause__ = raised
        return error

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._broken = f"could not take a transaction back ({error}); restart syncd"

    def lost(self) -> str | None:
        """Return why nothing can be written any more; None: it can."""
        with self._write_lock:
            return self._lost()

    def _write_log_back(self, mode: str) -> None:
        """The log must not be what fills the disk: then there would be no room to write it back either."""
        with suppress(sqlite3.Error):
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    def _lost(self) -> str | None:
        """A database that was unlinked or replaced accepts rows that will never be read again."""
        if self._broken is None and _identity(self._path) != self._file:
            self._broken = "was removed or replaced while in use; restart syncd"
        return self._broken and f"the state database {self._path} {self._broken}"

    def _check_file(self) -> None:
        lost = self._lost()
        if lost is not None:
            raise DatabaseFailed(lost)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
