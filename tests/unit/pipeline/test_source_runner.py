"""One source: when it is scanned, whether its root is believed, and which deletions go."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import AccessRefused, StateError, StoreUnavailable
from syncd.core.model import Failure, FileRef, FileStat, OnDelete, Outcome, RootIdentity, Source
from syncd.daemon.systemd import Pulse
from syncd.pipeline import source_runner as runner
from syncd.pipeline.context import Clock, Context
from syncd.pipeline.source_runner import SourceRunner
from syncd.pipeline.source_status import EventCoverage, ScanResults, SourceStatus, WatchHandle
from syncd.pipeline.workers import Workers
from syncd.sources.scan import compare
from syncd.transfer.progress import Beats
from tests.support.rig import Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.support.waiting import wait_until


class House:
    """A rig with workers and one keeper, wired as the pipeline does it."""

    def __init__(
        self, root: Path, *, once: bool = False, store: FakeStore | None = None, **source: Any
    ) -> None:
        self.rig = Rig(root, store=store)
        self.rig.engine._now_ns = lambda: time.time_ns() + 10**10  # type: ignore[method-assign]  # nothing is young
        self.once = once
        self.source = replace(self.rig.source, settle_seconds=0.0, **source)
        self.blind = EventCoverage()
        self.rewatched = 0
        self.jump = 0.0
        self.clock = Clock(lambda: time.monotonic() + self.jump, time.time_ns, lambda: 0.5)
        self.open()

    def open(self) -> None:
        """Build everything on the rig."""
        context = Context(self.rig.state, self.clock, self, self.once, Pulse(), 60.0)
        beats = Beats(context.pulse, 60.0, self.clock.monotonic)
        self.workers = Workers("store", self.rig.engine, context, beats)
        watch = WatchHandle(lambda: self.blind, self._rewatch)
        self.runner = SourceRunner(self.source, self.workers, context, beats, watch)

    def _rewatch(self) -> None:
        self.rewatched += 1

    def finished(self, ref: FileRef, outcome: Outcome) -> None:
        self.runner.gone(ref) if outcome.wants_delete else self.runner.file_done(ref)

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None:
        """Nothing follows from it here."""

    def root_changed(self, source: str, reason: str) -> None:
        self.runner.ask("", reason)

    def start(self) -> None:
        self.runner.start()
        self.workers.start()

    def restart(self) -> None:
        """What a new process would find."""
        self.stop()
        self.rig.restart()
        self.rig.engine._now_ns = lambda: time.time_ns() + 10**10  # type: ignore[method-assign]
        self.open()
        self.start()

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.jump += seconds
        with self.runner._changed:
            self.runner._changed.notify_all()
        with self.workers.queue._work:
            self.workers.queue._work.notify_all()

    def settle(self) -> None:
        """Wait until the keeper has nothing to do and all files are done with."""
        wait_until("it settles", lambda: self._is_settled() and self._is_settled())

    def _is_settled(self) -> bool:
        runner = self.runner
        with runner._changed:
            idle = not runner._busy and (not runner._asked or runner._setbacks > 0)
        return idle and self.workers.queue.idle()

    def stop(self) -> None:
        self.runner.stop()
        self.workers.stop()
        assert self.runner.join(30.0)
        assert self.workers.join(30.0)

    def close(self) -> None:
        self.stop()
        self.rig.close()

    @property
    def objects(self) -> set[str]:
        return {key.removeprefix("p/") for key in self.rig.fake.objects}

    def write(self, *names: str) -> None:
        for name in names:
            self.rig.write(name, b"content of " + os.fsencode(name))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def deleting(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, on_delete=OnDelete.DELETE)
    yield house
    house.close()


# ---- scanning ---------------------------------------------------------------------------------------------


def test_the_start_scans_everything(house: House) -> None:
    """What is there arrives, and the scan is noted."""
    house.write("a", "d/b")
    house.start()
    house.settle()
    assert house.objects == {"a", "d/b"}
    assert house.runner.first_scan_done.is_set()
    assert house.rig.state.last_scan("docs")[0] is not None


def test_a_doubt_scans_its_subtree_and_no_more(house: House) -> None:
    """Only there is looked; the count of skipped things stays that of the whole."""
    house.start()
    house.settle()
    house.write("here/a", "elsewhere/b")
    house.runner.ask("here", "events were lost")
    house.settle()
    assert house.objects == {"here/a"}


def test_many_doubts_become_one(house: House) -> None:
    """Beyond a bound the whole source is scanned once, and no memory grows."""
    house.write(*(f"d{number}/f" for number in range(100)))
    with house.runner._changed:
        house.runner._asked.clear()
    for number in range(100):
        house.runner.ask(f"d{number}", "events were lost")
    assert list(house.runner._asked) == [""]


def test_the_interval_brings_a_scan_and_what_it_finds_is_counted(house: House) -> None:
    """What no event had told of is drift."""
    house.start()
    house.settle()
    house.write("a", "b")
    house.later(1.2 * house.source.rescan_seconds)
    wait_until("it is scanned again", lambda: house.runner.news.scans == 2)
    house.settle()
    assert house.objects == {"a", "b"}
    assert house.rig.state.last_scan("docs")[1] == 2


def test_doubts_about_parts_do_not_put_off_the_scan_of_everything(house: House) -> None:
    """A busy corner of the source does not starve the rest."""
    house.start()
    house.settle()
    house.write("far/a")
    for _ in range(12):
        house.later(house.source.rescan_seconds / 10)
        scans = house.runner.news.scans
        house.runner.ask("near", "events were lost")
        wait_until("it is scanned", lambda scans=scans: house.runner.news.scans > scans)
        house.settle()
    assert house.objects == {"far/a"}


def test_a_source_without_events_is_polled(house: House) -> None:
    """Soon again, and what is found then is no drift."""
    house.blind = EventCoverage("a network file system")
    house.start()
    house.settle()
    house.write("a")
    house.later(1.2 * runner.POLL_SECONDS)
    wait_until("it is there", lambda: house.objects == {"a"})
    house.settle()
    assert house.rig.state.last_scan("docs")[1] == 0


def test_a_scan_that_fails_is_said_and_tried_again_ever_later(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in one scan neither ends the keeper nor makes it spin."""
    real = compare.scan
    calls: list[int] = []

    def buggy(*args: Any, **named: Any) -> compare.ScanReport:
        calls.append(1)
        if len(calls) <= 3:
            raise ZeroDivisionError("a bug")
        return real(*args, **named)

    monkeypatch.setattr(compare, "scan", buggy)
    house.write("a")
    house.start()
    waits = []
    for number in (1, 2, 3):
        wait_until("it failed", lambda number=number: len(calls) == number and house._is_settled())
        assert house.runner._next_scan is not None
        waits.append(house.runner._next_scan - house.clock.monotonic())
        assert "last scan failed" in house.runner.news.waiting_for
        house.later(waits[-1] + 1)
    wait_until("it is there", lambda: house.objects == {"a"})
    house.settle()
    assert house.runner.news.waiting_for == ""
    assert waits == sorted(waits)
    assert waits[2] > 3 * waits[0]
    assert "ZeroDivisionError" in caplog.text


