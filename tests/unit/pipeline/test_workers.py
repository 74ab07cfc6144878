"""The threads that carry files: nothing that a file, a store, the state or a listener does ends them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import (
    REFUSED_SECONDS,
    AccessRefused,
    FileChanged,
    FilePaused,
    FileUnreadable,
    StateError,
    Stopped,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import Failure, FileRef, OnDelete
from syncd.core.plan import Nothing, Outcome
from syncd.pipeline import queue as workqueue
from syncd.pipeline.context import Clock, Context
from syncd.pipeline.workers import Workers
from syncd.sources import files
from syncd.sources.files import OpenFile
from syncd.transfer.pace.heartbeat import Heartbeat, Heartbeats
from tests.support.rig import PART, Rig
from tests.support.waiting import wait_until


class Ear:
    """Hears what became of files."""

    def __init__(self) -> None:
        self.finished_files: list[tuple[FileRef, Outcome]] = []
        self.delays: list[float] = []
        self.failed_files: list[tuple[FileRef, BaseException, int]] = []
        self.doubts: list[str] = []
        self.raises: BaseException | None = None

    def finished(self, ref: FileRef, outcome: Outcome, delay_seconds: float) -> None:
        self.finished_files.append((ref, outcome))
        self.delays.append(delay_seconds)
        if self.raises is not None:
            raise self.raises

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None:
        self.failed_files.append((ref, error, attempts))

    def root_changed(self, source: str, reason: str) -> None:
        self.doubts.append(source)

    def outcomes(self) -> list[str]:
        return [type(outcome.action).__name__ for _, outcome in self.finished_files]


class Crew:
    """Workers on a rig, and everything that a test wants to look at."""

    def __init__(self, rig: Rig, *, once: bool = False) -> None:
        self.rig = rig
        # The files of these tests were written a moment ago.
        rig.configure(settle_seconds=0.0)
        self.ear = Ear()
        self.jump = 0.0
        self.clock = Clock(lambda: time.monotonic() + self.jump, time.time_ns, lambda: 0.5)
        self.heartbeats = Heartbeats(60.0, self.clock.monotonic)
        context = Context(rig.state, self.clock, self.ear, once, self.heartbeats)
        heartbeat = Heartbeat(self.heartbeats)
        self.workers = Workers("store", rig.engine, context, heartbeat)
        self.queue = self.workers.queue
        self.workers.start()

    def mark(self, *names: str, delete_allowed: bool = False) -> None:
        for name in names:
            ref = self.rig.ref(name)
            self.queue.mark(ref, quiet_seconds=0.0, event=True, delete_allowed=delete_allowed)

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.jump += seconds
        with self.queue._work:
            self.queue._work.notify_all()

    def wait_idle(self) -> None:
        assert self.queue.wait_idle(30.0)

    def stop(self) -> None:
        self.workers.stop()
        assert self.workers.join(30.0)


@pytest.fixture
def crew(rig: Rig) -> Iterator[Crew]:
    crew = Crew(rig)
    yield crew
    crew.stop()


@pytest.fixture
def once(rig: Rig) -> Iterator[Crew]:
    crew = Crew(rig, once=True)
    yield crew
    crew.stop()


def age(rig: Rig) -> None:
    """Let files be old, so that their records are not too young to be trusted."""
    rig.now_ns = lambda: time.time_ns() + 10**10


def test_what_is_marked_is_carried(rig: Rig, crew: Crew) -> None:
    """Every file arrives, and the listener hears of each."""
    age(rig)
    names = [f"f{number}" for number in range(50)]
    for name in names:
        rig.write(name, name.encode())
    crew.mark(*names)
    crew.wait_idle()
    assert {key: found.data for key, found in rig.fake.objects.items()} == {
        f"p/{name}": name.encode() for name in names
    }
    assert crew.ear.outcomes() == ["Upload"] * 50
    assert all(0 < delay < 300 for delay in crew.ear.delays)
    assert rig.state.recorded_totals("docs")[0] == 50


def test_the_other_names_of_a_file_that_changed_are_carried(rig: Rig, crew: Crew) -> None:
    """An event tells of the name by which the file was opened, and of no other."""
    rig.write("a", b"one")
    (rig.folder / "b").hardlink_to(rig.folder / "a")
    crew.mark("a", "b")
    crew.wait_idle()
    rig.write("a", b"two")
    crew.mark("a")
    crew.wait_idle()
    assert {key: found.data for key, found in rig.fake.objects.items()} == {"p/a": b"two", "p/b": b"two"}


def test_the_listener_hears_before_the_file_counts_as_done(rig: Rig) -> None:
    """Who waits for the end knows that everything has been told by then."""
    crew = Crew(rig, once=True)
    release = threading.Event()
    heard: list[FileRef] = []

    def slow(ref: FileRef, outcome: Outcome, delay_seconds: float) -> None:
        release.wait(30)
        heard.append(ref)

    crew.ear.finished = slow  # type: ignore[method-assign]
    rig.write("a", b"x")
    crew.mark("a")
    wait_until("it is uploaded", lambda: "p/a" in rig.fake.objects)
    assert not crew.queue.idle()
    release.set()
    crew.wait_idle()
    assert heard == [rig.ref("a")]
    crew.stop()


def test_a_listener_that_fails_harms_nobody(rig: Rig, once: Crew, caplog: pytest.LogCaptureFixture) -> None:
    """The file is done, the error is logged, and the worker goes on."""
    once.ear.raises = KeyError("broken listener")
    for name in ("a", "b", "c", "d", "e"):
        rig.write(name, b"x" + name.encode())
    once.mark("a", "b", "c", "d", "e")
    once.wait_idle()
    assert len(rig.fake.objects) == 5
    assert "while reporting the result of a file" in caplog.text


def test_a_state_that_a_listener_cannot_write_is_no_surprise(
    rig: Rig, once: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    """As anywhere else: sending pauses, and no traceback is logged."""
    judged: list[BaseException] = []
    judge = once.workers.health.judge
    once.workers.health.judge = lambda ref, error, *rest, **more: (  # type: ignore[method-assign]
        judged.append(error),
        judge(ref, error, *rest, **more),
    )[1]
    once.ear.raises = StateError("no room on the disk")
    rig.write("a", b"x")
    once.mark("a")
    once.wait_idle()
    assert [str(error) for error in judged] == ["no room on the disk"]
    assert "unexpected" not in caplog.text


def test_a_file_that_failed_is_tried_again_when_its_time_comes(rig: Rig, crew: Crew) -> None:
    """The state has the failure until the file succeeds, and not afterwards."""
    rig.fake.fail("put_object", StoreRefused("not now"))
    rig.write("a", b"x")
    crew.mark("a")
    wait_until("it failed", lambda: crew.ear.failed_files)
    wait_until("it is recorded", lambda: rig.state.failures.page())
    assert [(failure.ref, failure.attempts) for failure in rig.state.failures.page()] == [(rig.ref("a"), 1)]
    crew.later(3600.0)
    wait_until("it is there", lambda: "p/a" in rig.fake.objects)
    wait_until("it is forgotten", lambda: not rig.state.failures.page())


def test_a_failure_is_forgotten_when_the_file_turns_out_to_be_as_recorded(rig: Rig, crew: Crew) -> None:
    """Also an outcome without a commit ends a failure."""
    age(rig)
    rig.write("a", b"x")
    crew.mark("a")
    crew.wait_idle()
    failure = Failure(rig.ref("a"), "old", 3, 0)
    rig.state.failures.record(failure)
    crew.workers.remember_failure(failure)
    crew.wait_idle()
    assert rig.state.failures.page() == []


def test_failures_go_on_counting_after_a_restart(rig: Rig, crew: Crew) -> None:
    """What failed three times before fails for the fourth time."""
    rig.fake.fail("put_object", StoreRefused("no"), times=None)
    ref = rig.write("a", b"x")
    crew.workers.remember_failure(Failure(ref, "no", 3, 0))
    wait_until("it failed", lambda: crew.ear.failed_files)
    assert crew.ear.failed_files[0][2] == 4


@pytest.mark.parametrize("refusals", [0, 3])
def test_an_outage_before_makes_no_refusal_wait_for_hours(rig: Rig, crew: Crew, refusals: int) -> None:
    """A file that a store did not take for a night is not refused twice when its keys are refused once."""
    rig.fake.fail("put_object", StoreRefused("no"), times=None)
    ref = rig.write("a", b"x")
    crew.workers.remember_failure(Failure(ref, "no answer", 8, 0, refusals))
    wait_until("it failed", lambda: rig.state.failures.page())
    (failure,) = rig.state.failures.page()
    assert (failure.attempts, failure.refusals) == (9, refusals + 1)
    assert (failure.next_attempt_ns - time.time_ns() > 3600 * 10**9) == bool(refusals)


BAD_KEYS = AccessRefused("no such key", status=403, code="InvalidAccessKeyId")


def refused_again(rig: Rig, crew: Crew, times: int) -> Failure:
    """The failure of the only file that fails, after so many of its tries."""
    wait_until("it failed again", lambda: len(crew.ear.failed_files) == times)
    wait_until("no worker is busy", lambda: not crew.queue.counts()[1])
    (failure,) = rig.state.failures.page()
    return failure


@pytest.mark.parametrize("between", [None, FileChanged("it is written to")], ids=["refused", "changed"])
@pytest.mark.parametrize("error", [BAD_KEYS, StoreRefused("no", status=400)], ids=str)
def test_each_state_of_a_file_is_refused_for_the_first_time(
    rig: Rig, crew: Crew, monkeypatch: pytest.MonkeyPatch, error: StoreError, between: FileChanged | None
) -> None:
    """However often it changes while the store refuses it, also where it moved when it was to be read."""
    rig.fake.fail("put_object", error, times=None)
    real = rig.engine.sync
    for number in range(1, 6):
        rig.write("log", b"x" * number)
        if between is not None:
            moved = iter([between])

            def sync(*args: Any, moved: Iterator[BaseException] = moved, **named: Any) -> Outcome:
                for raised in moved:
                    raise raised
                return real(*args, **named)

            monkeypatch.setattr(rig.engine, "sync", sync)
        crew.mark("log")
        failure = refused_again(rig, crew, number)
        assert (failure.attempts, failure.refusals) == (1, 1)


def test_a_try_that_an_event_hastened_repeats_the_one_before(rig: Rig, crew: Crew) -> None:
    """A file that comes and goes while the store refuses to delete its object does not wait for hours."""
    rig.configure(settle_seconds=0.0, on_delete=OnDelete.DELETE)
    age(rig)
    rig.write("a", b"x")
    crew.mark("a")
    crew.wait_idle()
    (rig.folder / "a").unlink()
    rig.fake.fail("delete_object", BAD_KEYS, times=None)
    for number in range(1, 6):
        crew.mark("a", delete_allowed=True)
        failure = refused_again(rig, crew, number)
        assert (failure.attempts, failure.refusals) == (1, 1)
    crew.later(REFUSED_SECONDS)
    failure = refused_again(rig, crew, 6)
    assert (failure.attempts, failure.refusals) == (2, 2)


@pytest.mark.parametrize(
    ("error", "freed"),
    [(BAD_KEYS, True), (StoreRefused("no", status=403), True), (StoreRefused("no", status=400), False)],
    ids=str,
)
def test_files_do_not_wait_for_hours_for_keys_that_are_right_again(
    rig: Rig, crew: Crew, error: StoreError, freed: bool
) -> None:
    """Of what was refused while nothing was taken, one is tried again with the first content that is; refused
    once more, each is to blame itself."""
    is_bad = {"p/a", "p/b"}.__contains__  # each failure is an error of its own: it carries its file's stat
    rig.fake.fail("put_object", lambda call: copy(error), times=None, when=lambda call: is_bad(call.key))
    for name in ("a", "b"):
        rig.write(name, name.encode())
    crew.mark("a", "b")
    for times in (2, 4):
        wait_until("they failed", lambda times=times: len(crew.ear.failed_files) == times)
        wait_until("no worker is busy", lambda: not crew.queue.counts()[1])
        crew.later(REFUSED_SECONDS)
    for tries, name in ((4 + freed, "good"), (4 + freed, "better")):
        rig.write(name, name.encode())
        crew.mark(name)
        wait_until("it is there", lambda name=name: f"p/{name}" in rig.fake.objects)
        wait_until("they failed", lambda tries=tries: len(crew.ear.failed_files) == tries)
        wait_until("no worker is busy", lambda: not crew.queue.counts()[1])
    assert rig.fake.calls["put_object"] == 6 + freed
    assert sorted(failure.refusals for failure in rig.state.failures.page()) == [2, 2 + freed]


def test_a_file_that_was_changed_a_moment_ago_rests_first(rig: Rig, crew: Crew) -> None:
    """Whatever marked it: a write may be going on that no event has told of yet, and no stat ever will."""
    rig.configure(settle_seconds=4.0)
    rig.write("a", b"x")
    os.utime(rig.folder / "a", ns=(0, 0))  # an old modification time proves nothing
    changed_ns = (rig.folder / "a").stat().st_ctime_ns
    rig.now_ns = lambda: changed_ns + 10**8
    crew.mark("a")
    wait_until("it waits", lambda: crew.queue.counts() == ({"docs": 1}, ()))
    assert rig.fake.calls.total() == 0
    rig.now_ns = lambda: changed_ns + 10**10
    crew.later(4.0)
    wait_until("it is there", lambda: crew.ear.outcomes() == ["Upload"])
    assert crew.ear.failed_files == []


def test_a_restless_file_waits_for_the_remainder_of_its_settle_period(rig: Rig, crew: Crew) -> None:
    """Not for the whole period again."""
    rig.configure(settle_seconds=600.0)
    rig.write("a", b"x")
    changed_ns = (rig.folder / "a").stat().st_ctime_ns
    rig.now_ns = lambda: changed_ns + 599 * 10**9
    crew.mark("a")
    wait_until("it waits", lambda: crew.queue.marks == 2 and not crew.queue.counts()[1])
    rig.now_ns = lambda: changed_ns + 601 * 10**9
    crew.later(2.0)
    wait_until("it is there", lambda: crew.ear.outcomes() == ["Upload"])


def test_a_file_that_may_be_open_is_read_again_after_a_minute(
    rig: Rig, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if only a scan found it; until then nothing is pending."""
    monkeypatch.setattr(OpenFile, "is_open_for_writing", lambda file: None)
    age(rig)
    rig.write("a", b"x")
    crew.queue.mark(rig.ref("a"), quiet_seconds=0.0, event=False)
    crew.wait_idle()
    rig.now_ns = lambda: time.time_ns() + 61 * 10**9
    crew.later(61.0)
    wait_until("it is confirmed", lambda: crew.ear.outcomes() == ["Upload", "Refresh"])


