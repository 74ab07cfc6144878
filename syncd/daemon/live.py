"""What only the running daemon knows: files under way and waiting, watches, health."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import NamedTuple

from syncd.core.errors import StateError
from syncd.core.model import FileRef, Source
from syncd.core.paths import printable
from syncd.core.words import RESTLESS_SECONDS, Word, iso, paused_words, queue_word
from syncd.daemon import status
from syncd.daemon.explain import LiveFile
from syncd.daemon.status import DaemonStatus, LiveSource, Status, StoreReport, WatchStatus
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.source_status import EventCoverage
from syncd.sources.mounts import hidden_by
from syncd.sources.watch.watcher import Watcher
from syncd.transfer.pace.progress import Durations

_RESTLESS_SETTLES = 10
"""`never_quiet` lists a file that has kept changing for so many settle periods, and a minute."""
_MOST_ERRORS = 20_000


class Measured(NamedTuple):
    """Counters since the start that are too detailed for the status."""

    answers: Mapping[str, Mapping[tuple[str, str], int]]
    """Store -> requests by operation and outcome."""
    durations: Mapping[str, Mapping[str, Durations]]
    """Store -> durations of requests by operation."""
    delays: Mapping[str, Durations]
    """Source -> delays from the notice of a change to the object."""


class Live:
    """The running daemon as `syncd.daemon.status` sees it. For any thread.

    `watcher` is a function because a reload replaces the watcher.
    """

    def __init__(
        self, pipeline: Pipeline, watcher: Callable[[], Watcher], monotonic: Callable[[], float]
    ) -> None:
        self.health = ""
        """What is wrong with the daemon; empty if nothing is."""
        self.stops_at: float | None = None
        """When the stopping daemon sends nothing more (monotonic seconds); None: it does not stop."""
        self._pipeline = pipeline
        self._watcher = watcher
        self._monotonic = monotonic
        self._started = monotonic()
        self.started_seconds = pipeline.clock.now_ns() / 1e9
        """By the wall clock, since the epoch."""

    def status(self, sources: tuple[Source, ...]) -> Status:
        """Return the status of the daemon and these sources. Raises StateError."""
        with suppress(StateError):  # `health` says that the state cannot be written
            self._pipeline.flush_totals()
        return status.report(sources, self._pipeline.state, self)

    def measured(self) -> Measured:
        """Return counters too detailed for the status. Its durations keep growing."""
        stores = self._pipeline.store_runners.items()
        return Measured(
            {name: dict(runner.progress.answers) for name, runner in stores},
            {name: dict(runner.progress.durations) for name, runner in stores},
            {name: runner.news.delays for name, runner in self._pipeline.source_runners.items()},
        )

    def coverage(self, source: str) -> EventCoverage:
        """Return which parts of a source the kernel's events do not cover, and why."""
        seen = self._watcher().status().get(source)
        if seen is None or not (seen.mode == "polling" or seen.unwatched):
            return EventCoverage()
        return EventCoverage(seen.reason or "no events from here", seen.unwatched)

    # ---- see `syncd.daemon.status.Live` -----------------------------------------------------------------

    def daemon(self) -> DaemonStatus:
        """Return what is known about the process."""
        rate, left = self._pipeline.outlook()
        return DaemonStatus(
            running=True,
            pid=os.getpid(),
            uptime_seconds=round(self._monotonic() - self._started, 3),
            health=self.health or "ok",
            stores_paused={
                name: why for name in self._pipeline.store_runners if (why := self._store_waits(name))
            },
            stopping_seconds=None
            if self.stops_at is None
            else max(0, round(self.stops_at - self._monotonic())),
            state_rebuilt=self._pipeline.state.rebuilt,
            bytes_per_second=round(rate) if rate else None,
            seconds_left=None if left is None else round(left),
            bytes_by_minute=self._pipeline.line.by_minute(),
            bandwidth_limit=self._pipeline.line.holds().rate or None,
        )

    def stores(self) -> list[StoreReport]:
        """Return the stores that sources use."""
        return [
            StoreReport(name, runner.workers.health.paused_for or None, runner.progress.requests)
            for name, runner in self._pipeline.store_runners.items()
        ]

    def rates(self) -> dict[FileRef, float]:
        """Return the bytes per second of each file under way, if known."""
        runners = self._pipeline.store_runners.values()
        return {ref: rate for runner in runners for ref, rate in runner.progress.rates().items()}

    def queue(self, limit: int) -> list[tuple[FileRef, Word]]:
        """Return at most `limit` dirty files with their words, those in work first. Raises StateError."""
        found: list[tuple[FileRef, Word]] = []
        errors = {
            failure.ref: failure.error
            for failure in self._pipeline.state.failures.page(limit=_MOST_ERRORS, exact=False)
        }
        for name, store in self._pipeline.store_runners.items():
            shares = {ref: (done, total) for ref, done, total in store.progress.in_flight()}
            waits = {source: self._waits(source, name) for source in store.engine.sources}
            for ref in store.workers.queue.dirty():
                queued = store.workers.queue.about(ref)
                if queued is not None:
                    error = errors.get(ref, "") if queued.deferred else ""
                    word = queue_word(queued, error, shares.get(ref), waits.get(ref.source, ""))
                    found.append((ref, word))
        order = ("uploading", "pending", "settling", "failed")
        return sorted(found, key=lambda each: (order.index(each[1].word), each[0]))[:limit]

    def _waits(self, source: str, store: str) -> str:
        """Return why nothing of a source is sent at the moment; empty: it is sent."""
        pauses = self._pipeline.state.pauses()
        if ("source", source) in pauses:
            return f"the source is paused {paused_words(pauses['source', source])}"
        why = self._store_waits(store)
        return f"store {store} is paused: {why}" if why else ""

    def _store_waits(self, store: str) -> str:
        """Return why nothing is sent to a store at the moment; empty: it is sent."""
        pauses = self._pipeline.state.pauses()
        for what in (("all", ""), ("store", store)):
            if what in pauses:
                return paused_words(pauses[what])
        if pause := self._pipeline.paused_by_timetable():
            return pause
        return self._pipeline.store_runners[store].workers.health.paused_for

    def pending(self) -> dict[str, int]:
        """Return the number of dirty files of each source, those in progress included."""
        return self._pipeline.pending()

    def deferred(self) -> Counter[str]:
        """Return the number of dirty files of each source whose last attempt failed."""
        runners = self._pipeline.store_runners.values()
        return sum((runner.workers.queue.deferred() for runner in runners), Counter())

    def in_flight(self) -> list[tuple[FileRef, int, int]]:
        """Return the files under way, with the bytes done and the bytes in all."""
        return self._pipeline.in_flight()

    def file(self, ref: FileRef) -> LiveFile | None:
        """Return what the daemon knows about one path; None: a reload is adding its source."""
        runner = self._pipeline.source_runners.get(ref.source)
        if runner is None:
            return None
        store = self._pipeline.store_runners[runner.source.store]
        flying = (item for item in store.progress.in_flight() if item[0] == ref)
        coverage = self.coverage(ref.source)
        watched = not any(
            part in ("", ref.path) or ref.path.startswith(f"{part}/") for part in coverage.subtrees
        )
        return LiveFile(
            store.store.store_id,
            store.workers.queue.about(ref),
            next((item[1:] for item in flying), None),
            store.progress.rates().get(ref),
            self._waits(ref.source, store.name),
            runner.news.waiting_for,
            "" if watched else coverage.reason,
            runner.deletions_wait(),
        )

    def _since(self, moment: float | None) -> str | None:
        """Return the wall clock time of a moment of the monotonic clock."""
        if moment is None:
            return None
        return iso(self._pipeline.clock.now_ns() - int((self._monotonic() - moment) * 1e9))

    def source(self, name: str) -> LiveSource | None:
        """Return what is known about a source beyond its numbers; None: a reload is adding it."""
        runner = self._pipeline.source_runners.get(name)
        seen = self._watcher().status().get(name)
        if runner is None or seen is None:
            return None
        news = runner.news
        waiting_for = news.waiting_for
        if silence := self._pipeline.silence(name):
            waiting_for = silence
        elif waiting_for and (directive := hidden_by(runner.source.root)):
            waiting_for += f" (hidden by the unit's {directive})"
        longer_than = max(RESTLESS_SECONDS, _RESTLESS_SETTLES * runner.source.settle_seconds)
        restless = runner.workers.queue.restless(longer_than)
        return LiveSource(
            waiting_for or None,
            news.scanning,
            news.unreadable,
            news.out_of_sight,
            news.hidden,
            news.deletes_parked,
            news.deletes_reason or None,
            runner.waits_for_take_over() or None,
            [
                printable(ref.path)
                for ref, seconds in restless
                if ref.source == name
                and seconds > longer_than + _carried_seconds(runner.workers.longest(ref))
            ],
            WatchStatus(
                seen.mode,
                seen.watches,
                seen.overflows,
                seen.reason or None,
                [printable(path) for path in seen.unwatched],
            ),
            self._since(runner.workers.queue.oldest(name)),
            iso(news.uploaded_ns),
            dict(news.actions),
            dict(news.kinds_failed),
            news.bytes_sent,
            dict(news.saved),
            runner.source.rescan_seconds,
        )


def _carried_seconds(longest: float) -> float:
    """Return how long a file may be restless before it is carried as it is; 0: no such limit."""
    return longest if longest < inf else 0.0
