"""A fault is charged to the smallest thing that has it: one file, puts, or the store.

Scenarios: one file that meets each unclear answer; a store that fails as a whole; one that fails at every
put; one file that fails again and again; a quota; a refused file that is touched, and one that changes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.core.errors import (
    AccessRefused,
    ConnectionLost,
    QuotaExceeded,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import OnDelete
from syncd.storage.dir.files import translate
from tests.support.store import Call, FakeStore
from tests.support.waiting import wait_until
from tests.unit.pipeline.house import House

UNCLEAR: list[StoreError] = [
    AccessRefused("the signature does not match", status=403, code="SignatureDoesNotMatch"),
    StoreFailed("broken", status=500, outcome_unknown=True),
    StoreUnavailable("a gateway gave up", status=504, outcome_unknown=True),
    StoreUnavailable("a page of another", status=200, outcome_unknown=True),
    StoreUnavailable("slow down", status=503, retry_after_seconds=900.0),
]
PASSING: list[StoreError] = [
    UNCLEAR[-1],
    StoreUnavailable("busy", status=503),
    StoreUnavailable("another request is under way", status=409),
    ConnectionLost("reset", outcome_unknown=True),
    StoreUnavailable("no connection"),
]
"""What says nothing about one thing, and yet may meet it alone: a part of the bucket is busy, or something on
the way does not like a name or a content."""
OTHERS = [f"good{number}" for number in range(12)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, on_delete=OnDelete.DELETE)
    house.start()
    # While a file is asked for first, its put has a condition, and a refused one is repeated without.
    wait_until("files are sent unasked", lambda: not house.rig.engine.sources["docs"].reconciling)
    yield house
    house.close()


def soon(what: str, holds: Callable[[], object]) -> None:
    wait_until(what, holds, 12.0)


def of_bad(call: Call) -> bool:
    return call.key == "p/bad"


def puts(store: FakeStore, name: str) -> int:
    return sum(call.verb == "put_object" and call.key == f"p/{name}" for call in store.log)


def mark(house: House, *names: str) -> None:
    for name in names:
        house.workers.queue.mark(house.rig.ref(name), quiet_seconds=0.0, event=True)


def carry(house: House, *names: str) -> None:
    """Write files of one request each, as programs do while the service runs."""
    for name in names:
        house.rig.write(name, hashlib.md5(name.encode()).hexdigest()[:8].encode())
    mark(house, *names)


def is_over(house: House) -> bool:
    return not house.workers.queue.counts()[1]


@pytest.mark.parametrize("error", UNCLEAR, ids=str)
def test_one_file_that_fails_holds_up_no_other(house: House, error: StoreError) -> None:
    """Its name, its content or its key is at fault: the store answers another question."""
    store = house.rig.fake
    store.fail("put_object", error, times=None, when=of_bad)
    for round_ in range(3):
        carry(house, "bad")
        soon("it fails", lambda: bool(house.rig.state.failures.page()))
        carry(house, *(f"{name}-{round_}" for name in OTHERS))
        soon("the others are there", lambda: len(house.objects) == len(OTHERS) * (round_ + 1))  # noqa: B023
        assert not house.workers.health.paused_for
        house.later(2.0)
    (failure,) = house.rig.state.failures.page()
    assert failure.error == str(error)


@pytest.mark.parametrize("error", UNCLEAR, ids=str)
def test_a_store_that_fails_at_everything_is_left_alone_after_one_file(
    house: House, error: StoreError
) -> None:
    """A neutral question fails, too: no file is tried in vain but for a probe."""
    store = house.rig.fake
    store.fail("*", error, times=None)
    carry(house, "a")
    soon("it is paused", lambda: bool(house.workers.health.paused_for) and is_over(house))
    carry(house, *OTHERS)
    assert house.workers.health.paused_for == str(error)
    assert store.calls["put_object"] <= 1  # none where a question before it was refused
    store.heal()
    house.later(3600.0)
    soon("all are there", lambda: len(house.objects) == 1 + len(OTHERS))
    assert not house.workers.health.paused_for


@pytest.mark.parametrize("error", [*UNCLEAR[:3], *PASSING], ids=str)
def test_a_store_that_fails_at_every_put_is_left_alone_after_a_few_files(
    house: House, error: StoreError
) -> None:
    """It answers the question, and yet different files fail in the same way, and none succeeds."""
    store = house.rig.fake
    store.fail("put_object", error, times=None)
    names = [f"f{number}" for number in range(40)]
    carry(house, *names)
    soon("it is paused", lambda: bool(house.workers.health.paused_for))
    soon("no worker is busy", lambda: is_over(house))
    assert store.calls["put_object"] <= 4 + house.rig.policy.concurrency
    store.heal()
    for _ in range(5):
        house.later(7200.0)
    soon("all are there", lambda: len(house.objects) == 40)


@pytest.mark.parametrize("error", [*UNCLEAR, *PASSING[1:]], ids=str)
def test_one_file_alone_never_shuts_the_store(house: House, error: StoreError) -> None:
    """However often it fails, and though nothing else succeeds in between."""
    house.rig.fake.fail("put_object", error, times=None)
    carry(house, "bad")
    for _ in range(7):
        before = house.rig.fake.calls["put_object"]
        house.later(86400.0)
        soon("it fails", lambda: house.rig.fake.calls["put_object"] > before and is_over(house))  # noqa: B023
        assert not house.workers.health.paused_for


@pytest.mark.parametrize(
    "error",
    [
        QuotaExceeded("the quota is used up", status=403),
        translate(OSError(errno.ENOSPC, ""), "store the object: the quota is used up"),
        translate(OSError(errno.EDQUOT, ""), "store the object: the quota is used up"),
    ],
    ids=str,
)
def test_a_quota_stops_puts_and_not_deletions(house: House, error: StoreError) -> None:
    """After a few different files no other is read; what is gone is deleted; then all goes on."""
    store = house.rig.fake
    carry(house, "old1", "old2", *(f"keep{number}" for number in range(20)))
    soon("all are there", lambda: len(house.objects) == 22 and is_over(house))
    store.fail("put_object", error, times=None)
    store.reset_counters()
    carry(house, *OTHERS)
    soon("it is said", lambda: "quota" in house.workers.health.paused_for)
    soon("no worker is busy", lambda: is_over(house))
    assert store.calls["put_object"] <= 3 + house.rig.policy.concurrency
    for name in ("old1", "old2"):
        (house.rig.folder / name).unlink()
        house.workers.queue.mark(house.rig.ref(name), quiet_seconds=0.0, event=True, delete_allowed=True)
    soon("they are deleted", lambda: len(house.objects) == 20)
    tried = store.calls["put_object"]
    house.later(61.0)
    soon("there is a probe", lambda: store.calls["put_object"] > tried)
    store.heal()

    def hours_pass() -> bool:  # a probe goes first, and then the others
        house.later(7200.0)
        return len(house.objects) == 20 + len(OTHERS)

    soon("all are there", hours_pass)
    soon("it is over", lambda: not house.workers.health.paused_for)


def test_a_put_that_began_before_the_quota_does_not_end_it(house: House) -> None:
    """The store took its content when there still was room."""
    store, release = house.rig.fake, threading.Event()
    store.before("put_object", lambda call: release.wait(30) if call.key == "p/early" else None)
    full = QuotaExceeded("full", status=507)
    store.fail("put_object", full, times=None, when=lambda call: call.key != "p/early")
    carry(house, "early")
    soon("it is under way", lambda: puts(store, "early"))
    house.later(1.0)
    carry(house, *OTHERS)
    soon("it is said", lambda: "full" in house.workers.health.paused_for)
    release.set()
    soon("it is there", lambda: house.objects == {"early"} and is_over(house))
    assert "full" in house.workers.health.paused_for


def test_one_file_that_meets_a_quota_stops_no_other(house: House) -> None:
    """It may be larger than what is left."""
    house.rig.fake.fail("put_object", QuotaExceeded("full", status=507), times=None, when=of_bad)
    for _ in range(5):
        carry(house, "bad")
        house.later(3600.0)
    carry(house, *OTHERS)
    soon("the others are there", lambda: len(house.objects) == len(OTHERS))


def test_a_refused_file_is_sent_again_only_when_it_changes(house: House) -> None:
    """Twice within a minute, then after hours; a person or another state hastens that, no event alone."""
    store = house.rig.fake
    store.fail("put_object", StoreRefused("no", status=403), times=None, when=of_bad)
    carry(house, "bad")
    soon("it is refused", lambda: bool(house.rig.state.failures.page()))
    for _ in range(3):
        mark(house, "bad")
        soon("no worker is busy", lambda: is_over(house))
    assert puts(store, "bad") == 1
    house.later(61.0)
    soon("it is sent again", lambda: puts(store, "bad") == 2 and is_over(house))
    for _ in range(3):
        house.later(600.0)
        mark(house, "bad")
        soon("no worker is busy", lambda: is_over(house))
    assert puts(store, "bad") == 2
    assert house.workers.retry("docs", lambda path: True) == 1
    soon("a person hastens it", lambda: puts(store, "bad") == 3 and is_over(house))
    house.rig.write("bad", b"another")
    os.utime(house.rig.folder / "bad", (1, 1))
    mark(house, "bad")
    soon("the new state is sent", lambda: puts(store, "bad") == 4)
    store.heal()
    house.later(7200.0)
    soon("it is there", lambda: "bad" in house.objects)
    assert house.rig.state.failures.page() == []


@pytest.mark.parametrize("error", [*UNCLEAR[:3], *PASSING], ids=str)
def test_hundreds_of_files_that_fail_hold_up_no_others_for_long(house: House, error: StoreError) -> None:
    """They come first, and look like a store that fails; a few probes find out that it does not."""
    store = house.rig.fake
    store.fail("put_object", error, times=None, when=lambda call: "bad" in call.key)
    carry(house, *(f"bad{number}" for number in range(300)), *(f"good{number}" for number in range(30)))
    house.workers.queue._chance = random.Random(1).random
    soon("it is paused", lambda: bool(house.workers.health.paused_for))
    probes = 0
    while len(house.objects) < 30:
        sent, probes = store.calls["put_object"], probes + 1
        house.later(60.0)
        soon("one is tried", lambda sent=sent: store.calls["put_object"] > sent or len(house.objects) == 30)
        soon("no worker is busy", lambda: is_over(house))
    assert probes <= 60
