"""The BOS server of the tests deserves its name: it refuses what it should, and fails as it is told to."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.model import Fingerprint, ObjectMeta, Part
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.settings import BosSettings, HttpSettings
from tests.support.bos_auth import Account
from tests.support.bos_faults import KINDS, Fault
from tests.support.bos_server import BosServer, Control
from tests.unit.storage.bos.bos_wire import KEYS, ask, dialect_for, send

META = ObjectMeta(Fingerprint(bytes(16), 5), 10**18, "token", content_type="text/plain")
BIG = b"x" * (100 * 1024)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BosServer]:
    """A server with one account and the bucket photos."""
    with BosServer(tmp_path / "bos") as running:
        yield running


def code(response: Response) -> tuple[int, str]:
    """Status and BOS's word for it."""
    return response.status, json.loads(response.body)["code"] if response.body else ""


def put(server: BosServer, key: str, body: bytes = b"hello") -> Response:
    return ask(server, dialect_for(server).put_request(key, body, META))


def get(server: BosServer, key: str) -> bytes:
    return ask(server, Request("GET", f"127.0.0.1:{server.port}", f"/photos/{key}")).body


def begin(server: BosServer, key: str) -> str:
    request = dialect_for(server).create_request(key, META)
    return dialect_for(server).create_result(key, request, ask(server, request))


def part(server: BosServer, key: str, upload_id: str, number: int, body: bytes) -> Part:
    request = dialect_for(server).part_request(key, upload_id, number, body)
    return dialect_for(server).part_result(key, upload_id, number, body, request, ask(server, request))


def complete(server: BosServer, key: str, upload_id: str, parts: list[Part]) -> Response:
    return ask(server, dialect_for(server).complete_request(key, upload_id, parts, META))


# ---- who may ask -----------------------------------------------------------------------------------------


def test_right_keys_are_let_in(server: BosServer) -> None:
    """A well-signed request is carried out."""
    assert put(server, "a b/中+%?&.txt").status == 200
    assert get(server, "a%20b/%E4%B8%AD%2B%25%3F%26.txt") == b"hello"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (Credentials("ak", "wrong"), (403, "SignatureDoesNotMatch")),
        (Credentials("who", "sk"), (403, "InvalidAccessKeyId")),
        (Credentials("ak", "sk", "uncalled-for"), (400, "InvalidSessionToken")),
    ],
)
def test_wrong_keys_are_refused(server: BosServer, keys: Credentials, expected: tuple[int, str]) -> None:
    """A wrong secret, an unknown key and a token that is not the key's are told apart."""
    assert code(ask(server, dialect_for(server).put_request("k", b"hello", META), keys=keys)) == expected
    assert server.contents("photos")["objects"] == {}


def test_a_request_without_signature_is_refused(server: BosServer) -> None:
    """Requests without an Authorization header, or with one of another kind, are refused."""
    request = dialect_for(server).get_request("k", 0, 1)
    assert code(send(server, request)) == (403, "AccessDenied")
    assert code(send(server, request, {"Authorization": "Basic YTpi"})) == (400, "InvalidHTTPAuthHeader")


def test_what_was_changed_after_signing_is_refused(server: BosServer) -> None:
    """Path, query, method and headers are all covered by the signature."""
    signed = dialect_for(server).sign(dialect_for(server).put_request("k", b"hello", META), KEYS, time.time())
    for changed in (
        replace(signed, path="/photos/other"),
        replace(signed, query=(("partNumber", "1"),)),
        replace(signed, method="POST"),
        replace(signed, headers={**signed.headers, "Content-Type": "text/html"}),
        replace(signed, headers={**signed.headers, "x-bce-storage-class": "COLD"}),
        replace(signed, host="photos.bj.bcebos.com"),
    ):
        assert code(send(server, changed)) == (403, "SignatureDoesNotMatch")


def test_a_wrong_clock_is_refused_and_the_answer_tells_the_time(server: BosServer) -> None:
    """Off by an hour: RequestTimeTooSkewed, with the server's own time in the Date header."""
    server.clock_offset = 3600
    refused = put(server, "k")
    assert code(refused) == (403, "RequestTimeTooSkewed")
    corrected = parsedate_to_datetime(refused.headers["date"]).timestamp()
    request = dialect_for(server).put_request("k", b"hello", META)
    assert ask(server, request, now=corrected).status == 200


