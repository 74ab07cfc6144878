"""Listens on the address of `http`, decides who may see what, and has routes answer.

Every connection carries one request, which has to arrive within seconds. If many peers send nothing, the
server hangs up on the oldest. It refuses a name that is not configured, because a stranger's page can bind
its own name to this address (DNS rebinding). A request that such a page sends has its Origin.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from enum import IntEnum
from typing import NamedTuple

from syncd.config.load import AddressSettings
from syncd.core.errors import StateError
from syncd.daemon.control import Acceptor, Asks, is_there
from syncd.daemon.http import message
from syncd.daemon.http.message import Answer, Refused, Request

log = logging.getLogger("syncd.daemon")

_MOST_AT_ONCE = 8
_MOST_SLOW = 4
"""How many of them may be slow ones, which need the token: a flush, or a look at a folder that does not
answer. Health has to be answered at the same time."""
_READ_SECONDS = 5.0
_SEND_SECONDS = 5.0
_LINGER_SECONDS = 1.0
_LOOPBACK = "localhost"


class Access(IntEnum):
    """How much a peer may see."""

    NOTHING = 0
    """Only whether the daemon lives: a peer from another machine, without the token."""
    COUNTS = 1
    """Numbers and words: a peer of this machine, without the token."""
    ALL = 2
    """Also paths and reasons; the peer may steer."""


class Call(NamedTuple):
    """A request that was accepted."""

    request: Request
    access: Access
    body: bytes = b""
    asks: Asks = lambda: True


class Route(NamedTuple):
    """How to answer one path. `handler` raises Refused, ValueError for a wrong request, StateError."""

    handler: Callable[[Call], Answer]
    least: Access = Access.COUNTS
    method: str = "GET"


class Guard:
    """Decides who may see what on one address."""

    def __init__(self, settings: AddressSettings) -> None:
        self._settings = settings
        self._is_local = ipaddress.ip_address(settings.host).is_loopback

    def access(self, headers: Mapping[str, str]) -> Access:
        """Return how much a peer that sends these may see. Raises Refused."""
        self._check_host(headers["host"])
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{headers['host']}", f"https://{headers['host']}"):
            raise Refused(403, "a page of another origin may not ask")
        given = headers.get("authorization")
        if given is None:
            return Access.COUNTS if self._is_local else Access.NOTHING
        scheme, _, token = given.partition(" ")
        if self._settings.token and scheme.lower() == "bearer" and self._is_token(token):
            return Access.ALL
        raise self.needs_token("the token is not the one in `http.token_file`")

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("latin-1"), self._settings.token.encode())

    def needs_token(self, words: str) -> Refused:
        """Return the refusal for a peer that sent no token, or a wrong one."""
        if not self._settings.token:
            return Refused(403, "this needs a token, and the configuration has no `http.token_file`")
        return Refused(401, words, {"WWW-Authenticate": "Bearer"})

    def _check_host(self, host: str) -> None:
        """Refuse a foreign name; a stranger cannot bind a number. Raises Refused."""
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdecimal():
            name = host
        name = name.lower()
        if name == _LOOPBACK or name in self._settings.names:
            return
        with suppress(ValueError):
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
            return
        raise Refused(403, "the address is not known by this name: add it to `http.names`")


class HttpServer:
    """Answers on one address. Raises OSError if it is not free, as when another program listens on it."""

    def __init__(self, settings: AddressSettings, routes: Mapping[str, Route]) -> None:
        self.settings = settings
        self._routes = routes
        self._guard = Guard(settings)
        self._slow = threading.BoundedSemaphore(_MOST_SLOW)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((settings.host, settings.port))
            listening.listen(64)
        except OSError:
            listening.close()
            raise
        self.port: int = listening.getsockname()[1]
        self._acceptor = Acceptor(listening, self._converse, _MOST_AT_ONCE, "http")

    def start(self) -> None:
        """Start answering."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stop answering."""
        self._acceptor.stop()

    def _converse(self, peer: socket.socket, heard: Callable[[], None]) -> None:
        with_body = True
        try:
            head, rest = _head(peer)
            request = message.parse(head)
            with_body = request.method != "HEAD"
            answer = self._answer(request, peer, rest, heard)
        except Refused as refused:
            answer = _refusal(refused)
        peer.settimeout(_SEND_SECONDS)
        peer.sendall(message.rendered(answer, formatdate(usegmt=True), with_body=with_body))
        _linger(peer)

    def _answer(
        self, request: Request, peer: socket.socket, rest: bytes, heard: Callable[[], None]
    ) -> Answer:
        access = self._guard.access(request.headers)
        route = self._route(request)
        if access < route.least:
            raise self._guard.needs_token("this needs `Authorization: Bearer` and the token")
        if request.method == "POST" and request.headers.get("content-type", "") != "application/json":
            raise Refused(415, "the Content-Type of a POST is application/json")
        body = _body(peer, rest, request.body_size)
        heard()
        call = Call(request, access, body, lambda: is_there(peer))
        if route.least is not Access.ALL:
            return self._handled(route, call)
        if not self._slow.acquire(blocking=False):
            raise Refused(503, "the daemon is busy with what was asked before; ask again later")
        try:
            return self._handled(route, call)
        finally:
            self._slow.release()

    def _handled(self, route: Route, call: Call) -> Answer:
        try:
            return route.handler(call)
        except ValueError as error:
            raise Refused(400, str(error)) from None
        except StateError as error:
            raise Refused(
                503, str(error) if call.access is Access.ALL else "the state cannot be read"
            ) from None
        except Refused:
            raise
        except Exception:
            log.exception("http: a request failed")
            raise Refused(500, "the daemon has a fault; its log says more") from None

    def _route(self, request: Request) -> Route:
        route = self._routes.get(request.path)
        if route is None:
            raise Refused(404, "nothing is here")
        if request.method == route.method or (request.method, route.method) == ("HEAD", "GET"):
            return route
        raise Refused(405, f"this takes {route.method} only", {"Allow": route.method})


