"""One suite for all stores: what `ObjectStore` promises, asked of every implementation.

The stores and their declared deviations (``subject.quirk``) are in `tests.contract.subjects`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from syncd.cli.check import conditions
from syncd.core.errors import (
    AccessRefused,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Attributes, Fingerprint, ObjectInfo, ObjectMeta, Part, Properties
from syncd.core.paths import LINK
from syncd.storage.attributes import fitting
from syncd.storage.base import Digests, ObjectStore, ProbesDigests
from tests.contract.subjects import (
    BUCKET,
    LACKING,
    QUIRKS,
    BosSubject,
    DirSubject,
    FakeSubject,
    HttpSubject,
    S3Subject,
    Subject,
    without_extended_attributes,
)
from tests.support.bos_server import BosServer
from tests.support.servers import EXAMINED, S3Server

MTIME_NS = 1_234_567_890_123_456_789

ODD_NAMES = {
    "spaces": "  a  b ",
    "plus": "a+b",
    "percent": "100%",
    "percent-encoded": "a%20b%2Fc%2B",
    "hash": "a#b",
    "question mark": "a?b=c",
    "ampersand": "a&b;c",
    "quotes": "'single' \"double\" `back`",
    "brackets": "<a>&lt;{b}[c]",
    "newline": "a\nb",
    "carriage return": "a\r\nb",
    "tab": "a\tb",
    "escape": "a\x1bb",
    "backslash": "a\\b",
    "star and pipe": "a*b|c:d",
    "tilde dot": "~.a..b~",
    "not ASCII": "naïve-Ωmega-文件",
    "outside the basic plane": "🎞️.mov",
    "combining": "e\u0301 and \u00e9",
    "leading dash": "-rf",
    "equals": "uploads=1",
    "dot file": ".hidden",
    "low line": "_",
    "two slashes": "a//b",
    "trailing slash": "a/",
    "dot segment": "a/./b",
    "dot dot segment": "a/../b",
}
ENCODED = {"percent-encoded", "newline", "carriage return", "tab"}
"""Names that a server may sign otherwise."""

THIRD_PARTIES = [pytest.param(name, marks=pytest.mark.real_server) for name in EXAMINED]


@pytest.fixture(params=["fake", "dir", "dir-sidecars", *THIRD_PARTIES, "bos"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """Each store in turn, on a place of its own."""
    made = make_subject(request.param, request)
    yield made
    made.close()


@pytest.fixture
def store(subject: Subject) -> ObjectStore:
    """A client of the store."""
    return subject.open()


@pytest.fixture(params=[*THIRD_PARTIES, "bos"])
def http_subject(request: pytest.FixtureRequest) -> Iterator[HttpSubject]:
    """Each store behind HTTP in turn."""
    made = make_subject(request.param, request)
    assert isinstance(made, HttpSubject)
    yield made
    made.close()


def make_subject(name: str, request: pytest.FixtureRequest) -> Subject:
    if name == "fake":
        return FakeSubject()
    if name.startswith("dir"):
        if name == "dir-sidecars":
            without_extended_attributes(request.getfixturevalue("monkeypatch"))
        return DirSubject(name, request.getfixturevalue("tmp_path"))
    if name == "bos":
        own: BosServer = request.getfixturevalue("bos_server")
        own.disk.create(BUCKET)
        return BosSubject(own)
    server: S3Server = request.getfixturevalue("third_party")(name)
    if BUCKET not in server.buckets():
        server.make_bucket(BUCKET)
    return S3Subject(server)


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere."""
    return random.Random(f"{size}-{seed}").randbytes(size)


def meta_of(body: bytes, token: str = "token-1") -> ObjectMeta:
    content = Fingerprint(xxhash.xxh3_128_digest(body), len(body))
    return ObjectMeta(content, MTIME_NS, token, "text/plain", instance=f"writer of {token}")


def put(store: ObjectStore, key: str, body: bytes, token: str = "token-1") -> str:
    return store.put_object(key, body, meta_of(body, token)).etag


def whole(store: ObjectStore, key: str) -> bytes:
    """An object as `get_object` gives it, in two ranges where it has four bytes."""
    info = found(store, key)
    if info.size == 0:
        return b""
    middle = info.size // 2 if info.size > 3 else 0
    room = memoryview(bytearray(info.size - middle))  # of use for large answers
    tail = store.get_object(key, middle, info.size - 1, "", room).body
    return (bytes(store.get_object(key, 0, middle - 1).body) if middle else b"") + bytes(tail)


def needs_metadata(subject: Subject) -> None:
    """End the test where objects have none."""
    if reason := subject.quirk("keeps no metadata"):
        store, key = subject.open(), subject.key("bare")
        put(store, key, b"x")
        assert found(store, key).token is None
        pytest.skip(f"{subject.name} keeps no metadata: {reason}")


def found(store: ObjectStore, key: str) -> ObjectInfo:
    info = store.head_object(key)
    assert info is not None
    return info


def blocks(subject: Subject, *sizes: int) -> list[bytes]:
    """Bodies of parts: sizes are multiples of the smallest part that is allowed, negative ones are bytes."""
    return [content(size * subject.part_size if size > 0 else -size, seed) for seed, size in enumerate(sizes)]


def send_all(store: ObjectStore, key: str, upload_id: str, bodies: list[bytes]) -> list[Part]:
    return [store.upload_part(key, upload_id, number, body) for number, body in enumerate(bodies, 1)]


def begin(store: ObjectStore, key: str, bodies: list[bytes], token: str = "token-1") -> str:
    return store.create_multipart_upload(key, meta_of(b"".join(bodies), token))


def complete(
    store: ObjectStore,
    key: str,
    upload_id: str,
    parts: list[Part],
    bodies: list[bytes],
    token: str = "token-1",
) -> str:
    receipt = store.complete_multipart_upload(key, upload_id, parts, meta_of(b"".join(bodies), token))
    assert receipt.key == key
    return receipt.etag


def test_every_declared_quirk_is_one_that_is_asked_for() -> None:
    """A quirk that no test knows would excuse nothing, and hide a mistake in its name."""
    source = Path(__file__).read_text()
    by_name = {
        f"{verb} {kind}"
        for verb in ("refuses", "no uploads of", "hides uploads of", "does not copy from")
        for kind in ODD_NAMES
    } | {f"loses tags of {verb}" for verb in ("complete", "copy")}
    by_name |= {*LACKING.values(), *(f"lists {kind} under another key" for kind in ODD_NAMES)}
    declared = {name for quirks in QUIRKS.values() for name in quirks}
    assert {name for name in declared - by_name if f'quirk("{name}")' not in source} == set()


