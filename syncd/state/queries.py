"""The SQL of the state: nouns to rows and back, one function for each verb, on the caller's connection.

Names are bytes here (BLOB); numbers that SQLite cannot hold are folded into 64 bits. No transactions, locks
or errors of ours: those are `syncd.state.state` and `syncd.state.sqlite`.
"""

from __future__ import annotations

import hashlib
import os
import stat as modes
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from sqlite3 import Connection, IntegrityError
from typing import Any

from msgspec import Struct, msgpack
from msgspec.structs import replace

from syncd.core.model import (
    OLDEST_NS,
    OVERTAKEN,
    Destination,
    FileRef,
    FileStat,
    Fingerprint,
    Recorded,
)
from syncd.core.parts import PartDigests

Row = tuple[Any, ...]
"""As SQLite returns it: the columns decide the types, and a type checker cannot see them."""

_FOLD = 1 << 64
_SIGN = 1 << 63
_CLOSING_NS, _CLOSING_SLOWLY_NS = 10**9, 60 * 10**9  # until the log is written back into the database
AFTER_ALL = b"\xff" * 256
"""No component of a path is that long, so every path sorts before it."""


def fold(number: int) -> int:
    """An unsigned number or a time as a signed 64-bit number. Inodes of overlays use the highest bit."""
    return (number + _SIGN) % _FOLD - _SIGN


def unfold(number: int) -> int:
    """The unsigned number that was folded."""
    return number % _FOLD


def unfold_time(time_ns: int) -> int:
    """The time between `OLDEST_NS` and `LATEST_NS` that was folded."""
    return time_ns if time_ns >= OLDEST_NS else time_ns + _FOLD


# ---- recorded files -------------------------------------------------------------------------------------


TABLES = ("files", "kept")
"""A recorded file has a row in one of them."""
_PUT_FILE = (
    "INSERT INTO {} VALUES ((SELECT id FROM sources WHERE name = ?), ?, ?, ?, ?, ?, ?, ?, ?, "
    "(SELECT id FROM stores WHERE store_id = ?), ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (source, path) DO UPDATE SET device = excluded.device, inode = excluded.inode, "
    "size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, "
    "digest = excluded.digest, content_size = excluded.content_size, store = excluded.store, "
    "key = excluded.key, etag = excluded.etag, recorded_ns = excluded.recorded_ns, racy = excluded.racy, "
    "life = excluded.life, witness = excluded.witness"
)
_PUT = tuple(_PUT_FILE.format(table) for table in TABLES)
_COLUMNS = (
    "device, inode, size, mtime_ns, ctime_ns, digest, content_size, "
    "(SELECT store_id FROM stores WHERE id = store), key, etag, recorded_ns, racy, life, witness"
)
OF_SOURCE = "source = (SELECT id FROM sources WHERE name = ?1)"
"""For a statement whose first value is the name of a source."""
_SOURCE_NAME = "(SELECT name FROM sources WHERE id = source)"
_OF_STORE = "store = (SELECT id FROM stores WHERE store_id = ?{})"
_OF_CONTENT = f"digest = ?1 AND content_size = ?2 AND {_OF_STORE.format(3)}"
_ON_PAGE = f"{OF_SOURCE} AND path >= ?2 AND path < ?3"


@cache
def _select(columns: str, where: str, *, kept: bool = True) -> str:
    """Select rows, where `kept` says so also those of deleted files; a last column is 1 for these.

    The parameters are numbered. Each table has its own condition, so that SQLite searches it by its index.
    """
    selects = (
        f"SELECT {columns}, {number} FROM {table} WHERE {where}"  # noqa: S608  constants
        for number, table in enumerate(TABLES[: 1 + kept])
    )
    return " UNION ALL ".join(selects)


