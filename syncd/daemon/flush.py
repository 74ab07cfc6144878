"""Waits until what is known now is in the store, for `syncd flush` and `syncd sync`.

It also reports what is not in the store when the daemon ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from syncd.core.model import FileRef
from syncd.core.words import counted
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.source_runner import SourceRunner
from syncd.pipeline.workers import Workers

_STEP_SECONDS = 0.1
_HASTEN_STEPS = 5  # a file that was too young is deferred by its settle period, and hastened again
_SHUT_SECONDS = 60.0
"""The flush stops waiting for a store that has been unusable for so long."""
_DONE = ("Upload", "Copy", "Refresh", "Delete", "Adopt")


def flush(
    pipeline: Pipeline,
    sources: Sequence[str],
    seconds: float | None,
    *,
    scan: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Send what is known of these sources now, and return what came of it.

    With `scan` it looks for changes first. It does not wait for files to settle, but reads no file that is
    being written. It ends after `seconds` at the latest, and earlier when only a pause, a missing root, a
    failure or an unusable store keeps files back, or when `goes_on`, which it calls often, returns False.
    Raises ValueError when the daemon stops before that, StateError.
    """
    work = _Flush(pipeline, sources, seconds, goes_on)
    if scan:
        for runner in work.runners():
            runner.ask_now("", "the operator asked")
        work.wait(work.scans_are_over)
    work.note_dirty()
    work.wait(work.is_over)
    return work.answer()


def stayed(pipeline: Pipeline) -> tuple[int, Mapping[str, str]]:
    """Return how many known files are not in the store, and why sources may have more. Raises StateError."""
    work = _Flush(pipeline, list(pipeline.source_runners), None, lambda: True)
    work.note_dirty()
    work.leave_out_sent()
    done = work.answer()
    fresh = {
        runner.source.name: "its first scan was not over"
        for runner in work.runners()
        if not runner.first_scan_done.is_set()
    }
    return done["waiting"] + done["failed"], fresh | done["kept_back"]


class _Flush:
    """One flush: the files that were dirty when it began, and what was done since."""

    def __init__(
        self, pipeline: Pipeline, sources: Sequence[str], seconds: float | None, goes_on: Callable[[], bool]
    ) -> None:
        self._goes_on = goes_on
        self._pipeline = pipeline
        self._sources = sources
        self._until = None if seconds is None else pipeline.clock.monotonic() + seconds
        self._files: set[FileRef] = set()
        self._noted = inf
        self._shut_since: dict[str, float] = {}
        tally = pipeline.tally
        self._before = {name: tally.actions[name] for name in _DONE}
        self._bytes_before = tally.bytes_sent, tally.bytes_saved

    def runners(self) -> list[SourceRunner]:
        """Return the runners of the sources that no reload has removed."""
        runners = self._pipeline.source_runners
        return [runners[name] for name in self._sources if name in runners]

    def scans_are_over(self) -> bool:
        """Return whether every source was scanned, or cannot be while its root or store is away."""
        return all(
            runner.settled()
            or runner.news.waiting_for
            or self._is_shut(runner.workers)
            or (self._is_held(runner) and runner.is_scanned())
            for runner in self.runners()
        )

    def note_dirty(self) -> None:
        """Note the dirty files: they are what this flush waits for."""
        self._noted = self._pipeline.clock.monotonic()
        self._files = {ref for ref in self._dirty() if ref.source in self._sources}

    def leave_out_sent(self) -> None:
        """Leave out files that were just sent and only wait for a second look."""
        for workers in self._workers():
            self._files -= workers.queue.sent()

    def is_over(self) -> bool:
        """Return whether each of its files was carried, or cannot be however long it waits."""
        dirty = self._dirty()
        waits = {runner.source.name for runner in self.runners() if not self._is_kept(runner)}
        return not any(
            ref in self._files and ref.source in waits for ref, deferred in dirty.items() if not deferred
        )

    def wait(self, condition: Callable[[], bool]) -> None:
        """Hasten the files until the condition holds or the time is over. Raises ValueError at a stop."""
        step = 0
        while not condition() and self._goes_on():
            if self._until is not None and self._pipeline.clock.monotonic() >= self._until:
                return
            if step % _HASTEN_STEPS == 0:
                for runner in self.runners():
                    if runner.workers.queue.is_closed:
                        raise ValueError("the daemon stops")
                    runner.workers.queue.hasten(runner.source.name)
            step += 1
            time.sleep(_STEP_SECONDS)

    def answer(self) -> dict[str, Any]:
        """Return what was done since the beginning, and what was not."""
        tally, failed = self._pipeline.tally, self._pipeline.state.failures.count()
        left = [deferred for ref, deferred in self._dirty().items() if ref in self._files]
        failures = sum(failed.get(name, 0) for name in self._sources)
        kept = {runner.source.name: why for runner in self.runners() if (why := self._kept_back(runner))}
        told = {runner.source.name: runner.auditor.unlike() for runner in self.runners()}
        unlike = {name: words for name, words in told.items() if words}
        return {
            "files": len(self._files),
            "left": len(left),
            "waiting": left.count(False),
            "failed": failures,
            "kept_back": kept,
            "unlike": unlike,
            "unreadable": sum(runner.news.errors for runner in self.runners()),
            "actions": {name: tally.actions[name] - self._before[name] for name in _DONE},
            "bytes_sent": tally.bytes_sent - self._bytes_before[0],
            "bytes_saved": tally.bytes_saved - self._bytes_before[1],
        }

    def _workers(self) -> list[Workers]:
        return list({id(runner.workers): runner.workers for runner in self.runners()}.values())

    def _dirty(self) -> dict[FileRef, bool]:
        """Return the dirty files, and whether each is deferred because it failed."""
        return {
            ref: on for workers in self._workers() for ref, on in workers.queue.dirty(self._noted).items()
        }

    def _is_kept(self, runner: SourceRunner) -> bool:
        """Return whether its files stay however long this waits: paused, or a store long shut."""
        return self._is_shut(runner.workers) or self._is_held(runner)

    def _is_shut(self, store: Workers) -> bool:
        """Return whether the store has been shut for long."""
        now = self._pipeline.clock.monotonic()
        if not store.queue.is_shut:
            self._shut_since.pop(store.name, None)
            return False
        return now - self._shut_since.setdefault(store.name, now) >= _SHUT_SECONDS

    def _is_held(self, runner: SourceRunner) -> bool:
        return runner.workers.queue.is_held(runner.source.name)

    def _kept_back(self, runner: SourceRunner) -> str:
        if runner.news.waiting_for:
            return runner.news.waiting_for
        if self._is_held(runner):
            return f"it is paused {self._pipeline.paused_by_timetable() or 'by the operator'}"
        if runner.workers.health.paused_for:
            return f"store {runner.workers.name} is paused: {runner.workers.health.paused_for}"
        if waits := runner.waits_for_take_over():
            return waits
        if runner.news.deletes_reason:
            waits = (
                f"{counted(runner.news.deletes_parked, 'deletion', 'waits')}: {runner.news.deletes_reason}"
            )
            return f"{waits}; to allow them: syncd sync --allow-deletes {runner.source.name}"
        return ""
