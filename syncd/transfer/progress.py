"""What is under way: bytes of each file and of all requests; read by `sync` and `status`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from syncd.core.backoff import RateLimit
from syncd.core.model import FileRef


class Pulse(Protocol):
    """Which working part must show progress by when (`syncd.daemon.systemd.Pulse`)."""

    def expect(self, part: str, by: float) -> None: ...

    def rest(self, part: str) -> None: ...


class NoPulse:
    """For when nobody watches."""

    def expect(self, part: str, by: float) -> None:
        """Nobody expects anything."""

    def rest(self, part: str) -> None:
        """Nobody minds."""


class _Named(threading.local):
    """The calling thread's name, looked up once a thread."""

    def __init__(self) -> None:
        self.name = threading.current_thread().name


_thread = _Named()


class Beats:
    """The calling thread's pulse: it works, and will move again within the limit; or it waits for work."""

    def __init__(self, pulse: Pulse, limit_seconds: float, monotonic: Callable[[], float]) -> None:
        self._pulse = pulse
        self._limit_seconds = limit_seconds
        self._monotonic = monotonic

    def step(self) -> None:
        """The calling thread made progress."""
        self._pulse.expect(_thread.name, self._monotonic() + self._limit_seconds)

    def rest(self) -> None:
        """The calling thread waits for somebody else, who has a pulse of his own, or has nothing to do."""
        self._pulse.rest(_thread.name)


@dataclass(slots=True)
class Carrying:
    """One file that is being carried, in bytes."""

    total: int
    done: int


class Progress:
    """Counts bytes as they go, and holds them back where a bandwidth limit is set.

    The transport calls `moved` in the thread that sends.
    """

    def __init__(
        self,
        bandwidth_limit: int,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        beats: Beats | None = None,
    ) -> None:
        self.beats = beats or Beats(NoPulse(), 0.0, monotonic)
        self.requests = 0
        self._taken = 0
        self._limit = RateLimit(bandwidth_limit)
        self._limited = bandwidth_limit > 0
        self._monotonic = monotonic
        self._sleep = sleep
        self._carrying: dict[FileRef, Carrying] = {}
        self._lock = threading.Lock()

    # ---- the meter of syncd.transfer --------------------------------------------------------------------

    def began(self, ref: FileRef, total: int, done: int) -> None:
        """A file of `total` bytes is being carried; `done` of them are in the store already."""
        with self._lock:
            self._carrying[ref] = Carrying(total, done)

    def carried(self, ref: FileRef, size: int) -> None:
        """`size` more bytes of it are acknowledged."""
        with self._lock:
            entry = self._carrying.get(ref)
            if entry is not None:
                entry.done += size

    def ended(self, ref: FileRef) -> None:
        """It is carried, or was given up for now."""
        with self._lock:
            self._carrying.pop(ref, None)

    # ---- the hooks of the transport ---------------------------------------------------------------------

    def moved(self, size: int) -> None:
        """`size` bytes of a body went out; waits here when that was too fast. Raises Stopped from `sleep`."""
        seconds = 0.0
        if self._limited:
            with self._lock:
                seconds = self._limit.reserve(size, self._monotonic())
        if seconds > 0:
            self.beats.rest()
            self._sleep(seconds)
        self.beats.step()

    def requested(self) -> None:
        """One request was sent."""
        with self._lock:
            self.requests += 1

    def take_requests(self) -> int:
        """How many requests were sent since this was last asked."""
        with self._lock:
            new = self.requests - self._taken
            self._taken = self.requests
            return new

    # ---- readers ----------------------------------------------------------------------------------------

    def in_flight(self) -> list[tuple[FileRef, int, int]]:
        """Each file that is being carried, with bytes done and bytes in all."""
        with self._lock:
            return [(ref, entry.done, entry.total) for ref, entry in self._carrying.items()]
