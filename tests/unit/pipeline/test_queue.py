"""The queue that threads share: no thread misses a wake-up or starves, and memory stays bounded."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf

import pytest

from syncd.core.model import FileRef
from syncd.core.settle import Taken
from syncd.pipeline import queue as workqueue
from syncd.pipeline.queue import WorkQueue
from syncd.transfer.pace.crew import FRESH_SECONDS, Crew
from tests.support.clock import FakeClock
from tests.support.waiting import Running, wait_until

A, B, C, D = (FileRef("docs", name) for name in "abcd")
OTHER = FileRef("other", "x")


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    """A queue on the machine's own time, closed at the end."""
    queue = WorkQueue(time.monotonic)
    yield queue
    queue.close()


def waiting_workers(queue: WorkQueue) -> int:
    return len(queue._work._waiters)  # type: ignore[attr-defined]


def taken(worker: Running[Taken | None]) -> FileRef:
    found = worker.result()
    assert found is not None
    return found.ref


def test_a_file_is_handed_out_when_it_has_been_quiet(queue: WorkQueue) -> None:
    """A worker that waits gets it without anybody doing anything more."""
    worker = Running(queue.take)
    wait_until("the worker waits", lambda: waiting_workers(queue) == 1)
    queue.mark(A, quiet_seconds=0.05, event=True)
    assert taken(worker) == A


def test_what_a_worker_does_before_it_waits_holds_up_nobody(queue: WorkQueue) -> None:
    """It gives back a root, perhaps the last hold on a file system. A file that comes in then is taken."""
    found = queue.take(lambda: Running(queue.mark, A, quiet_seconds=0.0, event=True).result())
    assert found is not None
    assert found.ref == A


def test_a_file_that_was_marked_while_it_was_carried_wakes_a_worker_at_its_end(queue: WorkQueue) -> None:
    """The one that carried it may end, and take nothing more."""
    queue.mark(A, quiet_seconds=0.0, event=True)
    assert queue.take() is not None
    worker = Running(queue.take)
    wait_until("the worker waits", lambda: waiting_workers(queue) == 1)
    queue.mark(A, quiet_seconds=0.0, event=True)
    wait_until("it waits again", lambda: waiting_workers(queue) == 1)
    assert not queue.done(A)
    assert taken(worker) == A


def test_what_has_waited_the_longest_is_told_unless_it_failed() -> None:
    """Of one source, also while a worker has it; a later mark makes it no younger."""
    clock = FakeClock()
    queue = WorkQueue(clock.monotonic)
    began = clock.monotonic()
    for ref in (A, B, OTHER, A):
        queue.mark(ref, quiet_seconds=0.0, event=True)
        clock.advance(10)
    assert [queue.oldest(source) for source in ("docs", "other", "none")] == [began, began + 20, None]
    for expected in (began, began, None):  # B failed; then also x of the other; then also A
        taken = queue.take_due()
        assert taken is not None
        assert queue.oldest("docs") == began
        queue.defer(taken.ref, 600.0, hold=True)
        assert queue.oldest("docs") == expected


