"""Bytes sent so far of each file, and the number of requests; `sync` and `status` read them."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct, field

from syncd.core.backoff import UNLIMITED, LastHour, Limit, Pace, Rate, RateLimit, Timetable
from syncd.core.model import FileRef
from syncd.transfer.pace.heartbeat import Heartbeat

REQUEST_BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
"""Seconds."""
_OUTCOMES = {None: "none", 429: "throttled", 503: "throttled"}
_MINUTE_NS = 60 * 10**9
_STEP_SECONDS = 1.0
"""A changed limit reaches threads that wait for bandwidth after so long."""
_PIECE_SECONDS = 0.03
"""A body under a limit is counted in pieces that go out in so long. The threads take turns, so that a small
file does not wait for everything that large ones have counted before it."""
_LEAST_PIECE = 4 << 10


def minute_of_week(now_ns: int) -> int:
    """Return the time of the local clock in minutes since Monday 00:00."""
    time.tzset()  # the machine's time zone may have changed
    local = time.localtime(now_ns // 10**9)
    return (local.tm_wday * 24 + local.tm_hour) * 60 + local.tm_min


class Carrying(Struct):
    """The bytes of a file that is being sent."""

    total: int
    done: int
    rate: Rate = field(default_factory=Rate)


class Sending:
    """One body that a thread sends. It is counted while it goes out, until it is acknowledged or fails."""

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


class Durations:
    """How long things of one kind took: how many up to each bound, and the sum. Without a lock."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        """Seconds, ascending; what took longer than the last one is counted, too."""
        self.counts = [0] * (len(bounds) + 1)
        self.sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_seconds += seconds


class Line:
    """The line of this machine in one direction: its present limit, and how fast it proved to be.

    For any thread. The limit comes from the configured timetable, or from the one that the operator set for a
    time.
    """

    def __init__(
        self,
        timetable: Timetable = UNLIMITED,
        monotonic: Callable[[], float] = time.monotonic,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.monotonic = monotonic
        self._now_ns = now_ns
        self._configured = timetable
        self._operators: tuple[Timetable, float] | None = None
        self._seen: tuple[int, Timetable] | None = None
        """The minute of the wall clock and the timetable for which `_holds` is true."""
        self._holds = Limit(0)
        self._bucket = RateLimit()
        self._pace = Pace()
        self._moved = 0
        self._last_hour = LastHour()
        self._lock = threading.Lock()

    def configure(self, timetable: Timetable) -> None:
        """Set the limit to use unless the operator set another."""
        with self._lock:
            self._configured = timetable

    def limit(self, timetable: Timetable | None, until: float) -> None:
        """Set the operator's limit until that time (monotonic, perhaps infinite); None: end it."""
        with self._lock:
            self._operators = None if timetable is None else (timetable, until)

    @property
    def operators_until(self) -> float | None:
        """Return until when the operator's limit holds (monotonic, perhaps infinite); None: there is none."""
        with self._lock:
            self._look()
            return self._operators[1] if self._operators else None

    def holds(self) -> Limit:
        """Return the present limit."""
        with self._lock:
            self._look()
            return self._holds

    def reserve(self, size: int) -> tuple[float, float]:
        """Count `size` bytes as sent; return the ticket for `wait`, and what that would return now."""
        with self._lock:
            self._look()
            self._moved += size
            now = self.monotonic()
            self._last_hour.add(size, now)
            ticket = self._bucket.reserve(size, now)
            return ticket, self._bucket.wait(ticket, now) if self._holds.rate else 0.0

    def by_minute(self) -> list[int]:
        """Return the bytes that moved in each minute of the last hour, the oldest first."""
        with self._lock:
            return self._last_hour.minutes(self.monotonic())

    def wait(self, ticket: float) -> float:
        """Return the seconds to wait, as things are now, before or after sending what the ticket is for."""
        with self._lock:
            self._look()
            return self._bucket.wait(ticket, self.monotonic())

    def _look(self) -> None:
        """Follow a limit that begins or ends now. The caller holds the lock."""
        if self._operators and self.monotonic() >= self._operators[1]:
            self._operators = None
        timetable = self._operators[0] if self._operators else self._configured
        seen = self._now_ns() // _MINUTE_NS, timetable
        if seen != self._seen:
            self._seen, self._holds = seen, timetable.at(minute_of_week(self._now_ns()))
            self._bucket.change(self._holds.rate, self.monotonic())

    # ---- see `syncd.transfer.pace.slots.Pacer` -----------------------------------------------------------

    def bytes_under_way(self) -> float:
        """Return how many bytes may be under way at once."""
        with self._lock:
            self._look()
            return self._pace.bytes_under_way(self._bucket.rate)

    def look(self) -> tuple[float, int]:
        """Return the time, and how many bytes the line has carried."""
        with self._lock:
            return self.monotonic(), self._moved

    def carried(self, size: int, since: tuple[float, int]) -> None:
        """Note that a body of `size` bytes arrived that was begun at `since`."""
        with self._lock:
            self._pace.carried(size, self._moved - since[1], self.monotonic() - since[0])


