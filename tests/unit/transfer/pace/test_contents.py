"""Of one content one file is sent at a time, as long as the others can be copied from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from syncd.core.errors import Stopped
from syncd.core.model import Fingerprint
from syncd.sources.fingerprint import Digests
from syncd.transfer.pace.contents import Contents
from syncd.transfer.pace.heartbeat import Heartbeat, Heartbeats
from tests.support.waiting import Running, wait_until


def content(digest: bytes, parts: list[bytes], size: int = 100) -> Digests:
    return Digests(Fingerprint(digest, size), b"", parts)


ONE = content(b"1" * 16, [b"a", b"b"])
ONE_IN_OTHER_PARTS = content(b"1" * 16, [b"ab"])
OTHER = content(b"2" * 16, [b"a", b"c"])
LONGER = content(b"1" * 16, [b"a", b"b"], 101)
UNREAD = content(b"", [])
BEGUN_LIKE_BOTH = content(b"", [b"a"])
BEGUN_LIKE_ONE = content(b"", [b"a", b"b"])
BEGUN_OTHERWISE = content(b"", [b"x"])


class Sender:
    """A thread that has the content for itself, and sends it until it is let go."""

    def __init__(self, contents: Contents, content: Digests, heartbeat: Heartbeat | None = None) -> None:
        self.is_to_send = True
        self.began, self.release = threading.Event(), threading.Event()
        self.error: Exception | None = None

        def run() -> None:
            with contents.in_turn(content, lambda: self.is_to_send):
                if heartbeat is not None:
                    with heartbeat.reading("folder"):
                        self._send()
                else:
                    self._send()

        self.running = Running(run)

    def _send(self) -> None:
        self.began.set()
        assert self.release.wait(30)
        if self.error is not None:
            raise self.error

    def leave(self) -> None:
        self.release.set()
        self.running.result()


@contextmanager
def sent(contents: Contents, content: Digests, heartbeat: Heartbeat | None = None) -> Iterator[Sender]:
    sender = Sender(contents, content, heartbeat)
    assert sender.began.wait(30)
    try:
        yield sender
    finally:
        sender.release.set()
        wait_until("it ends", lambda: sender.running.is_over)


def waiting(contents: Contents) -> int:
    return len(contents._changed._waiters)  # type: ignore[attr-defined]


@pytest.fixture
def contents() -> Contents:
    return Contents(Heartbeat(), lambda: False)


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        (ONE, ONE, True),
        (ONE, OTHER, False),
        (ONE, LONGER, False),
        (ONE, ONE_IN_OTHER_PARTS, True),
        (UNREAD, ONE, True),
        (ONE, UNREAD, True),
        (UNREAD, UNREAD, True),
        (UNREAD, LONGER, False),
        (BEGUN_LIKE_BOTH, ONE, True),
        (BEGUN_LIKE_BOTH, OTHER, True),
        (BEGUN_LIKE_ONE, OTHER, False),
        (BEGUN_OTHERWISE, ONE, False),
        (ONE, BEGUN_OTHERWISE, False),
    ],
)
def test_what_may_be_the_same_waits(contents: Contents, first: Digests, second: Digests, waits: bool) -> None:
    """A file that is not read to its end may be any of its size that begins in the same way."""
    with sent(contents, first), contents.alone(second) as is_alone:
        assert is_alone is not waits
    with contents.alone(first) as again:
        assert again


def test_what_waited_goes_on_once_the_other_file_turns_out_to_differ(contents: Contents) -> None:
    """It is read while it is sent: that it has the same size does not hold up the others for long."""
    parts: list[bytes] = []
    with sent(contents, content(b"", parts)):
        other = Sender(contents, ONE)
        wait_until("it waits", lambda: waiting(contents) == 1)
        parts.append(b"x")
        assert other.began.wait(30)
        other.leave()


def test_what_has_arrived_is_not_waited_for_any_more(contents: Contents) -> None:
    """Those who wait are asked again whether they are to send; as many as are not go on together."""
    with sent(contents, ONE) as first:
        others = [Sender(contents, ONE) for _ in range(3)]
        wait_until("all wait", lambda: waiting(contents) == 3)
        assert not any(other.began.is_set() for other in others)
        for other in others:
            other.is_to_send = False
        first.leave()
    wait_until("all go on", lambda: all(other.began.is_set() for other in others))
    for other in others:
        other.leave()


def test_after_a_failure_the_next_goes_on_and_the_others_wait_for_that(contents: Contents) -> None:
    """Each has its turn."""
    with sent(contents, ONE) as first:
        others = [Sender(contents, ONE) for _ in range(3)]
        wait_until("all wait", lambda: waiting(contents) == 3)
        first.error = OSError("it failed")
    left = list(others)
    while left:
        wait_until("one goes on", lambda: any(other.began.is_set() for other in left))
        wait_until("the others wait", lambda: waiting(contents) == len(left) - 1)
        (now,) = [other for other in left if other.began.is_set()]
        left.remove(now)
        now.leave()


def test_a_thread_that_waits_for_a_folder_which_does_not_answer_is_not_waited_for() -> None:
    """Its files may lie on a server that is gone, and those of the others elsewhere. When it goes on, the
    turn of the others is theirs.
    """
    heartbeats = Heartbeats()
    contents = Contents(Heartbeat(heartbeats), lambda: False)
    with sent(contents, ONE, Heartbeat(heartbeats)) as first:
        second = Sender(contents, ONE)
        wait_until("it waits", lambda: waiting(contents) == 1)
        heartbeats.give_up(0.0, -1e9)
        assert second.began.wait(30)
        first.leave()
        with contents.alone(ONE) as is_alone:
            assert not is_alone
        second.leave()


def test_a_thread_does_not_wait_for_itself(contents: Contents) -> None:
    """Nothing would end that. What it began first still holds up the others afterwards."""
    with sent(contents, OTHER), contents.alone(ONE):
        with contents.alone(ONE) as is_alone:
            assert is_alone
        other = Sender(contents, ONE)
        wait_until("it waits", lambda: waiting(contents) == 1)
        assert not other.began.is_set()
    assert other.began.wait(30)
    other.leave()


def test_a_stop_ends_the_waiting() -> None:
    """Within a second or so; nothing was sent."""
    stopping = threading.Event()
    contents = Contents(Heartbeat(), stopping.is_set)
    with sent(contents, ONE):
        other = Sender(contents, ONE)
        wait_until("it waits", lambda: waiting(contents) == 1)
        stopping.set()
        with pytest.raises(Stopped):
            other.running.result()
    assert not other.began.is_set()


def test_a_thread_that_waits_is_not_late() -> None:
    """It does nothing until the other thread is done, which has a heartbeat of its own."""
    heartbeats = Heartbeats()
    contents = Contents(Heartbeat(heartbeats), lambda: False)
    with sent(contents, ONE) as first:
        other = Sender(contents, ONE)
        wait_until("it waits", lambda: waiting(contents) == 1)
        assert heartbeats.late(1e12) == ()
        first.leave()
        assert other.began.wait(30)
    other.leave()
