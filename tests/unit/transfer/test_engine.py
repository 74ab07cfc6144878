"""The steps for a path, on real files and a real state, against the store in memory."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    FileChanged,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import Checkpoint, OnDelete
from syncd.core.patterns import Rules
from syncd.core.plan import Copy, Delete, Nothing, Refresh, Upload
from syncd.sources import entries
from syncd.sources.files import Body, file_stat
from syncd.sources.fingerprint import of_bytes
from tests.support.rig import PART, Rig
from tests.support.store import FakeStore
from tests.unit.transfer.steps import overwrite, restamped


def test_an_unchanged_file_is_neither_read_nor_sent(rig: Rig) -> None:
    """A file whose stat is as recorded, and that no event marked, costs no request."""
    path = rig.folder / "a.txt"
    rig.write("a.txt", b"hello")
    os.utime(path, ns=(10**18, 10**18))
    rig.sync("a.txt")
    rig.fake.reset_counters()
    row = rig.state.recorded(rig.ref("a.txt"))
    assert row is not None
    rig.state.commit(rig.ref("a.txt"), replace(row, racy=False))  # as if the ctime were old, too

    assert rig.sync("a.txt", event=False).action == Nothing("unchanged")
    assert rig.fake.calls.total() == 0


def test_a_vanished_file_keeps_its_object_by_default(rig: Rig) -> None:
    """Deleting a file deletes nothing in the store unless the source says so."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    (rig.folder / "a.txt").unlink()

    assert isinstance(rig.sync("a.txt").action, Nothing)
    assert "p/a.txt" in rig.fake.objects


def test_a_vanished_file_waits_for_permission_before_its_object_goes(tmp_path: Path) -> None:
    """With on_delete: delete the step only asks; with permission it deletes, if the file is still gone."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    ref = rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    (rig.folder / "a.txt").unlink()

    asked = rig.sync("a.txt")
    assert asked.wants_delete
    assert "p/a.txt" in rig.fake.objects
    assert isinstance(rig.sync("a.txt", delete_allowed=True).action, Delete)

    assert "p/a.txt" not in rig.fake.objects
    assert rig.state.recorded(ref) is None
    rig.close()


@pytest.mark.parametrize("in_doubt", [False, True])
@pytest.mark.parametrize(
    ("there", "gone", "forgotten"),
    [("same", True, True), ("replaced", False, True), ("absent", True, True), ("denied", False, False)],
)
def test_only_the_recorded_object_is_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: str, gone: bool, forgotten: bool, in_doubt: bool
) -> None:
    """One HEAD decides: another program's object is kept, and what may not be looked at stays."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    ref = rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    row = rig.state.recorded(ref)
    assert row is not None
    if in_doubt:
        rig.state.doubt(ref, row)
    if there == "replaced":
        rig.fake.without_metadata("p/a.txt", b"newer report")
    elif there == "absent":
        rig.fake.delete_object("p/a.txt")
    elif there == "denied":
        rig.fake.fail("head_object", StoreRefused("forbidden", status=403, code="AccessDenied"))
    (rig.folder / "a.txt").unlink()
    rig.fake.reset_counters()

    if there == "denied":
        with pytest.raises(StoreRefused, match="its object is kept"):
            rig.sync("a.txt", delete_allowed=True)
    else:
        action = rig.sync("a.txt", delete_allowed=True).action
        assert isinstance(action, Nothing if there == "replaced" else Delete)
        assert ("another program replaced it" in caplog.text) == (there == "replaced")

    assert rig.fake.calls["head_object"] == 1
    assert rig.fake.calls["delete_object"] == (there == "same")
    assert ("p/a.txt" not in rig.fake.objects) == gone
    assert (rig.state.recorded(ref) is None) == forgotten
    rig.close()