def put_file(connection: Connection, ref: FileRef, recorded: Recorded) -> None:
    """Insert or replace. An update in place, so that the counters of the source follow by trigger."""
    content, sql = recorded.fingerprint, _PUT[recorded.kept]
    values = (
        *(ref.source, os.fsencode(ref.path), *stat_row(recorded.stat), content.digest, content.size),
        *(recorded.store_id, recorded.key, recorded.etag, fold(recorded.recorded_ns), recorded.racy),
        *(recorded.life, recorded.witness or None),
    )
    try:
        connection.execute(sql, values)
    except IntegrityError:  # the first row of its source or store, which have no numbers yet
        ensure_source(connection, ref.source)
        connection.execute("INSERT OR IGNORE INTO stores (store_id) VALUES (?)", (recorded.store_id,))
        connection.execute(sql, values)


def keep_file(connection: Connection, ref: FileRef, recorded: Recorded) -> None:
    """Move the row out of the way of scans, if it is `recorded` still.

    Should the file be there again, its stat proves nothing: it is read, and its row comes back.
    """
    found = find_file(connection, ref)
    if found is not None and found == recorded:
        put_file(connection, ref, replace(found, kept=True, racy=True))


def put_part_digests(connection: Connection, ref: FileRef, grid: PartDigests) -> None:
    """Insert or replace; the file's own row is there already. They go by trigger when its content does.

    Chunks that are known stay where the content does.
    """
    chunks = grid.chunks or find_chunks(connection, ref)
    connection.execute(
        "INSERT OR REPLACE INTO part_digests (source, path, part_size, digests, chunks) "
        "SELECT id, ?, ?, ?, ? FROM sources WHERE name = ?",
        (os.fsencode(ref.path), grid.part_size, b"".join(grid.digests), chunks, ref.source),
    )


def find_chunks(connection: Connection, ref: FileRef) -> bytes:
    """Those of the recorded content of `ref`, empty if they are not known."""
    row = connection.execute(
        f"SELECT chunks FROM part_digests WHERE {OF_SOURCE} AND path = ?2",  # noqa: S608  a text of ours
        named(ref),
    ).fetchone()
    return bytes(row[0]) if row else b""


def find_part_digests(connection: Connection, ref: FileRef) -> PartDigests | None:
    """Those of the recorded content of `ref`, without its chunks."""
    row = connection.execute(
        "SELECT part_size, digests FROM part_digests "
        "WHERE source = (SELECT id FROM sources WHERE name = ?) AND path = ?",
        named(ref),
    ).fetchone()
    if row is None:
        return None
    joined = bytes(row[1])
    return PartDigests(row[0], tuple(joined[at : at + 16] for at in range(0, len(joined), 16)))


def find_blocks(connection: Connection, grid: PartDigests, limit: int) -> list[FileRef]:
    """Files that have blocks of this grid at the same places, first those that have most of them.

    Looked for are those that are remembered one by one. What a file has several times, such as zeros, is in
    too many others.
    """
    numbers = [0, *(1 << n for n in range(len(grid.digests).bit_length()))]
    times = Counter(grid.digests)
    wanted = [
        (number, grid.digests[number])
        for number in numbers
        if number < len(grid.digests) and times[grid.digests[number]] == 1
    ]
    same = " UNION ALL ".join(
        ["SELECT * FROM (SELECT source, path FROM blocks WHERE number = ? AND digest = ? LIMIT 100)"]
        * len(wanted)
    )
    if not wanted:
        return []
    rows = connection.execute(
        f"SELECT {_SOURCE_NAME}, path FROM ({same}) "  # noqa: S608  constants
        "GROUP BY source, path ORDER BY count(*) DESC LIMIT ?",
        (*(value for pair in wanted for value in pair), limit),
    )
    return [FileRef(source, os.fsdecode(path)) for source, path in rows]


def drop_file(connection: Connection, ref: FileRef) -> None:
    """Done also when there was none."""
    for table in TABLES:
        sql = f"DELETE FROM {table} WHERE {OF_SOURCE} AND path = ?2"  # noqa: S608  one of two names of ours
        connection.execute(sql, named(ref))


