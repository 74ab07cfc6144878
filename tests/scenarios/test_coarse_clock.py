"""Where a file system counts in whole seconds two equal stats of a young file prove nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core import plan
from syncd.core.errors import FileChanged
from syncd.core.model import FileStat
from syncd.core.plan import Upload
from syncd.sources import files
from tests.support import mounting
from tests.support.rig import Rig
from tests.support.waiting import wait_until
from tests.unit.pipeline.test_workers import Crew

SECOND = 10**9
CONTENT = bytes(range(61))


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Its files have stamps of whole seconds, and its time stands still until it is moved."""
    real = files.file_stat

    def in_seconds(found: os.stat_result) -> FileStat:
        stat = real(found)
        mtime_ns, ctime_ns = (ns // SECOND * SECOND for ns in (stat.mtime_ns, stat.ctime_ns))
        return FileStat(stat.device, stat.inode, stat.size, mtime_ns, ctime_ns)

    monkeypatch.setattr(files, "file_stat", in_seconds)
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def at(rig: Rig, seconds_later: float) -> None:
    """Let it be so long after the file's last change."""
    changed = (rig.folder / "file").stat().st_ctime_ns
    rig.now_ns = lambda: changed + round(seconds_later * SECOND)


@pytest.mark.parametrize("content", [b"12345678", CONTENT], ids=["put", "multipart"])
def test_a_change_that_leaves_no_trace_is_not_sent_half(
    rig: Rig, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file changes in the middle of a read, all within one second: nothing is sent until it is old."""
    rig.write("file", content)
    real, done = os.pread, []

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        first = real(descriptor, size // 2, offset)
        if not done:
            done.append(1)
            with (rig.folder / "file").open("r+b") as file:
                file.write(content[::-1])
        return first + real(descriptor, size - len(first), offset + len(first))

    monkeypatch.setattr(os, "pread", pread)
    at(rig, 0.5)
    with pytest.raises(FileChanged):
        rig.sync("file")
    assert rig.fake.objects == {}
    assert rig.fake.uploads == {}

    at(rig, 2.5)
    rig.sync("file")
    assert rig.fake.objects["p/file"].data == (rig.folder / "file").read_bytes()


def test_a_clock_that_was_put_back_does_not_hold_the_file_up(rig: Rig) -> None:
    """A stamp far in the future is no reason to wait until then."""
    rig.write("file", CONTENT)
    at(rig, -3600.0)
    assert isinstance(rig.sync("file").action, Upload)


def test_the_wait_is_as_long_as_it_has_to_be(rig: Rig) -> None:
    """A settle period that is shorter than the clock's tick does not make a busy loop, also in one pass."""
    rig.configure(settle_seconds=0.0)
    crew = Crew(rig, once=True)
    rig.now_ns = lambda: time.time_ns() + round(crew.jump * SECOND)
    rig.write("file", CONTENT)
    crew.mark("file")
    wait_until("it was looked at", lambda: crew.queue.marks == 2)
    assert rig.fake.calls.total() == 0
    crew.later(3.0)
    crew.wait_idle()
    crew.stop()
    assert crew.ear.outcomes() == ["Upload"]


def test_a_real_file_system_that_counts_in_seconds(tmp_path: Path) -> None:
    """Its stats are recognised; those of a finer one are not held up."""
    disk = mounting.ext4_image(tmp_path / "disk", 8, "-I", "128")
    with mounting.image(disk, tmp_path / "mnt") as mount:
        (mount / "file").write_bytes(b"x")
        stat = files.file_stat(os.stat(mount / "file"))
    assert plan.may_hide_a_change(stat, stat.ctime_ns + SECOND)
    assert not plan.may_hide_a_change(stat, stat.ctime_ns + 2 * SECOND)
    finer = FileStat(stat.device, stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns + 1)
    assert not plan.may_hide_a_change(finer, stat.ctime_ns + SECOND)
