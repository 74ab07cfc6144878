"""Memory that is used again from part to part, and goes back when nobody needs it."""

from __future__ import annotations

import threading

import pytest

from syncd.sources.buffers import Buffers, fresh


def test_a_loan_has_the_size_that_was_asked_for() -> None:
    """Also where what lies ready is larger."""
    buffers = Buffers()
    with buffers.in_use():
        with buffers.lend(100) as large:
            assert len(large) == 100
        with buffers.lend(40) as small:
            assert len(small) == 40
            small[:] = b"x" * 40


def test_what_comes_back_is_lent_again() -> None:
    """Within a series of loans no fresh memory is taken where there is some."""
    buffers = Buffers()
    with buffers.in_use():
        with buffers.lend(10) as first:
            first[:4] = b"mark"
        with buffers.lend(10) as second:
            assert bytes(second[:4]) == b"mark"


def test_two_loans_at_once_are_two_memories() -> None:
    """Nobody sees what another one writes."""
    buffers = Buffers()
    with buffers.in_use(), buffers.lend(4) as one, buffers.lend(4) as two:
        one[:], two[:] = b"aaaa", b"bbbb"
        assert bytes(one) == b"aaaa"


def test_nothing_is_kept_when_nobody_is_at_work() -> None:
    """Not after the series, and not after a loan outside of one."""
    buffers = Buffers()
    with buffers.in_use():
        with buffers.lend(10):
            pass
        assert buffers.kept_bytes() == 10
    assert buffers.kept_bytes() == 0
    with buffers.lend(10):
        pass
    assert buffers.kept_bytes() == 0


def test_of_two_series_the_last_one_to_end_gives_the_memory_back() -> None:
    """One file may be done while another is still being sent."""
    buffers = Buffers()
    with buffers.in_use():
        with buffers.in_use(), buffers.lend(10):
            pass
        assert buffers.kept_bytes() == 10
    assert buffers.kept_bytes() == 0


def test_what_is_too_small_goes_when_more_is_needed() -> None:
    """So what is kept never exceeds what was lent at once."""
    buffers = Buffers()
    with buffers.in_use():
        with buffers.lend(10), buffers.lend(10):
            pass
        with buffers.lend(20):
            assert buffers.kept_bytes() == 0
        assert buffers.kept_bytes() == 20


def test_a_loan_comes_back_after_a_failure() -> None:
    """As everything does."""
    buffers = Buffers()
    with buffers.in_use():
        with pytest.raises(ValueError, match="as ordered"), buffers.lend(10):
            raise ValueError("as ordered")
        assert buffers.kept_bytes() == 10


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
    assert buffers.kept_bytes() == 0


def test_fresh_memory_is_empty_and_writable() -> None:
    """Nothing of anybody else's is in it."""
    memory = fresh(5000)
    assert bytes(memory[:]) == bytes(5000)
    memory[0] = 7
