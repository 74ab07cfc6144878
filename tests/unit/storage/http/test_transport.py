"""Both transports against a server that misbehaves in every way that a network can.

Scenarios:

- what goes out: the target as signed, exact lengths, exactly our headers, nothing from the environment
- proxies: plain, tunnelled, from the environment, refusing, unreachable, misspelt
- answers: however they are framed and cut; too large; redirects are answers
- failures: before anything was sent, and after, when the outcome is unknown
- patience: silence, dripping, slow but moving, slow answers, stop
- early answers to large bodies, plain and over TLS
- connections: kept, stale, reset, never shared, closed
- TLS: whom to trust
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import AccessRefused, Stopped, StoreRefused, StoreUnavailable
from syncd.storage.http import deadlines as patience
from syncd.storage.http.errors import ConnectionLost
from syncd.storage.http.messages import Request
from syncd.storage.http.transport import Transport
from syncd.storage.settings import HttpSettings
from tests.support.hostile import OK, Certificate, HostileServer, Peer, Script, answers, make_certificate
from tests.unit.storage.http.transports import Client, Kind, every_transport, free_port, open_transport

BIG = bytes(range(256)) * (8 << 12)  # 8 MiB: more than the kernel takes from us at once


@pytest.fixture(params=["plain", "tls"])
def maybe_tls(request: pytest.FixtureRequest) -> Certificate | None:
    """Rules that TLS could break are tried with and without."""
    if request.param == "plain":
        return None
    return request.getfixturevalue("certificate")  # type: ignore[no-any-return]


@pytest.fixture
def run(kind: Kind) -> Iterator[Callable[..., tuple[HostileServer, Client]]]:
    """Starts a server for scripts and a client of it; ends both."""
    with contextlib.ExitStack() as stack:

        def start(
            *scripts: Script, certificate: Certificate | None = None, **settings: Any
        ) -> tuple[HostileServer, Client]:
            server = stack.enter_context(HostileServer(list(scripts), certificate))
            client = Client(kind, server, **settings)
            stack.callback(client.transport.close)
            return server, client

        yield start


Run = Callable[..., tuple[HostileServer, Client]]
PATHS = [
    "/b/plain",
    "/b//two//slashes",
    "/b/./dot/../dots",
    "/b/%20%2B%25%23%3F%26%22%27%0A%C3%BC~-_.",
    "/b/trailing/",
    "//leading/slashes",
    "/",
]


@pytest.mark.parametrize("path", PATHS)
def test_the_path_goes_out_as_it_was_signed(run: Run, path: str) -> None:
    """No slash, dot or escape is normalised on the way."""
    server, client = run(answers(OK))
    client.put(path=path)
    assert server.received[0].target == path


def test_the_query_goes_out_encoded_in_its_order(run: Run) -> None:
    """Names and values are percent-encoded, a name without a value stands alone."""
    server, client = run(answers(OK))
    client.get(query=(("uploads", ""), ("prefix", "a b+/ü&="), ("z", "~1")))
    assert server.received[0].target == "/b/k?uploads&prefix=a%20b%2B%2F%C3%BC%26%3D&z=~1"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_001])
@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_the_body_goes_out_whole_with_its_length(run: Run, size: int, buffer: Callable[[bytes], Any]) -> None:
    """Any buffer of any size has its exact length and no chunks."""
    server, client = run(answers(OK))
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    client.put(buffer(body))
    received = server.received[0]
    assert received.get("content-length") == str(size)
    assert received.get("transfer-encoding") == ""
    assert received.body == body
    assert sum(client.sent) == size


def test_headers_are_ours_and_no_others(run: Run) -> None:
    """Nothing is added that a signature or a cache could depend on."""
    server, client = run(answers(OK))
    client.put(b"abc", headers={"Authorization": "us", "x-amz-date": "now", "Host": client.host})
    assert sorted((name.lower(), value) for name, value in server.received[0].headers) == [
        ("accept-encoding", "identity"),
        ("authorization", "us"),
        ("content-length", "3"),
        ("host", server.host),
        ("user-agent", server.received[0].get("user-agent")),
        ("x-amz-date", "now"),
    ]
    assert server.received[0].get("user-agent").startswith("syncd/")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "\x7f", "ü", "\udcff"])
def test_a_header_that_cannot_be_carried_is_refused(run: Run, value: str) -> None:
    """A line break in a value must not become a header of its own."""
    server, client = run(answers(OK))
    with pytest.raises(StoreRefused):
        client.put(headers={"x-amz-meta-name": value})
    assert server.received == []


def test_nothing_is_taken_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither proxies nor netrc nor a CA bundle count unless the settings say so."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    server, client = run(answers(OK))
    client.put(headers={"Authorization": "ours"})
    assert server.received[0].get("authorization") == "ours"


ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nT: 1\r\n\r\n",
        b"hello",
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    "old": (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    "interim first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
    ),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "nothing": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
}


def _once(answer: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)

    return script


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_whole_however_it_is_framed(run: Run, name: str) -> None:
    """Length, chunks, end of connection, no body at all."""
    answer, body = ANSWERS[name]
    _, client = run(_once(answer))
    assert client.put().body == body


def test_an_answer_to_head_has_a_length_but_no_body(run: Run) -> None:
    """The length is the object's; the connection goes on at once."""
    server, client = run(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: x\r\n\r\n"))
    for _ in range(2):
        response = client.transport.send(Request("HEAD", client.host, "/b/k"))
        assert (response.headers["content-length"], response.body) == ("12345", b"")
    assert server.connections == 1


def test_an_answer_may_come_in_single_bytes(run: Run) -> None:
    """Where the network cuts means nothing."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.drip(ANSWERS["chunks"][0], 0.001)
        peer.hang()

    _, client = run(script)
    assert client.put().body == b"hello"


def test_header_names_of_answers_are_lower_case(run: Run) -> None:
    """Dialects look them up by one spelling; what comes twice is joined."""
    _, client = run(answers(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2\r\nContent-Length: 0\r\n\r\n"))
    assert client.put().headers["x-a"] == "1, 2"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer(run: Run, status: int) -> None:
    """It is never followed: the body would be lost or go to a place that was not configured."""
    location = b"Location: http://127.0.0.1:1/elsewhere\r\n"
    server, client = run(answers(b"HTTP/1.1 %d X\r\n%sContent-Length: 0\r\n\r\n" % (status, location)))
    assert client.put().status == status
    assert len(server.received) == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 9000000\r\n\r\n", b"\r\n"])
def test_an_answer_that_is_too_large_is_not_taken(run: Run, framing: bytes) -> None:
    """Whatever it claims to be: memory has a ceiling, and the outcome is unknown."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n" + framing)
        peer.send(bytes(9_000_000))
        peer.linger()

    _, client = run(script)
    with pytest.raises(StoreUnavailable) as caught:
        client.get()
    assert caught.value.outcome_unknown