def test_an_expired_signature_is_refused(server: BosServer) -> None:
    """A prefix older than its own life, with a date that is right, has expired."""
    dialect = dialect_for(server)
    old = dialect.sign(dialect.head_request("k"), KEYS, time.time() - 1801)
    server.max_skew = 10_000
    assert send(server, old).status == 400
    assert server.log[-1].code == "RequestExpired"


def test_a_session_token_is_checked_and_expires(server: BosServer) -> None:
    """Temporary keys need their token, and only until it expires."""
    temporary = Credentials("tmp", "secret", "token==")
    server.accounts["tmp"] = Account("tmp", "secret", "token==", expires=time.time() + 3600)
    request = dialect_for(server).put_request("k", b"hello", META)
    assert ask(server, request, keys=temporary).status == 200
    without = Credentials("tmp", "secret")
    assert code(ask(server, request, keys=without)) == (400, "InvalidSessionToken")
    server.accounts["tmp"] = Account("tmp", "secret", "token==", expires=time.time() - 1)
    assert code(ask(server, request, keys=temporary)) == (400, "InvalidSessionToken")


# ---- where the bucket is ---------------------------------------------------------------------------------


def test_the_bucket_may_be_in_the_host_name(server: BosServer) -> None:
    """Virtual-host style, told by the Host header alone."""
    dialect = BosDialect(BosSettings(HttpSettings("http://bj.bcebos.com"), "photos"))
    assert ask(server, dialect.put_request("dir/k", b"hello", META)).status == 200
    assert get(server, "dir/k") == b"hello"


def test_path_style_can_be_refused(server: BosServer) -> None:
    """As the real service does for buckets made since June 2024."""
    server.refuse_path_style = True
    assert code(put(server, "k")) == (403, "AccessDenied")
    virtual = BosDialect(BosSettings(HttpSettings("http://bj.bcebos.com"), "photos"))
    assert ask(server, virtual.put_request("k", b"hello", META)).status == 200


def test_an_unknown_bucket_is_refused(server: BosServer) -> None:
    """NoSuchBucket, and a bare 404 to HEAD."""
    other = dialect_for(server, bucket="nobody")
    assert code(ask(server, other.put_request("k", b"", META))) == (404, "NoSuchBucket")
    assert code(ask(server, other.head_request("k"))) == (404, "")


# ---- what may be stored ----------------------------------------------------------------------------------


def test_a_wrong_or_malformed_md5_is_refused(server: BosServer) -> None:
    """BadDigest for another digest, InvalidDigest for something that is none; nothing is stored."""
    request = dialect_for(server).put_request("k", b"hello", META)
    other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    for md5, expected in ((other, "BadDigest"), ("!", "InvalidDigest"), ("YWJj", "InvalidDigest")):
        changed = replace(request, headers={**request.headers, "Content-MD5": md5})
        assert code(ask(server, changed)) == (400, expected)
    assert server.contents("photos")["objects"] == {}


def test_a_missing_md5_is_refused_where_it_is_required(server: BosServer) -> None:
    """Strictness beyond the real service, to show that ours never leaves it out."""
    request = dialect_for(server).put_request("k", b"hello", META)
    without = {name: value for name, value in request.headers.items() if name != "Content-MD5"}
    bare = replace(request, headers=without)
    assert ask(server, bare).status == 200
    server.change({"require_md5": True})
    assert code(ask(server, bare)) == (400, "InvalidDigest")
    assert ask(server, request).status == 200


