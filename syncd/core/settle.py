"""Hands out the dirty files that have been quiet long enough to be read, never the same file twice at once.

Two sets, as in a work queue of Kubernetes: *waiting* (dirty, due at some time) and *processing* (a worker has
it). A file that is marked while it is processing waits behind its own processing and runs again afterwards.

The rules of being due:

- An event puts the file off: it is due when it has been quiet for its settle period. A file that only grows
  is put off no more when it has been dirty for its longest time.
- A mark of a scan only makes a clean file dirty; on a dirty one it changes nothing.
- A deferred file is due when its time comes; an event hastens it, unless it was deferred to be held.
- Files of a source that is paused wait until its pause ends, as due as they are.

How the queue works: a heap of ``(due, ticket, ref)`` beside a table of what is true. Being put off does not
touch the heap: the item stays, too early, and is corrected when it comes to the top. So marking a file a
million times costs a million dictionary look-ups and no memory. Only hastening a file leaves a dead item
(its ticket is no longer the entry's). When the dead outnumber the living, the heap is rebuilt. Every
operation on one file is O(log n), amortised.

Time is seconds of a monotonic clock, passed in. No lock inside: the owner holds one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import NamedTuple

from syncd.core.model import FileRef

VAIN_LOOKS = 10
VAIN_SECONDS = 60.0
"""A file that changed before so many looks in a row, for so long, is restless already."""
_SPARE_ITEMS = 64
"""Dead items that are not worth a rebuild."""


class Taken(NamedTuple):
    """A file to be processed now. End it with `DirtyFiles.done` or `DirtyFiles.defer`."""

    ref: FileRef
    event: bool
    """An event marked it since it was last done: an equal stat proves nothing."""
    first_marked: float
    """When it became dirty, deferrals included."""
    delete_allowed: bool = False
    """If the file is still gone, its object may be removed."""
    hasty: bool = False
    """The operator does not want to wait until it has been quiet."""


class _Dirty:
    """The state of one dirty file."""

    __slots__ = (
        "allowed_at", "due", "event", "first_marked", "hasty", "held",
        "remarked", "restless_since", "sent", "ticket", "vain_looks",
    )  # fmt: skip

    def __init__(self, due: float, first_marked: float, *, event: bool, held: bool = False) -> None:
        self.hasty = self.sent = False
        self.allowed_at: float | None = None  # since when its object may be removed
        self.due = due
        self.first_marked = first_marked
        self.event = event
        self.held = held
        self.ticket = -1
        # The run of events that keeps putting it off: when it began, and whether there was a second one.
        self.restless_since: float | None = first_marked if event else None
        self.remarked = False
        self.vain_looks = 0

    def mark(self, now: float, due: float, longest_seconds: float, *, event: bool) -> None:
        """Apply a further mark."""
        self.sent = False
        if not event:
            return
        self.event, self.hasty = True, False
        due = min(due, max(self.due, self.first_marked + longest_seconds))
        self.due = max(self.due, due) if self.held else due
        if self.restless_since is None:
            self.restless_since = now
        else:
            self.remarked = True

    def is_restless(self, now: float, longer_than: float) -> bool:
        """Whether events have kept it from becoming quiet for more than so many seconds."""
        since = self.restless_since if self.remarked and self.due > now else None
        return since is not None and now - since > longer_than


class _Processing:
    """The state of one file that a worker has."""

    __slots__ = (
        "again", "allowed_at", "discarded", "event", "first_marked", "restless_since", "vain_looks",
    )  # fmt: skip

    def __init__(self, entry: _Dirty) -> None:
        self.allowed_at = entry.allowed_at
        self.event = entry.event
        self.first_marked = entry.first_marked
        self.restless_since = entry.restless_since
        self.vain_looks = entry.vain_looks
        self.again: _Dirty | None = None
        self.discarded = False


class DirtyFiles:
    """The files that may differ from what is recorded."""

    def __init__(self) -> None:
        self._waiting: dict[FileRef, _Dirty] = {}
        self._processing: dict[FileRef, _Processing] = {}
        self._heap: list[tuple[float, int, FileRef]] = []
        self._tickets = 0
        self._counts: Counter[str] = Counter()
        self._paused: dict[str, float] = {}

    # ---- marking ----------------------------------------------------------------------------------------

    def mark(
        self,
        ref: FileRef,
        now: float,
        *,
        quiet_seconds: float,
        event: bool,
        delete_allowed: bool = False,
        longest_seconds: float = inf,
        sent: bool = False,
    ) -> None:
        """Note that the file may differ from what is recorded; `event` is False for a scan's finding.

        `sent` says that it was sent a moment ago, and is only to be looked at once more.

        A file that has been dirty for `longest_seconds` is put off no more.
        `delete_allowed` is a permission for the next look: it goes to the worker that takes the file.
        """
        due = now + quiet_seconds
        running = self._processing.get(ref)
        entry = self._waiting.get(ref) if running is None else running.again
        before = None if entry is None else entry.due
        if entry is None:
            entry = _Dirty(due, now, event=event)
            entry.sent = sent
        else:
            entry.mark(now, due, longest_seconds, event=event)
        if delete_allowed and entry.allowed_at is None:
            entry.allowed_at = now
        if running is not None:
            running.again = entry
        elif before is None:
            self._wait(ref, entry)
        elif entry.due < before:
            self._push(ref, entry)

    def discard(self, source: str) -> None:
        """Forget the files of a source. Those that a worker has end as if nothing had marked them."""
        self._waiting = {ref: entry for ref, entry in self._waiting.items() if ref.source != source}
        del self._counts[source]
        self._rebuild()
        for ref, running in self._processing.items():
            if ref.source == source:
                running.again = None
                running.discarded = True

    # ---- pausing ----------------------------------------------------------------------------------------

    def pause(self, paused: Mapping[str, float]) -> None:
        """Pause these sources, and no others, each until its time (monotonic seconds, may be infinite)."""
        self._paused = dict(paused)
        self._rebuild()

    def is_paused(self, source: str, now: float) -> bool:
        """Return whether `take` holds back the files of a source now."""
        return self._paused.get(source, now) > now

    def hasten(self, now: float, wanted: Callable[[FileRef], bool]) -> None:
        """Make the waiting files that are `wanted` due now."""
        for ref, entry in self._waiting.items():
            if entry.due > now and wanted(ref):
                entry.due, entry.hasty = now, True
        self._rebuild()

    def call(self, ref: FileRef) -> bool:
        """Make a waiting file due, in the order in which files were marked; return whether it waits."""
        entry = self._waiting.get(ref)
        if entry is not None and entry.first_marked < entry.due:
            entry.due = entry.first_marked
            self._push(ref, entry)
        return entry is not None

    # ---- working off ------------------------------------------------------------------------------------

    def take(self, now: float, chance: float = 0.0) -> Taken | None:
        """Hand out the file that has been due the longest, or with `chance` any due one; None: none is due.

        The file counts as processing until `done` or `defer`.
        """
        if self._paused and min(self._paused.values()) <= now:
            self.pause({source: until for source, until in self._paused.items() if until > now})
        if self._top() > now:
            return None
        ref = self._heap[int(chance * len(self._heap))][2]
        entry = self._waiting.get(ref)
        if entry is None or entry.due > now or ref.source in self._paused:
            ref = self._heap[0][2]
        entry = self._waiting.pop(ref)  # what it leaves in the heap is found to be nothing
        self._counts[ref.source] -= 1
        self._processing[ref] = _Processing(entry)
        return Taken(ref, entry.event, entry.first_marked, entry.allowed_at is not None, entry.hasty)

    def done(self, ref: FileRef) -> bool:
        """End the processing of a file; return whether it is clean, because nothing marked it since."""
        again = self._end(ref).again
        if again is not None:
            self._wait(ref, again)
        return again is None

    def defer(self, ref: FileRef, until: float, *, hold: bool, delete_allowed: bool = False) -> None:
        """End the processing of a file that failed: it stays dirty, with its permission, until `until`.

        An event hastens it, also one that came during processing, unless `hold`. Such an event also says that
        the file is still restless: one that changed while it was read is marked and then deferred, not done.
        After `discard` of its source this is the same as `done`.
        """
        running = self._end(ref)
        again = running.again
        if running.discarded:
            if again is not None:
                self._wait(ref, again)
            return
        entry = _Dirty(until, running.first_marked, event=running.event, held=hold)
        if delete_allowed:
            entry.allowed_at = running.allowed_at
        elif again is not None:
            entry.allowed_at = again.allowed_at
        # A file that was left alone and failed is not restless; one that moved while it was read still is.
        if again is not None and again.event:
            entry.restless_since, entry.vain_looks = running.restless_since, running.vain_looks + 1
        else:
            entry.restless_since = None
        if again is not None:
            entry.mark(again.first_marked, again.due, inf, event=again.event)
        self._wait(ref, entry)

    # ---- looking ----------------------------------------------------------------------------------------

    def next_due(self) -> float:
        """Return when `take` may next have a file if nothing is marked before; infinite: nothing waits."""
        due = self._top()
        for source, until in self._paused.items():
            if until < due and self._counts[source]:
                due = until
        return due

    def restless(self, now: float, longer_than: float) -> list[tuple[FileRef, float]]:
        """Return the files that events have kept from becoming quiet for more than `longer_than` seconds.

        After many looks in vain a minute is enough. Each file comes with the time of the first of those
        events, the longest first. A file that merely waits for a worker, or until its deferral ends, is left
        out. O(number waiting).
        """
        found = [
            (ref, entry.restless_since)
            for ref, entry in self._waiting.items()
            if entry.restless_since is not None
            and entry.is_restless(
                now, longer_than if entry.vain_looks < VAIN_LOOKS else min(longer_than, VAIN_SECONDS)
            )
        ]
        return sorted(found, key=lambda item: (item[1], item[0]))

    def entry(self, ref: FileRef, now: float) -> tuple[float, float | None] | None:
        """Return in how many seconds a waiting file is due, and for how many events have put that off."""
        entry = self._waiting.get(ref)
        if entry is None:
            return None
        since = entry.restless_since if entry.is_restless(now, -inf) else None
        return entry.due - now, None if since is None else now - since

    def is_processing(self, ref: FileRef) -> bool:
        """Return whether a worker has the file."""
        return ref in self._processing

    def allowed_at(self, ref: FileRef) -> float | None:
        """Return when a dirty file got the permission to delete its object; None: it has none."""
        running = self._processing.get(ref)
        entries = (self._waiting.get(ref),) if running is None else (running, running.again)
        return next((each.allowed_at for each in entries if each and each.allowed_at is not None), None)

    def is_dirty(self, ref: FileRef) -> bool:
        """Return whether the file waits, or a worker has it."""
        return ref in self._waiting or ref in self._processing

    def all(self, since: float = inf) -> list[FileRef]:
        """Return the dirty files, waiting or processing, that became dirty no later than `since`."""
        waiting = [ref for ref, entry in self._waiting.items() if entry.first_marked <= since]
        return waiting + [ref for ref, entry in self._processing.items() if entry.first_marked <= since]

    def ages(self) -> list[tuple[float, FileRef]]:
        """Return each dirty file with the time when it became dirty."""
        return [
            (entry.first_marked, ref)
            for files in (self._waiting, self._processing)
            for ref, entry in files.items()
        ]

    def awaited_since(self, ref: FileRef, now: float) -> float | None:
        """Return when a file that is to be sent became dirty.

        None: it is clean, was sent a moment ago, or has been restless for long.
        """
        entry = self._processing.get(ref) or self._waiting.get(ref)
        if isinstance(entry, _Dirty) and (entry.sent or entry.is_restless(now, VAIN_SECONDS)):
            return None
        return None if entry is None else entry.first_marked

    def sent(self) -> set[FileRef]:
        """Return the waiting files that were sent a moment ago, and that nothing has marked since."""
        return {ref for ref, entry in self._waiting.items() if entry.sent}

    def oldest(self, source: str, left_out: Collection[FileRef]) -> float | None:
        """Return when the oldest dirty file of a source became dirty; None: there is none."""
        return min(
            (
                entry.first_marked
                for files in (self._waiting, self._processing)
                for ref, entry in files.items()
                if ref.source == source and ref not in left_out
            ),
            default=None,
        )

    def waiting(self) -> int:
        """Return how many files wait; those that workers have do not count."""
        return len(self._waiting)

    def processing(self) -> tuple[FileRef, ...]:
        """Return the files that workers have, in the order in which they were taken."""
        return tuple(self._processing)

    def waiting_of(self, source: str) -> int:
        """Return how many files of a source wait."""
        return self._counts[source]

    def paused(self) -> tuple[str, ...]:
        """Return the sources that are paused."""
        return tuple(self._paused)

    def counts(self) -> dict[str, int]:
        """Return how many files of each source wait; a source without any is left out."""
        return dict(+self._counts)

    # ---- the queue --------------------------------------------------------------------------------------

    def _wait(self, ref: FileRef, entry: _Dirty) -> None:
        self._waiting[ref] = entry
        self._counts[ref.source] += 1
        self._push(ref, entry)

    def _end(self, ref: FileRef) -> _Processing:
        if ref not in self._processing:
            raise ValueError(f"not being processed: {ref.source}:{ref.path}")
        return self._processing.pop(ref)

    def _push(self, ref: FileRef, entry: _Dirty) -> None:
        """A new item for the entry; an older one, if any, is dead from now on."""
        heappush(self._heap, self._item(ref, entry))
        if len(self._heap) > 2 * len(self._waiting) + _SPARE_ITEMS:
            self._rebuild()

    def _item(self, ref: FileRef, entry: _Dirty) -> tuple[float, int, FileRef]:
        entry.ticket = self._tickets
        self._tickets += 1
        return (entry.due, entry.ticket, ref)

    def _top(self) -> float:
        """Bring a living item with its true due time to the top, or empty the heap: then it is infinite."""
        heap = self._heap
        while heap:
            due, ticket, ref = heap[0]
            entry = self._waiting.get(ref)
            if entry is None or entry.ticket != ticket or ref.source in self._paused:
                heappop(heap)
            elif entry.due != due:
                heapreplace(heap, self._item(ref, entry))
            else:
                return due
        return inf

    def _rebuild(self) -> None:
        self._heap = [self._item(ref, entry) for ref, entry in self._waiting.items()]
        heapify(self._heap)