def renumber_device(connection: Connection, source: str, old: int, new: int) -> None:
    """Files of `source` that were recorded, or begun, on device `old` count as of `new`."""
    for table in (*TABLES, "checkpoints"):
        connection.execute(
            f"UPDATE {table} SET device = ?2 WHERE device = ?3 AND {OF_SOURCE}",  # noqa: S608  names of ours
            (source, fold(new), fold(old)),
        )


def find_file(connection: Connection, ref: FileRef) -> Recorded | None:
    """What is recorded of `ref`."""
    row = connection.execute(_select(_COLUMNS, f"{OF_SOURCE} AND path = ?2"), named(ref)).fetchone()
    return _recorded(row) if row else None


def has_size(connection: Connection, store_id: str, size: int) -> bool:
    """Whether content of this size is recorded in this store. Above 1 MiB by an index."""
    indexed = " AND content_size > 1048576" if size > 1 << 20 else ""
    sql = _select("1", f"content_size = ?1 AND {_OF_STORE.format(2)}{indexed}") + " LIMIT 1"
    return connection.execute(sql, (size, store_id)).fetchone() is not None


def has_files(connection: Connection) -> bool:
    """Whether anything is recorded."""
    return connection.execute(_select("1", "1") + " LIMIT 1").fetchone() is not None


def file_page(
    connection: Connection, source: str, start: bytes, below: bytes, limit: int, kept: bool
) -> list[tuple[bytes, Recorded]]:
    """Files of `source` from path `start` on, inclusive, under directory `below`, in the order of bytes.

    With `kept` also those that were deleted and whose objects are kept.
    """
    found = connection.execute(
        _select(f"path, {_COLUMNS}", _ON_PAGE, kept=kept) + " ORDER BY path LIMIT ?4",
        (source, *_range(start, below), limit),
    )
    return [(row[0], _recorded(row[1:])) for row in found]


def outline_page(
    connection: Connection,
    source: str,
    aim: tuple[str, bytes],
    start: bytes,
    below: bytes,
    limit: int,
    kept: bool,
) -> list[Row]:
    """Like `file_page`, as tuples: ``(path, size, mtime_ns, ctime_ns, inode, device, firm, kept)``.

    Inode, device and times are folded; ``firm`` is 1 when the row is not racy and its object is where `aim`
    says: a store id, and what comes before the path in its key. Compared here, for a scan reads every row.
    """
    store_id, key_prefix = aim
    outline = (
        "path, size, mtime_ns, ctime_ns, inode, device, "
        "racy = 0 AND store IS (SELECT id FROM stores WHERE store_id = ?5) AND key = ?6 || path"
    )
    return connection.execute(
        _select(outline, _ON_PAGE, kept=kept) + " ORDER BY path LIMIT ?4",
        (source, *_range(start, below), limit, store_id, key_prefix),
    ).fetchall()


def find_content(
    connection: Connection,
    store_id: str,
    fingerprint: Fingerprint,
    limit: int,
    without: Collection[FileRef] = (),
) -> list[tuple[FileRef, Recorded]]:
    """At most `limit` recorded files with this content in this store, of any source, `without` some."""
    sql = _select(f"{_SOURCE_NAME}, path, {_COLUMNS}", _OF_CONTENT)
    rows = connection.execute(sql, (fingerprint.digest, fingerprint.size, store_id))
    refs = ((FileRef(row[0], os.fsdecode(row[1])), row) for row in rows)
    wanted = ((ref, row) for ref, row in refs if ref not in without)
    return [(ref, _recorded(row[2:])) for ref, row in islice(wanted, limit)]


# ---- folders that are known as a whole ------------------------------------------------------------------


# A digest stands for all rows of a folder: where the folder shows the same one, none of them is read. It is
# made of rows alone, in the transaction that writes it, and only of a folder whose files are all firm and
# directly in it. Triggers drop it in each transaction that changes, adds or removes a row below the folder.
# So one that is there says what the rows say at this moment.

FEWEST_FILES, MOST_FILES = 8, 1 << 14
"""To read the rows of fewer takes no longer; and the files of more would all be in memory at once."""

