"""The proxy of the campaign: each kind does what it says, to the client and to the server."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.fault_proxy import HTML, KINDS, FaultProxy
from tests.support.hostile import HostileServer, Peer
from tests.support.http_pieces import Head
from tests.support.waiting import wait_until

BODY = b"0123456789" * 10_000
ANSWER = b"<Answer>" + b"x" * 1_000 + b"</Answer>"
STALL_SECONDS = 0.3


def _answer(peer: Peer) -> None:
    """As a good server: reads the request, answers in chunks or by length, keeps the connection."""
    while True:
        request = peer.read_request()
        if request.target.startswith("/bucket/chunked"):
            framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed)
        elif request.method == "HEAD":
            peer.send(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 99\r\n\r\n')
        else:
            length = b"Content-Length: %d\r\n\r\n" % len(ANSWER)
            peer.send(b'HTTP/1.1 200 OK\r\nETag: "e"\r\n' + length + ANSWER)


class Rig:
    """A server, the proxy before it, and a client that does not guess."""

    def __init__(self, server: HostileServer) -> None:
        self.server = server
        self.kind: str | None = None
        self.proxy = FaultProxy(
            ("127.0.0.1", server.port), self._choose, stall_seconds=STALL_SECONDS, down_seconds=0.5
        )

    def _choose(self, number: int, head: Head) -> str | None:
        return self.kind if "faulty" in head.target else None

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=20)

    def ask(self, kind: str | None, method: str = "PUT", body: bytes = BODY) -> tuple[int, str, bytes]:
        """One request to which this happens: status, ETag and body of the answer."""
        self.kind = kind
        with closing(self.client()) as client:
            client.request(method, "/bucket/faulty%20key?partNumber=7", body)
            got = client.getresponse()
            return got.status, got.headers.get("ETag", ""), got.read()

    def received(self) -> list[bytes]:
        """The bodies that the server got whole."""
        return [request.body for request in self.server.received]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A running one."""
    with HostileServer([_answer]) as server:
        made = Rig(server)
        with made.proxy:
            yield made


def test_it_passes_everything_on(rig: Rig) -> None:
    """Without a fault both sides see what the other one sent, several requests on one connection."""
    with closing(rig.client()) as client:
        for target in ("/bucket/a", "/bucket/chunked", "/bucket/b"):
            client.request("PUT", target, BODY)
            got = client.getresponse()
            assert (got.status, got.read()) == (200, ANSWER)
        client.request("HEAD", "/bucket/c")
        got = client.getresponse()
        assert (got.headers["Content-Length"], got.read()) == ("99", b"")

    assert rig.received() == [BODY, BODY, BODY, b""]
    wait_until("all is counted", lambda: len(rig.proxy.ledger.bytes.by_key) == 3)
    assert rig.proxy.ledger.bytes.by_key == {"a": len(BODY), "chunked": len(BODY), "b": len(BODY)}
    assert rig.proxy.ledger.bytes.useful == 3 * len(BODY)
    assert rig.proxy.ledger.faults == {}


@pytest.mark.parametrize("kind", ["reset before", "reset in body", "stalled request", "refused"])
def test_nothing_whole_reaches_the_server(rig: Rig, kind: str) -> None:
    """The client hears nothing, and the server has not got the request."""
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        rig.ask(kind)

    assert BODY not in rig.received()
    assert rig.proxy.ledger.bytes.useful == 0


@pytest.mark.parametrize("kind", ["lost answer", "reset in answer", "stalled answer", "short"])
def test_the_server_does_it_and_the_client_does_not_know(rig: Rig, kind: str) -> None:
    """The whole request arrives; its answer does not come, or not whole."""
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        rig.ask(kind)

    assert rig.received() == [BODY]
    wait_until("it is counted", lambda: rig.proxy.ledger.bytes.lost_to_faults == len(BODY))


