"""Another machine is found by what it wrote: then the source waits until the operator says who works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import PreconditionFailed, StoreRefused
from syncd.core.model import Adoption, Fingerprint, ObjectInfo, ObjectMeta, OnDelete
from syncd.core.plan import Adopt, Copy, Delete, Upload
from syncd.sources.files import OpenFile
from syncd.sources.fingerprint import of_bytes
from syncd.transfer.in_doubt import Foreigners
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore

OTHERS = "another machine's docs"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    yield rig
    rig.close()


def rewritten(rig: Rig, name: str, content: bytes, instance: str = OTHERS) -> None:
    """Another machine replaces the object."""
    key = f"p/{name}"
    meta = replace(rig.fake.objects[key].meta, fingerprint=of_bytes(content), instance=instance)
    rig.fake.put_object(key, content, meta)
    rig.fake.reset_counters()


def restored(rig: Rig) -> Foreigners:
    """What another process would know."""
    known = Foreigners(rig.store.store_id, rig.state)
    known.recall("docs")
    return known


@pytest.mark.parametrize("size", [5, 3 * PART])
def test_all_that_is_sent_names_who_wrote_it(rig: Rig, size: int) -> None:
    """A put, an upload in parts and a copy."""
    for name in ("a", "b"):
        rig.write(name, bytes(range(size)))
        outcome = rig.sync(name)
        assert isinstance(outcome.action, Upload if name == "a" else Copy)
    assert {each.meta.instance for each in rig.fake.objects.values()} == {rig.instance}


def test_a_deletion_finds_it_and_no_other_follows(rig: Rig) -> None:
    """Also after a restart. It costs no question more, and a file of another source does not wait."""
    for name in ("a", "b"):
        rig.write(name, name.encode())
        rig.sync(name)
        (rig.folder / name).unlink()
    rewritten(rig, "a", b"theirs")

    for name, questions in (("a", 1), ("b", 1)):
        with pytest.raises(StoreRefused, match=r"another machine wrote p/a, .* syncd sync --take-over docs"):
            rig.sync(name, delete_allowed=True)
        assert (rig.fake.calls["head_object"], rig.fake.calls["delete_object"]) == (questions, 0)
    assert restored(rig).waits("docs") == rig.engine.foreigners.waits("docs") != ""
    assert restored(rig).waits("pictures") == ""
    assert rig.state.recorded(rig.ref("b")) is not None


def test_an_object_that_is_still_what_was_recorded_is_ours(rig: Rig) -> None:
    """Whatever id it has: it was adopted, or the source had another name."""
    rig.write("a", b"ours")
    rig.sync("a")
    rewritten(rig, "a", b"ours")
    (rig.folder / "a").unlink()

    assert isinstance(rig.sync("a", delete_allowed=True).action, Delete)
    assert rig.fake.objects == {}


def test_what_is_in_doubt_and_anothers_is_not_left_by_a_request_of_ours(rig: Rig) -> None:
    """A row in doubt does not make every object of some syncd its own."""
    ref = rig.write("a", b"ours")
    rig.sync("a")
    row = rig.state.recorded(ref)
    assert row is not None
    rig.state.doubt(ref, row)
    rewritten(rig, "a", b"theirs")

    with pytest.raises(StoreRefused, match="another machine"):
        rig.sync("a")  # to replace it
    (rig.folder / "a").unlink()
    with pytest.raises(StoreRefused, match="another machine"):
        rig.sync("a", delete_allowed=True)
    assert rig.fake.objects["p/a"].data == b"theirs"


def test_an_object_without_an_id_is_not_left_by_a_request_of_ours_either(rig: Rig) -> None:
    """Another program's, with a digest of the same form: it is kept."""
    ref = rig.write("a", b"ours")
    rig.sync("a")
    row = rig.state.recorded(ref)
    assert row is not None
    rig.state.doubt(ref, row)
    rewritten(rig, "a", b"theirs", "")
    (rig.folder / "a").unlink()

    rig.sync("a", delete_allowed=True)
    assert rig.fake.objects["p/a"].data == b"theirs"
    assert rig.state.recorded(ref) is None


