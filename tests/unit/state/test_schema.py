"""A database is made, migrated as a whole or not at all, and refused if it is newer."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import StateError
from syncd.core.model import FileRef, Fingerprint, Part
from syncd.state import schema
from syncd.state.state import State
from tests.scenarios.test_state_survival import (
    DEADLINE_SECONDS,
    RECORDED,
    child,
    fill,
    open_state,
    opened,
    ref,
)


def test_the_first_start_makes_everything_private(tmp_path: Path) -> None:
    """The directory is for its owner alone, and so is every file in it; nothing is called rebuilt."""
    directory = tmp_path / "a" / "state"
    with opened(directory) as state:
        fill(state, 3)
        modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}

        assert state.rebuilt is None
        assert directory.stat().st_mode & 0o777 == 0o700
        assert set(modes) == {"state.db", "state.db-wal", "state.db-shm", "instance", "under-way"}
        assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_newer_schema_is_refused_and_untouched(tmp_path: Path, checkpointed: bool) -> None:
    """A newer database is neither changed nor set aside, also if only its log tells the version."""
    with opened(tmp_path) as state:
        fill(state, 5)
    path = tmp_path / "state.db"
    newer = sqlite3.connect(path, isolation_level=None)
    newer.execute("PRAGMA wal_autocheckpoint=0")
    newer.execute(f"PRAGMA user_version={len(schema.STEPS) + 1}")
    if not checkpointed:  # as a kill leaves it: the log beside the file
        log = Path(f"{path}-wal").read_bytes()
        before = path.read_bytes()
    newer.close()
    if not checkpointed:
        path.write_bytes(before)
        Path(f"{path}-wal").write_bytes(log)
    content = path.read_bytes()

    with pytest.raises(StateError, match=rf"newer syncd \(version {len(schema.STEPS) + 1}"):
        open_state(tmp_path)
    with pytest.raises(StateError, match="newer syncd"):
        State.open_read_only(str(tmp_path))

    assert path.read_bytes() == content
    assert not [path for path in tmp_path.iterdir() if "set-aside" in path.name]


def test_a_column_whose_name_rotted_makes_the_database_a_damaged_one(tmp_path: Path) -> None:
    """SQLite's own check does not look into names: without ours, every later start would fail."""
    with opened(tmp_path) as state:
        fill(state, 5)
    path = tmp_path / "state.db"
    content = path.read_bytes()
    assert content.count(b"unclean INTEGER") == 1
    path.write_bytes(content.replace(b"unclean INTEGER", b"uncleao INTEGER"))

    with opened(tmp_path) as state:
        assert state.rebuilt == "the state database is damaged: it lacks lives.unclean"


NEXT_STEP = ("ALTER TABLE files ADD COLUMN mood TEXT", "UPDATE files SET mood = 'good'")

KILLED_IN_A_MIGRATION = """
import os, signal, sys
from syncd.state import schema

class Deadly(tuple):
    def __iter__(self):
        for number, statement in enumerate(super().__iter__()):
            if number == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield statement
        os.kill(os.getpid(), signal.SIGKILL)

schema.upgrade(sys.argv[1], (*schema.STEPS, Deadly((
    "ALTER TABLE files ADD COLUMN mood TEXT", "UPDATE files SET mood = 'good'"))))
"""


@pytest.mark.parametrize("statement", [0, 1, 2])
def test_a_migration_killed_half_way_has_not_happened(tmp_path: Path, statement: int) -> None:
    """Death before, inside or behind the statements of a step leaves the former version, which works."""
    with opened(tmp_path) as state:
        fill(state, 50)
    path = tmp_path / "state.db"
    with child(KILLED_IN_A_MIGRATION, str(path), str(statement)) as process:
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGKILL

    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(files)")]
    assert "path" in columns
    assert "mood" not in columns
    with opened(tmp_path) as state:
        assert state.rebuilt is None
        assert state.recorded_totals("s") == (50, 250)
        assert state.recorded(ref(1)) == RECORDED


def test_a_migration_keeps_a_copy(tmp_path: Path) -> None:
    """After the steps the version is the new one, the data is there, and the former file lies beside it."""
    with opened(tmp_path) as state:
        fill(state, 50)
    path = tmp_path / "state.db"

    schema.upgrade(str(path), (*schema.STEPS, NEXT_STEP))

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(schema.STEPS) + 1
        assert connection.execute("SELECT DISTINCT mood FROM files").fetchall() == [("good",)]
    copy = tmp_path / f"state.db.version-{len(schema.STEPS)}"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(schema.STEPS)
        assert connection.execute("SELECT count(*) FROM files").fetchall() == [(50,)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A step with an impossible statement leaves the former version, which works."""
    with opened(tmp_path) as state:
        fill(state, 50)
    path = tmp_path / "state.db"

    with pytest.raises(sqlite3.OperationalError):
        schema.upgrade(str(path), (*schema.STEPS, (*NEXT_STEP, "UPDATE nonsense SET x = 1")))

    with opened(tmp_path) as state:
        assert (state.rebuilt, state.recorded_totals("s")) == (None, (50, 250))


def test_a_state_without_witnesses_learns_them(tmp_path: Path) -> None:
    """Its rows stay, without one; digests of parts were public ones, and are forgotten."""
    step = next(number for number, step in enumerate(schema.STEPS) if "TABLE secret" in step[0])
    path = tmp_path / "state.db"
    stat = "device, inode, size, mtime_ns, ctime_ns, digest, content_size"
    numbers = "1, 2, 5, 3, 4, zeroblob(16), 5"
    about, values = f"{stat}, etag, recorded_ns, racy", f"{numbers}, 'e', 7, 0"
    begun, begin = f"{stat}, part_size, token, created_ns, store_id, key", f"{numbers}, 8, 't', 7, 's', 'k'"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
        for statement in (statement for before in schema.STEPS[:step] for statement in before):
            connection.execute(statement)
        for statement in (
            "INSERT INTO identity VALUES (1, 'old', 5)",
            "INSERT INTO sources (name) VALUES ('s')",
            "INSERT INTO stores (store_id) VALUES ('store')",
            f"INSERT INTO files (source, path, {about}, store, key) VALUES (1, x'61', {values}, 1, 'k')",
            "INSERT INTO part_digests VALUES (1, x'61', 8, zeroblob(16))",
            f"INSERT INTO checkpoints (id, source, path, {begun}) VALUES (1, 1, x'62', {begin})",
            "INSERT INTO parts VALUES (1, 1, 5, 'etag', zeroblob(16), 9)",
            f"PRAGMA user_version={step}",
        ):
            connection.execute(statement)
        connection.commit()

    with opened(tmp_path) as state:
        found, grid = state.recorded(FileRef("s", "a")), state.part_digests(FileRef("s", "a"))
        unfinished = state.checkpoints.find(FileRef("s", "b"))
        assert found is not None
        assert unfinished is not None
        assert (found.fingerprint, found.witness, grid) == (Fingerprint(bytes(16), 5), b"", None)
        assert (unfinished.witness, unfinished.parts[1]) == (b"", Part(1, 5, "etag", None, 9))
        assert len(state.secret) == 32
