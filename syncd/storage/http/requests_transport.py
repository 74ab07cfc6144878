"""`Transport` on `requests`, tamed.

What `requests` does by itself would lose data or leak keys: it follows a redirect of a PUT with an empty body
and calls that success; a ``.netrc`` entry replaces our signature; its adapter repeats a body under an old
signature; it normalises paths, which breaks signatures. So sessions are left out: a prepared request goes
straight to an adapter of our own, which sends it exactly as it was signed, once, over guarded sockets.

What the adapter overrides, and why: the target, because some releases collapse slashes in it; the
certificates, because our TLS context holds them already; the connections, so that dialling, sending and
receiving all keep to `Deadline`. `translate` says what each of the library's exceptions means to a store.

An adapter serves one request at a time and is lent out, the last used first: no two threads ever share one,
and a thread that ends leaves nothing behind.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from syncd.core.errors import AccessRefused, Stopped, StoreError, StoreUnavailable
from syncd.storage.http import connect, errors
from syncd.storage.http.connect import USER_AGENT, Idle, Proxies
from syncd.storage.http.deadlines import Deadline, Stalled
from syncd.storage.http.guarded_socket import GuardedSocket
from syncd.storage.http.http1 import MAX_HEAD_BYTES, answer_limit, most_bytes, target, wire_headers
from syncd.storage.http.messages import Request, Response
from syncd.storage.settings import HttpSettings


class RequestsTransport:
    """`Transport` on requests."""

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
        self._idle: Idle[Adapter] = Idle()
        self._context: ssl.SSLContext | None = None
        self._proxies = Proxies(http)

    def send(self, request: Request) -> Response:
        """The answer, read whole; errors as in `Transport.send`."""
        if self._should_stop():
            raise Stopped("stopped before a request")
        prepared = prepare(self._scheme, request)
        proxies = self._proxies.of(request.host)
        adapter = self._idle.take("")
        if adapter is None:
            adapter = Adapter(self._http, self._tls(), self._should_stop, self._on_sent, self._on_received)
        try:
            response = adapter.exchange(prepared, request, proxies)
        except BaseException as error:
            adapter.close()
            if adapter.reused:
                self._idle.drop("")
            told = translate(request.host, error, connected=adapter.connected, reused=adapter.reused)
            if told is None:
                raise
            raise told from error
        self._idle.give_back("", adapter)
        return response

    def close(self) -> None:
        """Close idle connections now, and the others as they are returned."""
        self._idle.close()

    def _tls(self) -> ssl.SSLContext | None:
        with self._lock:
            if self._context is None and (self._scheme == "https" or self._http.proxy.startswith("https")):
                self._context = connect.tls_context(self._http)
                connect.shake_hands_in_slices(self._context, self._http, self._should_stop)
            return self._context


def prepare(scheme: str, request: Request) -> requests.PreparedRequest:
    """Built by hand: nothing is normalised, guessed or merged."""
    prepared = requests.PreparedRequest()
    prepared.method = request.method
    prepared.url = f"{scheme}://{request.host}{target(request)}"
    prepared.headers = CaseInsensitiveDict(wire_headers(request, USER_AGENT))
    prepared.body = request.body if len(request.body) else None  # type: ignore[assignment]  # any buffer will do
    return prepared


class Adapter(HTTPAdapter):
    """One adapter, one request at a time, sockets that keep to one `Deadline`."""

    def __init__(
        self,
        http: HttpSettings,
        context: ssl.SSLContext | None,
        should_stop: Callable[[], bool],
        on_sent: Callable[[int], object],
        on_received: Callable[[int], object] | None,
    ) -> None:
        self._http = http
        self._context = context
        self._on_sent = on_sent
        self._on_received = on_received
        self._should_stop = should_stop
        self.deadline = Deadline(http, should_stop)
        self.socket: GuardedSocket | None = None
        self.reused = False
        """The connection had carried another request before."""
        self.connected = False
        """Something of the request may have been sent."""
        self._carried = False
        super().__init__(pool_connections=2, pool_maxsize=1, max_retries=0)

    def exchange(
        self, prepared: requests.PreparedRequest, request: Request, proxies: dict[str, str]
    ) -> Response:
        """Send, and read the answer whole."""
        fetches = request.carries_content and request.method == "GET"
        self.deadline.start(slow_answer=request.slow_answer, fetches=fetches)
        before = self.socket
        self.reused = self.connected = self._carried
        self._body = request.body
        self._allowance = most_bytes(request)
        if before is not None:
            before.body = request.body
            before.allowance = self._allowance
            before.answered_early = False
        answer = self.send(
            prepared, stream=True, timeout=self._http.connect_seconds, verify=True, proxies=proxies
        )
        try:
            self._carried, self.reused = True, False  # it answered
            if self.socket is not None and self.socket.ended:  # http.client takes half a head for a whole one
                raise StoreUnavailable("the head of the answer was cut short", outcome_unknown=True)
            self.deadline.has_head()
            body = _read(answer.raw, answer_limit(request))
        finally:
            answer.close()
        if self.socket is None:
            self._on_sent(memoryview(request.body).nbytes)  # TLS inside TLS is not guarded
            if self._on_received is not None:
                self._on_received(len(body))
        elif self.socket.answered_early:
            self.poolmanager.clear()  # half a request is still in this connection
            for manager in self.proxy_manager.values():
                manager.clear()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, headers, body)

    def guard(self, sock: object) -> object:
        """The socket of a new connection, guarded; anything else (TLS inside TLS) as it is."""
        self.connected = True
        if not isinstance(sock, socket.socket):
            self.socket = None
            return sock
        self.socket = GuardedSocket(sock, self.deadline, self._on_sent, self._on_received)
        self.socket.body = self._body
        self.socket.allowance = self._allowance
        return self.socket

    def guard_tunnel(self, sock: socket.socket) -> GuardedSocket:
        """The socket to a proxy, guarded until the proxy has said its word."""
        guarded = GuardedSocket(sock, Deadline(self._http, self._should_stop), lambda size: None)
        guarded.allowance = MAX_HEAD_BYTES
        return guarded

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """The target as it was signed; behind a plain proxy the whole address."""
        whole = str(super().request_url(request, proxies))
        if not whole.startswith("/"):
            return str(request.url)
        return "/" + str(request.url).split("/", 3)[3]

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Our context holds what to trust; loading it again for each connection would cost milliseconds."""
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
        """Pools whose connections report to this adapter."""

        class Plain(HTTPConnectionPool):
            ConnectionCls = partial(_PlainConnection, self)  # type: ignore[assignment]

        class Encrypted(HTTPSConnectionPool):
            ConnectionCls = partial(_EncryptedConnection, self)  # type: ignore[assignment]

        return {"http": Plain, "https": Encrypted}


