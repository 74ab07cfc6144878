"""XXH3-128 of a file, whole and by parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import xxhash

from syncd.core.errors import Stopped
from syncd.core.model import Fingerprint
from syncd.sources.files import Body, OpenFile

READ_SIZE = 1 << 20
"""Bytes of one read while hashing: stays in the processor's cache between the two digests."""


class Digests(NamedTuple):
    """The fingerprint of a file, and of each of its blocks."""

    fingerprint: Fingerprint
    parts: tuple[bytes, ...]
    """XXH3-128 of each block of the part size, the last one shorter; empty for an empty file."""


def compute(file: OpenFile, size: int, part_size: int, should_stop: Callable[[], bool]) -> Digests:
    """Read the file once, `size` bytes in all, and digest it whole and by blocks of `part_size` bytes.

    Raises FileChanged when it is shorter or longer than `size`, FileUnreadable, Stopped when asked to. The
    caller compares `file.stat()` before and after, to notice bytes that changed while they were read.
    """
    whole = xxhash.xxh3_128()
    parts: list[bytes] = []
    buffer = memoryview(bytearray(min(READ_SIZE, size)))
    for start in range(0, size, part_size):
        end = min(start + part_size, size)
        part = xxhash.xxh3_128()
        for offset in range(start, end, READ_SIZE):
            if should_stop():
                raise Stopped("stopped while a file was fingerprinted")
            view = buffer[: min(READ_SIZE, end - offset)]
            file.read_into(offset, view)
            part.update(view)
            if part_size < size:
                whole.update(view)
        parts.append(part.digest())
    file.check_end(size)
    digest_of_all = parts[0] if len(parts) == 1 else whole.digest()
    return Digests(Fingerprint(digest_of_all, size), tuple(parts))


def of_bytes(body: Body) -> Fingerprint:
    """The fingerprint of content in memory."""
    return Fingerprint(digest(body), memoryview(body).nbytes)


def digest(body: Body) -> bytes:
    """XXH3-128: 16 bytes, big-endian, what ``xxh128sum`` prints."""
    return xxhash.xxh3_128_digest(body)
