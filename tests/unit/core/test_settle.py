"""Which dirty files are quiet: the rules one by one, then any history against a model that is too simple to
be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from syncd.core.model import FileRef
from syncd.core.settle import DirtyFiles, Taken

A, B, C = FileRef("s", "a"), FileRef("s", "b"), FileRef("t", "c")


def _mark(dirty: DirtyFiles, ref: FileRef, now: float, *, event: bool = True, quiet: float = 2.0) -> None:
    dirty.mark(ref, now, quiet_seconds=quiet, event=event)


def _taken(dirty: DirtyFiles, now: float) -> FileRef | None:
    taken = dirty.take(now)
    return None if taken is None else taken.ref


def _end(dirty: DirtyFiles, ref: FileRef, end: str) -> None:
    if end == "done":
        dirty.done(ref)
    else:
        dirty.defer(ref, 500.0, hold=True)


# ---- becoming due ---------------------------------------------------------------------------------------


def test_nothing_is_dirty_at_first() -> None:
    """An empty set gives nothing and has no next time."""
    dirty = DirtyFiles()

    assert dirty.take(1e9) is None
    assert dirty.next_due() == inf
    assert dirty.waiting() == 0
    assert dirty.counts() == {}


def test_taken_when_quiet_and_not_before() -> None:
    """A marked file is due when its quiet period has passed, to the moment."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)

    assert dirty.next_due() == 12.0
    assert dirty.take(11.99) is None
    assert Taken(A, event=True, first_marked=10.0) == dirty.take(12.0)
    assert dirty.next_due() == inf


def test_each_event_puts_it_off() -> None:
    """A file that keeps changing is not read until it stops."""
    dirty = DirtyFiles()
    for now in (10.0, 11.0, 12.0, 13.0):
        _mark(dirty, A, now)

    assert dirty.take(14.99) is None
    assert dirty.next_due() == 15.0
    assert Taken(A, event=True, first_marked=10.0) == dirty.take(15.0)


def test_a_file_that_only_grows_is_put_off_so_long_and_no_longer() -> None:
    """Then it is due; if that try fails, an event neither hastens the next one nor puts it off."""
    dirty = DirtyFiles()
    for now in (10.0, 11.0, 12.0, 13.0):
        dirty.mark(A, now, quiet_seconds=2.0, event=True, longest_seconds=4.5)
    assert dirty.next_due() == 14.5
    assert _taken(dirty, 14.5) == A
    dirty.mark(A, 14.6, quiet_seconds=2.0, event=True, longest_seconds=4.5)
    dirty.defer(A, 16.0, hold=False)
    due = dirty.next_due()
    dirty.mark(A, 14.7, quiet_seconds=2.0, event=True, longest_seconds=4.5)
    assert dirty.next_due() == due == 16.6
    assert _taken(dirty, 16.6) == A
    dirty.done(A)
    dirty.mark(A, 20.0, quiet_seconds=2.0, event=True, longest_seconds=4.5)
    assert dirty.next_due() == 22.0


def test_what_is_dirty_again_is_told_from_what_still_is() -> None:
    """`all` knows since when, also of a file that is being processed."""
    dirty = DirtyFiles()
    for ref, now in ((A, 1.0), (B, 2.0)):
        _mark(dirty, ref, now)
    assert (dirty.all(1.5), dirty.all(2.0)) == ([A], [A, B])
    assert _taken(dirty, 3.0) == A
    assert (dirty.all(0.5), dirty.all(1.5)) == ([], [A])
    _mark(dirty, A, 3.5)
    dirty.done(A)
    assert (dirty.all(2.0), dirty.all()) == ([B], [B, A])


@pytest.mark.parametrize("while_processing", [False, True])
@pytest.mark.parametrize("event", [None, False, True])
def test_what_was_sent_a_moment_ago_is_told_until_it_is_marked(
    while_processing: bool, event: bool | None
) -> None:
    """By an event or by a scan, before or after; a worker that takes it may find anything."""
    files, ref = DirtyFiles(), FileRef("s", "a")
    for order in ("sent first", "sent last"):
        if while_processing:
            files.mark(ref, 0.0, quiet_seconds=0.0, event=True)
            assert files.take(0.0)
        if event is not None and order == "sent last":
            files.mark(ref, 1.0, quiet_seconds=0.0, event=event)
        files.mark(ref, 1.0, quiet_seconds=2.0, event=False, sent=True)
        if event is not None and order == "sent first":
            files.mark(ref, 1.0, quiet_seconds=0.0, event=event)
        if while_processing:
            files.done(ref)
        assert files.all() == [ref]
        assert files.sent() == ({ref} if event is None else set())
        assert files.take(10.0)
        assert files.sent() == set()
        files.done(ref)