@pytest.mark.parametrize("kind", ["stalled request", "stalled answer"])
def test_a_stall_lasts_until_the_client_gives_up(rig: Rig, kind: str) -> None:
    """It hears nothing at all, not even the end of the connection."""
    rig.kind, rig.proxy._stall_seconds = kind, 60.0
    client = http.client.HTTPConnection("127.0.0.1", rig.proxy.port, timeout=1.0)
    with closing(client):
        client.request("PUT", "/bucket/faulty", BODY)
        with pytest.raises(TimeoutError):
            client.getresponse()


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("500", 500, b""), ("502", 502, HTML), ("503", 503, b""), ("429", 429, b""), ("html", 200, HTML),
        ("403 page", 403, HTML), ("404 page", 404, HTML), ("redirect", 302, b""),
    ],
)  # fmt: skip
def test_somebody_else_answers(rig: Rig, kind: str, status: int, body: bytes) -> None:
    """The server hears nothing of the request, and the connection goes on."""
    assert rig.ask(kind) == (status, "", body)
    assert rig.received() == []

    assert rig.ask(None) == (200, '"e"', ANSWER)


def test_an_early_answer(rig: Rig) -> None:
    """It comes before the body is sent, and the connection ends."""
    rig.kind = "early 503"
    with closing(socket.create_connection(("127.0.0.1", rig.proxy.port))) as client:
        client.sendall(b"PUT /bucket/faulty HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1000), b""))

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert rig.received() == []


@pytest.mark.parametrize("kind", ["cut", "noise", "empty"])
def test_an_answer_is_spoiled(rig: Rig, kind: str) -> None:
    """The server does it; the client gets a whole answer that is not the server's."""
    status, etag, body = rig.ask(kind)

    assert rig.received() == [BODY]
    assert status == 200
    assert body != ANSWER
    assert len(body) == {"cut": len(ANSWER) // 2, "noise": len(ANSWER), "empty": 0}[kind]
    assert etag == ("" if kind == "empty" else '"e"')
    assert rig.proxy.ledger.bytes.useful == 0


def test_a_dripping_answer_is_whole(rig: Rig) -> None:
    """It takes its time, and then it is the server's."""
    began = time.monotonic()

    assert rig.ask("drip") == (200, '"e"', ANSWER)

    assert time.monotonic() - began > 0.1
    wait_until("it is counted", lambda: rig.proxy.ledger.bytes.useful == len(BODY))


def test_after_a_while_it_listens_again(rig: Rig) -> None:
    """While it is down connections are refused, open ones end; then it is there at the same port."""
    with closing(rig.client()) as other:
        other.request("PUT", "/bucket/other", BODY)
        other.getresponse().read()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            rig.ask("refused")
        assert other.sock.recv(1) == b""

    refused = []

    def listens() -> bool:
        try:
            return rig.ask(None)[0] == 200
        except ConnectionRefusedError as error:
            refused.append(error)
            return False

    wait_until("it listens again", listens)
    assert refused


def test_a_client_that_has_gone_delivers_nothing(rig: Rig) -> None:
    """Half a request of a process that died is never made whole."""
    with closing(socket.create_connection(("127.0.0.1", rig.proxy.port))) as client:
        client.sendall(b"PUT /bucket/a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf")

    wait_until("it is counted", lambda: rig.proxy.ledger.bytes.forwarded > 0)
    assert rig.received() in ([], [b""])  # its head at most
    assert rig.proxy.ledger.bytes.lost_to_clients == len(b"half")


def test_it_freezes_in_the_middle_of_a_body_until_it_thaws(rig: Rig) -> None:
    """What a client sends beyond the mark does not pass; a thaw cuts its connection, and new ones pass."""
    rig.proxy.freeze_after(len(BODY) // 2)
    with closing(rig.client()) as client:
        client.request("PUT", "/bucket/a", BODY)
        assert rig.proxy.wait_stalled(20)
        rig.proxy.thaw()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            client.getresponse()

    assert BODY not in rig.received()
    assert rig.ask(None) == (200, '"e"', ANSWER)
    assert rig.proxy.ledger.targets == ["PUT /bucket/a", "PUT /bucket/faulty%20key?partNumber=7"]
    assert rig.proxy.connections == 2
    assert rig.proxy.bytes_sent > 1.5 * len(BODY)


def test_every_kind_is_counted(rig: Rig) -> None:
    """By name; the last one of them ends all connections."""
    for kind in KINDS:
        try:
            rig.ask(kind, body=b"x")
        except (ConnectionError, http.client.HTTPException):
            continue

    assert rig.proxy.ledger.faults == dict.fromkeys(KINDS, 1)