def test_an_object_that_a_lost_put_left_is_deleted(tmp_path: Path) -> None:
    """It is not what the row says, but ours: the row is in doubt, and the object names our instance."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    rig.write("a.txt", b"other")
    rig.fake.lose_answer("put_object")
    with pytest.raises(StoreUnavailable):
        rig.sync("a.txt")
    (rig.folder / "a.txt").unlink()

    rig.sync("a.txt", delete_allowed=True)

    assert "p/a.txt" not in rig.fake.objects
    rig.close()


def test_a_file_that_is_back_is_not_deleted(tmp_path: Path) -> None:
    """The last look decides: a file that came back keeps its object."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")

    rig.sync("a.txt", delete_allowed=True)

    assert "p/a.txt" in rig.fake.objects
    rig.close()


def test_a_key_that_the_store_cannot_take_is_refused_with_its_length(rig: Rig) -> None:
    """A name that would exceed the store's key length is reported for that file, before any request."""
    name = "d" * 100 + "/" + "x" * 150
    rig.write(name, b"hello")
    with pytest.raises(StoreRefused, match="200"):
        rig.sync(name)
    assert rig.fake.calls.total() == 0


def test_the_plan_says_what_a_step_would_do_and_does_nothing(rig: Rig) -> None:
    """A dry run names action and size, and neither store nor state hears of it."""
    rig.write("a.txt", b"hello")

    assert rig.engine.plan(rig.ref("a.txt")) == (Upload("new"), 5)
    assert rig.fake.calls.total() == 0
    assert rig.state.recorded(rig.ref("a.txt")) is None


def _interrupted(rig: Rig, name: str) -> None:
    """Leave an unfinished upload of the file behind: its complete fails."""
    orders = [StoreUnavailable("not now")]

    def fail(_: object) -> None:
        if orders:
            raise orders.pop()

    rig.fake.before("complete_multipart_upload", fail)
    with pytest.raises(StoreUnavailable):
        rig.sync(name)


def _deny(store: FakeStore, verb: str, error: StoreRefused) -> None:
    def deny(_: object) -> None:
        raise error

    store.before(verb, deny)


DENIED = StoreRefused("access to this object is denied", status=403, code="AccessDenied")
BUCKET_DENIED = AccessRefused("access to the bucket is denied", status=403, code="AccessDenied")


@pytest.mark.parametrize("error", [DENIED, BUCKET_DENIED])
def test_keys_that_may_not_list_uploads_hold_up_no_file(rig: Rig, error: StoreRefused) -> None:
    """Died between create and the record of its id, under a policy without listing: the file goes on."""
    body = bytes(range(30))
    rig.write("a.bin", body)
    ref = rig.ref("a.bin")
    rig.state.checkpoints.begin(
        Checkpoint(
            id=0,
            ref=ref,
            store_id=rig.fake.store_id,
            key="p/a.bin",
            fingerprint=of_bytes(body),
            stat=file_stat((rig.folder / "a.bin").stat()),
            part_size=8,
            token="t",
            created_ns=1,
        )
    )
    rig.restart()
    _deny(rig.fake, "list_multipart_uploads", error)

    rig.sync("a.bin")

    assert rig.fake.objects["p/a.bin"].data == body


def test_keys_that_are_wrong_are_not_mistaken_for_a_narrow_policy(rig: Rig) -> None:
    """A refusal of the keys as such goes up, and the unfinished upload stays known."""
    rig.write("a.bin", bytes(range(30)))
    _interrupted(rig, "a.bin")
    wrong = AccessRefused("the store does not know the access key", status=403, code="InvalidAccessKeyId")
    _deny(rig.fake, "list_parts", wrong)

    with pytest.raises(AccessRefused):
        rig.sync("a.bin")

    assert rig.state.checkpoints.find(rig.ref("a.bin")) is not None


def test_keys_that_may_not_list_parts_send_none_again(rig: Rig) -> None:
    """The upload is completed from the parts that the store acknowledged."""
    body = bytes(range(30))
    rig.write("a.bin", body)
    _interrupted(rig, "a.bin")
    _deny(rig.fake, "list_parts", DENIED)

    rig.sync("a.bin")

    assert rig.fake.objects["p/a.bin"].data == body
    assert rig.fake.bytes_received == len(body)
    assert list(rig.fake.list_multipart_uploads("")) == []