def test_a_wrong_crc32_is_refused(server: BosServer) -> None:
    """Of a body, and of the whole at complete."""
    request = dialect_for(server).put_request("k", b"hello", META)
    wrong = replace(request, headers={**request.headers, "x-bce-content-crc32": "1"})
    assert code(ask(server, wrong)) == (400, "BadDigest")
    upload = begin(server, "k")
    sent = part(server, "k", upload, 1, b"hello")
    assert code(complete(server, "k", upload, [replace(sent, crc32=1)])) == (400, "BadDigest")
    assert complete(server, "k", upload, [sent]).status == 200


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/../b", "InvalidURI"), ("./a", "InvalidURI"), ("x" * 1025, "InvalidObjectName")],
)
def test_names_that_bos_does_not_take_are_refused(server: BosServer, path: str, expected: str) -> None:
    """Dot segments and keys of more than 1024 bytes."""
    request = replace(dialect_for(server).put_request("k", b"", META), path=f"/photos/{path}")
    assert code(ask(server, request)) == (400, expected)


def test_too_much_metadata_is_refused(server: BosServer) -> None:
    """2048 bytes of names and values are taken, 2049 are not."""
    request = dialect_for(server).put_request("k", b"", META)
    plain = {name: v for name, v in request.headers.items() if not name.startswith("x-bce-meta")}
    for extra, expected in ((0, 200), (1, 400)):
        value = "v" * (2048 - len("x-bce-meta-n") + extra)
        full = replace(request, headers={**plain, "x-bce-meta-n": value})
        assert ask(server, full).status == expected


def test_a_body_needs_a_length(server: BosServer) -> None:
    """MissingContentLength, 411."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("PUT", "/photos/k")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_a_missing_object_is_404_also_to_delete(server: BosServer) -> None:
    """Unlike S3; and without a body to HEAD."""
    dialect = dialect_for(server)
    assert code(ask(server, dialect.delete_request("k"))) == (404, "NoSuchKey")
    assert code(ask(server, dialect.head_request("k"))) == (404, "")
    assert code(ask(server, dialect.get_request("k", 0, 1))) == (404, "NoSuchKey")


def test_ranges(server: BosServer) -> None:
    """Both ends included; behind the end is 416; an empty object has no ranges.

    The SDK for Go leaves the end open, and the one for JavaScript sends an empty range for the whole.
    """
    put(server, "k")
    put(server, "empty", b"")
    dialect = dialect_for(server)
    assert ask(server, dialect.get_request("k", 1, 3)).body == b"ell"
    assert ask(server, dialect.get_request("k", 3, 99)).body == b"lo"
    assert code(ask(server, dialect.get_request("k", 5, 9))) == (416, "InvalidRange")
    assert ask(server, dialect.get_request("empty", 0, 0)).status == 400
    for text, status, body in (("bytes=2-", 206, b"llo"), ("", 200, b"hello")):
        request = replace(dialect.get_request("k", 1, 3), headers={"range": text})
        answer = ask(server, request)
        assert (answer.status, answer.body) == (status, body)


def test_sub_resources_that_are_not_carried_out_are_refused(server: BosServer) -> None:
    """Taken for a PutObject, each of them would leave an empty object."""
    put(server, "k")
    for name in ("acl", "symlink", "tagging"):
        request = dialect_for(server).put_request("k", b"", META)
        assert code(ask(server, replace(request, query=((name, ""),)))) == (501, "NotImplemented")
    assert get(server, "k") == b"hello"


@pytest.mark.parametrize("prefix", ["/v1", "/V1"])
def test_the_version_prefix_of_the_old_api_is_dropped_once(server: BosServer, prefix: str) -> None:
    """The vendor's Java SDK sends it with every request, and the key v1/x after it."""
    put(server, "k")
    host = f"127.0.0.1:{server.port}"
    assert ask(server, Request("GET", host, f"{prefix}/photos/k")).body == b"hello"
    assert code(ask(server, Request("GET", host, f"{prefix}/v1/photos/k")))[0] == 404


def test_traffic_limits_out_of_bounds_are_refused(server: BosServer) -> None:
    """819200 to 838860800 bit/s."""
    request = dialect_for(server).put_request("k", b"", META)
    for bits, expected in (("819199", 400), ("819200", 200), ("838860800", 200), ("838860801", 400)):
        limited = replace(request, headers={**request.headers, "x-bce-traffic-limit": bits})
        assert ask(server, limited).status == expected