Entry = tuple[str, int, int, int, int, int, int]
"""Name, size, mtime_ns, ctime_ns, inode, device and type (`stat.S_IFMT`) of what is in a folder."""


class Folder(Struct, frozen=True):
    """The files of a folder, as they are recorded."""

    path: bytes
    """With a slash at the end; empty: the root."""
    files: int
    digest: bytes
    following: bytes
    """No path between those of the folder and this one is recorded."""


def digest_of(terms: bytes, entries: list[Entry]) -> bytes:
    """The digest of a folder that holds these, sorted; `terms` is what else has to be the same.

    Empty, which is the digest of none: a name is no text, or a time beyond 64 bits.
    """
    try:
        return hashlib.sha256(terms + msgpack.encode(entries)).digest()
    except (UnicodeEncodeError, OverflowError):
        return b""


def find_folder(connection: Connection, source: str, prefix: bytes) -> Folder | None:
    """The first one from `prefix` on, in the order of bytes, that has a digest."""
    row = connection.execute(
        "SELECT path, files, digest, following FROM folders "  # noqa: S608  a text of ours
        f"WHERE {OF_SOURCE} AND path >= ?2 ORDER BY path LIMIT 1",
        (source, prefix),
    ).fetchone()
    return Folder(*row) if row else None


def keep_folder(
    connection: Connection, source: str, prefix: bytes, aim: tuple[str, bytes], terms: bytes, *, kept: bool
) -> None:
    """Make the digest, if the folder can have one. `aim` and `kept` as in `outline_page`."""
    rows = outline_page(connection, source, aim, prefix, prefix[:-1], MOST_FILES + 1, kept)
    entries = sorted(_entry(row, len(prefix)) for row in rows if row[6] and not row[7])
    is_flat = all(name and "/" not in name for name, *_ in entries)
    if is_flat and 0 < len(entries) == len(rows) <= MOST_FILES and (digest := digest_of(terms, entries)):
        behind = outline_page(connection, source, aim, after(prefix), b"", 1, kept)
        following = _cut(behind[0][0], prefix) if behind else AFTER_ALL
        connection.execute(
            "INSERT OR REPLACE INTO folders SELECT id, ?, ?, ?, ? FROM sources WHERE name = ?",
            (prefix, len(entries), digest, following, source),
        )


def unfolded(row: Row) -> tuple[int, int, int, int, int]:
    """Size, mtime_ns, ctime_ns, inode and device of a row of `outline_page`."""
    size, mtime_ns, ctime_ns, inode, device = row[1:6]
    return size, unfold_time(mtime_ns), unfold_time(ctime_ns), unfold(inode), unfold(device)


def _entry(row: Row, skipped: int) -> Entry:
    return os.fsdecode(row[0][skipped:]), *unfolded(row), modes.S_IFREG


def _cut(path: bytes, prefix: bytes) -> bytes:
    """The first folder on the way to `path` that is not on the way to `prefix`; or the file at `path`.

    A folder that begins before it and ends behind it also holds `prefix`, and has no digest.
    """
    while not path.startswith(prefix):
        prefix = prefix[: prefix.rfind(b"/", 0, -1) + 1]
    end = path.find(b"/", len(prefix))
    return path[: end + 1] if end >= 0 else path


# ---- summaries and totals -------------------------------------------------------------------------------


def summaries(connection: Connection) -> list[Row]:
    """The `Summary` of each source, as plain values behind its name."""
    return connection.execute(
        "SELECT name, sources.files, bytes, last_scan_ns, drift, unseen, skipped, "
        "(SELECT count(*) FROM failures WHERE failures.source = id), "
        "(SELECT coalesce(sum(differences.files), 0) FROM differences WHERE differences.source = id), "
        "ended_ns, ifnull(looked_at, 0), ifnull(repaired, 0) "
        "FROM sources LEFT JOIN rounds ON rounds.source = name"
    ).fetchall()


