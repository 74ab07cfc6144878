"""A clock that moves when told: what a test passes wherever the product takes the time as an argument."""

from __future__ import annotations

import threading


class FakeClock:
    """Wall clock and monotonic clock, both standing still until the test moves them.

    >>> clock = FakeClock()
    >>> clock.sleep(2.5)
    >>> clock.monotonic(), clock.slept
    (2.5, [2.5])
    """

    def __init__(self, wall: float = 1_700_000_000.0, monotonic: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._wall_ns = round(wall * 1e9)
        self._monotonic_ns = round(monotonic * 1e9)
        self.slept: list[float] = []
        """Every `sleep`, in seconds, in order."""

    def now(self) -> float:
        """Wall clock, Unix seconds."""
        return self._wall_ns / 1e9

    def now_ns(self) -> int:
        """Wall clock, Unix nanoseconds."""
        return self._wall_ns

    def monotonic(self) -> float:
        """Monotonic clock, seconds."""
        return self._monotonic_ns / 1e9

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        if seconds < 0:
            raise ValueError("time passes forwards; use jump() for a wall clock that is set back")
        with self._lock:
            self._wall_ns += round(seconds * 1e9)
            self._monotonic_ns += round(seconds * 1e9)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or back, as an operator or NTP would; the monotonic clock stays."""
        with self._lock:
            self._wall_ns += round(seconds * 1e9)

    def sleep(self, seconds: float) -> None:
        """What to pass as ``sleep``: time passes at once, and the wish is noted in `slept`."""
        self.advance(seconds)
        with self._lock:
            self.slept.append(seconds)
