"""The BOS dialect, pair by pair: what it asks, and what it makes of every answer."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zlib
from dataclasses import replace
from urllib.parse import quote

import pytest
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
from syncd.core.model import Fingerprint, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.storage.bos import errors as bos_errors
from syncd.storage.bos import signing as bos_sign
from syncd.storage.bos import values as bos_values
from syncd.storage.bos.bucket import LIMITS, key_problem
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.settings import BosSettings, HttpSettings

with open(os.path.join(os.path.dirname(__file__), "bos_auth_vectors.json"), encoding="utf-8") as _file:
    _DATA = json.load(_file)
VECTORS = {vector["name"]: vector for vector in _DATA["vectors"]}
PRESIGNED = {vector["name"]: vector for vector in _DATA["presigned"]}

NOW = 1430123029.75
KEYS = Credentials("AK", "SK")
META = ObjectMeta(
    Fingerprint(bytes(range(16)), 5), 1_600_000_000_123_456_789, "token-1", content_type="text/plain"
)
MD5 = hashlib.md5(b"hello").hexdigest()
MD5_BASE64 = base64.b64encode(bytes.fromhex(MD5)).decode()
UPLOAD = "0123456789abcdef0123456789abcdef"
REQUEST_ID = "7e3c0d2e-request"
META_HEADERS = {
    "x-bce-meta-mtime": "1600000000.123456789",
    "x-bce-meta-syncd-xxh128": "000102030405060708090a0b0c0d0e0f",
    "x-bce-meta-syncd-upload": "token-1",
}


def bos(**settings: object) -> BosDialect:
    """A dialect for the bucket photos in Beijing."""
    endpoint = settings.pop("endpoint", "https://bj.bcebos.com")
    return BosDialect(BosSettings(HttpSettings(str(endpoint)), "photos", **settings))  # type: ignore[arg-type]


def answer(status: int = 200, body: object = b"", **headers: str) -> Response:
    """A response; bodies that are not bytes go out as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"x-bce-request-id": REQUEST_ID, **named}, content)


def refusal(status: int, code: str, message: str = "", **headers: str) -> Response:
    """An error answer as BOS writes it."""
    return answer(status, {"code": code, "message": message, "requestId": "from-the-body"}, **headers)


def raised(call: object, *args: object) -> StoreError:
    """The error of ours that the call raises."""
    with pytest.raises(StoreError) as info:
        call(*args)  # type: ignore[operator]
    return info.value


# ---- signature -------------------------------------------------------------------------------------------


def _signed_names(vector: dict) -> list[str]:
    if vector["headers_to_sign"] is not None:
        return vector["headers_to_sign"]
    default = {"host", "content-length", "content-type", "content-md5"}
    names = {name.strip().lower() for name in vector["headers"]}
    return sorted(name for name in names if name in default or name.startswith("x-bce-"))


@pytest.mark.parametrize("name", VECTORS)
def test_a_signature_is_that_of_the_vendors_sdks(name: str) -> None:
    """Canonical request and signature of every published vector come out to the byte."""
    vector = VECTORS[name]
    names = _signed_names(vector)
    path = bos_sign.encode(vector["path"], keep_slash=True)
    canonical = bos_sign.canonical_request(
        vector["method"], path, vector["params"].items(), vector["headers"], names
    )
    assert vector["canonical_request"] == canonical
    keys = Credentials(vector["ak"], vector["sk"])
    value = bos_sign.authorization(canonical, names, keys, vector["timestamp"], vector["expiration"])
    expected = vector["expected_authorization"]
    if vector["headers_to_sign"] is None:
        # The vector leaves the list of headers out; the signature does not depend on the list.
        assert expected.rpartition("/")[2] == value.rpartition("/")[2]
        assert expected.split("/")[:4] == value.split("/")[:4]
    else:
        assert expected == value


