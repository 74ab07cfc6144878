"""The S3 dialect: what goes out, what counts as an answer.

Scenarios:

- bodies: which check the server is asked to make
- metadata: what an object carries, and back
- answers: a success has its fields; 200 may be an error, half a page, or another server's
- regions: the one that a server names is used from then on
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    PreconditionFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Part, Properties
from syncd.storage.http.messages import Credentials, Response
from syncd.storage.s3 import xml as s3_xml
from syncd.storage.s3.dialect import S3Dialect
from tests.unit.storage.s3.s3_wire import BODY, META, MULTIPART, STORE, dialect, refusal, xml

KEYS = Credentials("AKIDEXAMPLE", "secret")
REGION_HINTS = [
    Response(301, {"x-amz-bucket-region": "eu-west-1"}),
    Response(307, {"x-amz-bucket-region": "eu-west-1"}),
    Response(400, {"x-amz-bucket-region": "eu-west-1"}),
    Response(400, {}, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"),
    Response(403, {"x-amz-bucket-region": "eu-west-1"}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"),
]


@pytest.mark.parametrize("response", REGION_HINTS)
def test_a_region_that_the_server_names_is_used_from_then_on(response: Response) -> None:
    """At once, signed again, at the region's own address where that is known; no redirect is followed."""
    store = dialect("https://s3.us-east-1.amazonaws.com")
    signed = store.sign(store.put_request("k", b"x", META), KEYS, 1e9)
    error = store.error(signed, response)
    assert isinstance(error, StoreUnavailable)
    assert (error.retry_after_seconds, error.outcome_unknown) == (0.0, False)
    again = store.sign(store.put_request("k", b"x", META), KEYS, 1e9)
    assert "/eu-west-1/s3/" in again.headers["Authorization"]
    assert again.host == "photos.s3.eu-west-1.amazonaws.com"


def test_a_region_is_learned_by_every_request_that_was_signed_before() -> None:
    """Several are under way when the first of them learns it: all may be sent again."""
    store = dialect()
    old = [store.sign(store.head_request("k"), KEYS, 1e9) for _ in range(2)]
    errors = [store.error(request, REGION_HINTS[0]) for request in old]
    assert [type(error) for error in errors] == [StoreUnavailable, StoreUnavailable]


def test_a_region_that_was_tried_already_is_a_matter_of_configuration() -> None:
    """No endless correspondence."""
    store = dialect(region="eu-west-1")
    error = store.error(store.sign(store.head_request("k"), KEYS, 1e9), REGION_HINTS[0])
    assert isinstance(error, AccessRefused)
    assert not error.credentials


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_named_with_its_target(status: int) -> None:
    """From http to https, or to the login page of a portal: no word of regions. It is never followed."""
    answer = Response(status, {"location": "https://login.example.com/\x1b[2J"}, b"<html>Moved</html>")
    error = STORE.error(STORE.put_request("k", BODY, META), answer)
    assert isinstance(error, AccessRefused)
    assert "redirect to https://login.example.com/[2J" in str(error)
    assert "region" not in str(error)


@pytest.mark.parametrize("region", ["evil.example/", "a b", "x" * 100, ""])
def test_a_region_that_is_none_is_not_believed(region: str) -> None:
    """It becomes part of a host name."""
    store = dialect("https://s3.us-east-1.amazonaws.com")
    store.error(store.head_request("k"), Response(301, {"x-amz-bucket-region": region}))
    assert store.head_request("k").host == "photos.s3.us-east-1.amazonaws.com"


SHA256 = {"x-amz-content-sha256": hashlib.sha256(BODY).hexdigest()}
UNSIGNED = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
CRC32 = {**UNSIGNED, "x-amz-checksum-crc32": "y/Q5Jg=="}
MD5 = {**UNSIGNED, "content-md5": base64.b64encode(hashlib.md5(BODY).digest()).decode()}
CHECKS = [
    ("http://127.0.0.1:9000", "auto", SHA256),
    ("https://storage.example", "auto", SHA256),
    ("https://s3.amazonaws.com", "auto", CRC32),
    ("http://s3.amazonaws.com", "auto", SHA256),
    ("https://s3.amazonaws.com", "sha256", SHA256),
    ("http://127.0.0.1:9000", "crc32", CRC32),
    ("http://127.0.0.1:9000", "md5", MD5),
    ("https://storage.example", "none", UNSIGNED),
    ("http://127.0.0.1:9000", "none", SHA256),
]


