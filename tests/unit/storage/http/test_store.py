"""The client: one verb, one signed request; and what it learns, asks and pages on the way.

Scenarios:

- every verb of a store over both transports and a server on a socket
- keys of the moment, signed again on every send
- the server's clock: learned, believed only when it must be, corrected after a refusal
- a body that was cut off: asked about with a small request before it is sent again
- a HEAD that was refused without a reason: asked again in a way that gets one
- pages of lists, also from servers that repeat themselves
- opening a store from settings
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from syncd.core.errors import (
    AccessRefused,
    ConnectionLost,
    PartCorrupt,
    PreconditionFailed,
    Stopped,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Fingerprint, ObjectMeta, Part, UploadInfo
from syncd.storage.base import Memory, Meter
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.http.store import ClockSkew, HttpStore
from syncd.storage.opening import open_store
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.settings import HttpSettings, KeySettings, S3Settings
from tests.support.hostile import Certificate, HostileServer, Peer, answers
from tests.unit.storage.http.store_rig import NOW, SETTINGS, context

META = ObjectMeta(Fingerprint(bytes(16), 5), 0, token="t")
BIG = bytes(8 << 20)
Answer = Callable[[Request], Response]


class Told:
    """A transport that gives the answers that it was told, one after another, and keeps the requests."""

    def __init__(self, *told: Response | Exception | Answer) -> None:
        self.told = list(told)
        self.requests: list[Request] = []
        self.closed = False

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.told.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else answer(request)

    def close(self) -> None:
        self.closed = True


def store(
    *told: Response | Exception | Answer, now: Callable[[], float] = lambda: NOW
) -> tuple[HttpStore, Told]:
    transport = Told(*told)
    return HttpStore(S3Dialect(SETTINGS), transport, lambda: Credentials("AKID", "secret"), now), transport


def dated(offset: float, status: int = 200, body: bytes = b"") -> Response:
    """An answer whose Date is off by so many seconds."""
    headers = {"date": formatdate(NOW + offset, usegmt=True), "etag": '"e"', "x-amz-request-id": "r"}
    return Response(status, headers, body)


def error(status: int, code: str) -> Response:
    return Response(status, {}, f"<Error><Code>{code}</Code></Error>".encode())


def signed_at(request: Request) -> str:
    return request.headers["x-amz-date"]


def test_every_send_is_signed_with_the_keys_and_the_time_of_the_moment() -> None:
    """Rotated keys and a queue that took its time."""
    keys = iter([Credentials("FIRST", "s"), Credentials("SECOND", "s", "tok")])
    times = iter([NOW, NOW + 3600])
    transport = Told(dated(0), dated(3600))
    client = HttpStore(S3Dialect(SETTINGS), transport, lambda: next(keys), lambda: next(times))
    client.put_object("k", b"x", META)
    client.put_object("k", b"x", META)
    first, second = transport.requests
    assert (signed_at(first), signed_at(second)) == ("20270115T080000Z", "20270115T090000Z")
    assert "Credential=FIRST/" in first.headers["Authorization"]
    assert "Credential=SECOND/" in second.headers["Authorization"]
    assert second.headers["x-amz-security-token"] == "tok"


def test_without_keys_nothing_is_sent() -> None:
    """The source's own error goes up."""

    def refuse() -> Credentials:
        raise AccessRefused("no keys")

    transport = Told()
    with pytest.raises(AccessRefused, match="no keys"):
        HttpStore(S3Dialect(SETTINGS), transport, refuse, lambda: NOW).head_object("k")
    assert transport.requests == []


@pytest.mark.parametrize(
    ("code", "forgotten"),
    [("ExpiredToken", 1), ("InvalidAccessKeyId", 1), ("NoSuchBucket", 0), ("SlowDown", 0)],
)
def test_keys_that_are_refused_are_forgotten(code: str, forgotten: int) -> None:
    """Only where the keys are to blame: newer ones may lie on the disk already."""
    calls: list[None] = []
    body = f"<Error><Code>{code}</Code></Error>".encode()
    client = HttpStore(
        S3Dialect(SETTINGS),
        Told(Response(403, {}, body)),
        lambda: Credentials("a", "b"),
        lambda: NOW,
        keys_refused=lambda: calls.append(None),
    )
    with pytest.raises(StoreError):
        client.put_object("k", b"", META)
    assert len(calls) == forgotten


