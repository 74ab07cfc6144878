"""Bytes are counted as they go, held back where a limit is set, and every thread has a heartbeat."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Iterator
from math import inf

import pytest

from syncd.core.backoff import PAUSE, Limit, Timetable
from syncd.core.errors import Stopped
from syncd.core.model import FileRef
from syncd.transfer.pace.heartbeat import Heartbeat, Heartbeats
from syncd.transfer.pace.progress import Line, Progress, minute_of_week
from tests.support.clock import FakeClock

REF = FileRef("docs", "a")
SUNDAY = 6 * 24 * 60
MIB, CHUNK = 1 << 20, 32 << 10


def progress(clock: FakeClock, limit: int = 0) -> Progress:
    return Progress(Line(always(limit), clock.monotonic, clock.now_ns), sleep=clock.sleep)


def always(rate: int) -> Timetable:
    return Timetable(((0, rate),))


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
    """The thread that brings them into the state takes what is new."""
    some = progress(clock)
    for _ in range(3):
        some.requested()
    assert (some.take_requests(), some.take_requests()) == (3, 0)
    some.requested()
    assert (some.take_requests(), some.requests) == (1, 4)


def test_answers_are_counted_and_measured_by_operation(clock: FakeClock) -> None:
    """By the class of their status; each duration at the first bound that it does not exceed."""
    some = progress(clock)
    for status, seconds in ((200, 0.001), (204, 0.01), (503, 0.011), (500, 0.5), (None, 1000.0)):
        some.answered("put", status, seconds)
    some.answered("head", 404, 0.5)
    outcomes = {outcome: some.answers["put", outcome] for outcome in ("2xx", "5xx", "throttled", "none")}
    assert outcomes == {"2xx": 2, "5xx": 1, "throttled": 1, "none": 1}
    assert some.answers["head", "4xx"] == 1
    assert some.durations["put"].counts == [2, 1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert some.durations["put"].sum_seconds == pytest.approx(1000.522)
    assert sum(some.durations["head"].counts) == 1


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
    assert clock.monotonic() >= 0.8 - 1e-6  # 8,000 bytes at 10,000 a second
    assert some.line.look()[1] == 8000


@pytest.mark.parametrize("direction", ["moved", "received"])
def test_a_small_file_waits_for_no_more_than_a_piece_of_each_large_one(direction: str) -> None:
    """However much is counted at once, as by a directory, which takes a part in one call: all take turns."""
    clock, limit, waits = FakeClock(), 6 * MIB, list[float]()

    def sleep(seconds: float) -> None:
        if not waits or waits[-1]:
            waits.append(0.0)  # a small file comes while the large one waits
            began = clock.monotonic()
            some.line.wait(some.line.reserve(CHUNK)[0])
            waits[-1] = some.line.wait(some.line.reserve(0)[0]) + clock.monotonic() - began
        clock.sleep(seconds)

    some = Progress(Line(always(limit), clock.monotonic, clock.now_ns), sleep=sleep)
    getattr(some, direction)(8 * MIB)
    assert len(waits) > 10
    assert max(waits) < 0.1
    assert clock.monotonic() == pytest.approx(8 / 6, abs=0.5)


class VirtualTime:
    """A clock for threads: time passes when all of them sleep, up to the next one that wakes."""

    def __init__(self, threads: int) -> None:
        self._awake = threads
        self._now = 0.0
        self._wakes: list[float] = []
        self._turn = threading.Condition()

    def monotonic(self) -> float:
        return self._now

    def now_ns(self) -> int:
        return round(self._now * 1e9)

    def sleep(self, seconds: float) -> None:
        with self._turn:
            until = self._now + seconds
            heapq.heappush(self._wakes, until)
            self._rest()
            self._turn.wait_for(lambda: self._now >= until)
            self._awake += 1
            heapq.heappop(self._wakes)  # of those that are due, whichever

    def end(self) -> None:
        with self._turn:
            self._rest()

    def _rest(self) -> None:
        self._awake -= 1
        if not self._awake and self._wakes:
            self._now = max(self._now, self._wakes[0])
            self._turn.notify_all()


def test_a_limit_of_three_stores_is_exact_over_any_ten_seconds() -> None:
    """Within 5 %, from the first byte on, and after it was changed; and every upload gets the same."""
    line, count = Line(always(MIB)), 12
    clock = VirtualTime(count)
    line.monotonic, line._now_ns = clock.monotonic, clock.now_ns
    stores = [Progress(line, sleep=clock.sleep) for _ in range(3)]
    sent: list[tuple[float, int]] = []

    def upload(number: int) -> None:
        while clock.monotonic() < 50.0:
            sent.append((clock.monotonic(), number))
            stores[number % 3].moved(CHUNK)
            if clock.monotonic() >= 25.0:
                line.configure(always(MIB // 2))
        clock.end()

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for began, rate in [(at / 2, MIB) for at in range(31)] + [(26 + at / 2, MIB / 2) for at in range(28)]:
        moved = CHUNK * sum(began <= at < began + 10.0 for at, _ in sent)
        assert moved == pytest.approx(10 * rate, rel=0.05), began
    shares = Counter(number for _, number in sent)
    assert max(shares.values()) - min(shares.values()) <= 1


def test_a_shutdown_ends_the_wait(clock: FakeClock) -> None:
    """The sleep raises, and so does the send."""

    def stopped(seconds: float) -> None:
        raise Stopped

    some = Progress(Line(always(1), clock.monotonic, clock.now_ns), sleep=stopped)
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
    some = Progress(Line(always(1), clock.monotonic, clock.now_ns), sleep=sleep, heartbeat=heartbeat)
    heartbeat.step()
    some.moved(3)
    assert late == [(), (), ()]
    clock.advance(2.0)
    assert heartbeats.late(clock.monotonic()) == (threading.current_thread().name,)


def test_the_operators_limit_holds_for_its_time(clock: FakeClock) -> None:
    """At once, also where none was configured; then the configured one again."""
    for configured in (0, 100):
        some = progress(clock, configured)
        some.line.limit(always(10), clock.monotonic() + 1000)
        some.moved(10)
        before = clock.monotonic()
        some.moved(10)
        assert clock.monotonic() - before == pytest.approx(1.0)
        assert some.line.operators_until is not None
        clock.advance(2000)
        some.moved(100)
        assert some.line.operators_until is None
        before = clock.monotonic()
        some.moved(100)
        assert clock.monotonic() - before == pytest.approx(1.0 if configured else 0.0)
        some.line.limit(always(0), inf)
        some.moved(1 << 40)
        assert clock.monotonic() - before < 2


def test_a_changed_limit_holds_for_those_who_wait(clock: FakeClock) -> None:
    """The operator's, a reloaded one, and that of the next entry: all within a step."""
    some = progress(clock, 1)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.slept) == 3:
            some.line.configure(always(100))

    some._sleep = sleep
    some.moved(1000)
    assert clock.monotonic() == pytest.approx(3 + 9.97)
    for each, rate in enumerate((10, 20)):
        some.line.limit(always(rate), inf)
        some.moved(200)
        before = clock.monotonic()
        some.moved(200)
        assert clock.monotonic() - before == pytest.approx(200 / rate), each


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of the machine, by a rule that needs no database."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_the_local_clock_decides_what_holds() -> None:
    """Also where it repeats an hour or leaves one out, and where it is set: nothing is remembered."""
    table = Timetable(((SUNDAY + 150, 10), (SUNDAY + 180, 20), (SUNDAY + 240, 30)))  # 02:30, 03:00, 04:00
    spring, autumn = 1774742400, 1792886400  # 01:00 and 02:00 of the days with 23 and 25 hours
    for start, rates in ((spring, [30, 30, 20, 20, 30]), (autumn, [30, 10, 30, 10, 20])):
        clock = FakeClock(start)
        line = Line(table, clock.monotonic, clock.now_ns)
        found = []
        for _ in rates:
            found.append(line.holds().rate)
            clock.advance(1800)
        assert found == rates
    clock.jump(autumn + 600 - clock.now())
    assert line.holds().rate == 30
    clock.jump(1800)
    assert line.holds().rate == 10
    clock.jump(-1800)
    assert line.holds().rate == 30


def test_a_pause_lets_what_is_under_way_go_on(clock: FakeClock) -> None:
    """At the rate that held before: a body that stopped in the middle would fail."""
    minute = minute_of_week(clock.now_ns())
    some = progress(clock)
    some.line.configure(Timetable(((minute, 100), (minute + 1, PAUSE), (minute + 2, 0))))
    some.moved(100 * 61)
    assert clock.monotonic() == pytest.approx(61.0)
    assert some.line.holds() == Limit(100, True, minute + 2)
    clock.advance(60)
    assert some.line.holds() == Limit(0, False, minute)


def test_what_comes_in_is_held_back_too(clock: FakeClock) -> None:
    """And counts for its file as it comes."""
    some = progress(clock, 100)
    some.began(REF, 1000, 0)
    with some.sending(REF, 1000):
        some.received(500)
        assert some.in_flight() == [(REF, 500, 1000)]
    assert clock.monotonic() == pytest.approx(5.0)


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
    assert sum(some.line.by_minute()) == 60_000