def test_content_that_was_asked_for_may_be_larger(run: Run) -> None:
    """The range is the bound of its own answer."""
    size = 9_000_000
    _, client = run(answers(b"HTTP/1.1 206 P\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)))
    assert len(client.get(headers={"range": f"bytes=0-{size - 1}"}).body) == size


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:{port}", "http://name.invalid", f"http://{'a' * 64}.b"]
)
def test_without_a_connection_nothing_was_done(kind: Kind, endpoint: str) -> None:
    """Refused, unknown and impossible hosts: the outcome is certain."""
    client = Client(kind, None, endpoint=endpoint.format(port=free_port()))
    with pytest.raises(StoreUnavailable) as caught:
        client.put()
    assert not caught.value.outcome_unknown
    client.transport.close()


@contextlib.contextmanager
def _full_backlog() -> Iterator[int]:
    """The port of a listener that does not answer another connection."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        yield int(listener.getsockname()[1])


def test_a_connection_that_never_comes_is_given_up(kind: Kind) -> None:
    """The connect timeout is not done, for certain."""
    with _full_backlog() as port:
        client = Client(kind, None, endpoint=f"http://127.0.0.1:{port}", connect_seconds=0.3)
        with pytest.raises(StoreUnavailable) as caught:
            client.put()
    assert not caught.value.outcome_unknown


def _close(peer: Peer) -> None:
    peer.read_request()


def _reset(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


BROKEN: dict[str, Script] = {
    "closed without a word": _close,
    "reset": _reset,
    "a head without end": _once(b"HTTP/1.1 200 OK\r\nETag: x\r\n"),
    "half a head": _once(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": _once(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal"),
    "half a chunk": _once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhal"),
    "no last chunk": _once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"),
    "not a chunk": _once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "not HTTP": _once(b"220 smtp.example ESMTP\r\n\r\n"),
    "endless head": _once(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_lost_answer_leaves_the_outcome_unknown(run: Run, maybe_tls: Certificate | None, name: str) -> None:
    """The request was out; whether it was done is unknown."""
    _, client = run(BROKEN[name], certificate=maybe_tls)
    with pytest.raises(StoreUnavailable) as caught:
        client.put()
    assert caught.value.outcome_unknown


def test_a_lost_answer_is_not_asked_for_again_by_the_transport(run: Run) -> None:
    """Repeating belongs to the one place that signs again."""
    server, client = run(_close)
    with pytest.raises(StoreUnavailable):
        client.put()
    assert len(server.received) == 1


def _silent(peer: Peer) -> None:
    peer.read_request()
    peer.hang()


def test_silence_is_given_up(run: Run, maybe_tls: Certificate | None) -> None:
    """No byte of answer within read_seconds: unknown."""
    _, client = run(_silent, certificate=maybe_tls, read_seconds=0.2)
    with pytest.raises(StoreUnavailable) as caught:
        client.put()
    assert caught.value.outcome_unknown


def test_a_dripping_answer_is_given_up(run: Run, maybe_tls: Certificate | None) -> None:
    """Each byte comes long before read_seconds are over, but they lead nowhere."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Padding: 0123456789\r\n" * 1000, 0.02)

    _, client = run(script, certificate=maybe_tls, read_seconds=60, progress_seconds=0.5)
    with pytest.raises(StoreUnavailable) as caught:
        client.put()
    assert caught.value.outcome_unknown


