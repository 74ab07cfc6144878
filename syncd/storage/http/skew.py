"""How far the clock of a server is from ours."""

from __future__ import annotations

import threading
from email.utils import parsedate_to_datetime

TOLERANCE_SECONDS = 60.0
"""A signature is good for some minutes around the server's time, so a smaller difference does not count."""
_REMEMBERED = 3


class ClockSkew:
    """The difference between one server's clock and ours, learned from ``Date`` headers; for several threads.

    The server writes its time into every answer, to the second, somewhere between our sending and our
    receiving; only what lies outside of that by more than `TOLERANCE_SECONDS` counts. One odd header (a
    cache, a proxy with a clock of its own) must not spoil the signatures that follow, so the middle one of
    the last three decides, except after a refusal.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """To be added to our time; 0 while the clocks agree well enough."""
        self._lock = threading.Lock()
        self._last: list[float] = []
        self._parsed: tuple[str, float | None] = ("", None)

    def learn(self, date: str, sent_at: float, received_at: float, *, at_once: bool) -> bool:
        """A ``Date`` header of an answer to a request between two of our times, Unix seconds.

        With `at_once` (the request was refused) it counts by itself. True when the correction changed by more
        than the tolerance, so that what was refused for its time may now be accepted.
        """
        moment = self._parse(date)
        if moment is None:
            return False
        offset = _offset(moment, sent_at, received_at)
        with self._lock:
            self._last = [offset] * _REMEMBERED if at_once else [*self._last, offset][-_REMEMBERED:]
            if len(self._last) < _REMEMBERED and offset:
                return False
            before, self.seconds = self.seconds, sorted(self._last)[len(self._last) // 2]
            return abs(self.seconds - before) > TOLERANCE_SECONDS

    def between(self) -> tuple[float, float]:
        """The least and the most to be added to our time; equal once the difference is known."""
        with self._lock:
            if self.seconds or len(self._last) == _REMEMBERED:
                return self.seconds, self.seconds
            return min([0.0, *self._last]), max([0.0, *self._last])

    def _parse(self, date: str) -> float | None:
        known, moment = self._parsed
        if known != date:
            try:
                moment = parsedate_to_datetime(date).timestamp()
            except (ValueError, TypeError, OverflowError):
                moment = None
            self._parsed = (date, moment)
        return moment


def _offset(moment: float, sent_at: float, received_at: float) -> float:
    if moment < sent_at - TOLERANCE_SECONDS:
        return moment - sent_at
    if moment > received_at + TOLERANCE_SECONDS:
        return moment - received_at
    return 0.0