@pytest.mark.parametrize(("renewed", "once_more"), [("new", True), ("old", False), ("", False)])
def test_keys_that_were_renewed_meanwhile_are_tried_at_once(renewed: str, once_more: bool) -> None:
    """The refusal pauses nothing where newer keys are there already."""
    given = ["old"]

    def keys() -> Credentials:
        if not given[0]:
            raise AccessRefused("the key file is empty")
        return Credentials("id", given[0])

    client = HttpStore(
        S3Dialect(SETTINGS),
        Told(error(400, "ExpiredToken")),
        keys,
        lambda: NOW,
        keys_refused=lambda: given.__setitem__(0, renewed),
    )
    with pytest.raises(StoreUnavailable if once_more else AccessRefused) as caught:
        client.put_object("k", b"x", META)
    assert (getattr(caught.value, "retry_after_seconds", None) == 0.0) is once_more
    assert caught.value.code == "ExpiredToken"


def test_a_bare_refusal_whose_reason_is_renewed_keys_is_tried_again_at_once() -> None:
    """A refused HEAD has no body; the GET that asks why finds the newer keys."""
    given = ["old"]
    client = HttpStore(
        S3Dialect(SETTINGS),
        Told(Response(400, {}), error(400, "ExpiredToken")),
        lambda: Credentials("id", given[0]),
        lambda: NOW,
        keys_refused=lambda: given.__setitem__(0, "new"),
    )
    with pytest.raises(StoreUnavailable) as caught:
        client.head_object("k")
    assert (caught.value.retry_after_seconds, caught.value.code) == (0.0, "ExpiredToken")


def test_requests_are_counted() -> None:
    """Each one that goes out, also those that fail, with what came of it."""
    counted: list[None] = []
    answered: list[tuple[str, int | None, bool]] = []
    transport = Told(dated(0), StoreUnavailable("lost"))
    client = HttpStore(
        S3Dialect(SETTINGS),
        transport,
        lambda: Credentials("a", "b"),
        lambda: NOW,
        Meter(
            requested=lambda: counted.append(None),
            answered=lambda operation, status, seconds: answered.append((operation, status, seconds >= 0)),
        ),
    )
    client.put_object("k", b"", META)
    with pytest.raises(StoreUnavailable):
        client.put_object("k", b"", META)
    assert len(counted) == 2
    assert answered == [("put", 200, True), ("put", None, True)]


@pytest.mark.parametrize("offset", [3600.0, -3600.0])
@pytest.mark.parametrize(
    "refused",
    [error(403, "RequestTimeTooSkewed"), error(400, "AccessDenied"), error(403, "SignatureDoesNotMatch")],
)
def test_a_refusal_for_the_time_is_signed_anew_with_the_server_s(offset: float, refused: Response) -> None:
    """Whatever the server calls it: its Date shows what the matter may be. Once, and at once."""
    dates = {"date": formatdate(NOW + offset, usegmt=True)}
    client, transport = store(Response(refused.status, dates, refused.body), dated(offset))
    with pytest.raises(StoreUnavailable) as caught:
        client.put_object("k", b"x", META)
    assert (caught.value.retry_after_seconds, caught.value.outcome_unknown) == (0.0, False)
    assert client._skew.seconds == offset
    client.put_object("k", b"x", META)
    assert signed_at(transport.requests[1]) == ("20270115T090000Z" if offset > 0 else "20270115T070000Z")


def test_a_refusal_that_is_not_for_the_time_stays_one() -> None:
    """The clocks agree, or the correction is made already."""
    dates = {"date": formatdate(NOW + 3600, usegmt=True)}
    refused = Response(403, dates, error(403, "InvalidAccessKeyId").body)
    client, _ = store(refused, refused)
    with pytest.raises(StoreUnavailable):
        client.head_object("k")
    with pytest.raises(AccessRefused):
        client.put_object("k", b"x", META)


def learned(*offsets: float, tolerance_moves: float = 0.0) -> float:
    skew = ClockSkew()
    for offset in offsets:
        date = formatdate(NOW + offset, usegmt=True)
        skew.learn(date, NOW, lambda: NOW + tolerance_moves, at_once=False)
    return skew.seconds


@pytest.mark.parametrize(
    ("offsets", "seconds"),
    [
        ((), 0.0),
        ((30.0, 30.0, 30.0), 0.0),
        ((-59.0, -59.0, -59.0), 0.0),
        ((3600.0,), 0.0),
        ((3600.0, 3600.0, 3600.0), 3600.0),
        ((0.0, 0.0, 3600.0), 0.0),
        ((3600.0, 3600.0, 3600.0, 0.0), 3600.0),
        ((3600.0, 3600.0, 3600.0, 0.0, 0.0), 0.0),
    ],
)
def test_the_middle_of_the_last_dates_counts(offsets: tuple[float, ...], seconds: float) -> None:
    """One odd header spoils nothing; a corrected clock is noticed."""
    assert learned(*offsets) == seconds