def test_a_peer_that_stops_reading_is_given_up(run: Run, maybe_tls: Certificate | None) -> None:
    """The kernel's buffers are full and nothing moves for progress_seconds."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.hang_deaf()

    _, client = run(script, certificate=maybe_tls, progress_seconds=0.4)
    with pytest.raises(StoreUnavailable) as caught:
        client.put(BIG)
    assert caught.value.outcome_unknown


def test_a_peer_that_stops_reading_at_the_very_end_is_given_up(run: Run) -> None:
    """All of the body is in the kernel's buffer; that is not progress either."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.hang_deaf()

    _, client = run(script, read_seconds=0.4)
    with pytest.raises(StoreUnavailable):
        client.put(bytes(20_000))


def test_a_slow_reader_that_moves_is_waited_for(run: Run, maybe_tls: Certificate | None) -> None:
    """It takes several windows in all, but bytes move in each: a slow line is not a dead one."""

    def script(peer: Peer) -> None:
        length = int(peer.read_head().get("content-length"))
        for _ in range(32):
            peer.pause(0.06)
            peer.read_exactly(length // 32)
        peer.send(OK)
        peer.hang()

    _, client = run(script, certificate=maybe_tls, progress_seconds=0.9, read_seconds=0.9)
    assert client.put(BIG).status == 200
    assert sum(client.sent) == len(BIG)


def test_a_slow_writer_that_moves_is_waited_for(run: Run) -> None:
    """An answer of many windows, a little in each."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n")
        for _ in range(32):
            peer.pause(0.06)
            peer.send(bytes(2048))
        peer.hang()

    _, client = run(script, progress_seconds=0.9, read_seconds=0.9)
    assert len(client.get().body) == 65536


def _slow_complete(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        peer.send(b"1\r\n \r\n")
        peer.pause(0.05)
    peer.send(b"4\r\n<ok>\r\n0\r\n\r\n")
    peer.hang()


def test_a_slow_answer_may_drip_white_space(run: Run, maybe_tls: Certificate | None) -> None:
    """A request that is known to be slow outlasts both silence and windows."""
    _, client = run(_slow_complete, certificate=maybe_tls, progress_seconds=0.3, read_seconds=0.3)
    assert client.put(slow_answer=True).body == b" " * 20 + b"<ok>"


def test_a_slow_answer_has_an_end_as_well(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """White space without end is given up after the overall deadline: unknown."""
    monkeypatch.setattr(patience, "SLOW_ANSWER_SECONDS", 0.4)

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.drip(b" " * 10_000, 0.01)

    _, client = run(script)
    with pytest.raises(StoreUnavailable) as caught:
        client.put(slow_answer=True)
    assert caught.value.outcome_unknown


def test_a_request_is_not_begun_when_we_are_to_stop(run: Run) -> None:
    """Nothing goes out any more."""
    server, client = run(answers(OK))
    client.stop.set()
    with pytest.raises(Stopped):
        client.put()
    assert server.connections == 0


@pytest.mark.parametrize("body", [b"x", BIG], ids=["waiting for the answer", "sending"])
def test_a_blocked_request_ends_when_we_are_to_stop(
    run: Run, monkeypatch: pytest.MonkeyPatch, maybe_tls: Certificate | None, body: bytes
) -> None:
    """Long before any timeout: a shutdown takes seconds."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.1)

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.server.seen.set()
        peer.hang_deaf()

    server, client = run(script, certificate=maybe_tls)
    threading.Thread(target=lambda: server.seen.wait(30) and client.stop.set()).start()
    with pytest.raises(Stopped):
        client.put(body)


def test_a_blocked_connect_ends_when_we_are_to_stop(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection never comes, the stop does."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.1)
    asked = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) > 1  # the first question comes before anything is done

    with _full_backlog() as port:
        http = HttpSettings(f"http://127.0.0.1:{port}", connect_seconds=30)
        transport = kind(http, should_stop=should_stop, on_sent=lambda size: None)
        with pytest.raises(Stopped):
            transport.send(Request("PUT", f"127.0.0.1:{port}", "/b/k", body=b"x"))


FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!\n"


def _early(peer: Peer) -> None:
    peer.read_head()
    peer.send(FORBIDDEN)
    peer.linger()


def test_an_early_answer_is_seen_before_the_body_is_out(run: Run, maybe_tls: Certificate | None) -> None:
    """The refusal is the answer; the rest of the body is not sent; the connection is not used again."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(FORBIDDEN)
        peer.hang_deaf()  # a client that goes on sending is stuck

    server, client = run(script, answers(OK), certificate=maybe_tls)
    response = client.put(BIG)
    assert (response.status, response.body) == (403, b"no!\n")
    assert sum(client.sent) < len(BIG)
    assert client.put().status == 200
    assert server.connections == 2


def test_an_early_answer_is_seen_when_the_server_ends_the_connection(
    run: Run, maybe_tls: Certificate | None
) -> None:
    """It says no and stops listening."""
    _, client = run(_early, certificate=maybe_tls)
    assert client.put(BIG).status == 403


def test_an_early_interim_answer_does_not_end_the_body(run: Run, maybe_tls: Certificate | None) -> None:
    """100 Continue without having been asked for means what it says."""

    def script(peer: Peer) -> None:
        length = int(peer.read_head().get("content-length"))
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.pause(0.1)
        peer.read_exactly(length)
        peer.send(OK)
        peer.hang()

    _, client = run(script, certificate=maybe_tls)
    assert client.put(BIG).status == 200
    assert sum(client.sent) == len(BIG)


def test_a_body_that_is_cut_off_without_a_word_is_a_lost_connection(
    run: Run, maybe_tls: Certificate | None
) -> None:
    """So that the store is asked what the matter was before all of it is sent again."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    _, client = run(script, certificate=maybe_tls)
    with pytest.raises(ConnectionLost) as caught:
        client.put(BIG)
    assert caught.value.outcome_unknown


def test_a_connection_is_used_again(run: Run, maybe_tls: Certificate | None) -> None:
    """One connection for requests that follow each other, whatever their size."""
    server, client = run(answers(OK), certificate=maybe_tls)
    for size in (1, 200_000, 0, 70_000):
        client.put(bytes(size))
        client.get()
    assert server.connections == 1
    assert [len(received.body) for received in server.received[::2]] == [1, 200_000, 0, 70_000]


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(run: Run) -> None:
    """An idle connection that has ended is noticed before anything is sent on it."""
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.sock.close()
        gone.set()

    server, client = run(script, answers(OK))
    client.put()
    assert gone.wait(30)
    assert client.put().status == 200
    assert server.connections == 2


def test_a_reused_connection_that_breaks_may_be_tried_again_at_once(run: Run) -> None:
    """The server had probably closed it for its age; a fresh connection that breaks is another matter."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        peer.read_request()
        peer.reset()

    _, client = run(script, _reset, answers(OK))
    client.put()
    with pytest.raises(ConnectionLost) as aged:
        client.put()
    with pytest.raises(ConnectionLost) as fresh:
        client.put()
    assert (aged.value.retry_after_seconds, fresh.value.retry_after_seconds) == (0.0, None)


def test_one_broken_connection_takes_the_idle_ones_along(run: Run) -> None:
    """They are as old: each of them would cost another try."""
    together = threading.Barrier(4)

    def script(peer: Peer) -> None:
        peer.read_request()
        together.wait(30)
        peer.send(OK)
        peer.read_request()
        peer.reset()

    server, client = run(script, script, script, script, answers(OK))
    threads = [threading.Thread(target=client.put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(ConnectionLost):
        client.put()
    assert client.put().status == 200
    assert server.connections == 5


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_a_connection_that_is_not_to_be_used_again_is_not(run: Run, answer: bytes) -> None:
    """The server says so."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)
        peer.hang()

    server, client = run(script, answers(OK))
    assert client.put().body == b"ok"
    assert client.put().status == 200
    assert server.connections == 2


def test_words_that_nobody_asked_for_are_no_answer(run: Run) -> None:
    """What follows an answer is never taken for the answer to the next request."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK + b"HTTP/1.1 500 what nobody asked for\r\nContent-Length: 0\r\n\r\n")
        while True:
            peer.read_request()
            peer.send(OK)

    _, client = run(script)
    assert [client.put().status for _ in range(3)] == [200, 200, 200]


def test_two_requests_at_once_never_share_a_connection(run: Run) -> None:
    """Each gets its own answer, and there are no more connections than requests in flight."""

    def script(peer: Peer) -> None:
        while True:
            body = peer.read_request().body
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    server, client = run(script)
    wrong: list[bytes] = []

    def work(name: int) -> None:
        for turn in range(30):
            body = b"%d:%d" % (name, turn)
            if client.put(body).body != body:
                wrong.append(body)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.received) == 180
    assert server.connections <= 6


def test_closing_ends_idle_connections(run: Run) -> None:
    """The server sees the end."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        try:
            peer.read_request()
        except EOFError:
            ended.set()

    _, client = run(script)
    client.put()
    client.transport.close()
    assert ended.wait(30)


def test_a_certificate_that_nobody_vouches_for_stops_the_store(run: Run, certificate: Certificate) -> None:
    """It is a matter of configuration, with a hint, and no body leaves."""
    server, client = run(answers(OK), certificate=certificate, ca_bundle="")
    with pytest.raises(AccessRefused) as caught:
        client.put()
    assert not caught.value.credentials
    assert "ca_bundle" in str(caught.value)
    assert server.received == []


def test_a_certificate_for_another_host_stops_the_store(run: Run, tmp_path: Path) -> None:
    """Trusted, but not for this address."""
    other = make_certificate(tmp_path, "DNS:elsewhere.example")
    server, client = run(answers(OK), certificate=other)
    with pytest.raises(AccessRefused, match="write a host in endpoint that the certificate names") as caught:
        client.put()
    assert not caught.value.credentials
    assert server.received == []


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_bundle_that_is_none_stops_the_store(kind: Kind, tmp_path: Path, content: str | None) -> None:
    """Missing, empty or something else: said with its path."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    client = Client(kind, None, endpoint="https://127.0.0.1:1", ca_bundle=str(bundle))
    with pytest.raises(AccessRefused, match=r"ca\.pem") as caught:
        client.put()
    assert not caught.value.credentials


def test_a_server_without_tls_is_no_tls_server(kind: Kind) -> None:
    """Nothing of the request was sent, so nothing was done."""

    def script(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.hang()

    with HostileServer([script]) as plain:
        client = Client(kind, None, endpoint=plain.endpoint.replace("http:", "https:"))
        with pytest.raises(StoreUnavailable, match="does not speak TLS; write http://") as caught:
            client.put()
    assert not caught.value.outcome_unknown


def _mute(peer: Peer) -> None:
    peer.server.seen.set()
    peer.hang_deaf()


def test_a_handshake_that_never_comes_is_given_up(kind: Kind) -> None:
    """Nothing of the request was sent, so nothing was done."""
    with HostileServer([_mute]) as plain:
        endpoint = plain.endpoint.replace("http:", "https:")
        client = Client(kind, None, endpoint=endpoint, connect_seconds=0.3)
        with pytest.raises(StoreUnavailable) as caught:
            client.put()
    assert not caught.value.outcome_unknown


def test_a_handshake_that_never_comes_ends_when_we_are_to_stop(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before any timeout."""
    monkeypatch.setattr(patience, "GRACE_SECONDS", 0.1)
    with HostileServer([_mute]) as plain:
        client = Client(kind, None, endpoint=plain.endpoint.replace("http:", "https:"))
        threading.Thread(target=lambda: plain.seen.wait(30) and client.stop.set()).start()
        with pytest.raises(Stopped):
            client.put()


def test_the_ca_bundle_of_the_environment_counts_where_it_may(
    run: Run, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE, when the settings trust the environment."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.cert)
    monkeypatch.setenv("NO_PROXY", "*")
    _, client = run(answers(OK), certificate=certificate, ca_bundle="", trust_environment=True)
    assert client.put().status == 200


def _tunnel(port: int) -> Script:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.relay("127.0.0.1", port)

    return script


@contextlib.contextmanager
def _proxied(
    store: HostileServer, proxy_script: Script, **settings: Any
) -> Iterator[tuple[HostileServer, Transport]]:
    """A proxy, and the transport that a store would get."""
    with HostileServer([proxy_script]) as proxy:
        bundle = store.certificate.cert if store.certificate else ""
        http = HttpSettings(
            store.endpoint, proxy=proxy.endpoint, ca_bundle=bundle, **{"read_seconds": 20, **settings}
        )
        transport = open_transport(http)
        try:
            yield proxy, transport
        finally:
            transport.close()


def test_a_plain_store_is_reached_through_its_proxy() -> None:
    """The proxy gets the whole address, and the store's answer is the answer."""
    with HostileServer([answers(OK)]) as store, _proxied(store, answers(OK)) as (proxy, transport):
        response = transport.send(Request("PUT", store.host, "/b/a%20b", body=b"content"))
        assert response.status == 200
        assert proxy.received[0].target == f"{store.endpoint}/b/a%20b"
        assert proxy.received[0].body == b"content"
        assert store.received == []


def test_an_encrypted_store_is_reached_through_a_tunnel(certificate: Certificate) -> None:
    """The proxy sees the host and nothing else; TLS is with the store."""
    with HostileServer([answers(OK)], certificate) as store:
        with _proxied(store, _tunnel(store.port)) as (proxy, transport):
            body = bytes(300_000)
            response = transport.send(
                Request("PUT", store.host, "/b//k", body=body, headers={"Authorization": "secret"})
            )
        assert response.status == 200
        assert [(seen.method, seen.target) for seen in proxy.received] == [("CONNECT", store.host)]
        assert b"secret" not in proxy.received[0].head
        assert (store.received[0].target, store.received[0].body) == ("/b//k", body)


def test_a_proxy_of_the_environment_counts_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and NO_PROXY, when the settings trust the environment."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with HostileServer([answers(OK)]) as store, HostileServer([answers(OK)]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        for bypass, seen in (("", 1), ("127.0.0.1", 1)):
            monkeypatch.setenv("NO_PROXY", bypass)
            http = HttpSettings(store.endpoint, trust_environment=True)
            transport = open_transport(http)
            transport.send(Request("PUT", store.host, "/b/k", body=b"x"))
            transport.close()
            assert len(proxy.received) == seen
        assert len(store.received) == 1


def test_content_goes_over_sockets_and_control_over_requests() -> None:
    """Two connections: one of each transport. A copy is a PUT, but it carries no content."""
    with HostileServer([answers(OK)]) as store:
        transport = open_transport(HttpSettings(store.endpoint))
        put = Request("PUT", store.host, "/b/k", body=b"x")
        copy = Request("PUT", store.host, "/b/k", slow_answer=True)
        get = Request("GET", store.host, "/b/k")
        connections = []
        for request in (put, put, copy, get, put):
            transport.send(request)
            connections.append(store.connections)
        transport.close()
    assert connections == [1, 1, 2, 2, 2]


# ---- what comes in --------------------------------------------------------------------------------------


@every_transport
def test_an_answer_is_counted_as_it_comes(kind: Kind, maybe_tls: Certificate | None) -> None:
    """In pieces, whose reader may wait for longer than a server may be silent; the next one is small then."""
    content = random.Random(1).randbytes(300_000)
    answer = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: %d\r\n\r\n%s' % (len(content), content)
    pieces: list[int] = []

    def received(size: int) -> None:
        pieces.append(size)
        if len(pieces) == 2:
            time.sleep(0.3)

    with HostileServer([answers(answer)], maybe_tls) as server:
        trust = maybe_tls.cert if maybe_tls else ""
        http = HttpSettings(server.endpoint, read_seconds=0.2, progress_seconds=0.2, ca_bundle=trust)
        transport = kind(http, should_stop=lambda: False, on_sent=lambda size: None, on_received=received)
        room = memoryview(bytearray(len(content)))
        request = Request("GET", server.host, "/b/k", headers={"Range": "bytes=0-299999"}, room=room)
        try:
            assert transport.send(request).body == content
        finally:
            transport.close()
    assert sum(pieces) == len(answer)
    assert pieces[2] <= 64 << 10
