"""The door to a store's requests and memory, and the keys that are in use."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.errors import Stopped
from syncd.transfer.pace.slots import Bound, Slots
from tests.support.waiting import Holder, Running, wait_until


class Diary:
    """A heartbeat that writes down what it hears."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def step(self) -> None:
        self.told.append("step")

    def rest(self) -> None:
        self.told.append("rest")

    def holds(self, hold: object) -> None:
        """Of no interest here."""


def in_line(slots: Slots) -> int:
    return len(slots._line)


def test_slots_show_their_state() -> None:
    """How many of how many, and how much of how much."""
    slots = Slots(2, 100)
    with slots.hold(30):
        assert repr(slots) == "<Slots 1 of 2 (at most 2), 30 of 100 bytes, 0 waiting>"


def test_no_more_holders_than_slots() -> None:
    """The third waits until one of two leaves."""
    slots = Slots(2, 100)
    first, second = Holder(lambda: slots.hold(1)), Holder(lambda: slots.hold(1))
    assert first.inside.wait(30)
    assert second.inside.wait(30)
    third = Holder(lambda: slots.hold(1))
    wait_until("it waits", lambda: in_line(slots) == 1)
    assert not third.inside.is_set()
    first.leave()
    assert third.inside.wait(30)
    second.leave()
    third.leave()


def test_no_more_bytes_than_memory() -> None:
    """A free slot is not enough."""
    slots = Slots(10, 100)
    first = Holder(lambda: slots.hold(60))
    assert first.inside.wait(30)
    second = Holder(lambda: slots.hold(60))
    wait_until("it waits", lambda: in_line(slots) == 1)
    assert not second.inside.is_set()
    first.leave()
    assert second.inside.wait(30)
    second.leave()


def test_one_holder_gets_in_whatever_its_size() -> None:
    """A part larger than the whole allowance still goes, alone."""
    slots = Slots(10, 100)
    large = Holder(lambda: slots.hold(1000))
    assert large.inside.wait(30)
    small = Holder(lambda: slots.hold(1))
    wait_until("it waits", lambda: in_line(slots) == 1)
    assert not small.inside.is_set()
    large.leave()
    assert small.inside.wait(30)
    small.leave()


def test_first_come_first_served() -> None:
    """What has as many bytes as the first one, or more than may go before it, stands behind it."""
    slots = Slots(10, 100)
    first = Holder(lambda: slots.hold(50))
    assert first.inside.wait(30)
    large = Holder(lambda: slots.hold(60))
    wait_until("the large one waits", lambda: in_line(slots) == 1)
    larger = Holder(lambda: slots.hold(61))
    wait_until("the larger one waits behind it", lambda: in_line(slots) == 2)
    with slots.hold(40):
        assert not slots._enter_at_once(21)
    first.leave()
    assert large.inside.wait(30)
    assert not larger.inside.is_set()
    large.leave()
    assert larger.inside.wait(30)
    larger.leave()


def test_an_error_inside_gives_everything_back() -> None:
    """A thread that fails while it holds a slot gives it back."""
    slots = Slots(1, 10)
    for _ in range(3):
        with pytest.raises(KeyError), slots.hold(10):
            raise KeyError
    with slots.hold(10):
        pass


def test_stop_releases_everybody_who_waits_now_or_later() -> None:
    """At shutdown no thread is left waiting."""
    slots = Slots(1, 10)
    holder = Holder(lambda: slots.hold(1))
    assert holder.inside.wait(30)
    waiting = Holder(lambda: slots.hold(1))
    wait_until("it waits", lambda: in_line(slots) == 1)
    slots.stop()
    with pytest.raises(Stopped):
        waiting.running.result()
    with pytest.raises(Stopped), slots.hold(0):
        pass
    holder.leave()


def test_who_waits_has_no_pulse_and_who_holds_has_one() -> None:
    """Waiting for others is no sign of being stuck."""
    diary = Diary()
    slots = Slots(1, 10, diary)
    with slots.hold(1):
        assert diary.told == ["step"]
        waiting = Running(lambda: slots.enter(1))
        wait_until("the other one waits", lambda: diary.told == ["step", "rest"])
    waiting.result()
    assert diary.told == ["step", "rest", "step"]


@settings(deadline=None, max_examples=50)  # threads take the time that they take
@given(
    slots=st.integers(1, 4),
    memory=st.integers(1, 20),
    sizes=st.lists(st.integers(0, 30), max_size=20),
)
def test_the_bounds_hold_and_everybody_gets_in(slots: int, memory: int, sizes: list[int]) -> None:
    """Whatever the sizes: never too many, never too much unless alone, and no thread is forgotten."""
    door = Slots(slots, memory)
    lock = threading.Lock()
    inside: list[int] = []
    seen: list[tuple[int, int]] = []

    def go(size: int) -> None:
        with door.hold(size):
            with lock:
                inside.append(size)
                seen.append((len(inside), sum(inside)))
            with lock:
                inside.remove(size)

    running = [Running(go, size) for size in sizes]
    for one in running:
        one.result()
    assert len(seen) == len(sizes)
    assert all(count <= slots and (held <= memory or count == 1) for count, held in seen)