def test_keys_that_may_not_abort_still_send_what_changed(rig: Rig) -> None:
    """An unfinished upload that must not be aborted stays in the store; the new content arrives."""
    rig.write("a.bin", bytes(range(30)))
    _interrupted(rig, "a.bin")
    rig.write("a.bin", bytes(range(1, 31)))
    _deny(rig.fake, "abort_multipart_upload", DENIED)

    rig.sync("a.bin")

    assert rig.fake.objects["p/a.bin"].data == bytes(range(1, 31))
    assert rig.state.checkpoints.all() == []


def test_a_forgotten_upload_is_begun_anew_where_absence_looks_like_a_refusal(rig: Rig) -> None:
    """Who may not list gets 403 for an object that is not there: the upload begins again nevertheless."""
    body = bytes(range(30))
    rig.write("a.bin", body)
    _interrupted(rig, "a.bin")
    for upload in list(rig.fake.list_multipart_uploads("")):
        rig.fake.abort_multipart_upload(upload.key, upload.upload_id)

    def deny(_: object) -> None:
        if "p/a.bin" not in rig.fake.objects:
            raise StoreRefused("access is denied", status=403)

    rig.fake.before("head_object", deny)

    rig.sync("a.bin")

    assert rig.fake.objects["p/a.bin"].data == body


def test_memory_does_not_grow_with_the_files_that_are_done(rig: Rig) -> None:
    """A finished multipart upload leaves nothing behind in the uploader."""
    rig.write("a.bin", bytes(range(30)))
    rig.sync("a.bin")

    assert rig.uploader.unfinished(rig.ref("a.bin")) is None
    assert rig.ref("a.bin") not in rig.uploader._maybe_unfinished


# ---- rules beside the patterns ----------------------------------------------------------------------------


def _tag(rig: Rig) -> None:
    rig.write("d/.nobackup", b"")


def _limit(rig: Rig) -> None:
    rig.configure(max_size=4)


