"""Servers that want to exhaust us: answers without end, answers that grow, lists that never stop.

Scenarios, for both transports: a head, a line, interim answers, a trailer, chunks and bodies without end; and
compressed answers. For both dialects: entities, depth, and very many very small things. For lists: pages
without end. Memory is measured, not guessed. For every verb: what answers in the place of the store, and what
settles a success that proves nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import AccessRefused, PartCorrupt, StoreError, StoreUnavailable
from syncd.core.model import Fingerprint, ObjectMeta, OnDelete, Part
from syncd.storage.bos import values as bos_values
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.bos.values import MAX_VALUES, body_object
from syncd.storage.http import store as client
from syncd.storage.http.http1 import MAX_ANSWER_BYTES
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.http.store import HttpStore
from syncd.storage.s3 import xml as s3_xml
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.settings import BosSettings, HttpSettings, KeySettings, S3Settings
from tests.support.hostile import HostileServer, Peer
from tests.support.rig import Rig
from tests.unit.storage.http.transports import Kind, every_transport

MIB = 1 << 20
MOST_MEMORY = 64 * MIB
META = ObjectMeta(Fingerprint(bytes(16), 5), 0, token="t")
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def peak(call: Callable[[], object]) -> int:
    """The most memory that Python held for this call."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# ---- transports ------------------------------------------------------------------------------------------

ENDLESS = {
    "head": (HEAD, b"X-More: " + b"x" * 1000 + b"\r\n"),
    "line of the head": (HEAD + b"X-More: ", b"x" * 1000),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 1000 + b"\r\n\r\n"),
    "body": (HEAD + b"\r\n", b"x" * 1000),
    "chunks": (CHUNKED, b"100\r\n" + b"x" * 256 + b"\r\n"),
    "chunk": (CHUNKED + b"7fffffff\r\n", b"x" * 1000),
    "size of a chunk": (CHUNKED, b"0" * 1000),
    "extensions of chunks": (CHUNKED, b"1;" + b"x" * 1000 + b"\r\nx\r\n"),
    "trailer": (CHUNKED + b"0\r\n", b"X-More: " + b"x" * 1000 + b"\r\n"),
}


@every_transport
@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_end_is_given_up(kind: Kind, name: str) -> None:
    """Whatever of it has no end, however fast it comes; what the server did is unknown."""
    start, more = ENDLESS[name]
    sent = 0

    def script(peer: Peer) -> None:
        nonlocal sent
        peer.read_request()
        peer.send(start)
        while not peer.server.stopping.is_set():
            peer.send(more * 32)
            sent += len(more) * 32

    with HostileServer([script]) as server:
        transport = kind(HttpSettings(server.endpoint), should_stop=lambda: False, on_sent=lambda size: None)
        caught: list[StoreUnavailable] = []

        def ask() -> None:
            with pytest.raises(StoreUnavailable) as info:
                transport.send(Request("PUT", server.host, "/b/k", body=b"x"))
            caught.append(info.value)

        used = peak(ask)
        transport.close()
    assert caught[0].outcome_unknown
    assert used < MOST_MEMORY
    assert sent < 4 * MAX_ANSWER_BYTES


@every_transport
def test_interim_answers_without_end_do_not_pile_up_beside_a_body(kind: Kind) -> None:
    """They are looked at while the body goes out, too."""
    gone = threading.Event()

    def script(peer: Peer) -> None:
        try:
            while not peer.server.stopping.is_set():
                peer.send(b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 60_000 + b"\r\n\r\n")
        finally:
            gone.set()

    with HostileServer([script]) as server:
        http = HttpSettings(server.endpoint)
        transport = kind(http, should_stop=lambda: False, on_sent=lambda size: None)
        with pytest.raises(StoreUnavailable):
            transport.send(Request("PUT", server.host, "/b/k", body=bytes(64 * MIB)))
        assert gone.wait(30)
        transport.close()


@every_transport
def test_nothing_is_decompressed(kind: Kind) -> None:
    """A small answer stays small: we ask for no coding, and undo none."""
    packed = gzip.compress(bytes(256 * MIB), 1)
    head = HEAD + b"Content-Encoding: gzip\r\nETag: e\r\nContent-Length: %d\r\n\r\n" % len(packed)

    def script(peer: Peer) -> None:
        assert peer.read_request().get("accept-encoding") == "identity"
        peer.send(head + packed)

    with HostileServer([script]) as server:
        transport = kind(HttpSettings(server.endpoint), should_stop=lambda: False, on_sent=lambda size: None)
        answers: list[Response] = []
        used = peak(lambda: answers.append(transport.send(Request("PUT", server.host, "/b/k", body=b"x"))))
        transport.close()
    assert answers[0].body == packed
    assert used < MOST_MEMORY


