"""What is not on the disk is found until it settles, counters once; what is there is never called new."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core.model import FileRef, FileStat, Fingerprint, Recorded
from syncd.state import schema
from syncd.state.unwritten import Novelty, Totals, Unwritten

REF = FileRef("photos", "a.txt")
RECORDED = Recorded(FileStat(1, 2, 3, 4, 5), Fingerprint(bytes(16), 3), "store", "key", "etag", 6)


class Queue:
    """Operations that wait, and a database that takes them."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[sqlite3.Connection], Any]] = []
        self.database = sqlite3.connect(":memory:")
        for statement in schema.STEPS[0]:
            self.database.execute(statement)

    def write(self) -> None:
        """Carry out all that waits."""
        while self.waiting:
            self.waiting.pop(0)(self.database)

    def stored(self) -> dict[str, int]:
        return dict(self.database.execute("SELECT name, value FROM totals WHERE value > 0"))


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def totals(queue: Queue) -> Totals:
    return Totals(queue.waiting.append)


def test_one_operation_writes_all_that_was_counted(queue: Queue, totals: Totals) -> None:
    """However often it was counted."""
    for _ in range(3):
        totals.add({"bytes_sent": 5, "requests": 1})

    assert len(queue.waiting) == 1
    queue.write()
    assert queue.stored() == totals.all() == {"bytes_sent": 15, "requests": 3}


def test_what_is_counted_after_the_write_is_written_next(queue: Queue, totals: Totals) -> None:
    """Nothing is lost between two writes, and nothing is written twice."""
    totals.add({"bytes_sent": 1})
    queue.waiting.pop()(queue.database)
    totals.add({"bytes_sent": 2})  # after it was written, before it is known to be on the disk
    queue.write()
    assert queue.stored() == totals.all() == {"bytes_sent": 3}


def test_an_operation_that_was_taken_back_is_repeated(queue: Queue, totals: Totals) -> None:
    """A transaction may fail and be tried again, with what was counted since or without it."""
    totals.add({"bytes_saved": 4})
    queue.waiting[0](queue.database)
    queue.database.rollback()
    totals.add({"bytes_saved": 1})
    queue.write()
    assert queue.stored() == totals.all() == {"bytes_saved": 5}


def test_a_record_is_hidden_only_by_its_own_successor() -> None:
    """When an older write settles, a younger one of the same file is still the one that is told."""
    unwritten = Unwritten()
    younger = replace(RECORDED, etag="younger")
    unwritten.add(REF, RECORDED)
    unwritten.add(REF, younger)

    unwritten.settled(REF, RECORDED)
    assert unwritten.files == {REF: younger}

    unwritten.settled(REF, younger)
    assert unwritten.files == {}


NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)
"""As digests and as the interpreter's own hashes, which may be negative."""


@given(st.lists(NUMBERS, max_size=200))
def test_what_was_added_is_never_denied(numbers: list[int]) -> None:
    held = Novelty(empty=True, bits=1 << 10)
    held.add(*numbers)
    assert not any(held.is_new(number) for number in numbers)


@given(NUMBERS)
def test_an_empty_one_holds_nothing(number: int) -> None:
    assert Novelty(empty=True, bits=1 << 10).is_new(number)


@given(NUMBERS)
def test_of_a_database_with_rows_nothing_is_said(number: int) -> None:
    assert not Novelty(empty=False).is_new(number)


def test_it_errs_as_rarely_as_it_says() -> None:
    """With an eighth as many numbers as bits, (1 - 1/e^(1/4))^2 of all others are claimed: 0.049."""
    chance = random.Random(1)
    held = Novelty(empty=True, bits=1 << 12)
    held.add(*(chance.getrandbits(64) for _ in range(1 << 9)))
    claimed = sum(not held.is_new(chance.getrandbits(64)) for _ in range(20_000))
    assert 0.035 < claimed / 20_000 < 0.065


def test_many_threads_lose_no_bit() -> None:
    """They write to the same few bytes."""
    chance = random.Random(2)
    held = Novelty(empty=True, bits=1 << 16)
    shares = [[chance.getrandbits(64) for _ in range(3000)] for _ in range(8)]

    def fill(numbers: list[int]) -> None:
        for number in numbers:
            held.add(number)

    threads = [threading.Thread(target=fill, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(held.is_new(number) for share in shares for number in share)
