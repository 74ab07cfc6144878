"""What is special about the transport on requests: adapters that are lent, and proxies."""

from __future__ import annotations

import pytest

from syncd.core.errors import AccessRefused, StoreUnavailable
from syncd.storage.http.messages import Request
from syncd.storage.http.transport import open_transport
from syncd.storage.settings import HttpSettings
from tests.support.hostile import OK, Certificate, HostileServer, answers
from tests.unit.storage.http.transports import free_port


def test_a_proxy_that_wants_credentials_stops_the_store(certificate: Certificate) -> None:
    """It is a matter of configuration, and its password is not shown."""
    denied = answers(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    with HostileServer([answers(OK)], certificate) as store, HostileServer([denied]) as proxy:
        http = HttpSettings(
            store.endpoint,
            proxy=f"http://user:hunter2@127.0.0.1:{proxy.port}",
            ca_bundle=certificate.cert,
        )
        transport = open_transport(http, should_stop=lambda: False, on_sent=lambda size: None)
        with pytest.raises(AccessRefused) as caught:
            transport.send(Request("PUT", store.host, "/b/k", body=b"x"))
        transport.close()
    assert not caught.value.credentials
    assert "hunter2" not in str(caught.value) + repr(caught.value)


def test_a_proxy_that_is_not_there_leaves_nothing_done() -> None:
    """The request never left."""
    http = HttpSettings("http://127.0.0.1:1", proxy=f"http://127.0.0.1:{free_port()}")
    transport = open_transport(http, should_stop=lambda: False, on_sent=lambda size: None)
    with pytest.raises(StoreUnavailable) as caught:
        transport.send(Request("PUT", "127.0.0.1:1", "/b/k", body=b"x"))
    assert not caught.value.outcome_unknown


def test_a_proxy_address_that_is_none_stops_the_store() -> None:
    """It is a matter of configuration."""
    http = HttpSettings("http://127.0.0.1:1", proxy="http://")
    transport = open_transport(http, should_stop=lambda: False, on_sent=lambda size: None)
    with pytest.raises(AccessRefused) as caught:
        transport.send(Request("PUT", "127.0.0.1:1", "/b/k", body=b"x"))
    assert not caught.value.credentials
