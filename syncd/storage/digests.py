"""CRCs of content, by the fastest library that there is; its MD5; and zeros, whose digests are computed once.

A module of its own, because what reads, sends, proves and brings back content shares it, and because the
library is imported only when the first body is checked. Measured on one core: isal 28 GB/s, zlib 4.5.
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
"""Of holes that are remembered: of a few part sizes, and of what is left at the end of a file."""


class _Untouched(mmap.mmap):
    """Memory that can only be read, and so takes no page."""


@lru_cache(_SIZES)
def zeros(size: int) -> memoryview:
    """So many zeros: what a hole of a file holds, without a look at it."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return memoryview(_Untouched(-1, max(1, size), flags=flags, prot=mmap.PROT_READ))[:size]


def are_zeros(body: Body) -> bool:
    """Whether a body is one of `zeros`, or a piece of it. Its bytes are not looked at."""
    return isinstance(body, memoryview) and isinstance(body.obj, _Untouched)


def once(digest: _Digest) -> _Digest:
    """The same function of a body (and perhaps more), which is called once for all `zeros` of one size."""

    @lru_cache(_SIZES)
    def of_zeros(size: int, *more: object) -> Any:
        return digest(zeros(size), *more)

    @wraps(digest)
    def of(body: Body, *more: object) -> Any:
        return of_zeros(len(body), *more) if are_zeros(body) else digest(body, *more)

    return cast(_Digest, of)


@once
def crc32(body: Body, before: int = 0) -> int:
    """The CRC-32 (IEEE 802.3, as in zlib) of `body`, continued from that of the bytes `before` it."""
    return _fastest()(body, before)


@once
def md5_hex(body: Body) -> str:
    """What the ETag of these bytes is, where ETags are MD5s."""
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
    """CRC-64/NVME of bytes, continued from that of the bytes before them. None: no library for it is here."""
    try:
        from awscrt.checksums import crc64nvme  # the extra `crc64`: a wheel of 12 MB, from AWS
    except ImportError:
        return None
    found: Callable[[Body, int], int] = crc64nvme
    return found
