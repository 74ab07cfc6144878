"""One step for one file, on real files and a real state, against the store in memory."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import (
    AccessRefused,
    FileChanged,
    FileUnreadable,
    RootChanged,
    Stopped,
    StoreRefused,
    StoreUnavailable,
    TooYoung,
)
from syncd.core.model import (
    Attributes,
    Cause,
    Checkpoint,
    Copy,
    Delete,
    Nothing,
    ObjectMeta,
    OnDelete,
    Properties,
    Refresh,
    RootIdentity,
    Upload,
)
from syncd.sources import files, fingerprint
from syncd.sources.files import OpenFile, file_stat
from syncd.sources.fingerprint import of_bytes
from syncd.transfer import engine
from syncd.transfer.engine import MOST_READERS
from syncd.transfer.slots import Held
from tests.support.rig import PART, Rig
from tests.support.store import FakeStore
from tests.support.waiting import wait_until
from tests.unit.transfer.multipart import CONTENT, interrupted


def _overwrite(store: FakeStore, key: str, data: bytes) -> None:
    """As somebody else would, with another client."""
    store.put_object(key, data, ObjectMeta(of_bytes(data), mtime_ns=0))


def test_a_new_file_is_uploaded_and_recorded(rig: Rig) -> None:
    """A new file reaches the store byte for byte, with its fingerprint, and the record says so."""
    ref = rig.write("a.txt", b"hello")

    outcome = rig.sync("a.txt")

    assert outcome.action == Upload("new")
    assert rig.fake.objects["p/a.txt"].data == b"hello"
    assert rig.fake.objects["p/a.txt"].meta.fingerprint == of_bytes(b"hello")
    recorded = rig.state.recorded(ref)
    assert recorded is not None
    assert (recorded.key, recorded.fingerprint) == ("p/a.txt", of_bytes(b"hello"))


def test_a_file_that_fits_one_request_is_read_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer that is fingerprinted is the buffer that is sent: one read in all."""
    reads: list[tuple[int, int]] = []
    original = OpenFile.read

    def counted(self: OpenFile, offset: int, size: int) -> bytes:
        reads.append((offset, size))
        return original(self, offset, size)

    monkeypatch.setattr(OpenFile, "read", counted)
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")

    assert reads == [(0, 5)]


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


def test_a_touched_file_is_only_refreshed(rig: Rig) -> None:
    """The same content under another mtime sends nothing, and the record follows the new stat. One question:
    is the object there?
    """
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    os.utime(rig.folder / "a.txt", ns=(5, 5))
    rig.fake.reset_counters()

    outcome = rig.sync("a.txt")

    assert isinstance(outcome.action, Refresh)
    assert rig.fake.calls == {"head_object": 1}
    recorded = rig.state.recorded(rig.ref("a.txt"))
    assert recorded is not None
    assert recorded.stat.mtime_ns == 5


