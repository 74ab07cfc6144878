"""Connections: names, addresses, TLS. Nothing blocks for longer than a slice of `Deadline`."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import syncd
from syncd.core.errors import AccessRefused
from syncd.storage.http import errors
from syncd.storage.http.credentials import hidden
from syncd.storage.http.deadlines import Deadline
from syncd.storage.http.guarded_socket import GuardedSocket
from syncd.storage.settings import HttpSettings

USER_AGENT = f"syncd/{syncd.__version__}"
_QUEUED_BYTES = 256 << 10
"""The most of a body that the kernel holds unsent."""
MAX_IDLE_SECONDS = 45.0
"""Servers close idle connections after a minute or so, and routers forget them without notice."""


def connect(host: str, port: int, seconds: float, deadline: Deadline) -> socket.socket:
    """Return a connected, non-blocking socket.

    Raises OSError (also TimeoutError, socket.gaierror), Stopped.
    """
    addresses = _addresses(host, port, seconds, deadline)
    share = max(seconds / len(addresses), min(seconds, 5.0))
    failure: OSError = OSError(errno.EHOSTUNREACH, "no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            _connect_one(sock, address, share, deadline)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


class _Question:
    """A query of the resolver, in a thread: the C library's cannot be interrupted."""

    def __init__(self, host: str, port: int) -> None:
        self.is_over = threading.Event()
        self._host, self._port = host, port
        self._addresses: list[Any] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._ask, name="resolver", daemon=True).start()

    def _ask(self) -> None:
        try:
            self._addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            self._error = socket.gaierror(socket.EAI_NONAME, f"not a host name: {error}")
        except BaseException as error:  # noqa: BLE001  raised where the addresses are wanted
            self._error = error
        with _lock:
            _questions.pop((self._host, self._port), None)
        self.is_over.set()

    def answer(self) -> list[Any]:
        """Return the addresses. Raises OSError."""
        if self._error is not None:
            raise self._error
        return self._addresses


_questions: dict[tuple[str, int], _Question] = {}
"""Queries under way: a name is not looked up twice at once."""
_lock = threading.Lock()


def _addresses(host: str, port: int, seconds: float, deadline: Deadline) -> list[Any]:
    with suppress(socket.gaierror, UnicodeError):  # a name, not an address
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    with _lock:
        question = _questions.get((host, port))
        if question is None:
            question = _questions[host, port] = _Question(host, port)
    until = time.monotonic() + seconds
    while not question.is_over.wait(deadline.slice_seconds):
        deadline.ask()
        if time.monotonic() >= until:
            raise TimeoutError(errno.ETIMEDOUT, "no name server answers")
    return question.answer()


def _connect_one(sock: socket.socket, address: object, seconds: float, deadline: Deadline) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # finds a dead peer while an answer is slow
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)
    # What the kernel has not yet sent is lost at a stop, and hides the speed of the line.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _QUEUED_BYTES)
    sock.setblocking(False)
    status = sock.connect_ex(address)  # type: ignore[arg-type]  # what getaddrinfo gave
    if status == errno.EINPROGRESS:
        _wait_until(sock, select.POLLOUT, time.monotonic() + seconds, deadline)
        status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if status:
        raise OSError(status, os.strerror(status))


def _wait_until(sock: socket.socket, events: int, until: float, deadline: Deadline) -> None:
    poll = select.poll()
    poll.register(sock, events)
    while not deadline.wait(poll, sock.fileno()):
        deadline.ask()
        if time.monotonic() >= until:
            raise TimeoutError("no connection in time")


def _shake_hands(sock: ssl.SSLSocket, step: Callable[[], None], seconds: float, deadline: Deadline) -> None:
    """Shake hands, or close the socket. Raises OSError (also ssl.SSLError, TimeoutError), Stopped."""
    sock.setblocking(False)
    until = time.monotonic() + seconds
    try:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                _wait_until(sock, select.POLLIN, until, deadline)
            except ssl.SSLWantWriteError:
                _wait_until(sock, select.POLLOUT, until, deadline)
            else:
                return
    except BaseException:
        sock.close()
        raise


