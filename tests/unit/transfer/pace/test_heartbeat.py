"""A thread that works has a deadline; one that waits has none."""

from __future__ import annotations

import socket
import threading

from syncd.transfer.pace.heartbeat import Heartbeat, Heartbeats
from tests.support.clock import FakeClock


def test_a_thread_is_late_after_its_deadline_until_it_moves(clock: FakeClock) -> None:
    """A step moves the deadline; of the late ones, the longest overdue comes first."""
    heartbeats = Heartbeats(10.0, clock.monotonic)
    heartbeats.step("worker-2")
    clock.advance(5.0)
    heartbeats.step("worker-1")
    assert heartbeats.late(clock.monotonic()) == ()
    clock.advance(11.0)
    assert heartbeats.late(clock.monotonic()) == ("worker-2", "worker-1")
    heartbeats.step("worker-2")
    assert heartbeats.late(clock.monotonic()) == ("worker-1",)


def test_a_thread_that_rests_is_never_late(clock: FakeClock) -> None:
    """A thread that waits for work has no deadline."""
    heartbeats = Heartbeats(10.0, clock.monotonic)
    heartbeats.step("worker-1")
    heartbeats.rest("worker-1")
    heartbeats.rest("never seen")
    assert heartbeats.late(1e9) == ()


def test_a_heartbeat_is_that_of_the_thread_that_calls(clock: FakeClock) -> None:
    """One object serves all threads; each is known by its own name."""
    heartbeats = Heartbeats(10.0, clock.monotonic)
    heartbeat = Heartbeat(heartbeats)
    heartbeat.step()
    other = threading.Thread(target=heartbeat.step, name="other")
    other.start()
    other.join()
    clock.advance(11.0)
    assert set(heartbeats.late(clock.monotonic())) == {threading.current_thread().name, "other"}
    heartbeat.rest()
    assert heartbeats.late(clock.monotonic()) == ("other",)


class Share:
    """A hold that writes down what becomes of it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def lend(self) -> None:
        self.told.append("lent")

    def take_back(self) -> None:
        self.told.append("taken back")


def test_a_thread_that_reads_a_folder_is_never_late_but_its_source_is_silent(clock: FakeClock) -> None:
    """A restart of the process does not bring the server of a network file system back."""
    heartbeats = Heartbeats(60.0, clock.monotonic)
    heartbeat = Heartbeat(heartbeats)
    with heartbeat.reading("camera"):
        clock.advance(9.0)
        assert heartbeats.silent(clock.monotonic()) == {}
        clock.advance(91.0)
        assert heartbeats.silent(clock.monotonic()) == {"camera": 100.0}
        assert heartbeats.late(clock.monotonic()) == ()
        heartbeat.step()
        assert heartbeats.silent(clock.monotonic()) == {}
    clock.advance(100.0)
    assert heartbeats.silent(clock.monotonic()) == {}
    assert heartbeats.late(clock.monotonic()) == (threading.current_thread().name,)
    heartbeat.rest()


def test_what_a_silent_thread_holds_is_lent_until_it_moves(clock: FakeClock) -> None:
    """Once lent, once taken back; a thread that holds nothing, or only works, lends nothing."""
    heartbeats = Heartbeats(60.0, clock.monotonic)
    heartbeat, share = Heartbeat(heartbeats), Share()
    heartbeat.holds(share)
    try:
        heartbeat.step()
        clock.advance(20.0)
        assert heartbeats.give_up(clock.monotonic()) == frozenset()
        with heartbeat.reading("camera"):
            clock.advance(20.0)
            for _ in range(2):
                assert heartbeats.give_up(clock.monotonic()) == {threading.get_ident()}
            assert share.told == ["lent"]
        assert share.told == ["lent", "taken back"]
        assert heartbeats.give_up(clock.monotonic()) == frozenset()
    finally:
        heartbeat.holds(None)
        heartbeat.rest()


def test_reading_lasts_through_a_rest(clock: FakeClock) -> None:
    """A scan that waits for room in the queue rests there, and reads on afterwards."""
    heartbeats = Heartbeats(60.0, clock.monotonic)
    heartbeat = Heartbeat(heartbeats)
    with heartbeat.reading("camera"):
        heartbeat.rest()
        clock.advance(100.0)
        assert heartbeats.silent(clock.monotonic()) == {}
        heartbeat.step()
        clock.advance(100.0)
        assert heartbeats.silent(clock.monotonic()) == {"camera": 100.0}
    heartbeat.rest()
    assert not heartbeats.are_expected()


def test_a_thread_that_works_in_a_stores_directory_is_never_late_nor_its_source_silent(
    clock: FakeClock,
) -> None:
    """How long it has worked there is told. Its share is lent only where the store is known not to answer."""
    heartbeats = Heartbeats(60.0, clock.monotonic)
    heartbeat, share = Heartbeat(heartbeats), Share()
    heartbeat.holds(share)
    try:
        with heartbeat.reading("camera"):
            heartbeat.enters("nas")
            clock.advance(100.0)
            now = clock.monotonic()
            assert (heartbeats.silent(now), heartbeats.late(now)) == ({}, ())
            assert heartbeats.waiting(now) == {"nas": 100.0}
            assert heartbeats.give_up(now) == heartbeats.give_up_stores({"disk"}) == frozenset()
            for _ in range(2):
                assert heartbeats.give_up_stores({"nas"}) == {threading.get_ident()}
            assert share.told == ["lent"]
            heartbeat.enters("")
            assert (share.told, heartbeats.waiting(now)) == (["lent", "taken back"], {})
            clock.advance(100.0)
            assert heartbeats.silent(clock.monotonic()) == {"camera": 100.0}
    finally:
        heartbeat.holds(None)
        heartbeat.rest()


def test_a_thread_can_go_on_unless_it_waits_for_something_that_is_not_there() -> None:
    """An answer that has come and that nobody has read yet leaves its thread in line for the interpreter."""
    heartbeat, me = Heartbeat(), threading.get_ident()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not heartbeat.can_go_on([me])  # it rests
        heartbeat.step()
        assert heartbeat.can_go_on([me])
        assert not heartbeat.can_go_on([])
        heartbeat.awaited[me] = ours.fileno()
        assert not heartbeat.can_go_on([me])
        theirs.send(b"answer")
        assert heartbeat.can_go_on([me])
        del heartbeat.awaited[me]
        with heartbeat.reading("camera"):
            assert not heartbeat.can_go_on([me])
        heartbeat.enters("nas")
        assert not heartbeat.can_go_on([me])
        heartbeat.enters("")
        assert heartbeat.can_go_on([me])
        heartbeat.rest()
