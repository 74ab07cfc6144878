"""A proxy that understands HTTP/1.1 well enough to do something to one request in so many.

It stands between a client and one server, passes everything on as it came, and lets what `choose` says happen
to a request: `KINDS` names all of it. What happened, and every body that went through, is in its `Ledger`.

It never delivers a request whose client is gone: a request of a dead process does not overtake those of its
successor.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable

from tests.support.fault_ledger import Ledger, Passage
from tests.support.http_pieces import Answer, Head, read_answer, read_head

KINDS = {
    "reset before": "the connection is reset once the head is read; nothing reaches the server",
    "reset in body": "the connection is reset in the middle of the request's body",
    "reset in answer": "the server does it; the connection is reset in the middle of the answer",
    "lost answer": "the server does it; the connection is closed without an answer",
    "stalled request": "nothing of the request is read for so long that the client gives up",
    "stalled answer": "the server does it; its answer is withheld for so long that the client gives up",
    "drip": "the server does it; the answer comes byte by byte for a while, and then whole",
    "500": "answered in place of the server",
    "502": "answered in place of the server, by a page of HTML",
    "503": "answered in place of the server, with Retry-After",
    "429": "answered in place of the server, with Retry-After",
    "early 503": "answered before the body is read, and the connection is closed",
    "html": "answered in place of the server: 200 and a page of HTML",
    "403 page": "answered in place of the server, by a page of HTML",
    "404 page": "answered in place of the server, by a page of HTML",
    "redirect": "answered in place of the server: 302 to a page where people log in",
    "cut": "the server does it; half of the answer's body comes, and its length agrees",
    "noise": "the server does it; the answer's body is random bytes",
    "empty": "the server does it; the answer is 200 without headers and body",
    "short": "the server does it; the answer ends before the length that it tells",
    "refused": "no server listens for a while, and every connection is cut",
}
"""What may happen to a request, by name."""

HTML = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in.<br></body></html>"
_REPLACED = {
    "500": (b"500 Internal Server Error", b"", b""),
    "502": (b"502 Bad Gateway", b"Content-Type: text/html\r\n", HTML),
    "503": (b"503 Slow Down", b"Retry-After: 1\r\n", b""),
    "429": (b"429 Too Many Requests", b"Retry-After: 1\r\n", b""),
    "early 503": (b"503 Slow Down", b"Connection: close\r\n", b""),
    "html": (b"200 OK", b"Content-Type: text/html\r\n", HTML),
    "403 page": (b"403 Forbidden", b"Content-Type: text/html\r\n", HTML),
    "404 page": (b"404 Not Found", b"Content-Type: text/html\r\n", HTML),
    "redirect": (b"302 Found", b"Location: http://127.0.0.1:1/login\r\n", b""),
}
_PIECE = 1 << 16
_SLICE_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0


class _Gone(Exception):
    """One of the two ends has gone, or the proxy is to end: this connection is over."""


class FaultProxy:
    """Listens on a port of its own on the loopback while it is entered; a thread for each connection.

    `choose` is called with the number of each request, from 1 in the order of their coming, and its head, and
    returns one of `KINDS`, or None: it passes. `stall_seconds` is longer than the client waits. All clients
    together send `bytes_per_second`; 0: as they like. An answer that drips does so for 20 bytes, one each
    `drip_seconds`.
    """

    def __init__(
        self,
        target: tuple[str, int],
        choose: Callable[[int, Head], str | None] = lambda number, head: None,
        *,
        seed: int = 0,
        stall_seconds: float = 2.0,
        drip_seconds: float = 0.01,
        down_seconds: float = 0.5,
        bytes_per_second: float = 0.0,
    ) -> None:
        self.ledger = Ledger()
        self._target = target
        self._choose = choose
        self._seed = seed
        self._stall_seconds = stall_seconds
        self.drip_seconds = drip_seconds
        self._down_seconds = down_seconds
        self._carried_until = 0.0
        self._bytes_per_second = bytes_per_second
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self.bytes_sent = 0
        """Heads and bodies of clients, as far as the proxy has read them to pass them on."""
        self._lock = threading.Lock()
        self._age = 0  # connections of an earlier age are to end
        self._frozen_at: int | None = None
        self._stalled = threading.Event()
        self._down = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FaultProxy:
        self._acceptor = threading.Thread(target=self._accept, name="fault-proxy")
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    # ---- connections ------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._stopping.is_set():
            if self._down.is_set():
                self._listener.close()
                self._stopping.wait(self._down_seconds)
                self._down.clear()
                self._listener = self._listen(self.port)
            try:
                client, _ = self._listener.accept()
            except OSError:  # no client came, or we went down
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(client, self._age), name="fault-proxied")
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        listener.settimeout(_SLICE_SECONDS)
        if self._bytes_per_second:  # or megabytes of clients that are gone would still be on the line
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        return listener

    def _serve(self, client: socket.socket, age: int) -> None:
        with client, contextlib.suppress(OSError, _Gone), contextlib.ExitStack() as opened:
            client.settimeout(_SLICE_SECONDS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client, age)
            opened.callback(connection.close)
            while connection.serve_one():
                pass

    def fate(self, head: Head) -> tuple[Passage, random.Random]:
        """What is to happen to the request that just came, and the chance that belongs to it."""
        with self._lock:
            number = self.ledger.next_number()
            kind = self._choose(number, head)
            if kind is not None and kind not in KINDS:
                raise ValueError(f"no such fault: {kind}")
            return self.ledger.begin(number, head, kind), random.Random(self._seed * 1_000_003 + number)

    def go_down(self) -> None:
        """Stop listening for a while, and end every connection."""
        with self._lock:
            self._age += 1
            self._down.set()
            with contextlib.suppress(OSError):  # it is down already
                self._listener.shutdown(socket.SHUT_RDWR)

    def freeze_after(self, size: int) -> None:
        """Once clients have sent `size` more bytes, nothing of theirs passes any more, until `thaw`."""
        with self._lock:
            self._frozen_at = self.bytes_sent + size
            self._stalled.clear()

    def thaw(self) -> None:
        """Cut every connection that there is, and let new ones pass."""
        with self._lock:
            self._age += 1
            self._frozen_at = None

    def wait_stalled(self, seconds: float) -> bool:
        """Wait until something is held back; False when nothing was in time."""
        return self._stalled.wait(seconds)

    def stalls(self) -> None:
        """A connection holds something back."""
        self._stalled.set()

    def passes(self, size: int) -> bool:
        """Count bytes of a client that are about to go on, once the line is free; whether they may."""
        with self._lock:
            self.bytes_sent += size
            if self._bytes_per_second:
                now = time.monotonic()
                self._carried_until = max(now, self._carried_until) + size / self._bytes_per_second
                time.sleep(self._carried_until - now)
            return self._frozen_at is None or self.bytes_sent < self._frozen_at

    def check(self, age: int) -> None:
        """Raise `_Gone` when a connection of that age is to end."""
        if self._stopping.is_set() or age != self._age:
            raise _Gone

    def connect(self) -> socket.socket:
        """A new connection to the server."""
        server = socket.create_connection(self._target, timeout=_PATIENCE_SECONDS)
        server.settimeout(_SLICE_SECONDS)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    @property
    def stall_seconds(self) -> float:
        return self._stall_seconds


class _Connection:
    """One client, and the connection to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, age: int) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._age = age
        self._from_client = _Reader(client, lambda: proxy.check(age))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def serve_one(self) -> bool:
        """One request and its answer; whether another one may follow."""
        head = read_head(self._from_client)
        if head is None:
            return False
        passage, chance = self._proxy.fate(head)
        try:
            return self._pass(head, passage, chance)
        except (OSError, _Gone):
            passage.broke()
            raise
        finally:
            self._proxy.ledger.end(passage)

    def _pass(self, head: Head, passage: Passage, chance: random.Random) -> bool:
        kind = passage.kind
        if kind == "refused":
            self._proxy.go_down()
            return False
        if kind == "reset before":
            return _reset(self._client)
        if kind == "stalled request":
            return self._stall()
        if kind in _REPLACED:
            return self._replace(head, kind)
        limit = chance.randrange(head.length) if kind == "reset in body" and head.length else None
        self._forward(head, passage, limit)
        if kind == "reset in body":
            return _reset(self._client)
        answer = self._answer(head)
        passage.answered(answer.status)
        return self._deliver(answer, passage, chance)

    # ---- towards the server -----------------------------------------------------------------------------

    def _forward(self, head: Head, passage: Passage, limit: int | None) -> None:
        """Pass the request on; up to `limit` bytes of its body, and then no more of it."""
        if self._server is None:
            self._server = self._proxy.connect()
        self._send_on(head.raw)
        if head.headers.get("expect", "").lower() == "100-continue":  # the server's own word is skipped later
            self._send(self._client, b"HTTP/1.1 100 Continue\r\n\r\n")
        left = head.length if limit is None else limit
        while left:
            piece = self._from_client.some(min(left, _PIECE))
            if not piece:
                raise _Gone
            self._send_on(piece)
            passage.forwarded(piece)
            left -= len(piece)
        if limit is not None:
            _reset(self._server)
            self._server = None

    def _send_on(self, data: bytes) -> None:
        assert self._server is not None
        if not self._proxy.passes(len(data)):
            self._stall()
            raise _Gone
        self._send(self._server, data)

    def _answer(self, head: Head) -> Answer:
        assert self._server is not None
        reader = _Reader(self._server, lambda: self._proxy.check(self._age))
        answer = read_answer(reader, head.method)
        if answer is None:
            raise _Gone
        if answer.closes:
            self._server.close()
            self._server = None
        return answer

    def _send(self, sock: socket.socket, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._proxy.check(self._age)
            with contextlib.suppress(TimeoutError):
                view = view[sock.send(view) :]

    # ---- towards the client -----------------------------------------------------------------------------

    def _deliver(self, answer: Answer, passage: Passage, chance: random.Random) -> bool:
        """Give the answer to the client, or what becomes of it; whether the connection goes on."""
        kind, raw = passage.kind, answer.raw
        if kind == "lost answer":
            return False
        if kind == "stalled answer":
            return self._stall()
        if kind == "reset in answer":
            self._send(self._client, raw[: chance.randrange(1, len(raw))])
            return _reset(self._client)
        if kind == "drip":
            return self._drip(raw, passage)
        if kind == "short":
            self._send(self._client, answer.framed(answer.body, longer=100))
            return False
        if kind == "empty":
            self._send(self._client, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return True
        if kind == "cut":
            self._send(self._client, answer.framed(answer.body[: len(answer.body) // 2]))
        elif kind == "noise":
            self._send(self._client, answer.framed(chance.randbytes(max(1, len(answer.body)))))
        else:
            self._send(self._client, raw)
        if kind is None or (kind == "cut" and not answer.body):
            passage.delivered()
        return not answer.closes

    def _replace(self, head: Head, kind: str) -> bool:
        """Answer in place of the server, which hears nothing of it."""
        if kind != "early 503":
            self._skip(head.length)
        status, headers, body = _REPLACED[kind]
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        body = b"" if head.method == "HEAD" else body
        self._send(self._client, b"HTTP/1.1 " + status + b"\r\n" + headers + length + body)
        if kind != "early 503":
            return True
        with contextlib.suppress(OSError):  # so that the client reads our word before it feels the end
            self._client.shutdown(socket.SHUT_WR)
        self._skip(head.length)
        return False

    def _skip(self, left: int) -> None:
        while left and (piece := self._from_client.some(min(left, _PIECE))):
            left -= len(piece)

    def _drip(self, raw: bytes, passage: Passage) -> bool:
        for value in raw[:20]:
            self._send(self._client, bytes((value,)))
            time.sleep(self._proxy.drip_seconds)
        self._send(self._client, raw[20:])
        passage.delivered()
        return True

    def _stall(self) -> bool:
        """Longer than the client waits; over as soon as it has gone or the proxy ends."""
        self._proxy.stalls()
        deadline = time.monotonic() + self._proxy.stall_seconds
        while time.monotonic() < deadline and not self._from_client.is_over():
            self._proxy.check(self._age)
            time.sleep(0.02)
        return False


class _Reader:
    """Reads from a socket in slices, so that it can be ended in between."""

    def __init__(self, sock: socket.socket, check: Callable[[], None]) -> None:
        self._sock = sock
        self._check = check
        self._buffer = b""

    def some(self, most: int) -> bytes:
        """At most so many bytes; none at the end."""
        if self._buffer:
            data, self._buffer = self._buffer[:most], self._buffer[most:]
            return data
        while True:
            self._check()
            with contextlib.suppress(TimeoutError):
                return self._sock.recv(most)

    def put_back(self, data: bytes) -> None:
        """Has been read too early."""
        self._buffer = data + self._buffer

    def is_over(self) -> bool:
        """Whether the other side has gone. Looks without reading anything away."""
        try:
            return not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except (BlockingIOError, TimeoutError):  # Python waits for the socket's own timeout, too
            return False
        except OSError:
            return True


def _reset(sock: socket.socket) -> bool:
    """End a connection with RST; False, as nothing follows on it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return False
