"""The last actions are kept, and no more of them than that."""

from __future__ import annotations

import os

import pytest

from syncd.core.model import FileRef
from syncd.state import history
from syncd.state.history import Acted
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
    monkeypatch.setattr(history, "_TRIM_EVERY", 8)
    for number in range(200):
        state.history.note(acted(number, "a"))
    state.flush()
    kept = state.history.last(1000)
    assert 20 <= len(kept) <= 28
    assert kept[0].size == 199


def test_a_detail_that_is_no_text_is_kept_readable(state: State) -> None:
    """An error may quote a name."""
    state.history.note(acted(1, "a")._replace(detail="no \udcff"))
    state.flush()
    assert state.history.last(1)[0].detail == "no \\udcff"
