"""How many workers carry small files: simulated, with servers of all kinds, beside all workers at once."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable

import pytest

from syncd.transfer.pace.crew import BUSY_REQUESTS, FRESH_SECONDS, LEAST, Crew

MOST = 32
BEFORE_SECONDS, AFTER_SECONDS = 0.0003, 0.0002
"""What a file costs the interpreter before its request and after the answer."""

Server = Callable[[float], float]
"""When a request of this moment is answered."""


class House:
    """An interpreter, one file at a time, and workers with more files than they can carry."""

    def __init__(self, server: Server, crew: Crew) -> None:
        self.server = server
        self.crew = crew
        self.now = 0.0
        self.carried = 0
        self._idle = list(range(MOST))
        self._line: deque[tuple[int, bool]] = deque()
        """Workers that want the interpreter, and whether they have their answers."""
        self._runs: tuple[int, bool] | None = None
        self._events: list[tuple[float, int, str, int]] = []
        self._numbers = itertools.count()

    def _at(self, seconds: float, what: str, worker: int = -1) -> None:
        heapq.heappush(self._events, (seconds, next(self._numbers), what, worker))

    def _take(self) -> None:
        while self._idle and not self.crew.is_full(self.now):
            worker = self._idle.pop()
            self.crew.begins(worker, self.now)
            self._line.append((worker, False))

    def _go_on(self) -> None:
        if self._runs is None and self._line:
            self._runs = self._line.popleft()
            self._at(self.now + (AFTER_SECONDS if self._runs[1] else BEFORE_SECONDS), "runs")

    def run(self, seconds: float) -> float:
        """Files in a second."""
        end, before = self.now + seconds, self.carried
        if not self._events:
            self._at(self.now, "looks")
        while self.now < end:
            self.now, _, what, worker = heapq.heappop(self._events)
            if what == "looks":
                self._at(self.now + FRESH_SECONDS, "looks")
            elif what == "answered":
                self._line.append((worker, True))
            elif self._runs is not None:
                (worker, has_answer), self._runs = self._runs, None
                if has_answer:
                    self.crew.ends(worker)
                    self._idle.append(worker)
                    self.carried += 1
                else:
                    others = self.crew.beside(worker)
                    if others is not None:
                        self.crew.asks(alone=not {each for each, _ in self._line}.intersection(others))
                    self._at(self.server(self.now), "answered", worker)
            self._take()
            self._go_on()
        return (self.carried - before) / seconds


def late(seconds: float) -> Server:
    return lambda now: now + seconds


def drawn(seconds: Callable[[random.Random], float]) -> Server:
    chance = random.Random(7)
    return lambda now: now + seconds(chance)


def in_bursts(seconds: float) -> Server:
    """What came since the last burst is answered at once, as after a flush of a disk."""
    return lambda now: (now // seconds + 1) * seconds


SERVERS: dict[str, tuple[Callable[[], Server], int, int]] = {
    "fast": (lambda: late(0.0001), LEAST, LEAST),
    "near": (lambda: late(0.001), LEAST, LEAST + 1),
    "5 ms": (lambda: late(0.005), 10, 16),
    "10 ms": (lambda: late(0.01), 20, 26),
    "20 ms": (lambda: late(0.02), MOST, MOST),
    "a second": (lambda: late(1.0), MOST, MOST),
    "any time around 5 ms": (lambda: drawn(lambda chance: chance.expovariate(200)), 12, 24),
    "half fast, half slow": (lambda: drawn(lambda chance: chance.choice((0.0005, 0.04))), MOST - 1, MOST),
    "now and then slow": (lambda: drawn(lambda chance: 0.3 if chance.random() < 0.02 else 0.001), LEAST, 20),
    "bursts each 20 ms": (lambda: in_bursts(0.02), MOST, MOST),
    "bursts each 50 ms": (lambda: in_bursts(0.05), MOST, MOST),
}
"""A server, and how many workers it is worth, at least and at most."""


@pytest.mark.parametrize("kind", SERVERS)
def test_few_workers_carry_as_much_as_all(kind: str) -> None:
    """As many as the server is worth, whatever the pattern of its answers."""
    make, least, most = SERVERS[kind]
    house, all_at_once = House(make(), Crew(MOST)), House(make(), Crew())
    house.run(1.5)
    all_at_once.run(1.5)
    assert house.run(1.5) >= 0.97 * all_at_once.run(1.5)
    assert least <= house.crew.size <= most


@pytest.mark.parametrize(("first", "then"), [(0.0001, 0.02), (0.02, 0.0001), (0.0001, 2.0)])
def test_a_server_may_become_slow_or_fast(first: float, then: float) -> None:
    """A slow one soon has all workers again; a fast one loses most of them, which costs nothing."""
    house = House(late(first), Crew(MOST))
    house.run(1.0)
    house.server = late(then)
    house.run(1.0)
    all_at_once = House(late(then), Crew())
    all_at_once.run(1.0)
    assert house.run(4.0) >= 0.97 * all_at_once.run(4.0)
    assert house.crew.size == (LEAST if then < first else MOST)


def test_a_fast_store_takes_no_worker_from_a_slow_one() -> None:
    """Each has a crew, which asks only whether its own workers can go on."""
    crews = Crew(MOST), Crew(MOST)
    for crew in crews:
        for worker in range(4):
            crew.begins(worker, 0.0)
    for _ in range(BUSY_REQUESTS * MOST):
        crews[0].asks(alone=False)
        crews[1].asks(alone=True)
    assert [crew.size for crew in crews] == [LEAST, MOST]


def full(crew: Crew, workers: int, now: float) -> Crew:
    for worker in range(workers):
        crew.begins(worker, now)
    return crew


def shrunk(most: float) -> Crew:
    crew = Crew(most)
    for _ in range(BUSY_REQUESTS * MOST):
        crew.asks(alone=False)
    return crew


def test_large_files_do_not_count() -> None:
    """Their bytes take time, not the interpreter: they go on beside each other as far as workers reach."""
    crew = full(shrunk(MOST), LEAST, 0.0)
    assert crew.is_full(0.0)
    crew.has_large(0)
    assert not crew.is_full(0.0)
    assert crew.beside(0) is None
    assert crew.beside(1) == [2, 3, 4, 5]


def test_what_lasts_counts_no_longer() -> None:
    """So workers that hang take no others along."""
    crew = full(shrunk(MOST), LEAST, 0.0)
    assert crew.is_full(FRESH_SECONDS / 2)
    assert not crew.is_full(FRESH_SECONDS)


@pytest.mark.parametrize("most", [1, 2, LEAST, MOST])
def test_a_crew_is_never_larger_than_is_configured(most: int) -> None:
    """Nor smaller than its least, unless that is configured."""
    crew = Crew(most)
    assert crew.asks(alone=True) is False
    assert crew.size == most
    assert shrunk(most).size == min(most, LEAST)
    small = shrunk(most)
    assert [small.asks(alone=True) for _ in range(MOST)].count(True) == most - min(most, LEAST)
    assert small.size == most
