"""`Transport` on `requests`, restrained.

By default `requests` would lose data or leak keys: it follows a redirect of a PUT with an empty body and
calls that success; a ``.netrc`` entry replaces our signature; its adapter repeats a body under an old
signature; it normalises paths, which breaks signatures. So we use no sessions: a prepared request goes
straight to our own adapter, which sends it exactly as it was signed, once, over guarded sockets.

The adapter overrides the target, because some releases collapse slashes in it; the certificates, because our
TLS context already holds them; the connections, so that dialling, sending and receiving obey `Deadline`.
`translate` says what each of the library's exceptions means to a store.

An adapter serves one request at a time; the last used is lent out first. No two threads share one, and a
thread that ends leaves nothing behind.
"""

from __future__ import annotations

import socket
import ssl
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from syncd.core.errors import AccessRefused, Stopped, StoreError, StoreUnavailable
from syncd.storage.http import errors
from syncd.storage.http.connect import USER_AGENT, Idle, Line
from syncd.storage.http.guarded_socket import GuardedSocket
from syncd.storage.http.http1 import MAX_HEAD_BYTES, answer_limit, most_bytes, target, wire_headers
from syncd.storage.http.messages import Request, Response


class RequestsTransport:
    """`Transport` on requests."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._idle: Idle[Adapter] = Idle()

    def send(self, request: Request) -> Response:
        """Return the answer, read whole; errors as in `Transport.send`."""
        if self._line.should_stop():
            raise Stopped("stopped before a request")
        prepared = prepare(self._line.scheme, request)
        proxies = self._line.proxies.of(request.host)
        adapter = self._idle.take("") or Adapter(self._line)
        try:
            response = adapter.exchange(prepared, request, proxies)
        except BaseException as error:
            adapter.close()
            if adapter.reused:
                self._idle.drop("")
            told = translate(request.host, error, reused=adapter.reused)
            if told is None:
                raise
            raise told from error
        self._idle.give_back("", adapter)
        return response

    def close(self) -> None:
        """Close idle connections now, and the others as they are returned."""
        self._idle.close()


def prepare(scheme: str, request: Request) -> requests.PreparedRequest:
    """Build it by hand: nothing is normalised, guessed or merged."""
    prepared = requests.PreparedRequest()
    prepared.method = request.method
    prepared.url = f"{scheme}://{request.host}{target(request)}"
    prepared.headers = CaseInsensitiveDict(wire_headers(request, USER_AGENT))
    prepared.body = request.body if len(request.body) else None  # type: ignore[assignment]  # any buffer will do
    return prepared


class Adapter(HTTPAdapter):
    """Serves one request at a time, over sockets that obey one `Deadline`."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._context = line.tls() if "https" in (line.scheme, urlsplit(line.http.proxy).scheme) else None
        self._deadline = line.deadline()
        self._socket: GuardedSocket | None = None
        self.reused = False
        """The connection had carried another request before."""
        self._carried = False
        super().__init__(pool_connections=2, pool_maxsize=1, max_retries=0)

    def exchange(
        self, prepared: requests.PreparedRequest, request: Request, proxies: dict[str, str]
    ) -> Response:
        """Send, and read the whole answer."""
        fetches = request.carries_content and request.method == "GET"
        self._deadline.start(slow_answer=request.slow_answer, fetches=fetches)
        self.reused = self._carried
        self._request = request
        if self._socket is not None:
            self._expect_answer(self._socket)
        seconds = self.line.http.connect_seconds
        answer = self.send(prepared, stream=True, timeout=seconds, verify=True, proxies=proxies)
        try:
            self._carried, self.reused = True, False  # it answered
            if self._socket is not None and self._socket.ended:  # http.client accepts half a head
                raise StoreUnavailable("the headers of the answer are incomplete", outcome_unknown=True)
            self._deadline.has_head()
            body = _read(answer.raw, answer_limit(request))
        finally:
            answer.close()
        if self._socket is None:
            self.line.on_sent(memoryview(request.body).nbytes)  # TLS inside TLS is not guarded
            if self.line.on_received is not None:
                self.line.on_received(len(body))
        elif self._socket.answered_early:
            self.poolmanager.clear()  # this connection still holds half a request
            for manager in self.proxy_manager.values():
                manager.clear()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, headers, body)

    def _expect_answer(self, sock: GuardedSocket) -> None:
        sock.body = self._request.body
        sock.allowance = most_bytes(answer_limit(self._request))
        sock.answered_early = False

    def guard(self, sock: object) -> object:
        """Guard the socket of a new connection; return anything else (TLS inside TLS) as it is."""
        self.reused = False
        self._socket = None
        if not isinstance(sock, socket.socket):
            return sock
        self._socket = self.line.guard(sock, self._deadline)
        self._expect_answer(self._socket)
        return self._socket

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return the target as signed; behind a plain proxy, the whole address."""
        whole = str(super().request_url(request, proxies))
        if not whole.startswith("/"):
            return str(request.url)
        return "/" + str(request.url).split("/", 3)[3]

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Load nothing: our context holds what to trust, and loading it again costs milliseconds."""
        conn.cert_reqs = "CERT_REQUIRED"

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As the base class, with our context and connections."""
        if self._context is not None:
            kwargs["ssl_context"] = self._context
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """As the base class, with our context and connections."""
        if proxy not in self.proxy_manager and self._context is not None:
            kwargs["ssl_context"] = kwargs["proxy_ssl_context"] = self._context
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes()
        return manager

    def _pool_classes(self) -> dict[str, Any]:
        """Return pools whose connections report to this adapter."""

        class Plain(HTTPConnectionPool):
            ConnectionCls = partial(_Connection, self)  # type: ignore[assignment]

        class Encrypted(HTTPSConnectionPool):
            ConnectionCls = partial(_EncryptedConnection, self)  # type: ignore[assignment]

        return {"http": Plain, "https": Encrypted}


class _Connection(HTTPConnection):
    """Dials in slices; guarded from then on."""

    def __init__(self, adapter: Adapter, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._adapter = adapter

    def _new_conn(self) -> socket.socket:
        sock = self._adapter.line.dial(self._dns_host, self.port)
        sock.settimeout(self._adapter.line.http.connect_seconds)  # the TLS wrapper requires it
        return sock

    def connect(self) -> None:
        super().connect()
        self.sock = self._adapter.guard(self.sock)


class _EncryptedConnection(_Connection, HTTPSConnection):
    """The same over TLS."""

    def _tunnel(self) -> None:
        sock: Any = self.sock
        guarded = GuardedSocket(sock, self._adapter.line.deadline(), lambda size: None)
        guarded.allowance = MAX_HEAD_BYTES  # for the proxy's answer
        self.sock = guarded
        try:
            super()._tunnel()
        except (OSError, HTTPException) as error:
            raise _no_tunnel(error) from error
        sock.settimeout(self._adapter.line.http.connect_seconds)  # TLS inside TLS needs a socket that blocks
        self.sock = sock


def _read(raw: Any, limit: int) -> bytes:
    """Return the body. Raises StoreUnavailable if it has more than `limit` bytes."""
    pieces: list[bytes] = []
    size = 0
    while piece := raw.read(1 << 16, decode_content=False):
        size += len(piece)
        if size > limit:
            raise StoreUnavailable(f"the answer is larger than {limit} bytes", outcome_unknown=True)
        pieces.append(piece)
    return b"".join(pieces)


# ---- errors ----------------------------------------------------------------------------------------------

_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationValueError,
)


def _cause(error: BaseException) -> BaseException:
    """Return the error of the operating system or a deadline below those of the library."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and not isinstance(found, requests.exceptions.RequestException):
            return found
        found = found.__context__
    return error


def translate(host: str, error: BaseException, *, reused: bool) -> StoreError | None:
    """Return our error for theirs. None: it passes as it is, a bug or already ours, as is every failure
    before there is a connection. No text shows an address: a proxy's may hold a password.
    """
    foreign = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)
    if not isinstance(error, foreign):
        return None
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):  # of TLS inside TLS
        return errors.untrusted(host, cause)
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return AccessRefused("the proxy's address cannot be used", hint="check proxy", credentials=False)
    if isinstance(error, _BAD_ADDRESS):
        return AccessRefused(
            "the address of the store cannot be used", hint="check endpoint", credentials=False
        )
    return errors.lost(host, cause, reused=reused)


def _no_tunnel(error: BaseException) -> StoreError:
    """Return the error: nothing was sent to the store. The proxy's own text may be anything, so it is not
    shown.
    """
    if "Tunnel connection failed: 407" in str(error):
        return AccessRefused(
            "the proxy requires credentials",
            hint="put the user and the password into `proxy`",
            credentials=False,
        )
    return StoreUnavailable("the proxy refuses the connection to the store", hint="check proxy")
