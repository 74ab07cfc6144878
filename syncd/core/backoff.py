"""How long to wait: between tries, for a store that is down, and for bandwidth.

Nothing here sleeps, reads a clock or draws random numbers. Time (seconds of a monotonic clock) and chance (a
number from 0 up to 1) are arguments; the answers are seconds. No lock inside: the owner holds one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Hashable, Iterable
from math import exp

from msgspec import Struct

BURST_SECONDS = 0.25
"""How much unused bandwidth may be caught up: callers are never on time to the microsecond."""


class Schedule(Struct, frozen=True):
    """Exponential growth with a ceiling: ``base * factor ** (attempt - 1)`` seconds, at most ``cap``."""

    base_seconds: float = 0.5
    cap_seconds: float = 60.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if self.base_seconds < 0 or self.cap_seconds < 0 or self.factor < 1:
            raise ValueError(f"not a schedule that grows: {self}")


def ceiling(attempt: int, schedule: Schedule) -> float:
    """The longest wait in seconds after failed attempt number `attempt`, which counts from 1."""
    if attempt < 1:
        raise ValueError(f"attempts count from 1: {attempt}")
    try:
        grown = schedule.base_seconds * schedule.factor ** (attempt - 1)
    except OverflowError:
        grown = schedule.cap_seconds
    return min(schedule.cap_seconds, grown)


def delay(attempt: int, chance: float, schedule: Schedule) -> float:
    """Seconds to wait after failed attempt number `attempt`: full jitter, `chance` times the ceiling.

    Full jitter spreads many clients that failed at the same moment evenly over the whole interval.
    """
    if not 0.0 <= chance <= 1.0:
        raise ValueError(f"chance is between 0 and 1: {chance}")
    return chance * ceiling(attempt, schedule)


_MORE_THINGS, _MOST_THINGS = 8, 4096


class Breaker:
    """A store's circuit breaker: one broken store costs one request now and then, not one per file.

    Closed: everything is allowed. When `threshold` different things have failed in the same way and nothing
    has succeeded in between, or at once after `trip`, it is open and allows nothing until `until`. Then it is
    half open and allows one probe: success closes it, failure opens it for longer. A probe whose outcome is
    never reported (its worker stopped, its file vanished) is given up after `probe_seconds`, so that nothing
    can block a store for good.

    Where the store answered while things failed, and a probe succeeds, the fault may be theirs: then it takes
    eight times as many to open it again, up to `_MOST_THINGS`, until the store does not answer.
    """

    __slots__ = (
        "_enough", "_failed", "_openings", "_probe_seconds", "_probing", "_schedule",
        "_threshold", "_until", "blames_things",
    )  # fmt: skip

    def __init__(
        self, schedule: Schedule | None = None, *, threshold: int = 5, probe_seconds: float = 60.0
    ) -> None:
        self._schedule = schedule if schedule is not None else Schedule()
        self._threshold = self._enough = threshold
        self.blames_things = False
        """It was opened by different things, for what may be their fault."""
        self._probe_seconds = probe_seconds
        self._failed: dict[str, set[Hashable]] = {}
        self._openings = 0
        self._probing = False
        self._until: float | None = None

    def __repr__(self) -> str:
        state = "closed" if self._until is None else "probing" if self._probing else "open"
        return f"<Breaker {state}, failures={self.failures}, until={self._until}>"

    @property
    def until(self) -> float | None:
        """Return when the next probe is allowed (monotonic seconds); None: it is closed."""
        return self._until

    @property
    def failures(self) -> int:
        """Return how many different things have failed in the same way since one succeeded."""
        return max(map(len, self._failed.values()), default=0)

    def allows(self, now: float) -> bool:
        """Return whether a request may be sent now. While it is open, True makes the caller the probe."""
        if self._until is None:
            return True
        if now < self._until:
            return False
        self._probing = True
        self._until = now + self._probe_seconds
        return True

    def success(self) -> bool:
        """Note a success; return whether it closed the breaker, because the store has recovered."""
        was_open = self._until is not None
        if was_open and self.blames_things:
            self._enough = min(_MOST_THINGS, _MORE_THINGS * self._enough)
        self.blames_things = False
        self._failed.clear()
        self._openings = 0
        self._probing = False
        self._until = None
        return was_open

    def failure(
        self,
        now: float,
        chance: float,
        *,
        what: Hashable,
        way: str = "",
        at_once: bool = False,
        answers: bool = False,
    ) -> float:
        """`what` failed in this way, which may blame the store; `at_once`: it does for certain. With
        `answers` the store answers other files.

        Seconds until the next probe; 0 while closed. Of the requests that were in flight together each
        reports its failure; the one that reaches the threshold opens the breaker, the later ones belong to
        the same outage and do not lengthen it.
        """
        failed = self._failed.setdefault(way, set())
        enough = self._enough if answers else self._threshold
        if len(failed) < enough:
            failed.add(what)
        if self._until is None and not at_once and len(failed) < enough:
            return 0.0
        if not answers:
            self._blame_the_store()
        elif self._until is None:
            self.blames_things = True
        if self._until is not None and not self._probing:
            return max(0.0, self._until - now)
        self._probing = False
        self._openings += 1
        longest = ceiling(self._openings, self._schedule)
        # Half is certain: full jitter may give 0, and that would be no pause at all.
        wait = longest / 2 + delay(self._openings, chance, self._schedule) / 2
        self._until = now + wait
        return wait

    def trip(self, now: float, seconds: float) -> None:
        """Open at once for at least `seconds`: the store refuses every request (keys, bucket, region)."""
        until = now + seconds
        if self._until is not None and not self._probing:
            until = max(until, self._until)
        if seconds:
            self._blame_the_store()
        self._probing = False
        self._until = until

    def hasten(self, now: float) -> None:
        """Let the next request probe at once if it is open: the store may work again."""
        if self._until is not None:
            self._probing = False
            self._until = now

    def _blame_the_store(self) -> None:
        self._enough, self.blames_things = self._threshold, False


class RateLimit:
    """A token bucket in bytes whose rate may change at any time, also for those who wait.

    What is sent is promised, in the order of the calls; time earns it. A promise is kept when everything up
    to it is earned. Up to `BURST_SECONDS` worth of unused bandwidth is kept for later, so that a caller that
    is a little late does not lose it. What is kept in any span of time is at most the rate times the span,
    plus the burst. A clock that goes back earns nothing.
    """

    __slots__ = ("_at", "_earned", "_promised", "_rate")

    def __init__(self, bytes_per_second: int = 0) -> None:
        self._at = 0.0
        self._earned = self._promised = 0.0
        self._rate = 0
        self.change(bytes_per_second, 0.0)

    @property
    def rate(self) -> int:
        """The rate in bytes a second; 0: no limit."""
        return self._rate

    def change(self, bytes_per_second: int, now: float) -> None:
        """Change the rate (bytes a second); 0: no limit."""
        if bytes_per_second < 0:
            raise ValueError(f"bytes per second: {bytes_per_second}")
        self._settle(now)
        self._rate = bytes_per_second

    def reserve(self, size: int, now: float) -> float:
        """Reserve `size` bytes; return the ticket for `wait`."""
        self._settle(now)
        self._promised += size
        return self._promised

    def wait(self, ticket: float, now: float) -> float:
        """Return the seconds until the reserved bytes may go at the present rate; 0: now."""
        self._settle(now)
        missing = ticket - self._earned
        return missing / self._rate if self._rate and missing >= _A_BYTE else 0.0

    def _settle(self, now: float) -> None:
        if self._rate == 0:
            self._earned = self._promised
        else:
            earned = self._earned + self._rate * max(0.0, now - self._at)
            self._earned = min(earned, self._promised + self._rate * BURST_SECONDS)
        self._at = now


_A_BYTE = 0.5  # less than that is a rounding error

# ---- the timetable of the bandwidth -----------------------------------------------------------------------

NO_LIMIT, PAUSE = 0, -1


class Limit(Struct, frozen=True):
    """What a timetable says for one moment."""

    rate: int
    """Bytes a second, 0 for no limit. In a pause: of what is still under way, as it was before the pause."""
    is_paused: bool = False
    until: int | None = None
    """The minute of the week when something else holds; None: always the same."""


class Timetable(Struct, frozen=True):
    """The limit of the bandwidth over a week of local time: each entry holds until the next one.

    A minute of the week counts from Monday, 00:00. The last entry of a week holds until the first of the
    next. The local clock decides, not the time that passed: where it is set, or repeats or leaves out an
    hour, what holds is what the table says for the time that it shows.
    """

    entries: tuple[tuple[int, int], ...] = ((0, NO_LIMIT),)
    """Minute of the week, in order, and bytes a second, `NO_LIMIT` or `PAUSE`. Never empty."""

    def at(self, minute: int) -> Limit:
        """Return what holds in a minute of the week."""
        count = len(self.entries)
        now = bisect_right(self.entries, minute, key=lambda entry: entry[0]) - 1
        value = self.entries[now][1]
        before = (self.entries[now - back][1] for back in range(count))
        after = (self.entries[(now + ahead) % count] for ahead in range(1, count))
        rate = next((each for each in before if each != PAUSE), NO_LIMIT)
        until = next((at for at, each in after if each != value), None)
        return Limit(rate, value == PAUSE, until)


UNLIMITED = Timetable()


def clock_words(minute: int) -> str:
    """Return a minute of the week in words: ``Mon 08:30``."""
    days, rest = divmod(minute, 24 * 60)
    return f"{DAYS[days][:3].capitalize()} {rest // 60:02}:{rest % 60:02}"


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Bandwidth(Struct, frozen=True):
    """The timetables of what goes out and of what comes in."""

    up: Timetable = UNLIMITED
    down: Timetable = UNLIMITED


FREE_LINE = Bandwidth()


PACE_SECONDS = 10.0
"""As many bytes are under way as the line carries in so long: a stop or a cut loses no more."""
START_BYTES = 16 << 20
"""Under way as long as nothing is known about the line."""
_TELLING_BYTES = 1 << 20  # smaller bodies say more about delays than about the line


class Pace:
    """How many bytes may be under way at once: what the line proved to carry in `PACE_SECONDS`."""

    __slots__ = ("_rate",)

    def __init__(self) -> None:
        self._rate = 0.0

    def bytes_under_way(self, limit: int) -> float:
        """Return how many bytes; `limit` is the operator's in bytes a second, 0: none."""
        seen = self._rate * PACE_SECONDS or START_BYTES
        return min(seen, limit * PACE_SECONDS) if limit else seen

    def carried(self, size: int, line_bytes: int, seconds: float) -> None:
        """Note that a body of `size` bytes arrived while the whole line carried `line_bytes`."""
        if size >= _TELLING_BYTES and seconds > 0:
            rate = max(size, line_bytes) / seconds
            self._rate = (self._rate + rate) / 2 if self._rate else rate


