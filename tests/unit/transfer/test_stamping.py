"""Metadata that changes alone, on real files and a real state, against the store in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import Adoption, Attributes, ObjectMeta, Properties
from syncd.core.plan import Copy, Refresh, Upload
from syncd.sources.fingerprint import of_bytes
from syncd.state.audits import Unlike
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.unit.transfer.steps import SAID, attributes_of, overwrite, restamped


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
    assert restamped(rig) == (False, "")
    rig.know(properties=lambda path: SAID)
    rig.fake.reset_counters()
    assert restamped(rig, dry_run=True) == (True, "")
    assert rig.fake.calls["copy_object"] + rig.fake.calls["create_multipart_upload"] == 0
    assert restamped(rig) == (True, "")
    assert restamped(rig) == (False, "")
    assert rig.fake.calls["copy_object" if size == 5 else "complete_multipart_upload"] == 1
    found = rig.fake.objects["p/a"]
    assert found.data == bytes(range(size))
    assert replace(
        found.meta, properties=Properties(), mode=before.mode, allocated=before.allocated
    ) == replace(before, token=found.meta.token)
    assert found.meta.properties == SAID
    assert rig.state.recorded(ref) == replace(row, etag=found.etag)
    assert rig.state.checkpoints.leftovers(rig.store.store_id) == []
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
    overwrite(rig.fake, "p/replaced", b"other")
    rig.fake.delete_object("p/gone")
    rig.fake.put_object("p/theirs", b"hello", other)
    row = rig.state.recorded(rig.ref("doubt"))
    assert row is not None
    rig.state.doubt(rig.ref("doubt"), row)
    objects = dict(rig.fake.objects)
    for name, why in (
        ("replaced", "not the one that was recorded"), ("gone", "not the one that was recorded"),
        ("theirs", "another machine's"), ("doubt", "looked at once more first"),
    ):  # fmt: skip
        has_others, said = restamped(rig, name)
        assert not has_others
        assert why in said
    assert restamped(rig, "unknown") == (False, "")
    assert rig.fake.objects == objects


def test_an_object_that_has_lost_its_content_is_not_copied_onto_itself(rig: Rig) -> None:
    """Its copy would have another ETag, which no record would hold; and it proves nothing, whatever its
    ETag is.
    """
    rig.write("a", b"hello")
    rig.sync("a")
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    rig.fake.tamper("p/a", b"hellO")
    rig.state.audits.keep("docs", [Unlike(rig.ref("a"), row.etag, "rotten", True, row.etag)])
    rig.know(properties=lambda path: SAID)
    assert restamped(rig, "a") == (False, "its object has lost its content: syncd verify --repair")
    rig.fake.tamper_etag("p/a")
    rig.state.doubt(rig.ref("a"), row)
    rig.sync("a")
    assert rig.fake.objects["p/a"].data == b"hello"


def test_a_copy_that_is_refused_changes_nothing_and_one_without_answer_leaves_a_doubt(rig: Rig) -> None:
    """The doubt ends at the next look, without sending anything."""
    ref = rig.write("a", b"hello")
    rig.sync("a")
    row = rig.state.recorded(ref)
    rig.know(properties=lambda path: SAID)
    rig.fake.fail("copy_object", StoreRefused("it is in the archive", status=403, code="InvalidObjectState"))
    with pytest.raises(StoreRefused):
        restamped(rig)
    assert rig.state.recorded(ref) == row
    rig.fake.lose_answer("copy_object")
    with pytest.raises(StoreUnavailable):
        restamped(rig)
    doubtful = rig.state.recorded(ref)
    assert doubtful is not None
    assert doubtful.in_doubt
    assert "looked at once more first" in restamped(rig)[1]
    rig.fake.reset_counters()
    assert not isinstance(rig.sync("a").action, Upload | Copy)
    assert rig.fake.bytes_received == 0
    assert rig.fake.objects["p/a"].meta.properties == SAID


@pytest.mark.parametrize("theirs", [b"world", b"longer"])
@pytest.mark.parametrize("adopts", [False, True])
def test_an_object_that_is_replaced_right_before_its_copy_is_not_taken_for_ours(
    tmp_path: Path, adopts: bool, theirs: bytes
) -> None:
    """The server ignores the condition, and gives our digest to another content: the file is sent instead."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, ignores_conditions=True))
    rig.write("a", b"hello")
    if adopts:
        rig.fake.without_metadata("p/a", b"hello")
        source = replace(rig.engine.sources["docs"].source, adopt=Adoption.STAMP)
        rig.know(source=source, reconciling=True)
    else:
        rig.sync("a")
        rig.know(properties=lambda path: SAID)
    replaced = iter([lambda: rig.fake.without_metadata("p/a", theirs)])
    rig.fake.before("copy_object", lambda call: next(replaced, lambda: None)())
    with pytest.raises(StoreRefused):
        rig.sync("a") if adopts else restamped(rig)
    rig.sync("a")
    assert rig.fake.objects["p/a"].data == b"hello"
    rig.close()


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
    assert (attributes_of(rig) or Attributes()).mode == 0o640


