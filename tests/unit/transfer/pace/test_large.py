"""Large files leave room for small ones, and none waits while there is room for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncd.core.errors import NoRoom
from syncd.core.model import FileRef
from syncd.pipeline.queue import WorkQueue
from syncd.transfer.pace.large import LargeFiles
from tests.support.clock import FakeClock

MOST = 2
A, B, C, D, E = (FileRef("docs", name) for name in "abcde")
SMALL = FileRef("docs", "small")
OTHER = FileRef("other", "x")


class Crew:
    """A queue and its large files, worked off in the order that a test wants."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.queue = WorkQueue(self.clock.monotonic)
        self.large = LargeFiles(MOST, self.queue.call, self.queue.is_left_out)

    def mark(self, *refs: FileRef) -> None:
        for ref in refs:
            self.queue.mark(ref, quiet_seconds=0.0, event=True)

    def begin(self) -> FileRef | None:
        """What a worker does first: takes a file, and puts it off where there is no room."""
        taken = self.queue.take_due()
        if taken is None:
            return None
        try:
            self.large.enter(taken.ref)
        except NoRoom as error:
            self.queue.defer(taken.ref, error.seconds, hold=False)
            self.large.wait(taken.ref)
            self.large.ended(taken.ref)
        return taken.ref

    def end(self, ref: FileRef) -> None:
        self.queue.done(ref)
        self.large.ended(ref)

    def fill(self, *more: FileRef) -> None:
        """As many as may be are under way, and others were put off."""
        self.mark(A, B, *more)
        for ref in (A, B, *more):
            assert self.begin() == ref
        assert self.large.under_way == {A, B}
        assert self.begin() is None


@pytest.fixture
def crew() -> Crew:
    return Crew()


def test_each_that_ends_lets_the_next_one_come(crew: Crew) -> None:
    """In the order in which they came, and before what was marked after them."""
    crew.fill(C, D, E)
    crew.clock.advance(1.0)
    crew.mark(SMALL)
    for ended, follows in ((A, C), (C, D), (B, E)):
        crew.end(ended)
        assert crew.begin() == follows
        assert len(crew.large.under_way) == MOST


def test_one_that_was_put_off_as_the_last_one_ended_is_called_by_its_own_worker(crew: Crew) -> None:
    """Between the two nothing else would call it."""
    crew.fill()
    crew.mark(C)
    taken = crew.queue.take_due()
    assert taken is not None
    with pytest.raises(NoRoom):
        crew.large.enter(C)
    crew.end(A)
    crew.queue.defer(C, 30.0, hold=False)
    crew.large.wait(C)
    crew.large.ended(C)
    assert crew.begin() == C
    assert crew.large.under_way == {B, C}


def gone(crew: Crew) -> None:
    crew.queue.discard("docs")
    crew.mark(OTHER)
    crew.begin()


def taken_in_between(crew: Crew) -> None:
    crew.mark(C)  # an event hastens it
    assert crew.begin() == C


def paused(crew: Crew) -> None:
    crew.queue.hold(0.0, {"docs": 1e9})


@pytest.mark.parametrize("what", [gone, taken_in_between, paused])
def test_one_that_does_not_come_holds_up_no_other(crew: Crew, what: Callable[[Crew], None]) -> None:
    """It is not waited for, whatever the reason."""
    crew.fill(C)
    crew.mark(OTHER)
    assert crew.begin() == OTHER
    what(crew)
    for ended in (A, B):
        crew.large.ended(ended)
        crew.begin()
    assert OTHER in crew.large.under_way


def test_those_whose_folder_does_not_answer_take_no_room(crew: Crew) -> None:
    """Nor do they keep what waits from being called."""
    crew.mark(OTHER)
    assert crew.begin() == OTHER
    crew.mark(A, B)
    assert crew.begin() == A
    assert crew.begin() == B
    assert crew.large.under_way == {OTHER, A}
    crew.queue.leave_out(frozenset({"other"}))
    crew.large.ended(SMALL)
    assert crew.begin() == B
    assert crew.large.under_way == {OTHER, A, B}