@pytest.mark.parametrize("name", PRESIGNED)
def test_a_presigned_address_is_signed_by_the_same_rules(name: str) -> None:
    """The vendor's presigned URLs hold the signature of host and query."""
    vector = PRESIGNED[name]
    host = f"{vector['bucket']}.bj.bcebos.com"
    query = dict(vector["params"])
    if vector["security_token"]:
        query["x-bce-security-token"] = vector["security_token"]
    path = bos_sign.encode(f"/{vector['key']}", keep_slash=True)
    canonical = bos_sign.canonical_request(vector["method"], path, query.items(), {"Host": host}, ["host"])
    keys = Credentials(vector["ak"], vector["sk"])
    value = bos_sign.authorization(canonical, ["host"], keys, vector["timestamp"], vector["expiration"])
    found = re.search(r"authorization=([^&]+)", vector["expected_url"])
    assert found is not None
    assert found[1].rpartition("%2F")[2] == quote(value, safe="").rpartition("%2F")[2]


def test_a_signed_request_lists_host_md5_type_and_every_bce_header() -> None:
    """The list is written out, without Content-Length and Range, so that nothing on the way can break it."""
    request = bos().put_request("a b", b"hello", META)
    signed = bos().sign(replace(request, headers={**request.headers, "Range": "bytes=0-1"}), KEYS, NOW)
    value = signed.headers["Authorization"]
    assert value.startswith("bce-auth-v1/AK/2015-04-27T08:23:49Z/1800/")
    expected = (
        "content-md5;content-type;host;x-bce-date;x-bce-meta-mtime;x-bce-meta-syncd-upload;"
        "x-bce-meta-syncd-xxh128"
    )
    assert expected == value.split("/")[4]


def test_a_session_token_travels_as_a_signed_header() -> None:
    """With temporary keys the token is sent, and is among the signed headers."""
    signed = bos().sign(bos().head_request("k"), Credentials("AK", "SK", "to+ken=="), NOW)
    assert signed.headers["x-bce-security-token"] == "to+ken=="
    assert signed.headers["Authorization"].split("/")[4] == "host;x-bce-date;x-bce-security-token"


def test_signing_again_replaces_date_and_signature() -> None:
    """A repeated request is signed for the new time, whatever it was signed with before."""
    once = bos().sign(bos().head_request("k"), KEYS, NOW)
    again = bos().sign(once, KEYS, NOW + 3600)
    assert again.headers["x-bce-date"] == "2015-04-27T09:23:49Z"
    assert again == bos().sign(bos().head_request("k"), KEYS, NOW + 3600)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_every_key_is_signed_as_it_goes_on_the_wire(key: str) -> None:
    """The path of a request is its own canonical form: encoded once, slashes kept."""
    path = "/" + bos_sign.encode(key, keep_slash=True)
    assert re.fullmatch(r"(?:[A-Za-z0-9\-._~/]|%[0-9A-F]{2})+", path)
    assert bos_sign.canonical_request("GET", path, (), {}, ()).split("\n")[1] == path


# ---- where requests go -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "path_style", "host", "path"),
    [
        ("https://bj.bcebos.com", False, "photos.bj.bcebos.com", "/k"),
        ("https://photos.bj.bcebos.com", False, "photos.bj.bcebos.com", "/k"),
        ("https://BJ.bcebos.com", False, "photos.bj.bcebos.com", "/k"),
        ("https://bj.bcebos.com", True, "bj.bcebos.com", "/photos/k"),
        ("https://photos.bj.bcebos.com", True, "bj.bcebos.com", "/photos/k"),
        ("http://127.0.0.1:8080", False, "127.0.0.1:8080", "/photos/k"),
        ("http://[::1]:8080", False, "[::1]:8080", "/photos/k"),
        ("http://storage.example.org:8080", False, "photos.storage.example.org:8080", "/k"),
    ],
)
def test_the_bucket_is_in_the_host_unless_that_is_an_address(
    endpoint: str, path_style: bool, host: str, path: str
) -> None:
    """Virtual-host style by default; path style for IP addresses and where it is asked for."""
    request = bos(endpoint=endpoint, path_style=path_style).head_request("k")
    assert (host, path) == (request.host, request.path)


