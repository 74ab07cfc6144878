"""Connections: names, addresses, TLS. Never blocks for longer than a slice of `Deadline`."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import syncd
from syncd.core.errors import AccessRefused
from syncd.storage.http.deadlines import Deadline
from syncd.storage.settings import HttpSettings

USER_AGENT = f"syncd/{syncd.__version__}"
_QUEUED_BYTES = 256 << 10
"""The most that the kernel holds of a body before it is sent."""
MAX_IDLE_SECONDS = 45.0
"""Servers close idle connections after a minute or so, and routers forget them without notice."""


def split_host(host: str, scheme: str) -> tuple[str, int]:
    """Name and port of a Host header."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit() and not name.endswith(":") and (":" not in name or name.endswith("]")):
        return name.strip("[]"), int(port)
    return host.strip("[]"), 443 if scheme == "https" else 80


def connect(host: str, port: int, seconds: float, deadline: Deadline) -> socket.socket:
    """A connected, non-blocking socket.

    Raises OSError (TimeoutError and socket.gaierror among them), Stopped.
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
    """What the resolver is asked for: in a thread, as the C library's cannot be interrupted."""

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
        """The addresses. Raises OSError."""
        if self._error is not None:
            raise self._error
        return self._addresses


_questions: dict[tuple[str, int], _Question] = {}
"""Those without an answer: nobody asks the same twice at once."""
_lock = threading.Lock()


def _addresses(host: str, port: int, seconds: float, deadline: Deadline) -> list[Any]:
    with suppress(socket.gaierror, UnicodeError):  # it is no address
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    with _lock:
        question = _questions.get((host, port))
        if question is None:
            question = _questions[host, port] = _Question(host, port)
    until = time.monotonic() + seconds
    while not question.is_over.wait(deadline.slice_seconds()):
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
    # What the kernel has taken and not sent is lost with a stop, and hides how fast the line is.
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
    while not poll.poll(deadline.slice_seconds() * 1000):
        deadline.ask()
        if time.monotonic() >= until:
            raise TimeoutError("no connection in time")


def handshake(
    sock: socket.socket, context: ssl.SSLContext, host: str, seconds: float, deadline: Deadline
) -> ssl.SSLSocket:
    """The socket, encrypted. Raises OSError (ssl.SSLError, TimeoutError among them), Stopped."""
    encrypted = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    _shake_hands(encrypted, encrypted.do_handshake, seconds, deadline)
    return encrypted


def shake_hands_in_slices(
    context: ssl.SSLContext, http: HttpSettings, should_stop: Callable[[], bool]
) -> None:
    """Makes every socket that others wrap with `context` keep to a `Deadline` in its handshake."""

    class Sliced(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            self.setblocking(False)
            _shake_hands(self, super().do_handshake, http.connect_seconds, Deadline(http, should_stop))

    context.sslsocket_class = Sliced


def _shake_hands(
    sock: ssl.SSLSocket, handshake_step: Callable[[], None], seconds: float, deadline: Deadline
) -> None:
    """Closes the socket when it fails."""
    until = time.monotonic() + seconds
    try:
        while True:
            try:
                handshake_step()
            except ssl.SSLWantReadError:
                _wait_until(sock, select.POLLIN, until, deadline)
            except ssl.SSLWantWriteError:
                _wait_until(sock, select.POLLOUT, until, deadline)
            else:
                return
    except BaseException:
        sock.close()
        raise


def tls_context(http: HttpSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the bundle of the settings, or of the environment if allowed, or requests' own.

    Raises AccessRefused when there is no such bundle, or nothing in it.
    """
    bundle = http.ca_bundle
    if not bundle and http.trust_environment:
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""
    if not bundle:
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        bundle = DEFAULT_CA_BUNDLE_PATH
    try:
        is_folder = os.path.isdir(bundle)
        context = ssl.create_default_context(
            cafile=None if is_folder else bundle, capath=bundle if is_folder else None
        )
    except OSError as error:  # ssl.SSLError too
        raise AccessRefused(
            f"the CA bundle {bundle} cannot be used: {error.strerror or error}",
            hint="ca_bundle is a file of certificates in PEM form",
            credentials=False,
        ) from error
    # Debian's Python leaves the oldest version to OpenSSL's configuration, and that can be loosened.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    return context


class Proxies:
    """Chooses the proxy of a request, from the settings or, where they say so, from the environment."""

    def __init__(self, http: HttpSettings) -> None:
        self._http = http
        self._scheme = urlsplit(http.endpoint).scheme
        self._known: dict[str, dict[str, str]] = {}

    def of(self, host: str) -> dict[str, str]:
        """Proxy by scheme; empty: none."""
        if self._http.proxy:
            return {"http": self._http.proxy, "https": self._http.proxy}
        if not self._http.trust_environment:
            return {}
        known = self._known.get(host)
        if known is None:
            from requests.utils import get_environ_proxies

            found = get_environ_proxies(f"{self._scheme}://{host}/")
            chosen = found.get(self._scheme) or found.get("all")
            known = self._known[host] = {self._scheme: chosen} if chosen else {}
        return known


class Closable(Protocol):
    """A connection, or what holds one."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Idle(Generic[C]):
    """Connections that no request uses now, by host; each is lent to one request, the last used first.

    So there are never more of them than requests in flight, and no two threads share one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[float, C]]] = {}
        self._closed = False

    def take(self, host: str, is_stale: Callable[[C], bool] = lambda connection: False) -> C | None:
        """An idle connection that can be used, or None."""
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
        """Keep it for the next request; closed at once after `close`."""
        with self._lock:
            if not self._closed:
                self._idle.setdefault(host, []).append((time.monotonic(), connection))
                return
        connection.close()

    def drop(self, host: str) -> None:
        """Close the connections to a host: if one has expired, the others have, too."""
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
