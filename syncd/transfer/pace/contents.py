"""Which contents are being sent. If several new files have the same content, one is sent at a time: when it
has arrived, the store can copy its object for the others, without sending a byte.

This is only for files that take more than one request: a smaller one is sent as fast as it is copied.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from syncd.core.errors import Stopped
from syncd.sources.fingerprint import Digests
from syncd.transfer.pace.heartbeat import Heartbeat

_WAIT_SECONDS = 1.0
"""How often a waiting thread checks whether to stop, and whether the other thread can go on."""


class Contents:
    """For all threads that send to one store. They hold no key and no slot while they wait."""

    def __init__(self, heartbeat: Heartbeat, should_stop: Callable[[], bool]) -> None:
        self._heartbeat = heartbeat
        self._should_stop = should_stop
        self._senders: list[tuple[int, Digests]] = []
        """By thread; in the simulation, one thread runs a step within another's step."""
        self._changed = threading.Condition()

    @contextmanager
    def alone(self, content: Digests) -> Iterator[bool]:
        """Yield whether no other thread sends this content; then none begins to until the end.

        A file that is sent while it is read shows in `parts` what is known of it so far.
        """
        mine = threading.get_ident(), content
        with self._changed:
            is_alone = not self._is_sent(content)
            if is_alone:
                self._senders.append(mine)
        try:
            yield is_alone
        finally:
            if is_alone:
                with self._changed:
                    self._senders = [each for each in self._senders if each is not mine]
                    self._changed.notify_all()

    @contextmanager
    def in_turn(self, content: Digests, is_to_send: Callable[[], bool]) -> Iterator[None]:
        """Surround the sending of a content: wait while it `is_to_send` and another thread sends it.

        If that fails, the next one goes on at once. Raises Stopped, and what `is_to_send` raises.
        """
        while is_to_send():
            with self.alone(content) as is_alone:
                if is_alone:
                    yield
                    return
            self._wait(content)
            if self._should_stop():
                raise Stopped("stopped while another file of the same content was sent")
        yield

    def _wait(self, content: Digests) -> None:
        self._heartbeat.rest()  # the other thread has its own heartbeat
        with self._changed:
            if self._is_sent(content):
                self._changed.wait(_WAIT_SECONDS)
        self._heartbeat.step()

    def _is_sent(self, content: Digests) -> bool:
        """Return whether another thread sends it, and does not wait for a silent folder."""
        return any(
            thread != threading.get_ident()
            and _may_be_same(content, other)
            and not self._heartbeat.is_given_up(thread)
            for thread, other in self._senders
        )


def _may_be_same(one: Digests, other: Digests) -> bool:
    """Return whether the files have the same content, as far as both were read."""
    if one.fingerprint.digest and other.fingerprint.digest:
        return one.fingerprint == other.fingerprint
    both = zip(one.parts, other.parts, strict=False)
    return one.fingerprint.size == other.fingerprint.size and all(mine == its for mine, its in both)
