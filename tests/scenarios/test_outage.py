"""A store that is down for long, in a time of the test's own: what it costs, and how it ends.

The real workers' loop on the real queue, engine, retries and state; only time and the store are not real. One
worker is simulated: whenever it would sleep, the clock goes ahead instead. So hours pass in a second, and
every run is the same.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core import errors
from syncd.core.backoff import Schedule
from syncd.core.errors import AccessRefused, StoreRefused, StoreUnavailable
from syncd.daemon import logs
from syncd.pipeline.context import Clock, Context
from syncd.pipeline.queue import BREAKER_THRESHOLD
from syncd.pipeline.workers import Workers
from syncd.storage import base
from syncd.storage.retry import Retries, RetryingStore
from syncd.transfer.pace import affinity
from syncd.transfer.pace.heartbeat import Heartbeat
from tests.support.clock import FakeClock
from tests.support.rig import Rig
from tests.unit.pipeline.test_workers import Ear

MINUTE, HOUR = 60.0, 3600.0
BREAKER_CAP = Schedule().cap_seconds


class Nothing(Exception):
    """The worker would sleep without end, or for longer than the test waits."""


class Waiting:
    """Stands for the condition on which a worker waits: time passes at once."""

    def __init__(self, world: World, lock: Any) -> None:
        self._world = world
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def wait(self, seconds: float | None = None) -> None:
        if seconds is None or self._world.now >= self._world.stop_at:
            raise Nothing
        self._world.clock.advance(seconds)

    def notify(self) -> None:
        """No other file waits."""

    notify_all = notify


class World:
    """A worker, a store that can be down, and a clock that moves when a thread waits."""

    def __init__(self, root: Path, *, seed: int = 1) -> None:
        self.clock = FakeClock(wall=time.time())
        self.chance = random.Random(seed)
        self.asked: list[float] = []
        """When requests came that were not answered."""
        self.arrived: list[tuple[float, str]] = []
        self.down_until = 0.0
        self.stop_at = float("inf")
        self.rig = Rig(root, concurrency=1, wrap_store=self._wrap)
        self.rig.fake.before("*", lambda call: self._comes(call))
        self.rig.fake.after("put_object", lambda call: self.arrived.append((self.now, call.key)))
        self.ear = Ear()
        clock = Clock(self.clock.monotonic, self.clock.now_ns, self.chance.random)
        around = Context(self.rig.state, clock, self.ear)
        heartbeat = Heartbeat()
        self.workers = Workers("store", self.rig.engine, around, heartbeat)
        self.queue = self.workers.queue
        self.queue._work = Waiting(self, self.queue._room._lock)  # type: ignore[assignment, attr-defined]
        self.rig.now_ns = lambda: self.clock.now_ns() + 10**11

    def _wrap(self, store: Any) -> RetryingStore:
        return RetryingStore(
            store,
            base.Clock(self.clock.now, self.clock.sleep, self.chance.random),
            base.Breaker(lambda: self.queue.is_shut),
        )

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    fault: Callable[[], BaseException] = staticmethod(lambda: StoreUnavailable("busy", status=503))

    def _comes(self, call: Any) -> None:
        if self.now < self.down_until:
            self.asked.append(self.now)
            raise self.fault()

    def write(self, count: int) -> list[str]:
        """So many files, marked in this order, a second apart."""
        names = [f"f{number:05}" for number in range(count)]
        for name in names:
            self.rig.write(name, name.encode())
            self.queue.mark(self.rig.ref(name), quiet_seconds=0.0, event=True)
            self.clock.advance(0.001)
        return names

    def work(self) -> None:
        """Until nothing waits, or until `stop_at`."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(affinity, "narrow", lambda: None)  # this is the thread of all tests
            with pytest.raises(Nothing):
                self.workers._run()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.rig.close()


@pytest.mark.parametrize("outage", [10 * MINUTE, 5 * HOUR], ids=["minutes", "hours"])
def test_a_long_outage_costs_few_requests_and_ends_in_order(world: World, outage: float) -> None:
    """A probe now and then, whatever waits; then everything goes, the oldest first, within one pause."""
    world.down_until = outage
    names = world.write(200)

    world.work()

    begin = BREAKER_THRESHOLD * Retries().max_tries  # before the store is left alone
    assert len(world.asked) <= begin + 10 + outage / (BREAKER_CAP / 2)
    for since, until in itertools.pairwise(range(60, int(outage) + 60, 60)):
        assert sum(since <= at < until for at in world.asked) <= 5
    assert sorted(key for _, key in world.arrived) == [f"p/{name}" for name in names]
    first, _ = world.arrived[0]
    assert first - outage <= BREAKER_CAP
    failed = {ref.path for ref, _, _ in world.ear.failed_files}
    untouched = [key for _, key in world.arrived if key.removeprefix("p/") not in failed]
    assert untouched == sorted(untouched)
    last, _ = world.arrived[-1]
    assert last - first <= errors.STORE_SCHEDULE.cap_seconds  # those that had failed come a little later


def test_an_outage_makes_a_line_or_two_not_one_for_each_file(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Said when it begins and when it ends; the files in between are in the status."""
    caplog.set_level(logging.INFO)
    world.down_until = 5 * HOUR
    world.write(200)
    world.work()
    said = [record for record in caplog.records if record.name in ("syncd.transfer", "syncd.store")]
    assert sum("paused" in record.getMessage() for record in said) == 1
    assert sum("works again" in record.getMessage() for record in said) == 1
    throttle = logs.Throttle(say=lambda record: None)
    assert sum(throttle.filter(record) for record in said) <= 4


def test_a_refused_account_is_probed_once_a_minute_and_blames_no_file(world: World) -> None:
    """For hours; no file counts it as its own failure, so all of them go at once when the keys are right."""
    world.fault = lambda: AccessRefused("who are you", status=403, code="InvalidAccessKeyId")
    world.down_until = 2 * HOUR
    world.write(50)
    world.work()
    assert 100 <= len(world.asked) <= 2 * HOUR / errors.PAUSE_SECONDS + 1
    assert world.rig.state.failures.count() == {}
    assert len(world.arrived) == 50
    assert world.arrived[-1][0] - world.arrived[0][0] <= 2.0


def test_many_files_that_fail_make_neither_a_busy_loop_nor_many_lines(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is tried when its time has come, ever more seldom; the good one among them is not held up; and
    what is the same of all of them is said once a minute at most.
    """
    count = 1_000
    good = f"p/f{count // 2:05}"
    world.rig.fake.fail(
        "put_object",
        lambda call: StoreRefused("no", status=403, code="AccessDenied", request_id=str(call.nth)),
        times=None,
        when=lambda call: call.key != good,
    )
    told: list[logging.LogRecord] = []
    throttle = logs.Throttle(say=told.append, now=world.clock.monotonic)
    loggers = logging.getLogger("syncd.transfer")
    passing = logging.Handler()
    passing.addFilter(throttle)
    passing.emit = told.append  # type: ignore[method-assign]
    loggers.addHandler(passing)
    world.write(count)
    world.stop_at = world.now + HOUR
    try:
        world.work()
    finally:
        loggers.removeHandler(passing)

    assert [key for _, key in world.arrived] == [good]
    # Half of 60, 120, 240, ... seconds apart at least: seven tries in an hour.
    assert count <= world.rig.fake.calls["put_object"] <= 7 * count
    assert 1 <= len(told) <= 2 * HOUR / MINUTE
