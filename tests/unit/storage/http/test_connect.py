"""Names and ports, what to trust, and which proxy stands between."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from syncd.core.errors import AccessRefused, Stopped
from syncd.storage.http.connect import Idle, Proxies, connect, split_host, tls_context
from syncd.storage.http.deadlines import Deadline
from syncd.storage.settings import HttpSettings

HTTP = HttpSettings("http://h")


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("h", "http", ("h", 80)),
        ("h", "https", ("h", 443)),
        ("h:9000", "https", ("h", 9000)),
        ("[::1]", "http", ("::1", 80)),
        ("[::1]:9000", "http", ("::1", 9000)),
        ("::1", "http", ("::1", 80)),
    ],
)
def test_a_host_header_is_a_name_and_a_port(host: str, scheme: str, expected: tuple[str, int]) -> None:
    """The scheme's own port where none is given; addresses of IPv6 have colons of their own."""
    assert split_host(host, scheme) == expected


def test_a_name_that_cannot_be_one_is_not_found() -> None:
    """The same error as for a name that nothing answers to."""
    with pytest.raises(socket.gaierror):
        connect("a" * 64 + ".example", 80, 1.0, Deadline(HTTP, lambda: False))


def test_a_stop_ends_the_wait_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked between two slices, and believed after the grace."""
    monkeypatch.setattr("syncd.storage.http.deadlines.GRACE_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        with pytest.raises(Stopped):
            connect(*address, 30.0, Deadline(HttpSettings("http://h", progress_seconds=0.1), lambda: True))
        for sock in waiting:
            sock.close()


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    """With the key that is wrong, and no word about keys of the account."""
    with pytest.raises(AccessRefused, match=r"missing\.pem") as caught:
        tls_context(HttpSettings("https://h", ca_bundle=str(tmp_path / "missing.pem")))
    assert not caught.value.credentials


def test_the_environment_chooses_a_proxy_only_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings come first."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://env")
    given = HttpSettings("http://h", proxy="http://given", trust_environment=True)
    assert Proxies(given).of("h")["http"] == "http://given"
    assert Proxies(HTTP).of("h") == {}
    assert Proxies(HttpSettings("http://h", trust_environment=True)).of("h") == {"http": "http://env"}


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
