"""No object goes because something could not be seen: what was unmounted, unreadable, or counted in part."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import FileUnreadable, StoreUnavailable
from syncd.core.model import ObjectMeta, OnDelete
from syncd.core.plan import Nothing
from syncd.core.schedule import POLL_SECONDS
from syncd.sources import fingerprint
from syncd.sources.scan import walk
from tests.support import mounting
from tests.support.rig import Rig
from tests.support.waiting import wait_until
from tests.unit.pipeline.house import House, remove

# ---- one file ---------------------------------------------------------------------------------------------


def test_an_event_about_a_file_whose_disk_was_unmounted_deletes_nothing(tmp_path: Path) -> None:
    """A disk inside the source goes while one of its files is dirty: the step finds nothing at the path, and
    concludes nothing, even where the object may be removed."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    disk = rig.folder / "disk"
    with mounting.tmpfs(disk, "1m"):
        ref = rig.write("disk/deep/file", b"hello")
        rig.sync("disk/deep/file")

    outcome = rig.sync("disk/deep/file", delete_allowed=True)

    assert isinstance(outcome.action, Nothing)
    assert not outcome.wants_delete
    assert "p/disk/deep/file" in rig.fake.objects
    assert rig.state.recorded(ref) is not None
    rig.close()


def test_an_event_about_a_file_that_a_mount_hides_deletes_nothing(tmp_path: Path) -> None:
    """Something is mounted over a folder: what is below is out of watch, not gone."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.write("folder/file", b"hello")
    rig.sync("folder/file")
    with mounting.tmpfs(rig.folder / "folder", "1m"):
        outcome = rig.sync("folder/file", delete_allowed=True)

    assert isinstance(outcome.action, Nothing)
    assert "p/folder/file" in rig.fake.objects
    rig.close()


def test_an_upload_of_a_file_that_a_mount_hides_is_kept(tmp_path: Path) -> None:
    """Its parts are not thrown away: when the file is in watch again the upload goes on."""
    rig = Rig(tmp_path)
    ref = rig.write("folder/big", bytes(range(60)))
    rig.fake.fail("complete_multipart_upload", StoreUnavailable("down"), times=1)
    with pytest.raises(StoreUnavailable):
        rig.sync("folder/big")
    (upload,) = rig.fake.uploads
    with mounting.tmpfs(rig.folder / "folder", "1m"):
        assert isinstance(rig.sync("folder/big").action, Nothing)
        assert list(rig.fake.uploads) == [upload]

    outcome = rig.sync("folder/big")

    assert "p/folder/big" in rig.fake.objects
    assert outcome.bytes_saved > 0
    assert rig.state.recorded(ref) is not None
    rig.close()


# ---- the whole source -------------------------------------------------------------------------------------


def unreadable(house: House, monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    """The directory cannot be listed until the patch is undone."""
    place = os.fspath(house.rig.folder / directory)
    really = walk.names_in

    def fail(descriptor: int) -> Iterator[str]:
        if os.readlink(f"/proc/self/fd/{descriptor}") == place:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(descriptor)

    monkeypatch.setattr(walk, "names_in", fail)


def scan(house: House) -> None:
    """One scan of everything, to its end."""
    scans = house.runner.news.scans
    house.runner.ask("", "look")
    wait_until("it is scanned", lambda: house.runner.news.scans > scans)
    house.settle()


def test_after_a_scan_with_errors_nothing_is_deleted(
    deleting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One directory could not be read: also what is gone elsewhere waits, and status says why. A scan without
    an error ends that."""
    house = deleting
    house.write("a", "b", "sick/c")
    house.start()
    house.settle()
    with monkeypatch.context() as patch:
        unreadable(house, patch, "sick")
        (house.rig.folder / "a").unlink()
        scan(house)
        house.later(10.0)
        wait_until("one waits", lambda: house.runner.news.deletes_parked == 1)
        assert "1 error," in house.runner.news.deletes_reason
        house.later(1.2 * POLL_SECONDS)
        house.settle()
        assert house.objects == {"a", "b", "sick/c"}

    house.later(1.2 * POLL_SECONDS)  # it is looked at again soon, since something waits for it
    wait_until("it goes", lambda: house.objects == {"b", "sick/c"})