def test_a_bucket_is_the_same_store_however_it_is_reached() -> None:
    """Style and scheme do not make another store; endpoint and bucket do."""
    ids = {
        bos().store_id,
        bos(path_style=True).store_id,
        bos(endpoint="http://bj.bcebos.com").store_id,
        bos(endpoint="https://photos.bj.bcebos.com").store_id,
    }
    assert ids == {"bos://bj.bcebos.com/photos"}
    assert bos(endpoint="https://gz.bcebos.com").store_id not in ids


def test_the_endpoint_of_another_bucket_is_refused() -> None:
    """An endpoint that names another bucket would send the files there."""
    error = raised(lambda: bos(endpoint="https://other.bj.bcebos.com"))
    assert isinstance(error, AccessRefused)
    assert not error.credentials
    assert "other" in str(error)


@pytest.mark.parametrize(
    "key", ["", "a/../b", "./a", "a/.", "..", "v1", "v1/x", "V1/x", "x" * 1025, "é" * 513]
)
def test_keys_that_bos_refuses_or_mixes_up_are_refused_here(key: str) -> None:
    """Dot segments, a leading v1 and more than 1024 bytes never reach the server, with the reason said."""
    assert key_problem(key)
    for call in (
        lambda: bos().put_request(key, b"", META),
        lambda: bos().head_request(key),
        lambda: bos().copy_request(key, "k", META, ""),
        lambda: bos().part_copy_request("k", UPLOAD, 1, key, 0, 1, ""),
    ):
        error = raised(call)
        assert isinstance(error, StoreRefused)
        assert not isinstance(error, AccessRefused)
        assert str(key_problem(key)) in str(error)


@pytest.mark.parametrize(
    "key", ["a b", "a//b", "/a", "a/", "v1.txt", "v10/x", "x" * 1024, "..a/b..", "中文+%"]
)
def test_other_keys_are_taken(key: str) -> None:
    """Odd keys that BOS stores faithfully are not refused."""
    assert key_problem(key) is None


def test_limits_satisfy_every_reading_of_the_documents() -> None:
    """Parts of 5 MiB in whole MiB, and sizes below the decimal meaning of 5 GB and 48.8 TB."""
    assert bos().limits == LIMITS
    assert LIMITS.min_part_size == 5 << 20
    assert LIMITS.part_size_multiple == 1 << 20
    assert LIMITS.max_parts == 10_000
    assert LIMITS.max_part_size == LIMITS.max_put_size <= 5 * 10**9
    assert LIMITS.max_part_size % (1 << 20) == 0
    assert LIMITS.max_object_size <= 48_800_000_000_000 <= LIMITS.max_parts * LIMITS.max_part_size


# ---- requests and results, verb by verb ------------------------------------------------------------------


