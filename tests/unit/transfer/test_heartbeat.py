"""A thread that works has a deadline; one that waits has none."""

from __future__ import annotations

import threading

from syncd.transfer.heartbeat import Heartbeat, Heartbeats
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