def test_a_folder_behind_a_link_is_kept_and_named_and_holds_nothing_up(
    deleting: House, caplog: pytest.LogCaptureFixture
) -> None:
    """It moved to a bigger disk and a link is there to stay; other deletions go on without a word."""
    house = deleting
    house.write("a", "b", "albums/c", "albums/d")
    house.start()
    house.settle()
    (house.rig.folder / "albums").rename(house.rig.folder.with_name("bigger"))
    (house.rig.folder / "albums").symlink_to("../bigger")
    (house.rig.folder / "a").unlink()
    scan(house)
    wait_until("one is a candidate", lambda: house.runner.deletions.waiting() == 1)
    house.later(10.0)
    wait_until("it goes", lambda: house.objects == {"b", "albums/c", "albums/d"})

    news = house.runner.news
    assert (news.out_of_sight, news.errors, news.deletes_parked) == (2, 0, 0)
    assert news.hidden == ["albums: albums is a symbolic link now, and syncd follows none"]
    assert "docs:albums: its files are out of sight and are kept" in caplog.text


def test_an_event_after_a_scan_with_errors_deletes_nothing_either(
    deleting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever told of the file, the source as a whole is in doubt, also if only a part of it was scanned.
    All of it is scanned soon, since something waits for that."""
    house = deleting
    house.write("a", "b", "sick/c")
    house.start()
    house.settle()
    scans = house.runner.news.scans
    with monkeypatch.context() as patch:
        unreadable(house, patch, "sick")
        house.runner.ask("sick", "look")
        wait_until("it is scanned", lambda: house.runner.news.scans > scans)
        house.settle()
        remove(house, "b")
        house.later(10.0)
        wait_until("one waits", lambda: house.runner.news.deletes_parked == 1)
        assert house.objects == {"a", "b", "sick/c"}

    house.later(1.2 * POLL_SECONDS)  # long before the next scan would have been due
    wait_until("it goes", lambda: house.objects == {"a", "sick/c"})


def test_the_operators_word_goes_before_errors(deleting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is never readable does not hold deletions up without end: the operator may confirm
    those that wait, but not those that the error hides."""
    house = deleting
    house.write("a", "b", "sick/c")
    house.start()
    house.settle()
    unreadable(house, monkeypatch, "sick")
    for name in ("a", "sick/c"):
        (house.rig.folder / name).unlink()
    scan(house)
    house.later(10.0)
    wait_until("one waits", lambda: house.runner.news.deletes_parked == 1)

    assert house.runner.confirm_deletes() == 1

    wait_until("it goes", lambda: house.objects == {"b", "sick/c"})
    (house.rig.folder / "b").unlink()
    scan(house)
    house.later(10.0)
    wait_until("the next one waits again", lambda: house.runner.news.deletes_parked == 1)
    assert house.objects == {"b", "sick/c"}


def test_a_scan_that_did_not_come_to_its_end_allows_nothing(
    deleting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the middle of a scan: what it told before may be a part of much more."""
    house = deleting
    house.write("a", "b")
    house.start()
    house.settle()

    def broken(descriptor: int) -> Iterator[str]:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(walk, "names_in", broken)
        house.runner.ask("", "look")
        wait_until("it failed", lambda: "last scan failed" in house.runner.news.waiting_for)
        remove(house, "a")
        wait_until("one is a candidate", lambda: house.runner.deletions.waiting() == 1)
        house.runner.schedule.next_scan = house.clock.monotonic() + 3600.0
        house.later(10.0)
        wait_until("it waits", lambda: house.runner.news.deletes_parked == 1)
        assert "ZeroDivisionError" in house.runner.news.deletes_reason
        assert house.objects == {"a", "b"}


def test_deletions_do_not_go_when_the_root_went_meanwhile(deleting: House) -> None:
    """A file is gone, and in its grace period another directory comes to the root's place: no scan has looked
    since, and nothing goes."""
    house = deleting
    house.write("a", "b")
    house.start()
    house.settle()
    remove(house, "a")
    wait_until("one is a candidate", lambda: house.runner.deletions.waiting() == 1)
    house.rig.folder.rename(house.rig.folder.with_name("away"))
    house.rig.folder.mkdir()
    house.write("b", "c")

    house.later(10.0)

    wait_until("it waits", lambda: "--accept-root" in house.runner.news.waiting_for)
    house.settle()
    assert house.runner.deletions.waiting() == 0
    assert house.objects == {"a", "b"}


def test_a_disk_that_fails_is_no_answer_about_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where even the directory above a missing file cannot be asked for its device, the step fails."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.write("folder/file", b"hello")
    rig.sync("folder/file")
    (rig.folder / "folder/file").unlink()

    def fail(root_fd: int, directory: bytes) -> walk.Nearest:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(walk, "nearest", fail)
    with pytest.raises(FileUnreadable, match="Input/output error"):
        rig.sync("folder/file", delete_allowed=True)

    assert "p/folder/file" in rig.fake.objects
    rig.close()


def test_a_root_that_was_emptied_on_purpose_is_believed_when_anything_is_in_it(tmp_path: Path) -> None:
    """The words that tell of an empty root name the way out, and it is one."""
    house = House(tmp_path, on_delete=OnDelete.DELETE, exclude=(".keep",))
    house.write("a", "b")
    house.start()
    house.settle()
    for name in ("a", "b"):
        (house.rig.folder / name).unlink()
    house.runner.ask("", "look")
    wait_until("it waits", lambda: "put any file into it" in house.runner.news.waiting_for)
    house.later(120.0)
    house.settle()
    assert house.objects == {"a", "b"}

    (house.rig.folder / ".keep").touch()
    house.later(120.0)
    wait_until("it is believed", lambda: not house.runner.news.waiting_for)
    wait_until("both are candidates", lambda: house.runner.deletions.waiting() == 2)
    house.later(10.0)
    wait_until("they go", lambda: house.objects == set())
    house.close()


# ---- whose objects ----------------------------------------------------------------------------------------


def test_only_objects_that_the_state_knows_are_deleted(deleting: House) -> None:
    """What others have put below our prefix, and what we wrote before the state was lost, has no file here
    and stays, whatever scans and the operator's word say."""
    house = deleting
    house.write("a", "b", "c")
    house.start()
    house.settle()
    house.stop()
    house.rig.state.close()
    shutil.rmtree(house.rig.state_dir)
    meta = ObjectMeta(fingerprint.of_bytes(b"x"), mtime_ns=0)
    house.rig.fake.put_object("p/foreign", b"x", meta)
    (house.rig.folder / "a").unlink()
    house.restart()
    house.settle()
    (house.rig.folder / "b").unlink()
    scan(house)
    house.runner.confirm_deletes()
    house.later(10.0)
    wait_until("the known one goes", lambda: "b" not in house.objects)
    house.settle()

    assert house.objects == {"a", "c", "foreign"}


def test_a_path_that_was_mistyped_deletes_nothing(deleting: House) -> None:
    """The configuration names another directory for a source that is known: it is another root."""
    house = deleting
    house.write("a", "b")
    house.start()
    house.settle()
    other = house.rig.folder.with_name("other")
    other.mkdir()
    (other / "c").write_text("foreign")
    house.source = replace(house.source, root=str(other))

    house.restart()
    wait_until("it waits", lambda: "--accept-root" in house.runner.news.waiting_for)
    house.later(120.0)
    house.settle()

    assert house.objects == {"a", "b"}
