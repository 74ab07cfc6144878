"""Files and contents that are certainly new, so that the database need not be asked about them.

A first pass asks twice for every file: for a row of its path, and for a row with its content. Hardly ever is
there one. If the database was empty when it was opened, two Bloom filters know all that came in since, and
answer most of these questions. If it was not, the database is asked. Without them, a pass over 10,000 files
of 4 KiB takes 12 % more processor time and 7 to 17 % more wall clock time (bench, scenario b).
"""

from __future__ import annotations

import threading

from syncd.core.model import FileRef, Fingerprint

BITS = 1 << 22
"""Half a megabyte. With 100,000 items one look in 450 errs, with a million one in seven, then nearly all."""


class BloomFilter:
    """A set of 64-bit hashes in fixed memory; what it does not hold was never added. For any thread.

    Source: B. H. Bloom, Space/time trade-offs in hash coding with allowable errors, CACM 13 (1970).
    """

    def __init__(self, bits: int = BITS) -> None:
        self._mask = bits - 1
        self._table = bytearray(bits // 8)
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        """From now on the number is in."""
        first, second = number & self._mask, (number >> 32) & self._mask
        with self._lock:  # two threads at one byte would lose a bit
            self._table[first >> 3] |= 1 << (first & 7)
            self._table[second >> 3] |= 1 << (second & 7)

    def may_hold(self, number: int) -> bool:
        """False: the number was never added."""
        first, second = number & self._mask, (number >> 32) & self._mask
        table = self._table
        return bool(table[first >> 3] >> (first & 7) & table[second >> 3] >> (second & 7) & 1)


class Novelty:
    """What a database may hold that was `empty` when it was opened. For any thread."""

    def __init__(self, *, empty: bool) -> None:
        self._files = BloomFilter() if empty else None
        self._contents = BloomFilter() if empty else None

    def add(self, ref: FileRef, content: Fingerprint) -> None:
        """Note a row, before it can be found."""
        if self._files is not None and self._contents is not None:
            self._files.add(hash(ref))
            self._contents.add(_number(content))

    def is_new_file(self, ref: FileRef) -> bool:
        """There is certainly no row of this file."""
        return self._files is not None and not self._files.may_hold(hash(ref))

    def is_new_content(self, content: Fingerprint) -> bool:
        """There is certainly no row with this content, of any file in any store."""
        return self._contents is not None and not self._contents.may_hold(_number(content))


def _number(content: Fingerprint) -> int:
    return int.from_bytes(content.digest[:8])
