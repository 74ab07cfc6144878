"""What is broken stays where it is: a store that hangs or is down, a file that is poisoned.

Two sources on two stores, with everything in between as in the daemon; in each scenario the one is as bad as
can be, and the other has to arrive.
"""

from __future__ import annotations

import threading

import pytest

from syncd.core.errors import AccessRefused, StoreRefused, StoreUnavailable
from syncd.pipeline import queue as workqueue
from tests.support.waiting import wait_until
from tests.unit.pipeline.test_pipeline import Works, running

MANY = 30


def _both(works: Works) -> None:
    """Two sources with many files each; `a` goes to store one, `b` to store two."""
    works.source("a")
    works.source("b")
    for number in range(MANY):
        works.write("a", f"f{number}", b"of a %d" % number)
        works.write("b", f"f{number}", b"of b %d" % number)
    running(works, works.source("a"), works.source("b", store="two"))


def _b_arrives(works: Works) -> None:
    everything = {f"b/f{number}" for number in range(MANY)}
    wait_until("all of b is there", lambda: works.stored("/two") == everything)


def test_a_store_that_hangs_holds_up_no_other(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers are all stuck, its queue is full, its scan waits; the other's are theirs alone."""
    monkeypatch.setattr(workqueue, "MAX_WAITING", 5)
    release = threading.Event()
    works.stores["/one"].before("put_object", lambda call: release.wait(60))
    try:
        _both(works)
        wait_until("one hangs with all that it may hold", lambda: works.stores["/one"].in_flight == 2)
        _b_arrives(works)
        assert works.stored() == set()
        works.write("b", "later", b"later")
        works.pipeline.rescan("b", "", "a test")
        wait_until("what comes later is there", lambda: "b/later" in works.stored("/two"))
    finally:
        release.set()
    wait_until("one has caught up", lambda: len(works.stored()) == MANY)


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("no connection"),
        StoreUnavailable("busy", status=503, retry_after_seconds=3600.0),
        AccessRefused("who are you", status=403),
    ],
    ids=["unreachable", "busy", "refused"],
)
def test_a_store_that_cannot_be_used_pauses_no_other(works: Works, error: Exception) -> None:
    """The one is left alone; the other does not notice."""
    works.stores["/one"].fail("*", lambda call: error, times=None)
    _both(works)
    _b_arrives(works)
    wait_until("one is left alone", lambda: works.pipeline.store_runners["one"].workers.health.paused_for)
    assert not works.pipeline.store_runners["two"].workers.health.paused_for
    assert works.stores["/one"].calls.total() <= MANY


@pytest.mark.parametrize(
    "error",
    [StoreRefused("no", status=400), StoreUnavailable("broken", status=500), ZeroDivisionError("a bug")],
    ids=["refused", "breaks the server", "bug"],
)
def test_a_poisoned_file_holds_up_no_other(works: Works, error: BaseException) -> None:
    """Whatever it does to the server or to us, the others of its own source arrive, and it is told."""
    works.stores["/one"].fail(
        "put_object", lambda call: error, times=None, when=lambda call: call.key == "a/f7"
    )
    _both(works)
    wait_until("all others of a are there", lambda: len(works.stored()) == MANY - 1)
    _b_arrives(works)
    wait_until("it is told", lambda: [failure.ref.path for failure in works.state.failures.page()] == ["f7"])