def test_scan_makes_dirty() -> None:
    """A scan's finding waits for the quiet period too, and is told apart from an event."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0, event=False)

    assert dirty.take(11.99) is None
    assert Taken(A, event=False, first_marked=10.0) == dirty.take(12.0)


@pytest.mark.parametrize("quiet", [0.0, 2.0, 100.0])
def test_scan_neither_postpones_nor_hastens(quiet: float) -> None:
    """A scan that meets a dirty file changes nothing about it."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    _mark(dirty, A, 11.0, event=False, quiet=quiet)

    assert dirty.next_due() == 12.0
    assert Taken(A, event=True, first_marked=10.0) == dirty.take(12.0)


def test_event_after_a_scan_counts_as_event() -> None:
    """An event on a file that a scan had found puts it off and is remembered as one."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0, event=False)
    _mark(dirty, A, 11.0)

    assert dirty.take(12.99) is None
    assert Taken(A, event=True, first_marked=10.0) == dirty.take(13.0)


def test_longest_due_first() -> None:
    """Of several quiet files the one that has been due the longest is taken first."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0, quiet=9.0)
    _mark(dirty, B, 11.0)
    _mark(dirty, C, 12.0)

    assert [_taken(dirty, 100.0) for _ in range(4)] == [B, C, A, None]


@pytest.mark.parametrize("chance", [0.3, 0.999])
def test_with_chance_any_one_that_is_due(chance: float) -> None:
    """Not the first, unless chance hits one whose time has not come; each once, and none before its time."""
    dirty = DirtyFiles()
    refs = [FileRef("s", str(number)) for number in range(30)]
    for number, ref in enumerate(refs):
        dirty.mark(ref, 0.0, quiet_seconds=1.0 if number < 20 else 100.0, event=False)
    taken = []
    while (one := dirty.take(50.0, chance)) is not None:
        taken.append(one.ref)
    assert (taken[0] != refs[0]) is (chance < 20 / 30)
    assert sorted(taken, key=refs.index) == refs[:20]
    assert dirty.next_due() == 100.0


def test_equally_due_in_the_order_of_marking() -> None:
    """Files that became dirty in one burst are taken in the order in which they did."""
    dirty = DirtyFiles()
    refs = [FileRef("s", f"{number}") for number in range(50)]
    for ref in refs:
        _mark(dirty, ref, 10.0)

    assert refs == [_taken(dirty, 12.0) for _ in refs]


# ---- processing -----------------------------------------------------------------------------------------


def test_clean_after_done() -> None:
    """A file that was not marked while it was processed is clean afterwards."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    dirty.done(A)

    assert dirty.take(1e9) is None
    assert not dirty.is_processing(A)


@pytest.mark.parametrize("event", [True, False])
def test_marked_while_processing_runs_again_and_never_twice_at_once(event: bool) -> None:
    """A mark during processing, of either kind, gives the file to no other worker, and runs it again."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    _mark(dirty, A, 13.0, event=event)

    assert dirty.take(1e9) is None
    assert dirty.next_due() == inf
    dirty.done(A)
    assert dirty.next_due() == 15.0
    assert Taken(A, event=event, first_marked=13.0) == dirty.take(15.0)