# ---- dialects --------------------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
XML_BOMBS = {
    "entities": f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x>&l9;</x>'.encode(),
    "attributes with entities": f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><x a="&l9;"/>'.encode(),
    "depth": b"<a>" * (MAX_ANSWER_BYTES // 4),
    "elements": b"<x>" + b"<a/>" * (MAX_ANSWER_BYTES // 4 - 10) + b"</x>",
    "names": b"<x>" + b"".join(b"<n%06x/>" % n for n in range(MAX_ANSWER_BYTES // 10)) + b"</x>",
    "size": b"<x>" + b"x" * MAX_ANSWER_BYTES + b"</x>",
}
JSON_BOMBS = {
    "depth": b"[" * MAX_ANSWER_BYTES,
    "some depth": b"[" * (MAX_VALUES // 2),
    "a text": b'{"a":[' + b"1," * MAX_VALUES + b'"' + b'\\"[,' * (MAX_ANSWER_BYTES // 6),
    "empty texts": b'{"a":[' + b'"",' * (MAX_ANSWER_BYTES // 3 - 10) + b"1]}",
    "depth of objects": b'{"a":' * (MAX_ANSWER_BYTES // 5),
    "arrays": b'{"a":[' + b"[]," * (MAX_ANSWER_BYTES // 3 - 10) + b"1]}",
    "objects": b'{"a":[' + b"{}," * (MAX_ANSWER_BYTES // 3 - 10) + b"1]}",
    "texts": b'{"a":[' + b'"\xc3\xa4!",' * (MAX_ANSWER_BYTES // 6 - 10) + b"1]}",
    "members": b"{" + b",".join(b'"%x":1' % n for n in range(700_000)) + b"}",
    "digits": b'{"a":' + b"9" * (MAX_ANSWER_BYTES - 10) + b"}",
}


@pytest.mark.parametrize("name", XML_BOMBS)
def test_xml_that_grows_is_refused_before_it_has_grown(name: str) -> None:
    """Entities, depth, and a tree of more elements than any answer has."""
    found: list[object] = []
    used = peak(lambda: found.append(s3_xml.parse(XML_BOMBS[name])))
    assert found == [None]
    assert used < MOST_MEMORY


@pytest.mark.parametrize("name", JSON_BOMBS)
def test_json_that_grows_is_refused_before_it_has_grown(name: str) -> None:
    """Depth, and more values than any answer has."""
    found: list[object] = []
    used = peak(lambda: found.append(body_object(Response(200, {}, JSON_BOMBS[name]))))
    assert found == [None]
    assert used < MOST_MEMORY


def test_the_largest_of_honest_answers_are_read() -> None:
    """Ten thousand parts in one page, and keys that are nothing but commas and brackets."""
    part = "<Part><PartNumber>1</PartNumber><ETag>e</ETag><Size>5</Size><ChecksumCRC32/></Part>"
    page = s3_xml.parse(f"<ListPartsResult>{part * 10_000}</ListPartsResult>".encode())
    assert page is not None
    assert len(page.children) == 10_000
    key = b'{"key":"' + b",[{" * 340 + b'\\"","uploadId":"u"}'
    uploads = body_object(Response(200, {}, b'{"uploads":[' + b",".join([key] * 1000) + b"]}"))
    assert uploads is not None
    assert len(uploads["uploads"]) == 1000
    assert MAX_VALUES < 1000 * 340 * 3


def test_a_number_of_ten_thousand_digits_is_none() -> None:
    """Not a bug of ours in the middle of a listing."""
    assert bos_values.number("9" * 10_000) is None


# ---- lists -----------------------------------------------------------------------------------------------


class Pages:
    """A transport that has another page, always."""

    def __init__(self, page: Callable[[int], bytes]) -> None:
        self.page = page
        self.count = 0

    def send(self, request: Request) -> Response:
        self.count += 1
        if self.count > 20_000:
            raise AssertionError("asked without end")
        return Response(200, {}, self.page(self.count))

    def close(self) -> None:
        """Nothing is open."""


def _store(pages: Pages, dialect: Any) -> HttpStore:
    return HttpStore(dialect, pages, lambda: Credentials("AKID", "secret"), lambda: 1_800_000_000.0)


@pytest.fixture(params=["s3", "bos"])
def dialect(request: pytest.FixtureRequest) -> Iterator[Any]:
    http = HttpSettings("http://127.0.0.1:1")
    keys = KeySettings("AKID", "secret")
    if request.param == "s3":
        yield S3Dialect(S3Settings(http, "photos", keys=keys))
    else:
        yield BosDialect(BosSettings(http, "photos", keys=keys))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_no_success(dialect: Any, status: int) -> None:
    """Nothing was put, whatever else the answer holds, and the body goes nowhere else."""
    request = dialect.put_request("k", b"hello", META)
    md5 = "5d41402abc4b2a76b9719d911017c592"
    answer = Response(status, {"etag": md5, "location": "http://elsewhere/"}, b"")
    with pytest.raises(AccessRefused):
        dialect.put_result("k", request, answer)


def test_a_list_of_parts_has_an_end(dialect: Any) -> None:
    """Behind the last number that a part can have there is nothing; what claims to be is not kept."""

    def page(number: int) -> bytes:
        first = (number - 1) * 1000 + 1
        if isinstance(dialect, BosDialect):
            parts = ",".join(f'{{"partNumber":{first + n},"size":5,"eTag":"e"}}' for n in range(1000))
            return f'{{"isTruncated":true,"parts":[{parts}],"nextPartNumberMarker":{first + 999}}}'.encode()
        parts = "".join(
            f"<Part><PartNumber>{first + n}</PartNumber><Size>5</Size></Part>" for n in range(1000)
        )
        end = f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{first + 999}</NextPartNumberMarker>"
        return f"<ListPartsResult>{parts}{end}</ListPartsResult>".encode()

    pages = Pages(page)
    parts = _store(pages, dialect).list_parts("k", "u")
    assert len(parts) == dialect.limits.max_parts
    assert pages.count <= dialect.limits.max_parts // 1000 + 1


def test_a_list_of_uploads_has_an_end(dialect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the memory that it takes: names may be short or long."""
    monkeypatch.setattr(client, "MAX_UPLOADS_BYTES", 100_000)
    numbers = itertools.count()

    def page(number: int) -> bytes:
        names = [f"k{next(numbers):06}" for _ in range(10)]
        if isinstance(dialect, BosDialect):
            listed = ",".join(f'{{"key":"{name}","uploadId":"u"}}' for name in names)
            return f'{{"isTruncated":true,"uploads":[{listed}],"nextKeyMarker":"{names[-1]}"}}'.encode()
        listed = "".join(f"<Upload><Key>{name}</Key><UploadId>u</UploadId></Upload>" for name in names)
        end = f"<IsTruncated>true</IsTruncated><NextKeyMarker>{names[-1]}</NextKeyMarker>"
        return f"<ListMultipartUploadsResult>{listed}{end}</ListMultipartUploadsResult>".encode()

    pages = Pages(page)
    found = list(_store(pages, dialect).list_multipart_uploads(""))
    assert 400 <= len(found) <= 600


# ---- what answers in the store's place -------------------------------------------------------------------

BODY = b"hello"
MD5 = hashlib.md5(BODY).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"
IMPOSTORS = {
    "a page with an ETag": Response(200, {"content-type": "text/html", "etag": '"5f3c-5e8a"'}, PAGE),
    "a page with the right ETag": Response(200, {"etag": f'"{MD5}"'}, PAGE),
    "a page and the store's header": Response(200, {"x-amz-request-id": "r", "x-bce-request-id": "r"}, PAGE),
    "nothing but an ETag": Response(200, {"etag": '"5f3c-5e8a"', "content-length": "0"}),
    "nothing": Response(200, {}),
    "no content": Response(204, {}),
    "no content, with an ETag": Response(204, {"etag": '"5f3c-5e8a"'}),
    "accepted": Response(202, {"etag": '"5f3c-5e8a"'}),
    "another document": Response(
        200, {"etag": '"e"'}, b"<Welcome><ETag>e</ETag><UploadId>u</UploadId></Welcome>"
    ),
    "half a document": Response(200, {"etag": '"e"'}, b"<CopyObjectResult><ETag>e</ETag>"),
    "another object": Response(200, {"etag": '"e"'}, b'{"status": "ok"}'),
    "half an object": Response(200, {"etag": '"e"'}, b'{"eTag": "e", "uploadId": "u"'),
    "text": Response(200, {"etag": '"e"'}, b"OK"),
    "a redirect": Response(302, {"etag": '"e"', "location": "http://login.example/"}),
    "a page for what is missing": Response(404, {"content-type": "text/html"}, PAGE),
}
VERBS: dict[str, Callable[[HttpStore], object]] = {
    "put": lambda store: store.put_object("k", BODY, META),
    "put of nothing": lambda store: store.put_object("k", b"", NOTHING),
    "part": lambda store: store.upload_part("k", "u", 1, BODY),
    "part copy": lambda store: store.upload_part_copy("k", "u", 1, "s", 0, 4, "e"),
    "create": lambda store: store.create_multipart_upload("k", META),
    "complete": lambda store: store.complete_multipart_upload("k", "u", [Part(1, 5, "e")], META),
    "copy": lambda store: store.copy_object("s", "k", META, "e"),
    "delete": lambda store: store.delete_object("k"),
    "abort": lambda store: store.abort_multipart_upload("k", "u"),
}
NOTHING = ObjectMeta(Fingerprint(bytes(16), 0), 0)
OURS = {"x-amz-meta-syncd-xxh128": META.fingerprint.hex, "x-bce-meta-syncd-xxh128": META.fingerprint.hex}
FOUND = Response(200, {"etag": '"another"', "content-length": "5", **OURS})
ABSENT = Response(404, {})
IDS = {"x-amz-request-id": "r", "x-bce-request-id": "r"}
PROVEN = Response(200, {"etag": f'"{MD5}"', **IDS})


class Answers:
    """A transport that gives these answers, one after another; the last one again and again."""

    def __init__(self, *given: Response) -> None:
        self.given = list(given)
        self.methods: list[str] = []

    def send(self, request: Request) -> Response:
        self.methods.append(request.method)
        return self.given.pop(0) if len(self.given) > 1 else self.given[0]

    def close(self) -> None:
        """Nothing is open."""


def _client(dialect: Any, *given: Response) -> tuple[HttpStore, Answers]:
    transport = Answers(*given)
    return HttpStore(dialect, transport, lambda: Credentials("AKID", "secret"), lambda: 1.8e9), transport


@pytest.mark.parametrize("acquainted", [False, True])
@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("verb", VERBS)
def test_what_answers_in_the_place_of_the_store_does_nothing(
    dialect: Any, verb: str, impostor: str, acquainted: bool
) -> None:
    """To whatever is asked; and what became of it stays unknown, where the answer looks like a success."""
    answer = IMPOSTORS[impostor]
    client, transport = _client(dialect, *([PROVEN] if acquainted else []), answer)
    if acquainted:
        client.put_object("k", BODY, META)
    with pytest.raises(StoreError) as caught:
        VERBS[verb](client)
    claims_nothing = isinstance(caught.value, PartCorrupt) or caught.value.code == "NotImplemented"
    if answer.status < 300 and not claims_nothing:
        assert isinstance(caught.value, StoreUnavailable)
        assert caught.value.outcome_unknown
    assert len(transport.methods) <= 3


@pytest.mark.parametrize("impostor", [name for name in IMPOSTORS if name != "a page for what is missing"])
def test_a_head_that_lacks_all_of_ours_and_of_the_store_s_proves_nothing(dialect: Any, impostor: str) -> None:
    """An answer to HEAD has no body; the store is known by what it numbers its answers with."""
    answer = IMPOSTORS[impostor]
    bodiless = Response(answer.status, {"content-length": "95", **answer.headers})
    if set(IDS) & set(answer.headers):
        return
    client, _ = _client(dialect, PROVEN, bodiless)
    client.put_object("k", BODY, META)
    with pytest.raises(StoreError):
        client.head_object("k")


def test_a_page_of_ours_is_no_page_of_another(dialect: Any) -> None:
    """A file of HTML has its type as well; what tells it is our metadata, or the store's header."""
    page = {"content-type": "text/html", "content-length": "5", "etag": '"e"'}
    for more in (OURS, IDS):
        client, _ = _client(dialect, Response(200, page | more))
        assert client.head_object("k") is not None


def test_an_answer_without_etag_is_settled_by_one_head(dialect: Any) -> None:
    """The object is there: it is not sent again."""
    client, transport = _client(dialect, Response(200, IDS), FOUND)
    assert client.put_object("k", BODY, META).etag == "another"
    assert transport.methods == ["PUT", "HEAD"]


@pytest.mark.parametrize(
    "found",
    [
        ABSENT,
        Response(200, {**FOUND.headers, "content-length": "6"}),
        Response(200, {"etag": '"another"', "content-length": "5", **IDS}),
        Response(403, {}),
        Response(503, {}),
    ],
)
def test_an_answer_without_etag_is_none_where_the_object_is_not_there(dialect: Any, found: Response) -> None:
    """Or is another, or cannot be asked for."""
    client, _ = _client(dialect, Response(200, IDS), found)
    with pytest.raises(StoreUnavailable) as caught:
        client.put_object("k", BODY, META)
    assert caught.value.outcome_unknown


def test_an_object_without_metadata_is_known_by_its_md5(dialect: Any) -> None:
    """Some servers keep no metadata."""
    client, _ = _client(dialect, Response(200, IDS), Response(200, {**PROVEN.headers, "content-length": "5"}))
    assert client.put_object("k", BODY, META).etag == MD5


def test_a_part_without_etag_is_settled_by_one_listing(dialect: Any) -> None:
    """Its ETag is needed to complete the upload."""
    bos = isinstance(dialect, BosDialect)
    listed = (
        b'{"parts":[{"partNumber":1,"size":5,"eTag":"%s"}]}'
        if bos
        else (
            b"<ListPartsResult><Part><PartNumber>1</PartNumber><Size>5</Size><ETag>%s</ETag></Part></ListPartsResult>"
        )
    )
    client, transport = _client(dialect, Response(200, IDS), Response(200, {}, listed % MD5.encode()))
    assert client.upload_part("k", "u", 1, BODY).etag == MD5
    assert transport.methods == ["PUT", "GET"]
    client, _ = _client(dialect, Response(200, IDS), Response(200, {}, listed % b"another"))
    with pytest.raises(StoreUnavailable):
        client.upload_part("k", "u", 1, BODY)


def test_a_removal_that_proves_nothing_is_settled_by_one_question(dialect: Any) -> None:
    """Gone is what the store no longer has."""
    client, transport = _client(dialect, Response(204, {}), ABSENT)
    client.delete_object("k")
    client.abort_multipart_upload("k", "u")
    assert transport.methods == ["DELETE", "HEAD", "DELETE", "GET"]
    client, _ = _client(dialect, Response(204, {}), FOUND)
    with pytest.raises(StoreUnavailable):
        client.delete_object("k")


def test_a_server_that_numbers_nothing_is_asked_once() -> None:
    """From its first proven answer on it is known to have no such header: no file costs a request more."""
    dialect = S3Dialect(S3Settings(HttpSettings("http://127.0.0.1:1"), "photos"))
    client, transport = _client(
        dialect, Response(200, {"etag": '"e"'}), FOUND, Response(200, {"etag": '"e"'})
    )
    for _ in range(3):
        client.put_object("k", BODY, META)
    assert transport.methods == ["PUT", "HEAD", "PUT", "PUT"]
    client, transport = _client(dialect, Response(200, {"etag": f'"{MD5}"'}))
    for _ in range(3):
        client.put_object("k", BODY, META)
    assert transport.methods == ["PUT", "PUT", "PUT"]


@pytest.mark.parametrize("impostor", ["a page with an ETag", "nothing but an ETag", "no content"])
def test_a_file_that_another_server_took_is_not_recorded(dialect: Any, tmp_path: Path, impostor: str) -> None:
    """Through the whole engine, and for a deletion too: the row stays, for the object does."""
    client, _ = _client(dialect, PROVEN, IMPOSTORS[impostor])
    rig = Rig(tmp_path, store=client, part_size=64, on_delete=OnDelete.DELETE)
    rig.write("a", BODY)
    rig.sync("a")
    known = rig.state.recorded(rig.ref("a"))
    assert known is not None
    assert known.etag == MD5
    rig.write("b", b"world")
    with pytest.raises(StoreUnavailable):
        rig.sync("b")
    assert rig.state.recorded(rig.ref("b")) is None
    (rig.folder / "a").unlink()
    with pytest.raises(StoreUnavailable):
        rig.sync("a", delete_allowed=True)
    assert rig.state.recorded(rig.ref("a")) is not None
    rig.close()


def test_an_etag_is_compared_with_the_md5_that_was_sent() -> None:
    """Unless the store encrypts with keys of its own, or has ETags of another kind."""
    dialect = S3Dialect(S3Settings(HttpSettings("http://127.0.0.1:1"), "photos", integrity="md5"))
    other = {"etag": f'"{"0" * 32}"', **IDS}
    for verb in ("put", "part"):
        with pytest.raises(PartCorrupt):
            VERBS[verb](_client(dialect, Response(200, other))[0])
        for more in (
            {"x-amz-server-side-encryption": "aws:kms"},
            {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
            {"etag": '"opaque"'},
        ):
            VERBS[verb](_client(dialect, Response(200, {**other, **more}))[0])
