"""The mount table: whose files change without events, what is mounted where; without touching it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.sources import mounts
from syncd.sources.mounts import Mount, MountTable
from tests.unit.sources.watch.watch_rig import apart

TABLE = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /proc rw,nosuid - proc proc rw
40 22 0:40 / /mnt/nas rw,relatime shared:9 - nfs4 nas:/export rw,vers=4.2
41 22 0:41 / /mnt/with\040space\011and\012more\134 rw - cifs //host/share rw
42 22 0:42 / /home/me/ssh rw - fuse.sshfs me@host: rw
43 22 8:2 / /mnt/disk rw - fuseblk /dev/sdb1 rw
44 40 0:44 / /mnt/nas rw - ext4 /dev/sdc1 rw
garbage
"""


def test_table_is_parsed_with_its_escapes() -> None:
    """Mount points come as they are spelt on disk; a line that is not understood is left out."""
    assert set(mounts.parse(TABLE)) == {
        "/", "/proc", "/mnt/nas", "/mnt/with space\tand\nmore\\", "/home/me/ssh", "/mnt/disk",
    }  # fmt: skip


def test_what_was_mounted_last_is_what_one_sees() -> None:
    """Of two mounts at one point the later one counts."""
    assert mounts.parse(TABLE)["/mnt/nas"] == Mount(44, "ext4", device="0:44")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "8:1"),
        ("/srv/photos", "8:1/srv/photos"),
        ("/mnt/bind", "8:1/srv/photos"),
        ("/mnt/bind/2024", "8:1/srv/photos/2024"),
        ("/home", "0:30/@home"),
        ("/mnt/pool/@home", "0:30/@home"),
        ("/mnt/nas/photos", ""),  # every export of an NFS server looks like its root
    ],
)
def test_a_directory_has_one_origin_under_every_mount(path: str, expected: str) -> None:
    """Bind mounts and subvolumes show a directory at several paths, without a link."""
    table = MountTable()
    table.close()
    table._mounts = mounts.parse(
        b"1 0 8:1 / / rw - ext4 /dev/a rw\n"
        b"2 1 8:1 /srv/photos /mnt/bind rw - ext4 /dev/a rw\n"
        b"3 1 0:30 /@home /home rw - btrfs /dev/b rw\n"
        b"4 1 0:30 / /mnt/pool rw - btrfs /dev/b rw\n"
        b"5 1 0:40 / /mnt/nas rw - nfs4 nas:/export rw\n"
    )
    assert table.origin(path) == expected


@pytest.mark.parametrize(
    ("type_name", "expected"),
    [
        ("nfs", True), ("nfs4", True), ("cifs", True), ("smb3", True), ("9p", True), ("ceph", True),
        ("afs", True),
        ("fuse", True), ("fuse.sshfs", True), ("fuse.s3fs", True), ("virtiofs", True), ("fuseblk", False),
        ("fusectl", False), ("ext4", False), ("xfs", False), ("btrfs", False), ("tmpfs", False),
        ("overlay", False),
        ("zfs", False),
    ],
)  # fmt: skip
def test_types_that_change_without_events(type_name: str, expected: bool) -> None:
    """Network file systems and FUSE can change unseen; disks of this machine cannot."""
    assert mounts.is_remote(type_name) is expected


@pytest.fixture
def table() -> Iterator[MountTable]:
    opened = MountTable()
    yield opened
    opened.close()


def test_real_table_knows_real_mounts(table: MountTable) -> None:
    """The root and /proc are mounts on every machine; a directory that does not exist is none."""
    assert [table.is_mount_point(path) for path in ("/", "/proc", "/no such")] == [True, True, False]
    assert table.remote_type("/proc/self/no such/directory") is None


def test_unchanged_table_has_no_changes(table: MountTable) -> None:
    """Looking twice finds nothing new."""
    assert table.refresh() == set()


def test_mounting_and_unmounting_are_changes(tmp_path: Path) -> None:
    """Each change wakes those who wait, and is named by its mount point."""
    told = apart("mount_table", tmp_path)

    assert told == {
        "quiet_at_first": True, "after_mount": ["there"], "after_mount_over": ["there"],
        "after_unmount": ["there"], "after_rest": ["there"], "quiet_at_last": True,
    }  # fmt: skip


SANDBOXED = b"""\
100 90 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
101 100 254:0 /tmp/systemd-private-1f-syncd.service-aB/tmp /tmp rw shared:2 - ext4 /dev/vda rw
102 100 0:25 /systemd/inaccessible/dir /home ro,nosuid - tmpfs tmpfs rw
103 100 0:25 /systemd/inaccessible/dir /mnt/a\\040b ro,nosuid - tmpfs tmpfs rw
104 100 0:40 / /root ro - tmpfs tmpfs rw
105 100 254:16 / /tmp/disk rw - ext4 /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("path", "directive"),
    [
        ("/tmp/photos", "PrivateTmp="),
        ("/tmp", "PrivateTmp="),
        ("/home/ada/photos", "ProtectHome="),
        ("/root/photos", "ProtectHome=tmpfs"),
        ("/mnt/a b/photos", "InaccessiblePaths="),
        ("/srv/photos", None),
        ("/tmpfoo", None),
        ("/tmp/disk/photos", None),
    ],
)
def test_sandbox_that_hides_a_root_is_named(path: str, directive: str | None) -> None:
    """The innermost mount over a path tells which directive of the unit put it there, if one did."""
    assert mounts.hiding_directive(path, SANDBOXED) == directive


def test_nothing_hides_an_ordinary_directory(tmp_path: Path) -> None:
    """Outside of a sandbox no directive is blamed, on the machine's real mounts."""
    assert mounts.hidden_by(str(tmp_path)) is None


def test_the_type_of_a_device_is_found() -> None:
    """By its number, as stat gives it; a device that the table does not have has no type."""
    assert mounts.type_of(os.stat("/proc/self").st_dev) == "proc"
    assert mounts.type_of(os.makedev(4000, 1)) == ""


def test_without_a_table_no_device_has_a_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no failure."""
    monkeypatch.setattr(mounts, "TABLE", "/nowhere")
    assert mounts.type_of(os.stat("/proc/self").st_dev) == ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/mnt/nas/x", None),
        ("/home/me/ssh/deep/down", "fuse.sshfs"),
        ("/mnt/disk", "fuseblk"),
        ("/srv", None),
    ],
)  # fmt: skip
def test_a_mount_on_the_way_may_hang(table: MountTable, path: str, expected: str | None) -> None:
    """Also one that makes events; but what was mounted over it last is what one sees."""
    table._mounts = mounts.parse(TABLE)
    assert table.hanging_type(path) == expected


def test_the_root_of_all_is_never_avoided(table: MountTable) -> None:
    """Without its server nothing runs."""
    table._mounts = {"/": Mount(1, "nfs")}
    assert table.hanging_type("/srv/photos") is None
