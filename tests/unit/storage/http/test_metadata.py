"""What travels with an object comes back as it was, and what others wrote is read or left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.core.model import Attributes, Fingerprint, ObjectMeta, Properties
from syncd.storage.bos.bucket import LIMITS
from syncd.storage.http.metadata import (
    bare_etag,
    described,
    metadata_headers,
    mtime_ns,
    mtime_text,
    property_headers,
    range_total,
)

PREFIX = "x-amz-meta-"
SECOND = 10**9


def meta(token: str = "", mtime: int = 0, instance: str = "") -> ObjectMeta:
    return ObjectMeta(Fingerprint(bytes(range(16)), 5), mtime, token, instance=instance)


@given(st.integers(-(10**18), 10**19))
def test_mtime_survives_the_way_there_and_back(nanoseconds: int) -> None:
    """Nanoseconds are kept exactly, before 1970 too."""
    assert mtime_ns(mtime_text(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0"), (1_500_000_000, "1.5"), (-1_500_000_000, "-1.5"), (1, "0.000000001"), (10**18, "1000000000")],
)
def test_mtime_is_decimal_seconds(ns: int, text: str) -> None:
    """The form that rclone reads and writes."""
    assert mtime_text(ns) == text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("-1.000000001", -1_000_000_001),
        ("1.0000000019", 1_000_000_001),
        ("", None),
        ("yesterday", None),
        ("1e999999999", None),
        ("nan", None),
        ("٣", None),
    ],
)
def test_an_mtime_of_others_is_read_or_left(written: str, read: int | None) -> None:
    """Other tools write fewer digits, or more; nonsense is no mtime."""
    assert mtime_ns(written) == read


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_metadata_is_portable_whatever_it_holds(token: str) -> None:
    """Values go out as printable ASCII and come back as they were."""
    headers = metadata_headers(PREFIX, meta(token, instance=token[::-1]))
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    info = described(PREFIX, headers, "k", 5, "e", None, plain=True)
    assert (info.token, info.instance) == (token, token[::-1])


THEIRS = {
    "content-type": "video/x",
    "cache-control": "no-cache",
    "content-language": "de",
    "expires": "Fri, 13 Feb 2009 23:31:30 GMT",
    f"{PREFIX}author": "a b",
    f"{PREFIX}some_key": "=?UTF-8?Q?=C3=BC?=",
    f"{PREFIX}md5chksum": "AAECAwQFBgcICQoLDA0ODw==",
    f"{PREFIX}mode": "33188",
}


def test_what_another_program_gave_an_object_goes_with_a_copy_and_is_known_as_theirs_again() -> None:
    """However often it is copied; what we say ourselves goes before it, and is not theirs."""
    before = described(PREFIX, {**THEIRS, f"{PREFIX}mtime": "1"}, "k", 5, "e", None, plain=True)
    assert {name.replace("/", ""): value for name, value in before.others} == {
        name.removeprefix(PREFIX): value for name, value in THEIRS.items()
    }
    others = before.others
    for _ in range(2):
        said = replace(meta("token"), others=others, attributes=Attributes(xattrs=(("user.mine", b"1"),)))
        headers = property_headers("x-", said, "") | metadata_headers(PREFIX, said)
        assert headers.items() >= THEIRS.items()
        again = described(PREFIX, headers, "k", 5, "e", None, plain=True)
        assert (again.digest, again.token) == (said.fingerprint.digest, "token")
        assert dict(again.others) == dict(before.others)
        others = again.others
    mode = replace(said, attributes=Attributes(0o640))
    assert metadata_headers(PREFIX, mode)[f"{PREFIX}mode"] == "100640"


def test_what_syncd_wrote_is_not_taken_for_anothers() -> None:
    """Whatever the configuration says, and whatever attributes the file has."""
    known = replace(
        meta("token", instance="i"),
        properties=Properties("text/x", "no-cache", "gzip", "inline"),
        attributes=Attributes(0o640, 1, 2, "u", "g", (("user.a", b"1"), ("user.b_c", b"2"))),
    )
    headers = property_headers("x-", known, "") | metadata_headers(PREFIX, known)
    assert described(PREFIX, headers, "k", 5, "e", None, plain=True).others == ()
    headers |= {f"{PREFIX}s3cmd-attrs": "x", "content-language": "de"}
    there = described(PREFIX, headers, "k", 5, "e", None, plain=True).others
    assert dict(there) == {"s3cmd-attrs": "x", "/content-language": "de"}


def test_metadata_stays_far_below_its_limit() -> None:
    """BOS and S3 take 2048 bytes of names and values."""
    known = meta("f" * 32, -(10**18) - 1, "f" * 32)
    assert _size(known) < 300
    most = Attributes(0o7777, 2**32 - 2, 2**32 - 2, "u" * 64, "g" * 64)
    full = replace(known, attributes=most, properties=Properties(cache_control="no-cache"))
    assert _size(full) + LIMITS.max_xattr_bytes < 2048


def _size(meta: ObjectMeta) -> int:
    return sum(len(name) + len(value) for name, value in metadata_headers(PREFIX, meta).items())


@pytest.mark.parametrize("digest", ["", "00", "x" * 32, "00" * 17])
def test_a_digest_that_is_none_is_none(digest: str) -> None:
    """Sixteen bytes in hex, or nothing."""
    found = described(PREFIX, {f"{PREFIX}syncd-xxh128": digest}, "k", 5, "e", 7, plain=False)
    assert (found.digest, found.mtime_ns, found.token, found.crc32) == (None, None, None, 7)
    assert found.instance is None


@pytest.mark.parametrize(
    ("text", "bare"), [('"e"', "e"), ('W/"e"', "e"), (" e-2 ", "e-2"), ("", ""), (None, "")]
)
def test_an_etag_has_no_quotes(text: object, bare: str) -> None:
    """However the server writes it."""
    assert bare_etag(text) == bare


@pytest.mark.parametrize(
    ("header", "size", "total"),
    [
        ("bytes 2-4/11", 3, 11),
        ("bytes 2-3/4", 2, 4),
        ("bytes 2-3/11", 2, None),
        ("bytes 1-3/11", 3, None),
        ("bytes 2-5/11", 4, None),
        ("bytes 2-4/4", 3, None),
        ("bytes 2-4/11", 2, None),
        ("bytes 2-4/*", 3, None),
        ("items 2-4/11", 3, None),
        ("", 3, None),
    ],
)
def test_a_range_tells_the_size_of_the_whole_only_where_it_fits(
    header: str, size: int, total: int | None
) -> None:
    """Asked for bytes 2 to 4: the answer has exactly these, or all up to the object's end."""
    assert range_total({"content-range": header}, 2, 4, size) == total


