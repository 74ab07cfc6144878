"""Unfinished uploads: checkpoints with their parts, and leftovers, which are to be aborted yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from sqlite3 import Connection, IntegrityError
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from syncd.core.errors import CheckpointGone
from syncd.core.model import Checkpoint, FileRef, Fingerprint, Leftover, Part
from syncd.state.queries import OF_SOURCE, Row, ensure_source, fold, named, stat_of, stat_row, unfold_time


class Checkpoints:
    """For any thread; every method raises StateError.

    `write` has an operation on the disk when it returns, `read` runs one on what is written.
    """

    def __init__(
        self,
        write: Callable[[Callable[[Connection], Any]], Any],
        read: Callable[[Callable[[Connection], Any]], Any],
    ) -> None:
        self._write = write
        self._read = read

    def begin(self, checkpoint: Checkpoint) -> Checkpoint:
        """Record the intent to upload, and return it with its id, which no other checkpoint ever had.

        Another checkpoint of the file belongs to a worker of an earlier configuration: its upload is left to
        be aborted.
        """
        return replace(checkpoint, id=self._write(lambda c: _put(c, checkpoint)))

    def set_upload_id(self, checkpoint_id: int, upload_id: str) -> None:
        """Record the id that the store has given the upload. Raises CheckpointGone."""
        self._change("UPDATE checkpoints SET upload_id = ? WHERE id = ?", upload_id, checkpoint_id)

    def add_part(self, checkpoint_id: int, part: Part) -> None:
        """Record a part that the store has acknowledged; it replaces one of the same number.

        Raises CheckpointGone.
        """
        self._write(lambda c: _put_part(c, checkpoint_id, part))

    def set_completing(self, checkpoint_id: int, content: Fingerprint, witness: bytes) -> None:
        """Record that the store is about to be asked to complete the upload, with this content.

        Raises CheckpointGone.
        """
        sql = "UPDATE checkpoints SET completing = 1, digest = ?, witness = ? WHERE id = ?"
        self._change(sql, content.digest, witness or None, checkpoint_id)

    def set_refused(self, checkpoint_id: int, refused: str) -> None:
        """Record that the store refused a call of the upload; see `Checkpoint.refused`.

        Raises CheckpointGone.
        """
        self._change("UPDATE checkpoints SET refused = ? WHERE id = ?", refused, checkpoint_id)

    def pardon(self, ref: FileRef) -> None:
        """The operator wants the file tried again: its upload, if any, may start over once more."""
        sql = f"UPDATE checkpoints SET restarts = 0 WHERE {OF_SOURCE} AND path = ?2"  # noqa: S608  a constant
        self._write(lambda c: c.execute(sql, named(ref)))

    def drop(self, checkpoint_id: int) -> None:
        """Forget an upload that was aborted, is gone, or never began. Harmless if there is none."""
        self._write(lambda c: drop(c, checkpoint_id))

    def find(self, ref: FileRef) -> Checkpoint | None:
        """Return the unfinished upload of a file, with its parts."""
        found: Checkpoint | None = self._read(lambda c: _find(c, ref))
        return found

    def all(self) -> list[Checkpoint]:
        """Return all unfinished uploads, with their parts, oldest first."""
        found: list[Checkpoint] = self._read(_find_all)
        return found

    def leave(self, leftover: Leftover, checkpoint_id: int | None = None) -> None:
        """Remember an upload that could not be aborted, and drop its checkpoint, if any."""

        def operation(connection: Connection) -> None:
            _put_leftover(connection, leftover)
            if checkpoint_id is not None:
                drop(connection, checkpoint_id)

        self._write(operation)

    def leftovers(self, store_id: str) -> list[Leftover]:
        """Return the uploads that are to be aborted yet in one store."""
        found: list[Leftover] = self._read(lambda c: _leftovers(c, store_id))
        return found

    def drop_leftover(self, leftover: Leftover) -> None:
        """Forget an upload that was aborted, or is gone. Harmless if it is not known."""
        sql = "DELETE FROM leftovers WHERE store_id = ? AND key = ? AND upload_id = ?"
        values = leftover.store_id, leftover.key, leftover.upload_id
        self._write(lambda c: c.execute(sql, values))

    def _change(self, sql: str, *values: object) -> None:
        """Run an UPDATE of one checkpoint, whose id is the last of the values."""

        def operation(connection: Connection) -> None:
            if connection.execute(sql, values).rowcount != 1:
                raise CheckpointGone(f"there is no checkpoint {values[-1]}")

        self._write(operation)


def drop(connection: Connection, checkpoint_id: int) -> None:
    """Within a write: delete a checkpoint with its parts."""
    connection.execute("DELETE FROM checkpoints WHERE id = ?", (checkpoint_id,))


def _put(connection: Connection, checkpoint: Checkpoint) -> int:
    """Insert with its parts, and return the new id."""
    ensure_source(connection, checkpoint.ref.source)
    other = _find(connection, checkpoint.ref)
    if other is not None:
        left = other.store_id, other.key, other.upload_id or "", other.created_ns
        _put_leftover(connection, Leftover(other.ref, *left))
        drop(connection, other.id)
    content = checkpoint.fingerprint
    number = connection.execute(
        "INSERT INTO checkpoints (source, path, device, inode, size, mtime_ns, ctime_ns, digest, "
        "content_size, store_id, key, part_size, token, created_ns, upload_id, completing, restarts, "
        "refused, witness) VALUES ((SELECT id FROM sources WHERE name = ?)" + ", ?" * 18 + ")",
        (
            *named(checkpoint.ref),
            *(*stat_row(checkpoint.stat), content.digest, content.size, checkpoint.store_id, checkpoint.key),
            *(checkpoint.part_size, checkpoint.token, fold(checkpoint.created_ns)),
            *(checkpoint.upload_id, checkpoint.completing, checkpoint.restarts, checkpoint.refused),
            checkpoint.witness or None,
        ),
    ).lastrowid
    assert number is not None
    for part in checkpoint.parts.values():
        _put_part(connection, number, part)
    return number


def _put_part(connection: Connection, checkpoint_id: int, part: Part) -> None:
    try:
        connection.execute(
            "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)",
            (checkpoint_id, part.number, part.size, part.etag, part.digest, part.crc32),
        )
    except IntegrityError as error:
        raise CheckpointGone(f"there is no checkpoint {checkpoint_id}") from error


def _find(connection: Connection, ref: FileRef) -> Checkpoint | None:
    row = connection.execute(
        "SELECT checkpoints.id, sources.name, path, device, inode, size, mtime_ns, ctime_ns, digest, "
        "content_size, store_id, key, part_size, token, created_ns, upload_id, completing, restarts, "
        "refused, witness FROM checkpoints "
        "JOIN sources ON sources.id = checkpoints.source WHERE name = ? AND path = ?",
        named(ref),
    ).fetchone()
    if row is None:
        return None
    parts = connection.execute(
        "SELECT number, size, etag, digest, crc32 FROM parts WHERE checkpoint = ? ORDER BY number", row[:1]
    )
    return _checkpoint(row, {part[0]: Part(*part) for part in parts})


def _find_all(connection: Connection) -> list[Checkpoint]:
    parts: dict[int, dict[int, Part]] = {}
    for row in connection.execute(
        "SELECT checkpoint, number, size, etag, digest, crc32 FROM parts ORDER BY checkpoint, number"
    ):
        parts.setdefault(row[0], {})[row[1]] = Part(*row[1:])
    found = connection.execute(
        "SELECT checkpoints.id, sources.name, path, device, inode, size, mtime_ns, ctime_ns, digest, "
        "content_size, store_id, key, part_size, token, created_ns, upload_id, completing, restarts, "
        "refused, witness FROM checkpoints "
        "JOIN sources ON sources.id = checkpoints.source ORDER BY checkpoints.id"
    )
    return [_checkpoint(row, parts.get(row[0], {})) for row in found]


def _put_leftover(connection: Connection, leftover: Leftover) -> None:
    """Insert; of two whose id was lost under one key, those times count that take in both."""
    connection.execute(
        "INSERT INTO leftovers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "begun_ns = min(begun_ns, excluded.begun_ns), "
        "left_ns = CASE WHEN excluded.left_ns = 0 THEN 0 ELSE max(left_ns, excluded.left_ns) END",
        (
            *(leftover.store_id, leftover.key, leftover.upload_id),
            *named(leftover.ref),
            *(fold(leftover.begun_ns), fold(leftover.left_ns)),
        ),
    )


def _leftovers(connection: Connection, store_id: str) -> list[Leftover]:
    rows = connection.execute(
        "SELECT source, path, key, upload_id, begun_ns, left_ns FROM leftovers WHERE store_id = ?",
        (store_id,),
    )
    return [
        Leftover(
            FileRef(source, os.fsdecode(path)),
            store_id,
            key,
            upload_id,
            unfold_time(begun_ns),
            unfold_time(left_ns),
        )
        for source, path, key, upload_id, begun_ns, left_ns in rows
    ]


def _checkpoint(row: Row, parts: Mapping[int, Part]) -> Checkpoint:
    store_id, key, part_size, token, created_ns, upload_id, completing, restarts, refused, witness = row[10:]
    return Checkpoint(
        id=row[0],
        ref=FileRef(row[1], os.fsdecode(row[2])),
        store_id=store_id,
        key=key,
        fingerprint=Fingerprint(row[8], row[9]),
        stat=stat_of(row[3:8]),
        part_size=part_size,
        token=token,
        created_ns=unfold_time(created_ns),
        upload_id=upload_id,
        completing=bool(completing),
        restarts=restarts,
        refused=refused,
        witness=witness or b"",
        parts=MappingProxyType(dict(parts)),
    )
