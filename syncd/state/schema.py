"""The tables of the state database: made, checked, migrated, set aside when damaged.

What a database has to show before it is used: SQLite's own mark, our ``application_id``, a schema
version that we know, one identity row whose instance id is the one in the file ``instance`` beside it, and
a clean ``quick_check``. Anything else is moved aside (kept, never deleted) and a new database is built: a
lost memory means "unknown", which costs a look at every file and at the store, never a deletion.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress

from syncd.core.errors import StateError, StateRefused, os_words
from syncd.state import sqlite

DATABASE_NAME = "state.db"
INSTANCE_NAME = "instance"
APPLICATION_ID = 0x53796E63  # "Sync"

_NUMBERS = " UNION ALL ".join(f"SELECT {number} AS number" for number in (0, *(1 << n for n in range(14))))
_BLOCK = "{0}.source, {0}.path, number, substr({0}.digests, 16 * number + 1, 16)"
_BLOCKS = f"SELECT {_BLOCK} FROM ({_NUMBERS})"  # noqa: S608  constants
_WITHIN = "WHERE 16 * number < length(digests)"
"""There are at most 10,000 parts."""

# A version is the number of steps taken. A step that has been released is never changed again.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE identity (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            instance_id TEXT NOT NULL,
            created_ns INTEGER NOT NULL)""",
        """CREATE TABLE sources (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            files INTEGER NOT NULL DEFAULT 0,
            bytes INTEGER NOT NULL DEFAULT 0,
            root BLOB,
            root_device INTEGER,
            root_inode INTEGER,
            last_scan_ns INTEGER,
            drift INTEGER NOT NULL DEFAULT 0)""",
        "CREATE TABLE stores (id INTEGER PRIMARY KEY, store_id TEXT NOT NULL UNIQUE)",
        # Clustered by path, so that a scan reads them in its own order without a sort. Names are bytes.
        """CREATE TABLE files (
            source INTEGER NOT NULL REFERENCES sources(id),
            path BLOB NOT NULL,
            device INTEGER NOT NULL,
            inode INTEGER NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            digest BLOB NOT NULL,
            content_size INTEGER NOT NULL,
            store INTEGER NOT NULL REFERENCES stores(id),
            key TEXT NOT NULL,
            etag TEXT NOT NULL,
            recorded_ns INTEGER NOT NULL,
            racy INTEGER NOT NULL,
            PRIMARY KEY (source, path)) WITHOUT ROWID""",
        "CREATE INDEX files_by_content ON files (digest, content_size, store)",
        """CREATE TRIGGER files_in AFTER INSERT ON files BEGIN
            UPDATE sources SET files = files + 1, bytes = bytes + new.size WHERE id = new.source; END""",
        """CREATE TRIGGER files_changed AFTER UPDATE ON files WHEN new.size <> old.size BEGIN
            UPDATE sources SET bytes = bytes + new.size - old.size WHERE id = new.source; END""",
        """CREATE TRIGGER files_out AFTER DELETE ON files BEGIN
            UPDATE sources SET files = files - 1, bytes = bytes - old.size WHERE id = old.source; END""",
        # Of large files only: shows which parts a change left alone. Goes with the content.
        """CREATE TABLE part_digests (
            source INTEGER NOT NULL,
            path BLOB NOT NULL,
            part_size INTEGER NOT NULL,
            digests BLOB NOT NULL,
            PRIMARY KEY (source, path)) WITHOUT ROWID""",
        """CREATE TRIGGER files_content AFTER UPDATE ON files WHEN new.digest <> old.digest BEGIN
            DELETE FROM part_digests WHERE source = old.source AND path = old.path; END""",
        """CREATE TRIGGER files_content_out AFTER DELETE ON files BEGIN
            DELETE FROM part_digests WHERE source = old.source AND path = old.path; END""",
        # AUTOINCREMENT: the id of a dropped checkpoint is never given to another.
        """CREATE TABLE checkpoints (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            source INTEGER NOT NULL REFERENCES sources(id),
            path BLOB NOT NULL,
            device INTEGER NOT NULL,
            inode INTEGER NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            digest BLOB NOT NULL,
            content_size INTEGER NOT NULL,
            store_id TEXT NOT NULL,
            key TEXT NOT NULL,
            part_size INTEGER NOT NULL,
            token TEXT NOT NULL,
            created_ns INTEGER NOT NULL,
            upload_id TEXT,
            completing INTEGER NOT NULL DEFAULT 0,
            UNIQUE (source, path))""",
        """CREATE TABLE parts (
            checkpoint INTEGER NOT NULL REFERENCES checkpoints(id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            size INTEGER NOT NULL,
            etag TEXT NOT NULL,
            digest BLOB,
            crc32 INTEGER,
            PRIMARY KEY (checkpoint, number)) WITHOUT ROWID""",
        """CREATE TABLE failures (
            source INTEGER NOT NULL REFERENCES sources(id),
            path BLOB NOT NULL,
            error TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            next_attempt_ns INTEGER NOT NULL,
            PRIMARY KEY (source, path)) WITHOUT ROWID""",
        "CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE learned (
            store_id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
            PRIMARY KEY (store_id, name)) WITHOUT ROWID""",
    ),
    (
        # The processes that write are numbered; `unclean` is the last one that was not seen to end.
        """CREATE TABLE lives (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            number INTEGER NOT NULL,
            unclean INTEGER NOT NULL,
            ended INTEGER NOT NULL)""",
        "INSERT INTO lives VALUES (1, 0, 0, 1)",
        "ALTER TABLE files ADD COLUMN life INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # Objects that a request without an answer may yet change; `creates`: it may make one.
        """CREATE TABLE unsettled (
            store_id TEXT NOT NULL,
            key TEXT NOT NULL,
            since_ns INTEGER NOT NULL,
            creates INTEGER NOT NULL,
            PRIMARY KEY (store_id, key)) WITHOUT ROWID""",
    ),
    (
        # Where the files of each source went when the configuration was last applied.
        """CREATE TABLE destinations (
            source TEXT PRIMARY KEY,
            store_id TEXT NOT NULL,
            prefix TEXT NOT NULL) WITHOUT ROWID""",
    ),
    (
        # What the operator paused; `kind` is source, store or all, `until_ns` is 0 where it has no end.
        """CREATE TABLE pauses (
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            until_ns INTEGER NOT NULL,
            PRIMARY KEY (kind, name)) WITHOUT ROWID""",
    ),
    (
        # The file of the database as the last life knew it, to notice one that was put back from a copy.
        "ALTER TABLE lives ADD COLUMN inode INTEGER",
        "ALTER TABLE lives ADD COLUMN ended_ns INTEGER",
    ),
    (
        # What an upload met, so that a next process knows whether it meets it again.
        "ALTER TABLE checkpoints ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE checkpoints ADD COLUMN refused TEXT NOT NULL DEFAULT ''",
        # Uploads that could not be aborted yet; an empty id: it was lost.
        """CREATE TABLE leftovers (
            store_id TEXT NOT NULL,
            key TEXT NOT NULL,
            upload_id TEXT NOT NULL,
            source TEXT NOT NULL,
            path BLOB NOT NULL,
            begun_ns INTEGER NOT NULL,
            left_ns INTEGER NOT NULL,
            PRIMARY KEY (store_id, key, upload_id)) WITHOUT ROWID""",
    ),
    (
        # What the last whole scan could not see (empty: nothing), and what it left out, as JSON.
        "ALTER TABLE sources ADD COLUMN unseen TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE sources ADD COLUMN skipped TEXT NOT NULL DEFAULT '{}'",
    ),
    (
        # The last actions; see `history`.
        """CREATE TABLE history (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at_ns INTEGER NOT NULL,
            source TEXT NOT NULL,
            path BLOB NOT NULL,
            action TEXT NOT NULL,
            size INTEGER NOT NULL,
            detail TEXT NOT NULL)""",
    ),
    (
        # Second digests, which need the secret. Parts and their digests had the public one: of parts that are
        # uploaded, the ETags prove what they hold.
        "CREATE TABLE secret (one INTEGER PRIMARY KEY CHECK (one = 1), seed BLOB NOT NULL)",
        "ALTER TABLE files ADD COLUMN witness BLOB",
        "ALTER TABLE checkpoints ADD COLUMN witness BLOB",
        "UPDATE parts SET digest = NULL",
        "DELETE FROM part_digests",
    ),
    (
        # Rows of deleted files whose objects are kept. A file has a row here or in `files`; its part digests
        # stay when it moves, and go when the other table has other content for it.
        """CREATE TABLE kept (
            source INTEGER NOT NULL REFERENCES sources(id),
            path BLOB NOT NULL,
            device INTEGER NOT NULL,
            inode INTEGER NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            digest BLOB NOT NULL,
            content_size INTEGER NOT NULL,
            store INTEGER NOT NULL REFERENCES stores(id),
            key TEXT NOT NULL,
            etag TEXT NOT NULL,
            recorded_ns INTEGER NOT NULL,
            racy INTEGER NOT NULL,
            life INTEGER NOT NULL,
            witness BLOB,
            PRIMARY KEY (source, path)) WITHOUT ROWID""",
        "CREATE INDEX kept_by_content ON kept (digest, content_size, store)",
        """CREATE TRIGGER files_instead AFTER INSERT ON files BEGIN
            DELETE FROM kept WHERE source = new.source AND path = new.path; END""",
        """CREATE TRIGGER kept_instead AFTER INSERT ON kept BEGIN
            DELETE FROM files WHERE source = new.source AND path = new.path; END""",
        "DROP TRIGGER files_content_out",
        """CREATE TRIGGER files_content_out AFTER DELETE ON files WHEN NOT EXISTS (SELECT 1 FROM kept
                WHERE source = old.source AND path = old.path AND digest = old.digest) BEGIN
            DELETE FROM part_digests WHERE source = old.source AND path = old.path; END""",
        """CREATE TRIGGER kept_content_out AFTER DELETE ON kept WHEN NOT EXISTS (SELECT 1 FROM files
                WHERE source = old.source AND path = old.path AND digest = old.digest) BEGIN
            DELETE FROM part_digests WHERE source = old.source AND path = old.path; END""",
    ),
    (
        # Attempts that the store refused; others may have met a store that was down.
        "ALTER TABLE failures ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0",
        "UPDATE failures SET refusals = attempts",
    ),
    (
        # What the last audit found and nothing has mended since; the empty path counts what is not named.
        """CREATE TABLE differences (
            source INTEGER NOT NULL REFERENCES sources(id),
            path BLOB NOT NULL,
            what TEXT NOT NULL,
            files INTEGER NOT NULL,
            PRIMARY KEY (source, path)) WITHOUT ROWID""",
    ),
    (
        # What mends a difference, and the ETag of an object that has lost its content behind it.
        "ALTER TABLE differences ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE differences ADD COLUMN rotten TEXT NOT NULL DEFAULT ''",
        # How far the audit of each source has come; `after` is a path in hexadecimal.
        """CREATE TABLE rounds (
            source TEXT PRIMARY KEY,
            after TEXT NOT NULL,
            files INTEGER NOT NULL,
            next_ns INTEGER NOT NULL,
            ended_ns INTEGER,
            looked_at INTEGER NOT NULL,
            repaired INTEGER NOT NULL) WITHOUT ROWID""",
    ),
    (
        # Which files have a block: of each file the first one, and those whose numbers are powers of two.
        """CREATE TABLE blocks (
            source INTEGER NOT NULL,
            path BLOB NOT NULL,
            number INTEGER NOT NULL,
            digest BLOB NOT NULL,
            PRIMARY KEY (source, path, number)) WITHOUT ROWID""",
        "CREATE INDEX blocks_by_digest ON blocks (digest, number)",
        f"INSERT INTO blocks {_BLOCKS.format('part_digests')}, part_digests {_WITHIN}",
        """CREATE TRIGGER blocks_out BEFORE INSERT ON part_digests BEGIN
            DELETE FROM blocks WHERE source = new.source AND path = new.path; END""",
        f"""CREATE TRIGGER blocks_in AFTER INSERT ON part_digests BEGIN
            INSERT INTO blocks {_BLOCKS.format("new")} {_WITHIN.replace("digests", "new.digests")}; END""",
        """CREATE TRIGGER blocks_gone AFTER DELETE ON part_digests BEGIN
            DELETE FROM blocks WHERE source = old.source AND path = old.path; END""",
    ),
    # Which file system the root of a source is on; empty: it was not asked yet.
    ("ALTER TABLE sources ADD COLUMN root_volume TEXT NOT NULL DEFAULT ''",),
    # Of large files in which a change has moved much: shows what has only another place.
    ("ALTER TABLE part_digests ADD COLUMN chunks BLOB NOT NULL DEFAULT x''",),
    # Of an unsettled object: since when by the monotonic clock, which counts from the boot of this id.
    ("ALTER TABLE unsettled ADD COLUMN boot TEXT NOT NULL DEFAULT ''",),
    # Which state of the file the store refused, so that the next process does not send it again at once.
    ("ALTER TABLE failures ADD COLUMN refused BLOB NOT NULL DEFAULT x''",),
    # Shows whether content of the size of a new large file is known: see `queries.has_size`.
    tuple(
        f"CREATE INDEX {table}_by_size ON {table} (content_size) WHERE content_size > 1048576"
        for table in ("files", "kept")
    ),
    (
        # See `syncd.state.queries.Folder`. No folder with a digest is in another: the nearest before a path
        # is the only one that may hold it, or say that nothing is there.
        """CREATE TABLE folders (
            source INTEGER NOT NULL REFERENCES sources(id),
            path BLOB NOT NULL,
            files INTEGER NOT NULL,
            digest BLOB NOT NULL,
            following BLOB NOT NULL,
            PRIMARY KEY (source, path)) WITHOUT ROWID""",
        *(
            f"""CREATE TRIGGER {table}_folder_{change.lower()} AFTER {change} ON {table} BEGIN
                DELETE FROM folders WHERE source = {row}.source AND path = (SELECT path FROM folders
                    WHERE source = {row}.source AND path <= {row}.path ORDER BY path DESC LIMIT 1); END"""  # noqa: S608  constants
            for table in ("files", "kept")
            for change, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old"))
        ),
    ),
)


def prepare(directory: str, *, instance_id: str, now_ns: int) -> tuple[str, str, str | None]:
    """Make sure that `directory` (made with mode 0700) holds a sound database of this version.

    `instance_id` is given to a database that has to be made. Returns the path of the database, its instance
    id, and the reason why a former one was set aside or found missing, None when there was nothing wrong.
    Raises StateError when the database is of a newer version (it stays untouched) or cannot be read at all.
    """
    path = os.path.join(directory, DATABASE_NAME)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        reason = _fault(path, _read_instance(directory))
        if reason is not None or not os.path.lexists(path):
            set_aside(path, now_ns)
            _create(directory, instance_id, now_ns)
        upgrade(path, STEPS)
        found = identity_of(path)
        _write_instance(directory, found)
    except OSError as error:
        raise StateError(f"the state directory {directory} cannot be used: {os_words(error)}") from error
    except sqlite3.Error as error:
        raise sqlite.state_error(error, path) from error
    return path, found, reason


def identity_of(path: str) -> str:
    """The instance id of the database at `path`. Raises StateError where it is none of this version."""
    reader = sqlite.Reader(path)
    try:
        return reader.run(lambda connection: _instance_in(connection, path))
    finally:
        reader.close()


def _instance_in(connection: sqlite3.Connection, path: str) -> str:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    _refuse_newer(path, version)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID or version != len(STEPS):
        raise StateError(f"{path} is not a state database of this version of syncd; run syncd once with it")
    row = connection.execute("SELECT instance_id FROM identity").fetchone()
    if row is None:
        raise StateError(f"{path} has no identity; start syncd, which builds a new one")
    return str(row[0])


def upgrade(path: str, steps: Sequence[Sequence[str]]) -> None:
    """Take the steps that the database has not seen, all in one transaction, after a copy of it was kept.

    Raises sqlite3.Error; then, and after a death in the middle, the database is as it was.
    """
    with closing(sqlite.connect(path, read_only=False)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version >= len(steps):
            return
        _keep_copy(connection, f"{path}.version-{version}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(steps)}")
        connection.execute("COMMIT")


def _fault(path: str, instance_id: str | None) -> str | None:
    """Why the database cannot be used, or None when it is sound or was never made."""
    try:
        header = _header(path)
    except FileNotFoundError:
        return None if instance_id is None else "the state database is missing"
    if not header:
        return "the state database is empty (0 bytes)"
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return "the state database is damaged: not a database"
    if int.from_bytes(header[68:72], "big") == APPLICATION_ID:
        _refuse_newer(path, int.from_bytes(header[60:64], "big"))
    try:
        # Read-only, so that a database that is not ours or not of our time stays as it is.
        with closing(sqlite.connect(path, read_only=True)) as connection:
            return _fault_inside(connection, path, instance_id)
    except sqlite.ERRORS as error:
        if sqlite.primary_code(error) not in sqlite.DAMAGED:
            raise
        return f"the state database is damaged: {error}"


def _fault_inside(connection: sqlite3.Connection, path: str, instance_id: str | None) -> str | None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        return "the state database is another program's"
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    _refuse_newer(path, version)
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        return f"the state database is damaged: {' '.join(str(found).split())}"
    lost = _columns_of(version) - _columns(connection)
    if lost:  # a check does not look into the names
        return f"the state database is damaged: it lacks {min(lost).decode()}"
    row = connection.execute("SELECT instance_id FROM identity WHERE one = 1").fetchone()
    if row is None:
        return "the state database has no identity"
    if instance_id is not None and row[0] != instance_id:
        return "the state database belongs to another instance of syncd"
    return None


def _columns(connection: sqlite3.Connection) -> set[bytes]:
    """``table.column`` of each column; bytes, because damage may leave no text."""
    found = connection.execute(
        "SELECT CAST(tables.name || '.' || columns.name AS BLOB) FROM sqlite_master AS tables "
        "JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
    )
    return {bytes(row[0]) for row in found}


def _columns_of(version: int) -> set[bytes]:
    """Those that a database of this version has."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for step in STEPS[:version]:
            for statement in step:
                connection.execute(statement)
        return _columns(connection)


