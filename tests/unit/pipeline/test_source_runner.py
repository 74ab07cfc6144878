"""One source: when it is scanned, whether its root is believed, and which deletions go."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import StateError, StoreUnavailable
from syncd.core.model import Failure, OnDelete, RootIdentity
from syncd.core.schedule import POLL_SECONDS
from syncd.pipeline.source_status import EventCoverage
from syncd.sources.scan import compare
from tests.support.waiting import wait_until
from tests.unit.pipeline.house import House, remove

# ---- scanning ---------------------------------------------------------------------------------------------


def test_the_start_scans_everything(house: House) -> None:
    """What is there arrives, and the scan is noted."""
    house.write("a", "d/b")
    house.start()
    house.settle()
    assert house.objects == {"a", "d/b"}
    assert house.runner.first_scan_done.is_set()
    assert house.rig.state.last_scan("docs").ended_ns is not None


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
        house.runner.schedule.asked.clear()
    for number in range(100):
        house.runner.ask(f"d{number}", "events were lost")
    assert list(house.runner.schedule.asked) == [""]


def test_the_interval_brings_a_scan_and_what_it_finds_is_counted(house: House) -> None:
    """What no event had told of is drift."""
    house.start()
    house.settle()
    house.write("a", "b")
    house.later(1.2 * house.source.rescan_seconds)
    wait_until("it is scanned again", lambda: house.runner.news.scans == 2)
    house.settle()
    assert house.objects == {"a", "b"}
    assert house.rig.state.last_scan("docs").drift == 2


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
    house.later(1.2 * POLL_SECONDS)
    wait_until("it is there", lambda: house.objects == {"a"})
    house.settle()
    assert house.rig.state.last_scan("docs").drift == 0


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
        assert house.runner.schedule.next_scan is not None
        waits.append(house.runner.schedule.next_scan - house.clock.monotonic())
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
    """It is the store's trouble, said in one line; the scan comes again."""

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
    """With a store that hangs the scan blocks; stop ends it nevertheless."""
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
        house.rig.state.failures.record(Failure(house.rig.ref(name), "x", 3, 0))
    house.start()
    wait_until("both are forgotten", lambda: house.rig.state.failures.page() == [])


def test_unfinished_uploads_of_files_that_are_gone_are_given_up(house: House) -> None:
    """Nothing stays on the server for a file that is gone."""
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
    """The log says it once, syncd looks less and less often, then watches and scans the root again."""
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


def test_the_same_files_in_another_directory_need_a_word(house: House) -> None:
    """As after a restore to a new disk: resemblance is no proof. Once accepted, nothing is sent again."""
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
    wait_until("it waits", lambda: "backup" in house.runner.news.waiting_for)
    house.runner.accept_root()
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
    """Each new one comes before the one before has been gone for long enough, and still they go."""
    house = deleting
    house.write(*(f"f{number}" for number in range(100)))
    house.start()
    house.settle()
    began = time.monotonic()
    house.time = lambda: began  # time passes with `later` alone
    for number in range(20):
        remove(house, f"f{number}")
        ref = house.rig.ref(f"f{number}")
        wait_until("it is a candidate", lambda ref=ref: ref in house.runner.deletions.refs())
        house.later(1.5)
    wait_until("some go", lambda: len(house.objects) < 100)


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
    """The default never deletes, and no later scan meets the row of what is gone."""
    house.write("a", "b")
    house.start()
    house.settle()
    remove(house, "a")
    house.runner.ask("", "look")
    house.settle()
    assert (house.runner.deletions.waiting(), house.objects) == (0, {"a", "b"})
    assert [path for path, _ in house.rig.state.recorded_page("docs", None, 9)] == [b"b"]
    row = house.rig.state.recorded(house.rig.ref("a"))
    assert row is not None
    assert row.kept


def test_a_file_that_counts_as_deleted_and_is_there_counts_again(house: House) -> None:
    """Whatever brought it back, and although its stat is the recorded one: it is read, and not sent."""
    house.write("a", "b")
    house.start()
    house.settle()
    ref, state = house.rig.ref("a"), house.rig.state
    row = state.recorded(ref)
    assert row is not None
    state.keep(ref, row)
    house.rig.fake.reset_counters()
    house.runner.ask("", "look")
    house.settle()
    again = state.recorded(ref)
    assert again is not None
    assert (again.kept, again.stat, house.rig.fake.calls["put_object"]) == (False, row.stat, 0)


