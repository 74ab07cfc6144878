"""The transports that pass one suite of tests, and a client of one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from syncd.storage.http.connect import Line
from syncd.storage.http.messages import Request
from syncd.storage.http.requests_transport import RequestsTransport
from syncd.storage.http.socket_transport import SocketTransport
from syncd.storage.http.transport import ControlAndContent, Transport
from syncd.storage.settings import HttpSettings
from tests.support.hostile import HostileServer

Kind = Callable[..., Transport]


def requests_transport(http: HttpSettings, **more: Any) -> Transport:
    """As control has it."""
    return RequestsTransport(Line(http, **more))


def socket_transport(http: HttpSettings, **more: Any) -> Transport:
    """As content has it."""
    return SocketTransport(Line(http, **more))


def open_transport(http: HttpSettings) -> Transport:
    """The transport that a store has."""
    return ControlAndContent(Line(http, should_stop=lambda: False, on_sent=lambda size: None))


TRANSPORTS = [pytest.param(requests_transport, id="requests"), pytest.param(socket_transport, id="sockets")]
every_transport = pytest.mark.parametrize("kind", TRANSPORTS)


class Client:
    """One transport and what it reported."""

    def __init__(self, kind: Kind, server: HostileServer | None, **settings: Any) -> None:
        self.sent: list[int] = []
        self.stop = threading.Event()
        settings.setdefault("endpoint", server.endpoint if server else "http://127.0.0.1:1")
        if server is not None and server.certificate is not None:
            settings.setdefault("ca_bundle", server.certificate.cert)
        self.host = settings["endpoint"].partition("//")[2]
        self.transport: Transport = kind(
            HttpSettings(**settings), should_stop=self.stop.is_set, on_sent=self.sent.append
        )

    def put(self, body: Any = b"x", path: str = "/b/k", **more: Any) -> Any:
        return self.transport.send(Request("PUT", self.host, path, body=body, **more))

    def get(self, **more: Any) -> Any:
        return self.transport.send(Request("GET", self.host, "/b/k", **more))


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
