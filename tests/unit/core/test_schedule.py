"""When a source is scanned: what was asked, what the interval brings, and what setbacks put off."""

from __future__ import annotations

import pytest

from syncd.core.schedule import POLL_SECONDS, ScanSchedule


def scanned(subtree: str = "", now: float = 100.0, *, poll: bool = False, took: float = 0.0) -> ScanSchedule:
    """A schedule whose first scan is over, with an hour between scans and no jitter."""
    schedule = ScanSchedule()
    schedule.take(now)
    schedule.scanned(subtree, now, interval=3600.0, took_seconds=took, poll=poll, chance=0.5)
    return schedule


def test_a_new_source_is_scanned_at_once() -> None:
    """The first scan comes unasked; after it only the interval is left."""
    schedule = ScanSchedule()
    assert schedule.due(5.0) == 5.0
    assert schedule.take(5.0) == ("", "start")
    assert (schedule.due(5.0), schedule.take(5.0)) == (None, None)


def test_the_interval_is_jittered_by_a_tenth() -> None:
    """So that sources that started together are not scanned together for good."""
    for chance, seconds in ((0.0, 3240.0), (0.5, 3600.0), (1.0, 3960.0)):
        schedule = ScanSchedule()
        schedule.take(0.0)
        schedule.scanned("", 0.0, interval=3600.0, took_seconds=1.0, poll=False, chance=chance)
        assert schedule.due(0.0) == pytest.approx(seconds)
        assert schedule.take(seconds - 1.0) is None
        assert schedule.take(seconds + 1.0) == ("", "interval")


def test_a_polled_source_is_scanned_often_but_not_all_the_time() -> None:
    """A scan takes at most a twentieth of the time, and polling never makes the interval longer."""
    assert scanned(poll=True).next_scan == 100.0 + POLL_SECONDS
    assert scanned(poll=True, took=10.0).next_scan == 300.0
    assert scanned(poll=True, took=1000.0).next_scan == 3700.0


def test_subtrees_are_kept_apart_until_there_are_too_many() -> None:
    """Sixty-four requests are scanned one by one, the next turns all into one scan; that absorbs others."""
    schedule = scanned()
    for number in range(64):
        schedule.ask(f"d{number}", "lost")
    assert schedule.take(100.0) == ("d0", "lost")
    schedule.ask("d0", "lost")
    schedule.ask("one more", "lost")
    schedule.ask("d1", "lost")
    assert schedule.asked == {"": "lost"}


def test_a_scan_of_a_part_does_not_put_off_the_one_of_everything() -> None:
    """But it may bring it forward."""
    schedule = scanned()
    schedule.scanned("part", 2000.0, interval=3600.0, took_seconds=0.0, poll=False, chance=0.5)
    assert schedule.next_scan == 3700.0
    schedule.scanned("part", 2000.0, interval=3600.0, took_seconds=0.0, poll=True, chance=0.5)
    assert schedule.next_scan == 2000.0 + POLL_SECONDS


def test_setbacks_put_off_everything_that_is_asked_ever_later() -> None:
    """While a root is away, requests wait for the next look at it; a scan that succeeds ends that."""
    schedule = scanned()
    waits = []
    for _ in range(7):
        schedule.set_back(0.0)
        schedule.ask("part", "lost")
        due = schedule.due(0.0)
        assert due is not None
        assert schedule.take(due - 0.1) is None
        assert schedule.take(due) == ("", "the last attempt failed")
        waits.append(due)
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    schedule.scanned("", 0.0, interval=3600.0, took_seconds=0.0, poll=False, chance=0.5)
    schedule.ask("part", "lost")
    assert schedule.take(0.0) == ("part", "lost")


def test_deletions_are_judged_without_a_scan() -> None:
    """When only they are due there is no reason for a scan; a scan comes first when both are."""
    schedule = scanned()
    schedule.next_judgement = 200.0
    assert schedule.due(100.0) == 200.0
    assert schedule.take(200.0) == ("", "")
    assert schedule.take(3700.0) == ("", "interval")


def test_a_poll_is_brought_forward_never_put_off() -> None:
    """Deletions that wait for a complete scan need not wait for the interval."""
    schedule = scanned()
    schedule.poll_by(100.0)
    assert schedule.next_scan == 100.0 + POLL_SECONDS
    schedule.poll_by(150.0)
    assert schedule.next_scan == 100.0 + POLL_SECONDS
