"""What audits found, and how far they have come."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.model import FileRef
from syncd.state.audits import Round, Unlike
from syncd.state.state import State
from tests.unit.state.test_state import RECORDED

A, B, C, OTHER = (FileRef("docs", name) for name in ("a", "b", "c", "other"))


@pytest.fixture
def known(state: State) -> State:
    """A state with four records, one of them of a deleted file."""
    for ref in (A, B, C, OTHER):
        state.commit(ref, replace(RECORDED, key=ref.path, etag="e"))
    row = state.recorded(C)
    assert row is not None
    state.keep(C, row)
    return state


def test_differences_stand_until_their_file_is_mended_or_forgotten(known: State) -> None:
    """Of the rows that were compared only; what has no name is counted. A record alone mends nothing."""
    row = known.recorded(A)
    assert row is not None
    found = [
        Unlike(B, "e", "gone"),
        Unlike(A, "e", "cut \udcff"),
        Unlike(C, "e", "gone"),
        Unlike(OTHER, "older", "gone"),
    ]
    known.audits.keep("docs", found, 5)
    assert known.audits.standing("docs", 2) == (8, [(A, "cut \\udcff"), (B, "gone")])
    assert (known.audits.what(C), known.audits.what(OTHER)) == ("gone", "")
    known.doubt(A, row)
    assert known.audits.standing("docs", 1) == (8, [(A, "cut \\udcff")])
    known.commit(A, row, mends=True, durable=False)
    known.forget(C)
    assert known.audits.standing("docs") == (6, [(B, "gone")])
    known.audits.keep("docs", [])
    assert known.audits.standing("docs") == (0, [])


@pytest.mark.parametrize(
    ("after", "upto", "left"),
    [(b"", None, ""), (b"a", None, "a"), (b"", b"b", "c"), (b"a", b"b", "ac"), (b"a", b"a\xff", "abc")],
)
def test_what_a_page_found_takes_the_place_of_what_was_found_there(
    known: State, after: bytes, upto: bytes | None, left: str
) -> None:
    """Behind its first path, up to its last; the rest stands."""
    known.audits.keep("docs", [Unlike(ref, "e", "gone") for ref in (A, B, C)])
    known.audits.keep("docs", [], after=after, upto=upto)
    assert "".join(ref.path for ref, _ in known.audits.standing("docs")[1]) == left


def test_an_object_is_rotten_until_its_file_is_sent_again(known: State, tmp_path: Path) -> None:
    """Also after a restart; what is damaged is named."""
    known.audits.keep(
        "docs", [Unlike(A, "e", "rotten", True, "r"), Unlike(B, "e", "gone", True), Unlike(C, "e", "no")]
    )
    assert (known.audits.damaged("docs"), known.audits.damaged("other")) == ([A, B], [])
    reader = State.open_read_only(str(tmp_path / "state"))
    assert [each.audits.is_rotten(etag) for each in (known, reader) for etag in ("r", "e", "")] == [
        True,
        False,
        False,
    ] * 2
    reader.close()
    row = known.recorded(A)
    assert row is not None
    known.doubt(A, row)
    assert known.audits.is_rotten("r")
    known.commit(A, row, mends=True, durable=False)
    assert not known.audits.is_rotten("r")


def test_a_round_goes_on_where_it_was(state: State) -> None:
    """For each source by itself."""
    assert state.audits.round("docs") == Round()
    for now in (Round("61", 3, 17), Round(next_ns=2**62, ended_ns=5, looked_at=3, repaired=1)):
        state.audits.note("docs", now)
        assert (state.audits.round("docs"), state.audits.round("other")) == (now, Round())
