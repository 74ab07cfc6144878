"""Looks that are to come: one per file, at their time, bounded in number and in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.model import FileRef
from syncd.secondlooks import SecondLooks

A, B, C = FileRef("a", "one"), FileRef("b", "two"), FileRef("b", "three")


@pytest.fixture
def looks() -> SecondLooks:
    return SecondLooks(10)


def popped(looks: SecondLooks, now: float) -> list[FileRef]:
    found = []
    while (ref := looks.pop(now)) is not None:
        found.append(ref)
    return found


def test_a_look_is_due_at_its_time_and_only_once(looks: SecondLooks) -> None:
    looks.set(A, 5.0)
    looks.set(B, 3.0)

    assert looks.next_due() == 3.0
    assert popped(looks, 2.9) == []
    assert popped(looks, 5.0) == [B, A]
    assert popped(looks, 9.0) == []
    assert looks.next_due() is None


@pytest.mark.parametrize("due", [1.0, 9.0])
def test_what_is_set_last_counts(looks: SecondLooks, due: float) -> None:
    looks.set(A, 5.0)
    looks.set(A, due)

    assert looks.next_due() == due
    assert popped(looks, 99.0) == [A]


def test_a_discarded_source_has_none(looks: SecondLooks) -> None:
    for ref in (A, B, C):
        looks.set(ref, 1.0)
    looks.discard("b")

    assert len(looks) == 1
    assert popped(looks, 1.0) == [A]


def test_too_many_are_not_remembered_but_known_ones_may_move() -> None:
    looks = SecondLooks(1)
    looks.set(A, 5.0)
    looks.set(B, 1.0)
    looks.set(A, 2.0)

    assert popped(looks, 9.0) == [A]


def test_a_file_that_is_set_without_end_takes_no_memory(looks: SecondLooks) -> None:
    for number in range(10_000):
        looks.set(A, float(number))

    assert len(looks._heap) < 200


@given(st.lists(st.tuples(st.sampled_from(["set", "pop"]), st.sampled_from([A, B, C]), st.integers(0, 9))))
def test_it_is_a_table_of_times(steps: list[tuple[str, FileRef, int]]) -> None:
    looks, table = SecondLooks(10), dict[FileRef, float]()
    for kind, ref, at in steps:
        if kind == "set":
            looks.set(ref, at)
            table[ref] = at
        else:
            due = {known for known, time in table.items() if time <= at}
            assert set(popped(looks, at)) == due
            table = {known: time for known, time in table.items() if known not in due}
        assert looks.next_due() == min(table.values(), default=None)
        assert len(looks) == len(table)
