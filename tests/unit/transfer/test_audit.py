"""The audit: records, store and disk side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import AccessRefused, PreconditionFailed, StoreRefused
from syncd.core.model import Failure, FileRef, Source
from syncd.state.audits import Unlike
from syncd.transfer import audit
from tests.support.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.now_ns = lambda: time.time_ns() + 10**10  # nothing is young
    yield rig
    rig.close()


def carry(rig: Rig, *names: str) -> None:
    for name in names:
        rig.write(name, b"c-" + name.encode())
        rig.sync(name)


def differences(rig: Rig, *, read: bool = False, deep: float = 0.0) -> dict[str, tuple[str, bool]]:
    found = {}
    for each in audit.verify(rig.source, rig.state, rig.store, read=read, deep=deep, threads=2):
        found.update({item.ref.path: (item.what, item.serious) for item in each})
    return found


def test_what_is_as_recorded_has_no_difference(rig: Rig) -> None:
    """Each file is told of once."""
    carry(rig, "a", "b", "c")
    assert list(audit.verify(rig.source, rig.state, rig.store, read=True, threads=2)) == [[], [], []]


def test_a_missing_object_is_serious(rig: Rig) -> None:
    """The store does not hold what we said that it holds."""
    carry(rig, "a", "b")
    del rig.fake.objects["p/a"]
    assert differences(rig) == {"a": ("the object is missing", True)}


def test_an_object_of_another_size_is_serious(rig: Rig) -> None:
    """With both sizes."""
    carry(rig, "a")
    rig.fake.tamper("p/a", b"longer than before")
    assert differences(rig) == {"a": ("the object has 18 bytes, its record says 3", True)}


def test_an_object_of_another_content_is_serious(rig: Rig) -> None:
    """Its metadata says another fingerprint."""
    carry(rig, "a", "b")
    rig.fake.objects["p/a"] = replace(rig.fake.objects["p/b"], data=b"c-b")
    assert differences(rig) == {"a": ("the object has a different fingerprint", True)}


def change_without_a_trace(rig: Rig, name: str) -> None:
    """As a disk does that rots."""
    path = rig.folder / name
    before = path.stat()
    path.write_bytes(b"c-B")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    row = rig.state.recorded(rig.ref(name))
    assert row is not None
    now = path.stat()
    rig.state.commit(rig.ref(name), replace(row, stat=row.stat._replace(ctime_ns=now.st_ctime_ns)))


def rot(rig: Rig, key: str) -> None:
    """Change one byte, and nothing that the store tells of the object."""
    data = bytearray(rig.fake.objects[key].data)
    data[-1] ^= 1
    rig.fake.objects[key].data = bytes(data)


@pytest.mark.parametrize("size", [1, 3, (8 << 20) + 1, (9 << 20) + 5])
def test_content_that_was_lost_behind_its_metadata_is_found_by_a_download(rig: Rig, size: int) -> None:
    """Whatever its size; and nothing is found where nothing is wrong."""
    for name in ("a", "b"):
        rig.write(name, bytes(size))
        rig.sync(name)
    rig.write("empty", b"")
    rig.sync("empty")
    rot(rig, "p/a")
    assert differences(rig) == differences(rig, read=True) == {}
    ((path, (what, serious)),) = differences(rig, deep=1.0).items()
    assert (path, serious, "content is not what was sent" in what) == ("a", True, True)


def test_a_share_of_the_objects_is_downloaded(rig: Rig) -> None:
    """By chance, so that every object has its turn."""
    names = [f"f{number}" for number in range(100)]
    carry(rig, *names)
    found: set[str] = set()
    for name in names:
        rot(rig, f"p/{name}")
    for _ in range(40):
        rig.fake.reset_counters()
        some = differences(rig, deep=0.3)
        assert 5 < len(some) < 60
        assert rig.fake.calls["get_object"] == len(some)
        found |= some.keys()
    assert found == set(names)


@pytest.mark.parametrize("where", ["store", "disk"])
def test_what_only_reading_finds_is_read_again(rig: Rig, where: str) -> None:
    """Else the next comparison, which reads nothing, would take it for mended."""
    carry(rig, "a", "b")
    if where == "store":
        rot(rig, "p/a")
    else:
        change_without_a_trace(rig, "a")
    found = [one for each in audit.verify(rig.source, rig.state, rig.store, read=True, deep=1, threads=2)
             for one in each]  # fmt: skip
    rig.state.audits.keep(rig.source.name, *audit.named(found))
    rig.fake.reset_counters()
    assert differences(rig) == {each.ref.path: (each.what, each.serious) for each in found} != {}
    assert rig.fake.calls["get_object"] == 1


def test_an_object_that_changes_while_it_is_read_is_a_note(rig: Rig) -> None:
    """Nothing can be said of it."""
    carry(rig, "a")
    rig.fake.fail("get_object", PreconditionFailed("another ETag"))
    assert differences(rig, deep=1) == {"a": ("the object was changed while it was read", False)}


def test_an_object_without_our_metadata_and_with_another_etag_is_serious(rig: Rig) -> None:
    """Another program wrote it, and nothing proves what it is."""
    carry(rig, "a")
    real = rig.fake.head_object

    def stripped(key: str) -> Any:
        info = real(key)
        assert info is not None
        return replace(info, digest=None, etag="another")

    rig.fake.head_object = stripped  # type: ignore[method-assign]
    assert differences(rig) == {"a": ("another program wrote the object", True)}


def test_an_object_that_was_written_anew_with_the_same_content_is_a_note(rig: Rig) -> None:
    """Some servers change the ETag of an object by themselves."""
    carry(rig, "a")
    rig.fake.objects["p/a"].etag = "another"
    assert differences(rig) == {"a": ("another program rewrote the object, with the same fingerprint", False)}


def test_an_etag_that_is_not_recorded_yet_is_no_difference(rig: Rig) -> None:
    """After a repair or a lost answer the row is in doubt for a while. No other program wrote it."""
    carry(rig, "a")
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    rig.state.doubt(rig.ref("a"), row)
    assert differences(rig) == {}


def test_an_object_that_the_store_does_not_tell_of_is_serious_and_stops_nothing(rig: Rig) -> None:
    """One forbidden key does not end the comparison."""
    carry(rig, "a", "b")
    rig.fake.fail("head_object", StoreRefused("no", status=403), when=lambda call: call.key == "p/a")
    assert differences(rig) == {"a": ("the store refuses to describe the object: no (403)", True)}


def test_a_store_that_cannot_be_used_ends_the_comparison_at_once(rig: Rig) -> None:
    """Not after as many requests as there are files."""
    carry(rig, *(f"f{number}" for number in range(200)))
    rig.fake.reset_counters()
    rig.fake.fail("head_object", AccessRefused("bad key"), times=None)
    with pytest.raises(AccessRefused):
        differences(rig)
    assert rig.fake.calls["head_object"] < 200


def looked_at(rig: Rig, *changes: Callable[[], object]) -> tuple[list[list[audit.Difference]], int]:
    """The differences found with a pause for each of `changes`, which happen in it; how many were taken."""
    taken: list[Callable[[], object]] = []

    def pause(change: Callable[[], object]) -> None:
        taken.append(change)
        change()

    pauses = [partial(pause, change) for change in changes]
    found = audit.verify(rig.source, rig.state, rig.store, read=False, threads=2, pauses=pauses)
    return list(found), len(taken)


def test_what_is_recorded_a_moment_later_is_no_difference(rig: Rig) -> None:
    """The object is there before its record, when a daemon works beside the audit."""
    carry(rig, "a", "b")
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    rig.write("a", b"changed")
    rig.sync("a")
    new = rig.state.recorded(rig.ref("a"))
    assert new is not None
    rig.state.commit(rig.ref("a"), row)  # as it was before the daemon wrote the new one
    found, pauses = looked_at(rig, lambda: rig.state.commit(rig.ref("a"), new), lambda: None)
    assert [each for each in found if any(one.serious for one in each)] == []
    assert pauses == 1


def test_of_many_differences_the_first_are_named() -> None:
    """Each file once, with all that was found of it; the others are counted. What is wrong on the disk, too,
    is not to be sent again.
    """
    refs = [FileRef("docs", name) for name in "abcd"]
    found = [
        audit.Difference(ref, "the object is missing", serious=True, damaged=True, etag="e", rotten="r")
        for ref in refs
    ]
    found.insert(1, audit.Difference(refs[0], "and more", serious=True, etag="e"))
    missing = "the object is missing"
    named = [
        Unlike(refs[0], "e", f"{missing}; and more", False, "r"), Unlike(refs[1], "e", missing, True, "r")
    ]  # fmt: skip
    assert audit.named(found, 2) == (named, 2)


def test_what_keeps_changing_is_a_note(rig: Rig) -> None:
    """Nothing can be said of it, and nothing is wrong."""
    carry(rig, "a")
    contents = iter((b"first", b"second one", b"third, and last"))

    def change() -> None:
        rig.fake.tamper("p/a", next(contents))

    change()
    ((only,),), _ = looked_at(rig, change, change)
    assert only.what == "it was changed while it was compared"
    assert not only.serious


def test_what_stands_still_and_differs_stays_serious(rig: Rig) -> None:
    """Also beside a daemon; what was right at the first look costs no pause."""
    carry(rig, "a", "b")
    del rig.fake.objects["p/a"]
    found, pauses = looked_at(rig, lambda: None, lambda: None)
    assert [one.what for each in found for one in each] == ["the object is missing"]
    assert pauses == 2
    assert looked_at(rig)[1] == 0


def test_a_record_that_went_while_its_object_was_compared_is_no_difference(rig: Rig) -> None:
    """The daemon deleted both."""
    carry(rig, "a")
    del rig.fake.objects["p/a"]
    assert looked_at(rig, lambda: rig.state.forget(rig.ref("a"))) == ([[]], 1)


def test_a_wanted_file_without_a_record_is_named_with_what_is_known_of_it(rig: Rig) -> None:
    """Nothing says that the store has it; what patterns leave out is not missed."""
    carry(rig, "a", "back")
    row = rig.state.recorded(rig.ref("back"))
    assert row is not None
    rig.state.keep(rig.ref("back"), row)
    for name in ("never", "failed", "left.out"):
        rig.write(name, b"x")
    rig.state.failures.record(Failure(rig.ref("failed"), "no such bucket", 3, 0))
    source = replace(rig.source, exclude=("*.out",))
    found = {one.ref.path: one.what for one in audit.unrecorded(source, rig.state, rig.store.store_id)}
    assert found == {
        "never": "the file has not been uploaded",
        "failed": "the file has not been uploaded: no such bucket",
    }


@pytest.mark.parametrize("change", ["gone", "changed", "directory", "unreadable"])
def test_a_file_that_went_on_living_is_a_note(rig: Rig, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon will see it; the store is as recorded."""
    carry(rig, "a")
    path = rig.folder / "a"
    if change == "changed":
        path.write_bytes(b"other")
    elif change != "unreadable":
        path.unlink()
    if change == "directory":
        path.mkdir()
    if change == "unreadable":
        path.write_bytes(b"other")

        def refuse(*_: object, links: bool) -> None:
            raise audit.FileError("permission denied")

        monkeypatch.setattr("syncd.sources.files.open_file", refuse)
    words = {
        "gone": "the file is gone",
        "changed": "the file has changed since",
        "directory": "the file is now a directory",
        "unreadable": "the file cannot be read: permission denied",
    }
    assert differences(rig, read=change == "unreadable") == {"a": (words[change], False)}


