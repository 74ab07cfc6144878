"""The BOS dialect, pair by pair: what it asks, and what it makes of every answer."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    ObjectSpoiled,
    PartCorrupt,
    PreconditionFailed,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import ObjectInfo, Part, Properties, Receipt
from syncd.storage.http.messages import Request, Response
from tests.unit.storage.bos.bos_answers import (
    COMPLETE,
    META,
    PART,
    PUT,
    REQUEST_ID,
    UPLOAD,
    answer,
    bos,
    raised,
    refusal,
)

MD5 = hashlib.md5(b"hello").hexdigest()
MD5_BASE64 = base64.b64encode(bytes.fromhex(MD5)).decode()
META_HEADERS = {
    "x-bce-meta-mtime": "1600000000.123456789",
    "x-bce-meta-syncd-xxh128": "000102030405060708090a0b0c0d0e0f",
    "x-bce-meta-syncd-upload": "token-1",
}


def test_put_carries_md5_type_and_metadata() -> None:
    """PutObject: the digest that the server checks, and all that a lost database is rebuilt from."""
    request = bos().put_request("dir/a b.txt", b"hello", META)
    assert request == Request(
        "PUT",
        "photos.bj.bcebos.com",
        "/dir/a%20b.txt",
        headers={"content-type": "text/plain", "Content-MD5": MD5_BASE64, **META_HEADERS},
        body=b"hello",
    )
    assert Receipt("k", MD5) == bos().put_result("k", request, answer(etag=f'"{MD5}"'))


def test_storage_class_and_traffic_limit_go_with_what_creates_content() -> None:
    """The storage class goes with put, copy and initiate, the traffic limit (in bit/s) with put and part."""
    dialect = bos(storage_class="STANDARD_IA", traffic_limit=1_000_000)
    storage, traffic = ("x-bce-storage-class", "STANDARD_IA"), ("x-bce-traffic-limit", "8000000")
    put = dialect.put_request("k", b"", META).headers.items()
    assert storage in put
    assert traffic in put
    create = dialect.create_request("k", META).headers.items()
    assert storage in create
    assert traffic not in create
    part = dialect.part_request("k", UPLOAD, 1, b"").headers.items()
    assert storage not in part
    assert traffic in part
    assert storage in dialect.copy_request("s", "k", META, MD5).headers.items()


def test_another_etag_than_the_md5_sent_is_a_corrupt_body() -> None:
    """The server acknowledges the MD5 of what it stored: another one means other bytes."""
    put = bos().put_request("k", b"hello", META)
    assert isinstance(raised(bos().put_result, "k", put, answer(etag='"' + "0" * 32 + '"')), PartCorrupt)
    part = bos().part_request("k", UPLOAD, 1, b"hello")
    error = raised(bos().part_result, "k", UPLOAD, 1, b"hello", part, answer(etag='"' + "0" * 32 + '"'))
    assert isinstance(error, PartCorrupt)
    assert error.request_id == REQUEST_ID


def test_the_etag_of_an_encrypted_object_is_not_compared() -> None:
    """With server-side encryption the ETag need not be the MD5 of what was sent."""
    request = bos().put_request("k", b"hello", META)
    response = answer(etag='"other"', x_bce_server_side_encryption="AES256")
    assert Receipt("k", "other") == bos().put_result("k", request, response)


def test_head_reads_size_etag_checksum_and_our_metadata() -> None:
    """HeadObject tells all that is needed to recognise our own object."""
    headers = {name.replace("-", "_"): value for name, value in META_HEADERS.items()}
    response = answer(
        content_length="5", etag=f'"{MD5}"', x_bce_content_crc32=str(zlib.crc32(b"hello")), **headers
    )
    expected = ObjectInfo(
        "k", 5, MD5, bytes(range(16)), 1_600_000_000_123_456_789, "token-1", zlib.crc32(b"hello")
    )
    assert expected == bos().head_result("k", bos().head_request("k"), response)


@pytest.mark.parametrize("status", [200, 404])
def test_a_head_that_somebody_else_answers_tells_nothing(status: int) -> None:
    """A captive portal's 200 has a length and no ETag, its 404 is HTML: the upload that was asked about may
    well be complete, and would be sent again."""
    headers = {"content-type": "text/html", "content-length": "95"}
    found = raised(bos().head_result, "k", bos().head_request("k"), Response(status, headers, b""))
    assert isinstance(found, StoreUnavailable)


def test_head_of_a_foreign_object_has_none_of_our_metadata() -> None:
    """What an object does not carry, or carries in another form, is None."""
    response = answer(
        content_length="5", etag='"-abc"', x_bce_meta_mtime="yesterday", x_bce_meta_syncd_xxh128="xyz"
    )
    assert ObjectInfo("k", 5, "-abc") == bos().head_result("k", bos().head_request("k"), response)


def test_head_of_nothing_is_none_and_without_size_nobody_knows() -> None:
    """404 to HEAD has no body; a 200 without Content-Length is no answer at all."""
    request = bos().head_request("k")
    assert bos().head_result("k", request, answer(404)) is None
    assert isinstance(raised(bos().head_result, "k", request, answer(etag="x")), StoreUnavailable)


@pytest.mark.parametrize(
    ("content_md5", "known"),
    [("XUFAKrxLKna5cZ2REBfFkg==", True), ("1B2M2Y8AsgTpgAmY7PhCfg==", False), ("", False), ("%", False)],
)
def test_an_etag_is_an_md5_only_where_the_answer_says_so(content_md5: str, known: bool) -> None:
    """The form of other ETags is not documented: Content-MD5 has to agree."""
    etag = "5d41402abc4b2a76b9719d911017c592"
    response = answer(content_length="5", etag=f'"{etag}"', content_md5=content_md5)
    info = bos().head_result("k", bos().head_request("k"), response)
    assert info is not None
    assert info.md5 == (bytes.fromhex(etag) if known else None)


def test_get_asks_for_a_range_and_checks_that_it_got_it() -> None:
    """Both ends included; 206 must be the range asked for; 200 is everything, of which a piece is taken."""
    request = bos().get_request("k", 2, 4)
    assert request.headers == {"Range": "bytes=2-4"}
    right = answer(206, b"llo", content_range="bytes 2-4/5")
    assert bos().get_result("k", 2, 4, request, right).body == b"llo"
    assert bos().get_result("k", 2, 4, request, answer(200, b"hello world")).body == b"llo"
    short = answer(206, b"lo", content_range="bytes 3-4/5")
    assert isinstance(raised(bos().get_result, "k", 2, 4, request, short), StoreUnavailable)
    gone = refusal(404, "NoSuchKey")
    assert type(raised(bos().get_result, "k", 2, 4, request, gone)) is StoreRefused
    assert type(raised(bos().get_result, "k", 9, 9, request, refusal(416, "InvalidRange"))) is StoreRefused


@pytest.mark.parametrize(
    "response",
    [answer(204), answer(200), refusal(404, "NoSuchKey"), answer(404)],
    ids=lambda r: str(r.status),
)
def test_deleting_what_is_not_there_is_done(response: Response) -> None:
    """BOS answers 404 for a missing object, unlike S3: it is gone, which is what was wanted."""
    request = bos().delete_request("k")
    assert request.method == "DELETE"
    bos().delete_result("k", request, response)


def test_deleting_from_nowhere_is_not_done() -> None:
    """A 404 for the bucket, or from something that is not BOS, says nothing about the object."""
    request = bos().delete_request("k")
    assert isinstance(raised(bos().delete_result, "k", request, refusal(404, "NoSuchBucket")), AccessRefused)
    page = answer(404, b"<html>not here</html>", content_type="text/html")
    assert isinstance(raised(bos().delete_result, "k", request, page), StoreUnavailable)


def test_copy_replaces_metadata_and_is_conditional() -> None:
    """CopyObject names the source by encoded path, and only while its ETag is the one meant."""
    request = bos().copy_request("a b/中", "k", META, f'"{MD5}"')
    assert request.headers == {
        "content-type": "text/plain",
        "x-bce-metadata-directive": "replace",
        "x-bce-copy-source": "/photos/a%20b/%E4%B8%AD",
        "x-bce-copy-source-if-match": MD5,
        **META_HEADERS,
    }
    assert request.slow_answer
    done = answer(200, {"lastModified": "2026-01-02T03:04:05Z", "eTag": MD5})
    assert Receipt("k", MD5) == bos().copy_result("k", request, done)
    changed = raised(bos().copy_result, "k", request, refusal(412, "PreconditionFailed"))
    assert isinstance(changed, PreconditionFailed)
    assert type(raised(bos().copy_result, "k", request, refusal(404, "NoSuchKey"))) is StoreRefused


def test_initiate_sends_type_and_class_but_no_metadata() -> None:
    """BOS takes metadata at complete; the type only here. Twice would be two uploads."""
    request = bos(storage_class="COLD").create_request("k", META)
    assert request.headers == {"content-type": "text/plain", "x-bce-storage-class": "COLD"}
    assert (request.method, request.query) == ("POST", (("uploads", ""),))
    assert not request.safe_to_repeat
    assert bos().create_result("k", request, answer(200, {"uploadId": UPLOAD})) == UPLOAD


def test_properties_go_where_bos_takes_them() -> None:
    """With put, initiate and copy; the stamp is metadata, which belongs to complete."""
    said = Properties(cache_control="no-cache", storage_class="COLD", tags=(("a", "b"),))
    meta = replace(META, properties=said)
    given = {"cache-control": "no-cache", "x-bce-storage-class": "COLD", "x-bce-tagging": "a=b"}
    put, copy = bos().put_request("k", b"x", meta).headers, bos().copy_request("s", "k", meta, MD5).headers
    create = bos().create_request("k", meta).headers
    assert create == {"content-type": "text/plain", **given}
    for headers in (put, copy):
        assert given.items() <= headers.items()
        assert headers["x-bce-meta-syncd-properties"] == said.stamp
    assert copy["x-bce-tagging-directive"] == "REPLACE"
    complete = bos().complete_request("k", UPLOAD, [Part(1, 1, MD5)], meta).headers
    assert complete["x-bce-meta-syncd-properties"] == said.stamp
    assert not given.keys() & complete.keys()


def test_a_part_carries_number_upload_and_md5() -> None:
    """UploadPart, and the part that comes of it: with the CRC-32 that complete will need."""
    request = bos().part_request("k", "a+b/c=", 7, b"hello")
    assert request.query == (("partNumber", "7"), ("uploadId", "a+b/c="))
    assert request.headers == {"Content-Type": "application/octet-stream", "Content-MD5": MD5_BASE64}
    part = bos().part_result("k", UPLOAD, 7, memoryview(b"hello"), request, answer(etag=f'"{MD5}"'))
    assert part == Part(7, 5, MD5, crc32=zlib.crc32(b"hello"))


def test_a_part_copy_is_a_conditional_range_of_another_object() -> None:
    """UploadPartCopy with both ends included; an unconditional one could mix two states of the source."""
    request = bos().part_copy_request("k", UPLOAD, 2, "src", 10, 19, MD5)
    assert request.headers == {
        "Content-Type": "application/octet-stream",
        "x-bce-copy-source": "/photos/src",
        "x-bce-copy-source-if-match": MD5,
        "x-bce-copy-source-range": "bytes=10-19",
    }
    done = answer(200, {"lastModified": "2026-01-02T03:04:05Z", "eTag": "abc"})
    assert bos().part_copy_result("k", UPLOAD, 2, 10, request, done) == Part(2, 10, "abc")


def test_complete_lists_bare_etags_and_carries_metadata_and_crc32() -> None:
    """The CRC-32 of the whole is combined from the parts'; metadata goes here."""
    parts = [Part(1, 3, '"e1"', crc32=zlib.crc32(b"hel")), Part(2, 2, "e2", crc32=zlib.crc32(b"lo"))]
    request = bos().complete_request("k", UPLOAD, parts, META)
    assert request.body == b'{"parts":[{"partNumber":1,"eTag":"e1"},{"partNumber":2,"eTag":"e2"}]}'
    assert request.headers == {
        "Content-Type": "application/json; charset=utf-8",
        "x-bce-content-crc32": str(zlib.crc32(b"hello")),
        **META_HEADERS,
    }
    assert request.query == (("uploadId", UPLOAD),)
    assert request.slow_answer
    done = answer(200, {"bucket": "photos", "key": "k", "eTag": "-abc"})
    assert Receipt("k", "-abc") == bos().complete_result("k", UPLOAD, request, done)