def test_looking_again_is_no_failure(rig: Rig, crew: Crew) -> None:
    """A file that changed fifty times under us has not used up any of its attempts."""
    rig.plain(max_attempts=2)
    rig.engine.policy = rig.policy
    rig.write("a", b"x")
    real = rig.engine.sync
    looks: list[int] = []

    def restless(ref: FileRef, **how: Any) -> Outcome:
        looks.append(1)
        if len(looks) <= 10:
            raise FileChanged("moved")
        if len(looks) == 11:
            raise FileUnreadable("once")
        return real(ref, **how)

    rig.engine.sync = restless  # type: ignore[method-assign]
    crew.mark("a")

    def pushed() -> bool:
        crew.later(2.0)
        return bool(crew.ear.failed_files)

    wait_until("it failed for good", pushed)
    assert [attempts for _, _, attempts in crew.ear.failed_files] == [1]
    crew.later(3600.0)
    wait_until("it is there", lambda: "p/a" in rig.fake.objects)


def test_a_file_that_keeps_changing_under_a_single_pass_is_reported(rig: Rig, once: Crew) -> None:
    """It is given up after a few looks, and that is a failure."""

    def restless(ref: FileRef, **how: Any) -> Outcome:
        raise FileChanged("moved")

    rig.engine.sync = restless  # type: ignore[method-assign]
    once.mark("a")
    once.wait_idle()
    assert [(ref.path, str(error)) for ref, error, _ in once.ear.failed_files] == [("a", "moved")]


