"""`Transport` on plain sockets: HTTP/1.1 for requests that go by the thousand.

The rules are those of the transport on requests: no redirects, nothing from the environment by itself, no
retry, exact lengths, a deadline. It omits what costs a general client time with each request: cookies,
sessions, hooks, several layers of objects; and proxies, which stay with requests.

A failed connection also closes all idle ones of its host: they are as old.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from syncd.core.errors import Stopped
from syncd.storage.base import Body
from syncd.storage.http import errors
from syncd.storage.http.connect import USER_AGENT, Idle, Line
from syncd.storage.http.guarded_socket import EarlyAnswerError, GuardedSocket
from syncd.storage.http.http1 import BadAnswerError, ResponseReader, answer_limit, most_bytes, request_head
from syncd.storage.http.messages import Request, Response

_JOIN_BYTES = 64 << 10
"""A body of up to this size goes out together with its head."""

_PIECE = 64 << 10
"""Bytes of a small answer to read at once."""


class SocketTransport:
    """Sends signed requests; for several threads at once.

    Raises StoreUnavailable if the network fails, AccessRefused if the server is not trusted, StoreRefused for
    what HTTP cannot carry, Stopped.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._idle: Idle[GuardedSocket] = Idle()

    def send(self, request: Request) -> Response:
        """The answer, read whole."""
        if self._line.should_stop():
            raise Stopped("stopped before a request")
        head, body = request_head(request, USER_AGENT), request.body
        size = memoryview(body).nbytes
        if 0 < size <= _JOIN_BYTES:
            head, body = head + body, b""
            self._line.on_sent(size)  # may wait, so it comes before connection and deadline
        connection = self._idle.take(request.host, GuardedSocket.has_input)
        reused = connection is not None
        if connection is None:
            connection = self._open(request.host)
        limit = answer_limit(request)
        connection.allowance = most_bytes(limit)
        connection.deadline.start(slow_answer=request.slow_answer, fetches=request.method == "GET")
        reader = ResponseReader(request.method, limit, request.room)
        try:
            whole = self._exchange(connection, head, body, reader)
        except (OSError, BadAnswerError) as error:
            connection.close()
            if reused:
                self._idle.drop(request.host)
            raise errors.lost(request.host, error, reused=reused and not reader.started) from error
        except BaseException:
            connection.close()
            raise
        if whole and reader.reusable:
            self._idle.give_back(request.host, connection)
        else:
            connection.close()
        if reader.response is None:
            raise AssertionError("a reader that is done has a response")
        return reader.response

    def close(self) -> None:
        """Close idle connections now, and the others as they are returned."""
        self._idle.close()

    # ---- one request -------------------------------------------------------------------------------------

    def _exchange(self, connection: GuardedSocket, head: bytes, body: Body, reader: ResponseReader) -> bool:
        """Return whether the whole request went out; `reader` has the answer either way."""
        whole = True
        try:
            connection.sendall(head)
            if body:
                connection.body = body
                connection.sendall(body)
                connection.body = None
        except EarlyAnswerError:
            whole = False
        while reader.response is None:
            if reader.status:
                connection.deadline.has_head()
                if (room := reader.room()) is not None:
                    reader.filled(connection.recv_into(room))
                    continue
            data = connection.recv(_PIECE)
            if data:
                reader.feed(data)
            else:
                reader.feed_end()
        return whole

    # ---- connections -------------------------------------------------------------------------------------

    def _open(self, host: str) -> GuardedSocket:
        """Return a new connection; if this fails, nothing was sent."""
        encrypts = self._line.scheme == "https"
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        context = self._line.tls() if encrypts else None
        sock = self._line.dial(name, parts.port or (443 if encrypts else 80))
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
            sock.do_handshake()
        return self._line.guard(sock, self._line.deadline())
