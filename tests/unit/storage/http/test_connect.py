"""Names, and connections that wait for a request.

Trust, proxies and stops are tested with the transports.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import Stopped
from syncd.storage.http.connect import Idle, connect
from syncd.storage.http.deadlines import Deadline
from syncd.storage.settings import HttpSettings

HTTP = HttpSettings("http://h")


def test_a_name_that_cannot_be_one_is_not_found() -> None:
    """The same error as for a name that nothing answers to."""
    with pytest.raises(socket.gaierror):
        connect("a" * 64 + ".example", 80, 1.0, Deadline(HTTP, lambda: False))


def test_a_name_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for longer than the time to connect nor beyond a stop; it is asked once for all threads."""
    asked, answers = [], threading.Event()
    real = socket.getaddrinfo

    def hangs(host: str, *arguments: Any, **more: Any) -> Any:
        if host == "store.example":
            if more.get("flags"):
                raise socket.gaierror(socket.EAI_NONAME, "no address")
            asked.append(host)
            answers.wait(60)
            host = "127.0.0.1"
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    deadline = Deadline(replace(HTTP, read_seconds=0.1), lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for _ in range(2):
            with pytest.raises(TimeoutError, match="no name server answers"):
                connect("store.example", port, 0.05, deadline)
        with pytest.raises(Stopped):
            connect("store.example", port, 60.0, Deadline(HTTP, lambda: True))
        answers.set()
        connect("store.example", port, 60.0, Deadline(HTTP, lambda: False)).close()
    assert len(asked) <= 2


class Connection:
    """Knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_what_one_request_has_is_not_lent_to_another() -> None:
    """The last used first, and after closing nothing is kept."""
    idle: Idle[Connection] = Idle()
    one, other = Connection(), Connection()
    assert idle.take("h") is None
    idle.give_back("h", one)
    idle.give_back("h", other)
    assert [idle.take("h"), idle.take("h"), idle.take("h")] == [other, one, None]
    idle.give_back("h", one)
    idle.close()
    idle.give_back("h", other)
    assert one.closed
    assert other.closed


def test_what_is_stale_or_of_another_host_is_not_lent() -> None:
    """The one is closed, the other stays."""
    idle: Idle[Connection] = Idle()
    one, other = Connection(), Connection()
    idle.give_back("h", one)
    idle.give_back("g", other)
    assert idle.take("h", lambda connection: connection is one) is None
    idle.drop("h")
    assert (one.closed, other.closed) == (True, False)
