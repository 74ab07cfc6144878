"""HTTP as bytes: what is a request, what is refused, and what every answer says."""

from __future__ import annotations

import pytest

from syncd.daemon.http import message
from syncd.daemon.http.message import Answer, Refused

HOST = b"Host: localhost"


@pytest.mark.parametrize(
    ("head", "method", "path", "query", "size"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST, "GET", "/", {}, 0),
        (b"GET / HTTP/1.0\r\nhost:localhost\t", "GET", "/", {}, 0),
        (b"HEAD /a?b=c&d HTTP/1.1\r\n" + HOST, "HEAD", "/a", {"b": "c", "d": ""}, 0),
        (b"GET /%C3%A4?path=%2Fa%20b%FF HTTP/1.1\r\n" + HOST, "GET", "/\xe4", {"path": "/a b\udcff"}, 0),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 65536", "POST", "/x", {}, 65536),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 0\r\nX: a\r\nX: b", "GET", "/", {}, 0),
    ],
)
def test_a_request_is_read(head: bytes, method: str, path: str, query: dict[str, str], size: int) -> None:
    """Method, path, query and the size of the body."""
    found = message.parse(head)
    assert (found.method, found.path, found.query, found.body_size) == (method, path, query, size)
    assert found.headers["host"] == "localhost"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET / HTTP/2.0\r\n" + HOST, 400),
        (b"GET / HTTP/1.1 \r\n" + HOST, 400),
        (b"get / HTTP/1.1\r\n" + HOST, 400),
        (b"GET  / HTTP/1.1\r\n" + HOST, 400),
        (b"GET http://localhost/ HTTP/1.1\r\n" + HOST, 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST, 400),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST, 400),
        (b"GET /a b HTTP/1.1\r\n" + HOST, 400),
        (b"GET /\xff HTTP/1.1\r\n" + HOST, 400),
        (b"GET /\x00 HTTP/1.1\r\n" + HOST, 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # TLS
        (b"GET / HTTP/1.1", 400),  # no Host
        (b"GET / HTTP/1.0", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + HOST, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nHost : evil", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n folded", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\nX: y", 400),
        (b"GET / HTTP/1.1\n" + HOST, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\rX: y", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nX: \x00", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nX\x0b: y", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n: y", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 5", 400),
        (b"POST / HTTP/1.1\r\n" + HOST, 411),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 65537", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: +5", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 5, 5", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 0x5", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: " + "\u0665".encode(), 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 5\r\ncontent-length: 6", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 501),
        (b"POST / HTTP/1.1\r\n" + HOST + b"\r\nTransfer-Encoding: chunked", 501),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nTransfer-Encoding: identity", 501),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nAuthorization: a\r\nAuthorization: b", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\nX: y" * 64, 431),
        (b"GET /?" + b"a=b&" * 17 + b" HTTP/1.1\r\n" + HOST, 400),
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(head: bytes, status: int) -> None:
    """So is whatever is no request at all; nothing raises anything else."""
    with pytest.raises(Refused) as caught:
        message.parse(head)
    assert caught.value.status == status


def test_an_answer_is_whole_and_lets_no_stranger_use_it() -> None:
    """Its length, its end, and what browsers are told; to a HEAD the same without the body."""
    answer = Answer(b"body", "text/html", 405, {"Allow": "GET", "Cache-Control": "max-age=60"})
    sent = message.rendered(answer, "Sun, 29 Nov 2026 09:00:00 GMT")
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == b"body"
    assert head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 29 Nov 2026 09:00:00 GMT\r\n")
    lines = head.decode().splitlines()
    assert {"Content-Length: 4", "Content-Type: text/html", "Allow: GET", "Connection: close"} <= set(lines)
    assert {"Cache-Control: max-age=60", "Referrer-Policy: same-origin"} <= set(lines)
    assert "X-Content-Type-Options: nosniff" in lines
    (policy,) = [line for line in lines if line.startswith("Content-Security-Policy: ")]
    assert policy.startswith("Content-Security-Policy: default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert message.rendered(answer, "Sun, 29 Nov 2026 09:00:00 GMT", with_body=False) == head + b"\r\n\r\n"
