"""A root that changes, or cannot be looked at, in the very moment in which it is judged."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import RootChanged, StoreUnavailable
from syncd.core.model import FileRef, OnDelete, RootIdentity
from syncd.core.patterns import Rules
from syncd.core.plan import Nothing
from syncd.sources import directories, mounts
from syncd.sources.root import RootGuard
from syncd.sources.scan import compare
from tests.support import mounting
from tests.support.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def identity_of(folder: Path) -> RootIdentity:
    descriptor = os.open(folder, directories.OPEN_DIRECTORY)
    try:
        return directories.identity_of(descriptor)
    finally:
        os.close(descriptor)


class NothingFound:
    """Hears what a scan tells; it is to tell nothing."""

    def found(self, *what: object) -> None:
        raise AssertionError(what)

    absent = skipped = unreadable = out_of_sight = found


def scan_of(rig: Rig) -> compare.ScanReport:
    return compare.scan(
        rig.source,
        Rules((), ()),
        rig.state,
        NothingFound(),
        should_stop=lambda: False,
        store_id=rig.store.store_id,
    )


def fail_at(patch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
    """The stat of the open directory fails, as on a server that is gone or a disk that breaks."""
    really, place = os.fstat, os.fspath(folder)

    def fstat(descriptor: int) -> os.stat_result:
        if os.readlink(f"/proc/self/fd/{descriptor}") == place:
            raise OSError(number, os.strerror(number))
        return really(descriptor)

    patch.setattr(os, "fstat", fstat)


# ---- a root that cannot be looked at ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO], ids=errno.errorcode.get)
def test_a_root_that_was_opened_and_cannot_be_looked_at_is_in_doubt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A step for a file says so, and says nothing about the file; the next one goes on."""
    rig.write("a", b"hello")
    with monkeypatch.context() as patch:
        fail_at(patch, rig.folder, number)
        with pytest.raises(RootChanged, match=os.strerror(number)):
            rig.sync("a")

    rig.sync("a")

    assert set(rig.fake.objects) == {"p/a"}