def test_a_slow_answer_is_no_skew() -> None:
    """The Date may be from any moment between sending and receiving."""
    for moment in (0.0, 450.0, 900.0):
        assert learned(moment, moment, moment, tolerance_moves=900.0) == 0.0


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_date_that_is_none_is_no_skew(date: str) -> None:
    """Servers may leave it out."""
    skew = ClockSkew()
    assert not skew.learn(date, NOW, lambda: NOW, at_once=True)
    assert skew.seconds == 0.0


LOST = ConnectionLost("lost", outcome_unknown=True)


def put_big(client: HttpStore) -> object:
    return client.put_object("k", BIG, META)


def part_big(client: HttpStore) -> object:
    return client.upload_part("k", "u", 3, BIG)


@pytest.mark.parametrize("verb", [put_big, part_big])
@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "ExpiredToken", "NoSuchBucket"])
def test_a_body_that_was_cut_off_is_asked_about(verb: Callable[[HttpStore], object], code: str) -> None:
    """A refusal of everything is seen before megabytes go out again."""
    client, transport = store(LOST, error(403, code))
    with pytest.raises(AccessRefused) as caught:
        verb(client)
    assert caught.value.code == code
    assert [request.method for request in transport.requests] == ["PUT", "GET"]
    assert len(transport.requests[1].body) == 0


def test_a_part_that_was_cut_off_may_have_lost_its_upload() -> None:
    """Asked for by the list of its parts."""
    client, transport = store(LOST, error(404, "NoSuchUpload"))
    with pytest.raises(UploadGone):
        part_big(client)
    assert dict(transport.requests[1].query) == {"uploadId": "u", "part-number-marker": "2"}


@pytest.mark.parametrize(
    "answer",
    [
        Response(206, {"content-range": "bytes 0-0/5"}, b"x"),
        error(404, "NoSuchKey"),
        error(403, "AccessDenied"),
        error(503, "SlowDown"),
        LOST,
        StoreUnavailable("still down"),
    ],
)
def test_any_other_answer_proves_nothing(answer: Response | Exception) -> None:
    """Keys that may write need not be allowed to read: the loss itself goes up."""
    client, _ = store(LOST, answer)
    with pytest.raises(ConnectionLost) as caught:
        put_big(client)
    assert caught.value is LOST


def test_a_small_body_is_just_sent_again() -> None:
    """The question would cost as much."""
    client, transport = store(LOST)
    with pytest.raises(ConnectionLost):
        client.put_object("k", b"small", META)
    assert len(transport.requests) == 1


def test_a_stalled_body_is_not_asked_about() -> None:
    """The network does not carry a question either."""
    client, transport = store(StoreUnavailable("stalled", outcome_unknown=True))
    with pytest.raises(StoreUnavailable):
        put_big(client)
    assert len(transport.requests) == 1


def test_a_refused_head_is_asked_for_its_reason() -> None:
    """An answer to HEAD has no body, and so no code."""
    client, transport = store(Response(403, {}), error(403, "ExpiredToken"))
    with pytest.raises(AccessRefused) as caught:
        client.head_object("k")
    assert caught.value.code == "ExpiredToken"
    assert [request.method for request in transport.requests] == ["HEAD", "GET"]


def test_a_refused_head_stays_one_without_a_better_reason() -> None:
    """This object, not the store."""
    for answer in (error(403, "AccessDenied"), error(404, "NoSuchKey")):
        client, _ = store(Response(403, {}), answer)
        with pytest.raises(StoreRefused) as caught:
            client.head_object("k")
        assert not isinstance(caught.value, AccessRefused)


def parts_page(numbers: list[int], following: int | None) -> Response:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>e</ETag><Size>1</Size></Part>" for number in numbers
    )
    more = f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{following}</NextPartNumberMarker>"
    return Response(
        200, {}, f"<ListPartsResult>{parts}{more if following else ''}</ListPartsResult>".encode()
    )


def test_all_pages_of_parts_are_read_in_order() -> None:
    """By number, never by position; what is told twice counts once."""
    client, transport = store(parts_page([3, 1, 2], 3), parts_page([3, 5, 4], 5), parts_page([], None))
    assert [part.number for part in client.list_parts("k", "u")] == [1, 2, 3, 4, 5]
    markers = [dict(request.query).get("part-number-marker") for request in transport.requests]
    assert markers == [None, "3", "5"]