def test_an_idle_worker_sleeps_without_a_timeout(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to do no thread wakes up; with something due later exactly one does."""
    timeouts: list[float | None] = []
    wait = queue._work.wait

    def noted(timeout: float | None = None) -> bool:
        timeouts.append(timeout)
        return wait(timeout)

    monkeypatch.setattr(queue._work, "wait", noted)
    workers = [Running(queue.take) for _ in range(3)]
    wait_until("all wait", lambda: waiting_workers(queue) == 3)
    assert timeouts == [None, None, None]
    queue.mark(A, quiet_seconds=3600.0, event=True)
    wait_until("one keeps the time", lambda: len(timeouts) == 4)
    assert timeouts[3] == pytest.approx(3600.0, abs=60)
    assert not any(worker.is_over for worker in workers)


def test_a_file_due_sooner_is_not_held_up_by_one_due_later(queue: WorkQueue) -> None:
    """Whichever worker is woken by the mark, the time of the earlier file is kept."""
    workers = [Running(queue.take) for _ in range(2)]
    wait_until("both wait", lambda: waiting_workers(queue) == 2)
    queue.mark(A, quiet_seconds=3600.0, event=True)
    wait_until("one keeps the time", lambda: queue._alarm < inf and waiting_workers(queue) == 2)
    queue.mark(B, quiet_seconds=0.05, event=True)
    wait_until("the earlier one is taken", lambda: any(worker.is_over for worker in workers))
    assert [taken(worker) for worker in workers if worker.is_over] == [B]


def test_whoever_waits_for_the_end_takes_no_wake_up_from_a_worker(queue: WorkQueue) -> None:
    """A single pass that waits for idleness must not swallow the news of a mark."""
    queue.mark(A, quiet_seconds=0.0, event=True)
    assert queue.take() is not None
    waiter = Running(queue.wait_idle, 30.0)
    wait_until("it waits for the end", lambda: len(queue._end._waiters) == 1)  # type: ignore[attr-defined]
    worker = Running(queue.take)
    wait_until("the worker waits", lambda: waiting_workers(queue) == 1)
    queue.mark(B, quiet_seconds=0.0, event=True)
    assert taken(worker) == B
    queue.done(A)
    assert not waiter.is_over
    queue.done(B)
    assert waiter.result() is True


def test_a_scan_waits_while_the_queue_is_full(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on as soon as a worker takes a file."""
    monkeypatch.setattr(workqueue, "MAX_WAITING", 2)
    assert queue.mark_found(A, quiet_seconds=0.0)
    assert queue.mark_found(B, quiet_seconds=0.0)
    scan = Running(queue.mark_found, C, quiet_seconds=0.0)
    wait_until("the scan waits", lambda: len(queue._room._waiters) == 1)  # type: ignore[attr-defined]
    assert queue.counts() == ({"docs": 2}, ())
    assert queue.take() is not None
    assert scan.result() is True


def test_a_scan_that_is_cancelled_stops_waiting_and_marks_nothing(
    queue: WorkQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that was taken out of the configuration leaves nothing in the queue."""
    monkeypatch.setattr(workqueue, "MAX_WAITING", 1)
    queue.mark_found(A, quiet_seconds=0.0)
    cancelled: list[bool] = []
    scan = Running(queue.mark_found, B, quiet_seconds=0.0, cancelled=lambda: bool(cancelled))
    wait_until("the scan waits", lambda: len(queue._room._waiters) == 1)  # type: ignore[attr-defined]
    cancelled.append(True)
    queue.wake_scans()
    assert scan.result() is False
    assert queue.counts() == ({"docs": 1}, ())


def test_a_scan_says_what_was_not_known(queue: WorkQueue) -> None:
    """Only a file that was neither waiting nor being processed counts as found by the scan."""
    queue.mark(A, quiet_seconds=0.0, event=True)
    assert queue.mark_found(A, quiet_seconds=0.0) is False
    assert queue.take() is not None
    assert queue.mark_found(A, quiet_seconds=0.0) is False
    assert queue.mark_found(B, quiet_seconds=0.0) is True


def test_events_beyond_the_bound_become_a_scan(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused, so that the caller asks for a scan."""
    monkeypatch.setattr(workqueue, "MAX_WAITING", 1)
    assert [queue.heard(ref, quiet_seconds=60.0) for ref in (A, B, C)] == [True, True, False]
    queue.mark(D, quiet_seconds=60.0, event=True)  # our own marks are few, and must not be lost
    assert queue.counts() == ({"docs": 3}, ())


def test_files_that_failed_hold_up_no_others(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand refused files do not fill the queue: scans go on."""
    monkeypatch.setattr(workqueue, "MAX_WAITING", 2)
    for number in range(5):
        ref = FileRef("docs", f"bad{number}")
        queue.mark(ref, quiet_seconds=0.0, event=True)
        assert queue.take() is not None
        assert queue.defer(ref, 3600.0, hold=True) is True
    assert queue.mark_found(A, quiet_seconds=0.0) is True
    assert queue.heard(B, quiet_seconds=0.0) is True
    assert queue.counts() == ({"docs": 7}, ())


def test_too_many_failed_files_are_left_to_the_next_scan(
    queue: WorkQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded: one more than that is forgotten here, and found again."""
    monkeypatch.setattr(workqueue, "MAX_DEFERRED", 1)
    for ref in (A, B):
        queue.mark(ref, quiet_seconds=0.0, event=True)
        assert queue.take() is not None
    assert queue.defer(A, 3600.0, hold=True) is True
    assert queue.defer(B, 3600.0, hold=True) is False
    assert queue.counts() == ({"docs": 1}, ())


def test_a_failed_file_that_is_due_again_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker takes is no longer counted as deferred."""
    monkeypatch.setattr(workqueue, "MAX_DEFERRED", 1)
    clock = FakeClock()
    queue = WorkQueue(clock.monotonic)
    queue.mark(A, quiet_seconds=0.0, event=True)
    assert queue.take() is not None
    assert queue.defer(A, 60.0, hold=True)
    clock.advance(60.0)
    again = queue.take()
    assert again is not None
    assert queue.defer(A, 60.0, hold=True) is True


def test_a_file_that_moved_while_it_was_read_settles_again() -> None:
    """It is due after its settle period, not at once."""
    clock = FakeClock()
    queue = WorkQueue(clock.monotonic)
    queue.mark(A, quiet_seconds=0.0, event=True)
    queue.take()
    queue.again(A, 2.0)
    assert queue.counts() == ({"docs": 1}, ())
    clock.advance(2.0)
    assert queue.take() == Taken(A, event=True, first_marked=0.0)


def test_a_file_that_changes_before_every_look_is_restless() -> None:
    """Also where no event tells of it: each look finds that it changed, and it is never done."""
    clock = FakeClock()
    queue = WorkQueue(clock.monotonic)
    queue.mark(A, quiet_seconds=0.0, event=False)
    for _ in range(500):
        assert queue.take() is not None
        queue.again(A, 2.0)
        clock.advance(2.0)
    queue.take()
    queue.again(A, 2.0)
    assert queue.restless(900.0) == [(A, 1000.0)]


def test_done_says_when_the_workers_have_nothing_to_do_now() -> None:
    """A file that waits for a later time does not count: until then no thread follows it."""
    clock = FakeClock()
    queue = WorkQueue(clock.monotonic)
    for ref in (A, B):
        queue.mark(ref, quiet_seconds=0.0, event=True)
    queue.mark(C, quiet_seconds=60.0, event=True)
    queue.take()
    queue.take()
    assert queue.done(A) is False
    assert queue.done(B) is True
    assert queue.idle() is False


def test_a_discarded_source_is_forgotten_and_others_stay(queue: WorkQueue) -> None:
    """What is being processed ends as if nothing had marked it, and threads that wait for the end wake up."""
    queue.mark(A, quiet_seconds=0.0, event=True)
    queue.take()
    queue.mark(B, quiet_seconds=60.0, event=True)
    queue.mark(OTHER, quiet_seconds=60.0, event=True)
    queue.discard("docs")
    queue.defer(A, 60.0, hold=True)
    assert queue.counts() == ({"other": 1}, ())
    waiter = Running(queue.wait_idle, 30.0)
    wait_until("it waits", lambda: len(queue._end._waiters) == 1)  # type: ignore[attr-defined]
    queue.discard("other")
    assert waiter.result() is True


def test_closing_lets_everybody_go(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, scans and threads that wait for the end."""
    monkeypatch.setattr(workqueue, "MAX_WAITING", 1)
    queue.mark(A, quiet_seconds=3600.0, event=True)
    worker = Running(queue.take)
    scan = Running(queue.mark_found, B, quiet_seconds=0.0)
    end = Running(queue.wait_idle, 30.0)
    queue.close()
    assert (worker.result(), scan.result(), end.result()) == (None, False, True)
    assert queue.take() is None


# ---- the store's door -----------------------------------------------------------------------------------


def marked_queue(clock: FakeClock, *refs: FileRef) -> WorkQueue:
    queue = WorkQueue(clock.monotonic)
    for ref in refs:
        queue.mark(ref, quiet_seconds=0.0, event=True)
    return queue


def test_a_paused_store_gets_one_probe_when_its_time_has_come() -> None:
    """Until the probe has told something no other file is tried."""
    clock = FakeClock()
    queue = marked_queue(clock, A, B)
    queue.pause(60.0)
    assert queue.is_shut
    worker = Running(queue.take)
    wait_until("it waits", lambda: queue._alarm == 60.0)
    clock.advance(60.0)
    queue.mark(C, quiet_seconds=60.0, event=True)  # anything that wakes it
    assert taken(worker) == A
    second = Running(queue.take)
    wait_until("it waits", lambda: waiting_workers(queue) == 1)
    assert queue.answered() is True
    assert taken(second) == B
    assert not queue.is_shut


def test_a_store_that_stumbles_again_and_again_is_left_alone() -> None:
    """A single failure changes nothing; several in a row shut the door."""
    queue = marked_queue(FakeClock(), A)
    for _ in range(workqueue.BREAKER_THRESHOLD - 1):
        queue.stumbled(FileRef("s", str(random.random())), "reset", 0.5)
    assert not queue.is_shut
    queue.stumbled(FileRef("s", str(random.random())), "reset", 0.5)
    assert queue.is_shut


def test_a_pause_begins_for_one_worker_only() -> None:
    """Several workers meet the same trouble at once; one of them is to tell of it."""
    queue = marked_queue(FakeClock(), A)
    for _ in range(workqueue.BREAKER_THRESHOLD - 1):
        assert not queue.stumbled(FileRef("s", str(random.random())), "reset", 0.5)
    told = [queue.stumbled(FileRef("s", str(random.random())), "reset", 0.5) for _ in range(3)]
    assert [*told, queue.pause(60.0)] == [True, False, False, False]
    queue.answered()
    assert [queue.pause(60.0) for _ in range(3)] == [True, False, False]


def test_an_answer_in_between_begins_the_count_anew() -> None:
    """It is failures in a row that count."""
    queue = marked_queue(FakeClock(), A)
    for _ in range(3 * workqueue.BREAKER_THRESHOLD):
        queue.stumbled(FileRef("s", str(random.random())), "reset", 0.5)
        assert queue.answered() is False
    assert not queue.is_shut


def test_a_probe_that_told_nothing_is_followed_by_another() -> None:
    """Such as a file that turned out to be unchanged; an open door and a pause stay as they are."""
    clock = FakeClock()
    queue = marked_queue(clock, A, B)
    queue.probe()
    assert not queue.is_shut
    queue.pause(60.0)
    queue.probe()
    assert queue._breaker.until == 60.0
    clock.advance(60.0)
    first = queue.take()
    queue.probe()
    second = queue.take()
    assert [entry.ref for entry in (first, second) if entry] == [A, B]
    assert queue.is_shut


def test_a_queue_shows_its_state() -> None:
    """What waits, what is in work, and what its breaker says."""
    queue = WorkQueue(lambda: 100.0)
    queue.mark(FileRef("s", "a"), quiet_seconds=0.0, event=True)
    queue.take()
    queue.mark(FileRef("s", "b"), quiet_seconds=0.0, event=True)
    queue.pause(5.0)
    breaker = "<Breaker open, failures=0, until=105.0>"
    assert repr(queue) == f"<WorkQueue 1 waiting (0 deferred), 0 to look at again, 1 in work, {breaker}>"


def test_a_store_may_be_tried_at_once_when_the_machine_has_slept() -> None:
    """The pause was about a network that may be another one by now."""
    queue = marked_queue(FakeClock(), A)
    queue.pause(3600.0)
    worker = Running(queue.take)
    wait_until("it waits", lambda: queue._alarm == 3600.0)
    queue.reopen()
    assert taken(worker) == A


def test_what_the_operator_holds_is_not_handed_out(queue: WorkQueue) -> None:
    """One source, or all; the others go on, and a hold that ends wakes the worker that waits."""
    queue.hold(-inf, {"docs": inf})
    for ref in (A, OTHER):
        queue.mark(ref, quiet_seconds=0.0, event=True)
    assert (queue.is_held("docs"), queue.is_held("other")) == (True, False)
    assert taken(Running(queue.take)) == OTHER
    queue.done(OTHER)
    worker = Running(queue.take)
    wait_until("it waits", lambda: waiting_workers(queue) == 1)
    queue.hold(time.monotonic() + 0.1, {})
    assert queue.is_held("other")
    assert taken(worker) == A
    queue.done(A)
    queue.hold(inf, {})
    queue.mark(B, quiet_seconds=0.0, event=True)
    assert queue.take_due() is None
    assert queue.due() == inf


def test_a_paused_source_takes_no_room_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scan waits when it alone fills the queue; the scans of others do not."""
    monkeypatch.setattr(workqueue, "MAX_WAITING", 2)
    queue = WorkQueue(FakeClock().monotonic)
    queue.hold(-inf, {"docs": inf})
    for ref in (A, B):
        assert queue.mark_found(ref, quiet_seconds=0.0)
    scan = Running(lambda: queue.mark_found(C, quiet_seconds=0.0))
    assert queue.mark_found(OTHER, quiet_seconds=0.0)
    assert queue.heard(OTHER, quiet_seconds=0.0)
    assert not scan.is_over
    queue.hold(-inf, {})
    assert queue.take_due() is not None
    assert queue.take_due() is not None
    assert scan.result()
    queue.close()


def test_files_need_not_settle_when_the_operator_cannot_wait(queue: WorkQueue) -> None:
    """Those of one source; one that failed keeps its time."""
    queue.mark(B, quiet_seconds=0.0, event=True)
    assert queue.take_due() is not None
    queue.defer(B, 3600.0, hold=True)
    for ref in (A, OTHER):
        queue.mark(ref, quiet_seconds=3600.0, event=True)
    queue.hasten("docs")
    assert taken(Running(queue.take)) == A
    assert queue.take_due() is None


def test_what_is_known_of_one_file(queue: WorkQueue) -> None:
    """Clean, waiting, failed, in work."""
    assert queue.about(A) is None
    queue.mark(A, quiet_seconds=3600.0, event=True)
    known = queue.about(A)
    assert known is not None
    assert (known.in_work, known.deferred, known.restless_seconds) == (False, False, None)
    assert 0 < known.due_seconds <= 3600
    queue.mark(A, quiet_seconds=3600.0, event=True)
    known = queue.about(A)
    assert known is not None
    assert known.restless_seconds is not None
    queue.hasten("docs")
    assert queue.take_due() is not None
    known = queue.about(A)
    assert known is not None
    assert known.in_work
    assert queue.deferred() == {}
    queue.defer(A, 60.0, hold=True)
    assert queue.deferred() == {"docs": 1}
    known = queue.about(A)
    assert known is not None
    assert known.deferred


def test_what_failed_is_tried_again_at_once_when_the_operator_says_so(queue: WorkQueue) -> None:
    """Also what was deferred to be held, though the store was paused; what settles is left alone."""
    queue.mark(A, quiet_seconds=0.0, event=True)
    assert queue.take_due() is not None
    queue.defer(A, 3600.0, hold=True)
    queue.mark(B, quiet_seconds=3600.0, event=True)
    queue.pause(3600.0)
    assert queue.retry(lambda ref: ref.source == "other") == 0
    queue.pause(3600.0)
    assert queue.take_due() is None
    assert queue.retry(lambda ref: ref.source == "docs") == 1
    assert taken(Running(queue.take)) == A
    assert queue.take_due() is None


class Clerk:
    """A worker in a thread of its own that does what it is told, one thing at a time."""

    def __init__(self, queue: WorkQueue) -> None:
        self.queue = queue
        self._thread = ThreadPoolExecutor(1)

    def takes(self) -> Future[Taken | None]:
        return self._thread.submit(self.queue.take)

    def asks(self, *, others_go_on: bool) -> None:
        self._thread.submit(self.queue.asks, lambda others: others_go_on).result()

    def has_large(self) -> None:
        self._thread.submit(self.queue.has_large).result()


def two_of_three(clock: FakeClock) -> tuple[WorkQueue, list[Clerk], Future[Taken | None]]:
    """A queue with a crew of two, which have files, and a third that waits, with more files than workers."""
    queue = WorkQueue(clock.monotonic)
    queue.crew = Crew(3)
    queue.crew.size = 2
    for number in range(9):
        queue.mark(FileRef("docs", str(number)), quiet_seconds=0.0, event=True)
    clerks = [Clerk(queue) for _ in range(3)]
    for clerk in clerks[:2]:
        assert clerk.takes().result() is not None
    third = clerks[2].takes()
    wait_until("it waits", lambda: waiting_workers(queue) == 1)
    return queue, clerks, third


def released_by_a_large_file(queue: WorkQueue, clerks: list[Clerk], clock: FakeClock) -> None:
    clerks[0].has_large()


def released_by_growth(queue: WorkQueue, clerks: list[Clerk], clock: FakeClock) -> None:
    clerks[0].asks(others_go_on=True)
    assert waiting_workers(queue) == 1
    clerks[0].asks(others_go_on=False)


def released_by_time(queue: WorkQueue, clerks: list[Clerk], clock: FakeClock) -> None:
    clock.advance(FRESH_SECONDS)


@pytest.mark.parametrize("release", [released_by_a_large_file, released_by_growth, released_by_time])
def test_a_worker_that_would_be_of_no_use_waits(
    release: Callable[[WorkQueue, list[Clerk], FakeClock], None], clock: FakeClock
) -> None:
    """Until another has a large file, the crew grows, or the files of the others take long."""
    queue, clerks, third = two_of_three(clock)
    release(queue, clerks, clock)
    assert third.result(30) is not None
    queue.close()


def test_a_worker_that_ends_its_file_goes_on_with_the_next(clock: FakeClock) -> None:
    """It wakes no other for that, and the one that waits goes on waiting."""
    queue, clerks, third = two_of_three(clock)
    queue.done(FileRef("docs", "0"))
    assert clerks[0].takes().result(30) is not None
    assert not third.done()
    queue.close()
    assert third.result(30) is None


def test_files_that_no_worker_may_take_wake_none(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan may find thousands of them in a second. One worker keeps the time."""
    queue, _, third = two_of_three(clock)
    woken: list[int] = []
    notify = queue._work.notify
    monkeypatch.setattr(queue._work, "notify", lambda count=1: (woken.append(count), notify(count)))
    for number in range(100):
        queue.mark(FileRef("docs", f"more{number}"), quiet_seconds=0.0, event=True)
    assert not woken
    wait_until("one keeps the time", lambda: queue._alarm < inf)
    queue.close()
    assert third.result(30) is None
