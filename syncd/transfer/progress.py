"""Bytes sent so far of each file, and the number of requests; `sync` and `status` read them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from syncd.core.backoff import RateLimit
from syncd.core.model import FileRef
from syncd.transfer.heartbeat import Heartbeat


@dataclass(slots=True)
class Carrying:
    """The bytes of a file that is being sent."""

    total: int
    done: int


class Progress:
    """Counts bytes as they are sent, and slows them down to the bandwidth limit.

    The transport calls `moved` in the thread that sends.
    """

    def __init__(
        self,
        bandwidth_limit: int,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        heartbeat: Heartbeat | None = None,
        is_held: Callable[[FileRef], bool] = lambda ref: False,
    ) -> None:
        self.is_held = is_held
        self.heartbeat = heartbeat or Heartbeat()
        self.requests = 0
        self._taken = 0
        self._limit = RateLimit(bandwidth_limit)
        self._limited = bandwidth_limit > 0
        self._limited_until = -inf
        self._configured = self._limit
        self._monotonic = monotonic
        self._sleep = sleep
        self._carrying: dict[FileRef, Carrying] = {}
        self._lock = threading.Lock()

    # ---- the meter of syncd.transfer --------------------------------------------------------------------

    def began(self, ref: FileRef, total: int, done: int) -> None:
        """The transfer of a file of `total` bytes starts; `done` of them are in the store already."""
        with self._lock:
            self._carrying[ref] = Carrying(total, done)

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

    def limit(self, bytes_per_second: int, until: float) -> None:
        """Until that time (monotonic, perhaps infinite) this limit holds instead of the configured one."""
        with self._lock:
            self._limit, self._limited_until = RateLimit(bytes_per_second), until
            self._limited = True

    # ---- the hooks of the transport ---------------------------------------------------------------------

    def moved(self, size: int) -> None:
        """`size` bytes of a body were sent; waits if that was too fast. Raises Stopped from `sleep`."""
        seconds = 0.0
        if self._limited:
            with self._lock:
                now = self._monotonic()
                if now >= self._limited_until:
                    self._limit = self._configured
                seconds = self._limit.reserve(size, now)
        if seconds > 0:
            self.heartbeat.rest()
            self._sleep(seconds)
        self.heartbeat.step()

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
            return [(ref, entry.done, entry.total) for ref, entry in self._carrying.items()]