def test_events_while_processing_put_off_what_comes_after() -> None:
    """The run after this one waits until the file is quiet, and a scan does not change that."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    _mark(dirty, A, 13.0)
    _mark(dirty, A, 20.0)
    _mark(dirty, A, 21.0, event=False, quiet=0.0)
    dirty.done(A)

    assert dirty.next_due() == 22.0


@pytest.mark.parametrize("end", ["done", "defer"])
@pytest.mark.parametrize("state", ["never marked", "waiting", "already done"])
def test_ending_what_nobody_processes(end: str, state: str) -> None:
    """Ending a processing that is not under way is a bug of the caller and loses no file silently."""
    dirty = DirtyFiles()
    if state != "never marked":
        _mark(dirty, A, 10.0)
    if state == "already done":
        dirty.take(12.0)
        dirty.done(A)

    with pytest.raises(ValueError, match="s:a"):
        _end(dirty, A, end)


# ---- deferring ------------------------------------------------------------------------------------------


def _deferred(*, hold: bool, until: float = 100.0) -> DirtyFiles:
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    dirty.defer(A, until, hold=hold)
    return dirty


@pytest.mark.parametrize("hold", [True, False])
def test_deferred_until_its_time(hold: bool) -> None:
    """A deferred file is still dirty, since when it first was, and due when its time comes."""
    dirty = _deferred(hold=hold)

    assert not dirty.is_processing(A)
    assert dirty.waiting() == 1
    assert dirty.take(99.0) is None
    assert Taken(A, event=True, first_marked=10.0) == dirty.take(100.0)


def test_event_hastens_a_deferred_file() -> None:
    """A change is a reason to try again soon: perhaps it was the cure."""
    dirty = _deferred(hold=False)
    _mark(dirty, A, 20.0)

    assert dirty.next_due() == 22.0
    assert Taken(A, event=True, first_marked=10.0) == dirty.take(22.0)
    assert dirty.next_due() == inf


def test_event_does_not_hasten_a_held_file() -> None:
    """What is held (the whole store is down) stays so however often the file changes."""
    dirty = _deferred(hold=True)
    _mark(dirty, A, 20.0)

    assert dirty.next_due() == 100.0


def test_event_puts_off_a_held_file() -> None:
    """When its time comes, a held file that is just being written still has to become quiet."""
    dirty = _deferred(hold=True)
    _mark(dirty, A, 99.0)

    assert dirty.next_due() == 101.0


@pytest.mark.parametrize("hold", [True, False])
def test_scan_does_not_hasten_a_deferred_file(hold: bool) -> None:
    """A scan finds a failing file dirty every time; it must not turn backoff into a busy loop."""
    dirty = _deferred(hold=hold)
    _mark(dirty, A, 20.0, event=False, quiet=0.0)

    assert dirty.next_due() == 100.0


@pytest.mark.parametrize(("hold", "expected"), [(False, 15.0), (True, 100.0)])
def test_event_while_processing_before_a_deferral(hold: bool, expected: float) -> None:
    """An event during the processing that failed hastens the next try just as one after it would."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    _mark(dirty, A, 13.0)
    dirty.defer(A, 100.0, hold=hold)

    assert expected == dirty.next_due()
    assert dirty.waiting() == 1


def test_scan_while_processing_before_a_deferral() -> None:
    """A scan during the processing that failed does not hasten the next try."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    _mark(dirty, A, 13.0, event=False)
    dirty.defer(A, 100.0, hold=False)

    assert dirty.next_due() == 100.0


def test_holding_ends_with_the_next_try() -> None:
    """A file that was held once and then deferred normally is hastened by events again."""
    dirty = _deferred(hold=True)
    dirty.take(100.0)
    dirty.defer(A, 200.0, hold=False)
    _mark(dirty, A, 110.0)

    assert dirty.next_due() == 112.0


def test_scan_found_stays_scan_found_through_deferrals() -> None:
    """Whether an event marked the file is not forgotten, and not invented, by a failed try."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0, event=False)
    dirty.take(12.0)
    dirty.defer(A, 20.0, hold=False)

    assert Taken(A, event=False, first_marked=10.0) == dirty.take(20.0)


# ---- never quiet ----------------------------------------------------------------------------------------


def test_a_file_that_is_never_quiet_is_reported() -> None:
    """A log that is written every second is named, with the time at which that began."""
    dirty = DirtyFiles()
    for second in range(901):
        _mark(dirty, A, float(second))

    assert dirty.restless(900.0, 900.0) == []
    assert dirty.restless(900.5, 900.0) == [(A, 0.0)]
    assert dirty.restless(901.99, 900.0) == [(A, 0.0)]
    assert dirty.restless(902.0, 900.0) == []


