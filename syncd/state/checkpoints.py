"""The SQL of unfinished uploads, as `queries` has that of files: checkpoints with parts, and leftovers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from sqlite3 import Connection, IntegrityError
from types import MappingProxyType

from syncd.core.errors import CheckpointGone
from syncd.core.model import Checkpoint, FileRef, Fingerprint, Leftover, Part
from syncd.state.queries import Row, ensure_source, fold, named, stat_of, stat_row, unfold_time


def put(connection: Connection, checkpoint: Checkpoint) -> int:
    """Insert with its parts; returns the new id, which no other checkpoint ever had.

    One that is there belongs to a worker of an earlier configuration: its upload is left to be aborted.
    """
    ensure_source(connection, checkpoint.ref.source)
    other = find(connection, checkpoint.ref)
    if other is not None:
        left = other.store_id, other.key, other.upload_id or "", other.created_ns
        put_leftover(connection, Leftover(other.ref, *left))
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
        put_part(connection, number, part)
    return number


def put_part(connection: Connection, checkpoint_id: int, part: Part) -> None:
    """Insert or replace by number. Raises CheckpointGone where there is no such checkpoint."""
    try:
        connection.execute(
            "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)",
            (checkpoint_id, part.number, part.size, part.etag, part.digest, part.crc32),
        )
    except IntegrityError as error:
        raise CheckpointGone(f"there is no checkpoint {checkpoint_id}") from error


def drop(connection: Connection, checkpoint_id: int) -> None:
    """Its parts go with it."""
    connection.execute("DELETE FROM checkpoints WHERE id = ?", (checkpoint_id,))


def find(connection: Connection, ref: FileRef) -> Checkpoint | None:
    """With its parts."""
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


def find_all(connection: Connection) -> list[Checkpoint]:
    """Oldest first."""
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


def put_leftover(connection: Connection, leftover: Leftover) -> None:
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


def drop_leftover(connection: Connection, leftover: Leftover) -> None:
    """Done also when there was none."""
    connection.execute(
        "DELETE FROM leftovers WHERE store_id = ? AND key = ? AND upload_id = ?",
        (leftover.store_id, leftover.key, leftover.upload_id),
    )


def leftovers(connection: Connection, store_id: str) -> list[Leftover]:
    """Those of one store."""
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
