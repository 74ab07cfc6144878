"""Listings of objects: pages, what each provider's answers mean, and the walk through a directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import StoreUnavailable
from syncd.core.model import ObjectInfo, ObjectMeta
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import Clock, Pages
from syncd.storage.bos import bucket as bos_bucket
from syncd.storage.bos import values as bos_values
from syncd.storage.bos.bucket import Bucket as BosBucket
from syncd.storage.dir import listing as dir_listing
from syncd.storage.dir.listing import key_of
from syncd.storage.dir.store import DirStore
from syncd.storage.dir.tree import DISPLACED, ESCAPED, names_of
from syncd.storage.http.messages import Request, Response
from syncd.storage.retry import Retries, RetryingStore
from syncd.storage.s3 import xml as s3_xml
from syncd.storage.s3.bucket import Bucket as S3Bucket
from syncd.storage.s3.bucket import objects_request
from syncd.storage.s3.xml import Element, parse
from syncd.storage.settings import BosSettings, DirSettings, HttpSettings, S3Settings
from tests.support.store import FakeStore

META = ObjectMeta(of_bytes(b"x"), 0)
CLOCK = Clock(lambda: 0.0, lambda seconds: None, lambda: 0.5)


# ---- pages ------------------------------------------------------------------------------------------------


def test_pages_come_when_they_are_needed() -> None:
    """The first item costs one page."""
    asked: list[int | None] = []

    def fetch(marker: int | None) -> tuple[list[int], int | None]:
        asked.append(marker)
        at = marker or 0
        return list(range(at, at + 3)), at + 3 if at < 6 else None

    pages = Pages(fetch)
    assert next(pages) == 0
    assert asked == [None]
    assert list(pages) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert asked == [None, 3, 6]
    assert list(pages) == []


def test_an_empty_page_in_the_middle_is_not_the_end() -> None:
    """A server may filter after it has cut the page."""
    answers: dict[int | None, tuple[list[str], int | None]] = {None: ([], 1), 1: ([], 2), 2: (["a"], None)}
    assert list(Pages(answers.__getitem__)) == ["a"]


def test_a_page_that_failed_is_asked_for_again() -> None:
    """Nothing is lost and nothing told twice."""
    failures = [KeyError("once"), KeyError("twice")]

    def fetch(marker: int | None) -> tuple[list[int], int | None]:
        if marker == 1 and failures:
            raise failures.pop()
        return [marker or 0], (marker or 0) + 1 if (marker or 0) < 2 else None

    pages = Pages(fetch)
    assert next(pages) == 0
    for _ in range(2):
        with pytest.raises(KeyError):
            next(pages)
    assert list(pages) == [1, 2]


def test_a_marker_that_does_not_move_ends_the_list() -> None:
    """A server that repeats itself is not asked for ever."""
    assert list(Pages(lambda marker: (["a"], 5))) == ["a", "a"]


def test_a_retried_listing_repeats_the_page_not_the_list() -> None:
    """Long lists are not begun anew, and not read whole before their first item is told."""
    store = FakeStore(page_size=2)
    for number in range(6):
        store.put_object(f"k{number}", b"x", META)
    retrying = RetryingStore(store, CLOCK, retries=Retries(max_tries=3))
    store.fail("list_objects", StoreUnavailable("reset"), when=lambda call: call.number == 2, times=1)
    listed = retrying.list_objects("k")
    assert next(listed).key == "k0"
    assert store.calls["list_objects"] == 1
    assert [info.key for info in listed] == ["k1", "k2", "k3", "k4", "k5"]
    assert store.calls["list_objects"] == 4


def test_a_listing_that_goes_on_failing_says_so_and_can_go_on_later() -> None:
    """The promise of the protocol: an iterator that raised is where it was."""
    store = FakeStore(page_size=2)
    for number in range(4):
        store.put_object(f"k{number}", b"x", META)
    retrying = RetryingStore(store, CLOCK, retries=Retries(max_tries=2))
    listed = retrying.list_objects("")
    assert [next(listed).key, next(listed).key] == ["k0", "k1"]
    store.fail("list_objects", StoreUnavailable("reset"), times=2)
    with pytest.raises(StoreUnavailable):
        next(listed)
    assert [info.key for info in listed] == ["k2", "k3"]


# ---- S3 ---------------------------------------------------------------------------------------------------


def s3_bucket() -> S3Bucket:
    return S3Bucket(S3Settings(HttpSettings("http://127.0.0.1:9000"), "photos"))


def s3_page(content: str) -> Element:
    page = parse(f"<ListBucketResult>{content}</ListBucketResult>".encode())
    assert page is not None
    return page


def s3_entry(key: str, size: object = 5, etag: str = "&quot;e&quot;") -> str:
    return f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{etag}</ETag></Contents>"


def test_s3_is_asked_in_the_newer_way_for_keys_that_xml_can_hold() -> None:
    """Sorted as the signature wants it, with the marker of the page before."""
    bucket = s3_bucket()
    assert objects_request(bucket, "", None).query == (
        ("encoding-type", "url"),
        ("list-type", "2"),
    )
    request = objects_request(bucket, "a b/", ("continuation-token", "t/1"))
    assert request.path == "/photos"
    assert request.query == (
        ("continuation-token", "t/1"),
        ("encoding-type", "url"),
        ("list-type", "2"),
        ("prefix", "a b/"),
    )


def test_s3_tells_keys_sizes_and_etags() -> None:
    """Percent-encoded where it says so, as they are where not; without quotes."""
    encoded = s3_page("<EncodingType>url</EncodingType>" + s3_entry("p/a+b%2Bc%0A"))
    assert s3_xml.objects_page(encoded, "p/") == ([ObjectInfo("p/a b+c\n", 5, "e")], None)
    plain = s3_page(s3_entry("p/a+b%2B"))
    assert s3_xml.objects_page(plain, "p/") == ([ObjectInfo("p/a+b%2B", 5, "e")], None)


@pytest.mark.parametrize(
    ("end", "marker"),
    [
        ("", None),
        ("<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>", None),
        (
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            ("continuation-token", "t"),
        ),
        ("<IsTruncated>TRUE</IsTruncated>", ("start-after", "p/b")),
    ],
)
def test_s3_says_where_to_go_on(end: str, marker: tuple[str, str] | None) -> None:
    """Nothing said means that was all; more without a token means behind the last key."""
    page = s3_page(s3_entry("p/a") + s3_entry("p/b") + end)
    found = s3_xml.objects_page(page, "p/")
    assert found is not None
    assert found[1] == marker


def test_s3_that_has_more_but_lists_nothing_is_at_its_end() -> None:
    """There is nothing to go on from."""
    assert s3_xml.objects_page(s3_page("<IsTruncated>true</IsTruncated>"), "") == ([], None)


def test_s3_that_ignores_the_prefix_is_filtered() -> None:
    """What is not ours is not told."""
    page = s3_page(s3_entry("p/a") + s3_entry("q/a"))
    assert s3_xml.objects_page(page, "p/") == ([ObjectInfo("p/a", 5, "e")], None)


@pytest.mark.parametrize("entry", [s3_entry(""), s3_entry("a", "many"), s3_entry("a", -1), s3_entry("a", "")])
def test_s3_that_makes_no_sense_is_not_believed(entry: str) -> None:
    """A list with a hole in it would look like a bucket with less in it."""
    assert s3_xml.objects_page(s3_page(entry), "") is None


# ---- BOS --------------------------------------------------------------------------------------------------

BOS = BosBucket(BosSettings(HttpSettings("https://bj.bcebos.com"), "photos"))


def bos_objects(members: dict[str, Any], after: tuple[str, str] | None = None) -> Any:
    request = bos_bucket.objects_request(BOS, "p/", after)
    response = Response(200, {}, json.dumps(members).encode())
    return bos_values.objects_page(members, "p/", request, response)


def test_bos_is_asked_by_the_only_way_that_it_has() -> None:
    """Version 1, a thousand at a time, from behind a marker."""
    assert bos_bucket.objects_request(BOS, "", None).query == (("maxKeys", "1000"),)
    request: Request = bos_bucket.objects_request(BOS, "p/", ("marker", "p/k"))
    assert request.query == (("maxKeys", "1000"), ("prefix", "p/"), ("marker", "p/k"))


def test_bos_tells_keys_sizes_and_etags() -> None:
    """Whatever is not one of them is no object; numbers may be text."""
    members = {
        "contents": [
            {"key": "p/a", "size": 5, "eTag": "e1"},
            {"key": "p/b", "size": "6", "eTag": '"e2"'},
            {"key": "q/c", "size": 7, "eTag": "e3"},
            {"size": 7},
            "nonsense",
        ]
    }
    assert bos_objects(members) == ([ObjectInfo("p/a", 5, "e1"), ObjectInfo("p/b", 6, "e2")], None)
    assert bos_objects({}) == ([], None)


def test_bos_goes_on_behind_its_marker_or_its_last_key() -> None:
    """With ``nextMarker`` where there is one."""
    entry = {"key": "p/a", "size": 5, "eTag": "e"}
    assert bos_objects({"contents": [entry], "isTruncated": True, "nextMarker": "p/x"})[1] == (
        "marker",
        "p/x",
    )
    assert bos_objects({"contents": [entry], "isTruncated": "true"})[1] == ("marker", "p/a")


@pytest.mark.parametrize("marker", ["", "p/k"])
def test_bos_that_does_not_move_is_an_error_not_an_end(marker: str) -> None:
    """It says that there is more: a list that is cut off must not look whole."""
    with pytest.raises(StoreUnavailable):
        bos_objects({"isTruncated": True, "nextMarker": marker}, ("marker", "p/k"))


# ---- a directory ------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mirror"
    root.mkdir()
    return root


@pytest.fixture
def store(root: Path) -> Iterator[DirStore]:
    store = DirStore(DirSettings(str(root)))
    yield store
    store.close()


def keys(store: DirStore, prefix: str = "") -> list[str]:
    return sorted(info.key for info in store.list_objects(prefix))


_pieces = st.sampled_from(["a", "é", ".", "~", DISPLACED.decode(), ESCAPED.decode(), "-object~"])
_component = st.lists(_pieces, min_size=1, max_size=4).map("".join)


@given(st.lists(_component | st.just(".syncd"), min_size=1, max_size=4).map("/".join))
def test_the_path_of_every_key_leads_back_to_it(key: str) -> None:
    """What `names_of` makes of a key, `key_of` undoes."""
    if not any(part in (".", "..") for part in key.split("/")):
        assert key_of(names_of(key)) == key


@pytest.mark.parametrize(
    "names",
    [
        (b".syncd",),
        (b"a" + DISPLACED,),
        (b"a" + ESCAPED,),
        (b"a" + ESCAPED, b"b"),
        (b"a", b".syncd" + ESCAPED),
        (b"\xff",),
    ],
)
def test_a_path_that_no_key_has_is_no_object(names: tuple[bytes, ...]) -> None:
    """Our own directory, our own additions in the wrong place, names that are not UTF-8."""
    assert key_of(names) is None


def test_only_objects_are_listed(store: DirStore, root: Path) -> None:
    """No links, sockets, FIFOs, directories, unfinished uploads, nor what is ours alone."""
    store.put_object("d/a", b"x", META)
    store.create_multipart_upload("d/unfinished", META)
    (root / "link").symlink_to(root / "d" / "a")
    (root / "linked").symlink_to(root / "d")
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "socket"))
    (root / os.fsdecode(b"\xff")).write_text("x")
    assert keys(store) == ["d/a"]


def test_an_object_beside_a_directory_of_its_name_is_listed_once(store: DirStore) -> None:
    """Wherever it lies."""
    store.put_object("a", b"1", META)
    store.put_object("a/b", b"2", META)
    store.put_object("c/d", b"3", META)
    store.put_object("c", b"4", META)
    store.put_object("e.~syncd-name~", b"5", META)
    store.put_object("e.~syncd-name~/f", b"6", META)
    expected = ["a", "a/b", "c", "c/d", "e.~syncd-name~", "e.~syncd-name~/f"]
    assert keys(store) == expected


def test_an_older_version_that_is_about_to_go_is_not_listed_twice(store: DirStore, root: Path) -> None:
    """Whoever died between two steps left both."""
    store.put_object("a", b"new", META)
    (root / os.fsdecode(b"a" + DISPLACED)).write_text("old")
    assert [(info.key, info.size) for info in store.list_objects("")] == [("a", 3)]


def test_a_file_put_there_by_hand_has_no_etag_until_it_is_read(store: DirStore, root: Path) -> None:
    """A listing reads no content."""
    (root / "by-hand").write_text("12345")
    store.put_object("ours", b"x", META)
    found = {info.key: info for info in store.list_objects("")}
    assert found["by-hand"] == ObjectInfo("by-hand", 5, "")
    known = store.head_object("ours")
    assert known is not None
    assert found["ours"] == ObjectInfo("ours", 1, known.etag)


def test_a_large_directory_comes_in_pages(store: DirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, also when objects come and go between two pages."""
    monkeypatch.setattr(dir_listing, "PAGE", 3)
    expected = [f"d{number}/f{index}" for number in range(3) for index in range(7)]
    for key in expected:
        store.put_object(key, b"x", META)
    assert keys(store) == expected
    listed = store.list_objects("")
    first = next(listed).key
    store.delete_object("d2/f6")
    store.delete_object(first)
    assert sorted([first, *(info.key for info in listed)]) == expected[:-1]