# ---- whole objects ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4096, 65537, 300_001])
def test_what_was_put_is_what_is_got(store: ObjectStore, subject: Subject, size: int) -> None:
    """An object has the bytes that were put, whatever asks for them."""
    key, body = subject.key("file.bin"), content(size)
    put(store, key, body)
    assert whole(store, key) == body
    assert subject.fetch(key) in (body, None)


def test_an_empty_object_is_an_object(store: ObjectStore, subject: Subject) -> None:
    """Nothing can be stored, and is found as an object of no bytes."""
    etag = put(store, subject.key("empty"), b"")
    info = found(store, subject.key("empty"))
    assert (info.size, info.etag) == (0, etag)


def test_an_absent_object_has_no_head(store: ObjectStore, subject: Subject) -> None:
    """Asking for what is not there is no error."""
    assert store.head_object(subject.key("absent")) is None
    assert store.head_object(subject.key("absent/below")) is None


def test_metadata_comes_back(store: ObjectStore, subject: Subject) -> None:
    """Fingerprint, mtime to the nanosecond, token and writer travel with the object."""
    needs_metadata(subject)
    key, body = subject.key("file"), content(1000)
    etag = put(store, key, body, "a-Token_09")
    info = found(store, key)
    assert (info.key, info.size, info.etag) == (key, 1000, etag)
    assert (info.digest, info.mtime_ns, info.token) == (xxhash.xxh3_128_digest(body), MTIME_NS, "a-Token_09")
    assert info.instance == "writer of a-Token_09"


PROPERTIES = Properties("text/css", "max-age=60, public", "gzip", 'inline; filename="a b.css"')
TAGS = {"site": "www", "who": "a b/c"}


@pytest.mark.parametrize("verb", ["put", "complete", "copy"])
def test_properties_go_with_every_way_to_an_object(store: ObjectStore, subject: Subject, verb: str) -> None:
    """And are replaced by a copy that says so. A directory keeps none of them, and tells none."""
    needs_metadata(subject)
    key, body = subject.key("file.css"), content(1000)
    has_tags = subject.quirk("has no tags") is None
    said = replace(PROPERTIES, tags=tuple(TAGS.items()) if has_tags else None)
    meta = replace(meta_of(body), content_type="text/css", properties=said)
    if verb == "put":
        store.put_object(key, body, meta)
    elif verb == "complete":
        upload_id = store.create_multipart_upload(key, meta)
        store.complete_multipart_upload(key, upload_id, [store.upload_part(key, upload_id, 1, body)], meta)
    else:
        tags = (("old", "1"),) if has_tags else None
        old = replace(meta, properties=Properties(cache_control="no-store", tags=tags))
        store.copy_object(key, key, meta, store.put_object(key, body, old).etag)
    if verb == "copy" and subject.quirk("copies metadata along"):
        assert found(store, key).stamp == old.properties.stamp
        return
    assert found(store, key).stamp == ("" if subject.name.startswith("dir") else said.stamp)
    assert whole(store, key) == body
    headers = subject.headers(key)
    if subject.quirk("forgets headers"):
        assert headers == {"content-type": "text/css"}
        return
    assert headers is None or headers == {
        "content-type": "text/css",
        "cache-control": PROPERTIES.cache_control,
        "content-encoding": "gzip",
        "content-disposition": PROPERTIES.content_disposition,
    }
    lost = subject.quirk(f"loses tags of {verb}") is not None
    if has_tags and headers is not None:
        assert subject.tags(key) == ({} if lost else TAGS)


def test_what_another_program_gave_an_object_stays_in_a_copy(store: ObjectStore, subject: Subject) -> None:
    """Its metadata, and those of its headers that the store keeps. A directory tells none of them."""
    needs_metadata(subject)
    key, body = subject.key("file.css"), content(1000)
    others = (("/content-language", "de"), ("/expires", "Fri, 13 Feb 2099 23:31:30 GMT"), ("author", "a b"))
    etag = store.put_object(key, body, replace(meta_of(body), others=others)).etag
    there = found(store, key).others
    if subject.name.startswith("dir"):
        assert there == ()
        return
    assert ("author", "a b") in there
    store.copy_object(key, key, replace(meta_of(body, "second"), others=there), etag)
    assert found(store, key).others == there


ATTRIBUTES = Attributes(
    0o4751,
    4_000_000_000,
    0,
    "jürgen",
    "staff a=b&c",
    (
        ("security.capability", bytes(range(20))),
        ("user.Capital", b"1"),
        ("user.a b\u00fc\udcff", b"\xff\x00" * 40),
        ("user.empty", b""),
        ("user.folded", b"two  blanks"),
        ("user.long", b"x" * 251),
        ("user.mime_type", b"text/plain"),
        ("user.mtime", b"no time"),
        ("user.xdg.origin.url", b"https://example.org/?a=%20b, c"),
    ),
)


@pytest.mark.parametrize("verb", ["put", "complete", "copy"])
def test_attributes_go_with_every_way_to_an_object(store: ObjectStore, subject: Subject, verb: str) -> None:
    """Whatever bytes they hold; a copy has those that are given with it."""
    needs_metadata(subject)
    key, body = subject.key("file"), content(1000)
    meta = replace(meta_of(body), attributes=ATTRIBUTES)
    old = replace(meta, attributes=Attributes(0o600, xattrs=(("user.old", b"1"),)))
    assert fitting(ATTRIBUTES, store.limits.max_xattr_bytes) == (ATTRIBUTES, [])
    if verb == "put":
        store.put_object(key, body, meta)
    elif verb == "complete":
        upload_id = store.create_multipart_upload(key, meta)
        store.complete_multipart_upload(key, upload_id, [store.upload_part(key, upload_id, 1, body)], meta)
    else:
        store.copy_object(key, key, meta, store.put_object(key, body, old).etag)
    expected = old.attributes if verb == "copy" and subject.quirk("copies metadata along") else ATTRIBUTES
    assert found(store, key).attributes == expected
    assert store.get_object(key, 0, 999).info.attributes == expected