def test_a_restamp_keeps_attributes_or_brings_those_of_the_file(rig: Rig) -> None:
    """Those of a file that is the recorded one; what was there before stays where it is gone."""
    rig.configure(keeps_attributes=True)
    rig.write("a", b"hello")
    rig.sync("a")
    before = attributes_of(rig)
    assert restamped(rig) == (False, "")
    rig.configure(keeps_attributes=False)
    rig.know(properties=lambda path: SAID)
    assert restamped(rig) == (True, "")
    assert attributes_of(rig) == before
    (rig.folder / "a").chmod(0o640)
    rig.configure(keeps_attributes=True)
    assert restamped(rig) == (False, "")  # it is not the recorded file: its content may be another
    rig.sync("a")
    assert restamped(rig, dry_run=True) == (True, "")
    assert restamped(rig) == (True, "")
    assert (attributes_of(rig) or Attributes()).mode == 0o640
    (rig.folder / "a").unlink()
    assert restamped(rig) == (False, "")


OTHERS = (("/content-type", "video/x"), ("/cache-control", "max-age=1"), ("author", "them"))


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("mode", [0o644, None])
@pytest.mark.parametrize("way", ["restamp", "touch", "adopt"])
def test_what_another_program_gave_an_object_stays_whenever_it_is_copied_onto_itself(
    rig: Rig, way: str, mode: int | None, keeps: bool
) -> None:
    """But for what the configuration says; nothing is left to do after that."""
    adopt = Adoption.STAMP if way == "adopt" else Adoption.RECORD
    rig.configure(keeps_attributes=keeps, copies_attributes=keeps, adopt=adopt)
    rig.write("a", b"hello")
    rig.fake.without_metadata("p/a", b"hello")
    read = Attributes(xattrs=(("user.author", b"them"),))
    theirs = replace(rig.fake.objects["p/a"].meta, others=OTHERS, attributes=read, mode=mode)
    rig.fake.objects["p/a"].meta = theirs
    rig.know(reconciling=True, properties=lambda path: SAID if way != "touch" else Properties("text/x"))
    rig.sync("a")
    rig.know(reconciling=False)
    copies = restamped(rig) == (True, "")
    assert copies == (way != "adopt")
    if way == "touch":
        (rig.folder / "a").chmod(0o600)
        rig.sync("a")
    meta, name = rig.fake.objects["p/a"].meta, "/content-type" if way == "touch" else "/cache-control"
    assert meta.fingerprint == of_bytes(b"hello")
    assert isinstance(meta.mode, int), "also where the store tells no permissions"
    assert meta.others == tuple(each for each in OTHERS if each[0] != name)
    assert meta.attributes is None or meta.attributes.xattrs == read.xattrs
    assert (way == "touch" and keeps) == ((meta.attributes or read).mode == 0o600)
    assert restamped(rig) == (False, "")
