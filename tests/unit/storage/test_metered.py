"""A store without a wire is measured as if it had one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import Stopped, StoreRefused
from syncd.core.model import ObjectMeta
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import DirSettings, ObjectStore
from syncd.storage.http.store import StoreContext, open_store
from syncd.storage.metered import MeteredStore
from syncd.transfer.progress import Progress
from tests.support.clock import FakeClock
from tests.support.store import SMALL_LIMITS, FakeStore

META = ObjectMeta(of_bytes(b"12345"), 0)


class Meter:
    """Writes down what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def wrap(self, inner: ObjectStore) -> MeteredStore:
        return MeteredStore(
            inner,
            on_request=lambda: self.told.append("request"),
            on_sent=self.told.append,
            on_silence=lambda: self.told.append("silence"),
            alive=lambda: self.told.append("alive"),
        )


def drive(store: ObjectStore) -> dict[str, Any]:
    """Every verb once, with its outcome."""
    outcomes: dict[str, Any] = {
        "put_object": store.put_object("a", b"12345", META),
        "head_object": store.head_object("a"),
        "get_object": store.get_object("a", 1, 2),
    }
    outcomes["copy_object"] = store.copy_object("a", "b", META, "")
    upload_id = store.create_multipart_upload("c", META)
    first = store.upload_part("c", upload_id, 1, b"1234")
    second = store.upload_part_copy("c", upload_id, 2, "a", 0, 3, "")
    outcomes["list_parts"] = store.list_parts("c", upload_id)
    outcomes["list_multipart_uploads"] = list(store.list_multipart_uploads(""))
    outcomes["complete_multipart_upload"] = store.complete_multipart_upload(
        "c", upload_id, [first, second], META
    )
    store.abort_multipart_upload("c", upload_id)
    store.delete_object("a")
    outcomes["list_objects"] = list(store.list_objects(""))
    outcomes["identity"] = (store.store_id, store.limits)
    store.close()
    return outcomes


def test_every_verb_goes_through_and_is_counted() -> None:
    """The same outcomes as without it, one request each, and the bytes of bodies only."""
    meter, plain, inner = Meter(), FakeStore(SMALL_LIMITS), FakeStore(SMALL_LIMITS)
    assert drive(meter.wrap(inner)) == drive(plain)
    assert inner.calls == plain.calls
    assert inner.closed
    assert meter.told.count("request") == inner.calls.total()
    assert [entry for entry in meter.told if isinstance(entry, int)] == [5, 4]


def test_bytes_are_held_back_before_they_go() -> None:
    """Whoever is stopped while it waits has written nothing."""
    inner = FakeStore(SMALL_LIMITS)

    def stopped(size: int) -> None:
        raise Stopped

    store = MeteredStore(
        inner, on_request=lambda: None, on_sent=stopped, on_silence=lambda: None, alive=lambda: None
    )
    with pytest.raises(Stopped):
        store.put_object("a", b"12345", META)
    assert inner.objects == {}


def test_a_disk_that_takes_long_is_not_taken_for_a_thread_that_hangs() -> None:
    """During the verb nobody expects a sign of life; afterwards there is one, also after an error."""
    meter, inner = Meter(), FakeStore(SMALL_LIMITS)
    store = meter.wrap(inner)
    store.put_object("a", b"12345", META)
    assert meter.told == ["request", 5, "silence", "alive"]
    meter.told.clear()
    with pytest.raises(StoreRefused):
        store.get_object("nothing", 0, 0)
    assert meter.told == ["request", "silence", "alive"]


def test_a_limit_holds_for_a_directory(tmp_path: Path) -> None:
    """As it does for a store behind HTTP."""
    clock = FakeClock()
    progress = Progress(1000, monotonic=clock.monotonic, sleep=clock.sleep)
    wiring = StoreContext(
        should_stop=lambda: False,
        sleep=clock.sleep,
        chance=lambda: 0.5,
        now=clock.now,
        on_sent=progress.moved,
        on_request=progress.requested,
    )
    store = open_store(DirSettings(str(tmp_path)), wiring=wiring)
    for number in range(20):
        store.put_object(f"f{number}", bytes(500), META)
    assert clock.monotonic() == pytest.approx(10.0, abs=1.0)
    assert (progress.bytes_moved, progress.requests) == (10_000, 20)