# ---- how fast it goes -----------------------------------------------------------------------------------

_MEAN_SECONDS = 15.0
_SILENT_SECONDS = 5.0
"""No rate is told before: the first seconds show a burst, not a rate."""
_FORGOTTEN_SECONDS = 60.0
"""After so long without anything a rate begins again."""


class Rate:
    """How much comes by each second (bytes, files), as an exponentially weighted mean over 15 seconds."""

    __slots__ = ("_at", "_since", "_weighted")

    def __init__(self) -> None:
        self._since: float | None = None
        self._at = 0.0
        self._weighted = 0.0

    def add(self, amount: float, now: float) -> None:
        """So much came by just now."""
        if self._since is None or now - self._at > _FORGOTTEN_SECONDS:
            self._since, self._at, self._weighted = now, now, 0.0
        self._weighted = self._weighted * exp((self._at - now) / _MEAN_SECONDS) + amount
        self._at = now

    def per_second(self, now: float) -> float | None:
        """Return the mean per second; None: too little is known."""
        if self._since is None or now - self._since < _SILENT_SECONDS or now - self._at > _FORGOTTEN_SECONDS:
            return None
        weight = _MEAN_SECONDS * (1.0 - exp((self._since - now) / _MEAN_SECONDS))
        return self._weighted * exp((self._at - now) / _MEAN_SECONDS) / weight


class LastHour:
    """How much came by in each minute of the last hour."""

    MINUTES = 60

    __slots__ = ("_amounts", "_minute")

    def __init__(self) -> None:
        self._minute = 0
        self._amounts = deque([0] * self.MINUTES, self.MINUTES)

    def add(self, amount: int, now: float) -> None:
        """So much came by just now."""
        self._turn(now)
        self._amounts[-1] += amount

    def minutes(self, now: float) -> list[int]:
        """Return the amounts, the oldest minute first; the last minute is not over."""
        self._turn(now)
        return list(self._amounts)

    def _turn(self, now: float) -> None:
        passed = int(now // 60) - self._minute
        if passed > 0:
            self._minute += passed
            self._amounts.extend([0] * min(passed, self.MINUTES))


def seconds_left(amounts: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the seconds that the rest takes: each kind's amount at its rate, one by one; None: unknown.

    Bytes alone say months for many small files, and files alone say seconds for one film.
    """
    total = 0.0
    for left, rate in amounts:
        if left > 0:
            if not rate:
                return None
            total += left / rate
    return total
