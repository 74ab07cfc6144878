"""A removal that no answer confirmed, and a file that comes back: the object is there in the end.

Scenarios: the answer to a delete is lost, the process dies behind a delete, and a delete waits in the store's
queue until the file is back. In each the file has the very content, or even the very stat, that is recorded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core import plan
from syncd.core.errors import StoreUnavailable
from syncd.core.model import OnDelete
from syncd.core.plan import Delete, Upload
from tests.support.rig import Rig
from tests.support.waiting import wait_until
from tests.unit.pipeline.test_workers import Crew

BIG = bytes(range(30))
LATE_NS = plan.LATE_EFFECT_NS


class Times:
    """A wall clock that the test moves ahead."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def now_ns(self) -> int:
        return time.time_ns() + self.ahead_ns


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def rig(tmp_path: Path, times: Times) -> Iterator[Rig]:
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.now_ns = times.now_ns
    yield rig
    rig.close()


def _remove_unheard(rig: Rig, name: str, *, carried_out: bool) -> Path:
    """The file goes, its object is to go, and no answer comes. Returns where the file has been moved."""
    away = rig.folder.with_name("away")
    (rig.folder / name).rename(away)
    if carried_out:
        rig.fake.lose_answer("delete_object")
    else:
        rig.fake.fail("delete_object", StoreUnavailable("the answer was lost", outcome_unknown=True))
    with pytest.raises(StoreUnavailable):
        rig.sync(name, delete_allowed=True)
    return away


@pytest.mark.parametrize("content", [b"small", BIG], ids=["small", "big"])
def test_a_file_that_comes_back_after_a_lost_delete_is_sent_again(rig: Rig, content: bytes) -> None:
    """The same content as recorded proves nothing: the object may be gone, and it is."""
    ref = rig.write("a", content)
    rig.sync("a")
    away = _remove_unheard(rig, "a", carried_out=True)
    assert "p/a" not in rig.fake.objects

    away.rename(rig.folder / "a")
    assert isinstance(rig.sync("a").action, Upload)

    assert rig.fake.objects["p/a"].data == content
    assert rig.state.recorded(ref) is not None


def test_even_the_very_stat_of_before_proves_nothing(rig: Rig) -> None:
    """As when a file system below the root was away for a while: no event, no other stat, a scan's mark."""
    rig.write("a", b"small")
    rig.sync("a")
    recorded = rig.state.recorded(rig.ref("a"))
    assert recorded is not None
    away = _remove_unheard(rig, "a", carried_out=True)
    away.rename(rig.folder / "a")
    doubtful = rig.state.recorded(rig.ref("a"))
    assert doubtful is not None
    assert doubtful.racy  # what makes a scan mark it
    seen = os.stat(rig.folder / "a")
    rig.state.commit(rig.ref("a"), replace(doubtful, stat=doubtful.stat._replace(ctime_ns=seen.st_ctime_ns)))

    rig.sync("a", event=False)

    assert rig.fake.objects["p/a"].data == b"small"


def test_the_store_is_asked_before_anything_is_sent_again(rig: Rig) -> None:
    """An object that is still there, with this content, costs one HEAD and no byte."""
    rig.write("a", BIG)
    rig.sync("a")
    away = _remove_unheard(rig, "a", carried_out=False)
    away.rename(rig.folder / "a")
    before = rig.fake.bytes_received

    outcome = rig.sync("a")

    assert rig.fake.bytes_received == before
    assert outcome.bytes_sent == 0


def test_a_delete_that_comes_late_is_made_up_for(rig: Rig, times: Times) -> None:
    """It waited in a queue of the store's and removed what had come back: looked at again, sent again."""
    rig.write("a", b"small")
    rig.sync("a")
    away = _remove_unheard(rig, "a", carried_out=False)
    away.rename(rig.folder / "a")
    again = rig.sync("a").doubt_seconds
    assert again is not None
    assert again * 1e9 > LATE_NS / 2

    rig.fake.delete_object("p/a")  # now
    times.ahead_ns += round(again * 1e9)
    assert rig.sync("a", event=False).doubt_seconds is None

    assert rig.fake.objects["p/a"].data == b"small"
    settled = rig.state.recorded(rig.ref("a"))
    assert settled is not None
    assert not settled.in_doubt


def test_doubt_survives_the_process(rig: Rig) -> None:
    """Who dies between the delete and its record finds the file back at the next start, and no object."""
    rig.write("a", b"small")
    rig.sync("a")
    away = _remove_unheard(rig, "a", carried_out=True)
    rig.restart()
    away.rename(rig.folder / "a")

    rig.sync("a", event=False)

    assert rig.fake.objects["p/a"].data == b"small"


def test_an_unheard_delete_is_asked_for_again(rig: Rig) -> None:
    """The file stays away: in the end its object is gone, and so is the record."""
    ref = rig.write("a", b"small")
    rig.sync("a")
    _remove_unheard(rig, "a", carried_out=False)

    assert isinstance(rig.sync("a", delete_allowed=True).action, Delete)

    assert "p/a" not in rig.fake.objects
    assert rig.state.recorded(ref) is None


def test_an_object_that_may_be_gone_lends_nothing(rig: Rig) -> None:
    """Neither as a twin nor as a donor of parts."""
    rig.write("a", b"small")
    rig.sync("a")
    _remove_unheard(rig, "a", carried_out=True)
    rig.write("b", b"small")

    assert isinstance(rig.sync("b").action, Upload)

    assert rig.fake.calls["copy_object"] == 0
    assert rig.fake.objects["p/b"].data == b"small"


def test_a_doubt_holds_up_nobody_and_is_looked_into_when_it_can_be(rig: Rig, times: Times) -> None:
    """A file that is in the store counts as done, though for minutes a lost request may undo it."""
    times.ahead_ns = 10**10  # the files are old
    rig.write("a", b"small")
    rig.sync("a")
    away = _remove_unheard(rig, "a", carried_out=False)
    away.rename(rig.folder / "a")
    crew = Crew(rig)
    try:
        crew.mark("a")
        crew.wait_idle()
        assert crew.queue.counts() == ({}, ())
        assert rig.fake.objects["p/a"].data == b"small"

        rig.fake.delete_object("p/a")  # now
        times.ahead_ns += LATE_NS + 10**9
        crew.later(LATE_NS / 1e9 + 2.0)
        wait_until("it is sent again", lambda: "p/a" in rig.fake.objects)
    finally:
        crew.stop()


def test_a_single_pass_does_not_wait_for_a_doubt(rig: Rig, times: Times) -> None:
    """The row says that there is one: the next pass asks."""
    times.ahead_ns = 10**10
    rig.write("a", b"small")
    rig.sync("a")
    away = _remove_unheard(rig, "a", carried_out=False)
    away.rename(rig.folder / "a")
    crew = Crew(rig, once=True)
    try:
        crew.mark("a")
        crew.wait_idle()
        assert len(crew.ear.outcomes()) == 1
        assert crew.queue.due() == inf
    finally:
        crew.stop()
