"""The folder of a source as a step sees it: what rests, what is young, what is carried beside the content."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from syncd.core.errors import (
    FileChanged,
    FileUnreadable,
    RootChanged,
    StoreError,
    StoreUnavailable,
    TooYoung,
)
from syncd.core.model import Attributes, OnDelete, RootIdentity
from syncd.core.plan import Copy, Nothing, Outcome, Refresh, Upload
from syncd.sources import directories, files, mounts
from syncd.sources.files import OpenFile
from syncd.transfer import local
from tests.support.rig import PART, Rig, open_paths
from tests.unit.transfer.steps import attributes_of, is_racy, later


def test_a_file_below_a_root_that_was_replaced_is_not_judged(rig: Rig) -> None:
    """With another directory in the root's place nothing is concluded about any file."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    found = rig.folder.stat()
    rig.know(root_identity=RootIdentity(found.st_dev, found.st_ino))
    rig.folder.rename(rig.folder.with_name("away"))
    rig.folder.mkdir()

    with pytest.raises(RootChanged):
        rig.sync("a.txt")
    shutil.rmtree(rig.folder)
    with pytest.raises(RootChanged):
        rig.sync("a.txt")


def test_what_is_not_a_regular_file_is_left_alone(rig: Rig) -> None:
    """FIFOs and symbolic links are neither opened nor sent."""
    os.mkfifo(rig.folder / "pipe")
    (rig.folder / "link").symlink_to("/etc/hostname")

    assert rig.sync("pipe").action == Nothing("not a regular file")
    assert rig.sync("link").action == Nothing("not a regular file")
    assert rig.fake.calls.total() == 0


def test_an_unreadable_file_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operating system refuses is an error of this file alone."""
    rig.write("a.txt", b"hello")
    original = os.open

    def refuse(path: object, *args: object, **kwargs: object) -> int:
        if path in ("a.txt", b"a.txt"):
            raise PermissionError(13, "Permission denied")
        return original(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileUnreadable, match=r"[Pp]ermission"):
        rig.sync("a.txt")


def test_a_young_file_is_looked_at_once_more(rig: Rig) -> None:
    """A stat in the same clock tick proves nothing: the record is racy, and another look is asked for."""
    rig.write("a.txt", b"hello")

    outcome = rig.sync("a.txt")

    assert outcome.look_again_seconds is not None
    recorded = rig.state.recorded(rig.ref("a.txt"))
    assert recorded is not None
    assert recorded.racy


def test_an_open_file_rests_for_a_minute_and_proves_nothing_until_it_is_closed(rig: Rig) -> None:
    """A write may go on that no stat will ever show: so each look reads the file, and the first one waits."""
    ref = rig.write("a.txt", b"hello")
    with (rig.folder / "a.txt").open("ab"):
        later(rig, "a.txt", 59.0)
        with pytest.raises(FileChanged) as raised:
            rig.engine.sync(ref, event=False, settle_seconds=2.0)
        assert raised.value.quiet_seconds == pytest.approx(1.0)
        assert rig.fake.calls.total() == 0

        later(rig, "a.txt", 61.0)
        outcome = rig.engine.sync(ref, event=False, settle_seconds=2.0)
        assert (type(outcome.action), outcome.look_again_seconds, outcome.second_look) == (Upload, None, True)
        assert is_racy(rig, "a.txt")
        assert isinstance(rig.engine.sync(ref, event=False, settle_seconds=2.0).action, Refresh)
        assert is_racy(rig, "a.txt")

    assert isinstance(rig.engine.sync(ref, event=False, settle_seconds=2.0).action, Refresh)
    assert not is_racy(rig, "a.txt")
    assert isinstance(rig.engine.sync(ref, event=False, settle_seconds=2.0).action, Nothing)


def test_where_it_is_not_known_who_writes_a_stat_proves_nothing_for_a_minute(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is carried when it has settled, and read once more."""
    monkeypatch.setattr(OpenFile, "is_open_for_writing", lambda file: None)
    ref = rig.write("a.txt", b"hello")
    later(rig, "a.txt", 3.0)
    outcome = rig.engine.sync(ref, event=False, settle_seconds=2.0)
    assert (type(outcome.action), outcome.look_again_seconds, outcome.second_look) == (Upload, None, True)
    assert is_racy(rig, "a.txt")

    later(rig, "a.txt", 60.0)
    outcome = rig.engine.sync(ref, event=True, settle_seconds=2.0)
    assert (type(outcome.action), outcome.second_look) == (Refresh, False)
    assert not is_racy(rig, "a.txt")


