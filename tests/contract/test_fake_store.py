"""The fake store keeps its own promises to the tests: what was ordered happens, and is counted.

What it has in common with real stores is examined by the conformance suite.
"""

from __future__ import annotations

import threading

import pytest

from syncd.core.errors import StoreRefused, StoreUnavailable
from syncd.core.model import Fingerprint, ObjectMeta
from tests.support.clock import FakeClock
from tests.support.faults import VERBS
from tests.support.store import SMALL_LIMITS, Call, FakeStore

META = ObjectMeta(Fingerprint(bytes(16), 4), 0, "token")


def test_a_fault_instead_of_the_effect(fake_store: FakeStore) -> None:
    """The call fails, nothing happens, and the next one works."""
    fake_store.fail("put_object", StoreUnavailable("no"))
    with pytest.raises(StoreUnavailable, match="no"):
        fake_store.put_object("key", b"data", META)
    assert fake_store.objects == {}
    fake_store.put_object("key", b"data", META)
    assert fake_store.objects["key"].data == b"data"


def test_a_fault_after_the_effect(fake_store: FakeStore) -> None:
    """The answer is lost: it happened, but the caller cannot know."""
    fake_store.lose_answer("put_object")
    with pytest.raises(StoreUnavailable) as lost:
        fake_store.put_object("key", b"data", META)
    assert lost.value.outcome_unknown is True
    assert fake_store.objects["key"].data == b"data"


def test_faults_are_for_the_calls_that_were_meant(fake_store: FakeStore) -> None:
    """By number of the call, by condition, a number of times, or until healed."""
    fake_store.fail("head_object", StoreRefused("second"), nth=2)
    fake_store.fail("put_object", StoreRefused, times=2, when=lambda call: call.key == "b" and call.size == 4)
    fake_store.fail("delete_object", lambda call: StoreRefused(f"not {call.key}"), times=None)
    outcomes = []
    for verb in (
        lambda: fake_store.head_object("a"),
        lambda: fake_store.head_object("a"),
        lambda: fake_store.head_object("a"),
        lambda: fake_store.put_object("a", b"data", META),
        lambda: fake_store.put_object("b", b"data", META),
        lambda: fake_store.put_object("b", b"data", META),
        lambda: fake_store.put_object("b", b"data", META),
        lambda: fake_store.delete_object("x"),
        lambda: fake_store.delete_object("y"),
    ):
        try:
            verb()
            outcomes.append("done")
        except StoreRefused as refusal:
            outcomes.append(str(refusal))
    first, second = (f"ordered for put_object {number}" for number in (2, 3))
    expected = ["done", "second", "done", "done", first, second, "done", "not x", "not y"]
    assert outcomes == expected
    fake_store.heal()
    fake_store.delete_object("x")


def test_an_order_for_any_verb(fake_store: FakeStore) -> None:
    """A star stands for all of them: the store is down."""
    fake_store.fail("*", StoreUnavailable("down"), times=None)
    with pytest.raises(StoreUnavailable):
        fake_store.head_object("a")
    with pytest.raises(StoreUnavailable):
        list(fake_store.list_multipart_uploads(""))


def test_an_order_for_a_verb_that_does_not_exist_is_a_mistake(fake_store: FakeStore) -> None:
    """A test with a typing error must not pass because nothing ever fails."""
    with pytest.raises(ValueError, match="upload_parts"):
        fake_store.fail("upload_parts", StoreUnavailable("never"))


def test_every_verb_of_a_store_can_be_ordered_about() -> None:
    """The list of verbs is that of the protocol, so that a new one is not forgotten."""
    public = {name for name in vars(FakeStore) if not name.startswith("_")}
    about = {"store_id", "limits", "clock_ns", "close", "edit", "tamper", "tamper_etag", "without_metadata"}
    assert public - about == set(VERBS)


def test_hooks_run_before_and_after_without_holding_others_up(fake_store: FakeStore) -> None:
    """One request may wait in a hook while another goes through."""
    release, waiting = threading.Event(), threading.Event()
    seen: list[str] = []

    def hold(call: Call) -> None:
        if call.key == "held":
            waiting.set()
            assert release.wait(10)

    fake_store.before("put_object", hold)
    fake_store.after("put_object", lambda call: seen.append(call.key))
    thread = threading.Thread(target=fake_store.put_object, args=("held", b"1", META))
    thread.start()
    assert waiting.wait(10)
    fake_store.put_object("free", b"2", META)
    assert (fake_store.in_flight, fake_store.max_in_flight, list(fake_store.objects)) == (1, 2, ["free"])
    release.set()
    thread.join(10)
    assert seen == ["free", "held"]
    assert (fake_store.in_flight, fake_store.bytes_in_flight) == (0, 0)


def test_delays_pass_on_the_clock_that_was_given(fake_store: FakeStore, clock: FakeClock) -> None:
    """Time passes for the caller, and no thread sleeps."""
    fake_store.delay("*", 1.5, clock.sleep)
    fake_store.head_object("a")
    fake_store.head_object("a")
    assert (clock.monotonic(), clock.slept) == (3.0, [1.5, 1.5])


def test_requests_and_bytes_are_counted(fake_store: FakeStore) -> None:
    """By verb, in order, failed ones too; and every page of a list is a request."""
    store = FakeStore(SMALL_LIMITS, page_size=2)
    store.lose_answer("put_object")
    with pytest.raises(StoreUnavailable):
        store.put_object("key", b"data", META)
    upload_id = store.create_multipart_upload("key", META)
    for number in (1, 2, 3):
        store.upload_part("key", upload_id, number, b"12345")
    store.list_parts("key", upload_id)
    store.get_object("key", 1, 2)
    assert store.calls == {
        "put_object": 1,
        "create_multipart_upload": 1,
        "upload_part": 3,
        "list_parts": 2,
        "get_object": 1,
    }
    assert (store.bytes_received, store.bytes_served) == (19, 2)
    assert [(call.verb, call.nth, call.number) for call in store.log[2:7]] == [
        ("upload_part", 1, 1),
        ("upload_part", 2, 2),
        ("upload_part", 3, 3),
        ("list_parts", 1, 1),
        ("list_parts", 2, 2),
    ]
    store.reset_counters()
    assert (store.calls.total(), store.log, store.bytes_received) == (0, [], 0)


def test_random_etags_say_nothing_of_the_content() -> None:
    """As servers that encrypt: the same bytes get another ETag each time, the same under one seed."""
    one, other = FakeStore(random_etags=True, seed=1), FakeStore(random_etags=True, seed=1)
    etags = [one.put_object("key", b"data", META).etag for _ in range(3)]
    assert len(set(etags)) == 3
    assert [other.put_object("key", b"data", META).etag for _ in range(3)] == etags


def test_a_closed_store_is_not_used(fake_store: FakeStore) -> None:
    """A call after close is a mistake of the caller, not of the network."""
    fake_store.close()
    with pytest.raises(AssertionError):
        fake_store.head_object("a")


def test_the_clock_moves_only_when_told(clock: FakeClock) -> None:
    """Both clocks advance together; a jump moves the wall clock alone."""
    wall, monotonic = clock.now_ns(), clock.monotonic()
    clock.advance(2.5)
    clock.jump(-3600)
    assert (clock.now_ns() - wall, clock.monotonic() - monotonic) == (2_500_000_000 - 3600 * 10**9, 2.5)
    with pytest.raises(ValueError, match="forwards"):
        clock.advance(-1)
