"""The dirty files of one store, shared by threads: `syncd.core.settle` behind a lock, with the store's
circuit breaker.

Three kinds of threads wait here: workers for work, scans for room, a single pass for the end. Each kind has
its own condition, so that no thread takes a wake-up meant for another kind. One waiting worker at a time
sleeps until the next file is due; the others wait without a timeout.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

from syncd.core.backoff import Breaker
from syncd.core.model import FileRef
from syncd.core.settle import DirtyFiles, Taken
from syncd.core.words import Queued
from syncd.transfer.pace.crew import FRESH_SECONDS, Crew

MAX_WAITING = 20_000
"""Dirty files held in memory. Beyond it scans wait; at twice as many, events become one scan."""
MAX_DEFERRED = 20_000
"""Failed files held in memory besides those; the next scan finds any others."""
MAX_SECOND_LOOKS = 20_000
"""Files that wait for a second look; only ``verify --read`` checks any others."""
BREAKER_THRESHOLD = 4
"""So many different files that fail in the same way, with no success in between, pause the store."""


class WorkQueue:
    """Files that wait for a worker, and those that a worker has. Hands out nothing while the store pauses."""

    def __init__(self, monotonic: Callable[[], float], chance: Callable[[], float] = lambda: 0.0) -> None:
        self.longest: Callable[[FileRef], float] = lambda ref: inf
        """Returns how many seconds changes may put off a dirty file."""
        self.crew = Crew()
        self.marks = 0
        """How often files were marked: while it stays the same, no file becomes dirty."""
        self._monotonic = monotonic
        self._chance = chance
        self._dirty = DirtyFiles()
        self._deferred: set[FileRef] = set()
        # Clean files that become dirty later; two sets, so that neither delays or displaces the other.
        self._second_looks, self._in_doubt = DirtyFiles(), DirtyFiles()
        self._breaker = Breaker(threshold=BREAKER_THRESHOLD)
        self._lock = threading.Lock()
        self._work, self._room, self._end = (threading.Condition(self._lock) for _ in range(3))
        self._sleepers = self._scans = 0
        """Workers that wait for work, and scans that wait for room."""
        self._alarm = inf
        """When the worker wakes at the latest that keeps the time."""
        self._held_until = -inf
        self._closed = False
        self._paused: Mapping[str, float] = {}
        self._silent: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        with self._lock:
            dirty, looks = self._dirty, self._second_looks.waiting() + self._in_doubt.waiting()
            counts = f"{dirty.waiting()} waiting ({len(self._deferred)} deferred), {looks} to look at again"
            closed = " closed" if self._closed else ""
            return f"<WorkQueue{closed} {counts}, {len(dirty.processing())} in work, {self._breaker!r}>"

    # ---- what becomes dirty -----------------------------------------------------------------------------

    def mark(
        self,
        ref: FileRef,
        *,
        quiet_seconds: float,
        event: bool,
        delete_allowed: bool = False,
        sent: bool = False,
    ) -> None:
        """Mark a path dirty, even if the queue is full; `delete_allowed` permits deleting its object.

        `sent` says that it was just sent, and only needs a second look.
        """
        with self._lock:
            self._mark(ref, quiet_seconds, event=event, delete_allowed=delete_allowed, sent=sent)

    def heard(self, ref: FileRef, *, quiet_seconds: float) -> bool:
        """Mark a path after an event; False: too many files wait, so the source needs a scan."""
        with self._lock:
            if self._crowd(ref.source) >= 2 * MAX_WAITING:
                return False
            self._mark(ref, quiet_seconds, event=True)
        return True

    def mark_found(
        self,
        ref: FileRef,
        *,
        quiet_seconds: float,
        cancelled: Callable[[], bool] = lambda: False,
        waits: Callable[[], object] = lambda: None,
    ) -> bool:
        """Wait while the queue is full, then mark a path for a scan; return whether the file was clean.

        Does nothing if `cancelled` returns True; call `wake_scans` when that becomes so. `waits` is called
        before each wait.
        """
        with self._lock:
            while not (self._closed or cancelled()):
                if self._crowd(ref.source) < MAX_WAITING:
                    before = self._dirty.waiting()
                    self._mark(ref, quiet_seconds, event=False)
                    return self._dirty.waiting() > before
                waits()
                self._scans += 1
                self._room.wait()
                self._scans -= 1
            return False

    def wake_scans(self) -> None:
        """Make scans that wait for room check again whether they are cancelled."""
        with self._lock:
            self._room.notify_all()

    def discard(self, source: str) -> None:
        """Forget the waiting files of a source."""
        with self._lock:
            self._dirty.discard(source)
            self._deferred = {ref for ref in self._deferred if ref.source != source}
            for looks in (self._second_looks, self._in_doubt):
                looks.discard(source)
            self._room.notify_all()
            self._end.notify_all()

    def _mark(self, ref: FileRef, quiet_seconds: float, *, event: bool, **flags: bool) -> None:
        now = self._monotonic()
        self._dirty.mark(
            ref,
            now,
            quiet_seconds=quiet_seconds,
            event=event,
            longest_seconds=self.longest(ref) if event else inf,
            **flags,
        )
        self.marks += 1
        self._call(now)

    def _crowd(self, source: str) -> int:
        """Return how many files wait for a worker before one of `source`. Failed files do not count, because
        they wait for their next attempt, nor do files of other sources that are paused.
        """
        paused = self._dirty.paused()
        if source in paused:
            return self._dirty.waiting_of(source)
        return self._dirty.waiting() - len(self._deferred) - sum(map(self._dirty.waiting_of, paused))

    # ---- what the operator holds or hastens -------------------------------------------------------------

    def hold(self, held_until: float, paused: Mapping[str, float]) -> None:
        """Hand out nothing until `held_until`, and nothing of the sources in `paused` until their times.

        Times are monotonic seconds; one in the past holds nothing, an infinite one never ends.
        """
        with self._lock:
            self._held_until = held_until
            self._paused = paused
            self._hold_sources()

    def leave_out(self, sources: frozenset[str]) -> None:
        """Hand out no file of these sources until the next call: their folders do not answer."""
        with self._lock:
            if sources != self._silent:
                self._silent = sources
                self._hold_sources()
                self._end.notify_all()

    def is_left_out(self, source: str) -> bool:
        """Return whether the folder of a source does not answer."""
        return source in self._silent

    def _hold_sources(self) -> None:
        self._dirty.pause({**self._paused, **dict.fromkeys(self._silent, inf)})
        self._work.notify_all()
        self._room.notify_all()

    def is_held(self, source: str) -> bool:
        """Return whether the operator has paused a source."""
        with self._lock:
            now = self._monotonic()
            return self._held_until > now or self._paused.get(source, now) > now

    def retry(self, wanted: Callable[[FileRef], bool]) -> int:
        """Retry failed files and the store now; return how many files that is."""
        with self._lock:
            again = {ref for ref in self._deferred if wanted(ref)}
            self._dirty.hasten(self._monotonic(), again.__contains__)
            self._breaker.hasten(self._monotonic())
            self._work.notify_all()
            return len(again)

    def call(self, ref: FileRef) -> bool:
        """Let a deferred file come before those marked after it; return whether there is one."""
        with self._lock:
            is_deferred = ref in self._deferred and self._dirty.call(ref)
            if is_deferred:
                self._call(self._monotonic())
            return is_deferred

    def hasten(self, source: str) -> None:
        """Let files of a source be read before they are quiet; a write in progress is still noticed."""
        with self._lock:
            self._dirty.hasten(
                self._monotonic(), lambda ref: ref.source == source and ref not in self._deferred
            )
            self._work.notify_all()

    # ---- for workers ------------------------------------------------------------------------------------

    def take(self, before_waiting: Callable[[], object] = lambda: None) -> Taken | None:
        """Wait for a file that is due; None: closed. The caller ends it with `done`, `again` or `defer`.

        `before_waiting` may take long: others mark and take files at the same time.
        """
        worker = threading.get_ident()
        with self._lock:
            self.crew.ends(worker)
            taken = self._next(worker)
        if taken is not None:
            return taken
        before_waiting()
        with self._lock:
            while not self._closed:
                if (taken := self._next(worker)) is not None:
                    return taken
                self._sleep(self._monotonic())
            return None

    def _next(self, worker: int) -> Taken | None:
        now = self._monotonic()
        return None if self._closed or self.crew.is_full(now) else self._take(now, worker)

    def asks(self, can_go_on: Callable[[list[int]], bool]) -> None:
        """Note that the calling worker sends a request. `can_go_on` says whether any of some threads can."""
        others = self.crew.beside(threading.get_ident())
        if others is not None:
            alone = not can_go_on(others)
            with self._lock:
                if self.crew.asks(alone=alone):
                    self._call(self._monotonic())

    def has_large(self) -> None:
        """Note that the file that the calling worker took is large."""
        with self._lock:
            self.crew.has_large(threading.get_ident())
            self._call(self._monotonic())

    def take_due(self) -> Taken | None:
        """Like `take`, but without waiting; None also if nothing is due."""
        with self._lock:
            return None if self._closed else self._take(self._monotonic())

    def due(self) -> float:
        """Return when `take` has a file if nothing changes first (monotonic seconds); infinite: never."""
        with self._lock:
            return self._due(self._monotonic())

    def _take(self, now: float, worker: int | None = None) -> Taken | None:
        if self._next_due(now) > now or self._held_until > now or not self._breaker.allows(now):
            return None
        # Failing files are often neighbours, so a random file is more likely to succeed than the next one.
        taken = self._dirty.take(now, self._chance() if self._breaker.blames_things else 0.0)
        if taken is not None:
            self._deferred.discard(taken.ref)
            if worker is not None:
                self.crew.begins(worker, now)
            self._call(now)  # so that another worker waits for the next file
            if self._scans:
                self._room.notify()
        return taken

    def _due(self, now: float) -> float:
        due = self._next_due(now)
        return max(due, self._breaker.until or due, self._held_until)

    def _next_due(self, now: float) -> float:
        """Return when the next file is due. Mark the files whose second look is due."""
        look_at = inf
        for looks in (self._second_looks, self._in_doubt):
            while (due := looks.next_due()) <= now and (look := looks.take(now)) is not None:
                looks.done(look.ref)
                if not self._dirty.is_dirty(look.ref):  # a dirty file is read anyway, once it is quiet
                    self._mark(look.ref, 0.0, event=True)
            look_at = min(look_at, due)
        return min(look_at, self._dirty.next_due())

    def _call(self, now: float) -> None:
        """Wake a worker, unless it would find nothing or another looks soon anyway."""
        if self._sleepers and (self._alarm > now + FRESH_SECONDS or not self.crew.is_full(now)):
            self._work.notify()

    def _sleep(self, now: float) -> None:
        """Sleep until something changes; one worker sleeps no longer than until the next file is due."""
        until = self._due(now)
        if self.crew.is_full(now):
            until = max(until, now + FRESH_SECONDS)  # by then the files under way no longer count
        keeps_time = until < self._alarm
        if keeps_time:
            self._alarm = until
        self._sleepers += 1
        self._work.wait(max(0.001, until - now) if keeps_time else None)
        self._sleepers -= 1
        if keeps_time and self._alarm == until:
            self._alarm = inf

    def done(self, ref: FileRef) -> bool:
        """Note that a file is clean, unless it was marked since; return whether all workers rest."""
        with self._lock:
            return self._done(ref)

    def again(self, ref: FileRef, quiet_seconds: float, *, hold: bool = False) -> None:
        """Let a file that changed while or before it was read settle; it counts as restless."""
        with self._lock:
            self._mark(ref, quiet_seconds, event=True)
            self._dirty.defer(ref, self._monotonic() + quiet_seconds, hold=hold)

    def look_again(self, ref: FileRef, seconds: float) -> None:
        """Mark the file after `seconds`, whatever its stat says then; until then it counts as clean.

        `idle` and `counts` ignore second looks, so that nothing waits for them.
        """
        with self._lock:
            self._look(self._second_looks, ref, seconds)

    def look_into_doubt(self, ref: FileRef, seconds: float) -> None:
        """Like `look_again`, but counted apart. If too many wait, the next scan finds the file by its row."""
        with self._lock:
            self._look(self._in_doubt, ref, seconds)

    def _look(self, looks: DirtyFiles, ref: FileRef, seconds: float) -> None:
        if looks.is_dirty(ref) or looks.waiting() < MAX_SECOND_LOOKS:
            looks.mark(ref, self._monotonic(), quiet_seconds=seconds, event=True)
            self._work.notify()

    def defer(self, ref: FileRef, seconds: float, *, hold: bool, delete_allowed: bool = False) -> bool:
        """Make a failed file due later; False: too many failed, and the next scan finds this one."""
        with self._lock:
            if len(self._deferred) >= MAX_DEFERRED:
                self._done(ref)
                return False
            self._dirty.defer(ref, self._monotonic() + seconds, hold=hold, delete_allowed=delete_allowed)
            self._deferred.add(ref)
            self._work.notify()
            return True

    def allowed_at(self, ref: FileRef) -> float | None:
        """Return since when the file waits with the permission to delete its object; None: it has none."""
        with self._lock:
            return self._dirty.allowed_at(ref)

    def is_processing(self, ref: FileRef) -> bool:
        """Return whether a worker has the file."""
        with self._lock:
            return self._dirty.is_processing(ref)

    def _done(self, ref: FileRef) -> bool:
        now = self._monotonic()
        if not self._dirty.done(ref):
            self._call(now)
        is_last = not self._dirty.processing()
        if (is_last or self._silent) and self._is_idle():
            self._end.notify_all()
        return is_last and self._dirty.next_due() > now

    def close(self) -> None:
        """Stop handing out files, and wake every thread that waits."""
        with self._lock:
            self._closed = True
            for condition in (self._work, self._room, self._end):
                condition.notify_all()

    # ---- the store's circuit breaker --------------------------------------------------------------------

    @property
    def is_shut(self) -> bool:
        """Return whether requests to the store pause now, or only single ones probe it."""
        with self._lock:
            return self._breaker.until is not None

    def answered(self) -> bool:
        """Note that the store answered; return whether it was paused before."""
        with self._lock:
            recovered = self._breaker.success()
            if recovered:
                self._work.notify_all()
            return recovered

    def stumbled(
        self, ref: FileRef, way: str, chance: float, *, at_once: bool = False, answers: bool = False
    ) -> bool:
        """Note that the store failed at a file. Several different files, or `at_once`, pause the store.

        With `answers` it answers a question about nothing in particular. Returns whether a pause begins.
        """
        with self._lock:
            was_shut = self._breaker.until is not None
            self._breaker.failure(
                self._monotonic(), chance, what=ref, way=way, at_once=at_once, answers=answers
            )
            self._work.notify_all()
            return not was_shut and self._breaker.until is not None

    def pause(self, seconds: float) -> bool:
        """Pause the store at once; return whether it was not paused before."""
        with self._lock:
            was_shut = self._breaker.until is not None
            self._breaker.trip(self._monotonic(), seconds)
            self._work.notify_all()
            return not was_shut

    def probe(self) -> None:
        """Try the next file at once if the store is paused: the last one showed nothing about it."""
        with self._lock:
            if self._breaker.until is not None:
                self._breaker.trip(self._monotonic(), 0.0)
                self._work.notify_all()

    def reopen(self) -> None:
        """Try a paused store now: the machine slept, so the cause of the pause may be gone."""
        with self._lock:
            self._breaker.hasten(self._monotonic())
            self._work.notify_all()

    # ---- looking ----------------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Return whether no file that could end waits or is processing, or the queue is closed."""
        with self._lock:
            return self._is_idle()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until `idle`, at most `seconds`."""
        with self._lock:
            return self._end.wait_for(self._is_idle, seconds)

    def counts(self) -> tuple[dict[str, int], tuple[FileRef, ...]]:
        """Return the number of waiting files of each source, and the files that workers have."""
        with self._lock:
            return self._dirty.counts(), self._dirty.processing()

    def deferred(self) -> Counter[str]:
        """Return the number of dirty files of each source whose last attempt failed."""
        with self._lock:
            return Counter(ref.source for ref in self._deferred)

    def about(self, ref: FileRef) -> Queued | None:
        """Return what is known of a dirty file; None: it is clean."""
        with self._lock:
            if self._dirty.is_processing(ref):
                return Queued(True, 0.0)
            entry = self._dirty.entry(ref, self._monotonic())
            return None if entry is None else Queued(False, entry[0], ref in self._deferred, entry[1])

    def oldest(self, source: str) -> float | None:
        """Return since when (monotonic seconds) the oldest dirty file of a source waits; None: none does.

        A failed file does not count, because its failure is reported.
        """
        with self._lock:
            return self._dirty.oldest(source, self._deferred)

    def dirty(self, since: float = inf) -> dict[FileRef, bool]:
        """Return all dirty files, and whether each waits because it failed. A growing file is never done: it
        is left out if it has been carried since `since`.
        """
        with self._lock:
            still = set(self._dirty.all(since))
            return {
                ref: ref in self._deferred
                for ref in self._dirty.all()
                if ref in still or self.longest(ref) == inf
            }

    def ages(self) -> list[tuple[float, FileRef]]:
        """See `DirtyFiles.ages`."""
        with self._lock:
            return self._dirty.ages()

    def awaited_since(self, ref: FileRef) -> float | None:
        """See `DirtyFiles.awaited_since`."""
        with self._lock:
            return self._dirty.awaited_since(ref, self._monotonic())

    def sent(self) -> set[FileRef]:
        """Return the dirty files that were sent a moment ago, and only get a second look."""
        with self._lock:
            return self._dirty.sent()

    @property
    def is_closed(self) -> bool:
        """Return whether the queue is closed."""
        return self._closed

    def restless(self, longer_than: float) -> list[tuple[FileRef, float]]:
        """Return the files that were marked again and again for longer than this, with the seconds."""
        now = self._monotonic()
        with self._lock:
            return [(ref, now - since) for ref, since in self._dirty.restless(now, longer_than)]

    def _is_idle(self) -> bool:
        if self._closed:
            return True
        if self._silent:
            return self._silent.issuperset(
                [*self._dirty.counts(), *(ref.source for ref in self._dirty.processing())]
            )
        return not (self._dirty.waiting() or self._dirty.processing())
