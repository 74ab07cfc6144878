"""The wall clock jumps by hours, in both directions: nothing is lost, held up, or sent twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from syncd.core.model import Recorded, Source, TransferPolicy
from syncd.core.plan import Refresh, Upload
from syncd.pipeline.context import Clock
from syncd.pipeline.pipeline import Pipeline
from syncd.state.state import State
from syncd.storage.settings import DirSettings
from tests.support.rig import Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.support.waiting import wait_until

HOUR = 3600.0
JUMPS = (-30 * HOUR, -3 * HOUR, -1.0, 1.0, 3 * HOUR, 30 * HOUR)
every_jump = pytest.mark.parametrize("jump", JUMPS)
OLD = b"0123456789" * 4
NEW = OLD[::-1]


def recorded(rig: Rig) -> Recorded:
    row = rig.state.recorded(rig.ref("file"))
    assert row is not None
    return row


def at(rig: Rig, seconds: float) -> None:
    """What the wall clock says is so far from what the kernel put on the files."""
    rig.now_ns = lambda: time.time_ns() + round(seconds * 1e9)


def change_in_secret(rig: Rig) -> None:
    """Same size, and the old mtime put back."""
    path = rig.folder / "file"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(NEW)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@every_jump
@pytest.mark.parametrize("event", [True, False])
def test_a_change_behind_a_jump_is_noticed(rig: Rig, jump: float, event: bool) -> None:
    """A record is compared for equality, never by what is newer, whatever the clock said when it was made."""
    rig.write("file", OLD)
    at(rig, jump)
    rig.sync("file")
    at(rig, 0.0)
    change_in_secret(rig)

    assert isinstance(rig.sync("file", event=event).action, Upload)
    assert rig.fake.objects["p/file"].data == NEW


@every_jump
def test_an_unchanged_file_is_sent_once_whatever_the_clock_does(rig: Rig, jump: float) -> None:
    """Looks on both sides of a jump, and a jump back: another reading at most, in the end not even that."""
    rig.write("file", OLD)
    for offset in (0.0, jump, 0.0, jump + 60.0):
        at(rig, offset)
        rig.sync("file", event=False)
    at(rig, 60.0)
    rig.sync("file", event=False)

    assert rig.fake.bytes_received == len(OLD)
    assert not recorded(rig).racy
    assert rig.sync("file", event=False).action.reason == "unchanged"


def test_a_record_from_before_the_clock_was_put_back_is_not_trusted(rig: Rig) -> None:
    """A stamp that lies in the future may come again: it is confirmed when the clock has passed it."""
    rig.write("file", OLD)
    at(rig, -3 * HOUR)
    rig.sync("file")
    assert recorded(rig).racy
    assert isinstance(rig.sync("file", event=False).action, Refresh)
    at(rig, 60.0)
    rig.sync("file", event=False)
    assert not recorded(rig).racy


@every_jump
def test_a_pipeline_goes_on_through_jumps(tmp_path: Path, jump: float) -> None:
    """Scans, settling and tries go by the monotonic clock: files arrive as before, and soon."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store = FakeStore(SMALL_LIMITS)
    offset = [0.0]
    clock = Clock(time.monotonic, lambda: time.time_ns() + round(offset[0] * 1e9), lambda: 0.5)
    state = State.open(str(tmp_path / "state"), now_ns=clock.now_ns)
    source = Source("docs", str(folder), "one", settle_seconds=0.1)
    (folder / "before").write_bytes(b"before")
    pipeline = Pipeline(state, clock, opener=lambda settings, wiring: store)
    pipeline.apply((source,), {"one": DirSettings("/x")}, TransferPolicy())
    pipeline.start()
    try:
        wait_until("the first is there", lambda: "before" in store.objects)
        offset[0] = jump
        (folder / "behind").write_bytes(b"behind")
        pipeline.changed("docs", "behind")
        wait_until("the next is there", lambda: "behind" in store.objects)
        (folder / "found").write_bytes(b"found")
        pipeline.rescan("docs", "", "a test")
        wait_until("a scan finds the last", lambda: "found" in store.objects)
        wait_until("nothing waits", pipeline.idle)
        assert store.calls["put_object"] == 3
    finally:
        assert pipeline.stop(30.0)
        state.close()