# ---- a store that wants fewer requests --------------------------------------------------------------------


def most_at_once(slots: Slots, at_most: int) -> int:
    """How many are let in at the same time."""
    holders = [Holder(lambda: slots.hold(0)) for _ in range(at_most)]
    wait_until("all are in or in line", lambda: slots.held + in_line(slots) == at_most)
    inside = slots.held
    for holder in holders:
        holder.leave()
    return inside


def test_a_store_that_is_busy_gets_half_as_many_requests() -> None:
    """Down to one, never to none; each answer lets a little more in, up to where it was."""
    slots = Slots(8, 100)
    for expected in (4, 2, 1, 1):
        slots.throttled()
        slots._echoes = 0
        assert most_at_once(slots, 8) == expected
    seen = []
    for _ in range(60):
        slots.answered()
        seen.append(int(slots._open))
    assert seen == sorted(seen)
    assert seen[0] == 2
    assert 7 * 8 // 2 <= seen.index(8) + 1 <= 40  # one more for each round of answers
    assert most_at_once(slots, 9) == 8


def test_one_moment_of_business_narrows_the_door_once() -> None:
    """All that were in flight together complain; what comes after that counts again."""
    slots = Slots(8, 100)
    holders = [Holder(lambda: slots.hold(0)) for _ in range(8)]
    assert all(holder.inside.wait(30) for holder in holders)
    for _ in holders:
        slots.throttled()
    assert int(slots._open) == 4
    slots.throttled()
    assert int(slots._open) == 2
    for holder in holders:
        holder.leave()


def test_who_waits_is_let_in_when_the_door_widens() -> None:
    """Not only when a thread leaves."""
    slots = Slots(2, 100)
    slots.throttled()
    first = Holder(lambda: slots.hold(0))
    assert first.inside.wait(30)
    second = Holder(lambda: slots.hold(0))
    wait_until("it waits", lambda: in_line(slots) == 1)
    slots.answered()
    assert second.inside.wait(30)
    first.leave()
    second.leave()


def test_what_is_lent_admits_another_and_is_taken_back_whether_there_is_room_or_not() -> None:
    """The bound is exceeded by those who come back, and no other enters until it holds again."""
    slots = Slots(1, 100)
    first, second = slots.hold(60), slots.hold(60)
    with first:
        first.lend()
        with second:
            first.take_back()
            waiting = Holder(lambda: slots.hold(0))
            assert not waiting.inside.wait(0.05)
        assert not waiting.inside.wait(0.05)
    assert waiting.inside.wait(30)
    waiting.release.set()


# ---- what stores share ------------------------------------------------------------------------------------


def test_stores_share_one_bound_and_each_keeps_a_part_of_it() -> None:
    """A store that takes all it can get leaves the others their share, and together they keep the bound."""
    bound = Bound(8, 800)
    greedy, other = Slots(8, 800, bound=bound), Slots(8, 800, bound=bound)
    took = [greedy for _ in range(20) if greedy._enter_at_once(10)]
    got = [other for _ in range(20) if other._enter_at_once(10)]
    assert (len(took), len(got)) == (6, 2)
    for slots in (*took, *got):
        slots.leave(10)
    assert (greedy.held, other.held, bound.unsent) == (0, 0, 0)


def test_memory_is_shared_too_and_each_store_may_hold_one_thing_of_any_size() -> None:
    """Otherwise a part that is larger than the share would never go."""
    bound = Bound(8, 100)
    first, second = Slots(8, 100, bound=bound), Slots(8, 100, bound=bound)
    assert [first._enter_at_once(50), first._enter_at_once(25), first._enter_at_once(25)] == [
        True,
        True,
        False,
    ]
    assert [second._enter_at_once(500), second._enter_at_once(1)] == [True, False]


def test_a_store_that_is_gone_keeps_no_share() -> None:
    """After a reload the others have all."""
    bound = Bound(4, 100)
    old, new = Slots(4, 100, bound=bound), Slots(4, 100, bound=bound)
    assert old._enter_at_once(0)
    old.stop()
    assert [new._enter_at_once(0) for _ in range(4)] == [True, True, True, False]
    old.leave(0)
    assert [new._enter_at_once(0) for _ in range(2)] == [True, False]