def test_a_state_that_cannot_be_used_is_no_traceback(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is somebody else's trouble, said in one line; the scan comes again."""

    def full(*args: Any, **named: Any) -> compare.ScanReport:
        raise StateError("no room on the disk")

    monkeypatch.setattr(compare, "scan", full)
    house.start()
    wait_until("it is said", lambda: "no room on the disk" in house.runner.news.waiting_for)
    assert "Traceback" not in caplog.text


def test_a_keeper_that_was_stopped_marks_nothing_more(house: House) -> None:
    """After a reload another one speaks for the source."""
    house.write("a")
    house.runner.stop()
    house.runner.round("", "start")
    assert house.workers.queue.counts() == ({}, ())


def test_a_scan_of_more_files_than_fit_waits_and_can_be_stopped(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a store that hangs the scan blocks; stop ends it all the same."""
    monkeypatch.setattr("syncd.pipeline.queue.MAX_WAITING", 3)
    house.write(*(f"f{number}" for number in range(20)))
    house.runner.start()  # no worker runs
    wait_until("it waits", lambda: house.workers.queue._room._waiters)  # type: ignore[attr-defined]
    house.runner.stop()
    assert house.runner.join(30.0)


# ---- what was left from before ----------------------------------------------------------------------------


def test_failures_of_before_are_looked_at_again(house: House) -> None:
    """A file that failed and is gone is forgotten; one that failed and is excluded by now, too."""
    house.close()
    house.__init__(house.rig.folder.parent, exclude=("*.tmp",))  # type: ignore[misc]
    for name in ("gone", "old.tmp"):
        house.rig.state.record_failure(Failure(house.rig.ref(name), "x", 3, 0))
    house.start()
    wait_until("both are forgotten", lambda: house.rig.state.failures() == [])


def test_unfinished_uploads_of_files_that_are_gone_are_given_up(house: House) -> None:
    """Nothing stays on the server for a file that nobody has any more."""
    house.rig.fake.fail("upload_part", StoreUnavailable("down"), times=None)
    house.rig.write("big", bytes(60))
    with pytest.raises(StoreUnavailable):
        house.rig.sync("big")
    house.rig.fake.heal()
    (house.rig.folder / "big").unlink()
    assert house.rig.fake.uploads
    house.start()
    wait_until("it is given up", lambda: not house.rig.fake.uploads)


# ---- the root ---------------------------------------------------------------------------------------------


def test_a_root_that_is_away_is_waited_for(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, looked for ever less often, watched anew and scanned when it is back."""
    caplog.set_level(logging.INFO)
    house.write("a")
    house.start()
    house.settle()
    away = house.rig.folder.with_name("away")
    house.rig.folder.rename(away)
    house.runner.ask("", "the root went away")
    for _ in range(4):
        house.settle()
        assert house.runner.news.waiting_for == "the root is missing"
        house.later(120.0)
    (away / "b").write_text("new")
    away.rename(house.rig.folder)
    house.later(120.0)
    wait_until("it is there", lambda: house.objects == {"a", "b"})
    house.settle()
    assert house.runner.news.waiting_for == ""
    assert caplog.text.count("waiting: the root is missing") == 1
    assert house.rewatched == 1


def test_while_the_root_is_away_nothing_waits_for_the_workers(house: House) -> None:
    """What events marked is forgotten: it would all look gone."""
    house.write("a")
    house.start()
    house.settle()
    house.rig.folder.rename(house.rig.folder.with_name("away"))
    house.workers.queue.mark(house.rig.ref("a"), quiet_seconds=3600.0, event=True)
    house.runner.ask("", "the root went away")
    wait_until("it waits", lambda: house.runner.news.waiting_for)
    house.settle()
    assert house.workers.queue.counts() == ({}, ())


def replace_root(house: House) -> None:
    house.rig.folder.rename(house.rig.folder.with_name("old"))
    house.rig.folder.mkdir()
    house.write("new1", "new2")


def test_another_directory_is_not_believed_and_says_what_would_help(deleting: House) -> None:
    """Nothing is sent and nothing deleted until the operator says that it is meant."""
    house = deleting
    house.write(*(f"f{number}" for number in range(5)))
    house.start()
    house.settle()
    replace_root(house)
    house.runner.ask("", "look")
    wait_until("it waits", lambda: house.runner.news.waiting_for)
    house.settle()
    assert "syncd sync --accept-root docs" in house.runner.news.waiting_for
    assert house.objects == {f"f{number}" for number in range(5)}


def test_an_accepted_root_is_scanned_and_deletes_nothing_without_a_word(
    deleting: House, caplog: pytest.LogCaptureFixture
) -> None:
    """New files go at once; what is not there any more waits, also after a restart, however few it is."""
    house = deleting
    house.write("f1", "f2")
    house.start()
    house.settle()
    replace_root(house)
    house.runner.ask("", "look")
    wait_until("it waits", lambda: house.runner.news.waiting_for)
    house.runner.accept_root()
    wait_until("new files go", lambda: {"new1", "new2"} <= house.objects)
    wait_until("two wait", lambda: house.runner.news.deletes_parked == 2)
    assert house.runner.news.waiting_for == ""
    assert "the root was replaced" in house.runner.news.deletes_reason
    assert "syncd sync --allow-deletes docs" in caplog.text
    house.restart()
    wait_until("two wait", lambda: house.runner.news.deletes_parked == 2)
    house.later(2 * house.source.rescan_seconds)
    house.settle()
    assert house.objects == {"f1", "f2", "new1", "new2"}
    assert house.runner.confirm_deletes() == 2
    wait_until("they go", lambda: house.objects == {"new1", "new2"})
    house.restart()
    house.settle()
    assert house.runner.deletions.held == ""


def test_a_word_about_a_root_that_is_right_is_not_kept_for_later(house: House) -> None:
    """It does not lie in wait for the next unmounted disk."""
    house.write("a")
    house.start()
    house.settle()
    scans = house.runner.news.scans
    house.runner.accept_root()
    wait_until("it is scanned", lambda: house.runner.news.scans > scans)
    house.settle()
    replace_root(house)
    house.runner.ask("", "look")
    wait_until("it waits", lambda: "--accept-root" in house.runner.news.waiting_for)
    assert house.objects == {"a"}


def test_the_same_files_in_another_directory_are_the_same_source(house: House) -> None:
    """A disk that got another number is believed by what is on it: nothing is sent again."""
    house.write("a", "b", "c")
    house.start()
    house.settle()
    old = house.rig.folder.with_name("old")
    house.rig.folder.rename(old)
    house.rig.folder.mkdir()
    for path in old.iterdir():
        os.link(path, house.rig.folder / path.name)
    house.rig.fake.reset_counters()
    scans = house.runner.news.scans
    house.runner.ask("", "look")
    wait_until("it is scanned", lambda: house.runner.news.scans > scans)
    house.settle()
    assert house.runner.news.waiting_for == ""
    assert house.rig.fake.bytes_received == 0


def test_other_device_numbers_are_taken_over_with_the_root(house: House) -> None:
    """After a reboot every recorded file would look like another one; none is read again."""
    house.write("a", "b")
    house.start()
    house.settle()
    state = house.rig.state
    known = state.root_identity("docs")
    assert known is not None
    other = known.device + 1
    state.renumber_device("docs", known.device, other)
    state.set_root_identity("docs", RootIdentity(other, known.inode))
    scans = house.runner.news.scans
    house.runner.ask("", "look")
    wait_until("it is scanned", lambda: house.runner.news.scans > scans)
    assert state.root_identity("docs") == known
    row = state.recorded(house.rig.ref("a"))
    assert row is not None
    assert row.stat.device == known.device


def test_a_root_that_was_emptied_is_not_believed(deleting: House) -> None:
    """A disk that is not mounted looks like that."""
    house = deleting
    house.write("a")
    house.start()
    house.settle()
    (house.rig.folder / "a").unlink()
    house.runner.ask("", "look")
    wait_until("it waits", lambda: "empty" in house.runner.news.waiting_for)
    house.later(120.0)
    house.settle()
    assert house.objects == {"a"}


# ---- deletions --------------------------------------------------------------------------------------------


def remove(house: House, *names: str) -> None:
    for name in names:
        (house.rig.folder / name).unlink()
        house.workers.queue.mark(house.rig.ref(name), quiet_seconds=0.0, event=True)


def test_a_few_deletions_go_after_their_grace(deleting: House) -> None:
    """Told by an event, judged when they have been gone for long enough."""
    house = deleting
    house.write(*(f"f{number}" for number in range(20)))
    house.start()
    house.settle()
    remove(house, "f0", "f1")
    wait_until("they are candidates", lambda: house.runner.deletions.waiting() == 2)
    assert len(house.objects) == 20
    house.later(10.0)
    wait_until("they are gone", lambda: len(house.objects) == 18)
    assert house.rig.state.recorded_totals("docs")[0] == 18


def test_deletions_that_never_pause_do_not_starve(deleting: House) -> None:
    """Each new one does not put off the judgement of all."""
    house = deleting
    house.write(*(f"f{number}" for number in range(30)))
    house.start()
    house.settle()
    for number in range(8):
        remove(house, f"f{number}")
        wait_until("it is a candidate", lambda: house.runner.deletions.waiting() > 0)
        house.later(3.0)

    def some_are_gone() -> bool:
        house.later(3.0)
        return len(house.objects) == 22

    wait_until("they go", some_are_gone)


def test_too_many_deletions_wait_for_a_word(deleting: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, with the command that helps; the word covers what waits."""
    house = deleting
    names = [f"f{number}" for number in range(60)]
    house.write(*names)
    house.start()
    house.settle()
    for name in names[:50]:
        (house.rig.folder / name).unlink()
    house.runner.ask("", "look")
    wait_until("they wait", lambda: house.runner.news.deletes_parked == 50)
    house.later(10.0)
    house.runner.ask("", "look again")
    house.settle()
    assert len(house.objects) == 60
    assert caplog.text.count("syncd sync --allow-deletes docs") == 1
    assert house.runner.confirm_deletes() == 50
    house.later(10.0)
    wait_until("they go", lambda: len(house.objects) == 10)
    house.settle()
    assert house.runner.news.deletes_parked == 0


def test_a_word_when_nothing_waits_is_not_kept_for_later(deleting: House) -> None:
    """What vanishes afterwards asks for itself."""
    house = deleting
    names = [f"f{number}" for number in range(60)]
    house.write(*names)
    house.start()
    house.settle()
    assert house.runner.confirm_deletes() == 0
    for name in names[:50]:
        (house.rig.folder / name).unlink()
    house.runner.ask("", "look")
    wait_until("they wait", lambda: house.runner.news.deletes_parked == 50)
    house.later(100.0)
    house.settle()
    assert len(house.objects) == 60


def test_files_that_came_back_do_not_wait_to_be_deleted(deleting: House) -> None:
    """A directory that was moved out and back in: the parked deletions disappear."""
    house = deleting
    house.write(*(f"d/f{number}" for number in range(50)), "other")
    house.start()
    house.settle()
    away = house.rig.folder.with_name("away")
    (house.rig.folder / "d").rename(away)
    house.runner.ask("", "look")
    wait_until("they wait", lambda: house.runner.news.deletes_parked == 50)
    away.rename(house.rig.folder / "d")
    house.runner.ask("", "look again")
    wait_until("none waits", lambda: house.runner.news.deletes_parked == 0)
    assert len(house.objects) == 51


def test_more_deletions_than_are_remembered_all_go(deleting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first lot another scan finds the rest."""
    monkeypatch.setattr("syncd.core.deletions.MOST_KEPT", 20)
    house = deleting
    names = [f"f{number}" for number in range(60)]
    house.write(*names)
    house.start()
    house.settle()
    for name in names[:50]:
        (house.rig.folder / name).unlink()
    house.runner.ask("", "look")
    wait_until("they wait", lambda: house.runner.news.deletes_parked == 50)
    house.runner.confirm_deletes()

    def all_gone() -> bool:
        house.later(3.0)
        return len(house.objects) == 10

    wait_until("they go", all_gone)


def test_with_keep_nothing_is_ever_a_candidate(house: House) -> None:
    """The default never deletes."""
    house.write("a", "b")
    house.start()
    house.settle()
    remove(house, "a")
    house.runner.ask("", "look")
    house.settle()
    assert (house.runner.deletions.waiting(), house.objects) == (0, {"a", "b"})


def test_a_single_pass_is_settled_only_when_every_deletion_is_decided(tmp_path: Path) -> None:
    """Between what the scan found and what the workers get there is no moment that looks like the end."""
    house = House(tmp_path, on_delete=OnDelete.DELETE)
    house.write(*(f"f{number}" for number in range(20)))
    house.start()
    house.settle()
    house.stop()
    (house.rig.folder / "f0").unlink()
    house.rig.restart()
    house.rig.engine._now_ns = lambda: time.time_ns() + 10**10  # type: ignore[method-assign]
    house.once = True
    house.open()
    seen: list[tuple[bool, bool]] = []
    judge = house.runner.judge_deletions

    def slow() -> None:
        seen.append((house.runner.first_scan_done.is_set(), house.runner.settled()))
        judge()
        seen.append((house.workers.queue.idle(), house.runner.settled()))

    house.runner.judge_deletions = slow  # type: ignore[method-assign]
    house.runner.start()
    wait_until("it is settled", house.runner.settled)
    assert seen == [(True, False), (False, False)]
    house.workers.start()
    assert house.workers.queue.wait_idle(30.0)
    assert len(house.objects) == 19
    house.close()


def test_a_single_pass_ends_when_the_root_is_away(tmp_path: Path) -> None:
    """It does not wait for a disk; it says what it waits for, and is over."""
    house = House(tmp_path, once=True)
    house.rig.folder.rmdir()
    house.start()
    wait_until("it is over", house.runner.settled)
    assert house.runner.news.waiting_for == "the root is missing"
    house.close()


# ---- objects that are there already -----------------------------------------------------------------------


def test_an_empty_store_is_asked_once_not_once_a_file(house: House) -> None:
    """The first sync into an empty bucket costs one request more than its files."""
    house.write(*(f"f{number}" for number in range(20)))
    house.start()
    house.settle()
    assert house.rig.fake.calls["head_object"] == 0
    assert house.rig.fake.calls["list_objects"] == 1
    assert not house.rig.engine.sources["docs"].reconciling


def lose_state(house: House) -> None:
    house.stop()
    house.rig.close()
    for path in house.rig.state_dir.iterdir():
        path.unlink()
    house.rig.fake.reset_counters()
    house.rig.open()
    house.rig.engine._now_ns = lambda: time.time_ns() + 10**10  # type: ignore[method-assign]
    house.open()


def test_after_the_loss_of_the_state_nothing_is_sent_again(house: House) -> None:
    """Each object is asked for, and recorded as it is; then that is over, for good."""
    names = [f"f{number}" for number in range(20)]
    house.write(*names)
    house.start()
    house.settle()
    lose_state(house)
    house.write("new")
    house.start()
    house.settle()
    assert house.rig.state.recorded_totals("docs")[0] == 21
    assert house.rig.fake.bytes_received == len(b"content of new")
    assert not house.rig.engine.sources["docs"].reconciling
    house.restart()
    house.rig.fake.reset_counters()
    house.write("newer")
    house.runner.ask("", "look")
    wait_until("it is there", lambda: "newer" in house.objects)
    assert house.rig.fake.calls["head_object"] == 0
    assert house.rig.fake.calls["list_objects"] == 0


def test_a_death_in_the_middle_does_not_end_the_asking(house: House) -> None:
    """Only when all was compared is it over: what one process did not reach the next asks for."""
    names = [f"f{number}" for number in range(20)]
    house.write(*names)
    house.start()
    house.settle()
    lose_state(house)
    release = threading.Event()
    house.rig.fake.before("head_object", lambda call: release.wait(30) if call.nth > 5 else None)
    house.start()
    wait_until("it is in the middle", lambda: house.rig.fake.calls["head_object"] > 5)
    house.workers.stop()
    release.set()
    house.rig.fake.heal()
    house.restart()
    house.settle()
    assert house.rig.fake.bytes_received == 0
    assert house.rig.state.recorded_totals("docs")[0] == 20


def test_files_that_failed_keep_the_asking_alive(house: House) -> None:
    """As long as one of them could not be compared, its object may be there."""
    house.write("a", "b")
    house.start()
    house.settle()
    lose_state(house)
    house.rig.fake.fail("head_object", StoreUnavailable("down"), when=lambda call: call.key == "p/a")
    house.start()
    wait_until("one is compared", lambda: house.rig.state.recorded_totals("docs")[0] == 1)
    wait_until("one failed", lambda: house.rig.state.failures())
    assert house.rig.engine.sources["docs"].reconciling
    house.later(3600.0)
    wait_until("it is over", lambda: not house.rig.engine.sources["docs"].reconciling)
    assert house.rig.fake.bytes_received == 0


def test_a_store_that_cannot_be_asked_now_is_asked_file_by_file(tmp_path: Path) -> None:
    """Asking does no harm; the next scan tries again whether there is anything to ask for."""
    store = FakeStore(SMALL_LIMITS)
    store.fail("list_objects", StoreUnavailable("down"))
    house = House(tmp_path, store=store)
    house.write("a")
    house.start()
    house.settle()
    assert store.calls["head_object"] == 1
    house.close()


def test_who_may_not_list_may_send(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys that only allow to put: asking for what is not there would be forbidden, so nobody asks."""
    store = FakeStore(SMALL_LIMITS)
    store.fail("list_objects", AccessRefused("no"), times=None)
    store.fail("head_object", AccessRefused("no"), times=None)
    house = House(tmp_path, store=store)
    house.write("a")
    house.start()
    house.settle()
    assert house.objects == {"a"}
    assert "without asking" in caplog.text
    house.close()


# ---- findings ---------------------------------------------------------------------------------------------


def found_quiet(settle: float, age_seconds: float) -> float:
    """For how many seconds a file that is so old has yet to be quiet."""
    now_ns = 10**18
    marked: list[float] = []
    sink = ScanResults(
        Source("docs", "/x", "store", settle_seconds=settle),
        SourceStatus(),
        mark=lambda ref, quiet: bool(marked.append(quiet)),
        gone=lambda ref: None,
        now_ns=lambda: now_ns,
    )
    then = now_ns - int(age_seconds * 1e9)
    sink.found(FileRef("docs", "a"), FileStat(1, 1, 5, then, then), None)
    return marked[0]


@pytest.mark.parametrize(
    ("settle", "age_seconds", "expected"),
    [(2.0, 3600.0, 0.0), (2.0, 0.5, 1.5), (2.0, -3600.0, 2.0), (0.0, 0.0, 0.0)],
)
def test_a_found_file_settles_for_what_is_left(settle: float, age_seconds: float, expected: float) -> None:
    """An old file is read at once, a young one when it has been quiet, one from the future after settling."""
    assert found_quiet(settle, age_seconds) == pytest.approx(expected)


def test_without_a_watcher_everything_is_seen() -> None:
    """In a single pass there is no watcher: nothing is blind, and nothing has to be placed anew."""
    assert WatchHandle().coverage() == EventCoverage()
    WatchHandle().rewatch()