def test_a_link_is_an_object_that_says_so(store: ObjectStore, subject: Subject) -> None:
    """Wherever it leads to; it lies beside what has its name, is replaced, listed and deleted."""
    needs_metadata(subject)
    key, target = subject.key("sub/a \u00fc" + LINK), b"../\xff/nowhere at all"
    attributes = Attributes(uid=4242, gid=4243)
    meta = replace(meta_of(target, "token"), is_link=True, attributes=attributes)
    etag = store.put_object(key, target, meta).etag
    info = found(store, key)
    assert (info.is_link, info.etag, info.size, info.attributes) == (True, etag, len(target), attributes)
    assert (info.digest, info.mtime_ns, info.token) == (meta.fingerprint.digest, MTIME_NS, "token")
    assert whole(store, key) == target
    assert store.get_object(key, 3, 3, etag).body == b"\xff"
    other = replace(meta_of(b"/", "other"), is_link=True)
    etag = store.put_object(key, b"/", other).etag
    put(store, subject.key("sub/b"), b"file")
    assert whole(store, key) == b"/"
    listed = {each.key: (each.size, each.etag) for each in store.list_objects(subject.key("sub/"))}
    assert listed[key] == (1, etag)
    assert not found(store, subject.key("sub/b")).is_link
    store.delete_object(key)
    assert store.head_object(key) is None
    assert [each.key for each in store.list_objects(subject.key("sub/"))] == [subject.key("sub/b")]


def test_a_folder_is_an_object_beside_what_is_in_it(store: ObjectStore, subject: Subject) -> None:
    """Empty or not; it is put, described, listed and deleted like any other, and nothing goes with it."""
    key, inside = subject.key("sub/a \u00fc/"), subject.key("sub/a \u00fc/b")
    meta = replace(meta_of(b"", "token"), is_folder=True, attributes=Attributes(0o2770))
    if not subject.name.startswith("dir") and subject.quirk("refuses trailing slash"):
        with pytest.raises(StoreRefused):
            store.put_object(key, b"", meta)
        return
    if subject.quirk("lists objects without their trailing slash"):
        store.put_object(key, b"", meta)
        assert [each.key for each in store.list_objects(key[:-1])] == [key[:-1]]
        return
    etag = store.put_object(key, b"", meta).etag
    for _ in range(2):
        info = found(store, key)
        assert (info.etag, info.size) == (etag, 0)
        if not subject.quirk("keeps no metadata"):
            assert (info.digest, info.mtime_ns, info.token) == (meta.fingerprint.digest, MTIME_NS, "token")
            assert info.attributes == meta.attributes
        assert key in {each.key for each in store.list_objects(subject.key("sub/"))}
        put(store, inside, b"file")
    store.delete_object(inside)
    assert [each.key for each in store.list_objects(subject.key("sub/"))] == [key]
    put(store, inside, b"file")
    store.delete_object(key)
    assert store.head_object(key) is None
    assert [each.key for each in store.list_objects(subject.key("sub/"))] == [inside]
    store.delete_object(inside)
    assert list(store.list_objects(subject.key("sub/"))) == []


@pytest.mark.parametrize("mtime_ns", [0, 1, -1, 999_999_999, -1_500_000_000, 4_102_444_800_000_000_001])
def test_any_mtime_comes_back(store: ObjectStore, subject: Subject, mtime_ns: int) -> None:
    """Files may be from before 1970, from the far future, or from the epoch itself."""
    needs_metadata(subject)
    meta = ObjectMeta(Fingerprint(xxhash.xxh3_128_digest(b"x"), 1), mtime_ns, "t")
    store.put_object(subject.key("file"), b"x", meta)
    assert found(store, subject.key("file")).mtime_ns == mtime_ns


def test_put_replaces_what_was_there(store: ObjectStore, subject: Subject) -> None:
    """The second object takes the place of the first, with everything that belongs to it."""
    needs_metadata(subject)
    key = subject.key("file")
    first = put(store, key, content(5000), "one")
    second = put(store, key, content(100, seed=1), "two")
    assert first != second
    info = found(store, key)
    assert (info.size, info.etag, info.token) == (100, second, "two")
    assert whole(store, key) == content(100, seed=1)


def test_it_is_found_out_whether_objects_are_replaced_on_a_condition(
    store: ObjectStore, subject: Subject, tmp_path: Path
) -> None:
    """As `syncd check --thorough` does it; uploads rely on what it finds."""
    found: list[tuple[bool | None, str]] = []
    conditions.examine(
        store, "", subject.key(""), str(tmp_path), lambda name, passed, detail: found.append((passed, detail))
    )
    assert found == [(None if subject.quirk("has no conditions") else True, found[0][1])]


@pytest.mark.parametrize("verb", ["put", "complete"])
def test_an_object_is_replaced_only_on_its_condition(store: ObjectStore, subject: Subject, verb: str) -> None:
    """Where a store has conditions: what was seen is replaced, anything else is not, nor is it touched."""
    if reason := subject.quirk("has no conditions"):
        pytest.skip(reason)
    key, body = subject.key("file"), content(100, seed=1)
    etag = put(store, key, content(100))

    def make(replaces: str) -> str:
        meta = replace(meta_of(body), replaces=replaces)
        if verb == "put":
            return store.put_object(key, body, meta).etag
        upload_id = store.create_multipart_upload(key, meta)
        part = store.upload_part(key, upload_id, 1, body)
        return store.complete_multipart_upload(key, upload_id, [part], meta).etag

    for wrong in ("", "0123456789abcdef0123456789abcdef"):
        with pytest.raises(PreconditionFailed):
            make(wrong)
        assert found(store, key).etag == etag
    made = make(etag)
    assert (found(store, key).etag, whole(store, key)) == (made, body)
    store.delete_object(key)
    with pytest.raises(PreconditionFailed):
        make(made)
    make("")
    assert whole(store, key) == body


def test_the_same_bytes_may_be_put_again(store: ObjectStore, subject: Subject) -> None:
    """Repeating a put whose answer was lost does no harm."""
    key, body = subject.key("file"), content(100)
    put(store, key, body)
    etag = put(store, key, body)
    assert (found(store, key).etag, whole(store, key)) == (etag, body)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda body: memoryview(b"xx" + body)[2:]])
def test_a_body_may_be_any_kind_of_bytes(
    store: ObjectStore, subject: Subject, kind: Callable[[bytes], bytes]
) -> None:
    """Slices of a reused buffer are sent as they are."""
    body = content(70_000)
    store.put_object(subject.key("file"), kind(body), meta_of(body))
    assert whole(store, subject.key("file")) == body


def test_a_range_has_both_its_ends(store: ObjectStore, subject: Subject) -> None:
    """First and last byte are included; what lies beyond the end is left out."""
    put(store, subject.key("file"), b"0123456789")
    if subject.quirk("mistakes a range that ends at the first byte"):
        with pytest.raises(StoreUnavailable):
            store.get_object(subject.key("file"), 0, 0)
    else:
        assert store.get_object(subject.key("file"), 0, 0).body == b"0"
    assert store.get_object(subject.key("file"), 3, 5).body == b"345"
    assert store.get_object(subject.key("file"), 9, 9).body == b"9"
    if subject.quirk("refuses ranges beyond the end"):
        with pytest.raises(StoreRefused):
            store.get_object(subject.key("file"), 7, 100)
        return
    assert store.get_object(subject.key("file"), 7, 100).body == b"789"