def _refuse_newer(path: str, version: int) -> None:
    if version > len(STEPS):
        raise StateRefused(
            f"the state database {path} was written by a newer syncd (version {version} of its schema, "
            f"this one knows {len(STEPS)}); install the newer one again, or move the file away to begin again"
        )


def _header(path: str) -> bytes:
    # Only before any connection of this process exists: closing a descriptor drops its POSIX locks.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def _create(directory: str, instance_id: str, now_ns: int) -> None:
    """Build the database under another name and rename it, so that a half-made one never carries the name."""
    path = os.path.join(directory, DATABASE_NAME)
    draft = path + ".new"
    for name in (draft, draft + "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(name)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite.connect(draft, read_only=False)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("BEGIN IMMEDIATE")
        for step in STEPS:
            for statement in step:
                connection.execute(statement)
        connection.execute("INSERT INTO identity VALUES (1, ?, ?)", (instance_id, now_ns))
        connection.execute(f"PRAGMA user_version={len(STEPS)}")
        connection.execute("COMMIT")
    os.rename(draft, path)
    _sync_directory(directory)


def set_aside(path: str, now_ns: int) -> None:
    """Keep the files of a database that is not believed, under names that say since when. Raises OSError."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.rename(path + suffix, f"{path}.set-aside-{now_ns}{suffix}")
    _sync_directory(os.path.dirname(path))


def _keep_copy(connection: sqlite3.Connection, copy_path: str) -> None:
    os.close(os.open(copy_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    with closing(sqlite.connect(copy_path, read_only=False)) as copy:
        connection.backup(copy)


def _read_instance(directory: str) -> str | None:
    try:
        with open(os.path.join(directory, INSTANCE_NAME), encoding="ascii", errors="replace") as file:
            return file.read(200).strip() or None
    except FileNotFoundError:
        return None


def _write_instance(directory: str, instance_id: str) -> None:
    if _read_instance(directory) == instance_id:
        return
    path = os.path.join(directory, INSTANCE_NAME)
    draft = path + ".new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, instance_id.encode("ascii") + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(draft, path)
    _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
