"""What became of a place on the way to recorded files, and what may be concluded from that: a table.

The root is known by path and inode; below it a file is gone only where its directory was read and nothing
hides it. Each case asks all that could conclude something: the guard of the root, the scan, and a step for a
file whose object may be deleted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import RootChanged
from syncd.core.model import FileRef, FileStat, OnDelete, Recorded, RootIdentity
from syncd.core.patterns import Rules
from syncd.core.plan import Delete, Nothing
from syncd.sources.root import RootGuard
from syncd.sources.scan import compare, walk
from tests.support import mounting
from tests.support.rig import Rig

FILES = ("middle/leaf/file", "middle/leaf/other", "middle/beside", "top")
Happening = Callable[[Path], AbstractContextManager[object]]


class Told:
    """Keeps what a scan concludes."""

    def __init__(self) -> None:
        self.absent_paths: set[str] = set()
        self.hidden: set[str] = set()

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        """Files that are looked at again do no harm."""

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        self.absent_paths.add(ref.path)

    def skipped(self, ref: FileRef, reason: str) -> None:
        """Named elsewhere."""

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        self.hidden.add(path)

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        self.hidden.add(path)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    (tmp_path / "above").mkdir()
    rig = Rig(tmp_path / "above", on_delete=OnDelete.DELETE)
    for path in FILES:
        rig.write(path, path.encode()[:8])
        rig.sync(path)
    identity, doubt = RootGuard(rig.source, rig.state).look()
    assert not doubt
    rig.know(root_identity=identity)
    yield rig
    rig.close()


def scan(rig: Rig, *, mounts_stay: bool = False) -> tuple[Told, compare.ScanReport]:
    told = Told()
    report = compare.scan(
        rig.source,
        Rules((), ()),
        rig.state,
        told,
        should_stop=lambda: False,
        store_id=rig.store.store_id,
        mounts_stay=mounts_stay,
    )
    return told, report


# ---- what happens to a place ------------------------------------------------------------------------------


def moved_and_linked(place: Path) -> AbstractContextManager[object]:
    """To a bigger disk, with a link in its place: the same content under the same paths."""
    place.rename(place.with_name("bigger"))
    place.symlink_to("bigger")
    return nullcontext()


def copied_and_linked(place: Path) -> AbstractContextManager[object]:
    """To what another user may not read: same names, sizes and times, and something more."""
    shutil.copytree(place, place.with_name("elsewhere"))
    (place.with_name("elsewhere") / "secret").write_text("secret")
    place.rename(place.with_name("old"))
    place.symlink_to("elsewhere")
    return nullcontext()


def linked_to_nothing(place: Path) -> AbstractContextManager[object]:
    place.rename(place.with_name("old"))
    place.symlink_to("nowhere")
    return nullcontext()


def another_device_mounted(place: Path) -> AbstractContextManager[object]:
    return mounting.tmpfs(place, "1m")


@contextmanager
def same_device_mounted(place: Path) -> Iterator[None]:
    """A bind mount of a directory on the same device: no device number tells of it."""
    other = place.with_name("of the same device")
    (other / "folder" / "middle" / "leaf").mkdir(parents=True)
    (other / "unrelated").write_text("x")
    mounting.need()
    mounting.mount("--bind", str(other), at=place)
    try:
        yield
    finally:
        mounting.unmount(place)


def restored(place: Path) -> AbstractContextManager[object]:
    """The same names, sizes and times in other inodes."""
    place.rename(place.with_name("old"))
    shutil.copytree(place.with_name("old"), place)
    return nullcontext()


LINKS: tuple[Happening, ...] = (moved_and_linked, copied_and_linked, linked_to_nothing)
MOUNTS: tuple[Happening, ...] = (another_device_mounted, same_device_mounted)


def place_of(rig: Rig, name: str) -> Path:
    return {
        "parent": rig.folder.parent,
        "root": rig.folder,
        "middle": rig.folder / "middle",
        "leaf": rig.folder / "middle" / "leaf",
    }[name]


# ---- at and above the root --------------------------------------------------------------------------------


@pytest.mark.parametrize("happens", [*LINKS, *MOUNTS, restored], ids=lambda each: each.__name__)
@pytest.mark.parametrize("where", ["parent", "root"])
def test_nothing_is_believed_of_another_root(rig: Rig, where: str, happens: Happening) -> None:
    """Its files are not carried, what is missing there is not gone, and the message names the way out."""
    stored = set(rig.fake.objects)
    with happens(place_of(rig, where)):
        identity, doubt = RootGuard(rig.source, rig.state).look()
        told, report = scan(rig)
        with pytest.raises(RootChanged):
            rig.sync("middle/leaf/file", delete_allowed=True)

    assert doubt
    assert "reload" in doubt if happens in LINKS else identity is None or "--accept-root" in doubt
    assert report.doubt
    assert not told.absent_paths
    assert set(rig.fake.objects) == stored


def renumber(rig: Rig) -> RootIdentity:
    """As if all had been recorded while the disk had another number."""
    known = rig.state.root_identity("docs")
    assert known is not None
    rig.state.renumber_device("docs", known.device, known.device + 1)
    rig.state.set_root_identity("docs", RootIdentity(known.device + 1, known.inode))
    return known


@pytest.mark.parametrize("died", [False, True], ids=["", "died after the rows were renumbered"])
def test_another_device_number_is_accepted_for_the_same_inodes(rig: Rig, died: bool) -> None:
    """After a reboot, or when a disk was plugged in again; most recorded files have to be untouched."""
    known = renumber(rig)
    if died:
        rig.state.renumber_device("docs", known.device + 1, known.device)
    (rig.folder / "top").write_bytes(b"changed in between")

    assert RootGuard(rig.source, rig.state).look() == (known, "")
    row = rig.state.recorded(rig.ref("middle/beside"))
    assert row is not None
    assert row.stat.device == known.device


def test_another_device_number_is_not_accepted_for_copies(rig: Rig) -> None:
    """Same names, sizes and times of every file are resemblance, not proof."""
    known = renumber(rig)
    for path in FILES:
        shutil.copy2(rig.folder / path, rig.folder / "copy")
        os.rename(rig.folder / "copy", rig.folder / path)
    guard = RootGuard(rig.source, rig.state)

    identity, doubt = guard.look()

    assert identity == known
    assert "--accept-root docs" in doubt
    assert "backup" in doubt
    guard.accept()
    assert guard.look() == (known, "")
    assert guard.replaced


# ---- below the root ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("happens", [*LINKS, *MOUNTS], ids=lambda each: each.__name__)
@pytest.mark.parametrize("where", ["middle", "leaf"])
def test_what_lies_behind_a_link_or_a_mount_is_out_of_sight(rig: Rig, where: str, happens: Happening) -> None:
    """It is kept, counted and named, whatever told of it and whatever may be deleted."""
    stored = set(rig.fake.objects)
    prefix = os.fspath(place_of(rig, where).relative_to(rig.folder)) + "/"
    below = {path for path in FILES if path.startswith(prefix)}
    with happens(place_of(rig, where)):
        told, report = scan(rig)
        outcomes = [rig.sync(path, delete_allowed=True) for path in sorted(below)]

    assert told.absent_paths == set()
    assert report.out_of_sight == len(below)
    assert told.hidden == {path.rpartition("/")[0] for path in below}
    assert report.complete == (happens in LINKS)  # a link is there to stay and holds nothing else up
    for outcome in outcomes:
        assert isinstance(outcome.action, Nothing)
        assert outcome.action.reason.startswith("out of sight")
        assert not outcome.wants_delete
    assert set(rig.fake.objects) == stored
    assert all(rig.state.recorded(rig.ref(path)) is not None for path in below)


@pytest.mark.parametrize("where", ["middle", "leaf"])
def test_what_was_on_another_device_is_out_of_sight(rig: Rig, where: str) -> None:
    """A disk inside the source that is away leaves its mount point, or not even that."""
    for path in FILES:
        row = rig.state.recorded(rig.ref(path))
        assert row is not None
        if path.startswith("middle/"):
            rig.state.commit(rig.ref(path), replace(row, stat=row.stat._replace(device=row.stat.device + 1)))
    shutil.rmtree(place_of(rig, where))

    told, report = scan(rig)

    assert not told.absent_paths
    assert report.out_of_sight == len(FILES) - 1 - (where == "leaf")
    assert not rig.sync("middle/leaf/file", delete_allowed=True).wants_delete
    assert "p/middle/leaf/file" in rig.fake.objects


@pytest.mark.parametrize("how", ["removed", "emptied", "replaced", "became a file", "restored without it"])
@pytest.mark.parametrize("where", ["middle", "leaf"])
def test_what_nothing_hides_is_gone(rig: Rig, where: str, how: str) -> None:
    """A directory that was read, or that is not there, does tell of its files."""
    place = place_of(rig, where)
    if how == "restored without it":
        restored(place)
        (rig.folder / "middle/leaf/file").unlink()
    else:
        shutil.rmtree(place)
        if how == "became a file":
            place.write_text("x")
        elif how != "removed":
            place.mkdir()
            if how == "replaced":
                (place / "new").write_text("x")

    told, report = scan(rig)

    assert "middle/leaf/file" in told.absent_paths
    assert report.out_of_sight == 0
    rig.sync("middle/leaf/file", delete_allowed=True)
    assert "p/middle/leaf/file" not in rig.fake.objects


def test_a_mount_is_believed_while_it_holds_a_recorded_file(rig: Rig) -> None:
    """A disk of its own below the root stays in place: what is deleted there is gone, as long as an untouched
    file shows that it is the mount that the others came from."""
    with mounting.tmpfs(rig.folder / "disk", "1m"):
        for path in ("disk/a", "disk/b"):
            rig.write(path, b"hello")
            rig.sync(path)
        (rig.folder / "disk/a").unlink()
        assert scan(rig)[0].absent_paths == {"disk/a"}
        rig.sync("disk/a", delete_allowed=True)
        (rig.folder / "disk/b").unlink()
        told, report = scan(rig)

    assert "p/disk/a" not in rig.fake.objects
    assert told.absent_paths == set()
    assert report.out_of_sight == 1


def on_another_device(rig: Rig, path: str, by: int) -> None:
    row = rig.state.recorded(rig.ref(path))
    assert row is not None
    rig.state.commit(rig.ref(path), replace(row, stat=row.stat._replace(device=row.stat.device + by)))


def test_a_file_is_gone_where_others_of_its_device_are_in_the_directory(rig: Rig) -> None:
    """An overlay shows the files of its lower layer under a device that is not the directory's."""
    for name in ("a", "b"):
        rig.write(f"layer/{name}", b"hello")
        rig.sync(f"layer/{name}")
    row = rig.state.recorded(rig.ref("layer/a"))
    assert row is not None
    device = os.stat(rig.folder / "layer").st_dev
    assert walk.Nearest(1).hides(row.stat, lambda mount: False, devices=lambda: {device}) == ""
    assert walk.Nearest(1).hides(row.stat, lambda mount: False, devices=lambda: {1}) != ""
    root = os.open(rig.folder, os.O_RDONLY)
    try:
        assert walk.devices_in(root, b"layer") == {device}
    finally:
        os.close(root)


