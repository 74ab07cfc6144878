"""What is special about plain sockets: small bodies in one piece, connections of a certain age.

What holds for every transport is in `test_transport.py`.
"""

from __future__ import annotations

import pytest

from syncd.storage.http import connect, socket_transport
from tests.support.hostile import OK, HostileServer, answers
from tests.unit.storage.http.transports import Client
from tests.unit.storage.http.transports import socket_transport as sockets


def test_a_small_body_is_reported_once_and_whole() -> None:
    """It goes out in one piece with its head."""
    with HostileServer([answers(OK)]) as server:
        client = Client(sockets, server)
        client.put(bytes(socket_transport._JOIN_BYTES))
        assert client.sent == [socket_transport._JOIN_BYTES]
        client.transport.close()


def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and routers forget it without notice."""
    with HostileServer([answers(OK)]) as server:
        client = Client(sockets, server)
        client.put()
        client.put()
        assert server.connections == 1
        monkeypatch.setattr(connect, "MAX_IDLE_SECONDS", 0.0)
        client.put()
        client.transport.close()
        assert server.connections == 2
