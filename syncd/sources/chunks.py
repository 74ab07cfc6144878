"""Cuts content where its bytes say so, so that content which an insertion moves is recognized.

Python has no fast rolling hash, but `bytes.translate` and `bytes.find` are fast. A fixed table turns each
byte into 0 or 1; a chunk may end where a fixed pattern is found. So an end depends only on the few bytes
before it.
"""

from __future__ import annotations

import hashlib

from syncd.core.parts import CHUNK
from syncd.sources.fingerprint import Witness

_BITS = hashlib.shake_256(b"syncd chunks").digest(128 + 16)
_TABLE = bytes((_BITS[byte // 2] ^ byte) & 1 for byte in range(256))
"""One of two neighbours becomes 0 and the other 1, which halves every alphabet."""
_PATTERN = bytes(each & 1 for each in _BITS[128:])
_PIECE = 256 << 10
"""Bytes searched at once: `bytes.find` blocks all threads, here for less than 1 ms."""


class Cutter:
    """Cuts content that comes piece by piece.

    With parts of 8 MiB a chunk has 64 KiB, plus 64 KiB on average if the content looks random, and at most
    512 KiB.
    """

    def __init__(self, witness: Witness, part_size: int) -> None:
        bits = min(len(_PATTERN), max(1, part_size.bit_length() - 8))
        self._pattern = _PATTERN[:bits]
        self._least, self._most = 1 << bits, 8 << bits
        self._witness = witness
        self._hashers = witness.begin()
        self._size = 0
        self._before = b""
        self._chunks = bytearray()

    def update(self, view: memoryview) -> None:
        """Take the next piece."""
        for at in range(0, len(view), _PIECE):
            self._take(view[at : at + _PIECE])

    def ended(self) -> bytes:
        """Return all chunks, in the form of `syncd.core.parts.CHUNK`."""
        if self._size:
            self._close()
        return bytes(self._chunks)

    def _take(self, piece: memoryview) -> None:
        at, known = 0, len(self._before)
        text = self._before + bytes(piece).translate(_TABLE)
        self._before = text[max(0, len(text) - len(self._pattern) + 1) :]
        while at < len(piece):
            latest = at + self._most - self._size
            first = max(at + 1, at + self._least - self._size) + known - len(self._pattern)
            found = text.find(self._pattern, max(0, first), latest + known)
            end = latest if found < 0 else found + len(self._pattern) - known
            now = piece[at:end]
            for hasher in self._hashers:
                hasher.update(now)
            self._size += len(now)
            at += len(now)
            if at == end:
                self._close()

    def _close(self) -> None:
        digest = b"".join(hasher.digest() for hasher in self._hashers)
        self._chunks += CHUNK.pack(digest, self._size)
        self._hashers, self._size = self._witness.begin(), 0
