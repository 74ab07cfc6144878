"""How often the bytes of a file go to a store that gives the same answer each time: a table, in virtual time.

Scenarios: every answer of the table to a small file and to a part; an answer to what comes after the content;
a hiccup; an outage in which the store answers nothing else, either; several files at once; a new state;
restarts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import ConnectionLost, FileChanged, FileError, FileUnreadable, StoreError, StoreFailed
from syncd.core.model import FileRef
from syncd.core.plan import Outcome
from syncd.pipeline.context import Clock, Context
from syncd.pipeline.queue import WorkQueue
from syncd.pipeline.workers import Workers
from syncd.storage import base
from syncd.storage.http.errors import CODES, Facts, refusal, refused
from syncd.storage.http.messages import Response
from syncd.storage.retry import Retries, RetryingStore
from syncd.storage.settings import HttpSettings, KeySettings, S3Settings
from syncd.transfer.pace.heartbeat import Heartbeat, Heartbeats
from tests.support.answers_page import STATUS_ROWS, word
from tests.support.faults import Call
from tests.support.rig import Rig

HOUR = 3600.0
DAY = 24 * HOUR
LEAST_HOURS = 0.5 * HOUR
"""Jitter takes up to half of an hour away."""
SETTINGS = S3Settings(HttpSettings("http://127.0.0.1"), "bucket")
SMALL, BIG = b"small", bytes(range(61))  # one request, and eight parts


class World:
    """A rig with a worker, and a clock that stands still unless the worker would wait."""

    def __init__(self, root: Path) -> None:
        self.now = 1000.0
        self.rig = Rig(root, wrap_store=self.retrying)
        self.begin()
        self.sent: list[tuple[float, Call]] = []
        for verb in ("put_object", "upload_part"):
            self.rig.fake.before(verb, lambda call: self.sent.append((self.now, call)))

    def begin(self, settings: S3Settings = SETTINGS, **changes: Any) -> None:
        """As a process that has just started, with `changes` of the policy."""
        self.rig.plain(**changes)
        clock = Clock(lambda: self.now, self.now_ns, lambda: 0.5)
        self.rig.now_ns = self.rig.uploader._now_ns = self.now_ns
        self.rig.uploader.leftovers._now_ns = self.now_ns
        self.rig.know(source=replace(self.rig.source, settle_seconds=0.0))
        context = Context(self.rig.state, clock, self, False, Heartbeats(1e9, clock.monotonic))
        heartbeat = Heartbeat(context.heartbeats)
        self.workers = Workers("store", self.rig.engine, context, heartbeat, settings)
        self.workers.take_up("docs", lambda path: True)

    def restart(self, settings: S3Settings = SETTINGS) -> None:
        self.rig.restart(wrap_store=self.retrying)
        self.begin(settings)

    def scan(self, *names: str) -> None:
        """Find these files, which have no record."""
        for name in names:
            self.workers.queue.mark(self.rig.ref(name), quiet_seconds=0.0, event=False)

    def retrying(self, store: base.ObjectStore) -> RetryingStore:
        waiting = base.Clock(lambda: self.now, self.sleep, lambda: 0.5)
        return RetryingStore(store, waiting, self.breaker())

    def breaker(self) -> base.Breaker:
        return base.Breaker(lambda: self.workers.queue.is_shut)

    def now_ns(self) -> int:
        return time.time_ns() + 10**10 + round(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def finished(self, ref: FileRef, outcome: Outcome, delay_seconds: float) -> None:
        """Nothing follows from it here."""

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None:
        """Nothing follows from it here."""

    def root_changed(self, source: str, reason: str) -> None:
        raise AssertionError(reason)

    def write(self, name: str, content: bytes) -> None:
        self.rig.write(name, content)
        self.workers.queue.mark(self.rig.ref(name), quiet_seconds=0.0, event=True)

    def run(self, seconds: float) -> None:
        """Let so much time pass, and the worker do what is due."""
        end = self.now + seconds
        while (due := self.workers.queue.due()) <= end:
            self.now = max(self.now, due)
            self.workers.step()
        self.now = max(self.now, end)

    def times(self, holds: Callable[[Call], bool]) -> list[float]:
        """When content was sent, in seconds since the first time."""
        found = [at for at, call in self.sent if holds(call)]
        return [at - found[0] for at in found]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.rig.close()


def answer(verb: str, status: int, code: str = "") -> StoreError:
    return refused(refusal(verb, status, code), Response(status, {}), Facts(code=code))


def answers(verb: str) -> list[StoreError]:
    """One of each meaning and class, of all that a store can answer to `verb`: others go the same way."""
    rows = [(status, "") for status in (200, 302, *STATUS_ROWS)] + [(400, code) for code in CODES]
    found: dict[tuple[type, str, int | None], StoreError] = {}
    for status, code in rows:
        error = answer(verb, status, code)
        found.setdefault((type(error), word(error), 403 if error.status == 403 else None), error)
    return [error for error in found.values() if word(error) != "moment"]


def ids(error: StoreError) -> str:
    return f"{word(error)} {error.status} {error.code}".strip()


def is_twice_and_then_rarely(times: list[float]) -> bool:
    """Twice, and from then on no two within the least of hours."""
    later = times[1:]
    return all(after - before >= LEAST_HOURS for before, after in pairwise(later))


@pytest.mark.parametrize("error", answers("put"), ids=ids)
def test_a_small_file_is_sent_twice_and_then_after_hours(world: World, error: StoreError) -> None:
    """While the store answers everything else; it is there as soon as it is taken."""
    world.rig.fake.fail("put_object", lambda call: _again(error), times=None)
    world.write("small", SMALL)
    world.run(DAY)
    times = world.times(lambda call: True)
    assert len(times) >= 4  # it is not forgotten
    assert is_twice_and_then_rarely(times), times
    (failure,) = world.rig.state.failures.page()
    assert str(error) in failure.error
    world.rig.fake.heal()
    world.run(DAY)
    assert "p/small" in world.rig.fake.objects


@pytest.mark.parametrize("error", answers("part"), ids=ids)
def test_a_part_is_sent_twice_and_then_after_hours(world: World, error: StoreError) -> None:
    """To one upload; where that is given up, the new one gets it once at once. What was taken stays taken."""
    world.rig.fake.fail(
        "upload_part", lambda call: _again(error), times=None, when=lambda call: call.number == 5
    )
    world.write("big", BIG)
    world.run(DAY)
    fifth = [call for _, call in world.sent if call.number == 5]
    for upload in {call.upload_id for call in fifth}:
        times = world.times(lambda call, upload=upload: (call.upload_id, call.number) == (upload, 5))  # type: ignore[misc]
        assert is_twice_and_then_rarely(times), (upload, times)
        others = [call.number for _, call in world.sent if call.upload_id == upload and call.number != 5]
        assert len(others) == len(set(others))
    assert len({call.upload_id for call in fifth}) <= 4
    world.rig.fake.heal()
    world.run(2 * DAY)
    assert world.rig.fake.objects["p/big"].data == BIG


@pytest.mark.parametrize("error", answers("complete"), ids=ids)
def test_an_upload_that_cannot_be_completed_is_sent_twice(world: World, error: StoreError) -> None:
    """Once more as another upload, and then after hours."""
    world.rig.fake.fail("complete_multipart_upload", lambda call: _again(error), times=None)
    world.write("big", BIG)
    world.run(DAY)
    for number in range(1, 9):
        assert is_twice_and_then_rarely(world.times(lambda call, number=number: call.number == number))  # type: ignore[misc]


@pytest.mark.parametrize("status", [408, 409, 425])
def test_a_trouble_that_should_pass_is_met_ever_more_rarely(world: World, status: int) -> None:
    """It may be the line or another request; so it is an hour at most, and twice in a row."""
    world.rig.fake.fail("put_object", lambda call: answer("put", status), times=None)
    world.write("small", SMALL)
    world.run(DAY)
    assert len(world.times(lambda call: True)) <= 2 + 6 + 2 * 24
    world.rig.fake.heal()
    world.run(HOUR)
    assert "p/small" in world.rig.fake.objects


@pytest.mark.parametrize(
    "error", [answer("put", 503), answer("put", 429), ConnectionLost("reset", outcome_unknown=True)], ids=str
)
def test_content_that_meets_a_busy_store_or_breaks_each_connection_goes_ever_more_rarely(
    world: World, error: StoreError
) -> None:
    """Something on the way may not like these bytes; the store answers everything else."""
    world.rig.fake.fail("put_object", lambda call: _again(error), times=None)
    world.write("small", SMALL)
    world.run(DAY)
    times = world.times(lambda call: True)
    assert sum(at < HOUR for at in times) <= 2 * Retries().max_tries + 10
    assert sum(at > 2 * HOUR for at in times) <= 48
    world.rig.fake.heal()
    world.run(HOUR)
    assert "p/small" in world.rig.fake.objects


@pytest.mark.parametrize("name", ["small", "big"])
@pytest.mark.parametrize("status", [500, 502, 200])
def test_a_hiccup_is_waited_for(world: World, name: str, status: int) -> None:
    """A store that fails for three seconds makes no file wait."""
    world.rig.fake.fail(
        "*", lambda call: answer("put", status), times=None, when=lambda call: world.now < 1003.0
    )
    world.write(name, {"small": SMALL, "big": BIG}[name])
    world.run(60.0)
    assert f"p/{name}" in world.rig.fake.objects


@pytest.mark.parametrize("error", [*answers("put")], ids=ids)
def test_an_outage_counts_against_no_file(world: World, error: StoreError) -> None:
    """While not even a neutral question is answered, content is not sent in vain, and goes on right after."""
    if word(error) not in ("failed", "gateway", "keys", "place"):
        return
    world.rig.fake.fail("*", lambda call: _again(error), times=None)
    world.write("small", SMALL)
    world.run(DAY)
    assert len(world.sent) <= 2 + 5  # after 1, 2, 4, 8 and 16 hours
    assert world.rig.state.failures.count().get("docs", 0) <= 1
    world.rig.fake.heal()
    world.run(300.0)
    assert "p/small" in world.rig.fake.objects


def test_a_store_that_answers_no_question_and_takes_content_is_not_shut_for_good(world: World) -> None:
    """A gateway that fails at reading: content finds out, after an hour, and the question counts no more."""
    failed = StoreFailed("broken", status=500, outcome_unknown=True)
    world.rig.fake.fail("get_object", failed, times=None)
    world.rig.fake.fail("put_object", failed, times=None, when=lambda call: world.now < 1060.0)
    names = [f"small{number}" for number in range(5)]
    for name in names:
        world.write(name, name.encode())
    world.run(2 * HOUR)
    assert world.rig.fake.objects.keys() == {f"p/{name}" for name in names}
    world.rig.fake.fail("put_object", failed, times=2)
    world.write("later", b"later")
    world.run(120.0)
    assert not world.workers.health.paused_for
    world.rig.fake.heal()  # now it answers, and that counts again
    world.rig.fake.fail("put_object", failed, times=2)
    world.write("last", b"last")
    world.run(60.0)
    assert not world.workers.health._is_question_vain


def test_of_files_that_failed_together_one_is_tried_once_more_when_the_store_takes_another(
    world: World,
) -> None:
    """Several that failed, with nothing taken in between, speak against the store; one try tells."""
    failed = StoreFailed("broken", status=500, outcome_unknown=True)
    world.rig.fake.fail("put_object", failed, times=None, when=lambda call: "bad" in call.key)
    for name in ("bad1", "bad2", "bad3"):
        world.write(name, name.encode())
    world.run(600.0)
    for round_ in range(4):
        world.write(f"good{round_}", b"good%d" % round_)
        world.run(60.0)
    sent = [len(world.times(lambda call, name=name: name in call.key)) for name in ("bad1", "bad2", "bad3")]  # type: ignore[misc]
    assert sorted(sent) == [2, 2, 3]
    world.rig.fake.heal()
    assert world.workers.retry("docs", lambda path: path == "bad1") == 1
    world.run(60.0)
    assert "p/bad1" in world.rig.fake.objects


def test_files_that_failed_together_go_on_together_when_one_of_them_is_taken(world: World) -> None:
    """The store was at fault, and no file has to wait for hours."""
    failed = StoreFailed("broken", status=500, outcome_unknown=True)
    world.rig.fake.fail("put_object", failed, times=None)
    names = [f"bad{number}" for number in range(5)]
    for name in names:
        world.write(name, name.encode())
    world.run(600.0)
    world.rig.fake.heal()
    world.write("good", b"good")
    world.run(120.0)
    assert world.rig.fake.objects.keys() >= {f"p/{name}" for name in names}


@pytest.mark.parametrize("error", answers("put"), ids=ids)
def test_a_restart_does_not_begin_the_count_again(world: World, error: StoreError) -> None:
    """A service that ends twice an hour tries a refused file no more often than one that goes on."""
    world.rig.fake.fail("put_object", lambda call: _again(error), times=None)
    world.write("small", SMALL)
    for _ in range(18):
        world.run(HOUR / 2)
        world.restart()
        world.scan("small")
    times = world.times(lambda call: True)
    tries = [at for before, at in pairwise([-DAY, *times]) if at - before > 10.0]  # two in place are one
    assert len(tries) >= 4
    assert is_twice_and_then_rarely(tries), times
    (failure,) = world.rig.state.failures.page()
    assert str(error) in failure.error
    world.rig.fake.heal()
    world.run(DAY)
    assert "p/small" in world.rig.fake.objects


def test_an_unfinished_upload_that_was_refused_waits_after_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although a worker takes it as soon as it is marked."""
    world.rig.fake.fail("upload_part", lambda call: answer("part", 403), times=None)
    world.write("big", BIG)
    world.run(60.0)
    sent = len(world.sent)
    assert world.rig.state.checkpoints.all()
    mark = WorkQueue.mark

    def taken_at_once(queue: WorkQueue, *what: Any, **how: Any) -> None:
        mark(queue, *what, **how)
        world.workers.step()

    monkeypatch.setattr(WorkQueue, "mark", taken_at_once)
    world.restart()
    assert len(world.sent) == sent


