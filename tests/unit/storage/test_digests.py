"""One digest of each kind, whichever library computes it; and what is known of zeros."""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Iterator

import pytest

from syncd.sources.buffers import fresh
from syncd.storage import digests

BODY = bytes(range(256)) * 5000


@pytest.fixture(params=["as it is", "without isal"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "without isal":
        monkeypatch.setitem(sys.modules, "isal", None)
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    digests._fastest.cache_clear()
    yield request.param
    digests._fastest.cache_clear()


@pytest.mark.parametrize("size", [0, 1, 7, 100, 4096, 65537, len(BODY)])
def test_it_is_that_of_the_standard_library(size: int) -> None:
    for body in (BODY[:size], bytearray(BODY[:size]), memoryview(BODY)[:size]):
        assert digests.crc32(body) == zlib.crc32(BODY[:size])
        assert digests.md5_hex(body) == hashlib.md5(BODY[:size]).hexdigest()
    assert digests.crc32(BODY[size:], digests.crc32(BODY[:size])) == zlib.crc32(BODY)


def test_the_library_is_the_extra_where_it_is_installed(library: str) -> None:
    """No other package than zlib is needed, and none is asked for before the first body."""
    digests.crc32(b"")
    module = sys.modules.get("isal")
    expected = "isal" if library == "as it is" and module is not None else "zlib"
    assert expected in digests._fastest().__module__


@pytest.mark.parametrize("size", [0, 1, 4096, 100_001])
def test_zeros_are_known_and_take_no_memory_of_their_own(size: int) -> None:
    """They are what they say, cannot be written, and no other body is taken for them."""
    body = digests.zeros(size)
    assert (bytes(body), body.readonly) == (bytes(size), True)
    assert digests.are_zeros(body)
    assert digests.are_zeros(body[size // 2 :])
    for other in (bytes(size), bytearray(size), memoryview(bytes(size)), memoryview(fresh(size or 1))):
        assert not digests.are_zeros(other)


def test_a_digest_of_zeros_is_computed_once() -> None:
    """For each size and whatever else it depends on; that of another body whenever it is asked for."""
    asked: list[int] = []

    @digests.once
    def digest(body: digests.Body, before: int = 0) -> int:
        asked.append(len(body))
        return zlib.crc32(body, before)

    for _ in range(3):
        for size in (1, 5000):
            assert digest(digests.zeros(size)) == zlib.crc32(bytes(size))
            assert digest(digests.zeros(size)[1:], 7) == zlib.crc32(bytes(size - 1), 7)
    assert sorted(asked) == [0, 1, 4999, 5000]
    assert digest(bytes(5000)) == digest(bytes(5000)) == digest(digests.zeros(5000))
    assert len(asked) == 6


def test_without_a_library_there_is_no_crc_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop in Python would take minutes; with one, the check value is the one that its definition gives."""
    digests.crc64_nvme.cache_clear()
    continued = digests.crc64_nvme()
    assert continued is not None
    assert continued(b"456789", continued(b"123", 0)) == 0xAE8B14860A799888
    digests.crc64_nvme.cache_clear()
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    assert digests.crc64_nvme() is None
    digests.crc64_nvme.cache_clear()
