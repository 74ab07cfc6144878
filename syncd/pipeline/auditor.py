"""Compares the objects of one source with its records, page by page, and has damaged ones sent again.

A round looks at each recorded file once, in the order of paths, and takes as long as `audit_interval` says.
The state records its progress, so that a restart continues the round. `status` shows what it finds. At its
end it repairs as `syncd verify --repair` does, within the same bound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf

from syncd.core.backoff import Schedule, ceiling
from syncd.core.errors import StateError, StoreError
from syncd.core.model import FileRef, Source
from syncd.core.paths import printable
from syncd.core.words import counted, differ_words
from syncd.pipeline.context import Context
from syncd.pipeline.workers import Workers
from syncd.state.audits import Round
from syncd.transfer import audit

log = logging.getLogger("syncd.audit")

PAGE = 100
"""Files that are looked at in one step."""
_SUSPENDED = Schedule(base_seconds=60.0, cap_seconds=3600.0)


class Auditor:
    """The audit of one source. The thread of the source calls it."""

    def __init__(
        self,
        source: Source,
        workers: Workers,
        context: Context,
        reading: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._source = source
        self._workers = workers
        self._state = context.state
        self._monotonic = context.clock.monotonic
        self._now_ns = context.clock.now_ns
        self._reading = reading
        self._bound = source.max_repair_files, source.max_repair_fraction
        self._at = inf
        self._records = 0
        """The number of files of this round, as far as known."""
        self._suspended = 0

    def begin(self) -> None:
        """Prepare, because the source is now in use. Raises StateError."""
        if self._source.audit_seconds:
            left_ns = self._state.audits.round(self._source.name).next_ns - self._now_ns()
            self._wait(min(max(0.0, left_ns / 1e9), self._source.audit_seconds))  # the clock may be set back

    def due(self) -> float:
        """Return when there is something to do (monotonic seconds); infinite: never."""
        return self._at

    def put_off(self) -> bool:
        """Put off a page that is due, as one that fails; return whether one was due."""
        is_due = self._monotonic() >= self._at
        if is_due:
            self._suspended += 1
            self._wait(ceiling(self._suspended, _SUSPENDED))
        return is_due

    def step(self, *, is_settled: bool) -> None:
        """Look at a page, if one is due. Raises Stopped.

        The page waits if the source is not `is_settled`, its store is in trouble, or the operator paused it.
        """
        if not self.put_off():  # holds unless the page is done
            return
        queue = self._workers.queue
        if not is_settled or queue.is_shut or queue.is_held(self._source.name):
            return
        try:
            self._look()
        except (StoreError, StateError) as error:
            log.warning("%s: the audit waits: %s", self._source.name, error)
            if isinstance(error, StoreError):
                self._workers.health.doubt(self._source.name, error)

    def _look(self) -> None:
        source, audits, began = self._source, self._state.audits, self._monotonic()
        now = audits.round(source.name)
        after = bytes.fromhex(now.after)
        store = self._workers.engine.store
        last, files, found = audit.page(source, self._state, store, after, PAGE, self._reading)
        audits.keep(source.name, audit.named(found)[0], after=after, upto=last)
        now = now._replace(after=(last or b"").hex(), files=now.files + files)
        if not after or not self._records:
            self._records = audits.records(source.name)
        share = files / max(self._records, files) if now.files else 1.0
        if last is None:
            now = self._end(now)
        took = self._monotonic() - began
        wait = max(source.audit_seconds * share - took, took)  # at most half of the time
        audits.note(source.name, now._replace(next_ns=self._now_ns() + round(wait * 1e9)))
        self._suspended = 0
        self._wait(wait)

    def _end(self, now: Round) -> Round:
        """End the round: repair what is damaged, and return the next round."""
        name = self._source.name
        damaged = self._state.audits.damaged(name)
        why_not = audit.allowed(len(damaged), now.files, self._bound)
        if why_not:
            log.error("%s: %s: syncd verify --repair", name, why_not)
            damaged = []
        repaired = sum(self.repair(ref) for ref in damaged)
        standing, _ = self._state.audits.standing(name)
        differ = counted(standing, "object", "differs")
        words = f"{counted(now.files, 'file')} compared, {differ}, {repaired} sent again"
        log.log(logging.WARNING if standing else logging.INFO, "%s: the audit ended: %s", name, words)
        return Round(ended_ns=self._now_ns(), looked_at=now.files, repaired=repaired)

    def unlike(self) -> str:
        """Return that objects differ from their records, and the remedy; empty: an audit found none."""
        objects, found = self._state.audits.standing(self._source.name, 1)
        return differ_words(objects, [f"{printable(ref.path)}: {what}" for ref, what in found])

    def repair(self, ref: FileRef) -> bool:
        """Have a file sent again whose object is damaged; False: it was deleted, and its record is dropped.

        Raises StateError.
        """
        is_there = audit.repair(ref, self._state)
        if is_there:
            self._workers.queue.mark(ref, quiet_seconds=0.0, event=True)
        return is_there

    def _wait(self, seconds: float) -> None:
        self._at = self._monotonic() + seconds