def add_totals(connection: Connection, amounts: Mapping[str, int]) -> None:
    """Add to counters, which begin at 0."""
    connection.executemany(
        "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
        list(amounts.items()),
    )


def serve(connection: Connection, destinations: Sequence[Destination]) -> None:
    """Keep where the files of each source go from now on. Rows of other files under these keys are overtaken.

    A destination that was there before had the keys to itself: of two at once, none leads into the other.
    """
    before = {Destination(*row) for row in connection.execute(_DESTINATIONS)}
    for source, store_id, prefix in set(destinations) - before:
        end = prefix[:-1] + "0" if prefix else None  # "0" follows "/"
        for table in TABLES:
            connection.execute(_OVERTAKE.format(table), (OVERTAKEN, store_id, prefix, end, source))
    if set(destinations) != before:
        connection.execute("DELETE FROM destinations")
        connection.executemany("INSERT INTO destinations VALUES (?, ?, ?)", destinations)


def overtake(connection: Connection, source: str) -> None:
    """Mark all rows of `source`."""
    for table in TABLES:
        sql = f"UPDATE {table} SET racy = 1, life = ?2 WHERE {OF_SOURCE}"  # noqa: S608  constants
        connection.execute(sql, (source, OVERTAKEN))


def forget_files(connection: Connection, source: str) -> bool:
    """Delete some of the rows of a source; whether there may be more."""
    deleted = 0
    for table in TABLES:
        rows = f"SELECT path FROM {table} WHERE {OF_SOURCE} LIMIT 5000"  # noqa: S608  constants
        sql = f"DELETE FROM {table} WHERE {OF_SOURCE} AND path IN ({rows})"  # noqa: S608  constants
        deleted += connection.execute(sql, (source,)).rowcount
    return deleted > 0


def forget_facts(connection: Connection, source: str) -> None:
    """Delete what else is known of a source: first of all that its objects were compared."""
    learned = "DELETE FROM learned WHERE substr(name, -length(?1)) = ?1"  # each name ends with the source's
    connection.execute(learned, (f":{source}",))
    connection.execute("DELETE FROM rounds WHERE source = ?", (source,))
    connection.execute("DELETE FROM pauses WHERE kind = 'source' AND name = ?", (source,))
    for table in ("failures", "differences"):
        connection.execute(f"DELETE FROM {table} WHERE {OF_SOURCE}", (source,))  # noqa: S608  constants


def forget_source(connection: Connection, source: str) -> None:
    """Delete the source itself, unless a request that goes on has just recorded something of it."""
    connection.execute(
        "DELETE FROM sources WHERE name = ? "
        "AND NOT EXISTS (SELECT 1 FROM files WHERE files.source = sources.id) "
        "AND NOT EXISTS (SELECT 1 FROM kept WHERE kept.source = sources.id) "
        "AND NOT EXISTS (SELECT 1 FROM failures WHERE failures.source = sources.id) "
        "AND NOT EXISTS (SELECT 1 FROM checkpoints WHERE checkpoints.source = sources.id)",
        (source,),
    )


_DESTINATIONS = "SELECT source, store_id, prefix FROM destinations"
_OVERTAKE = (
    "UPDATE {} SET racy = 1, life = ?1 WHERE life <> ?1 "
    "AND store = (SELECT id FROM stores WHERE store_id = ?2) "
    "AND key >= ?3 AND (?4 IS NULL OR key < ?4) "
    "AND NOT (source IS (SELECT id FROM sources WHERE name = ?5) AND key = ?3 || path)"
)


def put_unsettled(connection: Connection, rows: Iterable[tuple[str, str, int, bool, str]]) -> None:
    """Insert or replace rows as `all_unsettled` tells them."""
    connection.executemany("INSERT OR REPLACE INTO unsettled VALUES (?, ?, ?, ?, ?)", rows)


def drop_unsettled(connection: Connection, names: list[tuple[str, str]]) -> None:
    """By store id and key; done also when there was none."""
    connection.executemany("DELETE FROM unsettled WHERE store_id = ? AND key = ?", names)


