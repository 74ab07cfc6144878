"""Numbers that SQLite cannot hold come back as they went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import LATEST_NS, OLDEST_NS
from syncd.state import queries

unsigned = st.integers(0, 2**64 - 1)
times = st.integers(OLDEST_NS, LATEST_NS)


@given(number=unsigned)
def test_unsigned_numbers_fold_into_what_sqlite_holds(number: int) -> None:
    """Folding is reversible, stays within 64 bits and leaves small numbers alone."""
    folded = queries.fold(number)

    assert -(2**63) <= folded < 2**63
    assert queries.unfold(folded) == number
    assert number >= 2**63 or folded == number


@given(time_ns=times)
def test_times_of_six_centuries_fold(time_ns: int) -> None:
    """Every time that a stat of ours can have comes back."""
    assert queries.unfold_time(queries.fold(time_ns)) == time_ns
