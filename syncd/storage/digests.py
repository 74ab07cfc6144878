"""CRCs by the fastest installed library, MD5s, and zeros, whose digests are computed once.

A module of its own, because all code that reads, sends, proves and restores content shares it, and because it
imports the library only when it checks the first body. Measured on one core: isal 28 GB/s, zlib 4.5.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import Any, TypeVar, cast

Body = bytes | bytearray | memoryview

_Digest = TypeVar("_Digest", bound=Callable[..., Any])

_SIZES = 8
"""Sizes of holes to remember: a few part sizes, and remainders at the end of a file."""


class _Untouched(mmap.mmap):
    """Read-only memory, which takes no page."""


@lru_cache(_SIZES)
def zeros(size: int) -> memoryview:
    """Return `size` zeros: the content of a hole, without reading it."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return memoryview(_Untouched(-1, max(1, size), flags=flags, prot=mmap.PROT_READ))[:size]


def are_zeros(body: Body) -> bool:
    """Return whether a body is from `zeros`, or a piece of it. Does not read its bytes."""
    return isinstance(body, memoryview) and isinstance(body.obj, _Untouched)


def once(digest: _Digest) -> _Digest:
    """Wrap a function of a body (and perhaps more): it runs once for all `zeros` of one size."""

    @lru_cache(_SIZES)
    def of_zeros(size: int, *more: object) -> Any:
        return digest(zeros(size), *more)

    @wraps(digest)
    def of(body: Body, *more: object) -> Any:
        return of_zeros(len(body), *more) if are_zeros(body) else digest(body, *more)

    return cast(_Digest, of)


@once
def crc32(body: Body, before: int = 0) -> int:
    """Return the CRC-32 (IEEE 802.3, as in zlib) of `body`; `before` is that of the bytes before it."""
    return _fastest()(body, before)


@once
def md5_hex(body: Body) -> str:
    """Return the ETag of these bytes, where ETags are MD5s."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


@cache
def _fastest() -> Callable[[Body, int], int]:
    try:
        from isal.isal_zlib import crc32 as fast  # the extra `fast`: a wheel of 0.3 MB for x86-64 and arm64
    except ImportError:
        from zlib import crc32 as fast
    found: Callable[[Body, int], int] = fast
    return found


@cache
def crc64_nvme() -> Callable[[Body, int], int] | None:
    """Return a function for CRC-64/NVME, of bytes and the CRC of those before; None: no library."""
    try:
        from awscrt.checksums import crc64nvme  # the extra `crc64`: a wheel of 12 MB, from AWS
    except ImportError:
        return None
    found: Callable[[Body, int], int] = crc64nvme
    return found