@pytest.mark.parametrize("answer", ["gone", "denied", "of another program", "no answer"])
def test_a_touched_file_whose_object_is_gone_is_sent_again(rig: Rig, answer: str) -> None:
    """Only where the store says so: what another program wrote since stays, and a refusal says nothing."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    os.utime(rig.folder / "a.txt", ns=(5, 5))
    if answer == "gone":
        del rig.fake.objects["p/a.txt"]
    elif answer == "of another program":
        rig.fake.objects["p/a.txt"] = replace(rig.fake.objects["p/a.txt"], data=b"jello", etag="other")
    else:
        denied = AccessRefused("no", status=403, code="AccessDenied", credentials=True)
        rig.fake.fail("head_object", denied if answer == "denied" else StoreUnavailable("down"))

    if answer == "no answer":
        with pytest.raises(StoreUnavailable):
            rig.sync("a.txt")
    outcome = rig.sync("a.txt")

    assert isinstance(outcome.action, Upload if answer == "gone" else Refresh)
    assert rig.fake.objects["p/a.txt"].data == (b"jello" if answer == "of another program" else b"hello")


def test_same_size_and_restored_mtime_is_noticed(rig: Rig) -> None:
    """Other content under the same size and mtime is uploaded: the fingerprint decides, not name and size."""
    rig.write("a.txt", b"hello")
    before = (rig.folder / "a.txt").stat()
    rig.sync("a.txt")
    rig.write("a.txt", b"jello")
    os.utime(rig.folder / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))

    outcome = rig.sync("a.txt", event=False)

    assert outcome.action == Upload("content changed")
    assert rig.fake.objects["p/a.txt"].data == b"jello"


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


def test_a_file_that_changes_while_it_is_sent_is_not_recorded_as_it_was_not(rig: Rig) -> None:
    """A rename over the file during the put: the object is the old file whole, and the next look follows."""
    rig.write("a.txt", b"old")

    def save(call: object) -> None:
        (rig.folder / "new").write_bytes(b"new")
        (rig.folder / "new").rename(rig.folder / "a.txt")

    rig.fake.before("put_object", save)
    with pytest.raises(FileChanged):
        rig.sync("a.txt")
    assert rig.fake.objects["p/a.txt"].data == b"old"
    rig.fake.heal()
    rig.sync("a.txt", event=False)
    assert rig.fake.objects["p/a.txt"].data == b"new"


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


def test_a_key_that_the_store_cannot_take_is_refused_with_its_length(rig: Rig) -> None:
    """A name that would exceed the store's key length is reported for that file, before any request."""
    name = "d" * 100 + "/" + "x" * 150
    rig.write(name, b"hello")
    with pytest.raises(StoreRefused, match="200"):
        rig.sync(name)
    assert rig.fake.calls.total() == 0


def test_another_destination_gets_the_object_again(rig: Rig) -> None:
    """A prefix that changed in the configuration moves the objects: copied, not sent."""
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")
    rig.configure(prefix="q/")

    outcome = rig.sync("a.txt", event=False)

    assert isinstance(outcome.action, Copy)
    assert rig.fake.objects["q/a.txt"].data == b"hello"


def test_after_a_lost_state_an_object_is_recognised_and_not_sent_again(rig: Rig) -> None:
    """With the records gone, an object whose metadata has the fingerprint is only recorded."""
    big = b"0123456789" * 5
    for name, content in (("a.txt", b"hello"), ("big", big)):
        rig.write(name, content)
        rig.sync(name)
    rig.close()
    shutil.rmtree(rig.state_dir)
    rig.open()
    rig.know(reconciling=True)
    sent = rig.fake.bytes_received

    for name in ("a.txt", "big"):
        rig.sync(name)

    assert rig.fake.bytes_received == sent
    assert rig.state.recorded(rig.ref("big")) is not None


def test_a_young_file_is_looked_at_once_more(rig: Rig) -> None:
    """A stat in the same clock tick proves nothing: the record is racy, and another look is asked for."""
    rig.write("a.txt", b"hello")

    outcome = rig.sync("a.txt")

    assert outcome.look_again_seconds is not None
    recorded = rig.state.recorded(rig.ref("a.txt"))
    assert recorded is not None
    assert recorded.racy


def later(rig: Rig, name: str, seconds: float) -> None:
    """Let it be so long after the file's last change."""
    changed_ns = (rig.folder / name).stat().st_ctime_ns
    rig.engine._now_ns = lambda: changed_ns + round(seconds * 1e9)


def is_racy(rig: Rig, name: str) -> bool:
    recorded = rig.state.recorded(rig.ref(name))
    assert recorded is not None
    return recorded.racy


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
    rig.engine._now_ns = lambda: time.time_ns() + 10 * 10**9  # the ctime is old by now
    assert rig.sync("a.txt").look_again_seconds is None
    recorded = rig.state.recorded(rig.ref("a.txt"))
    assert recorded is not None
    assert not recorded.racy

    rig.engine._now_ns = lambda: time.time_ns() - 3600 * 10**9  # the clock was put back by an hour
    rig.write("b.txt", b"hello too")
    assert rig.sync("b.txt").look_again_seconds is None