def test_complete_without_every_crc32_sends_none() -> None:
    """A part that was copied inside the store has no CRC-32 here: a wrong one would be refused."""
    parts = [Part(1, 3, "e1", crc32=1), Part(2, 2, "e2")]
    assert "x-bce-content-crc32" not in bos().complete_request("k", UPLOAD, parts, META).headers


def test_complete_with_ten_thousand_parts_fits_its_limit() -> None:
    """BOS takes at most 1 MB of list."""
    parts = [Part(number, 1, "0" * 32) for number in range(1, 10_001)]
    assert len(bos().complete_request("k", UPLOAD, parts, META).body) < 1_000_000


def test_complete_notices_that_another_object_was_made() -> None:
    """When the answer gives a CRC-32, it has to be the one that was meant."""
    request = bos().complete_request("k", UPLOAD, [Part(1, 5, "e1", crc32=zlib.crc32(b"hello"))], META)
    done = {"eTag": "-abc"}
    right = answer(200, done, x_bce_content_crc32=str(zlib.crc32(b"hello")))
    assert Receipt("k", "-abc") == bos().complete_result("k", UPLOAD, request, right)
    wrong = raised(bos().complete_result, "k", UPLOAD, request, answer(200, done, x_bce_content_crc32="1"))
    assert isinstance(wrong, ObjectSpoiled)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_of_abort_is_done(status: int) -> None:
    """The status of a successful abort is not documented."""
    request = bos().abort_request("k", UPLOAD)
    assert (request.method, request.query) == ("DELETE", (("uploadId", UPLOAD),))
    bos().abort_result("k", UPLOAD, request, answer(status))


