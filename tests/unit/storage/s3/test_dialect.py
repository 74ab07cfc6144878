"""The S3 dialect: signatures, addresses, what goes out, what counts as an answer, what an error means.

Scenarios:

- signatures: AWS's published examples; equal to botocore's for any key, query and token; the day's key
- addresses: path and virtual-host style, ports, odd bucket names; the region that a server names
- bodies: which check the server is asked to make
- metadata: the form that rclone reads, and back
- answers: a success has its fields; 200 may be an error, half a page, or somebody else's
- lists: pages, markers, encodings, servers that ignore what they were asked
- errors: by code first, then by status
- XML: no document type, no bombs, white space, forbidden characters
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

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
from syncd.core.model import Fingerprint, ObjectMeta, Part, UploadInfo
from syncd.storage.http.http1 import target
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.s3 import xml as s3_xml
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.s3.errors import CODES
from syncd.storage.s3.signing import EMPTY_SHA256, Signer, encode_path
from syncd.storage.settings import HttpSettings, S3Settings

SUITE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
DOCUMENTED = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
KEYS = Credentials("AKIDEXAMPLE", "secret")
META = ObjectMeta(Fingerprint(bytes(range(16)), 5), 1_700_000_000_123_456_789, token="t0ken")


def dialect(endpoint: str = "http://127.0.0.1:9000", **settings: Any) -> S3Dialect:
    return S3Dialect(S3Settings(HttpSettings(endpoint), **{"bucket": "photos", **settings}))


def xml(root: str, content: str) -> bytes:
    """An answer as AWS writes it."""
    namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {namespace}>{content}</{root}>'.encode()


def refusal(status: int, code: str, **headers: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>no</Message><RequestId>r1</RequestId></Error>"
    return Response(status, headers, body.encode() if code else b"")


# ---- signatures ------------------------------------------------------------------------------------------

UNRESERVED = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = {"content-type": "application/x-www-form-urlencoded"}
SUITE_VECTORS = {
    "get-vanilla": (
        "GET",
        "/",
        [],
        {},
        b"",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-vanilla-query-order-key-case": (
        *("GET", "/", [("Param2", "value2"), ("Param1", "value1")], {}, b""),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-vanilla-empty-query-key": (
        *("GET", "/", [("Param1", "value1")], {}, b""),
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-utf8": (
        "GET",
        "/ሴ",
        [],
        {},
        b"",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-unreserved": (
        *("GET", UNRESERVED, [], {}, b""),
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "post-vanilla": (
        "POST",
        "/",
        [],
        {},
        b"",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-header-key-sort": (
        *("POST", "/", [], {"My-Header1": "value1"}, b""),
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    "post-x-www-form-urlencoded": (
        *("POST", "/", [], FORM, b"Param1=value1"),
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", SUITE_VECTORS)
def test_signatures_are_those_of_the_published_suite(name: str) -> None:
    """AWS's own test vectors for version 4."""
    method, path, query, headers, body, signature = SUITE_VECTORS[name]
    sent = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z", **headers}
    made = Signer("us-east-1", "service").authorization(
        method, encode_path(path), query, sent, hashlib.sha256(body).hexdigest(), SUITE
    )
    assert made.rpartition("Signature=")[2] == signature


WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
S3_EXAMPLES: dict[str, tuple[str, str, list[tuple[str, str]], dict[str, str], str, str]] = {
    "get a range": (
        *("GET", "/test.txt", [], {"Range": "bytes=0-9"}, EMPTY_SHA256),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "put": (
        *("PUT", "/test$file.text", []),
        {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        WELCOME,
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "get the lifecycle": (
        *("GET", "/", [("lifecycle", "")], {}, EMPTY_SHA256),
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "list": (
        *("GET", "/", [("max-keys", "2"), ("prefix", "J")], {}, EMPTY_SHA256),
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


@pytest.mark.parametrize("name", S3_EXAMPLES)
def test_signatures_are_those_of_the_documented_examples(name: str) -> None:
    """The four requests of the S3 developer's documentation."""
    method, path, query, headers, payload_hash, signature = S3_EXAMPLES[name]
    sent = {
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-content-sha256": payload_hash,
        **headers,
    }
    made = Signer("us-east-1").authorization(method, encode_path(path), query, sent, payload_hash, DOCUMENTED)
    assert made.rpartition("Signature=")[2] == signature


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(
    key=text,
    query=st.dictionaries(text, st.text(st.characters(exclude_categories=["Cs"]), max_size=10), max_size=4),
    token=st.sampled_from(["", "session/token+=="]),
    now=st.integers(0, 4_000_000_000),
)
def test_signatures_are_those_of_botocore(key: str, query: dict[str, str], token: str, now: int) -> None:
    """For any key, query and moment, a second signer agrees about what goes on the wire."""
    signing = dialect()
    request = Request("PUT", "127.0.0.1:9000", "/photos/" + encode_path(key), tuple(query.items()), body=b"x")
    signed = signing.sign(request, Credentials("AKID", "secret", token), now)
    theirs = AWSRequest(
        method="PUT",
        url=f"http://127.0.0.1:9000{target(request)}",
        headers={"x-amz-content-sha256": signed.headers["x-amz-content-sha256"]},
        data=b"",
    )
    theirs.context["timestamp"] = signed.headers["x-amz-date"]
    auth = S3SigV4Auth(BotoCredentials("AKID", "secret", token or None), "s3", "us-east-1")
    theirs.headers["X-Amz-Date"] = signed.headers["x-amz-date"]
    if token:
        theirs.headers["X-Amz-Security-Token"] = token
    canonical = auth.canonical_request(theirs)
    signature = auth.signature(auth.string_to_sign(theirs, canonical), theirs)
    assert signed.headers["Authorization"].rpartition("Signature=")[2] == signature


def test_the_key_of_the_day_is_made_anew_when_it_must_be() -> None:
    """Another day or another secret gives what a fresh signer gives."""
    signer = Signer("us-east-1")
    for day, secret in (("20260101", "a"), ("20260102", "a"), ("20260102", "b"), ("20260101", "a")):
        headers = {"host": "h", "x-amz-date": f"{day}T000000Z"}
        arguments = ("GET", "/", [], headers, EMPTY_SHA256, Credentials("AKID", secret))
        assert signer.authorization(*arguments) == Signer("us-east-1").authorization(*arguments)


def test_a_session_token_is_sent_and_signed() -> None:
    """Without it in the signature the server refuses."""
    signed = dialect().sign(dialect().head_request("k"), Credentials("AKID", "secret", "tok"), 1e9)
    assert signed.headers["x-amz-security-token"] == "tok"
    assert "x-amz-security-token" in signed.headers["Authorization"]


def test_no_secret_is_shown() -> None:
    """Neither keys nor tokens nor signatures in a repr that a log may hold."""
    signed = dialect().sign(
        dialect().put_request("k", b"content", META), Credentials("AKIDX", "s3cr3t", "t0k3n"), 1e9
    )
    shown = repr(signed) + repr(Credentials("AKIDX", "s3cr3t", "t0k3n")) + repr(dialect())
    assert [word for word in ("AKIDX", "s3cr3t", "t0k3n", "Signature=", "content") if word in shown] == []


# ---- addresses -------------------------------------------------------------------------------------------

PLACES = [
    ("http://127.0.0.1:9000", {}, "127.0.0.1:9000", "/photos/k"),
    ("https://storage.example", {}, "storage.example", "/photos/k"),
    ("https://storage.example:443", {}, "storage.example", "/photos/k"),
    ("http://storage.example:443", {}, "storage.example:443", "/photos/k"),
    ("https://STORAGE.Example/", {"path_style": False}, "photos.storage.example", "/k"),
    ("http://[::1]:9000", {}, "[::1]:9000", "/photos/k"),
    ("https://s3.amazonaws.com", {}, "photos.s3.amazonaws.com", "/k"),
    ("https://s3.eu-west-1.amazonaws.com", {"path_style": True}, "s3.eu-west-1.amazonaws.com", "/photos/k"),
    ("https://s3.amazonaws.com", {"bucket": "my.photos"}, "s3.amazonaws.com", "/my.photos/k"),
    ("http://s3.amazonaws.com", {"bucket": "my.photos"}, "my.photos.s3.amazonaws.com", "/k"),
    ("https://photos.s3.amazonaws.com", {}, "photos.s3.amazonaws.com", "/k"),
    ("https://s3.bj.bcebos.com", {}, "photos.s3.bj.bcebos.com", "/k"),
    ("https://oss-cn-beijing.aliyuncs.com", {}, "photos.oss-cn-beijing.aliyuncs.com", "/k"),
    ("https://notamazonaws.com", {}, "notamazonaws.com", "/photos/k"),
]


@pytest.mark.parametrize(("endpoint", "settings", "host", "path"), PLACES)
def test_an_object_has_its_address(endpoint: str, settings: dict[str, Any], host: str, path: str) -> None:
    """Path style by default, the virtual-host form where it is wanted, no port where it says nothing."""
    request = dialect(endpoint, **settings).head_request("k")
    assert (request.host, request.path) == (host, path)


@pytest.mark.parametrize(
    "endpoint", ["", "s3.amazonaws.com", "ftp://a", "http://", "http://a:port", "http://[::"]
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    """It is a matter of configuration, not of keys."""
    with pytest.raises(AccessRefused) as caught:
        dialect(endpoint)
    assert not caught.value.credentials


@given(text)
def test_every_key_has_a_path_of_its_own(key: str) -> None:
    """Encoded once, byte for byte, and nothing collapsed."""
    path = dialect().head_request(key).path
    assert path.isascii()
    assert path.removeprefix("/photos/") == encode_path(key)
    assert path.count("/") == key.count("/") + 2


def test_the_identity_of_a_store_survives_what_it_learns() -> None:
    """Records refer to it; a region that the server corrects must not make it another store."""
    store = dialect("https://s3.amazonaws.com")
    before = store.store_id
    store.error(store.head_request("k"), Response(301, {"x-amz-bucket-region": "eu-west-1"}))
    assert store.store_id == before == "s3:https://s3.amazonaws.com/photos"


REGION_HINTS = [
    Response(301, {"x-amz-bucket-region": "eu-west-1"}),
    Response(307, {"x-amz-bucket-region": "eu-west-1"}),
    Response(400, {"x-amz-bucket-region": "eu-west-1"}),
    Response(400, {}, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"),
    Response(403, {"x-amz-bucket-region": "eu-west-1"}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"),
]


@pytest.mark.parametrize("response", REGION_HINTS)
def test_a_region_that_the_server_names_is_used_from_then_on(response: Response) -> None:
    """At once, signed anew, at the region's own address where that is known; nobody is redirected."""
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
def test_a_redirect_without_a_region_is_a_matter_of_configuration(status: int) -> None:
    """Where it points is never followed."""
    error = dialect().error(dialect().head_request("k"), Response(status, {"location": "http://evil/"}))
    assert isinstance(error, AccessRefused)
    assert "region" in str(error)


@pytest.mark.parametrize("region", ["evil.example/", "a b", "x" * 100, ""])
def test_a_region_that_is_none_is_not_believed(region: str) -> None:
    """It becomes part of a host name."""
    store = dialect("https://s3.us-east-1.amazonaws.com")
    store.error(store.head_request("k"), Response(301, {"x-amz-bucket-region": region}))
    assert store.head_request("k").host == "photos.s3.us-east-1.amazonaws.com"


# ---- bodies ----------------------------------------------------------------------------------------------

BODY = b"123456789"
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


def test_a_part_carries_the_crc32_that_was_sent_with_it() -> None:
    """So that complete can combine them; none where none was computed."""
    for integrity, crc32 in (("crc32", zlib.crc32(BODY)), ("sha256", None)):
        store = dialect(integrity=integrity)
        request = store.part_request("k", "u", 3, BODY)
        part = store.part_result("k", "u", 3, BODY, request, Response(200, {"etag": '"e"'}))
        assert part == Part(3, 9, "e", crc32=crc32)


def test_complete_carries_the_crc32_of_the_whole() -> None:
    """Combined from the parts', without reading a byte again; left out when one is unknown."""
    store = dialect(integrity="crc32")
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


# ---- metadata --------------------------------------------------------------------------------------------


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
    }
    info = store.head_result("k", request, Response(200, headers))
    assert info is not None
    assert (info.size, info.etag, info.digest, info.mtime_ns) == (5, "abc", bytes(16), 1_500_000_000)
    assert (info.token, info.crc32) == ("t", 0xCBF43926)
    bare = store.head_result("k", request, Response(200, {"content-length": "0", "etag": '"x-2"'}))
    assert bare is not None
    assert (bare.digest, bare.mtime_ns, bare.token, bare.crc32) == (None, None, None, None)


def test_a_checksum_of_checksums_is_no_checksum_of_the_object() -> None:
    """A multipart object may carry one; it must not be compared with the content's."""
    store = dialect()
    for headers in ({"x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-crc32": "y/Q5Jg=="},
                    {"x-amz-checksum-crc32": "y/Q5Jg==-3"}):  # fmt: skip
        answer = Response(200, {"content-length": "1", "etag": "e", **headers})
        info = store.head_result("k", store.head_request("k"), answer)
        assert info is not None
        assert info.crc32 is None


def test_what_is_not_there_is_none() -> None:
    """404 to a HEAD, whatever it means."""
    assert dialect().head_result("k", dialect().head_request("k"), Response(404, {})) is None


# ---- answers ---------------------------------------------------------------------------------------------

STORE = dialect()
MULTIPART: dict[str, tuple[Request, Callable[[Request, Response], object]]] = {
    "create": (STORE.create_request("k", META), lambda *pair: STORE.create_result("k", *pair)),
    "complete": (
        STORE.complete_request("k", "u", [Part(1, 1, "e")], META),
        lambda *pair: STORE.complete_result("k", "u", *pair),
    ),
    "copy": (STORE.copy_request("s", "k", META, "e"), lambda *pair: STORE.copy_result("k", *pair)),
    "copy a part": (
        STORE.part_copy_request("k", "u", 1, "s", 0, 9, "e"),
        lambda *pair: STORE.part_copy_result("k", "u", 1, 10, *pair),
    ),
    "list parts": (STORE.parts_request("k", "u", 0), lambda *pair: STORE.parts_result("k", "u", *pair)),
    "list uploads": (STORE.uploads_request("", None), lambda *pair: STORE.uploads_result("", *pair)),
}
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
    """Nobody knows what happened: the outcome is unknown."""
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
    (Response(206, {}, b"llo"), None),
]


@pytest.mark.parametrize(("answer", "content"), RANGES)
def test_a_range_is_the_one_that_was_asked_for(answer: Response, content: bytes | None) -> None:
    """Also from servers that ignore ranges, or honour them under another status."""
    request = STORE.get_request("k", 2, 4)
    assert request.headers["range"] == "bytes=2-4"
    if content is not None:
        assert STORE.get_result("k", 2, 4, request, answer) == content
        return
    with pytest.raises(StoreUnavailable):
        STORE.get_result("k", 2, 4, request, answer)


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
    """An upload that was believed to be aborted would stay in the store for ever."""
    for request, read in (
        (STORE.delete_request("k"), lambda *pair: STORE.delete_result("k", *pair)),
        (STORE.abort_request("k", "u"), lambda *pair: STORE.abort_result("k", "u", *pair)),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            read(request, Response(status, {}, NO_SUCCESS[what]))
        assert caught.value.outcome_unknown


# ---- lists -----------------------------------------------------------------------------------------------


def parts_xml(numbers: list[int], rest: str = "") -> bytes:
    parts = [
        f"<Part><PartNumber>{n}</PartNumber><ETag>&quot;e{n}&quot;</ETag><Size>{n * 10}</Size></Part>"
        for n in numbers
    ]
    return xml("ListPartsResult", "".join(parts) + rest)


PAGES = [
    ("", None),
    ("<IsTruncated>false</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>", None),
    ("<IsTruncated>true</IsTruncated><NextPartNumberMarker>7</NextPartNumberMarker>", 7),
    ("<IsTruncated>true</IsTruncated>", 2),
]


@pytest.mark.parametrize(("rest", "following"), PAGES)
def test_a_page_of_parts_says_whether_there_is_more(rest: str, following: int | None) -> None:
    """Absent IsTruncated is the last page; an absent marker is the last number."""
    request, read = MULTIPART["list parts"]
    page = read(request, Response(200, {}, parts_xml([1, 2], rest)))
    assert page == ([Part(1, 10, "e1"), Part(2, 20, "e2")], following)


def test_the_next_page_of_parts_is_asked_for_by_number() -> None:
    """And the first without any marker."""
    assert STORE.parts_request("k", "u", 0).query == (("uploadId", "u"),)
    assert STORE.parts_request("k", "u", 7).query == (("part-number-marker", "7"), ("uploadId", "u"))


@pytest.mark.parametrize("spoiled", [b"<PartNumber>x<", b"<PartNumber>-1<", b"<PartNumber><"])
def test_a_list_of_parts_that_makes_no_sense_is_no_list(spoiled: bytes) -> None:
    """Rather than a part under a wrong number."""
    request, read = MULTIPART["list parts"]
    with pytest.raises(StoreUnavailable):
        read(request, Response(200, {}, parts_xml([1]).replace(b"<PartNumber>1<", spoiled)))


def uploads_xml(keys: list[str], rest: str = "") -> bytes:
    uploads = [
        f"<Upload><Key>{key}</Key><UploadId>id{n}</UploadId>"
        "<Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload>"
        for n, key in enumerate(keys)
    ]
    return xml("ListMultipartUploadsResult", "".join(uploads) + rest)


LISTINGS = {
    "declared": (["a+b%2Bc%0A"], "<EncodingType>url</EncodingType>", ["a b+c\n"]),
    "not encoded": (["a b+c%41"], "", ["a b+c%41"]),
    "not encoded, though it looks so": (["a%41"], "", ["a%41"]),
    "not encoded, and the marker shows it": (["a%41"], "<NextKeyMarker>a%41</NextKeyMarker>", ["a%41"]),
    "encoded in silence, and the marker shows it": (
        ["a", "b%20%7C*|"],
        "<NextKeyMarker>b |*|</NextKeyMarker>",
        ["a", "b |*|"],
    ),
    "a forbidden character": (["a&#x1b;b&#27;&amp;&#10;"], "", ["a\x1bb\x1b&\n"]),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_keys_of_uploads_are_what_they_were(name: str) -> None:
    """Whether the server encodes them, says so, or neither."""
    keys, rest, expected = LISTINGS[name]
    request, read = MULTIPART["list uploads"]
    uploads, following = read(request, Response(200, {}, uploads_xml(keys, rest)))  # type: ignore[misc]
    assert ([upload.key for upload in uploads], following) == (expected, None)


def test_uploads_elsewhere_are_left_out() -> None:
    """A server may ignore the prefix."""
    answer = Response(200, {}, uploads_xml(["a/1", "b/2"]))
    uploads, _ = STORE.uploads_result("a/", STORE.uploads_request("a/", None), answer)
    assert uploads == [UploadInfo("a/1", "id0", 1_767_323_045 * 10**9)]


MARKERS = [
    ("<IsTruncated>false</IsTruncated><NextKeyMarker>z</NextKeyMarker>", None),
    (
        "<IsTruncated>true</IsTruncated><NextKeyMarker>z</NextKeyMarker><NextUploadIdMarker>7</NextUploadIdMarker>",
        ("z", "7"),
    ),
    ("<IsTruncated>true</IsTruncated>", ("b", "id1")),
]


@pytest.mark.parametrize(("rest", "following"), MARKERS)
def test_a_page_of_uploads_says_whether_there_is_more(rest: str, following: tuple[str, str] | None) -> None:
    """By key and upload id together, for one key may have many uploads."""
    request, read = MULTIPART["list uploads"]
    page: Any = read(request, Response(200, {}, uploads_xml(["a", "b"], rest)))
    assert page[1] == following
    query = dict(STORE.uploads_request("p", ("z", "7")).query)
    assert (query["key-marker"], query["upload-id-marker"], query["prefix"]) == ("z", "7", "p")


# ---- errors ----------------------------------------------------------------------------------------------

PUT = STORE.put_request("k", BODY, META)
PART = STORE.part_request("k", "u", 1, BODY)
LIST_PARTS = STORE.parts_request("k", "u", 0)
COMPLETE = STORE.complete_request("k", "u", [Part(1, 1, "e")], META)
PART_COPY = STORE.part_copy_request("k", "u", 1, "s", 0, 9, "e")
UPLOADS = STORE.uploads_request("", None)

ERRORS: list[tuple[Request, int, str, type[StoreError]]] = [
    (PUT, 400, "RequestTimeout", StoreUnavailable),
    (PUT, 400, "IncompleteBody", StoreUnavailable),
    (PUT, 503, "SlowDown", StoreUnavailable),
    (PUT, 500, "InternalError", StoreUnavailable),
    (PUT, 403, "RequestTimeTooSkewed", StoreUnavailable),
    (PUT, 409, "OperationAborted", StoreUnavailable),
    (PUT, 400, "ThrottlingException", StoreUnavailable),
    (PUT, 408, "", StoreUnavailable),
    (PUT, 429, "", StoreUnavailable),
    (PUT, 500, "", StoreUnavailable),
    (PUT, 502, "", StoreUnavailable),
    (PUT, 503, "", StoreUnavailable),
    (PUT, 504, "", StoreUnavailable),
    (PUT, 520, "", StoreUnavailable),
    (PUT, 403, "InvalidAccessKeyId", AccessRefused),
    (PUT, 403, "SignatureDoesNotMatch", AccessRefused),
    (PUT, 400, "ExpiredToken", AccessRefused),
    (PUT, 400, "InvalidToken", AccessRefused),
    (PUT, 404, "NoSuchBucket", AccessRefused),
    (PUT, 401, "", AccessRefused),
    (PUT, 507, "", AccessRefused),
    (UPLOADS, 403, "AccessDenied", AccessRefused),
    (PUT, 403, "AccessDenied", StoreRefused),
    (PUT, 403, "", StoreRefused),
    (PUT, 403, "SomethingNew", StoreRefused),
    (PUT, 400, "KeyTooLongError", StoreRefused),
    (PUT, 400, "EntityTooLarge", StoreRefused),
    (PUT, 400, "InvalidArgument", StoreRefused),
    (PUT, 501, "NotImplemented", StoreRefused),
    (PART, 501, "NotImplemented", StoreRefused),
    (PUT, 501, "", StoreRefused),
    (PUT, 418, "", StoreRefused),
    (PUT, 400, "BadDigest", PartCorrupt),
    (PART, 400, "XAmzContentSHA256Mismatch", PartCorrupt),
    (PUT, 412, "PreconditionFailed", PreconditionFailed),
    (PUT, 412, "", PreconditionFailed),
    (PART, 404, "NoSuchUpload", UploadGone),
    (LIST_PARTS, 404, "NoSuchUpload", UploadGone),
    (LIST_PARTS, 404, "NoSuchKey", UploadGone),
    (COMPLETE, 404, "NoSuchKey", UploadGone),
    (PART, 404, "", UploadGone),
    (PART, 404, "NoSuchBucket", AccessRefused),
    (PART_COPY, 404, "NoSuchKey", StoreRefused),
    (PART_COPY, 404, "NoSuchUpload", UploadGone),
    (COMPLETE, 400, "EntityTooSmall", PartsRefused),
    (COMPLETE, 400, "InvalidPart", PartsRefused),
    (COMPLETE, 400, "InvalidPartOrder", PartsRefused),
]


@pytest.mark.parametrize(("request_", "status", "code", "expected"), ERRORS)
def test_an_error_is_what_its_code_says_or_else_its_status(
    request_: Request, status: int, code: str, expected: type[StoreError]
) -> None:
    """One reaction for each."""
    error = STORE.error(request_, refusal(status, code))
    assert type(error) is expected
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize("code", CODES)
def test_every_known_code_makes_its_error_whatever_the_status(code: str) -> None:
    """The code decides; and who has to act is told how."""
    error = STORE.error(PUT, refusal(400, code))
    assert type(error) is CODES[code].error
    assert not isinstance(error, AccessRefused) or error.hint


@pytest.mark.parametrize(("code", "blamed"), [("InvalidAccessKeyId", True), ("NoSuchBucket", False)])
def test_keys_are_blamed_only_where_they_are_to_blame(code: str, blamed: bool) -> None:
    """The exit code of a command depends on it."""
    error = STORE.error(PUT, refusal(404, code))
    assert isinstance(error, AccessRefused)
    assert error.credentials is blamed


def test_too_small_parts_are_told_apart() -> None:
    """The restart takes larger ones."""
    for code, too_small in (("EntityTooSmall", True), ("InvalidPart", False)):
        error = STORE.error(COMPLETE, refusal(400, code))
        assert isinstance(error, PartsRefused)
        assert error.too_small is too_small


@pytest.mark.parametrize(
    ("status", "code", "unknown"),
    [
        (500, "", True),
        (502, "", True),
        (504, "", True),
        (500, "InternalError", True),
        (503, "SlowDown", False),
    ],
)
def test_an_error_says_whether_it_may_have_been_done(status: int, code: str, unknown: bool) -> None:
    """A gateway that gave up knows nothing about the store behind it."""
    error = STORE.error(PUT, refusal(status, code))
    assert isinstance(error, StoreUnavailable)
    assert error.outcome_unknown is unknown


def test_an_error_tells_what_support_would_ask_for() -> None:
    """Code, status, the store's words, and the id of the request."""
    shown = str(STORE.error(PUT, refusal(403, "AccessDenied")))
    assert all(word in shown for word in ("403", "AccessDenied", "no", "r1"))


@pytest.mark.parametrize("body", [b"<html>403</html>", b"\xff\xfe", b"<Error><Code>", b"{}", bytes(9 << 20)])
def test_an_error_page_of_somebody_else_is_judged_by_its_status(body: bytes) -> None:
    """A proxy's words are not the store's."""
    assert type(STORE.error(PUT, Response(503, {}, body))) is StoreUnavailable


def test_a_head_that_somebody_else_answers_tells_nothing() -> None:
    """A captive portal's 200 has a length and no ETag."""
    headers = {"content-type": "text/html; charset=utf-8", "content-length": "95"}
    with pytest.raises(StoreUnavailable):
        STORE.head_result("k", STORE.head_request("k"), Response(200, headers, b""))


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_page_of_somebody_else_is_no_word_of_the_store(status: int) -> None:
    """A firewall on the way does not know what these keys may do, nor what is there."""
    for request in (PUT, STORE.abort_request("k", "u"), STORE.uploads_request("k", None)):
        found = STORE.error(request, Response(status, {}, b"<html><h1>Blocked</h1></html>"))
        assert type(found) is StoreUnavailable
        assert "not from the store" in str(found)


def test_a_404_of_somebody_else_does_not_make_an_upload_gone() -> None:
    """Its parts would be sent again, and the old ones stay in the store."""
    request = STORE.part_request("k", "u", 1, BODY)
    for body in (
        b"<html><h1>Not Found</h1></html>",
        b"<!doctype html><p>Nothing here<br>",
        b"404 page not found",
    ):
        assert type(STORE.error(request, Response(404, {}, body))) is StoreUnavailable
    assert type(STORE.error(request, Response(404, {}))) is UploadGone
    assert type(STORE.error(request, refusal(404, "NoSuchUpload"))) is UploadGone


# ---- XML -------------------------------------------------------------------------------------------------

ENTITIES = '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
BOMB = f'<?xml version="1.0"?><!DOCTYPE b [{ENTITIES}]><Error>&b;</Error>'.encode()
REFUSED = {
    "document type": b"<!DOCTYPE Error><Error/>",
    "entities": BOMB,
    "external entity": b'<!DOCTYPE Error [<!ENTITY x SYSTEM "file:///etc/passwd">]><Error>&x;</Error>',
    "in UTF-16": BOMB.decode().encode("utf-16"),
    "too deep": b"<a>" * 100 + b"</a>" * 100,
    "too large": b"<a>" + b"x" * (9 << 20) + b"</a>",
    "two roots": b"<a/><b/>",
    "unknown encoding": b'<?xml version="1.0" encoding="klingon"?><a/>',
    "not UTF-8": b"<a>\xff</a>",
    "unknown entity": b"<a>&nbsp;</a>",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_document_that_no_store_sends_is_none(name: str) -> None:
    """Nothing is expanded, fetched or built without end."""
    assert s3_xml.parse(REFUSED[name]) is None


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_parser(data: bytes) -> None:
    """A document or none; never an exception."""
    s3_xml.parse(data)
    s3_xml.parse(b"<a>" + data + b"</a>")
