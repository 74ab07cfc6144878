"""What is special about the transport on requests: adapters that are lent, and proxies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from syncd.core.errors import AccessRefused, StoreUnavailable
from syncd.storage.http.messages import Request
from syncd.storage.http.transport import Transport
from syncd.storage.settings import HttpSettings
from tests.support.hostile import OK, Certificate, HostileServer, Peer, Script, answers
from tests.unit.storage.http.transports import free_port, open_transport


def test_a_proxy_that_wants_credentials_stops_the_store(certificate: Certificate) -> None:
    """It is a matter of configuration, and its password is not shown."""
    denied = answers(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    with HostileServer([answers(OK)], certificate) as store, HostileServer([denied]) as proxy:
        http = HttpSettings(
            store.endpoint,
            proxy=f"http://user:hunter2@127.0.0.1:{proxy.port}",
            ca_bundle=certificate.cert,
        )
        transport = open_transport(http)
        with pytest.raises(AccessRefused) as caught:
            transport.send(Request("PUT", store.host, "/b/k", body=b"x"))
        transport.close()
    assert not caught.value.credentials
    assert "hunter2" not in str(caught.value) + repr(caught.value)


def test_a_proxy_that_is_not_there_leaves_nothing_done() -> None:
    """The request never left."""
    http = HttpSettings("http://127.0.0.1:1", proxy=f"http://127.0.0.1:{free_port()}")
    transport = open_transport(http)
    with pytest.raises(StoreUnavailable) as caught:
        transport.send(Request("PUT", "127.0.0.1:1", "/b/k", body=b"x"))
    assert not caught.value.outcome_unknown


def test_a_proxy_address_that_is_none_stops_the_store() -> None:
    """It is a matter of configuration."""
    http = HttpSettings("http://127.0.0.1:1", proxy="http://")
    transport = open_transport(http)
    with pytest.raises(AccessRefused) as caught:
        transport.send(Request("PUT", "127.0.0.1:1", "/b/k", body=b"x"))
    assert not caught.value.credentials


def _relay(peer: Peer) -> None:
    head = peer.read_head()
    host, port = head.target.rsplit(":", 1)
    peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    peer.relay(host, int(port))


def _drip(peer: Peer) -> None:
    peer.read_head()
    peer.drip(b"HTTP/1.1 200 Connection established\r\n" + b"X-Padding: 0123456789\r\n" * 1000, 0.02)


@pytest.fixture(params=["http", "https"])
def through(
    request: pytest.FixtureRequest, certificate: Certificate
) -> Iterator[Callable[[Script], tuple[HostileServer, Transport]]]:
    """A transport to a store over TLS, through a proxy that keeps to a script."""
    with ExitStack() as last:

        def make(script: Script) -> tuple[HostileServer, Transport]:
            store = last.enter_context(HostileServer([answers(OK)], certificate))
            proxy = last.enter_context(
                HostileServer([script], certificate if request.param == "https" else None)
            )
            http = HttpSettings(
                store.endpoint, proxy=proxy.endpoint, ca_bundle=certificate.cert, read_seconds=0.5
            )
            transport = open_transport(http)
            last.callback(transport.close)
            return store, transport

        yield make


def test_a_tunnel_leads_to_the_store(through: Callable[[Script], tuple[HostileServer, Transport]]) -> None:
    """The request arrives, and its answer."""
    store, transport = through(_relay)
    assert transport.send(Request("PUT", store.host, "/b/k", body=b"x")).status == 200
    assert store.received[0].body == b"x"


def test_a_proxy_that_drips_is_given_up(through: Callable[[Script], tuple[HostileServer, Transport]]) -> None:
    """Each byte of its word about the tunnel comes in time, and the last one never."""
    store, transport = through(_drip)
    with pytest.raises(StoreUnavailable) as caught:
        transport.send(Request("PUT", store.host, "/b/k", body=b"x"))
    assert not caught.value.outcome_unknown
