"""One transaction for all who wait, and other programs that use the database beside it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import StateError
from syncd.core.model import FileRef, Part
from syncd.state import sqlite
from syncd.state.history import Acted
from syncd.state.state import State
from tests.support.clock import FakeClock
from tests.unit.state.test_state import RECORDED, REF, checkpoint, seen_outside

DEADLINE_SECONDS = 20.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def outside_writer(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(directory / "state.db", isolation_level=None, timeout=10, check_same_thread=False)


def test_threads_that_wait_share_a_transaction(tmp_path: Path, state: State) -> None:
    """Sixteen parts acknowledged while the disk is busy cost two transactions, and all are on the disk."""
    begun = state.checkpoints.begin(checkpoint())
    before = state.commits
    busy = outside_writer(tmp_path / "state")
    busy.execute("BEGIN IMMEDIATE")
    threads = [
        threading.Thread(target=state.checkpoints.add_part, args=(begun.id, Part(number, 5, f"e{number}")))
        for number in range(1, 17)
    ]
    for thread in threads:
        thread.start()
    writer = state._writer
    assert writer is not None
    wait_until(lambda: len(writer._queue) == 15)  # one tries to write, all others wait for it
    busy.execute("ROLLBACK")
    busy.close()
    for thread in threads:
        thread.join()

    assert state.commits == before + 2
    assert sorted(state.checkpoints.all()[0].parts) == list(range(1, 17))


def test_one_bad_operation_does_not_take_the_others_along(tmp_path: Path, state: State) -> None:
    """Of those who share a transaction only the one that cannot be done hears of it."""
    begun = state.checkpoints.begin(checkpoint())
    busy = outside_writer(tmp_path / "state")
    busy.execute("BEGIN IMMEDIATE")
    told: dict[int, Exception | None] = {}

    def add(checkpoint_id: int, number: int) -> None:
        try:
            state.checkpoints.add_part(checkpoint_id, Part(number, 5, "e"))
            told[number] = None
        except StateError as error:
            told[number] = error

    ids = [begun.id, begun.id, begun.id + 999, begun.id, begun.id]
    threads = [threading.Thread(target=add, args=(id_, n)) for n, id_ in enumerate(ids, start=1)]
    for thread in threads:
        thread.start()
    writer = state._writer
    assert writer is not None
    wait_until(lambda: len(writer._queue) == 4)
    state.commit(FileRef("s", "joined"), RECORDED, durable=False)
    busy.execute("ROLLBACK")
    busy.close()
    for thread in threads:
        thread.join()

    assert [number for number, error in told.items() if error is not None] == [3]
    assert sorted(state.checkpoints.all()[0].parts) == [1, 2, 4, 5]
    assert state.recorded_totals("s") == (1, 5)


def test_what_cannot_be_stored_is_told_and_forgotten(state: State) -> None:
    """A value that SQLite cannot hold is its caller's error, joined or not, and blocks no later write."""
    unstorable = replace(RECORDED, key="\udcff")
    with pytest.raises(StateError, match="cannot store this"):
        state.commit(REF, unstorable)
    state.commit(REF, unstorable, durable=False)
    with pytest.raises(StateError, match="cannot store this"):
        state.flush()

    assert state.recorded(REF) is None
    state.commit(REF, RECORDED)
    assert state.recorded(REF) == RECORDED


class _Sick:
    """A connection that fails at statements of one kind until it is `well`."""

    def __init__(self, connection: sqlite3.Connection, statement: str, error: Exception) -> None:
        self._connection = connection
        self._statement, self._error = statement, error
        self.well = False

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        self._look(sql)
        return self._connection.execute(sql, *values)

    def executemany(self, sql: str, *values: Any) -> sqlite3.Cursor:
        self._look(sql)
        return self._connection.executemany(sql, *values)

    def _look(self, sql: str) -> None:
        if sql.startswith(self._statement) and not self.well:
            raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("BEGIN", MemoryError()),
        ("BEGIN", sqlite3.OperationalError("locking protocol")),
        ("INSERT", MemoryError()),
    ],
)
def test_what_is_not_to_blame_stays(
    state: State, monkeypatch: pytest.MonkeyPatch, statement: str, error: Exception
) -> None:
    """Whatever keeps a transaction from its begin, or lacks memory: what waits for a later one still gets
    there, and so does what joins it.
    """
    assert state._writer is not None
    state.commit(REF, RECORDED, durable=False)
    state.history.note(Acted(1, REF, "uploaded", 5, ""))
    state.add_totals(bytes_sent=5)
    sick = _Sick(state._writer._connection, statement, error)
    monkeypatch.setattr(state._writer, "_connection", sick)
    for _ in range(2):
        with pytest.raises(StateError):
            state.flush()
    sick.well = True
    state.history.note(Acted(2, REF, "uploaded", 5, ""))
    state.add_totals(bytes_sent=5)
    state.flush()

    assert [acted.at_ns for acted in state.history.last(9)] == [2, 1]
    assert state._row("SELECT value FROM totals WHERE name = 'bytes_sent'") == (10,)
    assert state._row("SELECT count(*) FROM files") == (1,)