@pytest.mark.parametrize(
    ("headers", "stored"),
    [
        ({"last-modified": "Fri, 13 Feb 2009 23:31:30 GMT"}, 1_234_567_890 * SECOND),
        ({"last-modified": "Fri, 13 Feb 2009 23:31:30 GMT", f"{PREFIX}mtime": "1"}, None),
        ({"last-modified": "yesterday"}, None),
        ({}, None),
    ],
)
def test_an_object_without_mtime_has_the_time_of_its_arrival(
    headers: dict[str, str], stored: int | None
) -> None:
    """What other tools wrote comes back with the best time that there is."""
    assert described(PREFIX, headers, "k", 5, "e", None, plain=True).stored_ns == stored


MD5 = bytes(range(16))
CHKSUM = "AAECAwQFBgcICQoLDA0ODw=="
ATTRIBUTES = (
    "atime:1/ctime:2/gid:0/gname:root/md5:000102030405060708090a0b0c0d0e0f/mode:33188/uid:0/uname:a:b"
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"md5chksum": CHKSUM}, MD5),
        ({"s3cmd-attrs": ATTRIBUTES}, MD5),
        ({"s3cmd-attrs": ATTRIBUTES.replace(":", "%3A")}, MD5),
        ({"md5chksum": CHKSUM, "s3cmd-attrs": ATTRIBUTES.replace("000102", "ffffff")}, MD5),
        ({"md5chksum": "AAEC"}, None),
        ({"md5chksum": "no base64!"}, None),
        ({"s3cmd-attrs": "md5"}, None),
        ({"s3cmd-attrs": ATTRIBUTES.replace("md5:", "sha:")}, None),
    ],
)
def test_rclone_and_s3cmd_note_the_md5_of_what_they_send_in_parts(
    headers: dict[str, str], expected: bytes | None
) -> None:
    """An ETag that is one itself is the store's own word, and counts before theirs."""
    named = {f"{PREFIX}{name}": value for name, value in headers.items()}
    assert described(PREFIX, named, "k", 5, f"{'0' * 32}-2", None, plain=True).md5 == expected
    assert described(PREFIX, named, "k", 5, "f" * 32, None, plain=True).md5 == b"\xff" * 16
    assert described(PREFIX, named, "k", 5, "f" * 32, None, plain=False).md5 == expected