@pytest.mark.parametrize(
    ("type_name", "ahead_seconds"), [("nfs4", 300), ("nfs4", -300), ("fuse.sshfs", -300), ("ext4", 300)]
)
def test_a_file_with_the_times_of_another_clock_has_to_stand_still_between_two_looks(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, type_name: str, ahead_seconds: int
) -> None:
    """A server's clock may be wrong, and so may be ours: a file that is being written looks old then."""
    monkeypatch.setattr(mounts, "type_of", lambda device: type_name)
    ref = rig.write("a.txt", b"half")
    began_ns = (rig.folder / "a.txt").stat().st_ctime_ns - ahead_seconds * 10**9

    def look(seconds: float) -> Outcome:
        rig.now_ns = lambda: began_ns + int(seconds * 1e9)
        return rig.engine.sync(ref, event=False, settle_seconds=2.0)

    for seconds, left in ((0.0, 2.0), (1.5, 0.5)):
        with pytest.raises(FileChanged) as raised:
            look(seconds)
        assert raised.value.quiet_seconds == pytest.approx(left)
    rig.write("a.txt", b"half and half")
    with pytest.raises(FileChanged):
        look(2.5)
    look(5.0)
    assert rig.fake.objects["p/a.txt"].data == b"half and half"


def test_the_kernel_is_not_asked_who_writes_to_old_files(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first pass over an old tree costs no call more."""

    def ask(file: OpenFile) -> bool:
        raise AssertionError

    monkeypatch.setattr(OpenFile, "is_open_for_writing", ask)
    ref = rig.write("a.txt", b"hello")
    later(rig, "a.txt", 86400.0)
    rig.engine.sync(ref, event=False, settle_seconds=2.0)
    assert not is_racy(rig, "a.txt")


def test_a_file_from_the_future_is_not_looked_at_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera with a wrong date, or a clock that was put back, does not keep the disk busy."""
    rig.write("a.txt", b"hello")
    os.utime(rig.folder / "a.txt", ns=(4 * 10**18, 4 * 10**18))
    rig.now_ns = lambda: time.time_ns() + 10 * 10**9  # the ctime is old by now
    assert rig.sync("a.txt").look_again_seconds is None
    recorded = rig.state.recorded(rig.ref("a.txt"))
    assert recorded is not None
    assert not recorded.racy

    rig.now_ns = lambda: time.time_ns() - 3600 * 10**9  # the clock was put back by an hour
    rig.write("b.txt", b"hello too")
    assert rig.sync("b.txt").look_again_seconds is None


def test_a_file_below_the_least_age_is_not_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its time has come; one that is gone is treated as gone at once."""
    rig.configure(min_age_seconds=3600.0, on_delete=OnDelete.DELETE)
    rig.write("a", b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(files, "open_file", None)
        with pytest.raises(TooYoung) as caught:
            rig.sync("a")
    assert 3500 < caught.value.seconds <= 3600
    assert isinstance(rig.engine.plan(rig.ref("a"))[0], Nothing)
    os.utime(rig.folder / "a", (1, 1))
    assert rig.sync("a").action == Upload("new")
    (rig.folder / "a").unlink()
    rig.sync("a", delete_allowed=True)
    assert rig.fake.objects == {}


@pytest.mark.parametrize("size", [5, 3 * PART])
def test_an_object_carries_the_attributes_of_its_file(rig: Rig, size: int) -> None:
    """Where the source says so; small or in parts, also a copy of a twin with other ones."""
    path = rig.folder / "a"
    rig.write("a", bytes(size))
    path.chmod(0o4751)
    os.setxattr(path, "user.colour", b"red")
    rig.sync("a")
    assert attributes_of(rig) is None
    rig.configure(keeps_attributes=True)
    rig.write("b", bytes(range(size)))
    rig.write("c", bytes(range(size)))
    (rig.folder / "c").chmod(0o640)
    rig.sync("b")
    assert isinstance(rig.sync("c").action, Copy)
    found = [attributes_of(rig, name) for name in "bc"]
    assert [each and each.mode for each in found] == [0o644, 0o640]
    rig.write("a", bytes(range(1, size + 1)))
    rig.sync("a")
    of_a = attributes_of(rig)
    assert of_a is not None
    assert (of_a.mode, of_a.uid, of_a.xattrs) == (0o4751, os.geteuid(), (("user.colour", b"red"),))


def test_extended_attributes_that_do_not_fit_are_counted_and_named(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each object that was made without them; the others go along."""
    rig.configure(keeps_attributes=True)
    rig.write("a", b"hello")
    for name, size in (("user.large", 2000), ("user.small", 20)):
        os.setxattr(rig.folder / "a", name, bytes(size))
    for _ in range(2):
        rig.sync("a")
    assert [name for name, _ in (attributes_of(rig) or Attributes()).xattrs] == ["user.small"]
    assert [line.message for line in caplog.records if "extended" in line.message] == [
        "docs:a: extended attributes do not fit its object: user.large"
    ]
    assert rig.state.totals()["xattrs_left_out"] == 1


# ---- the root that a busy thread keeps --------------------------------------------------------------------


def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roots that are opened from now on."""
    opened, really = [], directories.open_root

    def open_root(path: str) -> int:
        opened.append(path)
        return really(path)

    monkeypatch.setattr(directories, "open_root", open_root)
    return opened


def held(rig: Rig) -> int:
    """How many descriptors of the root this process has."""
    return open_paths()[str(rig.folder)]


def test_files_in_a_row_share_one_opening_of_their_root(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends before the thread waits, after a while, with an error, and when the source is another one."""
    opened = openings(monkeypatch)
    for name in "abcdefg":
        rig.write(name, name.encode())
    with local.roots_kept() as give_back:
        rig.sync("a")
        rig.sync("b")
        assert (len(opened), held(rig)) == (1, 1)
        give_back()
        assert held(rig) == 0
        rig.sync("c")
        rig.know(instance="another")
        rig.sync("d")
        assert (len(opened), held(rig)) == (3, 1)
        rig.fake.fail("put_object", StoreUnavailable("gone"))
        with pytest.raises(StoreError):
            rig.sync("e")
        assert held(rig) == 0
        monkeypatch.setattr(local, "_KEPT_SECONDS", 0.0)
        rig.sync("f")
        rig.sync("g")
        assert len(opened) == 5
    assert held(rig) == 0
    rig.write("a", b"again")
    rig.sync("a")
    assert (len(opened), held(rig)) == (6, 0)


@pytest.mark.parametrize("becomes", ["missing", "another", "a link"])
def test_what_is_missing_below_a_kept_root_is_asked_of_the_root_of_now(rig: Rig, becomes: str) -> None:
    """A file that is deleted while the root is moved away is no deleted file."""
    rig.configure(on_delete=OnDelete.DELETE)
    found = rig.folder.stat()
    rig.know(root_identity=RootIdentity(found.st_dev, found.st_ino))
    for name in "ab":
        rig.write(name, name.encode())
        rig.sync(name)
    away = rig.folder.with_name("away")
    with local.roots_kept():
        rig.write("a", b"changed")
        rig.sync("a")
        rig.folder.rename(away)
        (away / "b").unlink()
        if becomes == "another":
            rig.folder.mkdir()
        elif becomes == "a link":
            rig.folder.symlink_to(away)
        with pytest.raises(RootChanged):
            rig.sync("b", delete_allowed=True)
    assert set(rig.fake.objects) == {"p/a", "p/b"}