def test_a_range_tells_what_it_is_of(store: ObjectStore, subject: Subject) -> None:
    """The answer that carries bytes names the whole object: size, ETag, and the metadata of ours."""
    needs_metadata(subject)
    etag = put(store, subject.key("file"), b"0123456789", "a-Token_09")
    beyond = 9 if subject.quirk("refuses ranges beyond the end") else 100
    for first, last in ((0, 9), (2, 4), (7, beyond)):
        info = store.get_object(subject.key("file"), first, last).info
        assert (info.key, info.size, info.etag) == (subject.key("file"), 10, etag)
        assert (info.digest, info.mtime_ns) == (xxhash.xxh3_128_digest(b"0123456789"), MTIME_NS)
        assert info.token == "a-Token_09"
        assert info.md5 in (None, hashlib.md5(b"0123456789").digest())


def test_ranges_are_of_one_object_or_refused(store: ObjectStore, subject: Subject) -> None:
    """With the ETag of what is there a range is given; with that of what was there it is not."""
    key = subject.key("file")
    old = put(store, key, b"0123456789")
    assert store.get_object(key, 0, 4, old).body == b"01234"
    new = put(store, key, b"abcdefghij", "token-2")
    with pytest.raises(PreconditionFailed):
        store.get_object(key, 5, 9, old)
    assert store.get_object(key, 5, 9, new).body == b"fghij"


def test_ranges_of_a_joined_object_are_of_one_object(store: ObjectStore, subject: Subject) -> None:
    """The ETag that HEAD tells of an object made of parts is the one that its ranges are asked for by; it is
    not taken for an MD5 where it is none."""
    needs_metadata(subject)
    key, bodies = subject.key("joined"), blocks(subject, 1, -100)
    upload_id = begin(store, key, bodies)
    complete(store, key, upload_id, send_all(store, key, upload_id, bodies), bodies)
    info = found(store, key)
    content = store.get_object(key, 10, info.size - 1, info.etag, memoryview(bytearray(info.size - 10)))
    assert content.body == b"".join(bodies)[10:]
    assert content.info.digest == info.digest == xxhash.xxh3_128_digest(b"".join(bodies))
    assert info.md5 in (None, hashlib.md5(b"".join(bodies)).digest())


def test_reading_what_is_not_there_is_refused(store: ObjectStore, subject: Subject) -> None:
    """An absent object, and bytes that an object does not have, are refusals for this object alone."""
    put(store, subject.key("file"), b"0123456789")
    for key, first in ((subject.key("absent"), 0), (subject.key("file"), 10)):
        with pytest.raises(StoreRefused) as refusal:
            store.get_object(key, first, first + 5)
        assert not isinstance(refusal.value, AccessRefused)


def test_deleting_twice_is_done_twice(store: ObjectStore, subject: Subject) -> None:
    """After a delete the object is gone; deleting what is not there is done as well."""
    put(store, subject.key("file"), b"x")
    store.delete_object(subject.key("file"))
    assert store.head_object(subject.key("file")) is None
    store.delete_object(subject.key("file"))
    store.delete_object(subject.key("never/was"))


def test_a_key_may_be_used_again_after_a_delete(store: ObjectStore, subject: Subject) -> None:
    """A file that comes back comes back."""
    put(store, subject.key("file"), b"old")
    store.delete_object(subject.key("file"))
    put(store, subject.key("file"), b"newer")
    assert whole(store, subject.key("file")) == b"newer"