def _try_to_write(connection: sqlite3.Connection) -> str:
    try:
        connection.execute("INSERT INTO learned VALUES ('x', 'y', 'z')")
    except sqlite3.Error as error:
        return next((word for word in ("readonly", "closed") if word in str(error)), str(error))
    return "written"


def test_only_one_connection_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all connections that are open at once, whatever is done from however many threads, one can write."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def counting(*args: object, **more: object) -> sqlite3.Connection:
        opened.append(connect(*args, **more))  # type: ignore[call-overload]
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", counting)
    state = State.open(str(tmp_path), now_ns=time.time_ns)

    def work(name: str) -> None:
        for number in range(20):
            state.commit(FileRef(name, str(number)), RECORDED, durable=number % 2 == 0)
            state.recorded_page(name, None, 5)
            state.checkpoints.all()

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [_try_to_write(connection) for connection in opened]
    state.close()

    assert set(told) == {"closed", "readonly", "written"}
    assert told.count("written") == 1


def test_a_write_waits_for_another_program(tmp_path: Path, state: State) -> None:
    """While another program holds the write lock a commit waits, and goes through when it lets go."""
    busy = outside_writer(tmp_path / "state")
    busy.execute("BEGIN IMMEDIATE")
    busy.execute("INSERT INTO learned VALUES ('outside', 'n', 'v')")
    thread = threading.Thread(target=state.commit, args=(REF, RECORDED))
    thread.start()
    writer = state._writer
    assert writer is not None
    wait_until(writer._write_lock.locked)
    assert thread.is_alive()
    busy.execute("COMMIT")
    busy.close()
    thread.join()

    assert state.recorded(REF) == RECORDED
    assert state.learned("outside", "n") == "v"


def test_commits_of_another_program_in_between_do_no_harm(tmp_path: Path, state: State) -> None:
    """A stream of foreign commits between our reads and writes never makes one of ours fail."""
    state.checkpoints.begin(checkpoint())
    stop = threading.Event()

    def interfere() -> None:
        other = outside_writer(tmp_path / "state")
        number = 0
        while not stop.wait(0.001):  # who asks for the lock at once again would starve everybody
            number += 1
            other.execute("INSERT OR REPLACE INTO learned VALUES ('outside', 'n', ?)", (str(number),))
        other.close()

    thread = threading.Thread(target=interfere)
    thread.start()
    try:
        for number in range(100):
            ref = FileRef("s", str(number))
            assert state.recorded(ref) is None
            state.commit(ref, RECORDED)
            assert state.recorded(ref) == RECORDED
    finally:
        stop.set()
        thread.join()

    assert state.recorded_totals("s") == (100, 500)


def test_an_operation_that_reads_first_has_the_lock_already(tmp_path: Path, state: State) -> None:
    """No other process can commit between what an operation reads and what it then writes."""
    writer = state._writer
    assert writer is not None
    other = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None, timeout=0)
    refused: list[str] = []

    def read_then_write(connection: sqlite3.Connection) -> None:
        read = connection.execute("SELECT count(*) FROM learned").fetchone()[0]
        try:
            other.execute("INSERT INTO learned VALUES ('outside', 'n', 'v')")
        except sqlite3.OperationalError as error:
            refused.append(str(error))
        connection.execute("INSERT INTO learned VALUES ('ours', 'n', ?)", (str(read),))

    writer.run(read_then_write)
    other.close()

    assert refused == ["database is locked"]
    assert state.learned("ours", "n") == "0"


def test_a_lock_that_stays_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """When another program never lets go the error says so; what was joined is written once it does."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    state = State.open(str(tmp_path), now_ns=clock.now_ns, monotonic=clock.monotonic)
    state.commit(REF, RECORDED, durable=False)
    busy = outside_writer(tmp_path)
    busy.execute("BEGIN IMMEDIATE")

    with pytest.raises(StateError, match="locked by another program"):
        state.commit(FileRef("s", "durable"), RECORDED)
    assert state.recorded(REF) == RECORDED

    busy.execute("ROLLBACK")
    busy.close()
    state.close()
    assert seen_outside(tmp_path, "SELECT path FROM files") == [(b"a.txt",)]