@pytest.mark.parametrize("size", [5, 3 * PART])
def test_other_names_of_a_changed_file_are_told(rig: Rig, size: int) -> None:
    """Not those of a file that has the same content, nor a name that is up to date."""
    names = ("a", "d/b", "copy", "c")
    for name in names:
        rig.write(name, bytes(size))
    for name in ("d/b", "c"):
        (rig.folder / name).unlink()
        (rig.folder / name).hardlink_to(rig.folder / "a")
    assert [rig.sync(name).links for name in names] == [(), (), (), ()]

    rig.write("d/b", b"other")
    assert set(rig.sync("d/b").links) == {rig.ref("a"), rig.ref("c")}
    assert rig.sync("c").links == (rig.ref("a"),)
    assert rig.sync("a").links == ()
    (rig.folder / "a").touch()
    assert rig.sync("a").links == ()


def test_a_failed_put_leaves_no_record(rig: Rig) -> None:
    """A recorded row describes an object that the store acknowledged, nothing less."""
    rig.write("a.txt", b"hello")
    rig.fake.fail("put_object", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        rig.sync("a.txt")
    assert rig.state.recorded(rig.ref("a.txt")) is None


def test_a_file_that_failed_before_is_asked_for(rig: Rig) -> None:
    """Answers may have got lost: what the store has is not sent again, at the price of one question."""
    ref = rig.write("file", b"content")
    rig.sync("file")
    rig.state.forget(ref)
    rig.fake.reset_counters()
    outcome = rig.engine.sync(ref, event=True, failed_before=True)
    assert outcome.bytes_sent == 0
    assert (rig.fake.calls["head_object"], rig.fake.calls["put_object"]) == (1, 0)


def test_what_is_not_sent_counts_by_its_cause(rig: Rig) -> None:
    """And what was sent counts for the cause that spared the file most. Restarts forget nothing of it."""
    interrupted(rig, after=3)
    rig.restart()
    resumed = rig.sync("big")
    (rig.folder / "same").write_bytes(CONTENT)
    copied = rig.sync("same")
    os.utime(rig.folder / "same", (1, 1))
    touched = rig.sync("same")
    os.chmod(rig.folder / "same", 0o600)
    nothing = rig.sync("same")
    rig.write("big", CONTENT + b"tail")
    patched = rig.sync("big")
    rig.state.forget(rig.ref("big"))
    adopted = rig.engine.sync(rig.ref("big"), event=True, failed_before=True)

    size, kept = len(CONTENT), resumed.bytes_saved
    assert 0 < kept < size
    assert resumed.saved == {Cause.RESUME: kept}
    assert (copied.saved, touched.saved, nothing.saved) == ({Cause.COPY: size}, {Cause.TOUCH: size}, {})
    assert patched.saved == {Cause.DELTA: size + 4 - patched.bytes_sent}
    assert adopted.saved == {Cause.ADOPT: size + 4}
    rig.restart()
    totals = rig.state.totals()
    assert totals.pop("bytes_sent") == size - kept + patched.bytes_sent
    assert totals == {
        "bytes_saved": sum(each.bytes_saved for each in (resumed, copied, touched, patched, adopted)),
        "bytes_saved:resume": kept,
        "bytes_sent:resume": size - kept,
        "bytes_saved:copy": size,
        "bytes_saved:touch": size,
        "bytes_saved:delta": patched.bytes_saved,
        "bytes_sent:delta": patched.bytes_sent,
        "bytes_saved:adopt": size + 4,
    }


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
    rig.state.begin(
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

    assert rig.state.checkpoint_for(rig.ref("a.bin")) is not None


def test_keys_that_may_not_list_parts_send_them_again(rig: Rig) -> None:
    """What cannot be asked about is sent again, under the same numbers of the same upload."""
    body = bytes(range(30))
    rig.write("a.bin", body)
    _interrupted(rig, "a.bin")
    _deny(rig.fake, "list_parts", DENIED)

    rig.sync("a.bin")

    assert rig.fake.objects["p/a.bin"].data == body
    assert list(rig.fake.list_multipart_uploads("")) == []


def test_keys_that_may_not_abort_still_send_what_changed(rig: Rig) -> None:
    """An unfinished upload that must not be aborted stays in the store; the new content arrives."""
    rig.write("a.bin", bytes(range(30)))
    _interrupted(rig, "a.bin")
    rig.write("a.bin", bytes(range(1, 31)))
    _deny(rig.fake, "abort_multipart_upload", DENIED)

    rig.sync("a.bin")

    assert rig.fake.objects["p/a.bin"].data == bytes(range(1, 31))
    assert rig.state.checkpoints() == []


def test_a_forgotten_upload_is_begun_anew_where_absence_looks_like_a_refusal(rig: Rig) -> None:
    """Who may not list gets 403 for an object that is not there: the upload begins anew all the same."""
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


def test_an_object_that_belongs_to_another_file_by_now_is_not_deleted(tmp_path: Path) -> None:
    """After a change of prefix two files may meet at one key: the one that goes must not take the other's."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.configure(prefix="")
    gone = rig.write("a/x", b"old")
    rig.sync("a/x")
    rig.configure(prefix="a/")
    rig.write("x", b"new")
    rig.sync("x")
    (rig.folder / "a" / "x").unlink()

    rig.sync("a/x", delete_allowed=True)

    assert rig.fake.objects["a/x"].data == b"new"
    assert rig.state.recorded(gone) is None
    rig.close()


def test_large_files_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many workers there are: more readers would only make a disk move its head."""
    rig = Rig(tmp_path, concurrency=2 * MOST_READERS, part_size=8)
    original, lock, go = fingerprint.compute, threading.Lock(), threading.Event()
    reading: list[int] = []  # how many read, each time that one begins
    ended = 0

    def counted(*arguments: Any) -> fingerprint.Digests:
        nonlocal ended
        with lock:
            reading.append(len(reading) + 1 - ended)
        go.wait(30.0)
        digests = original(*arguments)
        with lock:
            ended += 1
        return digests

    monkeypatch.setattr(fingerprint, "compute", counted)
    names = [f"large{number}" for number in range(2 * MOST_READERS)]
    for name in names:
        rig.write(name, name.encode() * 5)
    with ThreadPoolExecutor(len(names)) as workers:
        synced = [workers.submit(rig.sync, name) for name in names]
        wait_until("all who may read do", lambda: len(reading) == MOST_READERS)
        wait_until("the others wait", lambda: len(rig.engine.readers._line) == len(names) - MOST_READERS)
        assert len(reading) == MOST_READERS
        go.set()
        for each in synced:
            each.result(30.0)

    assert max(reading) == MOST_READERS
    assert len(rig.fake.objects) == len(names)
    rig.close()


def test_whoever_waits_to_read_a_large_file_is_told_to_stop(rig: Rig) -> None:
    """A stop does not wait until it is their turn."""
    rig.write("large", bytes(range(100)))
    rig.engine.readers.stop()
    with pytest.raises(Stopped):
        rig.sync("large")
    assert rig.fake.objects == {}


@pytest.mark.parametrize("size", [0, 4, 4096])
def test_a_file_whose_size_is_not_true_has_no_object(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A file of procfs says 0 bytes, one of sysfs 4,096; neither an empty nor a cut object is made of it."""
    rig.write("a.txt", b"hello")
    monkeypatch.setattr(files, "file_stat", lambda found: file_stat(found)._replace(size=size))

    with pytest.raises(FileUnreadable, match="content than its size says"):
        rig.sync("a.txt")

    assert not rig.fake.objects


def test_a_reader_lets_the_next_file_go_first_after_each_turn(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large the file is: a turn is a number of reads."""
    passed: list[int] = []
    monkeypatch.setattr(engine, "TURN_READS", 3)
    monkeypatch.setattr(Held, "pass_on", lambda held: passed.append(rig.engine.readers.held))
    rig.write("big", bytes(10 * PART))
    rig.sync("big")
    assert passed == [1, 1, 1]


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
    assert rig.state.checkpoint_for(large) is None


def test_a_file_below_the_least_age_is_not_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its time has come; one that is gone is treated as gone at once."""
    rig.configure(min_age_seconds=3600.0, on_delete=OnDelete.DELETE)
    rig.write("a", b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(engine.files, "open_file", None)
        with pytest.raises(TooYoung) as caught:
            rig.sync("a")
    assert 3500 < caught.value.seconds <= 3600
    assert isinstance(rig.engine.plan(rig.ref("a"))[0], Nothing)
    os.utime(rig.folder / "a", (1, 1))
    assert rig.sync("a").action == Upload("new")
    (rig.folder / "a").unlink()
    rig.sync("a", delete_allowed=True)
    assert rig.fake.objects == {}


def test_properties_go_with_small_files_large_ones_and_copies(rig: Rig) -> None:
    """The content type of the configuration replaces the guessed one; what changes alone sends nothing."""
    said = Properties("text/x", tags=(("a", "b"),))
    rig.know(properties=lambda path: said if path.startswith("x") else Properties())
    rig.write("x.css", b"hello")
    rig.write("x-large", bytes(range(3 * PART)))
    rig.write("y.css", b"other")
    for name in ("x.css", "x-large", "y.css"):
        rig.sync(name)
    (rig.folder / "y.css").rename(rig.folder / "x-copy")
    assert isinstance(rig.sync("x-copy").action, Copy)
    metas = {key: stored.meta for key, stored in rig.fake.objects.items()}
    for name in ("x.css", "x-large", "x-copy"):
        assert (metas[f"p/{name}"].content_type, metas[f"p/{name}"].properties) == ("text/x", said)
    assert (metas["p/y.css"].content_type, metas["p/y.css"].properties) == ("text/css", Properties())
    rig.know(properties=lambda path: Properties(cache_control="no-cache"))
    assert not isinstance(rig.sync("x.css").action, Upload | Copy)


# ---- properties of objects that are there -----------------------------------------------------------------

SAID = Properties(cache_control="no-cache")


def _restamped(rig: Rig, name: str = "a", **more: Any) -> tuple[bool, str]:
    return rig.engine.restamp(rig.ref(name), dry_run=more.get("dry_run", False))


@pytest.mark.parametrize("size", [5, 3 * PART])
def test_an_object_gets_its_properties_by_a_copy_onto_itself(rig: Rig, size: int) -> None:
    """Whole, or in parts where it is too large for one request; its content, its time and its row stay."""
    ref = rig.write("a", bytes(range(size)))
    rig.sync("a")
    rig.fake.tamper_etag("p/a")  # as an encrypting store's: the copy has another one
    row = rig.state.recorded(ref)
    assert row is not None
    rig.state.commit(ref, row := replace(row, etag=rig.fake.objects["p/a"].etag))
    rig.fake._limits = replace(rig.fake.limits, max_put_size=2 * PART)
    before = rig.fake.objects["p/a"].meta
    assert _restamped(rig) == (False, "")
    rig.know(properties=lambda path: SAID)
    rig.fake.reset_counters()
    assert _restamped(rig, dry_run=True) == (True, "")
    assert rig.fake.calls["copy_object"] + rig.fake.calls["create_multipart_upload"] == 0
    assert _restamped(rig) == (True, "")
    assert _restamped(rig) == (False, "")
    assert rig.fake.calls["copy_object" if size == 5 else "complete_multipart_upload"] == 1
    found = rig.fake.objects["p/a"]
    assert found.data == bytes(range(size))
    assert replace(found.meta, properties=Properties(), mode=before.mode) == replace(
        before, token=found.meta.token
    )
    assert found.meta.properties == SAID
    assert rig.state.recorded(ref) == replace(row, etag=found.etag)
    assert rig.state.leftovers(rig.store.store_id) == []
    rig.fake.reset_counters()
    assert not isinstance(rig.sync("a").action, Upload | Copy)
    assert rig.fake.bytes_received == 0


def test_only_our_own_recorded_object_is_copied(rig: Rig) -> None:
    """Not one that was replaced or removed, nor another machine's, nor what is in doubt or not recorded."""
    rig.know(properties=lambda path: SAID)
    other = ObjectMeta(of_bytes(b"hello"), 0, instance="theirs")
    for name in ("replaced", "gone", "theirs", "doubt"):
        rig.write(name, b"hello")
        rig.know(properties=lambda path: Properties())
        rig.sync(name)
        rig.know(properties=lambda path: SAID)
    _overwrite(rig.fake, "p/replaced", b"other")
    rig.fake.delete_object("p/gone")
    rig.fake.put_object("p/theirs", b"hello", other)
    row = rig.state.recorded(rig.ref("doubt"))
    assert row is not None
    rig.state.doubt(rig.ref("doubt"), row)
    objects = dict(rig.fake.objects)
    for name, why in (
        ("replaced", "not the one that was recorded"), ("gone", "not the one that was recorded"),
        ("theirs", "another machine's"), ("doubt", "looked at first"),
    ):  # fmt: skip
        has_others, said = _restamped(rig, name)
        assert not has_others
        assert why in said
    assert _restamped(rig, "unknown") == (False, "")
    assert rig.fake.objects == objects


def test_a_copy_that_is_refused_changes_nothing_and_one_without_answer_leaves_a_doubt(rig: Rig) -> None:
    """The doubt ends at the next look, without sending anything."""
    ref = rig.write("a", b"hello")
    rig.sync("a")
    row = rig.state.recorded(ref)
    rig.know(properties=lambda path: SAID)
    rig.fake.fail("copy_object", StoreRefused("it is in the archive", status=403, code="InvalidObjectState"))
    with pytest.raises(StoreRefused):
        _restamped(rig)
    assert rig.state.recorded(ref) == row
    rig.fake.lose_answer("copy_object")
    with pytest.raises(StoreUnavailable):
        _restamped(rig)
    doubtful = rig.state.recorded(ref)
    assert doubtful is not None
    assert doubtful.in_doubt
    assert "looked at first" in _restamped(rig)[1]
    rig.fake.reset_counters()
    assert not isinstance(rig.sync("a").action, Upload | Copy)
    assert rig.fake.bytes_received == 0
    assert rig.fake.objects["p/a"].meta.properties == SAID


# ---- attributes ------------------------------------------------------------------------------------------


def _attributes_of(rig: Rig, name: str = "a") -> Attributes | None:
    return rig.fake.objects[f"p/{name}"].meta.attributes


@pytest.mark.parametrize("size", [5, 3 * PART])
def test_an_object_carries_the_attributes_of_its_file(rig: Rig, size: int) -> None:
    """Where the source says so; small or in parts, also a copy of a twin with other ones."""
    path = rig.folder / "a"
    rig.write("a", bytes(size))
    path.chmod(0o4751)
    os.setxattr(path, "user.colour", b"red")
    rig.sync("a")
    assert _attributes_of(rig) is None
    rig.configure(keeps_attributes=True)
    rig.write("b", bytes(range(size)))
    rig.write("c", bytes(range(size)))
    (rig.folder / "c").chmod(0o640)
    rig.sync("b")
    assert isinstance(rig.sync("c").action, Copy)
    found = [_attributes_of(rig, name) for name in "bc"]
    assert [each and each.mode for each in found] == [0o644, 0o640]
    rig.write("a", bytes(range(1, size + 1)))
    rig.sync("a")
    of_a = _attributes_of(rig)
    assert of_a is not None
    assert (of_a.mode, of_a.uid, of_a.xattrs) == (0o4751, os.geteuid(), (("user.colour", b"red"),))


@pytest.mark.parametrize("copies", [False, True])
def test_attributes_alone_are_never_sent(rig: Rig, copies: bool) -> None:
    """They wait for the next content; or the object is copied onto itself, once, and stays the file's."""
    rig.configure(keeps_attributes=True, copies_attributes=copies)
    ref = rig.write("a", b"hello")
    rig.sync("a")
    (rig.folder / "a").chmod(0o600)
    rig.fake.reset_counters()
    for _ in range(2):
        assert not isinstance(rig.sync("a").action, Upload | Copy)
    assert (rig.fake.bytes_received, rig.fake.calls["copy_object"]) == (0, int(copies))
    found, row = rig.fake.objects["p/a"], rig.state.recorded(ref)
    assert found.meta.attributes is not None
    assert found.meta.attributes.mode == (0o600 if copies else 0o644)
    assert found.meta.mtime_ns == (rig.folder / "a").stat().st_mtime_ns
    assert row is not None
    assert (row.etag, row.in_doubt, row.stat.ctime_ns) == (
        found.etag,
        False,
        (rig.folder / "a").stat().st_ctime_ns,
    )
    rig.write("a", b"other")
    rig.sync("a")
    assert (rig.fake.objects["p/a"].meta.attributes or Attributes()).mode == 0o600


def test_a_copy_of_attributes_that_is_refused_waits_and_one_without_answer_is_a_doubt(rig: Rig) -> None:
    """The content is there: no failure, nothing sent, and the record says what is there."""
    rig.configure(keeps_attributes=True, copies_attributes=True)
    ref = rig.write("a", b"hello")
    rig.sync("a")
    (rig.folder / "a").chmod(0o600)
    rig.fake.reset_counters()
    rig.fake.fail("copy_object", StoreRefused("it is in the archive", status=403, code="InvalidObjectState"))
    assert isinstance(rig.sync("a").action, Refresh)
    (rig.folder / "a").chmod(0o640)
    rig.fake.lose_answer("copy_object")
    with pytest.raises(StoreUnavailable):
        rig.sync("a")
    doubtful = rig.state.recorded(ref)
    assert doubtful is not None
    assert doubtful.in_doubt
    assert not isinstance(rig.sync("a").action, Upload | Copy)
    assert rig.fake.bytes_received == 0
    assert (_attributes_of(rig) or Attributes()).mode == 0o640


def test_a_restamp_keeps_attributes_or_brings_those_of_the_file(rig: Rig) -> None:
    """Those of a file that is the recorded one; what was there before stays where it is gone."""
    rig.configure(keeps_attributes=True)
    rig.write("a", b"hello")
    rig.sync("a")
    before = _attributes_of(rig)
    assert _restamped(rig) == (False, "")
    rig.configure(keeps_attributes=False)
    rig.know(properties=lambda path: SAID)
    assert _restamped(rig) == (True, "")
    assert _attributes_of(rig) == before
    (rig.folder / "a").chmod(0o640)
    rig.configure(keeps_attributes=True)
    assert _restamped(rig) == (False, "")  # it is not the recorded file: its content may be another
    rig.sync("a")
    assert _restamped(rig, dry_run=True) == (True, "")
    assert _restamped(rig) == (True, "")
    assert (_attributes_of(rig) or Attributes()).mode == 0o640
    (rig.folder / "a").unlink()
    assert _restamped(rig) == (False, "")


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
    assert [name for name, _ in (_attributes_of(rig) or Attributes()).xattrs] == ["user.small"]
    assert [line.message for line in caplog.records if "extended" in line.message] == [
        "docs:a: extended attributes do not fit its object: user.large"
    ]
    assert rig.state.totals()["xattrs_left_out"] == 1


# ---- links -----------------------------------------------------------------------------------------------


def test_a_link_is_sent_as_where_it_leads_to(rig: Rig) -> None:
    """Without a look at what is there; it is sent again when it leads elsewhere, and only then."""
    rig.configure(records_links=True, keeps_attributes=True)
    link = rig.folder / "link"
    link.symlink_to("/etc/hostname, or wherever")  # longer than a part of this rig
    assert rig.engine.plan(rig.ref("link")) == (Upload("new"), 26)
    assert rig.sync("link").action == Upload("new")
    found = rig.fake.objects["p/link.rclonelink"]
    assert (found.data, found.meta.is_link) == (b"/etc/hostname, or wherever", True)
    assert (found.meta.attributes or Attributes()).uid == os.geteuid()
    rig.fake.reset_counters()
    assert isinstance(rig.sync("link").action, Nothing | Refresh)
    assert rig.fake.calls["put_object"] == 0
    link.unlink()
    link.symlink_to("elsewhere")
    assert rig.sync("link").action == Upload("content changed")
    assert rig.fake.objects["p/link.rclonelink"].data == b"elsewhere"
    assert list(rig.fake.objects) == ["p/link.rclonelink"]


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
    assert _restamped(rig, "link") == (False, "")


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
    _overwrite(rig.fake, "p/a.rclonelink", b"another's")
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
