"""Objects that a lost request may yet change are known by the monotonic clock, and in the next process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import StateError
from syncd.core.plan import LATE_EFFECT_NS
from syncd.state.state import State
from syncd.state.unsettled import UNDER_WAY, UnderWay
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


@pytest.mark.parametrize("wall_moves", [0, 86400, -86400])
@pytest.mark.parametrize(
    ("boots", "passed", "left"),
    [
        (False, 0, WINDOW),
        (False, 60, WINDOW - 60),
        (False, WINDOW, 0),
        (True, 60, WINDOW),
        (True, WINDOW, WINDOW),
    ],
)
def test_the_next_process_goes_by_the_same_clock(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wall_moves: float,
    boots: bool,
    passed: float,
    left: float,
) -> None:
    """Whatever the wall clock does in between; after another boot the time begins again, once."""
    state = _open(tmp_path, FakeClock(monotonic=50.0))
    state.unsettled.add("store", "key", creates=True)
    state.close(clean=False)
    if boots:
        monkeypatch.setattr("syncd.state.state.boot_id", lambda: "another")

    clock = FakeClock(1_700_000_000.0 + wall_moves, 50.0 + passed)
    with closing(_open(tmp_path, clock)) as state:
        assert state.unsettled.left_ns("store", "key") == round(left * 1e9)
        assert state.unsettled.may_appear("store", "key") == (left > 0)
    clock.advance(60)
    with closing(_open(tmp_path, clock)) as state:
        assert state.unsettled.left_ns("store", "key") == round(max(0.0, left - 60) * 1e9)


def test_where_the_kernel_names_no_boot_the_time_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the monotonic clock says may be of another boot."""
    monkeypatch.setattr("syncd.state.state.boot_id", lambda: "")
    clock = FakeClock(monotonic=50.0)
    with closing(_open(tmp_path, clock)) as state:
        state.unsettled.add("store", "key", creates=True)
    clock.advance(WINDOW)
    with closing(_open(tmp_path, clock)) as state:
        assert state.unsettled.left_ns("store", "key") == round(WINDOW * 1e9)


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


SENDER = """
import os, sys, time
from contextlib import ExitStack
from syncd.state.state import State
from syncd.state.unsettled import UNDER_WAY, UnderWay
state = State.open(sys.argv[1], now_ns=time.time_ns)
for answered in range(3):
    with state.under_way.note("store", f"answered {answered}", creates=True):
        pass
with ExitStack() as stack:
    for key in ("put", "\u00e9\U0001f600" * 200, "long" * 3000):
        stack.enter_context(state.under_way.note("store", key, creates=True))
    stack.enter_context(state.under_way.note("store", "delete", creates=False))
    os.kill(os.getpid(), 9)
"""


def test_what_was_under_way_at_a_kill_is_unknown_to_the_next_process(tmp_path: Path) -> None:
    """Also to the one after that; what was answered is known, and so is what no kill interrupted."""
    killed = subprocess.run([sys.executable, "-c", SENDER, str(tmp_path)], check=False)
    assert killed.returncode == -9
    for _ in range(2):
        with closing(State.open(str(tmp_path), now_ns=time.time_ns)) as state:
            unsettled = state.unsettled
            for key in ("put", "é😀" * 200):
                assert unsettled.may_appear("store", key)
            assert unsettled.left_ns("store", "delete") > 0
            assert not unsettled.may_appear("store", "delete")
            for key in ("answered 0", "answered 2", "long" * 3000):
                assert unsettled.left_ns("store", key) == 0
            assert state.under_way is not None
            assert state.under_way.left() == []


@pytest.mark.parametrize("junk", [b"", b"\0" * 9000, b"{}\0", b"[1, 2]\0", b"\xff" * 9000, b'["s", "k"'])
def test_a_note_that_makes_no_sense_is_none(tmp_path: Path, junk: bytes) -> None:
    """A machine may have died while it was written."""
    (tmp_path / UNDER_WAY).write_bytes(junk)
    under_way = UnderWay(str(tmp_path / UNDER_WAY))
    assert under_way.left() == []
    under_way.close()


def test_a_note_follows_no_link_and_a_late_answer_writes_into_no_other_file(tmp_path: Path) -> None:
    """A thread may still wait for an answer when the state is closed."""
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(StateError):
        UnderWay(str(tmp_path / "link"))
    under_way = UnderWay(str(tmp_path / UNDER_WAY))
    with under_way.note("store", "key", creates=True):
        under_way.close()
        other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert os.pread(other, 9, 0) == b""
    os.close(other)
    again = UnderWay(str(tmp_path / UNDER_WAY))
    assert again.left() == []
    again.close()
    again.close()
    with again.note("store", "key", creates=True):
        """After the end nothing is noted, and nothing fails."""


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
