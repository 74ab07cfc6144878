"""How long one request may take, judged by bytes that move, not by the time of a single call.

A socket's timeout is not enough: each byte resets it, so a peer that sends one byte a second holds a request
without end. Nor is a deadline for the whole request, because a slow line is not dead. So at least
`LEAST_BYTES` must move in every window of ``progress_seconds``, or of ``read_seconds`` while we wait for the
answer. Its whole head must come within ``read_seconds``, and the rest, if it is not content, within
`SLOW_ANSWER_SECONDS`. An answer that is known to be slow (complete, copy) may take as long in all, whether or
not bytes move.

Code that blocks on the network does so in slices, and checks here in between, also whether to stop. A request
under way then gets `GRACE_SECONDS` to end: most do, and their answer is worth the wait.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable

from syncd.core.errors import Stopped
from syncd.storage.settings import HttpSettings

LEAST_BYTES = 1024
"""Bytes that must move in one window: fewer mean a peer that stalls, not a slow line."""
SLICE_SECONDS = 0.5
"""The longest block without a check."""
ASK_SECONDS = 0.1
"""The least time between two checks whether to stop: each byte may cause one."""
GRACE_SECONDS = 1.0
SLOW_ANSWER_SECONDS = 900.0


class Stalled(TimeoutError):
    """The request failed because next to nothing moved."""


class Deadline:
    """The deadline of one request at a time, for one thread."""

    def __init__(
        self,
        http: HttpSettings,
        should_stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        awaited: dict[int, int] | None = None,
    ) -> None:
        self._http = http
        self._should_stop = should_stop
        self._clock = clock
        self._awaited = {} if awaited is None else awaited
        self._stop_seen: float | None = None
        shortest = min(http.read_seconds, http.progress_seconds, 4 * SLICE_SECONDS)
        self.slice_seconds = max(0.01, shortest / 4)
        """How long to block at most until the next check."""
        self.start(slow_answer=False, fetches=False)

    def start(self, *, slow_answer: bool, fetches: bool) -> None:
        """Begin a request. With `fetches` the answer is content, which takes as long as the line needs."""
        self._slow_answer = slow_answer
        self._fetches = fetches
        self._answering = self._has_head = False
        self._silence_seconds = self._window_seconds = self._http.progress_seconds
        self._allow(math.inf)
        self._asks_at = self._last_byte + ASK_SECONDS

    def answer(self) -> None:
        """Begin to wait for the answer: the request is sent. Only the first call counts."""
        if self._answering:
            return
        self._answering = True
        self._silence_seconds = self._http.read_seconds
        self._window_seconds = min(self._http.read_seconds, self._http.progress_seconds)
        self._allow(SLOW_ANSWER_SECONDS if self._slow_answer else self._http.read_seconds)

    def has_head(self) -> None:
        """Note that the whole head of the answer came. Only the first call counts."""
        if self._has_head or self._slow_answer:
            return
        self._has_head = True
        self._allow(math.inf if self._fetches else SLOW_ANSWER_SECONDS)

    def _allow(self, seconds: float) -> None:
        """Allow what begins now so many seconds, and begin its first window."""
        self._last_byte = self._window_began = now = self._clock()
        self._in_window = 0
        self._allowed_seconds, self._deadline = seconds, now + seconds

    def moved(self, size: int) -> None:
        """Count `size` bytes sent or received. Raises Stalled if they are too few."""
        self._last_byte = now = self._clock()
        self._in_window += size
        if self._in_window >= LEAST_BYTES:
            self._window_began = now
            self._in_window = 0
        else:
            self._judge(now)

    def pausing(self, pause: Callable[[int], object], size: int) -> float:
        """Call `pause(size)`, which may wait, and return its seconds; they count for no limit."""
        began = self._clock()
        pause(size)
        paused = self._clock() - began
        self._last_byte += paused
        self._window_began += paused
        self._deadline += paused
        return paused

    def ask(self) -> None:
        """Check between two slices. Raises Stalled, and Stopped if we are to stop."""
        now = self._clock()
        if now >= self._asks_at:
            self._asks_at = now + ASK_SECONDS
            self._heed_stop(now)
        self._judge(now)

    def _heed_stop(self, now: float) -> None:
        if self._should_stop():
            if self._stop_seen is None:
                self._stop_seen = now
            elif now - self._stop_seen >= GRACE_SECONDS:
                raise Stopped("stopped in the middle of a request")

    def wait(self, poll: select.poll, descriptor: int) -> list[tuple[int, int]]:
        """Block for one slice, or until `poll` finds something; `awaited` shows the descriptor."""
        thread = threading.get_ident()
        self._awaited[thread] = descriptor
        try:
            return poll.poll(self.slice_seconds * 1000)
        finally:
            del self._awaited[thread]

    def _judge(self, now: float) -> None:
        if not (self._slow_answer and self._answering):
            if now - self._last_byte >= self._silence_seconds:
                raise Stalled(f"no byte moved for {self._silence_seconds:g} s")
            if now - self._window_began >= self._window_seconds:
                raise Stalled(f"only {self._in_window} bytes moved in {self._window_seconds:g} s")
        if now >= self._deadline:
            raise Stalled(f"no whole answer in {self._allowed_seconds:.0f} s")
