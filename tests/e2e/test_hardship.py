"""The daemon as a process while the ground moves: disks that go and come back, and limits of the machine."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Syncd, wait_until
from tests.e2e.test_run import SETTLE, arrives
from tests.e2e.workloads import tree
from tests.support import mounting
from tests.unit.sources.watch.watch_rig import apart


@pytest.fixture
def syncd(tmp_path: Path) -> Iterator[Syncd]:
    """One that deletes objects of deleted files: what it must not do is then done as soon as it errs."""
    (tmp_path / "watched").mkdir()
    (tmp_path / "mirror").mkdir()
    source: dict[str, Any] = {"name": "docs", "path": "./watched", "store": "mirror", "settle": SETTLE}
    source |= {"on_delete": "delete", "rescan_interval": "2s"}
    instance = Syncd(tmp_path, {"mirror": {"type": "dir", "path": "./mirror"}}, [source])
    yield instance
    instance.close()


def waiting_for(syncd: Syncd) -> str:
    return syncd.status()["sources"][0]["waiting_for"] or ""


def unmount(at: Path) -> None:
    """As soon as the daemon does not look at it."""

    def done() -> bool:
        return subprocess.run(["umount", str(at)], capture_output=True, check=False).returncode == 0

    wait_until("it is unmounted", done)


# ---- disks -------------------------------------------------------------------------------------------------


def test_a_disk_that_is_unmounted_deletes_nothing_and_work_goes_on_when_it_is_back(syncd: Syncd) -> None:
    """The root is a disk: unmounted, its mount point is empty, or holds stray files. The store
    keeps everything, and status says what syncd waits for. Once the disk is back, later changes arrive."""
    folder = syncd.root / "watched"
    disk = mounting.ext4_image(syncd.root / "disk", 16)
    with mounting.image(disk, folder):
        for number in range(20):
            (folder / f"f{number}").write_text(str(number))
        syncd.start()
        arrives(syncd)
        syncd.wait_idle()
        before = tree(syncd.root / "mirror")
        unmount(folder)
        wait_until("it says what it waits for", lambda: "the root is" in waiting_for(syncd))
        (folder / "stray").write_text("on the bare mount point")
        wait_until("strays are not believed", lambda: "mounted" in waiting_for(syncd))
        assert tree(syncd.root / "mirror") == before
        with mounting.image(disk, syncd.root / "elsewhere") as elsewhere:
            (elsewhere / "f1").write_text("changed")
            (elsewhere / "new").write_text("new")
            (elsewhere / "f0").unlink()
        with mounting.image(disk, folder):
            wait_until("it is back", lambda: not waiting_for(syncd))
            wait_until("all is as on the disk", lambda: tree(syncd.root / "mirror") == files_of(folder))
            syncd.wait_idle()
            assert syncd.stop() == 0
    assert (folder / "stray").exists()


def files_of(folder: Path) -> dict[bytes, bytes]:
    """Without what a file system makes for itself."""
    return {name: content for name, content in tree(folder).items() if not name.startswith(b"lost+found")}


def test_a_disk_inside_the_source_that_is_unmounted_deletes_nothing(syncd: Syncd) -> None:
    """A disk is mounted in a folder of the source and goes, right after one of its files was written: nothing
    below it is deleted, deletions elsewhere wait, and all goes on when it is back."""
    folder = syncd.root / "watched"
    (folder / "disk").mkdir()
    disk = mounting.ext4_image(syncd.root / "image", 16)
    (folder / "stays").write_text("x")
    (folder / "goes").write_text("x")
    with mounting.image(disk, folder / "disk"):
        for number in range(20):
            (folder / f"disk/f{number}").write_text(str(number))
        syncd.start()
        arrives(syncd)
        syncd.wait_idle()
        before = tree(syncd.root / "mirror")
        (folder / "disk/f0").touch()
        unmount(folder / "disk")
        wait_until("it is told", lambda: bool(syncd.status()["sources"][0]["unreadable"]))
        (folder / "goes").unlink()
        wait_until("a deletion waits", lambda: syncd.status()["sources"][0]["deletes_parked"] == 1)
        assert "error" in syncd.status()["sources"][0]["deletes_reason"]
        assert tree(syncd.root / "mirror") == before
        with mounting.image(disk, folder / "disk"):
            (folder / "disk/f1").write_text("changed")
            expected = files_of(folder)
            wait_until("all is as on the disks", lambda: tree(syncd.root / "mirror") == expected)
            syncd.wait_idle()
            assert syncd.stop() == 0


def test_rights_that_are_lost_delete_nothing(tmp_path: Path) -> None:
    """The root, and then a folder in it, is closed to the daemon, which is not root, and opened again."""
    told = apart("daemon_loses_its_rights", tmp_path)

    assert told["root_waits"] is True
    assert told["kept_without_root"] is True
    assert told["root_is_back"] is True
    assert told["folder_is_told"] is True
    assert told["kept_without_folder"] is True
    assert told["folder_is_back"] is True


# ---- limits ------------------------------------------------------------------------------------------------


def test_a_burst_beyond_the_kernels_queue_arrives(syncd: Syncd) -> None:
    """The process stands still while three times as much happens as the queue holds: it is counted, the
    source is scanned, and all is as in the folder, deletions and moves too."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    folder = syncd.root / "watched"
    for number in range(8):
        (folder / f"old{number}").write_text(str(number))
    syncd.write({**syncd.content, "sources": [{**syncd.content["sources"][0], "rescan_interval": "1h"}]})
    syncd.start()
    arrives(syncd)
    syncd.wait_idle()
    assert syncd.process is not None
    syncd.process.send_signal(signal.SIGSTOP)
    try:
        names = [folder / "there", folder / "back"]
        names[0].write_text("moves")
        for number in range(3 * limit // 2):
            names[number % 2].rename(names[1 - number % 2])
        for number in range(200):
            (folder / f"new{number}").mkdir()
            (folder / f"new{number}/file").write_text(str(number))
        (folder / "old0").unlink()
        (folder / "old1").rename(folder / "new1/renamed")
    finally:
        syncd.process.send_signal(signal.SIGCONT)

    wait_until("all is as in the folder", lambda: tree(syncd.root / "mirror") == tree(folder))
    watch = syncd.status()["sources"][0]["watch"]
    assert watch["overflows"] >= 1
    assert (watch["mode"], watch["watches"]) == ("events", 201)
    (folder / "new199/late").write_text("heard")
    arrives(syncd)


def test_without_descriptors_nothing_is_lost_or_deleted(syncd: Syncd) -> None:
    """No descriptor is free for a while: no file is opened, no directory listed, no call answered. What could
    not be seen is not deleted, the processor rests, and afterwards everything arrives."""
    folder = syncd.root / "watched"
    for number in range(20):
        (folder / f"d{number}").mkdir()
        (folder / f"d{number}/file").write_text(str(number))
    syncd.start()
    arrives(syncd)
    syncd.wait_idle()
    before = tree(syncd.root / "mirror")
    assert syncd.process is not None
    pid = syncd.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        for number in range(20, 40):
            (folder / f"d{number}").mkdir()
            (folder / f"d{number}/file").write_text(str(number))
        (folder / "d0/file").unlink()
        wait_until("it is in the log", lambda: "Too many open files" in syncd.log_text())
        began = cpu_seconds(pid)
        signal.sigtimedwait([], 5.0)  # the measurement itself
        used = cpu_seconds(pid) - began
        assert syncd.process.poll() is None
        assert tree(syncd.root / "mirror") == before
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

    assert used < 2.5, f"{used:.1f} s of processor time in 5 s of waiting"
    wait_until("all is as in the folder", lambda: tree(syncd.root / "mirror") == tree(folder))


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