def test_put_carries_md5_type_and_metadata() -> None:
    """PutObject: the digest that the server checks, and all that a lost database is rebuilt from."""
    request = bos().put_request("dir/a b.txt", b"hello", META)
    assert request == Request(
        "PUT",
        "photos.bj.bcebos.com",
        "/dir/a%20b.txt",
        headers={"Content-Type": "text/plain", "Content-MD5": MD5_BASE64, **META_HEADERS},
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


@pytest.mark.parametrize(("asked", "sent"), [(1, "819200"), (102_400, "819200"), (10**9, "838860800")])
def test_a_traffic_limit_out_of_bounds_is_brought_to_the_nearer_end(asked: int, sent: str) -> None:
    """BOS refuses values outside of 819200 to 838860800 bit/s."""
    assert bos(traffic_limit=asked).part_request("k", UPLOAD, 1, b"").headers["x-bce-traffic-limit"] == sent


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


def test_get_asks_for_a_range_and_checks_that_it_got_it() -> None:
    """Both ends included; 206 must be the range asked for; 200 is everything, of which a piece is taken."""
    request = bos().get_request("k", 2, 4)
    assert request.headers == {"Range": "bytes=2-4"}
    right = answer(206, b"llo", content_range="bytes 2-4/5")
    assert bos().get_result("k", 2, 4, request, right) == b"llo"
    assert bos().get_result("k", 2, 4, request, answer(200, b"hello world")) == b"llo"
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
        "Content-Type": "text/plain",
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
    assert request.headers == {"Content-Type": "text/plain", "x-bce-storage-class": "COLD"}
    assert (request.method, request.query) == ("POST", (("uploads", ""),))
    assert not request.safe_to_repeat
    assert bos().create_result("k", request, answer(200, {"uploadId": UPLOAD})) == UPLOAD


def test_a_part_carries_number_upload_and_md5() -> None:
    """UploadPart, and the part that comes of it: with the CRC-32 that complete will need."""
    request = bos().part_request("k", "a+b/c=", 7, b"hello")
    assert request.query == (("partNumber", "7"), ("uploadId", "a+b/c="))
    assert request.headers == {"Content-MD5": MD5_BASE64}
    part = bos().part_result("k", UPLOAD, 7, memoryview(b"hello"), request, answer(etag=f'"{MD5}"'))
    assert part == Part(7, 5, MD5, crc32=zlib.crc32(b"hello"))


def test_a_part_copy_is_a_conditional_range_of_another_object() -> None:
    """UploadPartCopy with both ends included; an unconditional one could mix two states of the source."""
    request = bos().part_copy_request("k", UPLOAD, 2, "src", 10, 19, MD5)
    assert request.headers == {
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
    assert isinstance(wrong, PartsRefused)
    assert not wrong.too_small


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_of_abort_is_done(status: int) -> None:
    """The status of a successful abort is not documented."""
    request = bos().abort_request("k", UPLOAD)
    assert (request.method, request.query) == ("DELETE", (("uploadId", UPLOAD),))
    bos().abort_result("k", UPLOAD, request, answer(status))


@pytest.mark.parametrize("status", [200, 202, 404])
def test_a_page_of_html_removes_nothing(status: int) -> None:
    """An upload that was believed to be aborted would stay in the store for ever."""
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


# ---- listings --------------------------------------------------------------------------------------------


def _listed(*numbers: int) -> list[dict[str, object]]:
    return [{"partNumber": number, "eTag": f"e{number}", "size": 10} for number in numbers]


def test_pages_of_parts_follow_is_truncated_and_not_the_marker() -> None:
    """BOS gives a next marker on the last page too."""
    request = bos().parts_request("k", UPLOAD, 0)
    assert request.query == (("uploadId", UPLOAD), ("maxParts", "1000"))
    page = {"isTruncated": True, "nextPartNumberMarker": 2, "parts": _listed(1, 2)}
    expected = ([Part(1, 10, "e1"), Part(2, 10, "e2")], 2)
    assert expected == bos().parts_result("k", UPLOAD, request, answer(200, page))
    second = bos().parts_request("k", UPLOAD, 2)
    assert ("partNumberMarker", "2") in second.query
    last = {"isTruncated": False, "nextPartNumberMarker": 3, "parts": _listed(3)}
    assert bos().parts_result("k", UPLOAD, second, answer(200, last)) == ([Part(3, 10, "e3")], None)


def test_parts_given_as_text_and_without_marker_are_read() -> None:
    """Servers of this protocol write numbers and truths as text, quote ETags, or leave the marker out."""
    request = bos().parts_request("k", UPLOAD, 0)
    page = {"isTruncated": "true", "parts": [{"partNumber": "4", "eTag": '"e4"', "size": "10"}]}
    assert bos().parts_result("k", UPLOAD, request, answer(200, page)) == ([Part(4, 10, "e4")], 4)
    empty = {"isTruncated": "false"}
    assert bos().parts_result("k", UPLOAD, request, answer(200, empty)) == ([], None)


@pytest.mark.parametrize(
    "page",
    [
        {"isTruncated": True, "nextPartNumberMarker": 2, "parts": []},
        {"isTruncated": True, "parts": []},
        {"isTruncated": False, "parts": [{"partNumber": 3, "eTag": "e"}]},
        {"isTruncated": False, "parts": [{"partNumber": "three", "eTag": "e", "size": 1}]},
    ],
)
def test_a_listing_that_leads_nowhere_is_an_error_and_not_a_loop(page: dict[str, object]) -> None:
    """A marker that does not advance, or a part without number or size, ends the listing loudly."""
    request = bos().parts_request("k", UPLOAD, 2)
    assert isinstance(raised(bos().parts_result, "k", UPLOAD, request, answer(200, page)), StoreUnavailable)


def test_parts_of_an_upload_that_is_gone() -> None:
    """NoSuchUpload, and a bare 404, mean that the upload has to begin anew."""
    request = bos().parts_request("k", UPLOAD, 0)
    for response in (refusal(404, "NoSuchUpload"), answer(404)):
        assert isinstance(raised(bos().parts_result, "k", UPLOAD, request, response), UploadGone)


def test_pages_of_uploads_give_key_id_and_time() -> None:
    """Uploads outside of the prefix are left out, should the server ignore it."""
    request = bos().uploads_request("cam/", None)
    assert request.path == "/"
    assert request.query == (("uploads", ""), ("maxUploads", "1000"), ("prefix", "cam/"))
    page = {
        "isTruncated": True,
        "nextKeyMarker": "cam/b",
        "nextUploadIdMarker": "u2",
        "uploads": [
            {"key": "cam/a", "uploadId": "u1", "initiated": "2026-01-02T03:04:05Z"},
            {"key": "cam/b", "uploadId": "u2", "initiated": ""},
            {"key": "other", "uploadId": "u3"},
        ],
    }
    expected = (
        [UploadInfo("cam/a", "u1", 1_767_323_045_000_000_000), UploadInfo("cam/b", "u2")],
        ("cam/b", "u2"),
    )
    assert expected == bos().uploads_result("cam/", request, answer(200, page))
    following = bos().uploads_request("", ("cam/b", "u2"))
    assert following.query[2:] == (("keyMarker", "cam/b"), ("uploadIdMarker", "u2"))


def test_pages_of_uploads_without_marker_go_on_from_the_last() -> None:
    """Truncated without a marker: the last upload listed is the marker; the same one again is an error."""
    page = {"isTruncated": True, "uploads": [{"key": "a", "uploadId": "u1"}]}
    first = bos().uploads_request("", None)
    assert bos().uploads_result("", first, answer(200, page)) == ([UploadInfo("a", "u1")], ("a", "u1"))
    second = bos().uploads_request("", ("a", "u1"))
    assert isinstance(raised(bos().uploads_result, "", second, answer(200, page)), StoreUnavailable)
    assert bos(path_style=True).uploads_request("", None).path == "/photos"


# ---- errors ----------------------------------------------------------------------------------------------

PUT = bos().put_request("k", b"hello", META)
PART = bos().part_request("k", UPLOAD, 1, b"hello")
COMPLETE = bos().complete_request("k", UPLOAD, [Part(1, 5, "e1")], META)

REACTIONS = [
    # status, code, class, attributes
    (403, "SignatureDoesNotMatch", AccessRefused, {"credentials": True}),
    (403, "InvalidAccessKeyId", AccessRefused, {"credentials": True}),
    (400, "InvalidSessionToken", AccessRefused, {"credentials": True}),
    (400, "InvalidHTTPAuthHeader", AccessRefused, {"credentials": True}),
    (403, "AccountOverdue", AccessRefused, {"credentials": False}),
    (404, "NoSuchBucket", AccessRefused, {"credentials": False}),
    (400, "InvalidBucketName", AccessRefused, {"credentials": False}),
    (403, "BucketQuotaExceeded", AccessRefused, {"credentials": False}),
    (403, "AccessDenied", StoreRefused, {}),
    (403, "RequestTimeTooSkewed", StoreUnavailable, {"outcome_unknown": False}),
    (400, "RequestExpired", StoreUnavailable, {"outcome_unknown": False}),
    (400, "RequestTimeout", StoreUnavailable, {"outcome_unknown": False}),
    (408, "RequestTimeout", StoreUnavailable, {"outcome_unknown": False}),
    (400, "ReadBodyError", StoreUnavailable, {"outcome_unknown": False}),
    (400, "Http400", StoreUnavailable, {"outcome_unknown": False}),
    (429, "RequestRateLimitExceeded", StoreUnavailable, {"outcome_unknown": False}),
    (503, "ServiceUnavailable", StoreUnavailable, {"outcome_unknown": False}),
    (503, "SlowDown", StoreUnavailable, {"outcome_unknown": False}),
    (500, "InternalError", StoreUnavailable, {"outcome_unknown": True}),
    (502, "SomethingNew", StoreUnavailable, {"outcome_unknown": True}),
    (404, "NoSuchUpload", UploadGone, {}),
    (400, "BadDigest", PartCorrupt, {}),
    (400, "InvalidDigest", PartCorrupt, {}),
    (400, "EntityTooSmall", PartsRefused, {"too_small": True}),
    (400, "InvalidPart", PartsRefused, {"too_small": False}),
    (400, "InvalidPartOrder", PartsRefused, {"too_small": False}),
    (412, "PreconditionFailed", PreconditionFailed, {}),
    (404, "NoSuchKey", StoreRefused, {}),
    (400, "EntityTooLarge", StoreRefused, {}),
    (400, "MetadataTooLarge", StoreRefused, {}),
    (400, "InvalidObjectName", StoreRefused, {}),
    (400, "InvalidArgument", StoreRefused, {}),
    (400, "MalformedJSON", StoreRefused, {}),
    (411, "MissingContentLength", StoreRefused, {}),
    (405, "MethodNotAllowed", StoreRefused, {}),
    (409, "ObjectImmutable", StoreRefused, {}),
    (416, "InvalidRange", StoreRefused, {}),
    (501, "NotImplemented", StoreRefused, {}),
]


@pytest.mark.parametrize(
    ("status", "code", "error", "attributes"), REACTIONS, ids=[f"{row[1]}-{row[0]}" for row in REACTIONS]
)
def test_every_code_has_one_reaction(
    status: int, code: str, error: type[StoreError], attributes: dict[str, object]
) -> None:
    """The code decides which error of ours it is; status, code and request id are kept."""
    found = bos().error(PART, refusal(status, code, "said so"))
    assert type(found) is error
    assert isinstance(found, StoreError)
    assert {name: getattr(found, name) for name in attributes} == attributes
    assert (found.status, found.code, found.request_id) == (status, code, REQUEST_ID)
    assert "said so" in str(found)


def test_every_code_of_the_table_has_a_test() -> None:
    """A code that is added to the table is added to the reactions that are tested, or is one of these few."""
    tested = {row[1] for row in REACTIONS}
    assert set(bos_errors.CODES) - tested == {"InvalidVersion", "InvalidURI", "FileAlreadyExists"}


@pytest.mark.parametrize(
    ("status", "error", "attributes"),
    [
        (301, AccessRefused, {"credentials": False}),
        (307, AccessRefused, {"credentials": False}),
        (400, StoreRefused, {}),
        (401, AccessRefused, {"credentials": True}),
        (403, StoreRefused, {}),
        (404, UploadGone, {}),
        (407, AccessRefused, {"credentials": False}),
        (408, StoreUnavailable, {"outcome_unknown": False}),
        (412, PreconditionFailed, {}),
        (418, StoreRefused, {}),
        (429, StoreUnavailable, {"outcome_unknown": False}),
        (500, StoreUnavailable, {"outcome_unknown": True}),
        (501, StoreRefused, {}),
        (502, StoreUnavailable, {"outcome_unknown": True}),
        (503, StoreUnavailable, {"outcome_unknown": False}),
        (504, StoreUnavailable, {"outcome_unknown": True}),
        (520, StoreUnavailable, {"outcome_unknown": True}),
    ],
)
def test_an_error_without_body_is_judged_by_its_status(
    status: int, error: type[StoreError], attributes: dict[str, object]
) -> None:
    """Answers to HEAD have no body, and gateways send none or not BOS's."""
    found = bos().error(PART, answer(status))
    assert type(found) is error
    assert {name: getattr(found, name) for name in attributes} == attributes


def test_a_bare_404_is_no_upload_only_where_an_upload_was_asked_for() -> None:
    """Without an upload id in the request it is the object that is missing."""
    assert type(bos().error(bos().get_request("k", 0, 1), answer(404))) is StoreRefused


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, AccessRefused), (404, StoreUnavailable), (200, StoreUnavailable), (502, StoreUnavailable)],
)
def test_a_page_of_html_is_not_taken_for_bos(status: int, error: type[StoreError]) -> None:
    """A proxy that answers in BOS's place must not make us believe that an upload or an object is gone."""
    page = answer(status, b"<html><h1>Blocked</h1></html>", content_type="text/html")
    found = bos().error(PART, page)
    assert type(found) is error
    assert "not from BOS" in str(found)