def test_the_store_is_for_many_threads(store: ObjectStore, subject: Subject) -> None:
    """Eight threads put, look and read at once; each finds its own."""

    def work(number: int) -> bytes:
        put(store, subject.key(f"file-{number}"), content(10_000, number))
        return whole(store, subject.key(f"file-{number}"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [content(10_000, number) for number in range(24)]


def test_the_identity_says_where_and_tells_no_secret(store: ObjectStore, subject: Subject) -> None:
    """Two clients on one place have one identity, and it holds no key."""
    assert store.store_id == subject.open().store_id
    if isinstance(subject, HttpSubject):
        keys = subject.settings().keys
        assert keys.secret_access_key not in store.store_id
        assert subject.settings().bucket in store.store_id


# ---- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ODD_NAMES)
def test_an_odd_name_is_kept_or_refused(store: ObjectStore, subject: Subject, kind: str) -> None:
    """Any name comes back as it is, by put and by multipart; or the store says no, and has nothing."""
    key = subject.key(ODD_NAMES[kind])
    if subject.quirk(f"refuses {kind}"):
        with pytest.raises(StoreError):
            put(store, key, b"odd")
        with suppress(StoreRefused):
            assert store.head_object(key) is None
        return
    etag = put(store, key, b"odd")
    assert found(store, key).key == key
    assert whole(store, key) == b"odd"
    assert subject.fetch(key) in (b"odd", None)
    if subject.quirk(f"does not copy from {kind}"):
        with pytest.raises(StoreError):
            store.copy_object(key, subject.key("plain"), meta_of(b"odd"), etag)
    else:
        store.copy_object(key, subject.key("plain"), meta_of(b"odd"), etag)
        assert whole(store, subject.key("plain")) == b"odd"
    if subject.quirk(f"no uploads of {kind}"):
        with pytest.raises(StoreError):
            begin(store, key, [b"even"])
        return
    upload_id = begin(store, key, [b"even"])
    parts = send_all(store, key, upload_id, [b"even"])
    assert [part.number for part in store.list_parts(key, upload_id)] == [1]
    complete(store, key, upload_id, parts, [b"even"])
    assert whole(store, key) == b"even"
    store.delete_object(key)
    assert store.head_object(key) is None


@pytest.mark.parametrize("kind", ODD_NAMES)
def test_an_upload_of_an_odd_name_is_listed(store: ObjectStore, subject: Subject, kind: str) -> None:
    """What lies unfinished under an odd name can be found, or it does at least not hide anything else."""
    begins = subject.quirk("begins uploads of what it refuses") and kind not in ENCODED
    if (subject.quirk(f"refuses {kind}") and not begins) or subject.quirk(f"no uploads of {kind}"):
        with pytest.raises(StoreError):
            store.create_multipart_upload(subject.key(ODD_NAMES[kind]), meta_of(b"x"))
        return
    key, plain = subject.key(ODD_NAMES[kind]), subject.key("plain")
    made = [(name, begin(store, name, [b"x"])) for name in (key, plain)]
    listed = [(upload.key, upload.upload_id) for upload in store.list_multipart_uploads(subject.key(""))]
    if subject.quirk(f"hides uploads of {kind}"):
        assert made[0] not in listed
        assert made[1] in listed
    else:
        assert sorted(listed) == sorted(made)
    for name, upload_id in made:
        store.abort_multipart_upload(name, upload_id)


def test_odd_names_are_all_different(store: ObjectStore, subject: Subject) -> None:
    """No two names lead to one object."""
    names = [name for kind, name in ODD_NAMES.items() if not subject.quirk(f"refuses {kind}")]
    for name in names:
        put(store, subject.key(name), name.encode())
    assert [whole(store, subject.key(name)).decode() for name in names] == names


def test_an_object_may_lie_beside_a_directory_of_its_name(store: ObjectStore, subject: Subject) -> None:
    """A file that became a directory leaves its object, and both are found; in either order."""
    if subject.quirk("no object beside a directory"):
        put(store, subject.key("a"), b"file")
        with pytest.raises(StoreError):
            put(store, subject.key("a/b"), b"below")
        return
    put(store, subject.key("a"), b"file")
    put(store, subject.key("a/b"), b"below")
    put(store, subject.key("c/d/e"), b"below")
    put(store, subject.key("c"), b"file")
    put(store, subject.key("c/d"), b"between")
    names = ("a", "a/b", "c", "c/d", "c/d/e")
    assert [whole(store, subject.key(name)) for name in names] == [
        b"file",
        b"below",
        b"file",
        b"between",
        b"below",
    ]
    store.delete_object(subject.key("a"))
    store.delete_object(subject.key("c/d/e"))
    left = [store.head_object(subject.key(name)) is not None for name in names]
    assert left == [False, True, True, True, False]


def test_a_key_of_the_greatest_length_is_kept(store: ObjectStore, subject: Subject) -> None:
    """The limit that a store states is one that it keeps to."""
    limit = store.limits.max_key_bytes
    directories = "/".join(["d" * 99] * 40)
    key = subject.key(directories)[: limit - 1] + "k"
    assert len(key) == limit
    put(store, key, b"deep")
    assert whole(store, key) == b"deep"


def test_a_key_that_is_too_long_is_refused(store: ObjectStore, subject: Subject) -> None:
    """One byte more than the limit is a refusal for this object, and leaves nothing."""
    key = subject.key("/".join(["d" * 99] * 40))[: store.limits.max_key_bytes] + "k"
    if reason := subject.quirk("takes longer keys"):
        put(store, key, b"x")
        assert whole(store, key) == b"x", reason
        return
    with pytest.raises(StoreRefused) as refusal:
        put(store, key, b"x")
    assert not isinstance(refusal.value, AccessRefused)
    if subject.quirk("begins uploads of longer keys"):
        store.abort_multipart_upload(key, store.create_multipart_upload(key, meta_of(b"x")))
        return
    with pytest.raises(StoreRefused):
        store.create_multipart_upload(key, meta_of(b"x"))


# ---- multipart uploads -----------------------------------------------------------------------------------


def test_parts_may_come_in_any_order_and_at_once(store: ObjectStore, subject: Subject) -> None:
    """Parts sent by several threads, the last first, make the object byte for byte."""
    needs_metadata(subject)
    key, bodies = subject.key("big.bin"), blocks(subject, 1, 1, 1, -4097)
    upload_id = begin(store, key, bodies)

    def send(number: int) -> Part:
        return store.upload_part(key, upload_id, number, bodies[number - 1])

    with ThreadPoolExecutor(3) as pool:
        parts = sorted(pool.map(send, [4, 3, 2, 1]), key=lambda part: part.number)
    assert store.head_object(key) is None
    etag = complete(store, key, upload_id, parts, bodies)
    info = found(store, key)
    assert (info.size, info.token) == (sum(map(len, bodies)), "token-1")
    assert info.instance == "writer of token-1"
    assert (info.etag == etag) == (subject.quirk("changes the ETag of joined objects") is None)
    assert (info.digest, info.mtime_ns) == (xxhash.xxh3_128_digest(b"".join(bodies)), MTIME_NS)
    assert whole(store, key) == b"".join(bodies)
    assert subject.fetch(key) in (b"".join(bodies), None)


def test_a_part_tells_what_was_sent(store: ObjectStore, subject: Subject) -> None:
    """The acknowledgement of a part has its number, its size and an ETag."""
    key, body = subject.key("big"), content(5000)
    part = store.upload_part(key, begin(store, key, [body]), 1, memoryview(body))
    assert (part.number, part.size) == (1, 5000)
    assert part.etag


def test_an_upload_of_one_part_is_an_object(store: ObjectStore, subject: Subject) -> None:
    """The only part is the last, and may be small."""
    key, bodies = subject.key("one"), [b"only"]
    upload_id = begin(store, key, bodies)
    complete(store, key, upload_id, send_all(store, key, upload_id, bodies), bodies)
    assert whole(store, key) == b"only"


def test_the_list_of_parts_is_what_was_sent(store: ObjectStore, subject: Subject) -> None:
    """Number, size and ETag of every part, in ascending order, whatever the order of sending."""
    key, bodies = subject.key("big"), [content(100 + number, number) for number in range(5)]
    upload_id = begin(store, key, bodies)
    assert store.list_parts(key, upload_id) == []
    sent = [store.upload_part(key, upload_id, number, bodies[number - 1]) for number in (5, 2, 4, 1, 3)]
    listed = store.list_parts(key, upload_id)
    expected = sorted((part.number, part.size, part.etag) for part in sent)
    assert [(part.number, part.size, part.etag) for part in listed] == expected


def test_a_part_that_is_sent_again_replaces_the_first(store: ObjectStore, subject: Subject) -> None:
    """The last part of a number counts; where the server refuses a second one, the first stays listed."""
    key, bodies = subject.key("big"), blocks(subject, 1, -100)
    upload_id = begin(store, key, bodies)
    old, last = send_all(store, key, upload_id, [content(subject.part_size, seed=99), bodies[1]])
    if subject.quirk("refuses a part that is sent again"):
        with pytest.raises(StoreError):
            store.upload_part(key, upload_id, 1, bodies[0])
        assert store.list_parts(key, upload_id)[0].etag == old.etag
        return
    new = store.upload_part(key, upload_id, 1, bodies[0])
    assert [part.etag for part in store.list_parts(key, upload_id)] == [new.etag, last.etag]
    complete(store, key, upload_id, [new, last], bodies)
    assert whole(store, key) == b"".join(bodies)


def test_an_upload_outlives_its_client(subject: Subject) -> None:
    """Another client finds the upload, lists its parts, sends what is missing and completes."""
    first = subject.open()
    key, bodies = subject.key("big"), blocks(subject, 1, 1, -10)
    upload_id = begin(first, key, bodies)
    send_all(first, key, upload_id, bodies[:1])
    second = subject.open()
    assert [upload.upload_id for upload in second.list_multipart_uploads(key)] == [upload_id]
    listed = second.list_parts(key, upload_id)
    assert [(part.number, part.size) for part in listed] == [(1, len(bodies[0]))]
    rest = [second.upload_part(key, upload_id, number, bodies[number - 1]) for number in (2, 3)]
    complete(second, key, upload_id, [*listed, *rest], bodies)
    assert whole(second, key) == b"".join(bodies)


def test_more_parts_than_a_page_are_all_listed(store: ObjectStore, subject: Subject) -> None:
    """A list of parts has every part, however many pages the server makes of it."""
    key, count = subject.key("many"), subject.many_parts
    upload_id = begin(store, key, [b"x"] * count)

    def send(number: int) -> str:
        return store.upload_part(key, upload_id, number, b"%d" % number).etag

    with ThreadPoolExecutor(8) as pool:
        etags = list(pool.map(send, range(1, count + 1)))
    listed = store.list_parts(key, upload_id)
    assert [part.number for part in listed] == list(range(1, count + 1))
    assert [part.etag for part in listed] == etags
    store.abort_multipart_upload(key, upload_id)


def test_a_gap_in_the_numbers_is_refused_or_closed(store: ObjectStore, subject: Subject) -> None:
    """Parts 1 and 3 alone either make an object of just these two, or none."""
    key, bodies = subject.key("gap"), blocks(subject, 1, -10)
    upload_id = begin(store, key, bodies)
    parts = [
        store.upload_part(key, upload_id, number, body) for number, body in zip((1, 3), bodies, strict=True)
    ]
    if subject.quirk("refuses gaps"):
        with pytest.raises(PartsRefused):
            complete(store, key, upload_id, parts, bodies)
        assert store.head_object(key) is None
        return
    complete(store, key, upload_id, parts, bodies)
    assert whole(store, key) == b"".join(bodies)


def test_parts_that_are_too_small_are_refused_or_taken(store: ObjectStore, subject: Subject) -> None:
    """A small part that is not the last: refused with that reason and nothing stored, or stored right."""
    key, bodies = subject.key("small"), [b"ab", b"cd", b"ef"]
    upload_id = begin(store, key, bodies)
    parts = send_all(store, key, upload_id, bodies)
    if store.limits.min_part_size <= 2 or subject.quirk("takes small parts"):
        complete(store, key, upload_id, parts, bodies)
        assert whole(store, key) == b"abcdef"
        return
    with pytest.raises(PartsRefused) as refusal:
        complete(store, key, upload_id, parts, bodies)
    assert refusal.value.too_small == (subject.quirk("does not say too small") is None)
    assert store.head_object(key) is None


def test_an_unknown_upload_is_gone(store: ObjectStore, subject: Subject) -> None:
    """Sending, listing and completing say that the upload is gone, after an abort and for unknown ids."""
    key = subject.key("big")
    aborted = begin(store, key, [b"x"])
    part = store.upload_part(key, aborted, 1, b"x")
    store.abort_multipart_upload(key, aborted)
    for upload_id in (aborted, "0123456789abcdef0123456789abcdef"):
        with pytest.raises(StoreUnavailable if subject.quirk("cannot say gone to a part") else UploadGone):
            store.upload_part(key, upload_id, 1, b"x")
        with pytest.raises(UploadGone):
            store.list_parts(key, upload_id)
        with pytest.raises(StoreUnavailable if subject.quirk("cannot say gone at complete") else UploadGone):
            complete(store, key, upload_id, [part], [b"x"])
    assert store.head_object(key) is None


def test_aborting_twice_is_done_twice(store: ObjectStore, subject: Subject) -> None:
    """After an abort the upload is gone; aborting it again, or one that never was, is done as well."""
    key = subject.key("big")
    upload_id = begin(store, key, [b"x"])
    store.upload_part(key, upload_id, 1, b"x")
    store.abort_multipart_upload(key, upload_id)
    store.abort_multipart_upload(key, upload_id)
    store.abort_multipart_upload(key, "0123456789abcdef0123456789abcdef")
    assert list(store.list_multipart_uploads(key)) == []


def test_uploads_are_listed_by_prefix(store: ObjectStore, subject: Subject) -> None:
    """All unfinished uploads below a prefix, also several of one key, and no others."""
    odd = "b c d" if subject.quirk("hides uploads of plus") else "b+c d"
    names = ["in/a", f"in/{odd}", f"in/{odd}", "in/z", "inside", "out"]
    made = sorted((subject.key(name), begin(store, subject.key(name), [b"x"])) for name in names)

    def listed(prefix: str) -> list[tuple[str, str]]:
        return sorted((upload.key, upload.upload_id) for upload in store.list_multipart_uploads(prefix))

    assert listed(subject.key("in/")) == [entry for entry in made if "/in/" in entry[0]]
    assert listed(subject.key(f"in/{odd}")) == [entry for entry in made if entry[0].endswith(odd)]
    assert listed(subject.key("nothing")) == []
    for key, upload_id in made:
        store.abort_multipart_upload(key, upload_id)
    assert listed(subject.key("")) == []


# ---- the list of objects ---------------------------------------------------------------------------------


def listed_objects(store: ObjectStore, prefix: str) -> list[ObjectInfo]:
    return sorted(store.list_objects(prefix), key=lambda info: info.key)


def test_objects_are_listed_by_prefix(store: ObjectStore, subject: Subject) -> None:
    """Key, size and ETag of what begins with the prefix, and of nothing else."""
    sizes = {"in/a": 0, "in/b/c": 10, "in/b/d+e f": 3, "inner": 4, "other": 5}
    etags = {name: put(store, subject.key(name), content(size, 1)) for name, size in sizes.items()}

    def expected(*names: str) -> list[ObjectInfo]:
        return [ObjectInfo(subject.key(name), sizes[name], etags[name]) for name in names]

    assert listed_objects(store, subject.key("in/")) == expected("in/a", "in/b/c", "in/b/d+e f")
    assert listed_objects(store, subject.key("in/b/d")) == expected("in/b/d+e f")
    assert listed_objects(store, subject.key("in")) == expected("in/a", "in/b/c", "in/b/d+e f", "inner")
    assert listed_objects(store, subject.key("nothing/")) == []


def test_a_list_begins_behind_a_key(store: ObjectStore, subject: Subject) -> None:
    """Whether there is an object of that key or not."""
    prefix = subject.key("behind/")
    odd = "d" if subject.quirk("skips keys behind another") else "é"
    keys = [prefix + name for name in ("b/1", "b/2", "b0", "c", odd)]
    for key in keys:
        put(store, key, b"x")
    for after in (prefix + name for name in ("b/1", "b/15", "b/zz", odd)):
        behind = sorted(info.key for info in store.list_objects(prefix, after))
        assert behind == [key for key in keys if key > after]


def test_more_objects_than_a_page_are_all_listed(store: ObjectStore, subject: Subject) -> None:
    """Every page is asked for; an unfinished upload is no object, a deleted object neither."""
    names = [f"many/{number:04}" for number in range(subject.many_parts)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: put(store, subject.key(name), b"x"), names))
    begin(store, subject.key("many/unfinished"), [b"x"])
    store.delete_object(subject.key(names.pop(1)))
    assert [info.key for info in listed_objects(store, subject.key("many/"))] == [
        subject.key(name) for name in names
    ]


@pytest.mark.parametrize("kind", ODD_NAMES)
def test_an_object_of_an_odd_name_is_listed(store: ObjectStore, subject: Subject, kind: str) -> None:
    """What can be stored is listed under its own key; one server has a page of HTML for what it cannot."""
    key = subject.key(f"odd-{ODD_NAMES[kind]}")
    if subject.quirk(f"refuses {kind}"):
        with pytest.raises(StoreError):
            put(store, key, b"x")
        return
    put(store, key, b"x")
    shown = key.rstrip("/") if subject.quirk("lists objects without their trailing slash") else key
    listed = [info.key for info in listed_objects(store, subject.key("odd-"))]
    assert (listed == [shown]) == (subject.quirk(f"lists {kind} under another key") is None)


def test_a_listing_goes_on_where_it_was(subject: Subject) -> None:
    """Two listings of one store do not disturb each other, and one may be left before its end."""
    store = subject.open()
    for number in range(5):
        put(store, subject.key(f"two/{number}"), b"x")
    first, second = store.list_objects(subject.key("two/")), store.list_objects(subject.key("two/"))
    begun = next(first).key
    assert len(list(second)) == 5
    assert {begun, *(info.key for info in first)} == {subject.key(f"two/{number}") for number in range(5)}
    assert next(first, None) is None


def test_the_old_object_stays_until_the_new_one_is_complete(store: ObjectStore, subject: Subject) -> None:
    """An upload shows nothing of itself before it is complete, and then everything."""
    needs_metadata(subject)
    key, bodies = subject.key("file"), blocks(subject, 1, -10)
    put(store, key, b"old")
    upload_id = begin(store, key, bodies, "token-2")
    parts = send_all(store, key, upload_id, bodies)
    assert whole(store, key) == b"old"
    complete(store, key, upload_id, parts, bodies, "token-2")
    assert (found(store, key).token, whole(store, key)) == ("token-2", b"".join(bodies))


def test_completing_again_after_a_lost_answer_is_told_apart(store: ObjectStore, subject: Subject) -> None:
    """The second complete says that the upload is gone, or succeeds again; the token tells it is ours."""
    needs_metadata(subject)
    key, bodies = subject.key("twice"), blocks(subject, 1, -10)
    upload_id = begin(store, key, bodies, "ours")
    parts = send_all(store, key, upload_id, bodies)
    etag = complete(store, key, upload_id, parts, bodies, "ours")
    if subject.quirk("completes again"):
        assert complete(store, key, upload_id, parts, bodies, "ours") == etag
    else:
        with pytest.raises(StoreError if subject.quirk("cannot say gone at complete") else UploadGone):
            complete(store, key, upload_id, parts, bodies, "ours")
    info = found(store, key)
    assert (info.token, info.size) == ("ours", sum(map(len, bodies)))
    assert whole(store, key) == b"".join(bodies)


def test_a_part_that_is_not_there_is_refused_at_complete(store: ObjectStore, subject: Subject) -> None:
    """Naming a part that was never sent, or another ETag than it has, makes no object."""
    key, bodies = subject.key("wrong"), blocks(subject, 1, -10)
    upload_id = begin(store, key, bodies)
    first, second = send_all(store, key, upload_id, bodies)
    if reason := subject.quirk("dies of a part that is not there"):
        pytest.skip(f"{subject.name}: {reason}")
    absent = Part(3, 10, second.etag)
    mistaken = Part(2, second.size, "0" * len(second.etag))
    with pytest.raises(PartsRefused):
        complete(store, key, upload_id, [first, second, absent], bodies)
    assert store.head_object(key) is None
    if subject.quirk("forgets an upload whose complete it refused"):
        with pytest.raises(UploadGone):
            store.list_parts(key, upload_id)
        return
    with pytest.raises(PartsRefused):
        complete(store, key, upload_id, [first, mistaken], bodies)
    assert store.head_object(key) is None
    complete(store, key, upload_id, [first, second], bodies)
    assert whole(store, key) == b"".join(bodies)


# ---- copies inside the store -----------------------------------------------------------------------------


def test_a_copy_has_the_content_and_new_metadata(store: ObjectStore, subject: Subject) -> None:
    """The store copies by itself; what travels with the copy is what was given with it."""
    needs_metadata(subject)
    source, key, body = subject.key("from + ü"), subject.key("to"), content(20_000)
    if not subject.quirk("refuses percent-encoded"):
        source += "%41"
    if subject.quirk("does not copy from plus"):
        source = subject.key("from")
    etag = put(store, source, body, "first")
    receipt = store.copy_object(source, key, meta_of(body, "second"), etag)
    info = found(store, key)
    assert (receipt.key, info.etag, info.size) == (key, receipt.etag, len(body))
    assert whole(store, key) == body
    expected = "first" if subject.quirk("copies metadata along") else "second"
    assert (info.token, info.instance) == (expected, f"writer of {expected}")
    assert found(store, source).token == "first"


def test_a_copy_of_another_object_than_was_meant_is_refused(store: ObjectStore, subject: Subject) -> None:
    """With another ETag than the source has, nothing is copied, or the copy's own ETag tells."""
    source, key = subject.key("from"), subject.key("to")
    meant = put(store, source, b"old")
    put(store, source, b"newer")
    if subject.quirk("ignores conditions of copies"):
        with suppress(PreconditionFailed):
            assert store.copy_object(source, key, meta_of(b"old"), meant).etag != meant
        return
    with pytest.raises(PreconditionFailed):
        store.copy_object(source, key, meta_of(b"old"), meant)
    assert store.head_object(key) is None


def test_an_object_made_of_parts_is_copied(store: ObjectStore, subject: Subject) -> None:
    """A copy on condition of the ETag that the store itself shows; or it says that this is not the object."""
    source, key, bodies = subject.key("from"), subject.key("to"), blocks(subject, 1, -10)
    upload_id = begin(store, source, bodies)
    complete(store, source, upload_id, send_all(store, source, upload_id, bodies), bodies)
    etag = found(store, source).etag
    if subject.quirk("knows joined objects by another ETag"):
        with pytest.raises(PreconditionFailed):
            store.copy_object(source, key, meta_of(b"".join(bodies)), etag)
        assert store.head_object(key) is None
        return
    store.copy_object(source, key, meta_of(b"".join(bodies)), etag)
    assert whole(store, key) == b"".join(bodies)


def test_a_copy_of_nothing_is_refused(store: ObjectStore, subject: Subject) -> None:
    """A source that is gone is a refusal for this object, and leaves nothing."""
    with pytest.raises(StoreError) as refusal:
        store.copy_object(subject.key("absent"), subject.key("to"), meta_of(b"x"), "")
    assert not isinstance(refusal.value, AccessRefused)
    assert store.head_object(subject.key("to")) is None


def test_a_part_may_be_a_range_of_an_object(store: ObjectStore, subject: Subject) -> None:
    """Unchanged parts of a changed file come from the object that is there, also under the same key."""
    key = subject.key("file")
    old, tail = content(2 * subject.part_size + 100), content(50, seed=1)
    etag = put(store, key, old)
    upload_id = store.create_multipart_upload(key, meta_of(old))
    if subject.quirk("does not copy parts"):
        with pytest.raises(StoreError):
            store.upload_part_copy(key, upload_id, 1, key, 0, subject.part_size - 1, etag)
        return
    size = subject.part_size
    first = store.upload_part_copy(key, upload_id, 1, key, size, 2 * size - 1, etag)
    second = store.upload_part(key, upload_id, 2, tail)
    assert (first.number, first.size) == (1, size)
    assert [(part.number, part.size) for part in store.list_parts(key, upload_id)] == [(1, size), (2, 50)]
    expected = old[size : 2 * size] + tail
    store.complete_multipart_upload(key, upload_id, [first, second], meta_of(expected))
    assert whole(store, key) == expected


def test_a_part_of_another_object_than_was_meant_is_refused(store: ObjectStore, subject: Subject) -> None:
    """A range is copied only from the object that we know."""
    source, key = subject.key("from"), subject.key("to")
    meant = put(store, source, content(1000))
    put(store, source, content(1000, seed=1))
    upload_id = begin(store, key, [b"x"])
    if reason := subject.quirk("does not copy parts") or subject.quirk("ignores conditions of part copies"):
        with suppress(StoreError):
            part = store.upload_part_copy(key, upload_id, 1, source, 0, 999, meant)
            assert part.etag, reason
        return
    with pytest.raises(PreconditionFailed):
        store.upload_part_copy(key, upload_id, 1, source, 0, 999, meant)
    assert store.list_parts(key, upload_id) == []


# ---- what can be wrong with a store ----------------------------------------------------------------------


def test_a_body_that_arrives_changed_is_refused(http_subject: HttpSubject) -> None:
    """The server checks what it gets; a flipped bit makes neither object nor part."""
    store, key, body = http_subject.open_damaging(), http_subject.key("file"), content(10_000)
    upload_id = http_subject.open().create_multipart_upload(key, meta_of(body))
    if http_subject.quirk("does not check bodies"):
        put(store, key, body)
        assert whole(store, key) != body
        return
    with pytest.raises(PartCorrupt):
        put(store, key, body)
    assert store.head_object(key) is None
    with pytest.raises(PartCorrupt):
        store.upload_part(key, upload_id, 1, body)
    assert store.list_parts(key, upload_id) == []


def test_once_it_was_asked_no_server_takes_a_changed_body_unnoticed(http_subject: HttpSubject) -> None:
    """By the cheapest check that it makes; where it makes none, by what it answers."""
    store, key, body = http_subject.open(), http_subject.key("file"), content(10_000)
    assert isinstance(store, ProbesDigests)
    if reason := http_subject.quirk("has no abort"):
        pytest.skip(reason)
    found = store.probe_digests(key)
    assert found is not None
    assert store.head_object(key) is None
    if not http_subject.quirk("does not check bodies"):
        assert (found.digests, found.is_usual) == (Digests.CHECKED, True)
    damaging = http_subject.open_damaging(str(found))
    upload_id = store.create_multipart_upload(key, meta_of(body))
    with pytest.raises((PartCorrupt, StoreUnavailable)):
        damaging.upload_part(key, upload_id, 1, body)
    with pytest.raises((PartCorrupt, StoreUnavailable)):
        put(damaging, key, body)


def test_a_wrong_secret_closes_the_store(http_subject: HttpSubject) -> None:
    """A refusal of the keys is charged to the keys, whatever was asked."""
    store, key = http_subject.open_with_wrong_secret(), http_subject.key("file")
    if http_subject.quirk("accepts any secret"):
        put(store, key, b"x")
        return
    verbs: list[Callable[[], object]] = [
        lambda: put(store, key, b"x"),
        lambda: store.get_object(key, 0, 0),
        lambda: store.create_multipart_upload(key, meta_of(b"x")),
        lambda: list(store.list_multipart_uploads(key)),
    ]
    for verb in verbs:
        with pytest.raises(AccessRefused) as refusal:
            verb()
        assert refusal.value.credentials is True


def test_a_missing_bucket_closes_the_store(http_subject: HttpSubject) -> None:
    """A bucket that is not there is said once for the store, and is no matter of keys."""
    store, key = http_subject.open_missing_bucket(), http_subject.key("file")
    verbs: list[Callable[[], object]] = [
        lambda: put(store, key, b"x"),
        lambda: store.create_multipart_upload(key, meta_of(b"x")),
        lambda: list(store.list_multipart_uploads(key)),
    ]
    for verb in verbs:
        with pytest.raises(AccessRefused) as refusal:
            verb()
        assert refusal.value.credentials is False