def all_unsettled(connection: Connection) -> list[tuple[str, str, int, bool, str]]:
    """Store id, key, since when in nanoseconds of the monotonic clock, whether the object may be made, and
    the boot that this clock counts from.
    """
    found = connection.execute("SELECT store_id, key, since_ns, creates, boot FROM unsettled")
    return [(row[0], row[1], row[2], bool(row[3]), row[4]) for row in found]


def begin_life(connection: Connection, inode: int, changed_ns: int) -> tuple[int, int, bool, bool]:
    """Take the next number; returns it, the last unclean life, whether the former one ended cleanly, and
    whether the file with this inode and change time was put back from a copy: then every row is overtaken.
    """
    ended, known, ended_ns = connection.execute("SELECT ended, inode, ended_ns FROM lives").fetchone()
    moved = known is not None and unfold(known) != inode
    put_back = moved
    if ended and ended_ns is not None:
        # Where inodes are made up at each mount, the change time still is that of the last write.
        put_back = changed_ns - unfold_time(ended_ns) > (_CLOSING_NS if moved else _CLOSING_SLOWLY_NS)
    if put_back:
        for table in TABLES:
            connection.execute(f"UPDATE {table} SET racy = 1, life = ?", (OVERTAKEN,))  # noqa: S608
    connection.execute("UPDATE lives SET inode = ?", (fold(inode),))
    if not ended:
        connection.execute("UPDATE lives SET unclean = number")
    connection.execute("UPDATE lives SET number = number + 1, ended = 0")
    number, unclean = connection.execute("SELECT number, unclean FROM lives").fetchone()
    return number, unclean, bool(ended), put_back


def keep_secret(connection: Connection, seed: bytes) -> None:
    """The secret of this state, unless it has one."""
    connection.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (seed,))


def end_life(connection: Connection, number: int, now_ns: int) -> None:
    """Life `number` wrote all that it had to; done also when another one began since, which then stays."""
    connection.execute("UPDATE lives SET ended = 1, ended_ns = ? WHERE number = ?", (fold(now_ns), number))


def ensure_source(connection: Connection, source: str) -> None:
    """Rows refer to sources by number: this gives `source` one."""
    connection.execute("INSERT OR IGNORE INTO sources (name) VALUES (?)", (source,))


# ---- values ---------------------------------------------------------------------------------------------


def named(ref: FileRef) -> tuple[str, bytes]:
    """The source and the path, for `OF_SOURCE` and ``path = ?2``."""
    return ref.source, os.fsencode(ref.path)


def after(prefix: bytes) -> bytes:
    """What sorts right behind all paths that begin with `prefix`, which ends with a slash, or is empty."""
    # "0" follows "/" in the order of bytes.
    return prefix[:-1] + b"0" if prefix else AFTER_ALL


def _range(start: bytes, below: bytes) -> tuple[bytes, bytes]:
    if not below:
        return start, AFTER_ALL
    return max(start, below + b"/"), after(below + b"/")


def stat_row(stat: FileStat) -> Row:
    """Device, inode, size and times, folded."""
    return (fold(stat.device), fold(stat.inode), stat.size, fold(stat.mtime_ns), fold(stat.ctime_ns))


def stat_of(row: Row) -> FileStat:
    """What `stat_row` made a row of."""
    device, inode, size, mtime_ns, ctime_ns = row
    return FileStat(unfold(device), unfold(inode), size, unfold_time(mtime_ns), unfold_time(ctime_ns))


def _recorded(row: Row) -> Recorded:
    digest, content_size, store_id, key, etag, recorded_ns, racy, life, witness, kept = row[5:]
    content, recorded_ns = Fingerprint(digest, content_size), unfold_time(recorded_ns)
    stat, witness = stat_of(row[:5]), witness or b""
    return Recorded(
        stat, content, store_id, key, etag, recorded_ns, bool(racy), life, witness, kept=bool(kept)
    )
