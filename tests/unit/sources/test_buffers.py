"""Memory that is used again from part to part, and goes back when no thread needs it."""

from __future__ import annotations

import threading

import pytest

from syncd.sources.buffers import Buffers, fresh


def kept_bytes(buffers: Buffers) -> int:
    return sum(map(len, buffers._free))


def test_a_loan_has_its_size_and_is_lent_again() -> None:
    """Within a series of loans no fresh memory is taken where there is some, also where that is larger."""
    buffers = Buffers()
    with buffers.in_use():
        with buffers.lend(10) as first:
            first[:4] = b"mark"
        with buffers.lend(5) as second:
            assert bytes(second) == b"mark\0"


def test_nothing_is_kept_when_no_thread_is_at_work() -> None:
    """Not after the last series of several, nor after a loan outside of one; a failure changes nothing."""
    buffers = Buffers()
    with buffers.in_use():
        with pytest.raises(ValueError, match="as ordered"), buffers.in_use(), buffers.lend(10):
            raise ValueError("as ordered")
        assert kept_bytes(buffers) == 10
    assert kept_bytes(buffers) == 0
    with buffers.lend(10):
        pass
    assert kept_bytes(buffers) == 0


def test_what_is_too_small_goes_when_more_is_needed() -> None:
    """So what is kept never exceeds what was lent at once."""
    buffers = Buffers()
    with buffers.in_use():
        with buffers.lend(10), buffers.lend(10):
            pass
        with buffers.lend(20):
            assert kept_bytes(buffers) == 0
        assert kept_bytes(buffers) == 20


def test_many_threads_never_share_a_loan() -> None:
    """Each finds what it wrote."""
    buffers = Buffers()
    wrong: list[bytes] = []

    def borrow(letter: bytes) -> None:
        for _ in range(200):
            with buffers.lend(64) as view:
                view[:] = letter * 64
                if bytes(view) != letter * 64:
                    wrong.append(letter)

    with buffers.in_use():
        threads = [threading.Thread(target=borrow, args=(bytes([65 + n]),)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_fresh_memory_is_empty_and_writable() -> None:
    """Nothing of another process is in it."""
    memory = fresh(5000)
    assert bytes(memory[:]) == bytes(5000)
    memory[0] = 7
