"""What happened to files: the last actions, and why files could not be carried."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

from syncd.core.model import Failure, FileRef
from syncd.state.queries import OF_SOURCE, ensure_source, fold, named, unfold_time

MOST_ACTIONS = 10_000
"""How many are kept."""

Row = tuple[int, str, bytes, str, int, str]


class Acted(NamedTuple):
    """One thing that was done, or that failed."""

    at_ns: int
    """Wall clock, nanoseconds."""
    ref: FileRef
    action: str
    """``uploaded``, ``copied``, ``deleted`` or ``failed``."""
    size: int
    """Bytes that were sent."""
    detail: str
    """The reason, or the error."""


class History:
    """The last actions: a ring of rows, the oldest out. For any thread.

    `join` leaves an operation to a later write, `read` runs one on what is written. One operation writes all
    that is noted until it runs.
    """

    def __init__(
        self,
        join: Callable[[Callable[[Connection], object]], object],
        read: Callable[[Callable[[Connection], list[Acted]]], list[Acted]],
    ) -> None:
        self._join = join
        self._read = read
        self._lock = threading.Lock()
        self._waiting: list[Row] | None = None
        """Rows of an operation that is joined and did not run yet."""

    def note(self, acted: Acted) -> None:
        """Remember. Joined with later writes: a crash may lose the last ones."""
        text = acted.detail.encode("utf-8", "backslashreplace").decode("utf-8")
        row = (acted.at_ns, acted.ref.source, os.fsencode(acted.ref.path), acted.action, acted.size, text)
        with self._lock:
            if self._waiting is not None:
                self._waiting.append(row)
                return
            rows = [row]
            self._join(lambda connection: self._write(connection, rows))
            self._waiting = rows

    def _write(self, connection: Connection, rows: list[Row]) -> None:
        """Write the rows. What is noted from now on goes with another operation; this one may run again."""
        with self._lock:
            if self._waiting is rows:
                self._waiting = None
        connection.executemany("INSERT INTO history VALUES (NULL, ?, ?, ?, ?, ?, ?)", rows)
        oldest = "(SELECT max(id) FROM history) - ?"
        connection.execute(f"DELETE FROM history WHERE id <= {oldest}", (MOST_ACTIONS,))  # noqa: S608  ours

    def last(self, limit: int, sources: Sequence[str] | None = None, path: str = "") -> list[Acted]:
        """The newest first: of all, of sources, or of one path and what is below it. Raises StateError."""
        among = None if sources is None else json.dumps(sources)
        exact, below = os.fsencode(path), os.fsencode(f"{path}/")

        def operation(connection: Connection) -> list[Acted]:
            found = connection.execute(
                "SELECT at_ns, source, path, action, size, detail FROM history "
                "WHERE (?1 IS NULL OR source IN (SELECT value FROM json_each(?1))) "
                "AND (?2 = x'' OR path = ?2 OR substr(path, 1, length(?3)) = ?3) ORDER BY id DESC LIMIT ?4",
                (among, exact, below, limit),
            )
            return [Acted(row[0], FileRef(row[1], os.fsdecode(row[2])), *row[3:]) for row in found]

        return self._read(operation)


class Failures:
    """For any thread; every method raises StateError.

    `join` leaves an operation to a later write, `read` runs one on what is written, `catch_up` writes what
    was joined before; see `State`.
    """

    def __init__(
        self,
        join: Callable[[Callable[[Connection], object]], object],
        read: Callable[[Callable[[Connection], Any]], Any],
        catch_up: Callable[[bool], None],
    ) -> None:
        self._join = join
        self._read = read
        self._catch_up = catch_up
        self.may_stand = bool(read(_failure_count))
        """Whether there may be a failure to drop: a commit looks for one only then."""

    def record(self, failure: Failure) -> None:
        """Remember why a file could not be carried; replaces what was known. Joined with later writes."""
        self.may_stand = True  # before it is there: a commit that comes later must not miss it
        self._join(lambda c: _put_failure(c, failure))

    def drop(self, ref: FileRef) -> None:
        """Forget the failure of a file. Harmless if there is none. Joined with later writes."""
        self._join(lambda c: drop_failure(c, ref))

    def find(self, ref: FileRef) -> Failure | None:
        """Return why a file could not be carried; None: it was, or was never tried."""
        self._catch_up(True)
        sql = f"SELECT error, attempts, next_attempt_ns, refusals, refused FROM failures WHERE {OF_SOURCE}"  # noqa: S608  a constant
        row = self._read(lambda c: c.execute(sql + " AND path = ?2", named(ref)).fetchone())
        return Failure(ref, row[0], row[1], unfold_time(row[2]), *row[3:]) if row else None

    def page(self, source: str | None = None, limit: int = 1000, *, exact: bool = True) -> list[Failure]:
        """Return at most `limit` failures of one source or of all, in the order of source and path.

        If it is not `exact`, those of the last third of a second may be missing.
        """
        self._catch_up(exact)
        sql = (
            "SELECT name, path, error, attempts, next_attempt_ns, refusals, refused FROM failures "
            "JOIN sources ON sources.id = failures.source WHERE ?1 IS NULL OR name = ?1 "
            "ORDER BY name, path LIMIT ?2"
        )
        rows = self._read(lambda c: c.execute(sql, (source, limit)).fetchall())
        return [
            Failure(FileRef(row[0], os.fsdecode(row[1])), row[2], row[3], unfold_time(row[4]), *row[5:])
            for row in rows
        ]

    def count(self) -> dict[str, int]:
        """Return how many failures each source has; a source without any is left out."""
        self._catch_up(True)
        found: dict[str, int] = self._read(_failure_count)
        return found


def drop_failure(connection: Connection, ref: FileRef) -> None:
    """Within a write: forget the failure of a file. Harmless if there is none."""
    connection.execute(f"DELETE FROM failures WHERE {OF_SOURCE} AND path = ?2", named(ref))  # noqa: S608  a constant


def _failure_count(connection: Connection) -> dict[str, int]:
    sql = "SELECT name, count(*) FROM failures JOIN sources ON sources.id = failures.source GROUP BY name"
    return dict(connection.execute(sql).fetchall())


def _put_failure(connection: Connection, failure: Failure) -> None:
    ensure_source(connection, failure.ref.source)
    next_ns = fold(failure.next_attempt_ns)
    # Messages may quote names that are not UTF-8.
    text = failure.error.encode("utf-8", "backslashreplace").decode("utf-8")
    connection.execute(
        "INSERT OR REPLACE INTO failures VALUES ((SELECT id FROM sources WHERE name = ?), ?, ?, ?, ?, ?, ?)",
        (*named(failure.ref), text, failure.attempts, next_ns, failure.refusals, failure.refused),
    )