def test_a_restart_with_other_settings_tries_again_what_was_refused(world: World) -> None:
    """They may be the remedy; so may another state of the file, and the operator who says so."""
    world.rig.fake.fail("put_object", lambda call: answer("put", 403), times=None)
    world.write("small", SMALL)
    world.run(60.0)
    assert len(world.sent) == 2
    world.restart()
    world.run(60.0)
    assert len(world.sent) == 2
    world.restart(replace(SETTINGS, keys=KeySettings(access_key_id="other")))
    world.run(60.0)
    assert len(world.sent) == 4
    world.write("small", b"other")
    world.run(60.0)
    assert len(world.sent) == 6
    assert world.workers.retry("docs", lambda path: True) == 1
    world.run(60.0)
    assert len(world.sent) == 7


def test_a_file_that_used_up_its_attempts_is_not_sent_again_by_scans_and_restarts(world: World) -> None:
    """It waits for a change or for the operator, and does not hold up a pass."""
    world.begin(max_attempts=2)
    world.rig.engine.policy = world.rig.policy
    world.rig.fake.fail("put_object", lambda call: answer("put", 400), times=None)
    world.write("small", SMALL)
    for _ in range(3):
        for _ in range(3):
            world.run(HOUR)
            world.scan("small")
            world.run(60.0)
            assert world.workers.queue.idle()
        world.restart()
    assert len(world.sent) == 2
    world.rig.fake.heal()
    world.workers.retry("docs", lambda path: True)
    world.run(60.0)
    assert "p/small" in world.rig.fake.objects