@pytest.mark.parametrize("status", [200, 202, 404])
def test_a_page_of_html_removes_nothing(status: int) -> None:
    """An upload that was believed to be aborted would never leave the store."""
    page = answer(status, b"<html><h1>Please log in</h1></html>", content_type="text/html")
    for found in (
        raised(bos().abort_result, "k", UPLOAD, bos().abort_request("k", UPLOAD), page),
        raised(bos().delete_result, "k", bos().delete_request("k"), page),
    ):
        assert isinstance(found, StoreUnavailable)
        assert found.outcome_unknown


def test_aborting_what_is_gone_is_done() -> None:
    """404 says that the upload is not there, which is what was wanted."""
    request = bos().abort_request("k", UPLOAD)
    bos().abort_result("k", UPLOAD, request, refusal(404, "NoSuchUpload"))
    bos().abort_result("k", UPLOAD, request, answer(404))
    error = raised(bos().abort_result, "k", UPLOAD, request, refusal(500, "InternalError"))
    assert isinstance(error, StoreUnavailable)


@pytest.mark.parametrize(
    "read",
    [
        lambda r: bos().copy_result("k", bos().copy_request("s", "k", META, MD5), r),
        lambda r: bos().complete_result("k", UPLOAD, COMPLETE, r),
        lambda r: bos().create_result("k", bos().create_request("k", META), r),
        lambda r: bos().part_copy_result(
            "k", UPLOAD, 1, 5, bos().part_copy_request("k", UPLOAD, 1, "s", 0, 4, MD5), r
        ),
        lambda r: bos().put_result("k", PUT, r),
        lambda r: bos().part_result("k", UPLOAD, 1, b"hello", PART, r),
    ],
    ids=["copy", "complete", "create", "part_copy", "put", "part"],
)
def test_a_success_is_one_only_if_it_says_so(read: object) -> None:
    """An error inside a 200 is that error; nothing, half a document, or a page of HTML leaves it open."""
    inside = raised(read, refusal(200, "InternalError"))
    assert isinstance(inside, StoreUnavailable)
    assert inside.outcome_unknown
    assert inside.code == "InternalError"
    unheard = raised(read, refusal(200, "UnheardOf"))
    assert isinstance(unheard, StoreUnavailable)
    assert unheard.outcome_unknown
    assert isinstance(raised(read, refusal(200, "NoSuchBucket")), AccessRefused)
    for body in (b"", b'{"eTa', b"<html></html>", b"[]", b"null", b"{}"):
        error = raised(read, answer(200, body))
        assert isinstance(error, StoreUnavailable), body
        assert error.outcome_unknown, body


@pytest.mark.parametrize(
    ("replaces", "condition"),
    [(None, {}), ("", {"if-none-match": "*"}), (MD5, {"if-match": f'"{MD5}"'})],
)
def test_a_condition_goes_with_what_makes_the_object(replaces: str | None, condition: dict[str, str]) -> None:
    """With put and complete; creating an upload and copying have none."""
    meta, dialect = replace(META, replaces=replaces), bos()
    conditions = {"if-match", "if-none-match"}
    for request in (dialect.put_request("k", b"x", meta), dialect.complete_request("k", "u", [], meta)):
        assert {name: request.headers[name] for name in conditions & set(request.headers)} == condition
    for request in (dialect.create_request("k", meta), dialect.copy_request("o", "k", meta, "e")):
        assert not conditions & set(request.headers)
