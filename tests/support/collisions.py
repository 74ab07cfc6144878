"""Pairs of contents that are made to have one XXH3.

In each block of 1024 bytes, XXH3 XORs each word of the content with a word of its secret, multiplies the two
halves, and adds up the products for each of eight lanes, and the words themselves in the neighbouring lane.
The secret is public; a seed is added to its even words, and subtracted from its odd ones.
"""

from __future__ import annotations

import random
import struct

SIZE = 4096
_FIRST_HALVES = bytes.fromhex("b8fe6c39"), bytes.fromhex("7c01812c")
"""Of the secret's words 0 and 1."""
_DIFFERENCE = 9306979725765903376
"""The likeliest XOR of the secret's words 0 and 12 under a random seed: it is that under one in 8192."""
_SECOND = 12 * 64


def public_pair(at: int = 0, size: int = SIZE, filling: bytes = b".") -> tuple[bytes, bytes]:
    """Two contents that have one XXH3 without a seed. They differ in the block of 1024 bytes at `at`.

    Two words make one factor 0 in both, so that only the sum of their other halves counts.
    """

    def content(one: bytes, two: bytes) -> bytes:
        data = bytearray(filling * size)
        data[at : at + 8] = _FIRST_HALVES[0] + one
        data[at + 64 : at + 72] = _FIRST_HALVES[1] + two
        return bytes(data)

    return content(b"100 ", b"EUR "), content(b"EUR ", b"100 ")


def pair_for_many_seeds() -> tuple[bytes, bytes]:
    """Two contents that have one XXH3 under each seed for which `_DIFFERENCE` is right.

    Two words of one lane exchange their products; as each is the complement of the other, their sum stays.
    """
    chance = random.Random(0)
    one = bytearray(chance.randbytes(SIZE))
    other = bytearray(one)
    word = chance.getrandbits(64)
    complement = word ^ ((1 << 64) - 1)
    for data, first, second in (
        (one, word, complement),
        (other, complement ^ _DIFFERENCE, word ^ _DIFFERENCE),
    ):
        struct.pack_into("<Q", data, 0, first)
        struct.pack_into("<Q", data, _SECOND, second)
    return bytes(one), bytes(other)
