"""What is not on the disk yet is found: records until they settle, counters exactly once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.model import FileRef, FileStat, Fingerprint, Recorded
from syncd.state import schema
from syncd.state.unwritten import Totals, Unwritten

REF = FileRef("photos", "a.txt")
RECORDED = Recorded(FileStat(1, 2, 3, 4, 5), Fingerprint(bytes(16), 3), "store", "key", "etag", 6)


class Queue:
    """Operations that wait, and a database that takes them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[sqlite3.Connection], Any], Callable[[], None]]] = []
        self.database = sqlite3.connect(":memory:")
        for statement in schema.STEPS[0]:
            self.database.execute(statement)

    def join(self, operation: Callable[[sqlite3.Connection], Any], settled: Callable[[], None]) -> None:
        self.waiting.append((operation, settled))

    def write(self) -> None:
        """Carry out all that waits."""
        waiting, self.waiting = self.waiting, []
        for operation, settled in waiting:
            operation(self.database)
            settled()

    def stored(self) -> dict[str, int]:
        return dict(self.database.execute("SELECT name, value FROM totals WHERE value > 0"))


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_one_operation_writes_all_that_was_counted(queue: Queue) -> None:
    """However often it was joined."""
    totals = Totals()
    for _ in range(3):
        totals.add({"bytes_sent": 5, "requests": 1})
        totals.join(queue.join)

    assert len(queue.waiting) == 1
    queue.write()
    assert queue.stored() == {"bytes_sent": 15, "requests": 3}


def test_what_is_counted_after_the_write_is_written_next(queue: Queue) -> None:
    """Nothing is lost between two writes, and nothing is written twice."""
    totals = Totals()
    totals.add({"bytes_sent": 1})
    totals.join(queue.join)
    operation, settled = queue.waiting.pop()
    operation(queue.database)
    totals.add({"bytes_sent": 2})  # after it was written, before it is known to be on the disk
    settled()

    totals.join(queue.join)
    queue.write()
    assert queue.stored() == {"bytes_sent": 3}


def test_nothing_is_joined_where_nothing_was_counted(queue: Queue) -> None:
    """An idle daemon writes nothing."""
    totals = Totals()
    totals.join(queue.join)
    assert queue.waiting == []


def test_an_operation_that_was_taken_back_writes_everything_later(queue: Queue) -> None:
    """A transaction may fail and be tried again: what it writes is what was counted until then."""
    totals = Totals()
    totals.add({"bytes_saved": 4})
    totals.join(queue.join)
    operation, _ = queue.waiting[0]
    operation(queue.database)
    queue.database.rollback()
    totals.add({"bytes_saved": 1})

    queue.write()
    assert queue.stored() == {"bytes_saved": 5}


def test_a_record_is_hidden_only_by_its_own_successor() -> None:
    """When an older write settles, a younger one of the same file is still the one that is told."""
    unwritten = Unwritten()
    younger = replace(RECORDED, etag="younger")
    unwritten.add(REF, RECORDED, lambda: None)
    unwritten.add(REF, younger, lambda: None)

    unwritten.settled(REF, RECORDED)
    assert unwritten.files == {REF: younger}

    unwritten.settled(REF, younger)
    assert unwritten.files == {}


def test_nobody_sees_a_record_before_it_is_queued() -> None:
    """What is written because of it comes after it."""
    unwritten = Unwritten()
    seen: list[tuple[bool, bool]] = []
    unwritten.add(REF, RECORDED, lambda: seen.append((unwritten.lock.locked(), REF in unwritten.files)))
    assert seen == [(True, False)]
    assert unwritten.files == {REF: RECORDED}