def _head(peer: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of the request, and the bytes after it. Raises OSError, Refused."""
    data, until = bytearray(), time.monotonic() + _READ_SECONDS
    while True:
        end = data.find(message.END)
        if len(data) > message.MOST_HEAD_BYTES and not 0 <= end <= message.MOST_HEAD_BYTES:
            raise Refused(431, f"a request has at most {message.MOST_HEAD_BYTES} bytes beside its body")
        if end >= 0:
            return bytes(data[:end]), bytes(data[end + len(message.END) :])
        data += _piece(peer, until)


def _body(peer: socket.socket, rest: bytes, size: int) -> bytes:
    data, until = bytearray(rest), time.monotonic() + _READ_SECONDS
    while len(data) < size:
        data += _piece(peer, until)
    return bytes(data[:size])


def _piece(peer: socket.socket, until: float) -> bytes:
    left = until - time.monotonic()
    try:
        if left <= 0:
            raise TimeoutError
        peer.settimeout(left)
        piece = peer.recv(message.MOST_HEAD_BYTES)
    except TimeoutError:
        raise Refused(408, f"a request takes at most {_READ_SECONDS:.0f} s") from None
    if not piece:
        raise ConnectionResetError("the peer hung up")
    return piece


def _refusal(refused: Refused) -> Answer:
    answer = message.as_json({"error": str(refused)}, refused.status)
    return Answer(answer.body, answer.type, answer.status, refused.headers)


def _linger(peer: socket.socket) -> None:
    """Let the peer read the answer: closing while more of the request arrives would discard it."""
    until = time.monotonic() + _LINGER_SECONDS
    with suppress(OSError):
        peer.shutdown(socket.SHUT_WR)
        while (left := until - time.monotonic()) > 0:
            peer.settimeout(left)
            if not peer.recv(message.MOST_HEAD_BYTES):
                return