def test_the_longest_restless_first() -> None:
    """Several are listed by how long they have been so."""
    dirty = DirtyFiles()
    for second in range(5, 100):
        for ref in (C, B, A)[: second // 20 + 1]:
            _mark(dirty, ref, float(second))

    assert dirty.restless(100.0, 10.0) == [(C, 5.0), (B, 20.0), (A, 40.0)]


def test_what_merely_waits_is_not_restless() -> None:
    """Neither a long settle period, nor a busy pool of workers, nor a deferral makes a file restless."""
    dirty = _deferred(hold=False, until=1e6)
    _mark(dirty, B, 10.0, quiet=1e6)
    _mark(dirty, C, 10.0)
    _mark(dirty, C, 11.0)

    assert dirty.restless(1e5, 900.0) == []


def test_one_event_on_a_deferred_file_is_not_restlessness() -> None:
    """The time that a file spent deferred, left alone, does not count."""
    dirty = _deferred(hold=False, until=1e6)
    _mark(dirty, A, 5000.0)
    _mark(dirty, A, 5001.0)

    assert dirty.restless(5002.0, 900.0) == []


def test_changing_under_every_try_is_restless() -> None:
    """A file that changes each time it is read is as restless as one that is never read."""
    dirty = DirtyFiles()
    _mark(dirty, A, 0.0)
    for second in range(3, 1000, 3):
        assert _taken(dirty, float(second)) == A
        _mark(dirty, A, second + 0.5)
        dirty.defer(A, float(second), hold=False)

    assert dirty.restless(1000.0, 900.0) == [(A, 0.0)]


def test_many_looks_in_vain_are_restless_after_a_minute() -> None:
    """A recording pauses for longer than it has to be quiet, and has changed each time it is read."""
    dirty = DirtyFiles()
    _mark(dirty, A, 0.0)
    _mark(dirty, B, 0.0)
    for second in range(3, 70, 3):
        assert {_taken(dirty, float(second)) for _ in range(2)} == {A, B}
        for ref in (A, B):
            if ref == A or second < 50:
                _mark(dirty, ref, second + 0.5)
            dirty.defer(ref, float(second), hold=False)
        assert dirty.restless(second + 0.5, 900.0) == ([(A, 0.0)] if second >= 60 else [])


def test_done_ends_restlessness() -> None:
    """Once it was carried, the count begins again."""
    dirty = DirtyFiles()
    for second in range(1000):
        _mark(dirty, A, float(second))
    dirty.take(1001.0)
    _mark(dirty, A, 1002.0)
    _mark(dirty, A, 1003.0)
    dirty.done(A)

    assert dirty.restless(1004.0, 900.0) == []


# ---- whole sources, and numbers -------------------------------------------------------------------------


def test_discard_forgets_one_source() -> None:
    """Only the files of the source go; the others keep their times."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    _mark(dirty, B, 11.0)
    _mark(dirty, C, 12.0)
    dirty.discard("s")

    assert dirty.counts() == {"t": 1}
    assert dirty.next_due() == 14.0
    assert _taken(dirty, 14.0) == C


@pytest.mark.parametrize("end", ["done", "defer"])
def test_discard_lets_what_is_processing_end(end: str) -> None:
    """A worker ends in peace, and its file does not come back, whatever marked it and however it ended."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    _mark(dirty, A, 13.0)
    dirty.discard("s")
    assert dirty.is_processing(A)
    _end(dirty, A, end)

    assert dirty.take(1e9) is None
    assert dirty.waiting() == 0


@pytest.mark.parametrize("end", ["done", "defer"])
def test_marked_again_after_discard(end: str) -> None:
    """A source that comes back under the same name gets its marks, even while an old worker ends."""
    dirty = DirtyFiles()
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    dirty.discard("s")
    _mark(dirty, A, 14.0)
    assert dirty.take(1e9) is None
    _end(dirty, A, end)

    assert Taken(A, event=True, first_marked=14.0) == dirty.take(16.0)


def test_numbers_for_status() -> None:
    """Waiting and processing are counted apart, and per source."""
    dirty = DirtyFiles()
    for ref in (A, B, C):
        _mark(dirty, ref, 10.0)
    _mark(dirty, A, 10.0)
    dirty.take(12.0)
    _mark(dirty, A, 13.0)

    assert dirty.waiting() == 2
    assert dirty.processing() == (A,)
    assert dirty.counts() == {"s": 1, "t": 1}


# ---- cost -----------------------------------------------------------------------------------------------


def test_a_million_marks_of_one_file_cost_no_memory() -> None:
    """The queue does not grow with marks, only with files."""
    dirty = DirtyFiles()
    _mark(dirty, B, 0.0)
    for number in range(1_000_000):
        _mark(dirty, A, number * 0.001)

    assert len(dirty._heap) == 2
    assert _taken(dirty, 1e9) == B
    assert _taken(dirty, 1e9) == A


def test_hastening_again_and_again_costs_no_memory() -> None:
    """Deferred and hastened in turn, a file leaves dead items behind; they are cleared away in time."""
    dirty = DirtyFiles()
    now = 0.0
    _mark(dirty, A, now)
    for _ in range(10_000):
        now += 10.0
        assert _taken(dirty, now) == A
        dirty.defer(A, now + 1e9, hold=False)
        _mark(dirty, A, now)
        assert len(dirty._heap) < 100

    assert dirty.next_due() == now + 2.0


def test_hastening_many_files_costs_no_more_than_as_many_again() -> None:
    """With many files the queue is at most twice as long as there are files, and some."""
    dirty = DirtyFiles()
    refs = [FileRef("s", f"{number}") for number in range(1000)]
    for ref in refs:
        _mark(dirty, ref, 0.0)
    for _ in refs:
        taken = dirty.take(10.0)
        assert taken is not None
        dirty.defer(taken.ref, 1e9, hold=False)
    for step in range(1, 10):
        for ref in refs:
            _mark(dirty, ref, 0.0, quiet=1e6 / step)
            assert len(dirty._heap) <= 2 * len(refs) + 64

    assert sorted(refs) == sorted(filter(None, (_taken(dirty, 1e6) for _ in refs)))


# ---- any history ----------------------------------------------------------------------------------------


@dataclass
class Naive:
    """One dirty file as the interface describes it, without any queue."""

    due: float
    first_marked: float
    event: bool
    held: bool = False
    hasty: bool = False


class AnyHistory(RuleBasedStateMachine):
    """Drives `DirtyFiles` and plain dictionaries side by side, with time that only goes on."""

    refs = st.builds(FileRef, source=st.sampled_from(["s", "t"]), path=st.sampled_from("abcd"))
    seconds = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0, 100.0])

    def __init__(self) -> None:
        super().__init__()
        self.dirty = DirtyFiles()
        self.now = 0.0
        self.waiting: dict[FileRef, Naive] = {}
        self.again: dict[FileRef, Naive] = {}
        self.processing: dict[FileRef, Taken] = {}
        self.discarded: set[FileRef] = set()
        self.paused: dict[str, float] = {}

    def _is_free(self, source: str) -> bool:
        return self.paused.get(source, 0.0) <= self.now

    @rule(paused=st.dictionaries(st.sampled_from(["s", "t"]), st.sampled_from([1.0, 10.0, inf])))
    def pause(self, paused: dict[str, float]) -> None:
        self.paused = {source: self.now + seconds for source, seconds in paused.items()}
        self.dirty.pause(self.paused)

    @rule(source=st.sampled_from(["s", "t"]))
    def hasten(self, source: str) -> None:
        self.dirty.hasten(self.now, lambda ref: ref.source == source)
        for ref, file in self.waiting.items():
            if ref.source == source and file.due > self.now:
                file.due, file.hasty = self.now, True

    @rule(ref=refs)
    def call(self, ref: FileRef) -> None:
        assert self.dirty.call(ref) is (ref in self.waiting)
        if ref in self.waiting:
            file = self.waiting[ref]
            file.due = min(file.due, file.first_marked)

    @staticmethod
    def _apply(file: Naive, due: float, event: bool) -> None:
        if event:
            file.due = max(file.due, due) if file.held else due
            file.event, file.hasty = True, False

    @rule(seconds=seconds)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(ref=refs, quiet=seconds, event=st.booleans())
    def mark(self, ref: FileRef, quiet: float, event: bool) -> None:
        self.dirty.mark(ref, self.now, quiet_seconds=quiet, event=event)
        table = self.again if ref in self.processing else self.waiting
        if ref in table:
            self._apply(table[ref], self.now + quiet, event)
        else:
            table[ref] = Naive(self.now + quiet, self.now, event)

    @rule()
    def take(self) -> None:
        free = [file for ref, file in self.waiting.items() if self._is_free(ref.source)]
        due = sorted(file.due for file in free if file.due <= self.now)

        taken = self.dirty.take(self.now)

        if not due:
            assert taken is None
            return
        assert taken is not None
        assert taken.ref not in self.processing
        expected = self.waiting.pop(taken.ref)
        assert due[0] == expected.due
        hasty = expected.hasty
        assert Taken(taken.ref, expected.event, expected.first_marked, hasty=hasty) == taken
        self.processing[taken.ref] = taken

    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        if not self.processing:
            return
        ref = data.draw(st.sampled_from(sorted(self.processing)))
        assert self.dirty.done(ref) is (ref not in self.again)
        self._ended(ref)

    @rule(data=st.data(), seconds=seconds, hold=st.booleans())
    def defer(self, data: st.DataObject, seconds: float, hold: bool) -> None:
        if not self.processing:
            return
        ref = data.draw(st.sampled_from(sorted(self.processing)))
        until = self.now + seconds
        taken = self.processing[ref]
        again = self.again.get(ref)
        was_discarded = ref in self.discarded
        self.dirty.defer(ref, until, hold=hold)
        self._ended(ref)
        if not was_discarded:
            file = Naive(until, taken.first_marked, taken.event, held=hold)
            if again is not None:
                self._apply(file, again.due, again.event)
            self.waiting[ref] = file

    def _ended(self, ref: FileRef) -> None:
        del self.processing[ref]
        self.discarded.discard(ref)
        if ref in self.again:
            self.waiting[ref] = self.again.pop(ref)

    @rule(source=st.sampled_from(["s", "t"]))
    def discard(self, source: str) -> None:
        self.dirty.discard(source)
        self.waiting = {ref: file for ref, file in self.waiting.items() if ref.source != source}
        self.again = {ref: file for ref, file in self.again.items() if ref.source != source}
        self.discarded |= {ref for ref in self.processing if ref.source == source}

    @invariant()
    def same_numbers(self) -> None:
        counts = {
            source: sum(ref.source == source for ref in self.waiting)
            for source in {ref.source for ref in self.waiting}
        }
        assert counts == self.dirty.counts()
        assert len(self.waiting) == self.dirty.waiting()
        assert tuple(self.processing) == self.dirty.processing()
        assert all(map(self.dirty.is_processing, self.processing))

    @invariant()
    def no_later_next_due(self) -> None:
        """Without a pause it is exact; with one it may be the pause's end, when nothing is due yet."""
        free = {ref: max(file.due, self.paused.get(ref.source, 0.0)) for ref, file in self.waiting.items()}
        earliest = min(free.values(), default=inf)
        if earliest == inf or not self.paused:
            assert self.dirty.next_due() == earliest
        else:
            assert self.dirty.next_due() <= earliest

    def teardown(self) -> None:
        """Nothing is lost: when all workers end, exactly what the model has is taken, each once."""
        for ref in list(self.processing):
            self.dirty.done(ref)
            self._ended(ref)
        self.dirty.pause({})
        taken = []
        while (item := self.dirty.take(1e9)) is not None:
            taken.append(item.ref)
        assert sorted(self.waiting) == sorted(taken)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(deadline=None, max_examples=100, stateful_step_count=60)


