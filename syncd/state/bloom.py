"""A set in fixed memory that may err in one direction: what it does not hold was certainly never added.

Source: B. H. Bloom, Space/time trade-offs in hash coding with allowable errors, CACM 13 (1970).
"""

from __future__ import annotations

import threading

BITS = 1 << 22
"""Half a megabyte. With 100,000 items one look in 450 errs, with a million one in seven, then nearly all."""


class BloomFilter:
    """Numbers that are hashes already: of 64 bits, all as good as random. For any thread."""

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