# ---- multipart uploads -----------------------------------------------------------------------------------


def test_parts_become_an_object_with_metadata_of_complete_and_type_of_initiate(server: BosServer) -> None:
    """What belongs to the one call is lost when it is sent with the other."""
    dialect = dialect_for(server, storage_class="COLD")
    create = dialect.create_request("k", META)
    create = replace(create, headers={**create.headers, "x-bce-meta-lost": "yes"})
    upload = dialect.create_result("k", create, ask(server, create))
    sent = [part(server, "k", upload, 2, b"tail"), part(server, "k", upload, 1, BIG)]
    done = complete(server, "k", upload, sent[::-1])
    assert done.status == 200
    assert done.headers["x-bce-content-crc32"] == str(zlib.crc32(BIG + b"tail"))
    head = ask(server, dialect.head_request("k")).headers
    assert head["content-type"] == "text/plain"
    assert head["x-bce-storage-class"] == "COLD"
    assert head["x-bce-meta-syncd-upload"] == "token"
    assert "x-bce-meta-lost" not in head
    assert "content-md5" not in head
    assert not head["etag"].strip('"').isalnum()  # not an MD5
    assert get(server, "k") == BIG + b"tail"


def test_complete_checks_order_parts_and_sizes(server: BosServer) -> None:
    """Every rule of the documents has its own code, and the upload survives the refusal."""
    upload = begin(server, "k")
    one, two, three = (part(server, "k", upload, number, BIG) for number in (1, 2, 3))
    assert code(complete(server, "k", upload, [two, one])) == (400, "InvalidPartOrder")
    assert code(complete(server, "k", upload, [one, one])) == (400, "InvalidPartOrder")
    assert code(complete(server, "k", upload, [one, replace(two, number=4)])) == (400, "InvalidPart")
    assert code(complete(server, "k", upload, [one, replace(two, etag="0" * 32)])) == (400, "InvalidPart")
    assert code(complete(server, "k", upload, [])) == (400, "InappropriateJSON")
    small = part(server, "k", upload, 2, BIG[1:])
    assert code(complete(server, "k", upload, [one, small, three])) == (400, "EntityTooSmall")
    assert complete(server, "k", upload, [one, three]).status == 200
    assert code(complete(server, "k", upload, [one, three])) == (404, "NoSuchUpload")


def test_the_minimum_part_size_can_be_set(server: BosServer) -> None:
    """100 KB or 5 MB: the documents disagree, so the server does either."""
    server.change({"min_part_size": 5 << 20})
    upload = begin(server, "k")
    parts = [part(server, "k", upload, number, BIG) for number in (1, 2)]
    assert code(complete(server, "k", upload, parts)) == (400, "EntityTooSmall")
    server.change({"min_part_size": 1})
    assert complete(server, "k", upload, parts).status == 200


def test_part_numbers_are_1_to_10000(server: BosServer) -> None:
    """0 and 10001 are InvalidArgument."""
    upload = begin(server, "k")
    for number, expected in ((0, 400), (1, 200), (10_000, 200), (10_001, 400)):
        request = dialect_for(server).part_request("k", upload, number, b"x")
        assert ask(server, request).status == expected


def test_unknown_uploads_are_refused(server: BosServer) -> None:
    """After abort, for another key, or never begun: NoSuchUpload."""
    dialect = dialect_for(server)
    upload = begin(server, "k")
    expected = (404, "NoSuchUpload")
    assert code(ask(server, dialect.part_request("other", upload, 1, b"x"))) == expected
    assert ask(server, dialect.abort_request("k", upload)).status == 204
    assert code(ask(server, dialect.part_request("k", upload, 1, b"x"))) == expected
    assert code(ask(server, dialect.parts_request("k", upload, 0))) == expected
    assert code(ask(server, dialect.abort_request("k", upload))) == expected
    assert server.contents("photos")["uploads"] == {}


