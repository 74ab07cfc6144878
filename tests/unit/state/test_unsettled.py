"""Objects that a lost request may yet change are known by the monotonic clock, and in the next process."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import StateError
from syncd.core.plan import LATE_EFFECT_NS
from syncd.state.state import State
from tests.scenarios.test_interrupted import fail
from tests.support.clock import FakeClock

WINDOW = LATE_EFFECT_NS / 1e9


def _open(directory: Path, clock: FakeClock) -> State:
    return State.open(str(directory), now_ns=clock.now_ns, monotonic=clock.monotonic)


def test_the_time_is_over_after_a_quarter_of_an_hour_of_the_monotonic_clock(tmp_path: Path) -> None:
    """Whatever the wall clock does; a further lost request begins the time again; other keys are free."""
    clock = FakeClock()
    with closing(_open(tmp_path, clock)) as state:
        state.unsettled.add("store", "key", creates=False)
        assert state.unsettled.left_ns("store", "key") == LATE_EFFECT_NS
        assert state.unsettled.left_ns("store", "other") == state.unsettled.left_ns("else", "key") == 0
        clock.advance(WINDOW - 1)
        assert state.unsettled.left_ns("store", "key") == 10**9
        assert not state.unsettled.may_appear("store", "key")
        state.unsettled.add("store", "key", creates=True)
        state.unsettled.add("store", "key", creates=False)
        clock.advance(WINDOW - 1)
        assert state.unsettled.may_appear("store", "key")
        clock.advance(1)
        assert state.unsettled.left_ns("store", "key") == 0
        assert not state.unsettled.may_appear("store", "key")


@pytest.mark.parametrize(
    ("wall_moves", "left"),
    [(0, WINDOW), (60, WINDOW - 60), (WINDOW, 0), (10 * WINDOW, 0), (-3600, WINDOW)],
)
def test_the_next_process_goes_by_the_wall_clock(tmp_path: Path, wall_moves: float, left: float) -> None:
    """Where that was put back, the whole time counts; a death loses nothing."""
    state = _open(tmp_path, FakeClock())
    state.unsettled.add("store", "key", creates=True)
    state.close(clean=False)

    with closing(_open(tmp_path, FakeClock(1_700_000_000.0 + wall_moves, 5.0))) as state:
        assert state.unsettled.left_ns("store", "key") == round(left * 1e9)
        assert state.unsettled.may_appear("store", "key") == (left > 0)


def test_what_is_over_leaves_the_database(tmp_path: Path) -> None:
    """At the next start, or when another one is added."""
    clock = FakeClock()
    with closing(_open(tmp_path, clock)) as state:
        state.unsettled.add("store", "first", creates=True)
        clock.advance(WINDOW)
        state.unsettled.add("store", "second", creates=True)
        state.flush()
        assert state._all("SELECT key FROM unsettled") == [("second",)]
    clock.advance(WINDOW)
    with closing(_open(tmp_path, clock)) as state:
        state.flush()
        assert state._all("SELECT key FROM unsettled") == []


def test_a_full_disk_takes_nothing_from_this_process(tmp_path: Path) -> None:
    """It remembers, and does not end cleanly."""
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    fail(state, True)
    with pytest.raises(StateError):
        state.unsettled.add("store", "key", creates=True)
    assert state.unsettled.left_ns("store", "key") > 0
    fail(state, False)
    state.close()
    with closing(State.open(str(tmp_path), now_ns=time.time_ns)) as state:
        assert state.interrupted