@pytest.mark.parametrize("leave_out", [_tag, _limit])
def test_what_a_rule_leaves_out_by_now_keeps_its_object_and_loses_its_upload(
    rig: Rig, leave_out: Callable[[Rig], None]
) -> None:
    """As with a pattern: whether the file changes or goes, nothing is sent and nothing deleted."""
    rig.configure(on_delete=OnDelete.DELETE, exclude_if_present=(".nobackup",))
    rig.write("d/a", b"hello")
    large = rig.write("d/large", bytes(3 * PART))
    rig.sync("d/a")
    rig.fake.fail("upload_part", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        rig.sync("d/large")
    assert rig.fake.uploads

    leave_out(rig)
    rig.write("d/a", b"changed")
    assert isinstance(rig.sync("d/a").action, Nothing)
    (rig.folder / "d/a").unlink()
    assert isinstance(rig.sync("d/a", delete_allowed=True).action, Nothing)
    assert rig.engine.plan(rig.ref("d/large"))[0] == rig.sync("d/large").action
    assert rig.fake.objects["p/d/a"].data == b"hello"
    assert rig.fake.uploads == {}
    assert rig.state.checkpoints.find(large) is None


# ---- links -----------------------------------------------------------------------------------------------


def test_the_words_of_a_link_are_no_content_to_copy(rig: Rig) -> None:
    """A file that holds them is sent, and so is a link that leads to what a file holds."""
    rig.configure(records_links=True)
    (rig.folder / "link").symlink_to("words")
    rig.sync("link")
    for name in ("file", "twin.rclonelink"):
        rig.write(name, b"words")
    assert rig.sync("file").action == Upload("new")
    assert isinstance(rig.sync("twin.rclonelink").action, Copy)
    (rig.folder / "other").symlink_to("words")
    assert rig.sync("other").action == Upload("new")
    assert sorted(rig.fake.objects) == [
        "p/file", "p/link.rclonelink", "p/other.rclonelink", "p/twin\u201b.rclonelink",
    ]  # fmt: skip
    assert restamped(rig, "link") == (False, "")


@pytest.mark.parametrize("on_delete", OnDelete)
def test_a_file_and_a_link_take_each_others_place(rig: Rig, on_delete: OnDelete) -> None:
    """What stood for the other is deleted where the source deletes, unless it is not ours any more."""
    rig.configure(records_links=True, on_delete=on_delete)
    path = rig.folder / "a"
    rig.write("a", b"file")
    rig.sync("a")
    path.unlink()
    path.symlink_to("target")
    rig.sync("a")
    assert ("p/a" in rig.fake.objects) == (on_delete is OnDelete.KEEP)
    overwrite(rig.fake, "p/a.rclonelink", b"another's")
    path.unlink()
    rig.write("a", b"again")
    rig.sync("a")
    assert sorted(rig.fake.objects) == ["p/a", "p/a.rclonelink"]
    path.unlink()
    assert rig.sync("a", delete_allowed=True).action == (
        Delete("deleted locally") if on_delete is OnDelete.DELETE else Nothing("deletes are kept")
    )


def test_a_link_that_is_gone_is_deleted_and_one_that_is_left_out_stays(rig: Rig) -> None:
    """As a file is."""
    rig.configure(records_links=True, on_delete=OnDelete.DELETE)
    for name in ("gone", "stays"):
        (rig.folder / name).symlink_to("target")
        rig.sync(name)
        (rig.folder / name).unlink()
    assert rig.sync("gone", delete_allowed=True).action == Delete("deleted locally")
    (rig.folder / "stays").symlink_to("target")
    rig.configure(records_links=False)
    assert rig.sync("stays", delete_allowed=True).action == Nothing("not a regular file")
    assert list(rig.fake.objects) == ["p/stays.rclonelink"]


# ---- folders ---------------------------------------------------------------------------------------------


def carries_folders(rig: Rig, **changes: Any) -> None:
    rig.configure(records_folders=True, **changes)
    rules = Rules.of(rig.engine.sources["docs"].source)
    rig.know(wants=rules.wants_file, fills=rules.fills)


@pytest.mark.parametrize("on_delete", OnDelete)
def test_a_folder_is_carried_while_nothing_in_it_is(rig: Rig, on_delete: OnDelete) -> None:
    """What is excluded does not count. When it gets content or is gone, its object goes as that of a file."""
    carries_folders(rig, on_delete=on_delete, exclude=("*.tmp",), keeps_attributes=True)
    deletes = on_delete is OnDelete.DELETE
    for name in ("gone", "filled"):
        (rig.folder / name).mkdir(mode=0o2750)
        rig.write(f"{name}/a.tmp", b"left out")
        assert rig.sync(f"{name}/").action == Upload("new")
        assert rig.sync(f"{name}/").action in (Nothing("unchanged"), Refresh("confirmed, same content"))
    meta = rig.fake.objects["p/gone/"].meta
    assert (meta.content_type, meta.is_folder) == ("application/x-directory", True)
    assert meta.attributes is not None
    assert meta.attributes.mode == stat.S_IMODE((rig.folder / "gone").stat().st_mode)
    rig.write("gone/b.tmp", b"another")
    assert isinstance(rig.sync("gone/").action, Refresh)
    rig.write("filled/b", b"taken")
    shutil.rmtree(rig.folder / "gone")
    for name in ("gone", "filled"):
        asked = rig.sync(f"{name}/")
        assert (asked.wants_delete, f"p/{name}/" in rig.fake.objects) == (deletes, True)
        rig.sync(f"{name}/", delete_allowed=True)
        assert (f"p/{name}/" in rig.fake.objects) == (not deletes)


def test_folders_with_content_are_carried_where_that_is_wanted(rig: Rig) -> None:
    """For their attributes: what comes in sends nothing. Its object goes with the folder, or the wish."""
    carries_folders(rig, on_delete=OnDelete.DELETE, keeps_attributes=True, records_full_folders=True)
    rig.write("full/a", b"a")
    (rig.folder / "full").chmod(0o750)
    assert rig.sync("full/").action == Upload("new")
    attributes = rig.fake.objects["p/full/"].meta.attributes
    assert attributes is not None
    assert attributes.mode == 0o750
    rig.write("full/b", b"b")
    assert isinstance(rig.sync("full/").action, Refresh)
    carries_folders(rig, records_full_folders=False)
    assert rig.sync("full/").wants_delete
    carries_folders(rig, records_full_folders=True)
    shutil.rmtree(rig.folder / "full")
    assert rig.sync("full/", delete_allowed=True).action == Delete("deleted locally")


def test_no_folder_loses_an_object_that_is_not_its_own(rig: Rig) -> None:
    """Another program's stays, and so does that of a folder that is left out by now."""
    carries_folders(rig, on_delete=OnDelete.DELETE)
    for name in ("theirs", "skipped"):
        (rig.folder / name).mkdir()
        rig.sync(f"{name}/")
        (rig.folder / name).rmdir()
    overwrite(rig.fake, "p/theirs/", b"now with content")
    assert rig.sync("theirs/", delete_allowed=True).action != Delete("deleted locally")
    carries_folders(rig, exclude=("skipped/",))
    assert rig.sync("skipped/", delete_allowed=True).action == Nothing("excluded")
    assert sorted(rig.fake.objects) == ["p/skipped/", "p/theirs/"]


def test_a_folder_that_fills_while_it_is_carried_is_not_recorded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan, or the event of what came into it, finds it again."""
    carries_folders(rig)
    (rig.folder / "a").mkdir()
    really = entries.OpenFolder.whole

    def whole(folder: entries.OpenFolder) -> Body:
        rig.write("a/b", b"come")
        return really(folder)

    monkeypatch.setattr(entries.OpenFolder, "whole", whole)
    with pytest.raises(FileChanged, match="no longer empty"):
        rig.sync("a/")
    assert (rig.fake.objects, rig.state.recorded(rig.ref("a/"))) == ({}, None)


def test_a_file_and_a_folder_take_each_others_place(rig: Rig) -> None:
    """Each has an object of its own, and the deletions of each are asked for."""
    carries_folders(rig, on_delete=OnDelete.DELETE)
    rig.write("a", b"file")
    rig.sync("a")
    (rig.folder / "a").unlink()
    (rig.folder / "a").mkdir()
    assert rig.sync("a/").action == Upload("new")
    assert rig.sync("a").wants_delete
    assert rig.sync("a", delete_allowed=True).action == Delete("deleted locally")
    (rig.folder / "a").rmdir()
    rig.write("a", b"file")
    assert rig.sync("a").action == Upload("new")
    assert rig.sync("a/", delete_allowed=True).action == Delete("deleted locally")
    assert sorted(rig.fake.objects) == ["p/a"]


def test_a_folder_that_is_filled_is_gone_whatever_is_mounted_there(rig: Rig) -> None:
    """A bare mount point was an empty folder; its disk is back."""
    carries_folders(rig, on_delete=OnDelete.DELETE)
    for name in ("mount", "below"):
        (rig.folder / name).mkdir()
        rig.sync(f"{name}/")
        recorded = rig.state.recorded(rig.ref(f"{name}/"))
        assert recorded is not None
        rig.state.commit(rig.ref(f"{name}/"), replace(recorded, stat=recorded.stat._replace(device=1)))
    rig.write("mount/a", b"back")
    (rig.folder / "below").rmdir()
    assert rig.sync("mount/").wants_delete
    assert "another device" in str(rig.sync("below/").action)