def _tls_context(http: HttpSettings, silence: Callable[[str], str]) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or newer, with the bundle of the settings, else of the environment if
    allowed, else of requests.

    Raises AccessRefused if the bundle is missing or empty.
    """
    bundle = http.ca_bundle
    if not bundle and http.trust_environment:
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""
    if not bundle:
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        bundle = DEFAULT_CA_BUNDLE_PATH
    if why := silence(os.path.abspath(bundle)):
        raise AccessRefused(
            f"the CA bundle {why}", hint="or set ca_bundle to another file", credentials=False
        )
    try:
        is_folder = os.path.isdir(bundle)
        context = ssl.create_default_context(
            cafile=None if is_folder else bundle, capath=bundle if is_folder else None
        )
    except OSError as error:  # ssl.SSLError too
        raise AccessRefused(
            f"the CA bundle {bundle} cannot be used: {error.strerror or error}",
            hint="set ca_bundle to a file of certificates in PEM form",
            credentials=False,
        ) from error
    # Debian's Python takes the oldest version from OpenSSL's configuration, which may allow more.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context


class Proxies:
    """Chooses the proxy of a request, from the settings or, if they say so, from the environment."""

    def __init__(self, http: HttpSettings) -> None:
        self._http = http
        self._scheme = urlsplit(http.endpoint).scheme
        self._known: dict[str, dict[str, str]] = {}
        _hide_login(http.proxy)

    def of(self, host: str) -> dict[str, str]:
        """Return the proxy by scheme; empty: none."""
        if self._http.proxy:
            return {"http": self._http.proxy, "https": self._http.proxy}
        if not self._http.trust_environment:
            return {}
        if host not in self._known:
            from requests.utils import get_environ_proxies, select_proxy

            url = f"{self._scheme}://{host}/"
            chosen = select_proxy(url, get_environ_proxies(url))
            _hide_login(chosen or "")
            self._known[host] = {self._scheme: chosen} if chosen else {}
        return self._known[host]


def _hide_login(proxy: str) -> None:
    """Hide the password in a proxy's address, also as its header spells it."""
    userinfo, _, _ = urlsplit(proxy).netloc.rpartition("@")
    name, _, password = map(unquote, userinfo.partition(":"))
    if password:
        login = b64encode(f"{name}:{password}".encode("utf-8", "surrogateescape")).decode()
        hidden.add(userinfo.partition(":")[2], password, login)


class Line:
    """The way to one server, which the transports share: its address, whom to trust, when to stop, what
    counts bytes. If one of its methods fails, nothing was sent.
    """

    def __init__(
        self,
        http: HttpSettings,
        *,
        should_stop: Callable[[], bool],
        on_sent: Callable[[int], object],
        on_received: Callable[[int], object] | None = None,
        silence: Callable[[str], str] = lambda path: "",
        awaited: dict[int, int] | None = None,
    ) -> None:
        self.http = http
        self.scheme = urlsplit(http.endpoint).scheme
        self.should_stop = should_stop
        self.on_sent = on_sent
        self.on_received = on_received
        self._silence = silence
        self._awaited = awaited
        self.proxies = Proxies(http)
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def deadline(self) -> Deadline:
        """Return a new deadline, for one request at a time."""
        return Deadline(self.http, self.should_stop, awaited=self._awaited)

    def guard(self, sock: socket.socket, deadline: Deadline) -> GuardedSocket:
        """Return the socket, bound to the deadline and counted."""
        return GuardedSocket(sock, deadline, self.on_sent, self.on_received)

    def dial(self, host: str, port: int) -> socket.socket:
        """Return a connected socket. Raises StoreUnavailable, Stopped."""
        try:
            return connect(host, port, self.http.connect_seconds, self.deadline())
        except OSError as error:
            raise errors.not_connected(f"{host}:{port}", error) from error

    def tls(self) -> ssl.SSLContext:
        """Return the context, made once, for any thread. Sockets that it wraps shake hands in slices, and
        raise AccessRefused, StoreUnavailable, Stopped then. Raises AccessRefused for an unusable bundle.
        """
        with self._lock:
            if self._context is None:
                self._context = _tls_context(self.http, self._silence)
                self._context.set_alpn_protocols(["http/1.1"])
                self._context.sslsocket_class = _sliced(self)
            return self._context


def _sliced(line: Line) -> type[ssl.SSLSocket]:
    class Sliced(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            try:
                _shake_hands(self, super().do_handshake, line.http.connect_seconds, line.deadline())
            except ssl.SSLCertVerificationError as error:
                raise errors.untrusted(str(self.server_hostname), error) from error
            except OSError as error:
                raise errors.not_connected(str(self.server_hostname), error) from error

    return Sliced


class Closable(Protocol):
    """A connection, or its holder."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Idle(Generic[C]):
    """Idle connections by host; each is lent to one request, the last used first.

    So there are never more than requests in flight, and no two threads share one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[float, C]]] = {}
        self._closed = False

    def take(self, host: str, is_stale: Callable[[C], bool] = lambda connection: False) -> C | None:
        """Return an idle connection that works, or None."""
        while True:
            with self._lock:
                idle = self._idle.get(host)
                if not idle:
                    return None
                since, connection = idle.pop()
            if time.monotonic() - since < MAX_IDLE_SECONDS and not is_stale(connection):
                return connection
            connection.close()

    def give_back(self, host: str, connection: C) -> None:
        """Keep it for the next request; after `close`, close it."""
        with self._lock:
            if not self._closed:
                self._idle.setdefault(host, []).append((time.monotonic(), connection))
                return
        connection.close()

    def drop(self, host: str) -> None:
        """Close the connections to a host: if one has expired, so have the others."""
        with self._lock:
            dropped = self._idle.pop(host, [])
        for _, connection in dropped:
            connection.close()

    def close(self) -> None:
        """Close idle connections now, and the others as they are returned."""
        with self._lock:
            self._closed = True
            hosts = list(self._idle)
        for host in hosts:
            self.drop(host)