def test_a_single_pass_tells_once_why_a_file_was_refused(rig: Rig) -> None:
    """A failure of before brings the file, and the scan brings it again: nothing else failed by then."""
    crew = Crew(rig, once=True)
    rig.fake.fail("put_object", StoreRefused("no"), times=None)
    rig.write("a", b"a")
    try:
        for _ in range(2):
            crew.mark("a")
            crew.wait_idle()
    finally:
        crew.stop()
    assert [(failure.error, failure.attempts) for failure in rig.state.failures.page()] == [("no", 1)]
    assert len(crew.ear.failed_files) == 1


def test_attempts_have_an_end_when_the_policy_says_so(rig: Rig, crew: Crew) -> None:
    """Then the file rests until it changes, and status says so."""
    rig.plain(max_attempts=2)
    rig.engine.policy = rig.policy
    rig.fake.fail("put_object", StoreRefused("no"), times=None)
    rig.write("a", b"x")
    crew.mark("a")
    wait_until("it failed once", lambda: len(crew.ear.failed_files) == 1)
    crew.later(3600.0)
    crew.wait_idle()
    assert [(each.attempts, each.next_attempt_ns) for each in rig.state.failures.page()] == [(2, 0)]


def test_a_bug_in_a_step_poisons_one_file_only(
    rig: Rig, crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told with its traceback; the others arrive."""
    real = rig.engine.sync

    def buggy(ref: FileRef, **how: Any) -> Outcome:
        if ref.path == "bad":
            raise ZeroDivisionError("a bug")
        return real(ref, **how)

    rig.engine.sync = buggy  # type: ignore[method-assign]
    names = ["bad", *(f"f{number}" for number in range(20))]
    for name in names:
        rig.write(name, name.encode())
    crew.mark(*names)
    wait_until("the others are there", lambda: len(rig.fake.objects) == 20)
    wait_until("it is told", lambda: crew.ear.failed_files)
    assert "ZeroDivisionError" in caplog.text
    assert [failure.ref.path for failure in rig.state.failures.page()] == ["bad"]


# ---- stores -----------------------------------------------------------------------------------------------


def test_a_refused_account_is_said_once_and_probed_once_a_minute(
    rig: Rig, crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred files cost no hundred requests, and no hundred failures."""
    caplog.set_level(logging.INFO)
    rig.fake.fail("*", AccessRefused("bad key"), times=None)
    names = [f"f{number}" for number in range(100)]
    for name in names:
        rig.write(name, name.encode())
    crew.mark(*names)
    wait_until("it is paused", lambda: crew.workers.health.paused_for == "bad key")
    wait_until("no worker is busy", lambda: not crew.queue.counts()[1])
    first = rig.fake.calls["put_object"]
    assert first <= rig.policy.concurrency
    assert rig.state.failures.page() == []
    asked = rig.fake.calls["get_object"]
    crew.later(61.0)
    wait_until("it is probed", lambda: rig.fake.calls["get_object"] == asked + 1)
    assert rig.fake.calls["put_object"] == first
    assert caplog.text.count("paused") == 1
    rig.fake.heal()
    crew.later(61.0)
    crew.later(3600.0)
    wait_until("all are there", lambda: len(rig.fake.objects) == 100)
    assert crew.workers.health.paused_for == ""
    assert "works again" in caplog.text


def test_an_unchanged_file_does_not_open_the_door_of_a_store_that_is_down(rig: Rig, crew: Crew) -> None:
    """Only what the store itself did tells that it is there."""
    age(rig)
    rig.write("same", b"x")
    crew.mark("same")
    crew.wait_idle()
    crew.queue.pause(10.0)
    crew.queue.mark(rig.ref("same"), quiet_seconds=0.0, event=False)
    crew.later(10.0)
    crew.wait_idle()
    assert crew.ear.outcomes() == ["Upload", "Nothing"]
    assert crew.queue.is_shut


def test_a_name_that_we_refuse_ourselves_does_not_open_the_door_either(rig: Rig, crew: Crew) -> None:
    """A key that is too long never went to the store: it tells nothing about it."""
    name = "d" * 100 + "/" + "x" * 150
    rig.write(name, b"x")
    crew.queue.pause(10.0)
    crew.mark(name)
    crew.later(10.0)
    wait_until("it is refused", lambda: len(crew.ear.failed_files) == 1)
    wait_until("no worker is busy", lambda: not crew.queue.counts()[1])
    assert crew.queue.is_shut


def test_a_store_that_is_down_ends_a_single_pass(rig: Rig, once: Crew) -> None:
    """The pass is over, although files wait, and says why."""
    rig.fake.fail("*", StoreUnavailable("connection refused"), times=None)
    names = [f"f{number}" for number in range(20)]
    for name in names:
        rig.write(name, name.encode())
    once.mark(*names)
    once.wait_idle()
    assert str(once.workers.health.gave_up) == "connection refused"
    assert rig.fake.calls["put_object"] <= workqueue.BREAKER_THRESHOLD + rig.policy.concurrency


def test_a_store_that_asks_for_a_pause_is_left_alone(rig: Rig, crew: Crew) -> None:
    """Retry-After is kept to by all files, not only by the one that was told."""
    rig.fake.fail("*", StoreUnavailable("slow down", retry_after_seconds=600.0), times=2)
    for name in ("a", "b"):
        rig.write(name, name.encode())
    crew.mark("a")
    wait_until(
        "it is paused, and the file put off", lambda: crew.queue.is_shut and not crew.queue.counts()[1]
    )
    crew.mark("b")
    crew.later(500.0)
    assert rig.fake.calls["put_object"] == 1
    crew.later(101.0)
    crew.later(600.0)
    wait_until("both are there", lambda: len(rig.fake.objects) == 2)


def test_many_failures_of_one_kind_have_one_cause(
    rig: Rig, crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    """Request ids differ; the lines are held back nevertheless."""

    def refused(call: Any) -> BaseException:
        return StoreRefused("no", status=403, code="AccessDenied", request_id=f"id-{call.nth}")

    rig.fake.fail("put_object", refused, times=None)
    names = [f"f{number}" for number in range(30)]
    for name in names:
        rig.write(name, name.encode())
    crew.mark(*names)
    wait_until("all failed", lambda: len(crew.ear.failed_files) == 30)
    causes = {
        getattr(record, "cause", None) for record in caplog.records if record.levelno == logging.WARNING
    }
    assert causes == {"file failed: StoreRefused 403 AccessDenied"}


# ---- the state --------------------------------------------------------------------------------------------


class Unwritable:
    """A state whose disk is full when told."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.full = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._state, name)
        if name == "failures":
            part = Unwritable(found)
            part.full = self.full
            return part
        return self._refuse if self.full and name in ("flush", "commit", "record", "drop") else found

    def _refuse(self, *args: object, **named: object) -> None:
        raise StateError("no room on the disk")


def unwritable_rig(tmp_path: Path) -> tuple[Rig, Unwritable]:
    made: list[Unwritable] = []

    def wrap(state: Any) -> Any:
        made.append(Unwritable(state))
        return made[0]

    rig = Rig(tmp_path, wrap_state=wrap)
    return rig, made[0]


def test_a_full_disk_stops_transfers_and_no_worker(tmp_path: Path) -> None:
    """Without memory nothing is sent; with room again everything goes on by itself."""
    rig, state = unwritable_rig(tmp_path)
    age(rig)
    crew = Crew(rig)
    state.full = True
    names = [f"f{number}" for number in range(10)]
    for name in names:
        rig.write(name, name.encode())
    crew.mark(*names)
    wait_until("it says so", lambda: crew.workers.health.paused_for == "no room on the disk")
    wait_until("no worker is busy", lambda: not crew.queue.counts()[1])
    state.full = False

    def done() -> bool:
        crew.later(6.0)
        return rig.state.recorded_totals("docs")[0] == 10

    wait_until("all are recorded", done)
    crew.stop()
    rig.close()


def test_a_disk_that_is_full_at_the_last_moment_is_noticed(tmp_path: Path) -> None:
    """The last records go with the flush at the end of the work: its failure is not lost."""
    rig, state = unwritable_rig(tmp_path)
    age(rig)
    crew = Crew(rig)
    real = rig.state.flush
    state.__dict__["flush"] = lambda: state._refuse() if rig.fake.calls["put_object"] else real()
    rig.write("a", b"x")
    crew.mark("a")
    wait_until("it is said", lambda: crew.workers.health.paused_for == "no room on the disk")
    crew.wait_idle()
    crew.stop()
    rig.close()


# ---- deletions, roots, stopping ---------------------------------------------------------------------------


def deleting_rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    age(rig)
    return rig


def test_a_permission_to_delete_is_for_one_look(tmp_path: Path) -> None:
    """A file that is there again keeps its object, and a later disappearance is judged for itself."""
    rig = deleting_rig(tmp_path)
    crew = Crew(rig)
    ref = rig.write("a", b"x")
    crew.mark("a")
    crew.wait_idle()
    crew.mark("a", delete_allowed=True)
    crew.wait_idle()
    assert crew.queue.allowed_at(ref) is None
    (rig.folder / "a").unlink()
    crew.mark("a")
    crew.wait_idle()
    assert crew.ear.finished_files[-1][1].wants_delete is True
    assert "p/a" in rig.fake.objects
    crew.stop()
    rig.close()


def test_a_permission_to_delete_outlives_a_store_that_is_down(tmp_path: Path) -> None:
    """The deletion is tried again without being asked for again."""
    rig = deleting_rig(tmp_path)
    crew = Crew(rig)
    ref = rig.write("a", b"x")
    crew.mark("a")
    crew.wait_idle()
    (rig.folder / "a").unlink()
    rig.fake.fail("delete_object", StoreUnavailable("down"))
    crew.mark("a", delete_allowed=True)
    wait_until("it failed", lambda: crew.ear.failed_files)
    wait_until("it waits", lambda: crew.queue.counts() == ({"docs": 1}, ()))
    assert crew.queue.allowed_at(ref) is not None
    crew.later(3600.0)
    wait_until("it is gone", lambda: "p/a" not in rig.fake.objects)
    crew.wait_idle()
    assert not any(outcome.wants_delete for _, outcome in crew.ear.finished_files)
    crew.stop()
    rig.close()


def test_a_doubtful_root_is_told_and_nothing_is_concluded(rig: Rig, crew: Crew) -> None:
    """The files are not failures of theirs, and they stay dirty: the root may be back before its keeper
    looks, and what an event had told would be lost.
    """
    rig.write("a", b"x")
    away = rig.folder.with_name("away")
    rig.folder.rename(away)
    crew.mark("a")
    wait_until("put off", lambda: crew.ear.doubts and crew.queue.counts() == ({"docs": 1}, ()))
    assert crew.ear.doubts == ["docs"]
    assert (crew.ear.failed_files, rig.state.failures.page()) == ([], [])
    away.rename(rig.folder)
    crew.later(5.0)
    crew.wait_idle()
    assert crew.ear.outcomes()[0] == "Upload"


def test_discarding_a_source_takes_back_every_permission(rig: Rig, crew: Crew) -> None:
    """What was allowed for another root, or by another configuration, is not allowed now."""
    crew.queue.pause(3600.0)
    other = FileRef("other", "x")
    for ref in (rig.ref("a"), other):
        crew.queue.mark(ref, quiet_seconds=3600.0, event=True, delete_allowed=True)
    crew.workers.discard("docs")
    assert crew.queue.allowed_at(rig.ref("a")) is None
    assert crew.queue.allowed_at(other) is not None


def test_stop_ends_workers_that_wait_and_workers_that_are_told_to(rig: Rig, crew: Crew) -> None:
    """A step that is asked to stop raises, and its file stays dirty for the next start."""

    def stopped(ref: FileRef, **how: Any) -> Outcome:
        raise Stopped

    rig.engine.sync = stopped  # type: ignore[method-assign]
    crew.mark("a")
    wait_until("a worker ended", lambda: not all(thread.is_alive() for thread in crew.workers._threads))
    crew.stop()
    assert crew.heartbeats.late(1e18) == ()


def test_an_idle_worker_has_no_deadline(rig: Rig, crew: Crew) -> None:
    """So an idle daemon needs no timer to look alive."""
    rig.write("a", b"x")
    crew.mark("a")
    wait_until("it is there", lambda: "p/a" in rig.fake.objects)
    wait_until("no heartbeat is expected", lambda: crew.heartbeats.late(1e18) == ())


def test_a_worker_that_hangs_is_late(rig: Rig, crew: Crew) -> None:
    """The watchdog can see it: it has stepped, and does not step any more."""
    release = threading.Event()
    rig.fake.before("put_object", lambda call: release.wait(30))
    rig.write("a", b"x")
    crew.mark("a")
    wait_until("it hangs", lambda: crew.heartbeats.late(1e18) != ())
    (late,) = crew.heartbeats.late(1e18)
    assert late.startswith("worker-")
    release.set()
    wait_until("it is there", lambda: "p/a" in rig.fake.objects)


def test_a_young_record_is_looked_at_again_by_the_daemon_only(rig: Rig, crew: Crew) -> None:
    """A file that was written a moment ago proves nothing: it is read once more, when it can."""
    rig.write("a", b"x")
    crew.mark("a")
    wait_until("it is there", lambda: crew.ear.outcomes() == ["Upload"])
    wait_until("it waits", lambda: crew.queue.counts() == ({"docs": 1}, ()))
    rig.now_ns = lambda: time.time_ns() + 10**10
    crew.later(3.0)
    crew.wait_idle()
    assert crew.ear.outcomes() == ["Upload", "Refresh"]


def test_everything_may_be_called_before_the_start(rig: Rig) -> None:
    """A plan never starts its workers; to end them does no harm."""
    context = Context(rig.state, Clock(time.monotonic, time.time_ns, lambda: 0.5), Ear())
    workers = Workers("store", rig.engine, context, Heartbeat())
    workers.stop()
    assert workers.join(1.0) is True


def test_a_worker_that_waits_for_a_folder_is_replaced_and_ends_with_its_file(
    rig: Rig, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as before go on; the file that was stuck arrives when the folder answers."""
    release = threading.Event()
    real = files.open_file

    def stuck(root_fd: int, path: str, *more: Any, **named: Any) -> files.OpenFile:
        if path.startswith("stuck"):
            release.wait(60)
        return real(root_fd, path, *more, **named)

    monkeypatch.setattr(files, "open_file", stuck)
    crew.heartbeats.silent_seconds = 0.2
    rig.slots.heartbeat = Heartbeat(crew.heartbeats)
    many = rig.policy.concurrency
    for number in range(many):
        rig.write(f"stuck{number}", b"stuck")
        crew.mark(f"stuck{number}")
    given_up: frozenset[int | str] = frozenset()

    def all_are_stuck() -> bool:
        nonlocal given_up
        given_up = crew.heartbeats.give_up(time.monotonic())
        return len(given_up) == many

    wait_until("all workers are stuck", all_are_stuck)
    crew.workers.replace(given_up)
    crew.workers.replace(given_up)
    rig.write("small", b"small")
    crew.mark("small")
    wait_until("another file arrives", lambda: "p/small" in rig.fake.objects)
    assert crew.workers.waits_for_folders()
    release.set()
    wait_until("the others arrive", lambda: len(rig.fake.objects) == many + 1)
    wait_until("those that were stuck end", lambda: not crew.workers.waits_for_folders())
    assert sum(thread.is_alive() for thread in crew.workers._threads) == many


def test_a_file_that_changes_while_it_is_read_is_left_alone_ever_longer(
    rig: Rig, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as reading took, times two, four, eight; an event does not hasten it."""
    took = [3.0]
    reads: list[float] = []

    def growing(ref: FileRef, **how: Any) -> Outcome:
        reads.append(crew.jump)
        crew.jump += took[0]
        raise FileChanged("it grew")

    rig.engine.sync = growing  # type: ignore[method-assign]
    crew.mark("log")
    for number in range(1, 4):
        wait_until("it was read", partial(_rests_after, crew, reads, number))
        crew.mark("log")
        crew.later(3.0 * 2**number - 1.0)
        assert len(reads) == number
        crew.later(1.5)
    wait_until("it was read again", lambda: len(reads) == 4)


def test_a_file_whose_upload_was_paused_is_not_taken_for_one_that_changes(rig: Rig, crew: Crew) -> None:
    """It goes on as soon as the pause is over, however long it had been under way."""
    reads: list[float] = []

    def paused(ref: FileRef, **how: Any) -> Outcome:
        reads.append(crew.jump)
        crew.jump += 1000.0 if len(reads) == 1 else 0.0
        if len(reads) < 3:
            raise FilePaused("it is paused")
        return Outcome(Nothing("it is there"))

    rig.engine.sync = paused  # type: ignore[method-assign]
    crew.mark("film")
    wait_until("it is read again", lambda: len(reads) == 3)


def _rests_after(crew: Crew, reads: list[float], number: int) -> bool:
    return len(reads) == number and crew.queue.counts()[1] == ()


def test_large_files_leave_workers_for_small_ones(tmp_path: Path) -> None:
    """More large files than workers, none of which ends: a small file goes. Each that ends lets the next one
    come, at once.
    """
    rig = Rig(tmp_path, concurrency=4)
    crew = Crew(rig)
    release = threading.Semaphore(0)
    rig.fake.before("create_multipart_upload", lambda call: release.acquire(timeout=60))
    for number in range(6):
        rig.write(f"large{number}", bytes([number]) * 3 * PART)
        crew.mark(f"large{number}")
    wait_until("large ones are under way", lambda: len(crew.workers.large.under_way) == 3)
    rig.write("small", b"x")
    crew.mark("small")
    wait_until("the small one is there", lambda: "p/small" in rig.fake.objects)
    for ended in range(1, 4):
        release.release()
        wait_until("one more is there", lambda ended=ended: len(rig.fake.objects) == 1 + ended)  # type: ignore[misc]
        wait_until("the next one came", lambda: len(crew.workers.large.under_way) == 3, 20)
    release.release(3)
    wait_until("all are there", lambda: len(rig.fake.objects) == 7)
    crew.stop()
    rig.close()


def test_a_file_that_only_grows_is_carried_the_more_rarely_the_longer_it_takes(rig: Rig, crew: Crew) -> None:
    """Nothing of that is kept once the file is gone: dated logs come every day."""
    rig.configure(append_seconds=60.0)
    rig.know(appends=lambda path: True)
    age(rig)
    ref = rig.write("log", b"line\n")

    def slow(call: Any) -> None:
        crew.jump += 100.0

    rig.fake.before("put_object", slow)
    assert crew.workers.longest(ref) == 60.0
    crew.mark("log")
    crew.wait_idle()
    assert 400.0 <= crew.workers.longest(ref) < 500.0
    (rig.folder / "log").unlink()
    crew.mark("log")
    crew.wait_idle()
    assert crew.workers.longest(ref) == 60.0
