"""Which ``Date`` headers say that a server's clock is another."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from syncd.storage.http.skew import ClockSkew

NOW = 1_800_000_000.0


def learned(*offsets: float, tolerance_moves: float = 0.0) -> float:
    skew = ClockSkew()
    for offset in offsets:
        skew.learn(formatdate(NOW + offset, usegmt=True), NOW, NOW + tolerance_moves, at_once=False)
    return skew.seconds


@pytest.mark.parametrize(
    ("offsets", "seconds"),
    [
        ((), 0.0),
        ((30.0, 30.0, 30.0), 0.0),
        ((-59.0, -59.0, -59.0), 0.0),
        ((3600.0,), 0.0),
        ((3600.0, 3600.0, 3600.0), 3600.0),
        ((0.0, 0.0, 3600.0), 0.0),
        ((3600.0, 3600.0, 3600.0, 0.0), 3600.0),
        ((3600.0, 3600.0, 3600.0, 0.0, 0.0), 0.0),
    ],
)
def test_the_middle_of_the_last_dates_counts(offsets: tuple[float, ...], seconds: float) -> None:
    """One odd header spoils nothing; a corrected clock is noticed."""
    assert learned(*offsets) == seconds


def test_a_slow_answer_is_no_skew() -> None:
    """The Date may be from any moment between sending and receiving."""
    for moment in (0.0, 450.0, 900.0):
        assert learned(moment, moment, moment, tolerance_moves=900.0) == 0.0


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_date_that_is_none_is_no_skew(date: str) -> None:
    """Servers may leave it out."""
    skew = ClockSkew()
    assert not skew.learn(date, NOW, NOW, at_once=True)
    assert skew.seconds == 0.0