@pytest.mark.parametrize(("endpoint", "integrity", "headers"), CHECKS)
def test_the_server_is_asked_to_check_the_body(
    endpoint: str, integrity: str, headers: dict[str, str]
) -> None:
    """By the cheapest check that it is known to make; without TLS never by none."""
    store = dialect(endpoint, integrity=integrity)
    for request in (store.put_request("k", BODY, META), store.part_request("k", "u", 1, memoryview(BODY))):
        found = {
            name: value
            for name, value in request.headers.items()
            if "sha256" in name or "md5" in name or "checksum" in name
        }
        assert found == headers


DEMANDS = {
    "storage_class": "GLACIER_IR",
    "sse": "aws:kms",
    "kms_key_id": "alias/a",
    "acl": "bucket-owner-full-control",
    "lock_mode": "GOVERNANCE",
    "lock_seconds": 86_400.0,
}
OF_NEW_OBJECTS = {
    "x-amz-storage-class": "GLACIER_IR",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "alias/a",
    "x-amz-acl": "bucket-owner-full-control",
    "x-amz-object-lock-mode": "GOVERNANCE",
    "x-amz-object-lock-retain-until-date": "2023-11-15T22:13:20Z",
}


def test_what_a_bucket_demands_goes_with_every_new_object_and_with_nothing_else() -> None:
    """Put, create and copy make objects; retention counts from the moment of the request."""
    store = dialect(**DEMANDS)
    new = [
        store.put_request("k", BODY, META),
        store.create_request("k", META),
        store.copy_request("s", "k", META, "e"),
    ]
    other = [
        store.part_request("k", "u", 1, BODY),
        store.part_copy_request("k", "u", 1, "s", 0, 9, "e"),
        store.complete_request("k", "u", [Part(1, 1, "e")], META),
        store.head_request("k"),
        store.delete_request("k"),
    ]
    for request, expected in [*((new_one, OF_NEW_OBJECTS) for new_one in new), *((old, {}) for old in other)]:
        signed = store.sign(request, Credentials("AKID", "secret"), 1_700_000_000.0).headers
        found = {name: value for name, value in signed.items() if name in OF_NEW_OBJECTS}
        assert found == expected
        signed_names = signed["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        assert set(expected) <= set(signed_names)


def test_properties_go_with_every_new_object() -> None:
    """The class of the object wins over the store's; a copy that says nothing of tags keeps what there is."""
    store = dialect(storage_class="GLACIER")
    said = Properties(cache_control="no-cache", storage_class="STANDARD", tags=(("a b", "c/d&"),))
    meta = replace(META, properties=said)
    for request in (
        store.put_request("k", BODY, meta),
        store.create_request("k", meta),
        copy := store.copy_request("s", "k", meta, "e"),
    ):
        assert request.headers["x-amz-storage-class"] == "STANDARD"
        assert request.headers["cache-control"] == "no-cache"
        assert request.headers["x-amz-tagging"] == "a%20b=c%2Fd%26"
        assert request.headers["x-amz-meta-syncd-properties"] == said.stamp
        assert request.headers.get("x-amz-tagging-directive") == ("REPLACE" if request is copy else None)
    plain = store.copy_request("s", "k", META, "e").headers
    assert not plain.keys() & {"x-amz-tagging", "x-amz-tagging-directive", "x-amz-meta-syncd-properties"}
    none = store.copy_request("s", "k", replace(META, properties=Properties(tags=())), "e").headers
    assert none["x-amz-tagging-directive"] == "REPLACE"
    assert not none.keys() & {"x-amz-tagging", "x-amz-meta-syncd-properties"}


def test_who_pays_is_said_with_every_request() -> None:
    """A bucket whose owner does not pay refuses any request that does not say so, listings too."""
    store = dialect(request_payer=True)
    requests = [
        store.put_request("k", BODY, META),
        store.create_request("k", META),
        store.part_request("k", "u", 1, BODY),
        store.part_copy_request("k", "u", 1, "s", 0, 9, "e"),
        store.complete_request("k", "u", [Part(1, 1, "e")], META),
        store.abort_request("k", "u"),
        store.copy_request("s", "k", META, "e"),
        store.delete_request("k"),
        store.head_request("k"),
        store.get_request("k", 0, 9),
        store.parts_request("k", "u", 0),
        store.uploads_request("p", None),
        store.objects_request("p", None),
    ]
    assert {request.headers.get("x-amz-request-payer") for request in requests} == {"requester"}
    assert "x-amz-request-payer" not in dialect().head_request("k").headers


@pytest.mark.parametrize("make", [S3Dialect.put_request, S3Dialect.part_request], ids=["put", "part"])
def test_a_bucket_with_locks_is_sent_an_md5_from_then_on(make: Any) -> None:
    """It says so when it meets a body without one. What it says about a request that has one is final."""
    store = dialect()
    arguments = ("k", BODY, META) if make is S3Dialect.put_request else ("k", "u", 1, BODY)
    text = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
    body = f"<Error><Code>InvalidRequest</Code><Message>{text} parameters</Message></Error>".encode()
    first = make(store, *arguments)
    error = store.error(first, Response(400, {}, body))
    assert isinstance(error, StoreUnavailable)
    assert error.retry_after_seconds == 0.0
    assert not error.outcome_unknown
    second = make(store, *arguments)
    assert second.headers["content-md5"] == MD5["content-md5"]
    assert isinstance(store.error(second, Response(400, {}, body)), StoreRefused)
    assert dialect(lock_mode="GOVERNANCE").put_request("k", BODY, META).headers["content-md5"]


def test_a_part_carries_the_crc32_that_was_sent_with_it() -> None:
    """So that complete can combine them; none where none was computed."""
    for integrity, crc32 in (("crc32", zlib.crc32(BODY)), ("sha256", None)):
        store = dialect(integrity=integrity)
        request = store.part_request("k", "u", 3, BODY)
        part = store.part_result("k", "u", 3, BODY, request, Response(200, {"etag": '"e"'}))
        assert part == Part(3, 9, "e", crc32=crc32)


def test_complete_carries_the_crc32_of_the_whole() -> None:
    """Combined from the parts', without reading a byte again; left out when one is unknown."""
    store = dialect("https://s3.us-east-1.amazonaws.com", integrity="crc32")
    parts = [Part(1, 9, "a", crc32=zlib.crc32(BODY)), Part(2, 9, "b", crc32=zlib.crc32(BODY))]
    headers = store.complete_request("k", "u", parts, META).headers
    assert base64.b64decode(headers["x-amz-checksum-crc32"]) == zlib.crc32(BODY * 2).to_bytes(4, "big")
    assert headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert store.create_request("k", META).headers["x-amz-checksum-algorithm"] == "CRC32"
    headers = store.complete_request("k", "u", [*parts, Part(3, 9, "c")], META).headers
    assert "x-amz-checksum-crc32" not in headers


def test_complete_lists_the_parts_with_quoted_etags() -> None:
    """In order, and with whatever an ETag may hold."""
    body = bytes(dialect().complete_request("k", "u", [Part(1, 9, "a<&b"), Part(2, 1, "c")], META).body)
    page = s3_xml.document(body, "CompleteMultipartUpload")
    assert page is not None
    assert [(part.get("PartNumber"), part.get("ETag")) for part in page.all("Part")] == [
        ("1", '"a<&b"'),
        ("2", '"c"'),
    ]


def test_an_object_carries_its_metadata() -> None:
    """Fingerprint, mtime as rclone writes it, token, content type, storage class; copies and uploads too."""
    store = dialect(storage_class="STANDARD_IA")
    expected = {
        "content-type": "application/octet-stream",
        "x-amz-meta-mtime": "1700000000.123456789",
        "x-amz-meta-syncd-xxh128": "000102030405060708090a0b0c0d0e0f",
        "x-amz-meta-syncd-upload": "t0ken",
        "x-amz-storage-class": "STANDARD_IA",
    }
    for request in (
        store.put_request("k", BODY, META),
        store.create_request("k", META),
        store.copy_request("s", "k", META, "e"),
    ):
        assert expected.items() <= request.headers.items()


def test_head_tells_what_an_object_carries() -> None:
    """All of it, and nothing that is not there."""
    store = dialect()
    request = store.head_request("k")
    headers = {
        "content-length": "5",
        "etag": '"abc"',
        "x-amz-meta-mtime": "1.5",
        "x-amz-meta-syncd-xxh128": "00" * 16,
        "x-amz-meta-syncd-upload": "t",
        "x-amz-checksum-crc32": "y/Q5Jg==",
        "x-amz-checksum-crc64nvme": "rosUhgp5mIg=",
        "x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode(),
    }
    info = store.head_result("k", request, Response(200, headers))
    assert info is not None
    assert (info.size, info.etag, info.digest, info.mtime_ns) == (5, "abc", bytes(16), 1_500_000_000)
    assert (info.token, info.crc32, info.sha256) == ("t", 0xCBF43926, bytes(32))
    assert info.crc64 == 0xAE8B14860A799888
    bare = store.head_result("k", request, Response(200, {"content-length": "0", "etag": '"x-2"'}))
    assert bare is not None
    assert (bare.digest, bare.mtime_ns, bare.token, bare.crc32) == (None, None, None, None)


def test_a_checksum_of_checksums_is_no_checksum_of_the_object() -> None:
    """A multipart object may carry one; it must not be compared with the content's."""
    store = dialect()
    sha256 = base64.b64encode(bytes(32)).decode()
    for headers in ({"x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-crc32": "y/Q5Jg=="},
                    {"x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-sha256": sha256},
                    {"x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-crc64nvme": "rosUhgp5mIg="},
                    {"x-amz-checksum-sha256": f"{sha256}-3"},
                    {"x-amz-checksum-crc32": "y/Q5Jg==-3"}):  # fmt: skip
        answer = Response(200, {"content-length": "1", "etag": "e", **headers})
        info = store.head_result("k", store.head_request("k"), answer)
        assert info is not None
        assert (info.crc32, info.crc64, info.sha256) == (None, None, None)


def test_what_is_not_there_is_none() -> None:
    """404 to a HEAD, whatever it means."""
    assert dialect().head_result("k", dialect().head_request("k"), Response(404, {})) is None


GOOD = {
    "create": xml("InitiateMultipartUploadResult", "<UploadId>u</UploadId>"),
    "complete": xml("CompleteMultipartUploadResult", "<ETag>&quot;e&quot;</ETag>"),
    "copy": xml("CopyObjectResult", "<ETag>e</ETag>"),
    "copy a part": xml("CopyPartResult", "<ETag>e</ETag>"),
    "list parts": xml("ListPartsResult", ""),
    "list uploads": xml("ListMultipartUploadsResult", ""),
}
NO_SUCCESS = {
    "nothing": b"",
    "white space": b"  \n",
    "a page": b"<html><body>Welcome to the hotel</body></html>",
    "a page that is no XML": b"<!doctype html><p>Welcome<br>",
    "another answer": xml("ListBucketResult", "<ETag>e</ETag>"),
    "text": b"OK",
    "JSON": b'{"eTag": "e"}',
}


@pytest.mark.parametrize("verb", MULTIPART)
@pytest.mark.parametrize("what", NO_SUCCESS)
def test_200_without_the_right_document_is_no_success(verb: str, what: str) -> None:
    """What happened cannot be told: the outcome is unknown."""
    request, read = MULTIPART[verb]
    with pytest.raises(StoreUnavailable) as caught:
        read(request, Response(200, {}, NO_SUCCESS[what]))
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("verb", MULTIPART)
def test_every_cut_of_a_document_is_no_success(verb: str) -> None:
    """However much of it came."""
    request, read = MULTIPART[verb]
    for end in range(len(GOOD[verb])):
        with pytest.raises(StoreUnavailable) as caught:
            read(request, Response(200, {}, GOOD[verb][:end]))
        assert caught.value.outcome_unknown
    read(request, Response(200, {}, GOOD[verb]))


@pytest.mark.parametrize("verb", ["create", "complete", "copy", "copy a part"])
def test_a_document_without_its_field_is_no_success(verb: str) -> None:
    """An ETag or an upload id is what makes it one."""
    request, read = MULTIPART[verb]
    for name in ("ETag", "UploadId"):
        emptied = (
            GOOD[verb]
            .replace(b">u<", b"><")
            .replace(b">e<", b"> <")
            .replace(b"&quot;e&quot;", b"&quot;&quot;")
        )
        with pytest.raises(StoreUnavailable) as caught:
            read(request, Response(200, {}, emptied))
        assert caught.value.outcome_unknown, name


@pytest.mark.parametrize("verb", ["complete", "copy", "copy a part"])
def test_an_error_inside_a_success_is_an_error(verb: str) -> None:
    """The status was sent before the work was done."""
    request, read = MULTIPART[verb]
    for code, error in (("InternalError", StoreUnavailable), ("SlowDown", StoreUnavailable),
                        ("NoSuchUpload", UploadGone), ("Mystery", StoreUnavailable)):  # fmt: skip
        with pytest.raises(error) as caught:
            read(request, Response(200, {}, b"  \n" + refusal(200, code).body))
        assert caught.value.code == code
    with pytest.raises(StoreUnavailable) as caught:
        read(request, refusal(200, "Mystery"))
    assert isinstance(caught.value, StoreUnavailable)
    assert caught.value.outcome_unknown


@pytest.mark.parametrize("verb", MULTIPART)
def test_white_space_before_a_document_is_tolerated(verb: str) -> None:
    """Servers send some to keep a slow request alive."""
    request, read = MULTIPART[verb]
    read(request, Response(200, {}, b" \n\r\n" * 1000 + GOOD[verb]))


def test_a_put_without_an_etag_is_no_success() -> None:
    """A captive portal says 200 to everything."""
    request = STORE.put_request("k", BODY, META)
    for read in (
        lambda answer: STORE.put_result("k", request, answer),
        lambda answer: STORE.part_result("k", "u", 1, BODY, request, answer),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            read(Response(200, {"content-type": "text/html"}, b"<html>"))
        assert caught.value.outcome_unknown


def test_a_server_that_ignores_the_source_of_a_part_is_found_out() -> None:
    """It stored an empty part and says so with an ETag, but tells of no copy."""
    request, read = MULTIPART["copy a part"]
    with pytest.raises(StoreRefused) as caught:
        read(request, Response(200, {"etag": '"d41d8"'}, b""))
    assert caught.value.code == "NotImplemented"


RANGES = [
    (Response(206, {"content-range": "bytes 2-4/11"}, b"llo"), b"llo"),
    (Response(206, {"content-range": "bytes 2-3/4"}, b"ll"), b"ll"),
    (Response(200, {"content-range": "bytes 2-4/11"}, b"llo"), b"llo"),
    (Response(200, {}, b"hello world"), b"llo"),
    (Response(206, {"content-range": "bytes 0-2/11"}, b"hel"), None),
    (Response(206, {"content-range": "bytes 2-4/11"}, b"ll"), None),
    (Response(206, {"content-range": "bytes 2-5/11"}, b"llo "), None),
    (Response(206, {"content-range": "bytes 2-4/4"}, b"llo"), None),
    (Response(206, {"content-range": "bytes 2-3/11"}, b"ll"), None),
    (Response(206, {"content-range": "bytes 2-4/*"}, b"llo"), None),
    (Response(206, {}, b"llo"), None),
]


@pytest.mark.parametrize(("answer", "content"), RANGES)
def test_a_range_is_the_one_that_was_asked_for(answer: Response, content: bytes | None) -> None:
    """Also from servers that ignore ranges, or honour them under another status."""
    request = STORE.get_request("k", 2, 4)
    assert request.headers["range"] == "bytes=2-4"
    if content is not None:
        assert STORE.get_result("k", 2, 4, request, answer).body == content
        return
    with pytest.raises(StoreUnavailable):
        STORE.get_result("k", 2, 4, request, answer)


MD5_OF_HELLO = "5d41402abc4b2a76b9719d911017c592"


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({"etag": f'"{MD5_OF_HELLO}"'}, True),
        ({"etag": f'"{MD5_OF_HELLO.upper()}"', "x-amz-server-side-encryption": "AES256"}, True),
        ({"etag": f'"{MD5_OF_HELLO}"', "x-amz-server-side-encryption": "aws:kms"}, False),
        ({"etag": f'"{MD5_OF_HELLO}"', "x-amz-server-side-encryption-customer-algorithm": "AES256"}, False),
        ({"etag": f'"{MD5_OF_HELLO}-2"'}, False),
        ({"etag": '"opaque"'}, False),
        ({}, False),
    ],
)
def test_an_etag_is_an_md5_only_where_it_is(headers: dict[str, str], known: bool) -> None:
    """One in that form is not of the content where the server encrypts with keys of others."""
    answer = Response(206, {"content-range": "bytes 0-4/11", **headers}, b"hello")
    info = STORE.get_result("k", 0, 4, STORE.get_request("k", 0, 4), answer).info
    assert info.size == 11
    assert info.md5 == (bytes.fromhex(MD5_OF_HELLO) if known else None)


