"""The last actions, for people who ask what happened: a ring of rows, oldest out."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from syncd.core.model import FileRef

MOST_ACTIONS = 10_000
"""How many are kept."""

Row = tuple[int, str, bytes, str, int, str]

T = TypeVar("T")


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
    """For any thread. `join` leaves an operation to a later write, `read` runs one on what is written.

    One operation writes all that is noted until it runs.
    """

    def __init__(
        self,
        join: Callable[[Callable[[sqlite3.Connection], object]], object],
        read: Callable[[Callable[[sqlite3.Connection], list[Acted]]], list[Acted]],
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

    def _write(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
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

        def operation(connection: sqlite3.Connection) -> list[Acted]:
            found = connection.execute(
                "SELECT at_ns, source, path, action, size, detail FROM history "
                "WHERE (?1 IS NULL OR source IN (SELECT value FROM json_each(?1))) "
                "AND (?2 = x'' OR path = ?2 OR substr(path, 1, length(?3)) = ?3) ORDER BY id DESC LIMIT ?4",
                (among, exact, below, limit),
            )
            return [Acted(row[0], FileRef(row[1], os.fsdecode(row[2])), *row[3:]) for row in found]

        return self._read(operation)