class SlowLine:
    """A line that carries a thousand bytes in the time that counts."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def bytes_under_way(self) -> float:
        return 1000.0

    def look(self) -> tuple[float, int]:
        return 0.0, 0

    def carried(self, size: int, since: tuple[float, int]) -> None:
        self.told.append(size)


class SlowBound(Bound):
    """One for a slow line, with what is small in proportion."""

    def __init__(self, slots: int, memory: int) -> None:
        self.line = SlowLine()
        super().__init__(slots, memory, self.line)
        self.small = 100


def test_the_next_body_is_admitted_when_the_last_is_nearly_sent() -> None:
    """So that a stop or a cut loses one part, and the line is never idle; questions and small files pass."""
    bound = SlowBound(8, 1 << 20)
    slots = Slots(8, 1 << 20, bound=bound)
    first = slots.hold(4000)
    with first:
        assert not slots._enter_at_once(4000)
        assert slots._enter_at_once(0)
        slots.leave(0)
        assert slots._enter_at_once(60)
        assert not slots._enter_at_once(60)
        slots.leave(60)
        first.sent(3000)
        assert not slots._enter_at_once(200)
        waiting = Holder(lambda: slots.hold(4000))
        assert not waiting.inside.wait(0.05)
        first.sent(900)
        assert waiting.inside.wait(30)
        first.sent(900)
        waiting.release.set()
    assert bound.line.told == [4000]


def test_stores_take_turns_on_a_line_that_all_wait_for() -> None:
    """Whichever wakes first: else one store may send part after part while the others get nothing."""
    bound = SlowBound(32, 1 << 20)
    stores = [Slots(32, 1 << 20, bound=bound) for _ in range(3)]
    order: list[Slots] = []

    def send(store: Slots) -> None:
        held = store.hold(4000)
        with held:
            order.append(store)
            held.sent(4000)

    first = stores[0].hold(4000)
    with first:
        threads = [Running(lambda store=store: send(store)) for store in stores for _ in range(6)]
        wait_until("all are in line", lambda: [in_line(store) for store in stores] == [6, 6, 6])
        first.sent(4000)
        for thread in threads:
            thread.result()
    rounds = [order[at : at + 3] for at in range(0, 18, 3)]
    assert all(len(set(map(id, each))) == 3 for each in rounds)


def test_what_is_small_goes_before_a_part_for_which_there_is_no_room_but_does_not_starve_it() -> None:
    """With as many bytes as the part has, from however many files; whether it waits for line or memory."""
    slots = Slots(64, 10_000, bound=SlowBound(64, 10_000))
    sending = slots.hold(4000)
    with sending:
        for size in (500, 9000):
            part = Holder(lambda size=size: slots.hold(size))
            wait_until("it waits", lambda: in_line(slots) == 1)
            for _ in range(size // 50):
                with (small := slots.hold(50)):
                    small.sent(50)
            assert not slots._enter_at_once(50)
            assert slots._enter_at_once(0)
            slots.leave(0)
            if size == 500:
                sending.sent(4000)
                assert part.inside.wait(30)
                part.leave()
    assert part.inside.wait(30)
    assert slots._enter_at_once(100)  # where the part has all memory but a thousand bytes
    slots.leave(100)
    part.leave()
    assert (slots.bound.unsent, slots.bound.unsent_small) == (0, 0)


def test_what_is_small_finds_memory_where_parts_have_taken_all() -> None:
    """A little, together."""
    slots = Slots(64, 6400, bound=Bound(64, 6400))
    assert slots._enter_at_once(6400)
    assert [slots._enter_at_once(size) for size in (101, 60, 50, 40, 0)] == [False, True, False, True, True]


def test_small_bodies_go_together_as_many_as_the_line_carries() -> None:
    """Ten at once of a hundred bytes; what was never sent is given back with its holder."""
    slots = Slots(64, 1 << 20, bound=Bound(64, 1 << 20, SlowLine()))
    assert sum(slots._enter_at_once(100) for _ in range(20)) == 10
    for _ in range(10):
        slots.leave(100)
    assert slots.bound.unsent == 0


def test_who_passes_its_turn_on_goes_on_after_the_one_who_waited() -> None:
    """Without anyone in line it goes on at once."""
    slots = Slots(1, 0)
    order: list[str] = []

    def visit() -> None:
        with slots.hold(0):
            order.append("short")

    held = slots.hold(0)
    with held:
        held.pass_on()
        waiting = threading.Thread(target=visit)
        waiting.start()
        wait_until("it is in line", lambda: in_line(slots) == 1)
        held.pass_on()
        order.append("long")
        assert slots.held == 1
    waiting.join(30)
    assert order == ["short", "long"]
    assert slots.held == 0


def test_who_is_stopped_while_it_passes_its_turn_on_holds_nothing() -> None:
    """And gives nothing back twice."""
    slots = Slots(1, 0)
    ended: list[str] = []

    def wait_in_line() -> None:
        try:
            slots.enter(0)
        except Stopped:
            ended.append("the next")

    waiting = threading.Thread(target=wait_in_line)
    held = slots.hold(0)
    try:
        with held:
            waiting.start()
            wait_until("the next is in line", lambda: in_line(slots) == 1)
            slots.stop()
            held.pass_on()
    except Stopped:
        ended.append("the first")
    waiting.join(30)
    assert sorted(ended) == ["the first", "the next"]
    assert slots.held == 0