def test_a_single_pass_is_settled_only_when_every_deletion_is_decided(tmp_path: Path) -> None:
    """Between what the scan found and what the workers get there is no moment that looks like the end."""
    house = House(tmp_path, on_delete=OnDelete.DELETE)
    house.write(*(f"f{number}" for number in range(20)))
    house.start()
    house.settle()
    house.stop()
    (house.rig.folder / "f0").unlink()
    house.rig.restart()
    house.rig.now_ns = lambda: time.time_ns() + 10**10
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


@pytest.mark.parametrize(
    ("before", "gone_before", "gone_after", "noticed", "held"),
    [
        (OnDelete.KEEP, 1, 0, False, True),
        (OnDelete.KEEP, 1, 0, True, True),
        (OnDelete.KEEP, 1, 1, True, True),
        (OnDelete.KEEP, 0, 1, False, False),
        (OnDelete.DELETE, 1, 0, False, False),
    ],
)
def test_what_went_while_deletions_were_kept_waits_for_a_word(
    tmp_path: Path, before: OnDelete, gone_before: int, gone_after: int, noticed: bool, held: bool
) -> None:
    """However few they are; once, and only where anything is gone when the policy turns; also what a scan
    found gone (`noticed`) long before."""
    house = House(tmp_path, on_delete=before)
    house.write("a", "b", "c")
    house.start()
    house.settle()
    if gone_before:
        (house.rig.folder / "a").unlink()
    if noticed:
        house.runner.ask("", "look")
        house.settle()
        assert house.rig.state.recorded_totals("docs")[0] == 2
    house.stop()
    house.source = replace(house.source, on_delete=OnDelete.DELETE)
    house.rig.configure(on_delete=OnDelete.DELETE)
    house.restart()
    wait_until("it is scanned", lambda: house.runner.news.scans > 0)
    if gone_after:
        (house.rig.folder / "b").unlink()
        house.runner.ask("", "look")
    expected = 3 if held else 3 - gone_before - gone_after

    def decided() -> bool:
        house.later(3.0)
        parked = house.runner.news.deletes_parked == gone_before + gone_after
        return parked if held else len(house.objects) == expected

    wait_until("it is decided", decided)
    assert len(house.objects) == expected
    if held:
        assert "on_delete was keep until now" in house.runner.news.deletes_reason
        house.restart()
        wait_until("they wait still", decided)
        house.runner.confirm_deletes()
        held, expected = False, 3 - gone_before - gone_after
        wait_until("they go", decided)
        house.restart()
        assert not house.runner.deletions.held
    house.close()


# ---- rules beside the patterns ----------------------------------------------------------------------------


def test_a_young_file_is_carried_when_its_time_has_come(house: House) -> None:
    """Without a further event, and also where a scan has found it: the source may be polled."""
    house.source = replace(house.source, min_age_seconds=600.0)
    house.open()
    house.write("a")
    house.start()
    wait_until("it is found", lambda: house.workers.queue.about(house.rig.ref("a")) is not None)
    house.workers.queue.hasten("docs")
    wait_until("it is put off", lambda: house.workers.queue.dirty() == {house.rig.ref("a"): True})
    assert house.objects == set()
    os.utime(house.rig.folder / "a", (1, 1))
    house.later(601.0)
    wait_until("it is there", lambda: house.objects == {"a"})


def test_a_marker_that_comes_later_deletes_nothing(house: House) -> None:
    """Not even what had been found gone before, and was about to be deleted."""
    house.source = replace(house.source, on_delete=OnDelete.DELETE, exclude_if_present=(".nobackup",))
    house.open()
    house.write("d/a", "d/b", "c")
    house.start()
    house.settle()
    remove(house, "d/a", "d/b")
    wait_until("both are found gone", lambda: house.runner.deletions.waiting() == 2)
    house.write("d/.nobackup")
    house.later(100.0)
    wait_until("they are judged", lambda: house.runner.deletions.waiting() == 0)
    house.settle()
    house.runner.ask("", "test")
    house.settle()
    assert house.objects == {"d/a", "d/b", "c"}
    assert house.runner.news.skipped == {"directory with .nobackup": 1}
