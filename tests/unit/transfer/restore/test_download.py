"""An object becomes a file when its content is proven, whatever happens to object, store and process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from syncd.core.errors import StoreRefused, StoreUnavailable
from syncd.core.model import Fingerprint, ObjectMeta
from syncd.core.restoring import DRAFT, Overwrite
from syncd.storage.base import ObjectStore
from syncd.storage.dir.store import DirStore
from syncd.storage.http.messages import Request, Response
from syncd.transfer.restore.draft import name_of_draft
from syncd.transfer.restore.wanted import listed
from tests.contract.subjects import BUCKET
from tests.support.bos_server import BosServer
from tests.support.faults import Call
from tests.support.store import FakeStore
from tests.unit.storage.bos.bos_wire import ask, dialect_for
from tests.unit.transfer.restore.restoring import MTIME_NS, PART, content, put, reasons, restore, tree

SECOND = 10**9


@pytest.mark.parametrize("size", [5, 3 * PART + 1])
def test_a_damaged_object_never_becomes_a_file(to: Path, size: int) -> None:
    """Its digest is not that of its bytes: it is fetched again, and then reported."""
    store = FakeStore()
    put(store, "rotten", content(size))
    put(store, "good", content(size))
    store.tamper("rotten", content(size, seed=1))
    report = restore(store, to)
    assert list(reasons(report)) == ["rotten"]
    assert "damaged" in reasons(report)["rotten"]
    assert tree(to) == {"good": content(size)}


@pytest.mark.parametrize(("case", "heads"), [("as recorded", 0), ("replaced", 1), ("bare", 1)])
def test_a_large_object_that_is_recorded_is_asked_for_by_its_first_byte(
    to: Path, case: str, heads: int
) -> None:
    """The answer has its attributes. One that was replaced since, or has no metadata, is looked at again."""
    store, body = FakeStore(), content(3 * PART + 1)
    put(store, "a", body)
    (item,) = listed(store, "", "", "")
    info = replace(item.info, digest=xxhash.xxh3_128_digest(body), mtime_ns=MTIME_NS)
    if case == "replaced":
        body = content(3 * PART + 1, 1)
        put(store, "a", body)
    if case == "bare":
        store.without_metadata("a", body)
        info = replace(info, etag=store.objects["a"].etag)
    asked: list[Call] = []
    store.before("head_object", asked.append)
    report = restore(store, to, [replace(item, info=info, described=True)])
    assert (report.failures, len(asked)) == ([], heads)
    assert tree(to) == {"a": body}


@pytest.mark.parametrize("size", [0, 5, 3 * PART + 1])
@pytest.mark.parametrize("is_other", [False, True])
def test_a_file_that_was_touched_has_the_time_of_its_record(to: Path, size: int, is_other: bool) -> None:
    """It was not sent again, so the object has the time before. The next restore knows the file by it. Of
    other content by now, the time is the object's.
    """
    store = FakeStore()
    put(store, "a", content(size))
    (item,) = listed(store, "", "", "")
    digest = xxhash.xxh3_128_digest(content(size) + b"x" * is_other)
    info = replace(item.info, digest=digest, mtime_ns=MTIME_NS + 9 * SECOND)
    item = replace(item, info=info, described=True)
    assert restore(store, to, [item]).counts["restored"] == 1
    assert (to / "a").stat().st_mtime_ns == MTIME_NS + 9 * SECOND * (not is_other)
    if not is_other:
        assert restore(store, to, [item]).counts["already_there"] == 1


@pytest.mark.parametrize("size", [5, 3 * PART + 1])
def test_objects_of_other_tools_are_checked_by_what_the_store_knows(
    store: ObjectStore, to: Path, size: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By an ETag that is an MD5, by a checksum of the whole, by the content itself; else they are counted."""
    put(store, "ours", content(size))
    if isinstance(store, FakeStore):
        store.without_metadata("theirs", content(size, 1))
        store.without_metadata("joined", content(size, 2))
        store.objects["joined"].etag += "-2"
    elif isinstance(store, DirStore):
        (tmp_path / "store" / "theirs").write_bytes(content(size, 1))
        (tmp_path / "store" / "joined").write_bytes(content(size, 2))
    else:
        write_without_metadata(request.getfixturevalue("bos_server"), content(size, 1), content(size, 2))
    report = restore(store, to)
    assert tree(to) == {"ours": content(size), "theirs": content(size, 1), "joined": content(size, 2)}
    assert report.failures == []
    unchecked = ["joined"] if isinstance(store, FakeStore) else []
    assert [entry.path for entry in report.unchecked] == unchecked
    again = restore(store, to, overwrite=Overwrite.ALWAYS)
    assert again.counts["already_there"] == 3 - len(unchecked)


