"""How connections are opened, and what errors of SQLite mean."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import StateError
from syncd.state import sqlite
from tests.scenarios.test_state_survival import open_state, opened


def test_the_writer_is_durable(tmp_path: Path) -> None:
    """The connection that writes has a write-ahead log, flushes on every commit and checks references."""
    with opened(tmp_path):
        pass
    with closing(sqlite.connect_writer(str(tmp_path / "state.db"))) as connection:
        values = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]

    assert values == ["wal", 2, 1, 5000]


def test_damage_is_not_mistaken_for_a_lack_of_rights(tmp_path: Path) -> None:
    """A database that we may not read is an error, not something to set aside."""
    if os.geteuid() != 0:
        pytest.skip("CANNOT BE TESTED HERE: becoming another user needs root")
    with opened(tmp_path):
        pass
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(StateError, match="cannot be used"):
            open_state(tmp_path)
    finally:
        os.seteuid(0)

    assert not [path for path in tmp_path.iterdir() if "set-aside" in path.name]


def test_text_that_is_none_any_more_is_read_all_the_same(tmp_path: Path) -> None:
    """A flipped bit passes every check where it hits a name; what is read then matches nothing."""
    path = str(tmp_path / "state.db")
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA user_version = 1")
    with closing(sqlite.connect(path, read_only=False)) as connection:
        connection.execute("CREATE TABLE t (x TEXT)")
        connection.execute("INSERT INTO t VALUES (CAST(x'6bdf79' AS TEXT)), ('k\u00e9y')")
        assert connection.execute("SELECT x FROM t").fetchall() == [("k\ufffdy",), ("kéy",)]


def test_a_message_that_is_no_text_means_damage() -> None:
    """SQLite quotes names of a damaged schema; Python cannot put them in words, and raises another error."""
    error = UnicodeDecodeError("utf-8", b"malformed \xdf", 10, 11, "invalid continuation byte")
    assert isinstance(error, sqlite.ERRORS)
    assert sqlite.is_damage(error)
    assert sqlite.is_fatal(error)
    assert "damaged" in str(sqlite.state_error(error, "state.db"))
