"""How long one request may take: judged by bytes that move, not by the clock of a single call.

A timeout of the socket cannot do it. Each byte resets it, so a peer that sends one byte a second holds a
request without end. Nor can a whole request's deadline, because a slow line is not a dead one.
So: at least `LEAST_BYTES` have to move in every window of ``progress_seconds``, or of ``read_seconds`` while
we wait for the answer. Its whole head has to come within ``read_seconds``, and the rest of one that is not
content within `SLOW_ANSWER_SECONDS`. A request whose answer is known to be slow (complete, copy) may take as
long for all of it, whatever does or does not drip until then.

Code that blocks on the network does so in slices and asks here in between, also whether to stop. A
request under way gets `GRACE_SECONDS` to end by itself: most do, and an answer in hand is worth having.
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
"""That have to move in one window: less than this is not a slow line but a peer that plays for time."""
SLICE_SECONDS = 0.5
"""The longest that anything blocks without asking."""
ASK_SECONDS = 0.1
"""How often it is asked at most whether to stop: each byte or piece may be a reason to look."""
GRACE_SECONDS = 1.0
SLOW_ANSWER_SECONDS = 900.0


class Stalled(TimeoutError):
    """The request failed because nothing, or next to nothing, moved."""


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
        """How long to block at most until the next question."""
        self.start(slow_answer=False, fetches=False)

    def start(self, *, slow_answer: bool, fetches: bool) -> None:
        """A request begins. With `fetches` the answer is content: as much as the line carries in its time."""
        self._slow_answer = slow_answer
        self._fetches = fetches
        self._answering = self._has_head = False
        self._silence_seconds = self._window_seconds = self._http.progress_seconds
        self._allow(math.inf)
        self._asks_at = self._last_byte + ASK_SECONDS

    def answer(self) -> None:
        """The request is sent, and the wait for its answer begins. Only the first call counts."""
        if self._answering:
            return
        self._answering = True
        self._silence_seconds = self._http.read_seconds
        self._window_seconds = min(self._http.read_seconds, self._http.progress_seconds)
        self._allow(SLOW_ANSWER_SECONDS if self._slow_answer else self._http.read_seconds)

    def has_head(self) -> None:
        """The whole head of the answer has come. Only the first call counts."""
        if self._has_head or self._slow_answer:
            return
        self._has_head = True
        self._allow(math.inf if self._fetches else SLOW_ANSWER_SECONDS)

    def _allow(self, seconds: float) -> None:
        """What begins now may take so long, and its first window begins."""
        self._last_byte = self._window_began = now = self._clock()
        self._in_window = 0
        self._allowed_seconds, self._deadline = seconds, now + seconds

    def moved(self, size: int) -> None:
        """`size` bytes were sent or received. Raises StalledError when they are too few."""
        self._last_byte = now = self._clock()
        self._in_window += size
        if self._in_window >= LEAST_BYTES:
            self._window_began = now
            self._in_window = 0
        else:
            self._judge(now)

    def pausing(self, pause: Callable[[int], object], size: int) -> float:
        """Let `pause(size)` wait: a silence of our own counts for no time limit. Returns its seconds."""
        began = self._clock()
        pause(size)
        paused = self._clock() - began
        self._last_byte += paused
        self._window_began += paused
        self._deadline += paused
        return paused

    def ask(self) -> None:
        """Between two slices of waiting. Raises StalledError, and Stopped when we are to stop."""
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
        """Block for one slice, or until `poll` finds something. Until then `awaited` has the descriptor."""
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