@pytest.mark.parametrize("word", [False, True])
def test_a_mount_that_is_there_to_stay_is_believed_on_the_operators_word(rig: Rig, word: bool) -> None:
    """A file system may come back under another number with a file fewer. A disk that is away stays out of
    sight whatever the operator says: nothing is mounted there.
    """
    with mounting.tmpfs(rig.folder / "disk", "1m"):
        for path in ("disk/a", "disk/b"):
            rig.write(path, b"hello")
            rig.sync(path)
        on_another_device(rig, "disk/a", 1)
        (rig.folder / "disk/a").unlink()
        assert scan(rig, mounts_stay=word)[0].absent_paths == ({"disk/a"} if word else set())
        rig.know(mounts_stay=word)
        assert rig.sync("disk/a").wants_delete == word
        away = rig.state.recorded(rig.ref("disk/b"))
        assert away is not None
    told, report = scan(rig, mounts_stay=word)
    assert told.absent_paths == set()
    assert report.out_of_sight == 2


def test_what_a_snapshot_lacks_was_not_deleted(tmp_path: Path) -> None:
    """The disk is taken back to an earlier time: objects of later files are the only copies. Objects of
    files that were deleted there since still go, and all of them once the operator confirms.
    """
    (tmp_path / "folder").mkdir()
    disk = mounting.ext4_image(tmp_path / "disk", 8)
    snapshot = tmp_path / "snapshot"
    with mounting.image(disk, tmp_path / "folder"):
        rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
        carry(rig, "old/a", "old/b")
    shutil.copyfile(disk, snapshot)
    later = ("old/c", "new/d", "e")
    with mounting.image(disk, tmp_path / "folder"):
        carry(rig, *later)
    with mounting.image(snapshot, tmp_path / "folder"):
        identity, doubt = RootGuard(rig.source, rig.state).look()
        assert not doubt
        rig.know(root_identity=identity)
        told, report = scan(rig)
        assert (told.absent_paths, report.out_of_sight, report.complete) == (set(), 3, False)
        for path in later:
            assert rig.sync(path, delete_allowed=True).action != Delete("deleted locally")
        assert scan(rig, mounts_stay=True)[0].absent_paths == set(later)

        (rig.folder / "old/b").unlink()
        assert scan(rig)[0].absent_paths == {
            "old/b",
            "old/c",
        }  # the folder has changed by now
        rig.sync("old/b", delete_allowed=True)
        rig.close()
    assert rig.fake.objects.keys() == {"p/old/a", "p/old/c", "p/new/d", "p/e"}


def carry(rig: Rig, *paths: str) -> None:
    for path in paths:
        rig.write(path, path.encode())
        rig.sync(path)
    RootGuard(rig.source, rig.state).look()