def write_without_metadata(server: BosServer, whole: bytes, joined: bytes) -> None:
    """An object in one piece, and one of parts, whose ETag is no MD5."""
    dialect = dialect_for(server, bucket=BUCKET)
    meta = ObjectMeta(Fingerprint(bytes(16), 0), 0)

    def send(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if "-meta-" not in name}
        response = ask(server, replace(request, headers=headers))
        assert response.status == 200
        return response

    send(dialect.put_request("theirs", whole, meta))
    request = dialect.create_request("joined", meta)
    upload_id = dialect.create_result("joined", request, send(request))
    request = dialect.part_request("joined", upload_id, 1, joined)
    part = dialect.part_result("joined", upload_id, 1, joined, request, send(request))
    send(dialect.complete_request("joined", upload_id, [part], meta))


@pytest.mark.parametrize("size", [5, 3 * PART + 1])
def test_a_damaged_object_of_other_tools_never_becomes_a_file(to: Path, size: int) -> None:
    """An ETag that is an MD5 says so, and so does a checksum."""
    store = FakeStore(computes_crc32=True)
    store.without_metadata("theirs", content(size))
    store.tamper("theirs", content(size, 1))
    report = restore(store, to)
    assert "md5" in reasons(report)["theirs"]
    assert tree(to) == {}
    store.objects["theirs"].etag = "opaque"
    report = restore(store, to)
    assert (report.failures, report.unchecked) == ([], [])
    assert tree(to) == {"theirs": content(size, 1)}


def test_an_object_that_is_replaced_between_two_ranges_is_no_mixture(to: Path) -> None:
    """The file is the object as it is after that, whole; nothing is left of the old one."""
    store = FakeStore()
    put(store, "a", content(9 * PART))

    def swap(call: object) -> None:
        if store.calls["get_object"] == 4:
            put(store, "a", content(9 * PART, seed=1), MTIME_NS + SECOND)

    store.before("get_object", swap)
    report = restore(store, to, concurrency=1)
    assert (report.failures, report.counts["restored"]) == ([], 1)
    assert (to / "a").read_bytes() == content(9 * PART, seed=1)
    assert (to / "a").stat().st_mtime_ns == MTIME_NS + SECOND
    assert os.listdir(to) == ["a"]


def test_an_object_that_never_rests_is_left(to: Path) -> None:
    """After some tries it is reported, without a file and without a rest of one."""
    store = FakeStore()
    put(store, "a", content(9 * PART))
    store.before(
        "get_object", lambda call: put(store, "a", content(9 * PART, seed=call.nth), MTIME_NS + call.nth)
    )
    report = restore(store, to, concurrency=1)
    assert list(reasons(report)) == ["a"]
    assert os.listdir(to) == []


def test_an_object_that_is_gone_is_reported(to: Path) -> None:
    """Between the listing and its turn."""
    store = FakeStore()
    for key in ("a", "b", "c"):
        put(store, key, content(3 * PART) if key == "b" else b"x")
    items = list(listed(store, "", "", ""))
    del store.objects["a"], store.objects["b"]
    report = restore(store, to, items)
    assert {path: "no such object" in reason for path, reason in reasons(report).items()} == {
        "a": True,
        "b": True,
    }
    assert tree(to) == {"c": b"x"}


# ---- going on -------------------------------------------------------------------------------------------


