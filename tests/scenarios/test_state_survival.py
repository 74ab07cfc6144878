"""The state after power loss, kill, damage, a full disk, another version, and a second daemon."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from syncd.core.errors import StateError
from syncd.core.model import Checkpoint, FileRef, FileStat, Fingerprint, Part, Recorded
from syncd.state import schema
from syncd.state.state import State
from tests.support import mounting

DEADLINE_SECONDS = 30.0
STAT = FileStat(1, 2, 5, 3, 4)
CONTENT = Fingerprint(b"c" * 16, 5)
RECORDED = Recorded(STAT, CONTENT, "store", "key", "etag", 7)


def ref(number: int) -> FileRef:
    return FileRef("s", f"file {number:06}")


def fill(state: State, count: int) -> None:
    """Records in one or few transactions."""
    for number in range(count):
        state.commit(ref(number), RECORDED, durable=False)
    state.flush()


def open_state(directory: Path) -> State:
    return State.open(str(directory), now_ns=time.time_ns)


@contextmanager
def opened(directory: Path) -> Iterator[State]:
    state = open_state(directory)
    try:
        yield state
    finally:
        state.close()


def integrity(directory: Path) -> str:
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


@contextmanager
def child(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process of our own that is gone after the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)
        assert process.stdout is not None
        process.stdout.close()


# ---- files and modes --------------------------------------------------------------------------------------


def test_a_reopened_state_is_the_same(tmp_path: Path) -> None:
    """Closing and opening changes neither the instance nor what is recorded, and is no rebuilding."""
    with opened(tmp_path) as state:
        fill(state, 10)
        instance_id = state.instance_id
    with opened(tmp_path) as state:
        assert (state.instance_id, state.rebuilt) == (instance_id, None)
        assert state.recorded_totals("s") == (10, 50)


def test_a_directory_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    """A file in the way of the state directory is told as StateError."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match="cannot be used"):
        open_state(tmp_path / "file" / "state")


# ---- power loss and kill ----------------------------------------------------------------------------------


def _control(directory: Path, count: int) -> sqlite3.Connection:
    """The same number of rows with a database that does not wait for the disk."""
    connection = sqlite3.connect(directory / "control.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE t (x)")
    for number in range(count):
        connection.execute("INSERT INTO t VALUES (?)", (number,))
    return connection


def test_power_loss_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """All commits are there after a power loss: the disk as it is at that moment, without what the kernel
    still holds back. A database that does not flush loses rows in the same experiment."""
    image = mounting.ext4_image(tmp_path / "disk", 64)
    at = tmp_path / "mnt"
    with mounting.image(image, at):
        state = open_state(at / "state")
        begun = state.checkpoints.begin(Checkpoint(0, ref(9999), "store", "k", CONTENT, STAT, 5, "token", 1))
        state.checkpoints.set_upload_id(begun.id, "upload")
        state.checkpoints.add_part(begun.id, Part(1, 5, "e"))
        for number in range(200):
            state.commit(ref(number), RECORDED)
        instance_id = state.instance_id
        control = _control(at, 200)
        shutil.copyfile(image, tmp_path / "after")
        control.close()
        state.close()

    with mounting.image(tmp_path / "after", at):
        with opened(at / "state") as state:
            assert (state.instance_id, state.rebuilt) == (instance_id, None)
            assert state.recorded_totals("s") == (200, 1000)
            assert [(c.upload_id, list(c.parts)) for c in state.checkpoints.all()] == [("upload", [1])]
        assert integrity(at / "state") == "ok"
        with closing(sqlite3.connect(at / "control.db")) as control:
            try:
                survived = control.execute("SELECT count(*) FROM t").fetchone()[0]
            except sqlite3.OperationalError:  # not even the table
                survived = 0
        assert survived < 200


COMMIT_FOR_EVER = """
import sys, time
from syncd.core.model import *
from syncd.state.state import State
state = State.open(sys.argv[1], now_ns=time.time_ns)
recorded = Recorded(FileStat(1, 2, 5, 3, 4), Fingerprint(b"c" * 16, 5), "store", "key", "etag", 7)
number = int(sys.argv[2])
while True:
    state.commit(FileRef("s", f"file {number:06}"), recorded, durable=number % 3 == 0)
    if number % 3 == 0:
        print(number, flush=True)
    number += 1
"""


