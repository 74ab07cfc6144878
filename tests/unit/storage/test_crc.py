"""One CRC of each kind, whichever library computes it."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator

import pytest

from syncd.storage import crc

BODY = bytes(range(256)) * 5000


@pytest.fixture(params=["as it is", "without isal"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "without isal":
        monkeypatch.setitem(sys.modules, "isal", None)
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    crc._fastest.cache_clear()
    yield request.param
    crc._fastest.cache_clear()


@pytest.mark.parametrize("size", [0, 1, 7, 100, 4096, 65537, len(BODY)])
def test_it_is_that_of_zlib(size: int) -> None:
    for body in (BODY[:size], bytearray(BODY[:size]), memoryview(BODY)[:size]):
        assert crc.crc32(body) == zlib.crc32(BODY[:size])
    assert crc.crc32(BODY[size:], crc.crc32(BODY[:size])) == zlib.crc32(BODY)


def test_the_library_is_the_extra_where_it_is_installed(library: str) -> None:
    """No other package than zlib is needed, and none is asked for before the first body."""
    crc.crc32(b"")
    module = sys.modules.get("isal")
    expected = "isal" if library == "as it is" and module is not None else "zlib"
    assert expected in crc._fastest().__module__


def test_without_a_library_there_is_no_crc_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop in Python would take minutes; with one, the check value is the one that its definition gives."""
    crc.crc64_nvme.cache_clear()
    continued = crc.crc64_nvme()
    assert continued is not None
    assert continued(b"456789", continued(b"123", 0)) == 0xAE8B14860A799888
    crc.crc64_nvme.cache_clear()
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    assert crc.crc64_nvme() is None
    crc.crc64_nvme.cache_clear()
