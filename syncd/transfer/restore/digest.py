"""Digests that prove a restored content: of bytes in memory, of a file, of one whose parts still arrive."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import xxhash

from syncd.core import parts
from syncd.storage.base import Body
from syncd.storage.digests import are_zeros, crc32
from syncd.storage.dir.files import digest_of_range

_READ_BYTES = 1 << 20


class _Come(NamedTuple):
    """A part that is written, and waits for its turn."""

    size: int
    body: Body | None
    """None: it is read again."""
    held: ExitStack


class Running:
    """The digest of a file whose parts are written by several threads, as far as they are complete from its
    beginning.

    A part that comes out of order keeps its memory until its turn, if `spare` can be acquired for it;
    otherwise it is read again. So the users of `spare` together keep as many parts as it has permits.
    """

    def __init__(self, fd: int, kind: str, spare: threading.Semaphore) -> None:
        self.kind = kind
        self._fd = fd
        self._spare = spare
        self._hasher = _hasher(kind)
        self._done = 0
        self._come: dict[int, _Come] = {}
        self._lock = threading.Lock()
        self._hashing = threading.Lock()

    def follow(self, span: parts.Span, body: Body | None, held: ExitStack) -> None:
        """Take a part that is written. `held`, the memory of `body`, is closed when it is no longer needed:
        now or later, perhaps by another thread.
        """
        if span.offset != self._done:
            if body is not None and are_zeros(body):
                held.close()  # zeros need no memory
            elif body is not None and self._spare.acquire(blocking=False):
                held.callback(self._spare.release)
            else:
                body = None
                held.close()
        with self._lock:
            self._come[span.offset] = _Come(span.size, body, held.pop_all())
        while self._is_next() and self._hashing.acquire(blocking=False):  # again for one that came in between
            try:
                while (come := self._next()) is not None:
                    with come.held:
                        self._take(come)
            finally:
                self._hashing.release()

    def digest(self, size: int) -> bytes:
        """Return the digest of the first `size` bytes. All parts must be written."""
        self._take(_Come(size - self._done, None, ExitStack()))
        digest: bytes = self._hasher.digest()
        return digest

    def close(self) -> None:
        """Release what still waits."""
        with self._lock:
            come, self._come = self._come, {}
        for each in come.values():
            each.held.close()

    def _is_next(self) -> bool:
        with self._lock:
            return self._done in self._come

    def _next(self) -> _Come | None:
        with self._lock:
            return self._come.pop(self._done, None)

    def _take(self, come: _Come) -> None:
        for block in _blocks(self._fd, come.size, self._done) if come.body is None else (come.body,):
            self._hasher.update(block)
        self._done += come.size


class _Crc32:
    """A CRC-32 with the interface of a digest."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Body) -> None:
        self._value = crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _hasher(kind: str) -> Any:
    if kind == "xxh128":
        return xxhash.xxh3_128()
    return hashlib.md5(usedforsecurity=False) if kind == "md5" else _Crc32()


def digest_of(fd: int, size: int, kind: str) -> bytes:
    """Return the digest of the first `size` bytes: ``xxh128``, ``md5`` or ``crc32``."""
    if kind == "xxh128":
        return digest_of_range(fd, 0, size)
    return Running(fd, kind, threading.Semaphore(0)).digest(size)


def digest_of_body(body: Body, kind: str) -> bytes:
    """Return such a digest of bytes in memory."""
    if kind == "xxh128":
        return xxhash.xxh3_128_digest(body)
    if kind == "md5":
        return hashlib.md5(body, usedforsecurity=False).digest()
    return crc32(body).to_bytes(4, "big")


def _blocks(fd: int, size: int, offset: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(max(1, min(size, _READ_BYTES))))
    end = offset + size
    while offset < end and (count := os.preadv(fd, [buffer[: min(end - offset, len(buffer))]], offset)):
        yield buffer[:count]
        offset += count