@pytest.mark.parametrize(
    ("answer", "done"),
    [
        (Response(204, {}), True),
        (Response(200, {}), True),
        (Response(404, {}), True),
        (refusal(404, "NoSuchKey"), True),
        (refusal(404, "NoSuchBucket"), False),
        (refusal(403, "AccessDenied"), False),
    ],
)
def test_what_is_not_there_is_removed(answer: Response, done: bool) -> None:
    """For objects and uploads alike; a missing bucket is another matter."""
    for request, read in (
        (STORE.delete_request("k"), lambda *pair: STORE.delete_result("k", *pair)),
        (STORE.abort_request("k", "u"), lambda *pair: STORE.abort_result("k", "u", *pair)),
    ):
        if done:
            read(request, answer)
        else:
            with pytest.raises(StoreRefused):
                read(request, answer)


@pytest.mark.parametrize("status", [200, 202, 404])
@pytest.mark.parametrize("what", ["a page", "a page that is no XML", "text", "JSON"])
def test_a_word_of_somebody_else_removes_nothing(status: int, what: str) -> None:
    """An upload that was believed to be aborted would never leave the store."""
    for request, read in (
        (STORE.delete_request("k"), lambda *pair: STORE.delete_result("k", *pair)),
        (STORE.abort_request("k", "u"), lambda *pair: STORE.abort_result("k", "u", *pair)),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            read(request, Response(status, {}, NO_SUCCESS[what]))
        assert caught.value.outcome_unknown


@pytest.mark.parametrize(
    ("replaces", "condition"),
    [(None, {}), ("", {"if-none-match": "*"}), ("e1", {"if-match": '"e1"'})],
)
def test_a_condition_goes_with_put_and_complete(replaces: str | None, condition: dict[str, str]) -> None:
    """Only where the caller names one, which knows whether the store honours it."""
    meta, store = replace(META, replaces=replaces), dialect("https://minio.example.com")
    conditions = {"if-match", "if-none-match"}
    for request in (store.put_request("k", b"x", meta), store.complete_request("k", "u", [], meta)):
        sent = {name: request.headers[name] for name in conditions & set(request.headers)}
        assert sent == condition
    for request in (store.create_request("k", meta), store.copy_request("o", "k", meta, "e")):
        assert not conditions & set(request.headers)


def test_a_condition_on_an_object_that_is_gone_is_not_met() -> None:
    """AWS answers 404 then; an upload that is gone is another matter."""
    store = dialect("https://s3.us-east-1.amazonaws.com")
    gone = Response(404, {"x-amz-request-id": "1"}, b"<Error><Code>NoSuchKey</Code></Error>")
    request = store.put_request("k", b"x", replace(META, replaces="e1"))
    assert isinstance(store.error(request, gone), PreconditionFailed)
    assert not isinstance(store.error(store.put_request("k", b"x", META), gone), PreconditionFailed)
    upload = Response(404, {"x-amz-request-id": "1"}, b"<Error><Code>NoSuchUpload</Code></Error>")
    complete = store.complete_request("k", "u", [], replace(META, replaces="e1"))
    assert isinstance(store.error(complete, upload), UploadGone)
