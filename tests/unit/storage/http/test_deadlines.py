"""Patience, with a clock that moves when told: what is given up, and what is waited for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from syncd.core.errors import Stopped
from syncd.storage.http.deadlines import (
    ASK_SECONDS,
    GRACE_SECONDS,
    LEAST_BYTES,
    SLOW_ANSWER_SECONDS,
    Deadline,
    Stalled,
)
from syncd.storage.settings import HttpSettings


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def patient(clock: Clock, *, stop: list[bool] | None = None, **settings: Any) -> Deadline:
    http = HttpSettings("http://h", **{"read_seconds": 60.0, "progress_seconds": 120.0, **settings})
    return Deadline(http, lambda: bool(stop), clock)


def test_silence_is_given_up_when_its_time_is_over() -> None:
    """While sending after progress_seconds, while waiting for an answer after read_seconds; not before."""
    for answering, seconds in ((False, 120.0), (True, 60.0)):
        clock = Clock()
        deadline = patient(clock)
        if answering:
            deadline.answer()
        clock.now += seconds - 0.001
        deadline.ask()
        clock.now += 0.001
        with pytest.raises(Stalled):
            deadline.ask()


def test_a_byte_breaks_the_silence() -> None:
    """The count begins again."""
    clock = Clock()
    deadline = patient(clock, progress_seconds=1000.0)
    for _ in range(10):
        clock.now += 59.0
        deadline.moved(1)
        deadline.ask()


def dripped(clock: Clock, deadline: Deadline, size: int, every_seconds: float) -> float:
    """Let so many bytes move at once, again and again, until the request is given up; how long that takes."""
    began = clock.now
    with suppress(Stalled):
        while clock.now < began + 1e5:
            clock.now += every_seconds
            deadline.moved(size)
    return clock.now - began


@pytest.mark.parametrize("every_seconds", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("size", [1, 17, LEAST_BYTES // 10])
def test_what_drips_has_an_end_at_any_rate(size: int, every_seconds: float) -> None:
    """The head of an answer, its body, and what is sent; a word of the store as well as content."""
    clock = Clock()
    head = patient(clock)
    head.answer()
    assert dripped(clock, head, size, every_seconds) == pytest.approx(60.0, abs=every_seconds)
    words = patient(clock)
    words.answer()
    words.has_head()
    assert dripped(clock, words, size, every_seconds) <= SLOW_ANSWER_SECONDS + every_seconds
    if size / every_seconds * 120 < LEAST_BYTES:
        assert dripped(clock, patient(clock), size, every_seconds) <= 120.0 + every_seconds
        content = patient(clock)
        content.start(slow_answer=False, fetches=True)
        content.answer()
        content.has_head()
        assert dripped(clock, content, size, every_seconds) == pytest.approx(60.0, abs=every_seconds)


def test_a_slow_line_is_waited_for_for_ever() -> None:
    """LEAST_BYTES in each window are enough, for content in both directions."""
    clock = Clock()
    deadline = patient(clock)
    for fetches in (False, True):
        deadline.start(slow_answer=False, fetches=fetches)
        if fetches:
            deadline.answer()
            deadline.has_head()
        for _ in range(10_000):
            clock.now += 29.0
            deadline.moved(LEAST_BYTES // 2)
            deadline.ask()


def test_the_answer_has_a_window_of_its_own() -> None:
    """What was slow while sending is not held against the answer; asked twice it begins once."""
    clock = Clock()
    deadline = patient(clock)
    clock.now += 119.0
    deadline.answer()
    clock.now += 59.0
    deadline.answer()
    deadline.ask()
    clock.now += 1.0
    with pytest.raises(Stalled):
        deadline.ask()


def test_a_slow_answer_may_be_silent_or_drip_until_its_deadline() -> None:
    """Fifteen minutes for the whole of it."""
    clock = Clock()
    deadline = patient(clock)
    deadline.start(slow_answer=True, fetches=False)
    deadline.answer()
    while clock.now < 1000.0 + SLOW_ANSWER_SECONDS - 100:
        clock.now += 100.0
        deadline.ask()
        deadline.moved(1)
    clock.now += 100.0
    with pytest.raises(Stalled):
        deadline.moved(1)
    with pytest.raises(Stalled):
        deadline.ask()


def test_a_slow_answer_has_its_body_sent_in_time() -> None:
    """Only the answer is slow."""
    clock = Clock()
    deadline = patient(clock)
    deadline.start(slow_answer=True, fetches=False)
    clock.now += 120.0
    with pytest.raises(Stalled):
        deadline.ask()


def test_every_request_begins_anew() -> None:
    """Nothing of the last one is left, neither phase nor count."""
    clock = Clock()
    deadline = patient(clock)
    deadline.start(slow_answer=True, fetches=False)
    deadline.answer()
    clock.now += 500.0
    deadline.start(slow_answer=False, fetches=False)
    deadline.ask()
    deadline.answer()
    clock.now += 60.0
    with pytest.raises(Stalled):
        deadline.ask()


def test_a_stop_leaves_a_moment_to_end_by_itself() -> None:
    """Then it unwinds."""
    clock = Clock()
    stop: list[bool] = []
    deadline = patient(clock, stop=stop)
    clock.now += ASK_SECONDS
    deadline.ask()
    stop.append(True)
    clock.now += ASK_SECONDS
    deadline.ask()
    clock.now += GRACE_SECONDS / 2
    deadline.ask()
    clock.now += GRACE_SECONDS / 2
    with pytest.raises(Stopped):
        deadline.ask()


def test_whether_to_stop_is_asked_now_and_then() -> None:
    """Not with each of many pieces; time limits are."""
    clock = Clock()
    asked: list[float] = []
    deadline = Deadline(HttpSettings("http://h"), lambda: bool(asked.append(clock.now)), clock)
    for _ in range(1000):
        clock.now += ASK_SECONDS / 8
        deadline.moved(LEAST_BYTES)
        deadline.ask()
    assert len(asked) == 125
    deadline.answer()
    clock.now += ASK_SECONDS / 8
    deadline.ask()
    deadline.start(slow_answer=False, fetches=False)
    clock.now += 120.0
    with pytest.raises(Stalled):
        deadline.ask()


@pytest.mark.parametrize(("progress", "read"), [(120.0, 60.0), (0.2, 60.0), (120.0, 0.2), (0.0, 0.0)])
def test_nobody_blocks_longer_than_patience_lasts(progress: float, read: float) -> None:
    """A slice is short against every limit, and never nothing."""
    deadline = patient(Clock(), progress_seconds=progress, read_seconds=read)
    deadline.answer()
    assert 0 < deadline.slice_seconds <= max(0.01, min(0.5, progress / 4, read / 4))


def test_a_silence_of_our_own_counts_for_nothing() -> None:
    """A bandwidth limit makes us wait; the server's time begins afterwards."""
    clock = Clock()
    deadline = patient(clock)

    def wait(size: int) -> None:
        clock.now += size

    for _ in range(10):
        assert deadline.pausing(wait, 119) == 119.0
        deadline.ask()
    clock.now += 119.0
    deadline.ask()
    clock.now += 1.0
    with pytest.raises(Stalled):
        deadline.ask()