@pytest.mark.parametrize("error", [FileUnreadable("Input/output error"), FileChanged("it changed")], ids=str)
@pytest.mark.parametrize("took", [0.1, 30.0, 3 * HOUR])
def test_a_file_that_is_read_in_vain_is_read_for_a_fifth_of_the_time_at_most(
    world: World, error: FileError, took: float
) -> None:
    """A disk with a bad sector, or one large file that is never the same, keeps no reader busy for good."""
    read: list[float] = []

    def sync(ref: FileRef, **_how: Any) -> Outcome:
        world.sleep(took)
        read.append(world.now)
        raise copy(error)

    world.rig.engine.sync = sync  # type: ignore[method-assign]
    world.write("big", BIG)
    world.run(10 * took)
    read.clear()
    for _ in range(20):
        world.write("big", BIG)  # an event hastens nothing that costs
        world.run(5 * took)
    assert 1 <= len(read) <= 20 or took < 1.0
    assert all(failure.next_attempt_ns > world.now_ns() for failure in world.rig.state.failures.page())


def test_a_new_state_of_a_file_is_new_content(world: World) -> None:
    """It is sent twice as well."""
    failed = StoreFailed("broken", status=500, outcome_unknown=True)
    world.rig.fake.fail("put_object", failed, times=None)
    world.write("small", SMALL)
    world.run(60.0)
    assert len(world.sent) == 2
    world.write("small", b"other")
    world.run(60.0)
    assert len(world.sent) == 4


def _again(error: StoreError) -> StoreError:
    """The same answer, as an error of its own: each carries what it met."""
    return copy(error)
