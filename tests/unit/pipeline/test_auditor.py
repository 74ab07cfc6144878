"""The audit of a source: what it looks at and when, and what it has sent again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from math import inf
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import AccessRefused
from syncd.pipeline import auditor
from syncd.pipeline.auditor import Auditor
from syncd.pipeline.context import Context
from syncd.state.audits import Round, Unlike
from tests.support.store import FakeStore
from tests.unit.pipeline.house import House

INTERVAL = 86_400.0
NAMES = tuple("abcdefg")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Seven files that are carried, and no thread: the test is the thread of everything."""
    monkeypatch.setattr(auditor, "PAGE", 3)
    house = House(tmp_path, audit_seconds=INTERVAL)
    house.write(*NAMES)
    house.runner.begin()
    work(house)
    yield house
    house.rig.close()


def work(house: House) -> None:
    """Do all that is due now."""
    while house.runner.step() or house.workers.step():
        """One more."""


def end_round(house: House) -> None:
    """Let a day pass, and be ready for the next one."""
    before = house.rig.state.audits.round("docs").ended_ns
    while house.rig.state.audits.round("docs").ended_ns == before:
        house.jump += max(0.0, house.runner.auditor.due() - house.clock.monotonic()) + 1
        work(house)


def lose(fake: FakeStore) -> None:
    del fake.objects["p/a"]


def cut(fake: FakeStore) -> None:
    fake.tamper("p/a", b"con")


def exchange(fake: FakeStore) -> None:
    fake.objects["p/a"] = replace(fake.objects["p/b"])


def overwrite(fake: FakeStore) -> None:
    fake.without_metadata("p/a", b"content of A")


def overwrite_with_less(fake: FakeStore) -> None:
    fake.without_metadata("p/a", b"con")


@pytest.mark.parametrize(
    ("change", "is_mended"),
    [(lose, True), (cut, True), (exchange, True), (overwrite, False), (overwrite_with_less, False)],
)
def test_what_is_damaged_is_sent_again_and_what_another_program_wrote_stays(
    house: House, change: Callable[[FakeStore], None], is_mended: bool
) -> None:
    """At the end of a round; what stays is named until it is mended."""
    end_round(house)
    change(house.rig.fake)
    there = house.rig.fake.objects.get("p/a")
    end_round(house)
    work(house)
    now = house.rig.fake.objects["p/a"]
    assert (now.data == b"content of a") is is_mended
    assert (now is not there) is is_mended
    assert house.rig.state.audits.round("docs").repaired == is_mended
    assert house.rig.state.audits.standing("docs")[0] == (not is_mended)
    end_round(house)
    assert house.rig.state.audits.standing("docs")[0] == (not is_mended)


def test_content_that_a_download_found_lost_is_sent_again(house: House) -> None:
    """Though size, ETag and metadata are right. Until then no other file is made of it."""
    end_round(house)
    row = house.rig.state.recorded(house.rig.ref("a"))
    assert row is not None
    house.rig.fake.tamper("p/a", b"content of A")
    found = Unlike(house.rig.ref("a"), row.etag, auditor.audit._OTHER_CONTENT, True, row.etag)
    house.rig.state.audits.keep("docs", [found])
    house.write("copy")
    (house.rig.folder / "copy").write_bytes(b"content of a")
    house.rig.sync("copy")
    assert house.rig.fake.objects["p/copy"].data == b"content of a"
    end_round(house)
    work(house)
    assert house.rig.fake.objects["p/a"].data == b"content of a"
    assert house.rig.state.audits.standing("docs") == (0, [])
    assert not house.rig.state.audits.is_rotten(row.etag)


def test_each_object_is_asked_for_once_in_a_round(house: House) -> None:
    """Page by page, spread over the interval; what is right costs one request, and no round is made twice."""
    end_round(house)
    house.rig.fake.reset_counters()
    asked, waits = [], []
    for _ in range(3):
        waits.append(house.runner.auditor.due() - house.clock.monotonic())
        house.jump += waits[-1] + 1
        work(house)
        asked.append(house.rig.fake.calls["head_object"])
    assert asked == [3, 6, 7]
    assert house.rig.fake.calls.total() == 7
    waits.append(house.runner.auditor.due() - house.clock.monotonic())
    assert sum(waits[1:]) == pytest.approx(INTERVAL, rel=0.01)


def test_deleted_files_whose_objects_are_kept_have_their_share_of_the_time(house: House) -> None:
    """They are compared, too: a source with few files and many of those is no endless round."""
    for name in NAMES[1:]:
        row = house.rig.state.recorded(house.rig.ref(name))
        assert row is not None
        (house.rig.folder / name).unlink()
        house.rig.state.keep(house.rig.ref(name), row)
    end_round(house)
    del house.rig.fake.objects["p/b"]
    began = house.jump
    end_round(house)
    assert house.jump - began < 1.5 * INTERVAL
    assert house.rig.state.audits.round("docs").looked_at == 7
    assert house.rig.state.recorded(house.rig.ref("b")) is None  # it cannot be sent


