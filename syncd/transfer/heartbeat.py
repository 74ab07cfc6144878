"""The deadlines by which threads have to make progress, so that the daemon notices one that is stuck.

A thread that works has a deadline and moves it with every step. A thread that waits for work, or for another
thread, has none, so that an idle daemon needs no timer to look alive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STUCK_SECONDS = 180.0
"""A thread that makes no step for so long counts as stuck, unless the service manager sets another limit."""


class Heartbeats:
    """The deadlines of all threads, by name. For any thread; times in monotonic seconds."""

    def __init__(
        self, limit_seconds: float = STUCK_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_seconds = limit_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._deadlines: dict[str, float] = {}

    def step(self, thread: str) -> None:
        """This thread made progress, and makes its next step within the limit."""
        by = self._monotonic() + self.limit_seconds
        with self._lock:
            self._deadlines[thread] = by

    def rest(self, thread: str) -> None:
        """This thread has nothing to do."""
        with self._lock:
            self._deadlines.pop(thread, None)

    def late(self, now: float) -> tuple[str, ...]:
        """The threads that should have moved before `now`, in the order of their deadlines."""
        with self._lock:
            late = [(by, thread) for thread, by in self._deadlines.items() if by < now]
        return tuple(thread for _, thread in sorted(late))


class _Named(threading.local):
    """The calling thread's name, looked up once a thread."""

    def __init__(self) -> None:
        self.name = threading.current_thread().name


_thread = _Named()


class Heartbeat:
    """The heartbeat of whichever thread calls. Without `heartbeats` nothing reads it."""

    def __init__(self, heartbeats: Heartbeats | None = None) -> None:
        self._heartbeats = heartbeats or Heartbeats()

    def step(self) -> None:
        """The calling thread made progress."""
        self._heartbeats.step(_thread.name)

    def rest(self) -> None:
        """The calling thread waits for work, or for a thread that has a heartbeat of its own."""
        self._heartbeats.rest(_thread.name)