@pytest.mark.parametrize("next_markers", [True, False])
@pytest.mark.parametrize("numbers_as_text", [True, False])
def test_listings_come_in_pages_that_our_dialect_follows(
    server: BosServer, next_markers: bool, numbers_as_text: bool
) -> None:
    """Every part once, and every upload once, whichever way the server writes its pages."""
    server.change({"page_size": 2, "next_markers": next_markers, "numbers_as_text": numbers_as_text})
    dialect = dialect_for(server)
    upload = begin(server, "k0")
    numbers = [1, 3, 4, 7, 9]
    for number in numbers:
        part(server, "k0", upload, number, b"x")
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        request = dialect.parts_request("k0", upload, after)
        parts, after = dialect.parts_result("k0", upload, request, ask(server, request))
        found += [one.number for one in parts]
    assert found == numbers
    ids = {upload, *(begin(server, f"k{n % 2}") for n in range(4))}
    seen: list[str] = []
    marker: tuple[str, str] | None = None
    while True:
        request = dialect.uploads_request("k", marker)
        uploads, marker = dialect.uploads_result("k", request, ask(server, request))
        seen += [one.upload_id for one in uploads]
        if marker is None:
            break
    assert sorted(seen) == sorted(ids)


def test_an_old_server_ignores_the_upload_id_marker(server: BosServer) -> None:
    """Then further uploads of the same key across a page border are skipped, and the listing ends."""
    server.change({"page_size": 1, "upload_id_marker": False})
    dialect = dialect_for(server)
    for key in ("a", "a", "b"):
        begin(server, key)
    first = dialect.uploads_request("", None)
    page, marker = dialect.uploads_result("", first, ask(server, first))
    assert [one.key for one in page] == ["a"]
    assert marker is not None
    second = dialect.uploads_request("", marker)
    page, marker = dialect.uploads_result("", second, ask(server, second))
    assert [one.key for one in page] == ["b"]
    assert marker is None


def test_copies_are_conditional(server: BosServer) -> None:
    """Of an object and of a range into a part; another ETag is 412, a missing source 404."""
    dialect = dialect_for(server)
    put(server, "src", b"hello world")
    etag = hashlib.md5(b"hello world").hexdigest()
    copied = ask(server, dialect.copy_request("src", "dst", replace(META, token="new"), etag))
    assert json.loads(copied.body)["eTag"] == etag
    assert server.contents("photos")["objects"]["dst"]["headers"]["x-bce-meta-syncd-upload"] == "new"
    assert code(ask(server, dialect.copy_request("src", "x", META, "0" * 32)))[0] == 412
    assert code(ask(server, dialect.copy_request("gone", "x", META, etag))) == (404, "NoSuchKey")
    upload = begin(server, "k")
    request = dialect.part_copy_request("k", upload, 1, "src", 6, 10, etag)
    sent = dialect.part_copy_result("k", upload, 1, 5, request, ask(server, request))
    assert complete(server, "k", upload, [sent]).status == 200
    assert get(server, "k") == b"world"
    assert code(ask(server, dialect.part_copy_request("k", upload, 1, "src", 0, 1, "0" * 32)))[0] == 404


# ---- what it keeps and counts ----------------------------------------------------------------------------


def test_what_is_stored_survives_a_restart(tmp_path: Path) -> None:
    """Objects, uploads and parts are found again by the next server on the same directory."""
    with BosServer(tmp_path / "bos") as server:
        put(server, "whole")
        upload = begin(server, "parts")
        first = part(server, "parts", upload, 1, BIG)
    with BosServer(tmp_path / "bos") as server:
        assert get(server, "whole") == b"hello"
        second = part(server, "parts", upload, 2, b"tail")
        assert complete(server, "parts", upload, [first, second]).status == 200
    with BosServer(tmp_path / "bos") as server:
        assert get(server, "parts") == BIG + b"tail"
        assert server.contents("photos")["uploads"] == {}


def test_nothing_is_left_behind_of_what_was_replaced_or_refused(server: BosServer, tmp_path: Path) -> None:
    """The directory holds the contents of what there is, and no others."""
    data = tmp_path / "bos" / "photos" / "data"
    put(server, "k", b"one")
    put(server, "k", b"two")
    upload = begin(server, "big")
    part(server, "big", upload, 1, BIG)
    sent = part(server, "big", upload, 1, BIG + b"x")
    part(server, "big", upload, 2, b"unused")
    complete(server, "big", upload, [sent])
    ask(server, dialect_for(server).put_request("k", b"", META), keys=Credentials("ak", "wrong"))
    assert sorted(path.stat().st_size for path in data.iterdir()) == [3, len(BIG) + 1]


