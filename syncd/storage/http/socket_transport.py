"""`Transport` on plain sockets: HTTP/1.1 for the requests that are sent by the thousand.

The same rules hold as for the transport on requests: no redirects, nothing from the environment by itself, no
retry, exact lengths, a deadline. It leaves out what a general client pays for with each request: cookies,
sessions, hooks, several layers of objects; and proxies, which stay with requests.

A connection that failed takes all idle ones of its host along: they are as old.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from syncd.core.errors import Stopped
from syncd.storage.http import connect, errors
from syncd.storage.http.connect import USER_AGENT, Idle
from syncd.storage.http.deadlines import Deadline
from syncd.storage.http.guarded_socket import EarlyAnswerError, GuardedSocket
from syncd.storage.http.http1 import BadAnswerError, ResponseReader, answer_limit, most_bytes, request_head
from syncd.storage.http.messages import Request, Response
from syncd.storage.settings import HttpSettings

_JOIN_BYTES = 64 << 10
"""A body up to this size goes out in one piece with its head."""

_PIECE = 64 << 10
"""What is read at once: a bandwidth limit is asked after each."""


class SocketTransport:
    """Sends signed requests; for several threads at once.

    Raises StoreUnavailable when the network fails, AccessRefused when the server is not to be trusted,
    StoreRefused for what HTTP cannot carry, Stopped.
    """

    def __init__(
        self,
        http: HttpSettings,
        *,
        should_stop: Callable[[], bool],
        on_sent: Callable[[int], object],
        on_received: Callable[[int], object] | None = None,
    ) -> None:
        self._http = http
        self._scheme = urlsplit(http.endpoint).scheme
        self._should_stop = should_stop
        self._on_sent = on_sent
        self._on_received = on_received
        self._lock = threading.Lock()
        self._idle: Idle[GuardedSocket] = Idle()
        self._context: ssl.SSLContext | None = None

    def send(self, request: Request) -> Response:
        """The answer, read whole."""
        if self._should_stop():
            raise Stopped("stopped before a request")
        head = request_head(request, USER_AGENT)
        size = memoryview(request.body).nbytes
        if 0 < size <= _JOIN_BYTES:
            self._on_sent(size)  # which may wait, and neither the server nor its answer shall wait with us
        connection = self._idle.take(request.host, GuardedSocket.is_stale)
        reused = connection is not None
        if connection is None:
            connection = self._open(request)
        reader = ResponseReader(request.method, answer_limit(request))
        try:
            whole = self._exchange(connection, request, head, reader)
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

    def _exchange(
        self, connection: GuardedSocket, request: Request, head: bytes, reader: ResponseReader
    ) -> bool:
        """Whether the whole request went out; the answer is in `reader` either way."""
        connection.deadline.start(slow_answer=request.slow_answer, fetches=request.method == "GET")
        connection.allowance = most_bytes(request)
        whole = True
        try:
            self._send(connection, request, head)
        except EarlyAnswerError:
            whole = False
        while reader.response is None:
            if (room := reader.room()) is not None:
                reader.filled(connection.recv_into(room[:_PIECE]))
                continue
            data = connection.recv(_PIECE)
            if data:
                reader.feed(data)
            else:
                reader.feed_end()
            if reader.has_head():
                connection.deadline.has_head()
        return whole

    def _send(self, connection: GuardedSocket, request: Request, head: bytes) -> None:
        size = memoryview(request.body).nbytes
        if size > _JOIN_BYTES:
            connection.sendall(head)
            connection.body = request.body
            connection.sendall(request.body)
            connection.body = None
            return
        connection.sendall(head + request.body if size else head)

    # ---- connections -------------------------------------------------------------------------------------

    def _open(self, request: Request) -> GuardedSocket:
        """Nothing is sent yet when this fails."""
        host, port = connect.split_host(request.host, self._scheme)
        deadline = Deadline(self._http, self._should_stop)
        seconds = self._http.connect_seconds
        context = self._tls() if self._scheme == "https" else None
        try:
            sock = connect.connect(host, port, seconds, deadline)
            if context is not None:
                sock = connect.handshake(sock, context, host, seconds, deadline)
        except ssl.SSLCertVerificationError as error:
            raise errors.untrusted(request.host, error) from error
        except OSError as error:
            raise errors.not_connected(request.host, error) from error
        return GuardedSocket(sock, deadline, self._on_sent, self._on_received)

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = connect.tls_context(self._http)
                self._context.set_alpn_protocols(["http/1.1"])
            return self._context
