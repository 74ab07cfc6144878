"""The lean lane: HTTP/1.1 on plain sockets, for the requests that are sent by the thousand.

The same one method as the transport on requests, and the same rules: no redirects, nothing from the
environment by itself, no retry, exact lengths, patience. What it leaves out is what a general client pays for
with each request: cookies, sessions, hooks, several layers of objects. No proxies either: those stay with
requests.

Connections are kept and lent to one request at a time, the last used first, so that there are never more of
them than requests in flight. One that failed takes all idle ones of its host along: they are as old.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from syncd.core.errors import Stopped
from syncd.storage.http import connect as dial
from syncd.storage.http import errors as failures
from syncd.storage.http.connect import MAX_IDLE_SECONDS, USER_AGENT
from syncd.storage.http.deadlines import Deadline
from syncd.storage.http.guarded_socket import EarlyAnswerError, GuardedSocket
from syncd.storage.http.http1 import BadAnswerError, ResponseReader, answer_limit, most_bytes, request_head
from syncd.storage.http.messages import Request, Response
from syncd.storage.settings import HttpSettings

_JOIN_BYTES = 64 << 10
"""A body up to this size goes out in one piece with its head."""


class SocketTransport:
    """Sends signed requests; for several threads at once.

    Raises StoreUnavailable when the network fails, AccessRefused when the server is not to be trusted,
    StoreRefused for what HTTP cannot carry, Stopped.
    """

    def __init__(
        self, http: HttpSettings, *, should_stop: Callable[[], bool], on_sent: Callable[[int], object]
    ) -> None:
        self._http = http
        self._scheme = urlsplit(http.endpoint).scheme
        self._should_stop = should_stop
        self._on_sent = on_sent
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[float, GuardedSocket]]] = {}
        self._context: ssl.SSLContext | None = None
        self._closed = False

    def send(self, request: Request) -> Response:
        """The answer, read whole."""
        if self._should_stop():
            raise Stopped("stopped before a request")
        head = request_head(request, USER_AGENT)
        connection = self._take(request.host)
        reused = connection is not None
        if connection is None:
            connection = self._open(request)
        reader = ResponseReader(request.method, answer_limit(request))
        try:
            whole = self._exchange(connection, request, head, reader)
        except (OSError, BadAnswerError) as error:
            connection.close()
            if reused:
                self._drop_idle(request.host)
            raise failures.lost(request.host, error, reused=reused and not reader.started()) from error
        except BaseException:
            connection.close()
            raise
        if whole and reader.reusable:
            self._give_back(request.host, connection)
        else:
            connection.close()
        if reader.response is None:
            raise AssertionError("a reader that is done has a response")
        return reader.response

    def close(self) -> None:
        """Closes what is idle now, and the rest as it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for _, connection in connections:
                connection.close()

    # ---- one request -------------------------------------------------------------------------------------

    def _exchange(
        self, connection: GuardedSocket, request: Request, head: bytes, reader: ResponseReader
    ) -> bool:
        """Whether the whole request went out; the answer is in `reader` either way."""
        connection.patience.start(slow_answer=request.slow_answer)
        connection.allowance = most_bytes(request)
        whole = True
        try:
            self._send(connection, request, head)
        except EarlyAnswerError:
            whole = False
        while reader.response is None:
            data = connection.recv(1 << 16)
            if data:
                reader.feed(data)
            else:
                reader.feed_end()
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
        if size:
            self._on_sent(size)

    # ---- connections -------------------------------------------------------------------------------------

    def _take(self, host: str) -> GuardedSocket | None:
        while True:
            with self._lock:
                idle = self._idle.get(host)
                if not idle:
                    return None
                since, connection = idle.pop()
            if time.monotonic() - since < MAX_IDLE_SECONDS and not connection.is_stale():
                return connection
            connection.close()

    def _give_back(self, host: str, connection: GuardedSocket) -> None:
        with self._lock:
            if not self._closed:
                self._idle.setdefault(host, []).append((time.monotonic(), connection))
                return
        connection.close()

    def _drop_idle(self, host: str) -> None:
        with self._lock:
            dropped = self._idle.pop(host, [])
        for _, connection in dropped:
            connection.close()

    def _open(self, request: Request) -> GuardedSocket:
        """Nothing is sent yet when this fails."""
        host, port = dial.split_host(request.host, self._scheme)
        patience = Deadline(self._http, self._should_stop)
        seconds = self._http.connect_seconds
        context = self._tls() if self._scheme == "https" else None
        try:
            sock = dial.connect(host, port, seconds, patience)
            if context is not None:
                sock = dial.handshake(sock, context, host, seconds, patience)
        except ssl.SSLCertVerificationError as error:
            raise failures.untrusted(request.host, error) from error
        except OSError as error:
            raise failures.not_connected(request.host, error) from error
        return GuardedSocket(sock, patience, self._on_sent)

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = dial.tls_context(self._http)
                self._context.set_alpn_protocols(["http/1.1"])
            return self._context
