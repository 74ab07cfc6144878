"""Lives are numbered in the state: after one that did not end cleanly, what it may have lost is asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import StateError
from syncd.core.model import FileRef
from syncd.core.plan import Upload
from syncd.state import queries, schema
from syncd.state.lock import StateLock
from syncd.state.state import State
from tests.scenarios.test_state_survival import RECORDED, child, open_state
from tests.support.rig import Rig

REF = FileRef("s", "file")

DIE_AFTER = """
import os, signal, sys, time
from syncd.state.lock import StateLock
from syncd.state.state import State
StateLock.acquire(sys.argv[1])
if sys.argv[2] == "opened":
    State.open(sys.argv[1], now_ns=time.time_ns)
os.kill(os.getpid(), signal.SIGKILL)
"""


def fail(state: State, failing: bool) -> None:
    """From now on the disk of the state is full, or has room again."""
    writer: Any = state._writer

    def full() -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    if failing:
        writer._check_file = full
    else:
        del writer._check_file


def _clean(directory: Path) -> None:
    state = open_state(directory)
    state.commit(REF, RECORDED, durable=False)
    state.add_totals(requests=1)
    state.close()


def _killed(directory: Path) -> None:
    with child(DIE_AFTER, str(directory), "opened") as process:
        process.wait(30)


def _killed_before_it_began(directory: Path) -> None:
    with child(DIE_AFTER, str(directory), "locked") as process:
        process.wait(30)


def _close_failed(directory: Path) -> None:
    state = open_state(directory)
    state.commit(REF, RECORDED, durable=False)
    fail(state, True)
    with pytest.raises(StateError):
        state.close()


def _totals_failed(directory: Path) -> None:
    state = open_state(directory)
    state.add_totals(requests=1)
    fail(state, True)
    with pytest.raises(StateError):
        state.close()


def _mark_failed(directory: Path) -> None:
    state = open_state(directory)
    fail(state, True)
    state.close()


def _failed_once(directory: Path) -> None:
    state = open_state(directory)
    fail(state, True)
    with pytest.raises(StateError):
        state.doubt(REF, RECORDED)
    fail(state, False)
    state.close()


def _threads_left(directory: Path) -> None:
    open_state(directory).close(clean=False)


def _removed(directory: Path) -> None:
    state = open_state(directory)
    (directory / "state.db").rename(directory / "elsewhere")
    with suppress(StateError):
        state.close()
    (directory / "elsewhere").rename(directory / "state.db")


def _overtaken(directory: Path) -> None:
    """A process that lost its lock ends while the next one, which dies, is at work."""
    first = open_state(directory)
    second = open_state(directory)
    first.close()
    second.close(clean=False)


def _read_beside(directory: Path) -> None:
    """A reader takes no number and ends no life."""
    state = open_state(directory)
    State.open_read_only(str(directory)).close()
    state.close(clean=False)


ENDS = [
    # how a life ends, numbers taken, whether the next one is to doubt it
    (_clean, 1, False),
    (_killed, 1, True),
    (_killed_before_it_began, 0, False),
    (_close_failed, 1, True),
    (_totals_failed, 1, True),
    (_mark_failed, 1, True),
    (_failed_once, 1, True),
    (_threads_left, 1, True),
    (_removed, 1, True),
    (_overtaken, 2, True),
    (_read_beside, 1, True),
]


@pytest.mark.parametrize(("end", "taken", "doubted"), ENDS, ids=[end.__name__[1:] for end, _, _ in ENDS])
def test_only_a_whole_close_is_a_clean_end(
    tmp_path: Path, end: Callable[[Path], None], taken: int, doubted: bool
) -> None:
    """And what was lost stays known through clean lives that do not compare, and starts that fail."""
    open_state(tmp_path).close()
    end(tmp_path)
    with closing(open_state(tmp_path)) as state:
        assert (state.life, state.interrupted) == (2 + taken, doubted)
        assert state.unclean_life == (1 + taken if doubted else 0)
    _killed_before_it_began(tmp_path)
    StateLock.acquire(str(tmp_path)).release()

    with closing(open_state(tmp_path)) as state:
        assert (state.life, state.interrupted) == (3 + taken, False)
        assert state.unclean_life == (1 + taken if doubted else 0)


def test_a_start_that_failed_at_the_state_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number is not taken, nothing stays open, and the start after it knows of the death before it."""
    _killed(tmp_path)

    def full(connection: sqlite3.Connection, *seen: int) -> None:
        queries_begin(connection, *seen)
        raise StateError("no room")

    queries_begin = queries.begin_life
    with monkeypatch.context() as patch:
        patch.setattr(queries, "begin_life", full)
        with pytest.raises(StateError, match="no room"):
            open_state(tmp_path)

    with closing(open_state(tmp_path)) as state:
        assert (state.life, state.interrupted) == (2, True)


