"""Fixtures of the transports."""

from __future__ import annotations

import pytest

from tests.support.hostile import Certificate, make_certificate
from tests.unit.storage.http.transports import TRANSPORTS, Kind


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A self-signed certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=TRANSPORTS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every rule holds for every transport."""
    return request.param  # type: ignore[no-any-return]