@pytest.mark.parametrize("message", ["The request rate is too high", "Too many requests", "visit frequently"])
def test_access_denied_for_its_rate_is_not_denied_for_good(message: str) -> None:
    """BOS uses AccessDenied for too many requests as well; the text tells."""
    assert type(bos().error(PUT, refusal(403, "AccessDenied", message))) is StoreUnavailable


def test_a_digest_refused_at_complete_is_about_all_parts() -> None:
    """Repeating complete would not help: the parts themselves make another object."""
    found = bos().error(COMPLETE, refusal(400, "BadDigest"))
    assert isinstance(found, PartsRefused)
    assert not found.too_small


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "InvalidURI"])
def test_a_refused_path_style_request_says_so(code: str) -> None:
    """Buckets made since June 2024 take no path style: the store is paused, with that as the hint."""
    found = bos(path_style=True).error(PUT, refusal(403, code))
    assert isinstance(found, AccessRefused)
    assert not found.credentials
    assert "path_style" in str(found)
    assert "path_style" not in str(bos().error(PUT, refusal(403, code)))


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


def test_the_request_id_comes_from_header_or_body() -> None:
    """Whatever BOS's support will ask for is in the message."""
    response = Response(403, {}, b'{"code":"AccessDenied","message":"no","requestId":"from-the-body"}')
    found = bos().error(PUT, response)
    assert "[request from-the-body]" in str(found)