def test_rows_bear_the_number_of_the_life_that_wrote_them(tmp_path: Path) -> None:
    """Whatever the caller put in, joined or durable, also a doubt; and it makes no two rows unequal."""
    for life in (1, 2, 3):
        with closing(open_state(tmp_path)) as state:
            state.commit(FileRef("s", f"joined in {life}"), replace(RECORDED, life=77), durable=False)
            joined = state.recorded(FileRef("s", f"joined in {life}"))
            assert joined is not None
            assert (joined.life, joined) == (life, RECORDED)
            state.doubt(FileRef("s", f"doubted in {life}"), RECORDED)
    with closing(State.open_read_only(str(tmp_path))) as state:
        rows = {path.decode(): row.life for path, row in state.recorded_page("s", None, 10)}
    assert rows == {f"{how} in {life}": life for how in ("joined", "doubted") for life in (1, 2, 3)}


def test_a_state_of_version_1_gets_its_numbers(tmp_path: Path) -> None:
    """Its rows are of no life; whether the last process died is not known, so every source is compared."""
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
        for statement in schema.STEPS[0]:
            connection.execute(statement)
        connection.execute("INSERT INTO identity VALUES (1, 'old', 5)")
        connection.execute("INSERT INTO sources (name) VALUES ('s')")
        connection.execute("INSERT INTO stores (store_id) VALUES ('store')")
        row = (b"file", 1, 2, 5, 3, 4, RECORDED.fingerprint.digest, 5, "key", "etag", 7, 0)
        connection.execute("INSERT INTO files VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO learned VALUES ('store', 'reconciled:s', 'all was compared')")
        connection.execute("PRAGMA user_version=1")
        connection.commit()
    (tmp_path / "instance").write_text("old\n")

    with closing(open_state(tmp_path)) as state:
        assert (state.rebuilt, state.life, state.unclean_life) == (None, 1, 0)
        found = state.recorded(REF)
        assert found is not None
        assert (found, found.life) == (RECORDED, 0)


# ---- what follows from it ---------------------------------------------------------------------------------


def _reconciled(rig: Rig) -> None:
    """The store was empty, so the source is in line with it."""
    first = rig.reconcile()
    first.begin()
    first.probe()
    assert not first.is_on


def test_a_record_that_died_with_its_process_costs_a_question_not_the_content(tmp_path: Path) -> None:
    """The row of a small file was joined and lost; its object is found by asking, for once."""
    rig = Rig(tmp_path)
    _reconciled(rig)
    rig.write("a", b"hello")
    rig.sync("a")
    rig.state.forget(rig.ref("a"))  # as if its row had never reached the disk
    rig.senders.shutdown()
    rig.state.close(clean=False)
    rig.open()
    sent = rig.fake.bytes_received
    rig.reconcile().begin()

    rig.sync("a")

    assert rig.fake.bytes_received == sent
    assert rig.state.recorded(rig.ref("a")) is not None
    rig.close()


@pytest.mark.parametrize("clean_starts", [0, 1, 3])
@pytest.mark.parametrize("recorded_seconds_ahead", [0, 3600, -3600], ids=["on time", "set back", "set ahead"])
def test_the_row_that_an_object_outlived_is_found_by_number(
    tmp_path: Path, recorded_seconds_ahead: int, clean_starts: int
) -> None:
    """The last row was lost, the file was put back to the row before it, and the clock says anything."""
    rig = Rig(tmp_path)
    _reconciled(rig)
    rig.write("a", b"version 1")
    rig.sync("a")
    before = rig.state.recorded(rig.ref("a"))
    assert before is not None
    rig.write("a", b"version 2")
    rig.sync("a")
    ahead_ns = recorded_seconds_ahead * 10**9
    rig.state.commit(rig.ref("a"), replace(before, recorded_ns=before.recorded_ns + ahead_ns))
    rig.senders.shutdown()
    rig.state.close(clean=False)
    for _ in range(clean_starts):
        rig.open()
        rig.reconcile().begin()
        rig.close()
    rig.open()
    rig.reconcile().begin()
    assert rig.engine.sources["docs"].reconciling
    rig.write("a", b"version 1")

    outcome = rig.sync("a")

    assert isinstance(outcome.action, Upload)
    assert rig.fake.objects["p/a"].data == b"version 1"
    rig.close()


def test_a_source_that_was_compared_since_is_trusted(tmp_path: Path) -> None:
    """In the life after the death and in later ones; only another death makes it doubtful again."""
    rig = Rig(tmp_path)
    _reconciled(rig)
    asked = []
    for clean in (True, False, True, True):
        rig.state.close(clean=clean)
        rig.open()
        again = rig.reconcile()
        again.begin()
        asked.append(again.is_on)
        again.seen_whole()
        again.drained()
        assert not again.is_on
    assert asked == [False, True, False, False]
    rig.close()
