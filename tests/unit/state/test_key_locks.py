"""The locks on keys: one thread changes an object at a time, copies share it, no thread waits in a circle."""

from __future__ import annotations

import threading

import pytest

from syncd.core.errors import KeyBusy, Stopped
from syncd.state import key_locks
from syncd.state.key_locks import KeyLocks
from tests.support.waiting import Holder, wait_until

A, B = ("store", "a"), ("store", "b")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_locks, "_WAIT_SECONDS", 0.01)


@pytest.fixture
def locks() -> KeyLocks:
    return KeyLocks()


def test_one_thread_changes_an_object_at_a_time(locks: KeyLocks) -> None:
    """Of all engines of a store; the same key of another store is another object."""
    first = Holder(lambda: locks.exclusive("old", A, waiting=lambda: None))
    assert first.inside.wait(30)
    with locks.exclusive("new", ("other", "a")):
        pass
    asked = threading.Event()
    second = Holder(lambda: locks.exclusive("new", A, waiting=asked.set))
    assert asked.wait(30)
    assert not second.inside.is_set()
    first.leave()
    assert second.inside.wait(30)
    second.leave()


def test_a_thread_that_may_not_wait_is_told_at_once(locks: KeyLocks) -> None:
    """It may hold another key, which the holder of this one could want."""
    first = Holder(lambda: locks.exclusive("one", A))
    assert first.inside.wait(30)
    with pytest.raises(KeyBusy), locks.exclusive("one", B), locks.exclusive("one", A):
        pass
    first.leave()


def test_waiting_ends_after_a_while_or_with_the_process(
    locks: KeyLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that hangs holds up no worker without end."""
    monkeypatch.setattr(key_locks, "MOST_WAITS", 3)
    asked: list[int] = []

    def stop() -> None:
        raise Stopped

    first = Holder(lambda: locks.exclusive("one", A))
    assert first.inside.wait(30)
    with pytest.raises(KeyBusy), locks.exclusive("two", A, waiting=lambda: asked.append(1)):
        pass
    with pytest.raises(Stopped), locks.exclusive("two", A, waiting=stop):
        pass
    first.leave()
    assert len(asked) == 3


def test_a_thread_may_enter_again_what_it_holds(locks: KeyLocks) -> None:
    """The key is free when the outer one leaves."""
    with locks.exclusive("one", A):
        with locks.exclusive("one", A):
            pass
        with locks.shared("one", A) as free:
            assert free is False
    with locks.shared("one", A) as free:
        assert free is True


def test_a_copy_never_waits_and_holds_off_who_would_change_its_source(locks: KeyLocks) -> None:
    """Copies share the key; the change waits for all of them."""
    copies = [locks.shared("one", A), locks.shared("one", A)]
    assert [copy.__enter__() for copy in copies] == [True, True]
    asked = threading.Event()
    writer = Holder(lambda: locks.exclusive("one", A, waiting=asked.set))
    assert asked.wait(30)
    copies[0].__exit__(None, None, None)
    assert not writer.inside.is_set()
    copies[1].__exit__(None, None, None)
    assert writer.inside.wait(30)
    with locks.shared("one", A) as free:
        assert free is False
    writer.leave()


def test_two_files_that_are_each_others_twin_do_not_wait_for_each_other(locks: KeyLocks) -> None:
    """Each changes its own object and would copy the other's: both are told to send instead."""
    with locks.exclusive("one", A), locks.exclusive("one", B):  # noqa: SIM117
        with locks.shared("one", A) as one, locks.shared("one", B) as other:
            assert (one, other) == (False, False)


def test_an_abandoned_lock_is_free_and_its_holder_hears_of_it(locks: KeyLocks) -> None:
    """All keys of that owner and no other's; the one who came after keeps the key when the first leaves."""
    lost = threading.Event()
    copy = locks.shared("old", ("store", "c"))
    assert copy.__enter__() is True
    old = Holder(lambda: locks.exclusive("old", A, lost=lost.set))
    assert old.inside.wait(30)
    with locks.exclusive("new", B):
        assert locks.abandon("old") == [A]
        with locks.exclusive("new", ("store", "c")):
            copy.__exit__(None, None, None)
        with locks.exclusive("new", A):
            old.leave()
            assert lost.is_set()
            with locks.shared("one", A) as free:
                assert free is False


def test_no_key_is_remembered_after_use(locks: KeyLocks) -> None:
    """Memory does not grow with the number of files."""
    for number in range(100):
        with locks.exclusive("one", ("store", f"w{number}")), locks.shared("one", ("store", f"c{number}")):
            pass
    wait_until("all are free", lambda: not locks._holders and not locks._copies)