def test_text_from_the_server_is_made_fit_for_a_log() -> None:
    """Control characters and endless messages do not reach the log."""
    found = bos().error(PUT, refusal(403, "Access\x1b[31m", "line\nline" + "x" * 10_000))
    assert "\n" not in str(found)
    assert "\x1b" not in str(found)
    assert len(str(found)) < 1000


# ---- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5), ("5", 5), (0, 0), (-1, None), ("-1", None), (True, None), ("", None), ("٣", None), (1.5, None)],
)
def test_numbers_are_read_leniently_and_nothing_else(value: object, expected: int | None) -> None:
    """A number or its decimal text; anything else is None, never a guess."""
    assert expected == bos_values.number(value)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-01-02T03:04:05Z", 1_767_323_045_000_000_000),
        ("2026-01-02T03:04:05.250Z", 1_767_323_045_250_000_000),
        ("2026-01-02T11:04:05+08:00", 1_767_323_045_000_000_000),
        ("2026-01-02T03:04:05", 1_767_323_045_000_000_000),
        ("", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_are_read_leniently(text: object, ns: int | None) -> None:
    """With and without fraction and zone; what cannot be read is None."""
    assert ns == bos_values.time_ns(text)


def test_no_secret_shows_in_what_is_printed() -> None:
    """Neither the signed request nor an error shows the secret key."""
    signed = bos().sign(PUT, Credentials("AK", "very-secret", "token"), NOW)
    assert "very-secret" not in repr(signed)
    assert "very-secret" not in str(bos().error(signed, refusal(403, "SignatureDoesNotMatch")))
