"""The last actions, for people who ask what happened: a ring of rows, oldest out."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from syncd.core.model import FileRef

MOST_ACTIONS = 10_000
"""How many are kept, about."""
_TRIM_EVERY = 512

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
    """For any thread. `join` leaves an operation to a later write, `read` runs one on what is written."""

    def __init__(
        self,
        join: Callable[[Callable[[sqlite3.Connection], object]], object],
        read: Callable[[Callable[[sqlite3.Connection], list[Acted]]], list[Acted]],
    ) -> None:
        self._join = join
        self._read = read
        self._noted = 0

    def note(self, acted: Acted) -> None:
        """Remember. Joined with later writes: a crash may lose the last ones. Raises StateError."""
        self._noted += 1
        trim = self._noted % _TRIM_EVERY == 0
        text = acted.detail.encode("utf-8", "backslashreplace").decode("utf-8")
        row = (acted.at_ns, acted.ref.source, os.fsencode(acted.ref.path), acted.action, acted.size, text)

        def operation(connection: sqlite3.Connection) -> None:
            number = connection.execute("INSERT INTO history VALUES (NULL, ?, ?, ?, ?, ?, ?)", row).lastrowid
            if trim and number is not None:
                connection.execute("DELETE FROM history WHERE id <= ?", (number - MOST_ACTIONS,))

        self._join(operation)

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
