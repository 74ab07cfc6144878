"""Bytes sent so far of each file, and the number of requests; `sync` and `status` read them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from syncd.core.backoff import Pace, Rate, RateLimit
from syncd.core.model import FileRef
from syncd.transfer.heartbeat import Heartbeat


@dataclass(slots=True)
class Carrying:
    """The bytes of a file that is being sent."""

    total: int
    done: int
    rate: Rate = field(default_factory=Rate)


class Sending:
    """One body that a thread sends: counted while it goes out, until it is acknowledged or fails."""

    __slots__ = ("_sending", "ref", "sent", "size")

    def __init__(self, sending: dict[int, Sending], ref: FileRef, size: int) -> None:
        self._sending = sending
        self.ref = ref
        self.size = size
        self.sent = 0

    def __enter__(self) -> None:
        self._sending[threading.get_ident()] = self

    def __exit__(self, *_: object) -> None:
        self._sending.pop(threading.get_ident(), None)


class Line:
    """The line of this machine: its bandwidth limit, and how fast it proved to be. For any thread."""

    def __init__(self, bandwidth_limit: int = 0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self._configured = self._limit = RateLimit(bandwidth_limit)
        self._until = inf
        self._pace = Pace()
        self._moved = 0
        self._lock = threading.Lock()

    def limit(self, bytes_per_second: int, until: float) -> None:
        """Until that time (monotonic, perhaps infinite) this limit holds instead of the configured one."""
        with self._lock:
            self._limit, self._until = RateLimit(bytes_per_second), until

    def reserve(self, size: int) -> float:
        """Seconds to wait before or after sending `size` bytes, which count as sent."""
        with self._lock:
            self._moved += size
            return self._holding().reserve(size, self.monotonic())

    def _holding(self) -> RateLimit:
        if self._until < inf and self.monotonic() >= self._until:
            self._limit, self._until = self._configured, inf
        return self._limit

    # ---- see `syncd.transfer.slots.Pacer` ---------------------------------------------------------------

    def bytes_under_way(self) -> float:
        """How many bytes may be under way at once."""
        with self._lock:
            return self._pace.bytes_under_way(self._holding().rate)

    def look(self) -> tuple[float, int]:
        """The time, and how many bytes the line has carried."""
        with self._lock:
            return self.monotonic(), self._moved

    def carried(self, size: int, since: tuple[float, int]) -> None:
        """A body of `size` bytes that was begun at `since` arrived."""
        with self._lock:
            self._pace.carried(size, self._moved - since[1], self.monotonic() - since[0])


class Progress:
    """Counts bytes as they are sent, and slows them down to the bandwidth limit of their line.

    The transport calls `moved` in the thread that sends.
    """

    def __init__(
        self,
        bandwidth_limit: int,
        *,
        line: Line | None = None,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        heartbeat: Heartbeat | None = None,
        is_held: Callable[[FileRef], bool] = lambda ref: False,
    ) -> None:
        self.is_held = is_held
        self.heartbeat = heartbeat or Heartbeat()
        self.requests = 0
        self._taken = 0
        self.line = line or Line(bandwidth_limit, monotonic)
        self._sleep = sleep
        self._carrying: dict[FileRef, Carrying] = {}
        self._sending: dict[int, Sending] = {}
        self._rate = Rate()
        self._lock = threading.Lock()

    # ---- the meter of syncd.transfer --------------------------------------------------------------------

    def began(self, ref: FileRef, total: int, done: int) -> None:
        """The transfer of a file of `total` bytes starts; `done` of them are in the store already."""
        with self._lock:
            self._carrying[ref] = Carrying(total, done)

    def sending(self, ref: FileRef, size: int) -> Sending:
        """While its context lasts, this thread sends a body of `size` bytes of the file."""
        return Sending(self._sending, ref, size)

    def carried(self, ref: FileRef, size: int) -> None:
        """The store acknowledged `size` more bytes of the file."""
        with self._lock:
            entry = self._carrying.get(ref)
            if entry is not None:
                entry.done += size

    def ended(self, ref: FileRef) -> None:
        """The transfer of the file ended, successfully or not."""
        with self._lock:
            self._carrying.pop(ref, None)

    # ---- the hooks of the transport ---------------------------------------------------------------------

    def moved(self, size: int) -> None:
        """`size` bytes of a body were sent; waits if that was too fast. Raises Stopped from `sleep`."""
        self.heartbeat.sent(size)
        seconds = self.line.reserve(size)
        if seconds > 0:
            self.heartbeat.rest()
            self._sleep(seconds)
        self._count(size)
        self.heartbeat.step()

    def _count(self, size: int) -> None:
        sending = self._sending.get(threading.get_ident())
        with self._lock:
            now = self.line.monotonic()
            self._rate.add(size, now)
            if sending is None:
                return
            again = sending.sent >= sending.size  # the request is repeated
            sending.sent = min(sending.size, size if again else sending.sent + size)
            if (entry := self._carrying.get(sending.ref)) is not None:
                entry.rate.add(size, now)

    def requested(self) -> None:
        """One request was sent."""
        with self._lock:
            self.requests += 1

    def take_requests(self) -> int:
        """How many requests were sent since the last call."""
        with self._lock:
            new = self.requests - self._taken
            self._taken = self.requests
            return new

    # ---- readers ----------------------------------------------------------------------------------------

    def in_flight(self) -> list[tuple[FileRef, int, int]]:
        """Each file that is being sent, with its bytes done and its total."""
        with self._lock:
            moving: dict[FileRef, int] = {}
            for each in list(self._sending.values()):
                moving[each.ref] = moving.get(each.ref, 0) + each.sent
            return [
                (ref, min(entry.total, entry.done + moving.get(ref, 0)), entry.total)
                for ref, entry in self._carrying.items()
            ]

    def rates(self) -> dict[FileRef, float]:
        """Bytes per second of each file that is being sent, where that can be told."""
        with self._lock:
            now = self.line.monotonic()
            rates = ((ref, entry.rate.per_second(now)) for ref, entry in self._carrying.items())
            return {ref: rate for ref, rate in rates if rate is not None}

    def rate(self) -> float | None:
        """Bytes per second of everything that is sent; None while that cannot be told."""
        with self._lock:
            return self._rate.per_second(self.line.monotonic())