def test_of_a_record_in_doubt_nothing_new_is_said(house: House) -> None:
    """Its file waits to be sent, and the object may be newer; what was said before stands until then."""
    end_round(house)
    rig, words = house.rig, auditor.audit._OTHER_CONTENT
    for name in ("a", "b"):
        row = rig.state.recorded(rig.ref(name))
        assert row is not None
        if name == "b":
            rig.state.audits.keep("docs", [Unlike(rig.ref(name), row.etag, words, True, row.etag)])
        rig.state.doubt(rig.ref(name), row)
        exchange(rig.fake) if name == "a" else rig.fake.tamper("p/b", b"content of B")
    house.jump += house.runner.auditor.due() - house.clock.monotonic() + 1
    house.runner.step()
    assert [ref.path for ref, _ in rig.state.audits.standing("docs")[1]] == ["b"]


@pytest.mark.parametrize("set_back_seconds", [0.0, 10 * INTERVAL])
def test_a_restart_goes_on_where_the_audit_was(house: House, set_back_seconds: float) -> None:
    """It waits until it is due; if the clock was set back, no longer than a round takes."""
    left = house.rig.state.audits.round("docs").next_ns - time.time_ns()
    clock = replace(house.clock, now_ns=lambda: time.time_ns() - round(set_back_seconds * 1e9))
    context = Context(house.rig.state, clock, house)
    again = Auditor(house.source, house.workers, context, nullcontext)
    assert again.due() == inf
    again.begin()
    wait = again.due() - clock.monotonic()
    assert wait == pytest.approx(min(left / 1e9 + set_back_seconds, INTERVAL), abs=60)


def test_a_store_in_trouble_and_a_pause_suspend_the_audit(house: House) -> None:
    """It is asked ever more rarely, and then goes on where it was."""
    end_round(house)
    before, fake = house.rig.state.audits.round("docs"), house.rig.fake
    house.jump += INTERVAL
    fake.fail("head_object", AccessRefused("wrong keys"), times=None)
    fake.reset_counters()
    waits = []
    for _ in range(3):
        work(house)
        waits.append(house.runner.auditor.due() - house.clock.monotonic())
        house.jump += waits[-1] + 1
    assert waits == pytest.approx([60, 120, 240], rel=0.1)
    assert fake.calls["head_object"] == 3
    fake.heal()
    house.workers.queue.hold(house.clock.monotonic() + 1000, {})
    work(house)
    assert fake.calls["head_object"] == 3
    assert house.rig.state.audits.round("docs") == before
    house.jump += 5000
    work(house)
    assert fake.calls["head_object"] == 6


def test_an_error_that_nobody_expected_is_no_busy_loop(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit waits as after any other."""
    monkeypatch.setattr(auditor.audit, "page", lambda *_: 1 / 0)
    house.jump += INTERVAL
    house.runner.step()
    assert house.runner.auditor.due() - house.clock.monotonic() > 50


def test_much_damage_waits_for_a_person(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It may be the store that is wrong: nothing is sent, and the damage is named."""
    house.runner.auditor._bound = 1, 1.0
    for name in ("a", "b"):
        del house.rig.fake.objects[f"p/{name}"]
    end_round(house)
    work(house)
    assert house.rig.state.audits.standing("docs")[0] == 2
    assert "p/a" not in house.rig.fake.objects
    assert "2 of 7 objects are damaged, and at most 1 are repaired" in caplog.text
    assert house.rig.state.audits.round("docs") == Round(
        next_ns=house.rig.state.audits.round("docs").next_ns,
        ended_ns=house.rig.state.audits.round("docs").ended_ns,
        looked_at=7,
    )


def test_an_object_that_is_being_changed_is_left_alone(house: House) -> None:
    """Nothing is said of it: who changes it records what comes of it."""
    end_round(house)
    del house.rig.fake.objects["p/a"]
    with ThreadPoolExecutor(1) as other:
        lock = house.rig.state.locks.exclusive(other, (house.rig.store.store_id, "p/a"))
        other.submit(lock.__enter__).result()
        end_round(house)
    assert house.rig.state.audits.standing("docs")[0] == 0
    house.rig.state.locks.abandon(other)
    end_round(house)
    work(house)
    assert "p/a" in house.rig.fake.objects


def test_without_an_interval_and_in_a_single_pass_there_is_no_audit(tmp_path: Path) -> None:
    """Idle costs nothing."""
    for number, settings in enumerate(({}, {"once": True, "audit_seconds": 60.0})):
        (tmp_path / str(number)).mkdir()
        house = House(tmp_path / str(number), **settings)  # type: ignore[arg-type]
        house.runner.begin()
        assert house.runner.auditor.due() == inf
        house.rig.close()