def test_a_directory_that_goes_away_under_the_walk_is_passed_over(
    store: DirStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was in it."""
    monkeypatch.setattr(dir_listing, "PAGE", 1)
    for key in ("a/1", "a/2", "b/1", "c"):
        store.put_object(key, b"x", META)
    listed = store.list_objects("")
    assert next(listed).key == "c"
    assert next(listed).key == "b/1"
    (root / "a").rename(root.parent / "moved")
    assert list(listed) == []


def test_a_directory_that_cannot_be_read_is_an_error_not_a_shorter_list(
    store: DirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the list goes on when it can be read again."""
    store.put_object("a/1", b"x", META)
    store.put_object("b/1", b"x", META)
    real = os.listdir
    failures = [OSError(5, "Input/output error")]

    def failing(fd: Any) -> list[str]:
        if failures and os.readlink(f"/proc/self/fd/{fd}").endswith("/a"):
            raise failures.pop()
        return real(fd)

    monkeypatch.setattr(os, "listdir", failing)
    listed = store.list_objects("")
    with pytest.raises(StoreUnavailable):
        list(listed)
    assert [info.key for info in listed] == ["b/1", "a/1"]


def test_no_descriptor_is_left_open_by_a_listing(store: DirStore) -> None:
    """Whether it is read to its end or not."""
    for number in range(20):
        store.put_object(f"d{number}/a", b"x", META)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        next(store.list_objects(""))
        list(store.list_objects("d1"))
    assert len(os.listdir("/proc/self/fd")) == before


# ---- a directory that may be made -------------------------------------------------------------------------


def test_a_root_is_made_where_the_settings_say_so(tmp_path: Path) -> None:
    """The directory, not those above it."""
    store = DirStore(DirSettings(str(tmp_path / "new"), create=True))
    assert store.head_object("a") is None
    assert (tmp_path / "new").is_dir()
    deep = DirStore(DirSettings(str(tmp_path / "not" / "there"), create=True))
    with pytest.raises(StoreUnavailable, match="not there"):
        deep.put_object("a", b"x", META)
    assert not (tmp_path / "not").exists()


def test_a_root_that_was_there_and_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """A disk was unplugged: an empty directory in its place would take everything anew."""
    store = DirStore(DirSettings(str(tmp_path / "new"), create=True))
    store.put_object("a", b"x", META)
    (tmp_path / "new").rename(tmp_path / "unplugged")
    with pytest.raises(StoreUnavailable):
        store.put_object("b", b"x", META)
    assert not (tmp_path / "new").exists()


def test_a_place_in_the_mount_table_is_not_made_before_it_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the settings say that it may."""
    table = tmp_path / "fstab"
    table.write_text(f"server:/export {tmp_path}/nas nfs defaults 0 0\n")
    monkeypatch.setattr("syncd.storage.dir.root.MOUNT_TABLE", str(table))
    store = DirStore(DirSettings(str(tmp_path / "nas"), create=True))
    with pytest.raises(StoreUnavailable, match="not mounted"):
        store.put_object("a", b"x", META)
    assert not (tmp_path / "nas").exists()


def test_a_file_in_the_place_of_a_root_is_left_alone(tmp_path: Path) -> None:
    """It is no directory, and nothing is made of it."""
    (tmp_path / "new").write_text("x")
    store = DirStore(DirSettings(str(tmp_path / "new"), create=True))
    with pytest.raises(StoreUnavailable):
        store.put_object("a", b"x", META)
    assert (tmp_path / "new").read_text() == "x"
