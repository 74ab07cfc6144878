"""What audits found that nothing has mended since, and how far the audit of each source has come."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from syncd.core.model import FileRef
from syncd.state.queries import AFTER_ALL, OF_SOURCE, TABLES, ensure_source, named


class Unlike(NamedTuple):
    """One recorded file whose object is not as recorded."""

    ref: FileRef
    etag: str
    """That of the record that was compared; where the record has another one by now, nothing is kept."""
    what: str
    """In words."""
    damaged: bool = False
    """Sending the file again mends it."""
    rotten: str = ""
    """The ETag of an object that has lost its content, and shows it neither by that nor by its metadata."""


class Round(NamedTuple):
    """The audit of one source: of the round that goes on, and of the last one that ended."""

    after: str = ""
    """The path, in hexadecimal, behind which it goes on."""
    files: int = 0
    """So many were looked at in this round."""
    next_ns: int = 0
    """When it goes on, in nanoseconds of the wall clock."""
    ended_ns: int | None = None
    """When the last round ended; None: none did."""
    looked_at: int = 0
    """Files of the last round."""
    repaired: int = 0
    """Of them, those that were to be sent again."""


class Audits:
    """For any thread; every method raises StateError.

    `write` has an operation on the disk when it returns, `read` runs one on what is written, `flush` has all
    written.
    """

    def __init__(
        self,
        write: Callable[[Callable[[sqlite3.Connection], object]], object],
        read: Callable[[Callable[[sqlite3.Connection], Any]], Any],
        flush: Callable[[], object],
    ) -> None:
        self._write = write
        self._read = read
        self._flush = flush
        self._may_stand = bool(read(lambda c: c.execute("SELECT 1 FROM differences LIMIT 1").fetchone()))
        """Whether there may be a difference: a commit looks for one only then."""
        sql = "SELECT rotten FROM differences WHERE rotten <> ''"
        self._rotten = {etag for (etag,) in read(lambda c: c.execute(sql).fetchall())}
        """Objects that were rotten, and may be by now."""

    def keep(
        self,
        source: str,
        found: Sequence[Unlike],
        unnamed: int = 0,
        *,
        after: bytes = b"",
        upto: bytes | None = None,
    ) -> None:
        """Record what was found of the objects of `source`; it replaces what was found before.

        That of the paths behind `after`, up to `upto`; None: of all behind. `unnamed` more are counted.
        """
        self._may_stand = True
        self._rotten |= {each.rotten for each in found if each.rotten}
        self._write(lambda c: _put(c, source, found, unnamed, (after, AFTER_ALL if upto is None else upto)))

    def standing(self, source: str, limit: int = 10) -> tuple[int, list[tuple[FileRef, str]]]:
        """Return how many differences of `source` stand, and the first in the order of paths, in words."""
        self._flush()
        found: tuple[int, list[tuple[FileRef, str]]] = self._read(lambda c: _listed(c, source, limit))
        return found

    def what(self, ref: FileRef) -> str:
        """Return what was found of the object of a file, in words; empty: nothing that stands."""
        self._flush()
        sql = f"SELECT what FROM differences WHERE {OF_SOURCE} AND path = ?2"  # noqa: S608  constants
        row = self._read(lambda c: c.execute(sql, named(ref)).fetchone())
        return str(row[0]) if row else ""

    def records(self, source: str) -> int:
        """Return how many recorded files `source` has, with those that are gone and whose objects stay."""
        counts = (f"(SELECT count(*) FROM {table} WHERE {OF_SOURCE})" for table in TABLES)  # noqa: S608  constants
        return int(self._read(lambda c: c.execute(f"SELECT {' + '.join(counts)}", (source,)).fetchone())[0])

    def damaged(self, source: str) -> list[FileRef]:
        """Return the files of `source` that are to be sent again to mend their objects."""
        self._flush()
        sql = f"SELECT path FROM differences WHERE {OF_SOURCE} AND damaged ORDER BY path"  # noqa: S608  constants
        rows = self._read(lambda c: c.execute(sql, (source,)).fetchall())
        return [FileRef(source, os.fsdecode(path)) for (path,) in rows]

    def is_rotten(self, etag: str) -> bool:
        """Return whether an object with this ETag is known to have another content than it says."""
        if etag not in self._rotten:
            return False
        self._flush()
        sql = "SELECT 1 FROM differences WHERE rotten = ?"
        return bool(self._read(lambda c: c.execute(sql, (etag,)).fetchone()))

    def has_rotted(self, ref: FileRef) -> bool:
        """Return whether the object of a file is known to have lost its content, and was not sent since."""
        if not self._rotten:
            return False
        self._flush()
        sql = f"SELECT 1 FROM differences WHERE {OF_SOURCE} AND path = ?2 AND rotten <> ''"  # noqa: S608  constants
        return bool(self._read(lambda c: c.execute(sql, named(ref)).fetchone()))

    def drop(self, connection: sqlite3.Connection, ref: FileRef) -> None:
        """Within a write: drop what was found of a file that was sent again or is forgotten."""
        if self._may_stand:
            sql = f"DELETE FROM differences WHERE {OF_SOURCE} AND path = ?2"  # noqa: S608  constants
            connection.execute(sql, named(ref))

    def round(self, source: str) -> Round:
        """Return how far the audit of `source` has come."""
        sql = "SELECT after, files, next_ns, ended_ns, looked_at, repaired FROM rounds WHERE source = ?"
        row = self._read(lambda c: c.execute(sql, (source,)).fetchone())
        return Round(*row) if row else Round()

    def note(self, source: str, now: Round) -> None:
        """Record how far the audit of `source` has come."""
        sql = "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._write(lambda c: c.execute(sql, (source, *now)))


def _put(
    connection: sqlite3.Connection,
    source: str,
    found: Sequence[Unlike],
    unnamed: int,
    between: tuple[bytes, bytes],
) -> None:
    """The row with the empty path counts what is not named; it is behind nothing, and goes with all."""
    ensure_source(connection, source)
    after, upto = between
    which = f"{OF_SOURCE} AND (path > ?2 OR ?2 = x'') AND path <= ?3"
    connection.execute(f"DELETE FROM differences WHERE {which}", (source, after, upto))  # noqa: S608  constants
    for ref, etag, what, damaged, rotten in found:
        text = what.encode("utf-8", "backslashreplace").decode("utf-8")
        for table in TABLES:
            connection.execute(
                "INSERT OR REPLACE INTO differences "  # noqa: S608  constants
                f"SELECT source, path, ?4, 1, ?5, ?6 FROM {table} "
                f"WHERE {OF_SOURCE} AND path = ?2 AND etag = ?3",
                (*named(ref), etag, text, damaged, rotten),
            )
    if unnamed:
        sql = "INSERT INTO differences SELECT id, x'', '', ?, 0, '' FROM sources WHERE name = ?"
        connection.execute(sql, (unnamed, source))


def _listed(connection: sqlite3.Connection, source: str, limit: int) -> tuple[int, list[tuple[FileRef, str]]]:
    of_source = f"FROM differences WHERE {OF_SOURCE}"
    (files,) = connection.execute(f"SELECT total(files) {of_source}", (source,)).fetchone()
    sql = f"SELECT path, what {of_source} AND path > x'' ORDER BY path LIMIT ?2"
    rows = connection.execute(sql, (source, limit)).fetchall()
    return int(files), [(FileRef(source, os.fsdecode(path)), what) for path, what in rows]