@pytest.mark.parametrize(
    "pages",
    [
        [parts_page([1, 2], 2), parts_page([1, 2], 2)],
        [parts_page([1, 2], 2), parts_page([1, 2], 1)],
        [parts_page([1, 2], 2), parts_page([1, 2], 3)],
        [parts_page([1, 2], 2), parts_page([], 3)],
        [parts_page([], 1)],
    ],
    ids=["the marker stays", "it goes back", "the parts stay", "no parts", "no parts at first"],
)
def test_a_list_of_parts_without_progress_is_refused(pages: list[Response]) -> None:
    """Whatever its marker does, after the first page that has nothing new and says that more follows."""
    client, transport = store(*pages)
    with pytest.raises(StoreFailed, match="has no end"):
        client.list_parts("k", "u")
    assert len(transport.requests) == len(pages)


def test_a_list_of_parts_is_read_up_to_the_last_that_is_wanted() -> None:
    """A server that makes up one part after the other is not followed behind those of the file."""
    client, transport = store(*(parts_page([number], number) for number in range(1, 4)))
    assert [part.number for part in client.list_parts("k", "u", 3)] == [1, 2, 3]
    assert len(transport.requests) == 3


def uploads_page(keys: list[str], following: str | None) -> Response:
    uploads = "".join(f"<Upload><Key>{key}</Key><UploadId>id</UploadId></Upload>" for key in keys)
    more = f"<IsTruncated>true</IsTruncated><NextKeyMarker>{following}</NextKeyMarker>"
    body = f"<ListMultipartUploadsResult>{uploads}{more if following else ''}</ListMultipartUploadsResult>"
    return Response(200, {}, body.encode())


def test_all_pages_of_uploads_are_read() -> None:
    """Each when it is needed."""
    client, transport = store(uploads_page(["a", "b"], "b"), uploads_page(["c"], None))
    listing = client.list_multipart_uploads("")
    assert [next(listing).key, next(listing).key] == ["a", "b"]
    assert len(transport.requests) == 1
    assert list(listing) == [UploadInfo("c", "id")]


@pytest.mark.parametrize(
    ("offsets", "earliest", "latest"),
    [
        ([], 0, 0),
        ([-7200], -7200, 0),
        ([7200], 0, 7200),
        ([7200, -7200], -7200, 7200),
        ([-7200] * 3, -7200, -7200),
        ([7200] * 3, 7200, 7200),
        ([7200, 0, 0], 0, 0),
        ([30] * 3, 0, 0),
    ],
)
def test_the_clock_of_the_server_is_known_after_three_answers(
    offsets: list[float], earliest: float, latest: float
) -> None:
    """Until then between ours and what it said, so that one odd date makes nothing older, and nothing of
    another program is aborted for it.
    """
    client, _ = store(*[dated(offset, 404) for offset in offsets])
    for _ in offsets:
        client.head_object("k")
    assert client.clock_ns() == (int((NOW + earliest) * 1e9), int((NOW + latest) * 1e9))


@pytest.mark.parametrize("again", ["b", "a", "other"])
def test_a_server_that_ignores_markers_ends_the_list_of_uploads(again: str) -> None:
    """It says that there is more, and gives the same page each time."""
    client, transport = store(*[uploads_page(["a", "b"], marker) for marker in ("b", again, "b")])
    assert [upload.key for upload in client.list_multipart_uploads("")] == ["a", "b"]
    assert len(transport.requests) == 2


@pytest.mark.parametrize(
    ("etag", "error"),
    [('"e"', None), ('W/"e"', None), ('"other"', PreconditionFailed), ("", StoreUnavailable)],
)
def test_a_range_is_of_the_object_that_was_meant(etag: str, error: type[Exception] | None) -> None:
    """By the ETag of the answer, whatever the server makes of conditions; without one it is foreign."""
    headers = {"content-range": "bytes 0-1/2", **({"etag": etag} if etag else {})}
    client, transport = store(Response(206, headers, b"xy"))
    if error is None:
        assert client.get_object("k", 0, 1, "e").body == b"xy"
    else:
        with pytest.raises(error):
            client.get_object("k", 0, 1, "e")
    assert len(transport.requests) == 1


ETAG = b'HTTP/1.1 200 OK\r\nx-amz-request-id: r\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'


def ok(body: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode())