def _dial(connection: HTTPConnection, adapter: Adapter, seconds: float) -> socket.socket:
    """A connected socket, or one of urllib3's reasons why not."""
    adapter.connected = adapter.reused = False
    try:
        sock = connect.connect(connection._dns_host, connection.port, seconds, adapter.deadline)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, error.strerror or "no connection in time") from error
    except OSError as error:
        raise NewConnectionError(connection, f"no connection: {error.strerror or error}") from error
    sock.settimeout(seconds)  # what wraps it in TLS insists
    return sock


class _PlainConnection(HTTPConnection):
    """Dials in slices, and is guarded from then on."""

    def __init__(self, adapter: Adapter, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._adapter = adapter

    def _new_conn(self) -> socket.socket:
        return _dial(self, self._adapter, self._adapter._http.connect_seconds)

    def connect(self) -> None:
        super().connect()
        self.sock = self._adapter.guard(self.sock)


class _EncryptedConnection(HTTPSConnection):
    """The same over TLS."""

    def __init__(self, adapter: Adapter, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._adapter = adapter

    def _new_conn(self) -> socket.socket:
        return _dial(self, self._adapter, self._adapter._http.connect_seconds)

    def _tunnel(self) -> None:
        sock: Any = self.sock
        self.sock = self._adapter.guard_tunnel(sock)
        super()._tunnel()
        sock.settimeout(self._adapter._http.connect_seconds)  # TLS inside TLS needs a socket that blocks
        self.sock = sock

    def connect(self) -> None:
        super().connect()
        self.sock = self._adapter.guard(self.sock)


def _read(raw: Any, limit: int) -> bytes:
    """The body, at most `limit` bytes of it. Raises StoreUnavailable when there is more."""
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


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything that it wraps, in whichever of three ways."""
    seen: set[int] = set()
    queue = [error] if error is not None else []
    while queue:
        found = queue.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        wrapped = [found.__cause__, getattr(found, "reason", None), *found.args]
        queue += [cause for cause in wrapped if isinstance(cause, BaseException)]


def _root(causes: list[BaseException]) -> BaseException:
    """The operating system's own words, if there are any."""
    words = [
        cause
        for cause in causes
        if isinstance(cause, OSError) and not isinstance(cause, requests.exceptions.RequestException)
    ]
    return words[0] if words else causes[-1]


def _first(causes: list[BaseException], *kinds: type[BaseException]) -> BaseException | None:
    return next((cause for cause in causes if isinstance(cause, kinds)), None)


def translate(host: str, error: BaseException, *, connected: bool, reused: bool) -> StoreError | None:
    """Ours for theirs; None for what passes as it is (ours already, or a bug).

    Before there was a connection nothing was sent, and the outcome is certain.
    """
    foreign = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)
    if not isinstance(error, foreign):
        return None
    causes = list(_causes(error))
    distrust = _first(causes, ssl.SSLCertVerificationError)
    if distrust is not None:
        return errors.untrusted(host, distrust)
    if isinstance(error, (requests.exceptions.InvalidProxyURL, requests.exceptions.ProxyError)):
        return _proxy_trouble(error, causes)
    if isinstance(error, _BAD_ADDRESS):
        return AccessRefused(
            "the address of the store cannot be used", hint="check endpoint", credentials=False
        )
    if not connected:
        return errors.not_connected(host, _root(causes))
    stalled = _first(causes, Stalled)
    if stalled is not None:
        return errors.lost(host, stalled, reused=False)
    if isinstance(error, requests.exceptions.ReadTimeout):
        return StoreUnavailable(f"gave up on {host}: no answer in time", outcome_unknown=True)
    return errors.lost(host, _root(causes), reused=reused)


def _proxy_trouble(error: BaseException, causes: list[BaseException]) -> StoreError:
    """The proxy's address may hold a password, so nothing of the original text is shown."""
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return AccessRefused("the proxy's address cannot be used", hint="check proxy", credentials=False)
    for cause in causes:
        if isinstance(cause, OSError) and "Tunnel connection failed: 407" in str(cause):
            return AccessRefused(
                "the proxy wants credentials", hint="put user and password into proxy", credentials=False
            )
    return StoreUnavailable("the proxy does not let us through", hint="check proxy")