def test_a_kill_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Killed again and again while another process reads: each time all acknowledged commits are there,
    the database is sound, and opening it is no rebuilding."""
    acknowledged = -1
    with opened(tmp_path):
        pass
    for _ in range(4):
        with child(COMMIT_FOR_EVER, str(tmp_path), str(acknowledged + 1)) as process:
            assert process.stdout is not None
            for _ in range(50):
                acknowledged = int(process.stdout.readline())
                beside = State.open_read_only(str(tmp_path))
                assert beside.recorded(ref(acknowledged)) == RECORDED
                beside.close()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split("\n")
            acknowledged = int(rest[-2]) if len(rest) > 1 else acknowledged

        with opened(tmp_path) as state:
            assert state.rebuilt is None
            assert state.recorded_totals("s")[0] >= acknowledged + 1
        assert integrity(tmp_path) == "ok"


def test_death_at_any_moment_of_the_first_start(tmp_path: Path) -> None:
    """Whatever a start that died left behind, the next one makes a database and calls nothing rebuilt."""
    with opened(tmp_path / "whole"):
        pass
    whole = (tmp_path / "whole" / "state.db").read_bytes()
    for left in ({}, {"state.db.new": b""}, {"state.db.new": whole[:5000]}, {"instance.new": b"abc"}):
        directory = tmp_path / f"died {len(left)} {sum(map(len, left.values()))}"
        directory.mkdir()
        for name, content in left.items():
            (directory / name).write_bytes(content)
        with opened(directory) as state:
            assert state.rebuilt is None
            fill(state, 1)
    (tmp_path / "whole" / "instance").unlink()
    with opened(tmp_path / "whole") as state:
        assert state.rebuilt is None
        assert (tmp_path / "whole" / "instance").read_text().strip() == state.instance_id


# ---- damage -----------------------------------------------------------------------------------------------


def _overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _damage_three_pages(path: Path) -> None:
    pages = path.stat().st_size // 4096
    for page in (pages // 4, pages // 2, 3 * pages // 4):
        _overwrite(path, page * 4096, os.urandom(4096))


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.commit()


def _without_identity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM identity")
        connection.commit()


def _without_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version=1")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated to nothing": (lambda path: os.truncate(path, 0), "empty"),
    "truncated to a few bytes": (lambda path: os.truncate(path, 50), "damaged"),
    "truncated to half": (lambda path: os.truncate(path, path.stat().st_size // 2), "damaged"),
    "header zeroed": (lambda path: _overwrite(path, 0, bytes(100)), "damaged"),
    "all zeroed": (lambda path: _overwrite(path, 0, bytes(path.stat().st_size)), "damaged"),
    "garbage": (lambda path: path.write_bytes(b"garbage" * 10_000), "damaged"),
    "three pages overwritten": (_damage_three_pages, "damaged"),
    "another program's": (_foreign, "another program"),
    "no identity": (_without_identity, "no identity"),
    "no tables": (_without_tables, "it lacks"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_kept_aside_and_a_new_one_made(tmp_path: Path, damage: str) -> None:
    """It is noticed, named and kept byte for byte; the new one is empty, works, and is another instance."""
    do, word = DAMAGES[damage]
    with opened(tmp_path) as state:
        fill(state, 3000)
        former = state.instance_id
    do(tmp_path / "state.db")
    content = (tmp_path / "state.db").read_bytes()

    with opened(tmp_path) as state:
        assert word in str(state.rebuilt)
        assert state.instance_id != former
        assert state.recorded_totals("s") == (0, 0)
        fill(state, 5)
    kept = [path for path in tmp_path.glob("state.db.set-aside-*") if path.name[-1].isdigit()]  # not the log
    assert [path.read_bytes() for path in kept] == [content]
    with opened(tmp_path) as state:
        assert (state.rebuilt, state.recorded_totals("s")) == (None, (5, 25))


def test_a_missing_database_is_not_a_first_start(tmp_path: Path) -> None:
    """Where there was one before, its absence is said; a log without its database is kept aside."""
    with opened(tmp_path) as state:
        fill(state, 5)
    (tmp_path / "state.db").unlink()
    (tmp_path / "state.db-wal").write_bytes(b"orphaned log")

    with opened(tmp_path) as state:
        assert "missing" in str(state.rebuilt)
        assert state.recorded_totals("s") == (0, 0)
    kept = [path for path in tmp_path.iterdir() if "set-aside" in path.name]
    assert [path.read_bytes() for path in kept] == [b"orphaned log"]


def test_the_database_of_another_instance_is_not_believed(tmp_path: Path) -> None:
    """A sound database that was copied here from elsewhere is set aside."""
    for name in ("ours", "theirs"):
        with opened(tmp_path / name) as state:
            fill(state, 5)
    shutil.copyfile(tmp_path / "theirs" / "state.db", tmp_path / "ours" / "state.db")

    with opened(tmp_path / "ours") as state:
        assert "another instance" in str(state.rebuilt)
        assert state.recorded_totals("s") == (0, 0)


def test_an_older_copy_of_our_own_is_taken(tmp_path: Path) -> None:
    """A restored backup is ours: what it tells is checked against files and store anyway."""
    with opened(tmp_path) as state:
        fill(state, 5)
    shutil.copyfile(tmp_path / "state.db", tmp_path / "backup")
    with opened(tmp_path) as state:
        fill(state, 50)
    shutil.copyfile(tmp_path / "backup", tmp_path / "state.db")

    with opened(tmp_path) as state:
        assert (state.rebuilt, state.recorded_totals("s")) == (None, (5, 25))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_goes_away_while_in_use_is_noticed(tmp_path: Path, replaced: bool) -> None:
    """Rows are not written into a file that has no name any more."""
    state = open_state(tmp_path)
    fill(state, 5)
    content = (tmp_path / "state.db").read_bytes()
    (tmp_path / "state.db").unlink()
    if replaced:
        (tmp_path / "state.db").write_bytes(content)

    with pytest.raises(StateError, match="removed or replaced"):
        state.commit(ref(1), RECORDED)
    with pytest.raises(StateError, match="removed or replaced"):
        state.commit(ref(2), RECORDED)
    state.close()


# ---- a full disk ------------------------------------------------------------------------------------------


def fill_up(state: State) -> int:
    """Commit until it fails; returns how many were acknowledged."""
    for number in range(100_000):
        try:
            state.commit(ref(number), RECORDED)
        except StateError as error:
            if "full disk" not in str(error):
                raise
            return number
    raise AssertionError("it never became full")


def test_a_full_database_recovers(tmp_path: Path) -> None:
    """When there is no room a commit says so, what is recorded is still told, what was joined waits, and with
    room again everything goes on in the same process."""
    state = open_state(tmp_path)
    fill(state, 100)
    writer = state._writer
    assert writer is not None
    connection = writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages + 5}")
    acknowledged = fill_up(state)
    joined = FileRef("joined", "x")
    state.commit(joined, RECORDED, durable=False)
    for number in range(8):
        state.commit(FileRef("joined", f"{number:04000}"), RECORDED, durable=False)
    with pytest.raises(StateError, match="full disk"):
        state.flush()

    assert state.recorded(ref(acknowledged - 1)) == RECORDED
    assert state.recorded(ref(acknowledged)) is None
    assert state.recorded(joined) == RECORDED

    connection.execute("PRAGMA max_page_count=1000000")
    state.commit(ref(acknowledged), RECORDED)
    state.close()
    with opened(tmp_path) as state:
        assert state.rebuilt is None
        assert state.recorded_totals("s")[0] == acknowledged + 1
        assert state.recorded(joined) == RECORDED
    assert integrity(tmp_path) == "ok"


def test_a_full_file_system_recovers(tmp_path: Path) -> None:
    """The same with a disk that is really full: error, reads, room again, nothing acknowledged lost."""
    with mounting.tmpfs(tmp_path / "small", "1m") as at:
        state = open_state(at)
        acknowledged = fill_up(state)
        assert acknowledged > 0
        assert state.recorded(ref(acknowledged - 1)) == RECORDED
        mounting.run("mount", "-o", "remount,size=8m", str(at))
        state.commit(ref(acknowledged), RECORDED)
        state.close()
        with opened(at) as state:
            assert state.rebuilt is None
            assert state.recorded_totals("s")[0] == acknowledged + 1
        assert integrity(at) == "ok"