def test_a_large_object_goes_on_from_what_is_proven(to: Path) -> None:
    """After an outage only the missing parts are asked for, and a part that rotted on the disk."""
    store = FakeStore()
    put(store, "a", content(12 * PART + 5))
    store.fail("get_object", StoreUnavailable("away"), times=None, when=lambda call: call.nth > 6)
    report = restore(store, to, concurrency=1)
    assert list(reasons(report)) == ["a"]
    (draft,) = to.iterdir()
    assert draft.name.startswith(DRAFT)
    store.heal().reset_counters()
    with draft.open("r+b") as file:
        file.seek(2 * PART + 7)
        file.write(b"rot")
    report = restore(store, to, concurrency=1)
    assert (report.failures, report.counts["restored"]) == ([], 1)
    assert (to / "a").read_bytes() == content(12 * PART + 5)
    assert store.calls["get_object"] == 13 - 6 + 1
    assert os.listdir(to) == ["a"]


def test_a_draft_of_another_object_is_begun_again(to: Path) -> None:
    """Between the two restores the object changed."""
    store = FakeStore()
    put(store, "a", content(12 * PART))
    store.fail("get_object", StoreUnavailable("away"), times=None, when=lambda call: call.nth > 6)
    restore(store, to, concurrency=1)
    store.heal()
    put(store, "a", bytes(PART) + content(11 * PART, seed=1))
    assert restore(store, to).failures == []
    assert (to / "a").read_bytes() == bytes(PART) + content(11 * PART, seed=1)


def test_two_restores_do_not_work_on_one_file(to: Path) -> None:
    """The second says so, and the first comes to its end."""
    store = FakeStore()
    put(store, "a", content(6 * PART))
    others: list[dict[str, str]] = []

    def meet(call: Call) -> None:
        if call.nth == 2:
            others.append(reasons(restore(store, to)))

    store.before("get_object", meet)
    report = restore(store, to, concurrency=1)
    assert (report.failures, report.counts["restored"]) == ([], 1)
    assert others == [{"a": "another restore is writing this file: wait until that one ends"}]
    assert tree(to) == {"a": content(6 * PART)}


def test_objects_of_other_tools_are_no_mixture_either(to: Path) -> None:
    """Nothing but the ETag tells that the object was replaced: every range is asked for by it."""
    store = FakeStore()

    def write(seed: int) -> None:
        store.without_metadata("a", content(9 * PART, seed))
        store.objects["a"].etag = f"opaque-{seed}"

    write(0)
    store.before("get_object", lambda call: write(1) if call.nth == 4 else None)
    report = restore(store, to, concurrency=1)
    assert (report.failures, len(report.unchecked)) == ([], 1)
    assert tree(to) == {"a": content(9 * PART, 1)}


def test_an_object_that_was_replaced_since_the_listing_is_not_taken_for_it(to: Path) -> None:
    """Of the same size, and without a digest: it is looked at, and fetched as what it is now."""
    store = FakeStore()
    store.without_metadata("a", b"first")
    items = list(listed(store, "", "", ""))
    put(store, "a", b"other")
    report = restore(store, to, items)
    assert (report.failures, report.unchecked) == ([], [])
    assert (store.calls["get_object"], store.calls["head_object"]) == (2, 1)
    assert (to / "a").stat().st_mtime_ns == MTIME_NS


def test_a_draft_that_is_whole_needs_no_request_for_content(to: Path) -> None:
    """The process died between the last look at it and its name."""
    store = FakeStore()
    put(store, "a", content(9 * PART))
    to.mkdir()
    (to / name_of_draft(store.store_id, "a")).write_bytes(content(9 * PART))
    assert restore(store, to).failures == []
    assert store.calls["get_object"] == 0
    assert tree(to) == {"a": content(9 * PART)}


def test_nothing_is_left_of_an_object_that_is_refused(to: Path) -> None:
    """No later restore would go on with it."""
    store = FakeStore()
    put(store, "a", content(9 * PART))
    store.fail("get_object", StoreRefused("archived"), times=None, when=lambda call: call.nth > 3)
    report = restore(store, to, concurrency=1)
    assert reasons(report) == {"a": "archived"}
    assert os.listdir(to) == []
