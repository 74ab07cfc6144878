"""A filter that never denies what it was given, and rarely claims what it was not given."""

from __future__ import annotations

import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from syncd.state.novelty import BloomFilter

NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)
"""As digests and as the interpreter's own hashes, which may be negative."""


@given(st.lists(NUMBERS, max_size=200))
def test_what_was_added_is_never_denied(numbers: list[int]) -> None:
    held = BloomFilter(1 << 10)
    for number in numbers:
        held.add(number)
    assert all(held.may_hold(number) for number in numbers)


@given(NUMBERS)
def test_an_empty_one_holds_nothing(number: int) -> None:
    assert not BloomFilter(1 << 10).may_hold(number)


def test_it_errs_as_rarely_as_it_says() -> None:
    """With an eighth as many numbers as bits, (1 - 1/e^(1/4))^2 of all others are claimed: 0.049."""
    chance = random.Random(1)
    held = BloomFilter(1 << 12)
    for _ in range(1 << 9):
        held.add(chance.getrandbits(64))
    claimed = sum(held.may_hold(chance.getrandbits(64)) for _ in range(20_000))
    assert 0.035 < claimed / 20_000 < 0.065


def test_many_threads_lose_no_bit() -> None:
    """They write to the same few bytes."""
    chance = random.Random(2)
    held = BloomFilter(1 << 16)
    shares = [[chance.getrandbits(64) for _ in range(3000)] for _ in range(8)]

    def fill(numbers: list[int]) -> None:
        for number in numbers:
            held.add(number)

    threads = [threading.Thread(target=fill, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(held.may_hold(number) for share in shares for number in share)