class Progress:
    """Counts bytes as they are sent or received, and slows them down to the bandwidth limit of their line.

    The transport calls `moved` in the thread that sends, `received` in the one that receives.
    """

    def __init__(
        self,
        line: Line,
        *,
        sleep: Callable[[float], None],
        heartbeat: Heartbeat | None = None,
        is_held: Callable[[FileRef], bool] = lambda ref: False,
        asks: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_held = is_held
        self._asks = asks
        self.heartbeat = heartbeat or Heartbeat()
        self.requests = 0
        self._taken = 0
        self.line = line
        self._sleep = sleep
        self._carrying: dict[FileRef, Carrying] = {}
        self._sending: dict[int, Sending] = {}
        self._rate = Rate()
        self._lock = threading.Lock()
        self.answers: Counter[tuple[str, str]] = Counter()
        """Requests by operation and outcome: the class of the status, ``throttled``, ``none`` (no answer)."""
        self.durations: dict[str, Durations] = {}
        """Operation -> durations of its requests."""

    # ---- the meter of syncd.transfer --------------------------------------------------------------------

    def began(self, ref: FileRef, total: int, done: int) -> None:
        """Note that the transfer of a file of `total` bytes starts; the store already has `done` of them."""
        with self._lock:
            self._carrying[ref] = Carrying(total, done)

    def sending(self, ref: FileRef, size: int) -> Sending:
        """Return a context in which this thread sends a body of `size` bytes of the file."""
        return Sending(self._sending, ref, size)

    def carried(self, ref: FileRef, size: int) -> None:
        """Note that the store acknowledged `size` more bytes of the file."""
        with self._lock:
            entry = self._carrying.get(ref)
            if entry is not None:
                entry.done += size

    def ended(self, ref: FileRef) -> None:
        """Note that the transfer of the file ended, successfully or not."""
        with self._lock:
            self._carrying.pop(ref, None)

    # ---- the hooks of the transport ---------------------------------------------------------------------

    def moved(self, size: int) -> None:
        """Count `size` sent bytes of a body; wait if that was too fast. Raises Stopped from `sleep`."""
        for piece in self._pieces(size):
            self.heartbeat.sent(piece)
            self._keep_to(piece)
            self._count(piece)
        self.heartbeat.step()

    def _pieces(self, size: int) -> Iterator[int]:
        while size > 0:
            rate = self.line.holds().rate
            piece = min(size, max(_LEAST_PIECE, int(rate * _PIECE_SECONDS))) if rate else size
            yield piece
            size -= piece

    def _keep_to(self, size: int) -> None:
        """Wait until the line has carried `size` more bytes, in steps, because the limit may change."""
        ticket, seconds = self.line.reserve(size)
        while seconds > 0:
            self.heartbeat.rest()
            self._sleep(min(seconds, _STEP_SECONDS))
            seconds = self.line.wait(ticket)

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

    def received(self, size: int) -> None:
        """Count `size` bytes of an answer as received; wait if too fast. Raises Stopped from `sleep`."""
        for piece in self._pieces(size):
            self._keep_to(piece)
            self._count(piece)

    def requested(self) -> None:
        """Count a request that is sent."""
        with self._lock:
            self.requests += 1
        self._asks()

    def answered(self, operation: str, status: int | None, seconds: float) -> None:
        """Count a request that was answered, or failed without an answer."""
        with self._lock:
            self.answers[operation, _OUTCOMES.get(status) or f"{(status or 0) // 100}xx"] += 1
            if operation not in self.durations:
                self.durations[operation] = Durations(REQUEST_BOUNDS)
            self.durations[operation].add(seconds)

    def take_requests(self) -> int:
        """Return how many requests were sent since the last call."""
        with self._lock:
            new = self.requests - self._taken
            self._taken = self.requests
            return new

    # ---- readers ----------------------------------------------------------------------------------------

    def in_flight(self) -> list[tuple[FileRef, int, int]]:
        """Return each file that is being sent, with the bytes done and the bytes in all."""
        with self._lock:
            moving: dict[FileRef, int] = {}
            for each in list(self._sending.values()):
                moving[each.ref] = moving.get(each.ref, 0) + each.sent
            return [
                (ref, min(entry.total, entry.done + moving.get(ref, 0)), entry.total)
                for ref, entry in self._carrying.items()
            ]

    def rates(self) -> dict[FileRef, float]:
        """Return the bytes per second of each file that is being sent, if known."""
        with self._lock:
            now = self.line.monotonic()
            rates = ((ref, entry.rate.per_second(now)) for ref, entry in self._carrying.items())
            return {ref: rate for ref, rate in rates if rate is not None}

    def rate(self) -> float | None:
        """Return the bytes per second of everything that is sent; None: unknown."""
        with self._lock:
            return self._rate.per_second(self.line.monotonic())