def test_the_permission_to_delete_goes_to_the_worker_that_takes_the_file() -> None:
    """Further marks do not take it back; a mark during processing is about the look after it."""
    dirty = DirtyFiles()
    dirty.mark(A, 0.0, quiet_seconds=0.0, event=True, delete_allowed=True)
    dirty.mark(A, 0.0, quiet_seconds=0.0, event=True)
    assert dirty.allowed_at(A) is not None
    assert dirty.take(0.0) == Taken(A, True, 0.0, delete_allowed=True)
    assert dirty.allowed_at(A) is not None
    dirty.mark(A, 1.0, quiet_seconds=0.0, event=True)
    dirty.done(A)
    assert dirty.allowed_at(A) is None
    dirty.take(1.0)
    dirty.mark(A, 2.0, quiet_seconds=0.0, event=True, delete_allowed=True)
    dirty.done(A)
    assert dirty.take(2.0) == Taken(A, True, 2.0, delete_allowed=True)


def test_a_deferred_file_keeps_the_permission_to_delete_unless_its_source_was_discarded() -> None:
    """A discarded source forgets its marks, and what they allowed."""
    dirty = DirtyFiles()
    dirty.mark(A, 0.0, quiet_seconds=0.0, event=True, delete_allowed=True)
    dirty.take(0.0)
    dirty.defer(A, 5.0, hold=True, delete_allowed=True)
    assert dirty.allowed_at(A) is not None
    dirty.take(5.0)
    dirty.discard(A.source)
    dirty.defer(A, 9.0, hold=True, delete_allowed=True)
    assert dirty.allowed_at(A) is None