def test_a_root_that_cannot_be_looked_at_is_a_doubt_of_the_scan(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as a doubt when the path was judged well and only the opened root fails, and before that."""
    rig.write("a", b"hello")
    here = identity_of(rig.folder)
    with monkeypatch.context() as patch:
        fail_at(patch, rig.folder, errno.ESTALE)
        assert os.strerror(errno.ESTALE) in str(scan_of(rig).doubt)
        patch.setattr(compare, "check_root", lambda *what: (here, None))
        assert os.strerror(errno.ESTALE) in str(scan_of(rig).doubt)


def test_a_root_that_cannot_be_looked_at_a_second_time_is_not_accepted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a directory holds our files cannot be said of one that fails when it is opened for that."""
    rig.write("a", b"hello")
    rig.sync("a")
    now = identity_of(rig.folder)
    known = RootIdentity(now.device + 1, now.inode)
    rig.state.renumber_device("docs", now.device, known.device)
    rig.state.set_root_identity("docs", known)
    really = directories.open_root

    def opened(path: str) -> int:
        fail_at(monkeypatch, rig.folder, errno.EIO)
        return really(path)

    monkeypatch.setattr(directories, "open_root", opened)

    _, doubt = RootGuard(rig.source, rig.state).look()

    assert "on another device" in doubt
    assert rig.state.root_identity("docs") == known


# ---- a root that is replaced while it is in use -----------------------------------------------------------


def test_a_directory_is_not_believed_for_the_files_of_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is away when the root is looked at, and mounted again before our files are looked for: they
    say nothing about the directory that was seen first."""
    rig.write("a", b"hello")
    rig.sync("a")
    disk = identity_of(rig.folder)
    away, below = rig.folder.with_name("away"), rig.folder.with_name("below")
    rig.folder.rename(away)
    rig.folder.mkdir()
    (rig.folder / "left behind").write_bytes(b"")
    known = RootIdentity(disk.device + 1, identity_of(rig.folder).inode)  # roots of disks often have the same
    rig.state.set_root_identity("docs", known)
    really = directories.open_root

    def opened(path: str) -> int:
        if away.exists():
            rig.folder.rename(below)
            away.rename(rig.folder)
        return really(path)

    monkeypatch.setattr(directories, "open_root", opened)
    guard = RootGuard(rig.source, rig.state)

    _, doubt = guard.look()

    assert below.exists()
    assert "on another device" in doubt
    assert rig.state.root_identity("docs") == known


def test_a_root_that_is_replaced_when_the_scan_begins_is_not_scanned(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is opened has to be what was judged."""
    rig.write("a", b"hello")
    away = rig.folder.with_name("away")
    really = directories.open_root

    def opened(path: str) -> int:
        rig.folder.rename(away)
        rig.folder.mkdir()
        (rig.folder / "b").write_bytes(b"another")
        return really(path)

    monkeypatch.setattr(directories, "open_root", opened)

    assert "replaced" in str(scan_of(rig).doubt)


def test_a_card_of_which_only_udev_tells_is_not_taken_for_another(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On FAT all that the kernel tells is the same: device number, inode of the root, id of the file system.
    What udev does not know, or no longer, says nothing.
    """
    monkeypatch.setattr(directories, "_GETFSUUID", 0)  # which no file system knows
    monkeypatch.setattr(mounts, "UDEV", str(tmp_path))
    device = rig.folder.stat().st_dev
    told = tmp_path / f"b{os.major(device)}:{os.minor(device)}"
    rig.write("a", b"hello")
    rig.sync("a")
    guard = RootGuard(replace(rig.source, on_delete=OnDelete.DELETE), rig.state)
    for serial, is_known in (("", True), ("1A2B-3C4D", True), ("", True), ("5E6F-0708", False)):
        told.write_text(f"S:disk/by-id/x\nE:ID_FS_TYPE=vfat\nE:ID_FS_UUID={serial}\nE:ID_FS_VERSION=FAT32\n")
        if not is_known:
            (rig.folder / "a").unlink()
            rig.write("b", b"of the other card")
        assert ("on another device" in guard.look()[1]) is not is_known


def test_a_share_of_another_server_is_not_taken_for_the_first(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted at the same place, it gets the same numbers: only where it comes from tells."""
    table = tmp_path / "table"
    monkeypatch.setattr(mounts, "TABLE", str(table))
    device = rig.folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    monkeypatch.setattr(directories, "_GETFSUUID", 0)
    rig.write("a", b"hello")
    rig.sync("a")
    guard = RootGuard(rig.source, rig.state)
    for source, is_known in (("me@nas:/a", True), ("me@nas:/a", True), ("me@nas:/ab", False)):
        table.write_text(f"22 1 {number} / /mnt rw shared:1 - fuse.sshfs {source} rw\n")
        if not is_known:
            (rig.folder / "a").unlink()
            rig.write("b", b"of the other share")
        assert ("on another device" in guard.look()[1]) is not is_known


# ---- another root with the numbers of the known one --------------------------------------------------------


def test_a_disk_that_got_the_number_of_another_is_not_taken_for_it(rig: Rig, tmp_path: Path) -> None:
    """The kernel gives a disk the device number of the one that was unplugged before it, and the roots of
    both have one inode. Neither the guard, nor a scan, nor a step for one file believes it, before the
    operator does.
    """
    one, other = (mounting.ext4_image(tmp_path / name, 4) for name in ("one", "other"))
    folder = tmp_path / "disk"
    source = replace(rig.source, root=str(folder), on_delete=OnDelete.DELETE)
    rig.know(source=source)
    rig.source = source
    with mounting.image(one, at=folder):
        (folder / "a").write_bytes(b"hello")
        guard = RootGuard(source, rig.state)
        known, doubt = guard.look()
        assert known is not None
        assert not doubt
        rig.know(root_identity=known)
        rig.sync("a")
        assert guard.look() == (known, "")
    with mounting.image(other, at=folder):
        (folder / "another").write_bytes(b"of the other disk")
        here = identity_of(folder)
        assert (here.inode, here.volume) != (known.inode, known.volume)
        assert here.inode == known.inode
        rig.state.renumber_device("docs", known.device, here.device)  # another test may have a loop device
        rig.state.set_root_identity("docs", replace(known, device=here.device))
        rig.know(root_identity=replace(known, device=here.device))

        assert "on another device" in guard.look()[1]
        assert scan_of(rig).doubt
        with pytest.raises(RootChanged):
            rig.sync("a")

        guard.accept()
        assert guard.look() == (here, "")
        assert guard.replaced


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((1, 2, ""), (1, 2, "aa"), True),  # recorded by a version that did not ask
        ((1, 2, "aa"), (1, 2, "aabb"), True),  # the kernel tells more by now
        ((1, 2, "aabb"), (1, 2, "aa"), True),
        ((1, 2, "aa"), (1, 2, "ab"), False),
        ((1, 2, "aabb"), (1, 2, "aabc"), False),
        ((1, 2, "aa"), (3, 2, "aa"), False),
        ((1, 2, "aa"), (1, 3, "aa"), False),
    ],
)
def test_directories_are_told_apart_by_what_is_known_of_both(
    one: tuple[int, int, str], other: tuple[int, int, str], same: bool
) -> None:
    """A kernel that says less, or more than before, makes no other directory of the root."""
    assert RootIdentity(*one).is_same(RootIdentity(*other)) is same


# ---- a root on another device -----------------------------------------------------------------------------


def test_an_upload_that_began_before_the_disk_got_another_number_is_given_up_when_its_file_is_gone(
    rig: Rig,
) -> None:
    """Else its file would always count as out of sight with its disk: neither the upload nor an object of
    an earlier content would ever go."""
    ref = rig.write("folder/big", bytes(range(60)))
    rig.fake.fail("upload_part", StoreUnavailable("down"), times=1)
    with pytest.raises(StoreUnavailable):
        rig.sync("folder/big")
    known = identity_of(rig.folder)
    former = RootIdentity(known.device + 1, known.inode)
    rig.state.renumber_device("docs", known.device, former.device)
    rig.state.set_root_identity("docs", former)
    rig.restart()
    begun = rig.state.checkpoints.find(FileRef("docs", "folder/big"))
    assert begun is not None
    assert begun.stat.device == former.device
    guard = RootGuard(rig.source, rig.state)
    guard.accept()
    assert guard.look() == (known, "")
    (rig.folder / "folder/big").unlink()

    outcome = rig.sync("folder/big")

    assert isinstance(outcome.action, Nothing)
    assert rig.state.checkpoints.find(ref) is None
    assert rig.fake.uploads == {}