def test_content_that_changed_without_a_trace_is_found_by_reading(rig: Rig) -> None:
    """Bit rot, or a store through a memory map: serious, since no scan will ever see it."""
    carry(rig, "a")
    change_without_a_trace(rig, "a")
    assert differences(rig) == {}
    assert differences(rig, read=True) == {"a": ("the file's content changed, but not its stat", True)}


def test_a_record_about_another_store_is_a_note(rig: Rig) -> None:
    """After a change of the configuration, before the next scan."""
    carry(rig, "a")
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    rig.state.commit(rig.ref("a"), replace(row, store_id="s3:elsewhere"))
    assert differences(rig) == {"a": ("its object is in another store: s3:elsewhere", False)}


def test_without_the_root_the_store_is_compared_all_the_same(rig: Rig) -> None:
    """A disk that is not there is no reason not to look at the backup."""
    carry(rig, "a", "b")
    del rig.fake.objects["p/b"]
    rig.folder.rename(rig.folder.with_name("away"))
    found = differences(rig)
    assert found["b"] == ("the object is missing", True)
    assert "cannot be opened" in found[""][0]
    assert set(found) == {"", "b"}


def test_more_files_than_a_page_are_all_compared(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each exactly once."""
    monkeypatch.setattr(audit, "_PAGE", 3)
    names = [f"f{number}" for number in range(10)]
    carry(rig, *names)
    rig.fake.objects.clear()
    assert sorted(differences(rig)) == names


def test_objects_that_no_record_knows_are_notes(rig: Rig) -> None:
    """Of files that are long gone, or of another program; what another source owns is not among them."""
    carry(rig, "a")
    meta = rig.fake.objects["p/a"].meta
    for key in ("p/lost", "p/inner/x", "p/\x00odd", "q/elsewhere"):
        rig.fake.put_object(key, b"x", meta)
    inner = Source("inner", "/y", "store", prefix="p/inner/")
    found = list(audit.unknown(rig.source, rig.state, rig.store, [rig.source, inner]))
    assert [each.ref.path for each in found] == ["p/\x00odd", "lost"]
    assert not any(each.serious for each in found)
