"""Bytes are counted as they go, held back where a limit is set, and every thread has a heartbeat."""

from __future__ import annotations

import threading
from math import inf

import pytest

from syncd.core.errors import Stopped
from syncd.core.model import FileRef
from syncd.transfer.heartbeat import Heartbeat, Heartbeats
from syncd.transfer.progress import Progress
from tests.support.clock import FakeClock

REF = FileRef("docs", "a")


def progress(clock: FakeClock, limit: int = 0) -> Progress:
    return Progress(limit, monotonic=clock.monotonic, sleep=clock.sleep)


def test_a_file_is_in_flight_from_beginning_to_end(clock: FakeClock) -> None:
    """With what was there, what was acknowledged, and what it is in all."""
    some = progress(clock)
    some.began(REF, 100, 30)
    some.carried(REF, 20)
    assert some.in_flight() == [(REF, 50, 100)]
    some.ended(REF)
    some.ended(REF)
    some.carried(REF, 20)  # a straggler
    assert some.in_flight() == []


def test_a_file_that_is_begun_again_starts_where_it_is(clock: FakeClock) -> None:
    """A restart shows what the store has now."""
    some = progress(clock)
    some.began(REF, 100, 30)
    some.carried(REF, 70)
    some.began(REF, 100, 0)
    assert some.in_flight() == [(REF, 0, 100)]


def test_requests_are_told_once(clock: FakeClock) -> None:
    """Whoever brings them into the state takes what is new."""
    some = progress(clock)
    for _ in range(3):
        some.requested()
    assert (some.take_requests(), some.take_requests()) == (3, 0)
    some.requested()
    assert (some.take_requests(), some.requests) == (1, 4)


def test_without_a_limit_nobody_waits(clock: FakeClock) -> None:
    """However many bytes go."""
    some = progress(clock)
    for _ in range(100):
        some.moved(1 << 20)
    assert clock.slept == []


def test_a_limit_holds_back_what_is_too_fast(clock: FakeClock) -> None:
    """Ten seconds' worth of bytes take ten seconds, give or take one piece and the burst."""
    some = progress(clock, limit=1000)
    for _ in range(100):
        some.moved(100)
    assert clock.monotonic() == pytest.approx(10.0, abs=0.5)


def test_many_threads_share_one_limit() -> None:
    """The limit is on all requests together, and no byte is lost in counting."""
    clock = FakeClock()
    some = progress(clock, limit=10_000)
    threads = [threading.Thread(target=lambda: [some.moved(10) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert some.line._limit._paid_at is not None
    assert some.line._limit._paid_at >= 0.8 - 1e-6  # 8,000 bytes at 10,000 a second
    assert sum(clock.slept) > 0


def test_a_shutdown_ends_the_wait(clock: FakeClock) -> None:
    """The sleep raises, and so does whoever sends."""

    def stopped(seconds: float) -> None:
        raise Stopped

    some = Progress(1, monotonic=clock.monotonic, sleep=stopped)
    some.moved(10)
    with pytest.raises(Stopped):
        some.moved(10)


def test_a_thread_that_waits_for_bandwidth_is_not_stuck(clock: FakeClock) -> None:
    """While it is held back it has no deadline; afterwards it has one again."""
    heartbeats = Heartbeats(1.0, clock.monotonic)
    late: list[tuple[str, ...]] = []

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        late.append(heartbeats.late(clock.monotonic()))

    heartbeat = Heartbeat(heartbeats)
    some = Progress(1, monotonic=clock.monotonic, sleep=sleep, heartbeat=heartbeat)
    heartbeat.step()
    some.moved(100)
    some.moved(1)
    assert late == [()]
    clock.advance(2.0)
    assert heartbeats.late(clock.monotonic()) == (threading.current_thread().name,)


def test_the_operators_limit_holds_for_its_time(clock: FakeClock) -> None:
    """At once, also where none was configured; then the configured one again."""
    for configured in (0, 100):
        some = progress(clock, configured)
        some.line.limit(10, clock.monotonic() + 1000)
        some.moved(10)
        before = clock.monotonic()
        some.moved(10)
        assert clock.monotonic() - before == pytest.approx(1.0)
        clock.advance(2000)
        some.moved(100)
        before = clock.monotonic()
        some.moved(100)
        assert clock.monotonic() - before == pytest.approx(1.0 if configured else 0.0)
        some.line.limit(0, inf)
        some.moved(1 << 40)
        assert clock.monotonic() - before < 2


def test_bytes_count_as_they_leave_not_when_they_are_acknowledged(clock: FakeClock) -> None:
    """Once: an acknowledgement replaces them, a failure takes them back, a repeat begins again."""
    some = progress(clock)
    some.began(REF, 100, 20)
    with some.sending(REF, 40):
        some.moved(30)
        assert some.in_flight() == [(REF, 50, 100)]
        some.moved(10)
        some.moved(5)
        assert some.in_flight() == [(REF, 25, 100)]
    assert some.in_flight() == [(REF, 20, 100)]
    some.carried(REF, 40)
    assert some.in_flight() == [(REF, 60, 100)]
    some.moved(1000)
    assert some.in_flight() == [(REF, 60, 100)]


def test_a_rate_is_told_of_each_file_and_of_all(clock: FakeClock) -> None:
    """After the first seconds."""
    some = progress(clock)
    some.began(REF, 1 << 30, 0)
    with some.sending(REF, 1 << 30):
        for _ in range(60):
            some.moved(1000)
            clock.advance(1.0)
    assert some.rates()[REF] == pytest.approx(1000, rel=0.1)
    assert some.rate() == pytest.approx(1000, rel=0.1)
