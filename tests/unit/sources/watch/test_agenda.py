"""What the watch tree has still to do: nothing waits twice, and there is sleep only when nothing waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncd.sources.watch.agenda import PAIR_SECONDS, TRIES, Agenda, Mode
from syncd.sources.watch.map import Node, WatchMap


@pytest.fixture
def work() -> Agenda:
    return Agenda()


@pytest.fixture
def node() -> Node:
    return WatchMap().add_root("docs", 1)


def test_without_work_it_sleeps_for_ever(work: Agenda) -> None:
    """Nothing to do means no deadline at all."""
    assert (work.patience(), work.is_placing) == (None, False)


@pytest.mark.parametrize(
    ("add", "patience", "is_placing"),
    [
        (lambda work, node: work.suspect(node, "a"), 0.0, True),
        (lambda work, node: work.suspect_root("docs"), 0.0, True),
        (lambda work, node: work.visit(node, Mode.NEW), 0.0, True),
        (lambda work, node: work.look_at_all("docs"), 0.0, True),
        (lambda work, node: work.remove(1), 0.0, False),
        (lambda work, node: work.park(node, 1), PAIR_SECONDS, False),
        (lambda work, node: work.mistrust(node), PAIR_SECONDS, False),
    ],
    ids=["suspect", "root", "visit", "stale", "removal", "parked", "uncertain"],
)
def test_every_kind_of_work_keeps_it_awake(
    work: Agenda, node: Node, add: Callable[[Agenda, Node], None], patience: float, is_placing: bool
) -> None:
    """What can be done now is done now; what waits for records waits a little."""
    add(work, node)

    assert (work.patience(), work.is_placing) == (patience, is_placing)


def test_suspects_are_taken_once_with_all_that_was_said(work: Agenda, node: Node) -> None:
    """One place is looked at once, and remembers everything that records said about it."""
    work.suspect(node, "a", 1)
    work.suspect(node, "b")
    work.suspect(node, "a", 4)

    assert [work.take_suspects(), work.take_suspects()] == [{node: {"a": 5, "b": 0}}, {}]


def test_roots_are_taken_once(work: Agenda) -> None:
    """A suspect root is looked at once, however often it was named."""
    work.suspect_root("docs")
    work.suspect_root("docs")

    assert [work.take_roots(), work.take_roots()] == [["docs"], []]


def test_visits_are_bounded_and_in_order(work: Agenda, node: Node) -> None:
    """No more visits than asked for, first come first served."""
    for mode in (Mode.NEW, Mode.DEEP, Mode.AGAIN):
        work.visit(node, mode)

    assert [mode for _, mode in work.take_visits(2)] == [Mode.NEW, Mode.DEEP]
    assert [mode for _, mode in work.take_visits(2)] == [Mode.AGAIN]


def test_whole_source_waits_for_the_other_visits(work: Agenda, node: Node) -> None:
    """A second overflow during the walk after the first one leads to one more walk, not to one a record."""
    work.visit(node, Mode.DEEP)
    work.look_at_all("docs")
    work.look_at_all("docs")
    assert work.take_stale() == []
    list(work.take_visits(10))

    assert [work.take_stale(), work.take_stale()] == [["docs"], []]


def test_dropped_source_is_not_looked_at(work: Agenda) -> None:
    """A source that is not watched any more has no stale places."""
    work.look_at_all("docs")
    work.drop_source("docs")

    assert work.take_stale() == []


def test_uncertain_directory_is_hopeless_after_many_quiet_looks(work: Agenda, node: Node) -> None:
    """Only looks that no record preceded count, and one success forgives all."""
    work.mistrust(node)
    assert not any(work.is_hopeless(node, quiet=False) for _ in range(10 * TRIES))
    assert [work.is_hopeless(node, quiet=True) for _ in range(TRIES + 1)] == [False] * TRIES + [True]
    work.trust(node)

    assert (work.uncertain(), work.is_hopeless(node, quiet=True)) == ([], False)


def test_doubting_again_does_not_start_the_count_anew(work: Agenda, node: Node) -> None:
    """A directory that stays uncertain becomes hopeless although each vain look doubts it again."""
    for _ in range(TRIES + 1):
        work.mistrust(node)
        hopeless = work.is_hopeless(node, quiet=True)

    assert hopeless


def test_parked_directory_expires_in_the_turn_after(work: Agenda, node: Node) -> None:
    """The other half of a move may come with the next records, not later."""
    work.park(node, 3)

    assert [work.take_expired(3), work.take_expired(4), work.take_expired(5)] == [[], [node], []]


def test_unparked_directory_does_not_expire(work: Agenda, node: Node) -> None:
    """What came to light is not let go."""
    work.park(node, 3)
    work.unpark(node)

    assert work.take_expired(9) == []


def test_removals_are_bounded_and_can_be_taken_back(work: Agenda) -> None:
    """A watch that is wanted again is not ended; the others are, so many at once."""
    for watch in range(5):
        work.remove(watch)
    work.keep(3)

    assert sorted(work.take_removals(2) + work.take_removals(9)) == [0, 1, 2, 4]
