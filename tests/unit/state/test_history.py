"""The last actions are kept, and no more of them than that."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

import pytest

from syncd.core.errors import StateError
from syncd.core.model import Failure, FileRef
from syncd.state import history
from syncd.state.history import Acted, History
from syncd.state.state import State


def acted(number: int, path: str, source: str = "docs") -> Acted:
    return Acted(number, FileRef(source, path), "uploaded", number, "new")


def test_the_newest_come_first_of_what_is_asked(state: State) -> None:
    """Of all, of a source, of a file, of a folder; names may be any bytes."""
    odd = os.fsdecode(b"d/\xff")
    made = [acted(1, "d/a"), acted(2, "d"), acted(3, "dd"), acted(4, odd), acted(5, "x", source="more")]
    for each in made:
        state.history.note(each)
    state.flush()
    assert state.history.last(10) == made[::-1]
    assert state.history.last(2) == [made[4], made[3]]
    assert state.history.last(10, ["docs"]) == made[3::-1]
    assert state.history.last(10, ["docs"], "d") == [made[3], made[1], made[0]]
    assert state.history.last(10, ["docs"], odd) == [made[3]]


def test_what_is_old_goes(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring stays small, however much is done."""
    monkeypatch.setattr(history, "MOST_ACTIONS", 20)
    for number in range(200):
        state.history.note(acted(number, "a"))
        if number % 30 == 0:
            state.flush()
    state.flush()
    assert [each.size for each in state.history.last(1000)] == [*range(199, 179, -1)]


def test_what_is_noted_together_is_one_write_and_what_comes_later_goes_with_the_next(state: State) -> None:
    """Nothing is lost between two writes, and nothing is written twice, though one is taken back."""
    waiting: list[Callable[[sqlite3.Connection], object]] = []
    ring = History(waiting.append, state._reader.run)
    ring.note(acted(1, "a"))
    ring.note(acted(2, "a"))
    assert len(waiting) == 1

    def fails(connection: sqlite3.Connection) -> None:
        waiting[0](connection)
        ring.note(acted(3, "a"))
        raise StateError("the disk is full")

    with pytest.raises(StateError, match="full"):
        state._write(fails)
    ring.note(acted(4, "a"))
    assert len(waiting) == 2
    for operation in waiting:
        state._write(operation)
    assert [each.size for each in ring.last(10)] == [4, 3, 2, 1]


def test_a_detail_that_is_no_text_is_kept_readable(state: State) -> None:
    """An error may quote a name."""
    state.history.note(acted(1, "a")._replace(detail="no \udcff"))
    state.flush()
    assert state.history.last(1)[0].detail == "no \\udcff"


def test_failures_are_told_in_order_and_cleared(state: State) -> None:
    """Each file has its last failure until it is cleared, forgotten or committed."""
    for source, name, attempts in (("b", "y", 1), ("a", "z", 1), ("a", "x\udcff", 1), ("a", "z", 2)):
        state.failures.record(Failure(FileRef(source, name), f"bad {name}", attempts, 2**62, 7, b"s"))

    told = state.failures.page()
    assert state.failures.find(told[0].ref) == told[0]
    assert {(each.refusals, each.refused) for each in told} == {(7, b"s")}
    assert [(f.ref.source, f.ref.path, f.attempts) for f in told] == [
        ("a", "x\udcff", 1),
        ("a", "z", 2),
        ("b", "y", 1),
    ]
    assert told[0].error == "bad x\\udcff"
    assert state.failures.page("a", limit=1) == told[:1]
    assert state.failures.count() == {"a": 2, "b": 1}

    state.failures.drop(FileRef("a", "z"))
    state.forget(FileRef("b", "y"))
    assert state.failures.count() == {"a": 1}
