"""How long to wait: between tries, for a store that is down, for bandwidth. All in pretended time."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.core.backoff import (
    NO_LIMIT,
    PAUSE,
    START_BYTES,
    Breaker,
    LastHour,
    Limit,
    Pace,
    Rate,
    RateLimit,
    Schedule,
    Timetable,
    delay,
    seconds_left,
)

WEEK_MINUTES = 7 * 24 * 60

SCHEDULE = Schedule(base_seconds=1.0, cap_seconds=10.0, factor=2.0)

chances = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)

# ---- between tries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "chance", "expected"),
    [
        (1, 0.0, 0.0),
        (1, 0.5, 0.5),
        (2, 0.5, 1.0),
        (3, 0.5, 2.0),
        (4, 0.5, 4.0),
        (5, 0.5, 5.0),
        (6, 0.5, 5.0),
        (5000, 0.5, 5.0),
        (10**12, 0.5, 5.0),
    ],
)
def test_delay(attempt: int, chance: float, expected: float) -> None:
    """The ceiling doubles from the base up to the cap, chance picks a point below; no attempt overflows."""
    assert expected == delay(attempt, chance, SCHEDULE)


@pytest.mark.parametrize(("attempt", "chance"), [(0, 0.5), (-1, 0.5), (1, -0.1), (1, 1.1)])
def test_delay_of_nonsense(attempt: int, chance: float) -> None:
    """Attempts count from 1 and chance lies between 0 and 1; anything else is a bug of the caller."""
    with pytest.raises(ValueError, match=r"count from 1|between 0 and 1"):
        delay(attempt, chance, SCHEDULE)


@pytest.mark.parametrize(
    "fields", [{"base_seconds": -1.0}, {"cap_seconds": -1.0}, {"factor": 0.5}], ids=lambda fields: str(fields)
)
def test_schedule_that_does_not_grow(fields: dict[str, float]) -> None:
    """A schedule with negative times or one that shrinks cannot be made."""
    with pytest.raises(ValueError, match="grows"):
        Schedule(**fields)


schedules = st.builds(
    Schedule,
    base_seconds=st.floats(min_value=0, max_value=1e6),
    cap_seconds=st.floats(min_value=0, max_value=1e6),
    factor=st.floats(min_value=1, max_value=1e6),
)


@settings(deadline=None)
@given(attempt=st.integers(min_value=1, max_value=10**30), chance=chances, schedule=schedules)
def test_delay_never_exceeds_its_maximum(attempt: int, chance: float, schedule: Schedule) -> None:
    """For every attempt, chance and schedule, the delay lies between 0 and the cap."""
    assert 0.0 <= delay(attempt, chance, schedule) <= schedule.cap_seconds


@settings(deadline=None)
@given(attempt=st.integers(min_value=1, max_value=3000), chance=chances, schedule=schedules)
def test_delay_never_shrinks_with_attempts(attempt: int, chance: float, schedule: Schedule) -> None:
    """With the same chance, a later attempt never waits for less."""
    assert delay(attempt, chance, schedule) <= delay(attempt + 1, chance, schedule)


# ---- a store that is down ---------------------------------------------------------------------------------


def _broken(failures: int = 3, now: float = 100.0) -> Breaker:
    breaker = Breaker(SCHEDULE, threshold=3, probe_seconds=30.0)
    for _ in range(failures):
        breaker.failure(now, 0.0, what=object())
    return breaker


def test_breaker_stays_closed_below_the_threshold() -> None:
    """Fewer consecutive failures than the threshold change nothing."""
    breaker = Breaker(SCHEDULE, threshold=3)

    assert [breaker.failure(100.0, 0.9, what=object()) for _ in range(2)] == [0.0, 0.0]
    assert breaker.allows(100.0)
    assert breaker.until is None


def test_breaker_forgets_failures_after_a_success() -> None:
    """What failed before does not count; a success while closed is nothing to tell."""
    breaker = _broken(failures=2)

    assert not breaker.success()
    assert breaker.failures == 0
    assert [breaker.failure(100.0, 0.9, what=object()) for _ in range(2)] == [0.0, 0.0]


def test_one_thing_that_fails_again_and_again_does_not_open_the_breaker() -> None:
    """Nor do different things that fail in different ways; `at_once` says that the store is to blame."""
    breaker = Breaker(SCHEDULE, threshold=3)
    for _ in range(9):
        assert breaker.failure(100.0, 0.9, what="one file", way="reset") == 0.0
    for way in ("500", "502", "504"):
        assert breaker.failure(100.0, 0.9, what=way, way=way) == 0.0
    assert breaker.failures == 1
    assert breaker.failure(100.0, 0.5, what="one file", way="reset", at_once=True) > 0.0
    assert breaker.until is not None


def test_breaker_opens_at_the_threshold() -> None:
    """The failure that reaches the threshold opens it until between half and all of the ceiling."""
    breaker = _broken(failures=2)

    assert breaker.failure(100.0, 0.5, what=object()) == 0.75
    assert breaker.until == 100.75
    assert not breaker.allows(100.7)


def test_breaker_allows_one_probe() -> None:
    """When its time has come, one request is allowed and no other until the outcome is known."""
    breaker = _broken()

    assert [breaker.allows(now) for now in (100.4, 100.5, 100.5, 110.0)] == [False, True, False, False]


def test_breaker_closes_after_a_good_probe() -> None:
    """A success closes it and says so exactly once: that is the moment to report recovery."""
    breaker = _broken()
    breaker.allows(200.0)

    assert [breaker.success(), breaker.success()] == [True, False]
    assert breaker.allows(200.0)
    assert (breaker.until, breaker.failures) == (None, 0)


def test_breaker_waits_longer_after_each_bad_probe() -> None:
    """Every failed probe doubles the pause, up to the cap."""
    breaker = _broken()
    now, waits = 100.5, []
    for _ in range(6):
        assert breaker.allows(now)
        waits.append(breaker.failure(now, 0.0, what=object()))
        now += waits[-1]

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_breaker_begins_anew_after_recovery() -> None:
    """The pause of the next outage is a first pause again."""
    breaker = _broken()
    for now in (200.0, 300.0, 400.0):
        breaker.allows(now)
        breaker.failure(now, 0.0, what=object())
    breaker.success()

    assert [breaker.failure(500.0, 0.0, what=object()) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_failures_of_one_outage_do_not_add_up() -> None:
    """Requests that were in flight together and fail together lengthen the pause once, not once each."""
    breaker = _broken()

    assert pytest.approx(breaker.failure(100.1, 0.99, what=object())) == 0.4
    assert breaker.until == 100.5
    assert breaker.failures == 3


def test_failures_of_the_next_outage_do_not_add_up() -> None:
    """That holds for every outage, also after one that a probe ended."""
    breaker = _broken()
    breaker.allows(200.0)
    breaker.success()
    for _ in range(8):
        breaker.failure(300.0, 0.0, what=object())

    assert breaker.until == 300.5


def test_failures_after_a_refused_probe_do_not_add_up() -> None:
    """A request from before the pause that fails after the probe was refused lengthens nothing."""
    breaker = _broken()
    breaker.allows(200.0)
    breaker.trip(200.0, 60.0)
    breaker.failure(201.0, 0.9, what=object())

    assert breaker.until == 260.0


def test_probe_without_an_outcome_is_given_up() -> None:
    """A probe whose worker never tells the outcome blocks the store only for a while."""
    breaker = _broken()

    assert [breaker.allows(now) for now in (200.0, 229.9, 230.0)] == [True, False, True]


def test_breaker_trips_at_once() -> None:
    """A refusal of the store as a whole opens it with the first failure, for the time asked."""
    breaker = Breaker(SCHEDULE, threshold=3)
    breaker.trip(100.0, 60.0)

    assert [breaker.allows(159.0), breaker.allows(160.0)] == [False, True]
    breaker.trip(161.0, 60.0)


def fail(breaker: Breaker, number: int, *, answers: bool = True) -> bool:
    """So many different things fail; whether that opens it."""
    for each in range(number):
        breaker.failure(100.0, 0.5, what=each, answers=answers)
    return breaker.until is not None


def test_things_that_failed_beside_a_good_probe_count_for_less() -> None:
    """Eight times as many have to fail while the store answers, until it does not: then as before."""
    breaker = Breaker(SCHEDULE, threshold=3)
    assert not fail(breaker, 2)
    assert fail(breaker, 3)
    assert breaker.blames_things
    breaker.success()
    assert not fail(breaker, 23)
    assert fail(breaker, 24)
    breaker.success()
    assert fail(breaker, 3, answers=False)
    assert not breaker.blames_things
    breaker.success()
    assert fail(breaker, 3)


def test_trip_only_lengthens_a_pause() -> None:
    """A second refusal does not bring the probe forward."""
    breaker = Breaker(SCHEDULE, threshold=3)
    breaker.trip(100.0, 60.0)
    breaker.trip(101.0, 1.0)

    assert breaker.until == 160.0


def test_a_hastened_breaker_is_not_closed() -> None:
    """The next request may probe at once, and only one; that it works is known when it has succeeded."""
    breaker = Breaker()
    breaker.hasten(99.0)
    assert breaker.until is None
    breaker.trip(100.0, 3600.0)
    breaker.hasten(101.0)
    assert (breaker.allows(101.0), breaker.allows(101.0)) == (True, False)
    breaker.hasten(102.0)  # the first probe may hang
    assert breaker.allows(102.0)
    assert breaker.success()


def test_trip_of_the_probe_opens_again() -> None:
    """A probe that is refused opens the breaker for the time asked, counted from now."""
    breaker = Breaker(SCHEDULE, threshold=3, probe_seconds=1000.0)
    breaker.trip(100.0, 60.0)
    breaker.allows(160.0)
    breaker.trip(161.0, 60.0)

    assert breaker.until == 221.0


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.floats(min_value=0, max_value=20),
            st.sampled_from(["failure", "success", "trip", "silence"]),
            chances,
        ),
        max_size=60,
    )
)
def test_breaker_never_blocks_for_ever_and_never_floods(steps: list[tuple[float, str, float]]) -> None:
    """Through any history: while open at most one request per pause, every pause ends within the cap, the
    length of a trip or the patience with a probe, and only a success closes."""
    breaker = Breaker(SCHEDULE, threshold=3, probe_seconds=30.0)
    now = 0.0
    for passed, outcome, chance in steps:
        now += passed
        was_open = breaker.until is not None
        if not breaker.allows(now):
            assert breaker.until is not None
            assert now < breaker.until <= now + 30.0
            continue
        if was_open:
            assert not breaker.allows(now)
        if outcome == "failure":
            assert 0.0 <= breaker.failure(now, chance, what=object()) <= SCHEDULE.cap_seconds
        elif outcome == "trip":
            breaker.trip(now, 25.0)
        elif outcome == "success":
            assert was_open == breaker.success()
            assert breaker.until is None
        assert not was_open or outcome == "success" or breaker.until is not None


# ---- bandwidth --------------------------------------------------------------------------------------------


def test_no_limit() -> None:
    """A limit of 0 never waits."""
    limit = RateLimit(0)
    assert limit.wait(limit.reserve(1 << 40, 0.0), 0.0) == 0.0


def test_negative_limit() -> None:
    """A negative rate cannot be meant."""
    with pytest.raises(ValueError, match="-1"):
        RateLimit(-1)


def test_promises_are_kept_in_their_order() -> None:
    """Each when it and those before it are earned."""
    limit = RateLimit(100)
    limit.reserve(0, 10.0)
    limit.wait(limit.reserve(25, 10.0), 10.0)  # the burst

    tickets = [limit.reserve(size, 10.0) for size in (50, 100, 10)]
    assert [limit.wait(ticket, 10.0) for ticket in tickets] == [0.5, 1.5, 1.6]


def test_idle_time_is_not_saved_up() -> None:
    """After a long pause only the burst is there, not the bandwidth of the whole pause."""
    limit = RateLimit(100)
    limit.reserve(100, 0.0)

    assert limit.wait(limit.reserve(100, 1000.0), 1000.0) == 0.75


def test_a_late_caller_loses_nothing() -> None:
    """Who comes a little after its turn is not put back behind: the rate is reached, not only kept."""
    limit = RateLimit(1000)
    now = 0.0
    for _ in range(100):
        now += limit.wait(limit.reserve(100, now), now) + 0.01

    assert now == pytest.approx(100 * 100 / 1000, rel=0.02)


def test_a_clock_that_stands_or_goes_back_earns_nothing() -> None:
    """Whatever happens to it, what was promised is waited for once it goes on."""
    limit = RateLimit(100)
    ticket = limit.reserve(200, 50.0)
    before = limit.wait(ticket, 50.0)

    assert limit.wait(ticket, 40.0) == before
    assert limit.wait(ticket, 40.0 + before) == 0.0


@settings(deadline=None)
@example(rates=[(0.0, 8803900)], threads=1, late=0.03125)
@given(
    rates=st.lists(
        st.tuples(st.floats(min_value=0, max_value=30), st.integers(min_value=1000, max_value=10**7)),
        min_size=1,
        max_size=4,
    ),
    threads=st.integers(min_value=1, max_value=32),
    late=st.floats(min_value=0, max_value=0.05),
)
def test_in_ten_seconds_it_is_exact_within_five_percent(
    rates: list[tuple[float, int]], threads: int, late: float
) -> None:
    """However many threads send, whatever the rate was before, and although each comes back a little late.

    They send pieces as the socket does: half as large where one waits for more than half a second.
    """
    limit, now, sent = RateLimit(0), 0.0, 0
    for passed, rate in rates:
        now += passed
        limit.change(rate, now)
    rate = rates[-1][1]
    piece = min(256 << 10, max(1, rate // (2 * threads)))
    late = min(late, 0.5 * piece * threads / rate)  # senders that are slower than the line cannot fill it
    waiting = deque((limit.reserve(piece, now), 0) for _ in range(threads))
    began = now = now + limit.wait(waiting[-1][0], now)  # from here on, all send
    sent, waiting = 0, deque((limit.reserve(piece, now), 0) for _ in range(threads))
    while now < began + 10.0:
        ticket, _ = waiting.popleft()
        now += limit.wait(ticket, now) + late / threads
        sent += piece
        waiting.append((limit.reserve(piece, now), 0))
    assert sent == pytest.approx(rate * (now - began), rel=0.05)


@given(
    sizes=st.lists(st.integers(min_value=1, max_value=50), min_size=2, max_size=6),
    rate=st.integers(min_value=1, max_value=1000),
)
def test_uploads_share_the_line_fairly(sizes: list[int], rate: int) -> None:
    """Who asks again goes behind all who wait: after any number of turns, none is more than one ahead."""
    limit, now = RateLimit(rate), 0.0
    turns = [0] * len(sizes)
    tickets = [limit.reserve(size, now) for size in sizes]
    for _ in range(60):
        waits = [limit.wait(ticket, now) for ticket in tickets]
        first = min(range(len(sizes)), key=lambda index: (waits[index], turns[index], index))
        now += waits[first]
        turns[first] += 1
        tickets[first] = limit.reserve(sizes[first], now)
        assert max(turns) - min(turns) <= 2


@pytest.mark.parametrize(("rate", "wait"), [(0, 0.0), (50, 1.0), (1000, 0.05)])
def test_a_changed_rate_holds_for_those_who_wait(rate: int, wait: float) -> None:
    """A sender that waits keeps what it has earned, and earns the rest at the new rate."""
    limit = RateLimit(100)
    limit.reserve(0, 0.0)
    ticket = limit.reserve(100 + 25, 1.0)  # with the burst
    assert limit.wait(ticket, 1.0) == 1.0
    limit.change(rate, 1.5)
    assert limit.wait(ticket, 1.5) == pytest.approx(wait)


# ---- its timetable ----------------------------------------------------------------------------------------

MON, TUE, SUN = 0, 24 * 60, 6 * 24 * 60


@pytest.mark.parametrize(
    ("minute", "expected"),
    [
        (MON + 479, Limit(0, False, MON + 480)),  # Sunday's last entry goes on
        (MON + 480, Limit(512, False, MON + 720)),
        (MON + 719, Limit(512, False, MON + 720)),
        (MON + 720, Limit(512, True, TUE)),  # what is under way ends as it began
        (TUE, Limit(10, False, SUN)),
        (SUN - 1, Limit(10, False, SUN)),
        (WEEK_MINUTES - 1, Limit(0, False, MON + 480)),
    ],
)
def test_an_entry_holds_until_the_next(minute: int, expected: Limit) -> None:
    """The last of a week until the first of the next."""
    table = Timetable(((MON + 480, 512), (MON + 720, PAUSE), (TUE, 10), (TUE + 60, 10), (SUN, NO_LIMIT)))
    assert table.at(minute) == expected


def test_without_a_timetable_nothing_changes() -> None:
    """One entry holds always."""
    assert Timetable().at(5) == Limit(0)
    assert Timetable(((600, 7),)).at(5) == Timetable(((600, 7),)).at(700) == Limit(7)


@given(
    entries=st.dictionaries(
        st.integers(min_value=0, max_value=WEEK_MINUTES - 1),
        st.sampled_from([PAUSE, NO_LIMIT, 5, 9]),
        min_size=1,
        max_size=8,
    ),
    start=st.integers(min_value=0, max_value=WEEK_MINUTES - 1),
)
def test_the_table_is_what_a_walk_through_the_week_finds(entries: dict[int, int], start: int) -> None:
    """Minute by minute back to the entry that holds, and forward to the first that says something else."""
    table = Timetable(tuple(sorted(entries.items())))
    back = [
        entries[m % WEEK_MINUTES]
        for m in range(start, start - WEEK_MINUTES, -1)
        if m % WEEK_MINUTES in entries
    ]
    ahead = (m % WEEK_MINUTES for m in range(start + 1, start + WEEK_MINUTES) if m % WEEK_MINUTES in entries)
    rate = next((value for value in back if value != PAUSE), NO_LIMIT)
    until = next((minute for minute in ahead if entries[minute] != back[0]), None)
    assert table.at(start) == Limit(rate, back[0] == PAUSE, until)


@pytest.mark.parametrize(
    ("carried", "limit", "expected"),
    [
        ([], 0, START_BYTES),
        ([], 32 << 10, 320 << 10),
        ([(1 << 20, 1 << 20, 1.0)], 0, 10 << 20),
        ([(8 << 20, 48 << 20, 1.0)], 0, 480 << 20),
        ([(1 << 20, 1 << 20, 1.0), (3 << 20, 3 << 20, 1.0)], 0, 20 << 20),
        ([(8 << 20, 8 << 20, 0.01)], 1 << 20, 10 << 20),
        ([(1000, 1000, 10.0)], 0, START_BYTES),
    ],
)
def test_as_much_is_under_way_as_the_line_carries_in_ten_seconds(
    carried: list[tuple[int, int, float]], limit: int, expected: int
) -> None:
    """Measured over all bodies, since they share the line; small ones tell of delays, and do not count."""
    pace = Pace()
    for size, line_bytes, seconds in carried:
        pace.carried(size, line_bytes, seconds)
    assert pace.bytes_under_way(limit) == expected


def test_a_rate_is_silent_at_first_and_then_near_the_truth() -> None:
    """Constant, slower, and after a rest: the mean follows within its 15 seconds."""
    rate, now = Rate(), 100.0
    assert rate.per_second(now) is None
    for _ in range(49):
        rate.add(100, now)
        now += 0.1
    assert rate.per_second(now) is None
    for _ in range(600):
        rate.add(100, now)
        now += 0.1
    assert rate.per_second(now) == pytest.approx(1000, rel=0.02)
    for _ in range(60):
        rate.add(100, now)
        now += 1.0
    assert rate.per_second(now) == pytest.approx(100, rel=0.2)
    now += 3600
    assert rate.per_second(now) is None
    rate.add(1, now)
    assert rate.per_second(now + 1) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 100)), min_size=1, max_size=50))
def test_a_rate_is_never_negative_nor_above_all_that_came_by(steps: list[tuple[float, float]]) -> None:
    """Whatever comes by, and whenever."""
    rate, now = Rate(), 0.0
    for amount, pause in steps:
        rate.add(amount, now)
        now += pause
    told = rate.per_second(now)
    assert told is None or 0 <= told <= sum(amount for amount, _ in steps)


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 5000)), max_size=50), st.floats(0, 1e6))
def test_the_last_hour_is_what_came_by_in_each_of_its_minutes(
    steps: list[tuple[int, float]], start: float
) -> None:
    """Also after a silence of minutes or days."""
    hour, now, seen = LastHour(), start, []
    for amount, pause in steps:
        hour.add(amount, now)
        seen.append((int(now // 60), amount))
        now += pause
    last = int(now // 60)
    assert hour.minutes(now) == [
        sum(amount for at, amount in seen if at == minute) for minute in range(last - 59, last + 1)
    ]


@pytest.mark.parametrize(
    ("amounts", "left"),
    [
        ([], 0.0),
        ([(100, 10.0), (0, None)], 10.0),
        ([(100, 10.0), (5, 2.0)], 12.5),
        ([(100, None)], None),
        ([(100, 0.0)], None),
        ([(-1, 3.0)], 0.0),
    ],
)
def test_the_rest_takes_its_bytes_and_its_files(
    amounts: list[tuple[float, float | None]], left: float | None
) -> None:
    """Unknown where one of both is left and has no rate."""
    assert seconds_left(amounts) == left