def test_body_bytes_are_counted(server: BosServer) -> None:
    """Every byte of a body that arrived counts, also of a refused one."""
    put(server, "k", BIG)
    ask(server, dialect_for(server).put_request("k", b"12345", META), keys=Credentials("ak", "wrong"))
    assert server.bytes_received == len(BIG) + 5
    assert [seen.body_size for seen in server.log] == [len(BIG), 5]
    assert server.count("PutObject") == 2


# ---- how it fails ----------------------------------------------------------------------------------------

CUT = (http.client.HTTPException, ConnectionError)


def test_every_kind_of_fault_is_tested() -> None:
    """A fault that is added to the server is added to the tests below."""
    with open(__file__, encoding="utf-8") as file:
        own = file.read()
    assert [kind for kind in KINDS if f'Fault("{kind}"' not in own] == []


@pytest.mark.parametrize(("status", "word"), [(503, "SlowDown"), (400, "Http400"), (403, "AccessDenied")])
def test_fault_error(server: BosServer, status: int, word: str) -> None:
    """Any status and code, without effect, once."""
    server.faults.add(Fault("error", status=status, code=word, headers={"Retry-After": "3"}))
    refused = put(server, "k")
    assert code(refused) == (status, word)
    assert refused.headers["retry-after"] == "3"
    assert server.contents("photos")["objects"] == {}
    assert put(server, "k").status == 200


def test_faults_choose_their_requests(server: BosServer) -> None:
    """By operation, key and part; some may pass first, and it may last without end."""
    server.faults.add(Fault("error", op="UploadPart", part=2, skip=1, times=-1))
    upload = begin(server, "k")
    outcomes = []
    for number in (1, 2, 2, 1, 2):
        outcomes.append(ask(server, dialect_for(server).part_request("k", upload, number, b"x")).status)
    assert outcomes == [200, 200, 500, 200, 500]
    server.faults.clear()
    assert ask(server, dialect_for(server).part_request("k", upload, 2, b"x")).status == 200


def test_fault_error_in_200(server: BosServer) -> None:
    """An error object after a chunked 200, without effect."""
    put(server, "src")
    server.faults.add(Fault("error_in_200", op="CopyObject"))
    response = ask(server, dialect_for(server).copy_request("src", "dst", META, ""))
    assert code(response) == (200, "InternalError")
    assert response.headers["transfer-encoding"] == "chunked"
    assert list(server.contents("photos")["objects"]) == ["src"]


def test_fault_html_and_empty(server: BosServer) -> None:
    """A page from a gateway; and a success that says nothing, though it was done."""
    server.faults.add(Fault("html", status=502))
    page = put(server, "k")
    assert (page.status, page.headers["content-type"]) == (502, "text/html")
    server.faults.add(Fault("empty_200"))
    upload_id = ask(server, dialect_for(server).create_request("k", META))
    assert (upload_id.status, upload_id.body) == (200, b"")
    assert len(server.contents("photos")["uploads"]) == 1


def test_faults_that_cut_before_the_effect(server: BosServer) -> None:
    """Before, in and after the body: the connection ends, nothing is stored, the log says how far it got."""
    for fault, received in (
        (Fault("cut_before_body"), 0),
        (Fault("cut_in_body", size=1000), 1000),
        (Fault("cut_after_body"), len(BIG)),
    ):
        server.faults.add(fault)
        with pytest.raises(CUT):
            put(server, "k", BIG)
        assert server.wait_for(lambda bos: bool(bos.log))
        seen = server.log.pop()
        assert (seen.status, seen.body_size) == (0, received)
    assert server.contents("photos")["objects"] == {}