@pytest.fixture
def opened() -> Iterator[Callable[..., Any]]:
    """A store for a server of scripts, ended with the test."""
    stores = []

    def start(server: HostileServer, **more: Any) -> Any:
        bundle = server.certificate.cert if server.certificate else ""
        http = HttpSettings(server.endpoint, ca_bundle=bundle)
        found = open_store(S3Settings(http, "photos", keys=KeySettings("AKID", "s")), context(**more))
        stores.append(found)
        return found

    yield start
    for found in stores:
        found.close()


VERBS: dict[str, tuple[Callable[[Any], object], bytes, str]] = {
    "put": (lambda s: s.put_object("a b", b"xyz", META), ETAG, "PUT /photos/a%20b"),
    "head": (lambda s: s.head_object("k"), ETAG, "HEAD /photos/k"),
    "get": (
        lambda s: s.get_object("k", 0, 1),
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-1/2\r\nContent-Length: 2\r\n\r\nxy",
        "GET /photos/k",
    ),
    "delete": (
        lambda s: s.delete_object("k"),
        b"HTTP/1.1 204 No\r\nx-amz-request-id: r\r\n\r\n",
        "DELETE /photos/k",
    ),
    "copy": (
        lambda s: s.copy_object("s", "k", META, "e"),
        ok("<CopyObjectResult><ETag>e</ETag></CopyObjectResult>"),
        "PUT /photos/k",
    ),
    "create": (
        lambda s: s.create_multipart_upload("k", META),
        ok("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"),
        "POST /photos/k?uploads",
    ),
    "part": (lambda s: s.upload_part("k", "u", 2, b"x"), ETAG, "PUT /photos/k?partNumber=2&uploadId=u"),
    "complete": (
        lambda s: s.complete_multipart_upload("k", "u/+", [Part(1, 1, "e")], META),
        ok("<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"),
        "POST /photos/k?uploadId=u%2F%2B",
    ),
    "abort": (
        lambda s: s.abort_multipart_upload("k", "u"),
        b"HTTP/1.1 204 No\r\nx-amz-request-id: r\r\n\r\n",
        "DELETE /photos/k?uploadId=u",
    ),
    "list parts": (
        lambda s: s.list_parts("k", "u"),
        ok("<ListPartsResult></ListPartsResult>"),
        "GET /photos/k?uploadId=u",
    ),
    "list uploads": (
        lambda s: list(s.list_multipart_uploads("p/")),
        ok("<ListMultipartUploadsResult></ListMultipartUploadsResult>"),
        "GET /photos?encoding-type=url&prefix=p%2F&uploads",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_one_request(opened: Callable[..., Any], verb: str) -> None:
    """Over a real socket, with its method and target."""
    call, answer, line = VERBS[verb]
    with HostileServer([answers(answer)]) as server:
        call(opened(server))
        assert [f"{seen.method} {seen.target}" for seen in server.received] == [line]


def _die(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def test_a_refusal_that_cuts_off_a_large_body_over_tls_is_seen(
    opened: Callable[..., Any], certificate: Certificate
) -> None:
    """The 403 itself may be lost with the connection; the megabytes are not sent until the tries run out."""
    body = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
    forbidden = b"HTTP/1.1 403 F\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def cut_off(peer: Peer) -> None:
        peer.read_head()
        peer.send(forbidden)
        peer.reset()

    def script(peer: Peer) -> None:
        received = peer.read_head()
        peer.read_exactly(int(received.get("content-length") or 0))
        peer.send(forbidden)

    with HostileServer([cut_off, script], certificate) as server:
        with pytest.raises(AccessRefused) as caught:
            opened(server).put_object("k", BIG, META)
        assert caught.value.code == "InvalidAccessKeyId"
        assert [seen.method for seen in server.received] in (["PUT"], ["PUT", "GET"])


def test_sent_bytes_and_requests_are_reported(opened: Callable[..., Any]) -> None:
    """Of bodies, as they go out, those of failed tries included."""
    sent: list[int] = []
    requests: list[None] = []
    with HostileServer([_die, answers(ETAG)]) as server:
        meter = Meter(lambda: requests.append(None), sent.append)
        opened(server, meter=meter).put_object("k", bytes(1000), META)
    assert (sum(sent), len(requests)) == (2000, 2)


def test_a_stop_ends_a_verb(opened: Callable[..., Any]) -> None:
    """Between its tries."""
    stop = threading.Event()

    def sleep(_seconds: float) -> None:
        stop.set()
        raise Stopped("stop")

    with HostileServer([_die]) as server:
        with pytest.raises(Stopped):
            opened(server, sleep=sleep, should_stop=stop.is_set).head_object("k")
        assert len(server.received) == 1


def _skewed(peer: Peer) -> None:
    """A server whose clock is an hour ahead, and which refuses what is signed by another."""
    date = formatdate(NOW + 3600, usegmt=True).encode()
    body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    while True:
        seen = peer.read_request()
        right = seen.get("x-amz-date") == "20270115T090000Z"
        if right:
            peer.send(ETAG.replace(b"ETag", b"Date: %s\r\nETag" % date))
        else:
            peer.send(b"HTTP/1.1 403 F\r\nDate: %s\r\nContent-Length: %d\r\n\r\n%s" % (date, len(body), body))


def test_a_store_with_another_clock_is_served_after_one_more_try(opened: Callable[..., Any]) -> None:
    """And at the first try from then on."""
    with HostileServer([_skewed]) as server:
        found = opened(server)
        for _ in range(3):
            found.put_object("k", b"x", META)
        assert len(server.received) == 4


def _regional(peer: Peer) -> None:
    """A server in another region."""
    while True:
        seen = peer.read_request()
        if "/eu-west-1/s3/" in seen.get("authorization"):
            peer.send(ETAG)
        else:
            peer.send(b"HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n")


def test_a_store_in_another_region_is_served_after_one_more_try(opened: Callable[..., Any]) -> None:
    """And at the first try from then on."""
    with HostileServer([_regional]) as server:
        found = opened(server)
        for _ in range(3):
            found.put_object("k", b"x", META)
        assert len(server.received) == 4


# ---- a store that ignores digests -------------------------------------------------------------------------


def ok(headers: dict[str, str] | None = None, body: bytes = b"", status: int = 200) -> Response:
    return Response(status, {"x-amz-request-id": "r", **(headers or {})}, body)


def taken(etag: Callable[[bytes], str]) -> Answer:
    return lambda request: ok({"etag": f'"{etag(bytes(request.body))}"'})


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def held(size: int, **more: str) -> Response:
    named = {f"x-amz-{name.replace('_', '-')}": value for name, value in more.items()}
    return ok({"content-length": str(size), "etag": '"x"', "x-amz-meta-syncd-xxh128": "0" * 32, **named})


@pytest.mark.parametrize(
    ("known", "told", "expected", "requests"),
    [
        ("", [taken(lambda body: "other")], None, 1),
        ("checked", [taken(lambda body: "other")], None, 1),
        ("etag", [taken(md5)], None, 1),
        ("etag", [taken(lambda body: md5(b"other"))], PartCorrupt, 1),
        ("size", [taken(md5)], None, 1),
        ("size", [taken(lambda body: "other"), held(5)], None, 2),
        ("size", [taken(lambda body: "other"), held(4)], StoreUnavailable, 2),
        ("size", [taken(lambda body: "other"), held(5, checksum_crc32="AAAAAA==")], StoreUnavailable, 2),
        ("size", [taken(lambda body: "other"), error(404, "NoSuchKey")], StoreUnavailable, 2),
    ],
)
def test_where_digests_are_ignored_each_put_is_compared(
    known: str, told: list[Response | Answer], expected: type[StoreError] | None, requests: int
) -> None:
    """By the ETag where that is the MD5, else by what the store has; elsewhere no put costs more."""
    transport = Told(*told)
    client = HttpStore(
        S3Dialect(SETTINGS),
        transport,
        lambda: Credentials("AKID", "secret"),
        lambda: NOW,
        digests=Memory(lambda store_id: known),
    )
    if expected is None:
        client.put_object("k", b"hello", META)
    else:
        with pytest.raises(expected):
            client.put_object("k", b"hello", META)
    assert len(transport.requests) == requests


@pytest.mark.parametrize(("etag", "passes"), [(md5(b"hello"), True), (md5(b"other"), False)])
def test_where_digests_are_ignored_each_part_is_compared(etag: str, passes: bool) -> None:
    transport = Told(taken(lambda body: etag))
    keys = Credentials("AKID", "secret")
    client = HttpStore(
        S3Dialect(SETTINGS), transport, lambda: keys, lambda: NOW, digests=Memory(lambda store_id: "etag")
    )
    if passes:
        assert client.upload_part("k", "u", 1, b"hello").etag == etag
        return
    with pytest.raises(PartCorrupt, match="other bytes"):
        client.upload_part("k", "u", 1, b"hello")
