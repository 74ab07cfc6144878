"""From an open file to its row, on real files and a real state, against the store in memory."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    FileChanged,
    FileUnreadable,
    Stopped,
    StoreUnavailable,
)
from syncd.core.plan import Cause, Refresh, Upload
from syncd.sources import files, fingerprint
from syncd.sources.files import file_stat
from syncd.sources.fingerprint import of_bytes
from syncd.transfer import carrier
from syncd.transfer.carrier import MOST_READERS
from syncd.transfer.pace.slots import Held
from tests.support.rig import PART, Rig
from tests.support.waiting import wait_until
from tests.unit.transfer.multipart import CONTENT, interrupted


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
    """The buffer that is fingerprinted is the buffer that is sent: one read in all, of a byte more."""
    reads: list[tuple[int, int]] = []
    original = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        reads.append((offset, size))
        return original(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    rig.write("a.txt", b"hello")
    rig.sync("a.txt")

    assert reads == [(0, 6)]


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
    monkeypatch.setattr(carrier, "TURN_READS", 3)
    monkeypatch.setattr(Held, "pass_on", lambda held: passed.append(rig.engine.readers.held))
    rig.write("big", bytes(10 * PART))
    rig.sync("big")
    assert passed == [1, 1, 1]