def test_a_new_file_does_not_replace_anothers_object(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Where the records may be lost, it is asked for; the same content is adopted, and the log says so."""
    for name in ("a", "b", "c"):
        rig.write(name, name.encode())
        rig.sync(name)
        rewritten(rig, name, name.encode() if name != "b" else b"theirs")
        rig.state.forget(rig.ref(name))
    rig.know(reconciling=True)

    assert [rig.sync(name).bytes_sent for name in ("a", "c")] == [0, 0]
    assert caplog.text.count("another machine wrote p/a with the same content") == 1
    assert "p/c" not in caplog.text
    with pytest.raises(StoreRefused, match="another machine wrote p/b"):
        rig.sync("b")
    rig.know(reconciling=False)
    rig.write("new", b"new")
    assert rig.sync("new").bytes_sent == 3
    rig.write("new", b"newer")
    with pytest.raises(StoreRefused, match="another machine wrote p/b"):
        rig.sync("new")
    assert rig.fake.objects["p/new"].data == b"new"


def test_what_another_program_put_is_recorded_and_not_sent(rig: Rig) -> None:
    """If its MD5 is that of the file, whether that is sent in one request or in parts."""
    other = ObjectMeta(Fingerprint(b"", 0), 0)
    large = b"large" * PART
    for name, there in (("same", b"same"), ("else", b"ELSE"), ("large", large), ("other", b"OTHER" * PART)):
        rig.write(name, there.lower())
        rig.fake.put_object(f"p/{name}", there, other)
    rig.know(reconciling=True)

    assert [rig.sync(name).bytes_sent for name in ("same", "else", "large", "other")] == [0, 4, 0, 40]
    for name, content in (("same", b"same"), ("large", large)):
        row = rig.state.recorded(rig.ref(name))
        assert row is not None
        assert (row.etag, row.fingerprint) == (rig.fake.objects[f"p/{name}"].etag, of_bytes(content))
        assert row.witness
    rig.write("same", b"changed since")
    assert rig.sync("same").bytes_sent == 13


def test_an_adopted_object_is_adopted_again_when_its_record_is_in_doubt(rig: Rig) -> None:
    """As nothing of ours is in it, its digest decides once more, also of a large file."""
    other = ObjectMeta(Fingerprint(b"", 0), 0)
    rig.know(reconciling=True)
    for name, content in (("small", b"small"), ("large", b"large" * PART)):
        ref = rig.write(name, content)
        rig.fake.put_object(f"p/{name}", content, other)
        assert isinstance(rig.sync(name).action, Adopt)
        row = rig.state.recorded(ref)
        assert row is not None
        rig.state.doubt(ref, row)
        assert rig.sync(name).bytes_sent == 0


@pytest.mark.parametrize("size", [5, 5 * PART])
def test_a_stamped_object_has_what_an_upload_would_have_given_it(rig: Rig, size: int) -> None:
    """By a copy onto itself. One that a syncd wrote has it already."""
    other = ObjectMeta(Fingerprint(b"", 0), 0)
    rig.configure(adopt=Adoption.STAMP)
    rig.know(reconciling=True)
    for name in ("sent", "there"):
        rig.write(name, name.encode() * size)
    rig.sync("sent")
    rig.fake.put_object("p/there", b"there" * size, other)
    rig.state.forget(rig.ref("sent"))
    rig.fake.reset_counters()

    for name in ("sent", "there"):
        assert isinstance(rig.sync(name).action, Adopt)
    meta = rig.fake.objects["p/there"].meta
    assert (meta.fingerprint, meta.instance) == (of_bytes(b"there" * size), rig.instance)
    assert meta.mtime_ns == (rig.folder / "there").stat().st_mtime_ns
    assert (rig.fake.bytes_received, rig.fake.calls["copy_object"]) == (0, 1)
    row = rig.state.recorded(rig.ref("there"))
    assert row is not None
    assert row.etag == rig.fake.objects["p/there"].etag


def test_an_object_that_may_not_be_copied_is_adopted_as_it_is(rig: Rig) -> None:
    """And one that another program replaced in between is not adopted at all."""
    other = ObjectMeta(Fingerprint(b"", 0), 0)
    rig.configure(adopt=Adoption.STAMP)
    rig.know(reconciling=True)
    rig.write("a", b"a")
    rig.fake.put_object("p/a", b"a", other)
    rig.fake.fail("copy_object", StoreRefused("no", status=501, code="NotImplemented"))
    assert isinstance(rig.sync("a").action, Adopt)
    assert rig.fake.objects["p/a"].meta == other
    rig.state.forget(rig.ref("a"))
    rig.fake.before("copy_object", lambda call: rig.fake.without_metadata("p/a", b"b"))
    with pytest.raises(PreconditionFailed):
        rig.sync("a")
    assert rig.state.recorded(rig.ref("a")) is None


@pytest.mark.parametrize("size", [5, 5 * PART])
@pytest.mark.parametrize("allowed", [False, True])
def test_a_crc32_is_a_proof_only_where_the_user_says_so(tmp_path: Path, size: int, allowed: bool) -> None:
    """For an object without anything better, such as one that was sent to BOS in parts."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, computes_crc32=True))
    rig.configure(adopt_by_crc32=allowed)
    rig.know(reconciling=True)
    for name, there in (("same", bytes(range(size))), ("else", bytes(size))):
        rig.write(
            name, bytes(range(size)) + b"same" if name == "same" else bytes(range(size, 0, -1)) + b"ELSE"
        )
        rig.fake.put_object(f"p/{name}", there + name.encode(), ObjectMeta(Fingerprint(b"", 0), 0))
        rig.fake.objects[f"p/{name}"].etag = "-" + "0" * 32
    assert [rig.sync(name).bytes_sent for name in ("same", "else")] == [0 if allowed else size + 4, size + 4]
    rig.close()


def test_a_large_file_is_read_once_for_all_digests(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what replaced the object in between is not taken for it."""
    other = ObjectMeta(Fingerprint(b"", 0), 0)
    content = bytes(range(5 * PART))
    rig.write("large", content)
    rig.fake.put_object("p/large", content, other)
    rig.know(reconciling=True)
    read = 0
    really = OpenFile.read_into

    def read_into(self: OpenFile, offset: int, view: memoryview) -> None:
        nonlocal read
        really(self, offset, view)
        read += len(view)
        rig.fake.put_object("p/large", content[::-1], other)

    monkeypatch.setattr(OpenFile, "read_into", read_into)
    assert rig.sync("large").bytes_sent == len(content)
    rig.state.forget(rig.ref("large"))
    rig.fake.put_object("p/large", content, other)
    monkeypatch.setattr(rig.fake, "put_object", lambda *_: None)
    read = 0
    assert rig.sync("large").bytes_sent == 0
    assert read == len(content)


def test_what_was_adopted_is_deleted_only_as_it_was_seen(rig: Rig) -> None:
    """By its ETag, for it names no writer."""
    other = ObjectMeta(Fingerprint(b"", 0), 0)
    rig.know(reconciling=True)
    for name in ("kept", "gone"):
        rig.write(name, name.encode())
        rig.fake.put_object(f"p/{name}", name.encode(), other)
        assert rig.sync(name).bytes_sent == 0
        (rig.folder / name).unlink()
    rig.fake.put_object("p/kept", b"by another since", other)

    for name in ("kept", "gone"):
        rig.sync(name, delete_allowed=True)
    assert list(rig.fake.objects) == ["p/kept"]


def test_the_operator_takes_over_what_was_found(rig: Rig) -> None:
    """And nothing else: a third machine is found again."""
    foreigners = rig.engine.foreigners
    for number, other in enumerate(("x", "y")):
        with pytest.raises(StoreRefused):
            foreigners.found("docs", ObjectInfo(f"k{number}", 1, "e", instance=other))
    assert foreigners.take_over("docs") == 2
    assert foreigners.waits("docs") == ""
    assert restored(rig).own("z") == foreigners.own("z") == {"x", "y", "z"}
    assert foreigners.take_over("docs") == 0
    with pytest.raises(StoreRefused, match="k2"):
        foreigners.found("docs", ObjectInfo("k2", 1, "e", instance="third"))


def test_a_single_pass_takes_over_what_it_will_find(rig: Rig) -> None:
    """The word comes before the pass; it ends with it, and what was found stays ours."""
    foreigners = rig.engine.foreigners
    assert foreigners.take_over("docs", ahead=True) == 0
    foreigners.found("docs", ObjectInfo("k", 1, "e", instance="x"))
    assert foreigners.waits("docs") == ""
    later = restored(rig)
    assert "x" in later.own()
    with pytest.raises(StoreRefused):
        later.found("docs", ObjectInfo("k", 1, "e", instance="y"))


def test_an_instance_stays_ours_when_its_source_has_another_name(rig: Rig) -> None:
    """Each that began here counts, once; names may hold anything."""
    rig.engine.foreigners.begin("docs", "one, \n\u00fc")
    rig.engine.foreigners.begin("docs", "two")
    rig.engine.foreigners.begin("docs", "two")
    assert restored(rig).own() == {"one, \n\u00fc", "two"}