def test_faults_that_lose_or_cut_the_answer(server: BosServer) -> None:
    """The request takes effect, but its answer is lost, or half of it."""
    server.faults.add(Fault("lose_answer"))
    with pytest.raises(CUT):
        put(server, "lost")
    server.faults.add(Fault("cut_answer"))
    with pytest.raises(CUT):
        ask(server, dialect_for(server).create_request("half", META))
    contents = server.contents("photos")
    assert list(contents["objects"]) == ["lost"]
    assert [upload["key"] for upload in contents["uploads"].values()] == ["half"]


def test_faults_that_are_slow(server: BosServer) -> None:
    """An answer that drips, behind blanks; and a body that is taken slowly, but whole."""
    server.faults.add(Fault("drip", size=5, seconds=0.01))
    dripped = ask(server, dialect_for(server).create_request("k", META))
    assert dripped.body.startswith(b"     {")
    assert "uploadId" in json.loads(dripped.body)
    server.faults.add(Fault("slow_read", seconds=0.01))
    assert put(server, "k", BIG).status == 200
    assert get(server, "k") == BIG


def test_faults_that_hold(server: BosServer) -> None:
    """A held request has not been done, or has been done, and goes on when it is released."""
    for fault, done in ((Fault("hold", key="one"), []), (Fault("hold_after", key="two"), ["one", "two"])):
        server.faults.add(fault)
        sender = threading.Thread(target=put, args=(server, fault.key))
        sender.start()
        assert server.faults.wait_held(1, 20)
        assert sorted(server.contents("photos")["objects"]) == done
        server.faults.release()
        sender.join(20)
        assert fault.key in server.contents("photos")["objects"]


def test_faults_that_lie(server: BosServer) -> None:
    """Another ETag than the bytes have; and bytes that are damaged after they were acknowledged."""
    server.faults.add(Fault("wrong_etag"))
    assert put(server, "k").headers["etag"] == f'"{"0" * 32}"'
    server.faults.add(Fault("corrupt"))
    assert put(server, "k").headers["etag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert get(server, "k") != b"hello"


# ---- in a process of its own -----------------------------------------------------------------------------


class OwnProcess:
    """``python -m tests.support.bos_server``."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        root = Path(__file__).resolve().parents[2]
        command = [
            sys.executable,
            "-m",
            "tests.support.bos_server",
            "--directory",
            str(directory),
            *arguments,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("listening on ").strip()
        self.port = int(self.url.rpartition(":")[2])
        self.control = Control(self.url)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def test_a_server_of_its_own_is_controlled_over_http(tmp_path: Path) -> None:
    """Faults, settings, statistics and contents; SIGTERM ends it cleanly, kill -9 loses nothing."""
    own = OwnProcess(tmp_path, "--secret-key", "sk2", "--page-size", "1", "--bucket", "photos")
    keys = Credentials("ak", "sk2")
    try:
        request = dialect_for(own).put_request("k", b"hello", META)  # type: ignore[arg-type]
        own.control.fault(kind="error", op="PutObject", status=503, code="SlowDown")
        assert code(ask(own, request, keys=keys)) == (503, "SlowDown")  # type: ignore[arg-type]
        assert ask(own, request, keys=keys).status == 200  # type: ignore[arg-type]
        own.control.change(clock_offset=3600)
        assert code(ask(own, request, keys=keys))[1] == "RequestTimeTooSkewed"  # type: ignore[arg-type]
        own.control.change(clock_offset=0, accounts=[{"access_key_id": "new", "secret_access_key": "s"}])
        assert code(ask(own, request, keys=keys))[1] == "InvalidAccessKeyId"  # type: ignore[arg-type]
        stats = own.control.stats()
        assert stats["bytes_received"] == 20
        assert stats["requests"] == {"PutObject": 4}
        objects = own.control.contents("photos")["objects"]
        assert objects["k"]["md5"] == hashlib.md5(b"hello").hexdigest()
    finally:
        assert own.end(signal.SIGKILL) == -signal.SIGKILL
    again = OwnProcess(tmp_path)
    try:
        assert list(again.control.contents("photos")["objects"]) == ["k"]
    finally:
        assert again.end(signal.SIGTERM) == 0
    assert os.listdir(tmp_path) == ["photos"]
