"""Watching: inotify -> paths to look at and subtrees to scan. Events are hints; the scan is the truth.

`Watcher` connects the parts and supervises them: watchdog's observer runs our emitter (`emitter`), which
keeps the map up to date (`tree`, `roots`) and reports (`reports`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from msgspec.structs import replace
from watchdog.events import FileSystemEventHandler
from watchdog.observers.api import BaseObserver, EventEmitter

from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources.watch import inotify
from syncd.sources.watch.emitter import InotifyEmitter
from syncd.sources.watch.gaps import WatchStatus
from syncd.sources.watch.inotify import Inotify
from syncd.sources.watch.reports import WatchReports, WatchSink

__all__ = ["WatchSink", "WatchStatus", "Watcher"]

log = logging.getLogger("syncd.watch")

_TRIGGER_AGAIN_SECONDS = 0.5
_STOP_SECONDS = 2.0


class Watcher:
    """Watches all sources on one inotify descriptor.

    It has two threads, both asleep while nothing happens. The reading one calls the sink. Methods that wait
    for it (`start`, `rewatch`, `restart`, `is_alive`) must not be called while holding a lock that the sink
    takes; from within the sink, only `rewatch` and `status` may be called.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        rules: Mapping[str, Rules],
        sink: WatchSink,
    ) -> None:
        """`rules` has an entry for every source."""
        self._sources = tuple(sources)
        self._rules = rules
        self._sink = sink
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._reader: InotifyEmitter | None = None
        self._refusal = "not started"
        self._overflows = 0

    def start(self) -> None:
        """Watch. On return, all possible watches are placed; `status` says which are not."""
        with self._lock:
            self._begin()

    def rewatch(self, source: str) -> None:
        """Drop the watches of one source and place them again. A scan should follow."""
        reader = self._reader
        if reader is not None:
            placed = reader.rewatch(source)
            if threading.current_thread() is not reader:
                placed.wait()

    def is_alive(self, timeout_seconds: float) -> bool:
        """Return whether events arrive: open the canary and wait for its event. This also checks the roots.

        After False, call `restart`. True also if the kernel refused an instance: a restart does not help,
        everything is polled, and each call asks for an instance again.
        """
        deadline = time.monotonic() + timeout_seconds
        reader = self._reader
        if reader is None:
            return self._ask_again()
        if not reader.is_working() or not reader.tick().wait(timeout_seconds) or not reader.is_working():
            return False
        if reader.canary.watch is None:
            return True  # the thread has answered, and there is no canary
        handled = reader.handled
        reader.canary.seen.clear()
        while (left := deadline - time.monotonic()) > 0:
            try:
                reader.canary.trigger()
            except OSError:
                break
            # A full queue drops the canary's event like any other: make another one.
            if reader.canary.seen.wait(min(left, _TRIGGER_AGAIN_SECONDS)):
                return reader.is_working()
        return reader.is_working() and reader.handled > handled

    def restart(self) -> None:
        """Abandon descriptor and thread, whatever their state, and start again. Everything is scanned."""
        with self._lock:
            self._end()
            if not self._begin():
                self._rescan_all()
            reader = self._reader
        if reader is not None:
            reader.rescan_all("watching was restarted").wait()

    def status(self) -> dict[str, WatchStatus]:
        """Return how each source is watched, by name."""
        reader = self._reader
        if reader is None:
            nothing = WatchStatus("polling", 0, 0, self._overflows, self._refusal, ("",))
            return {source.name: nothing for source in self._sources}
        statuses = dict(reader.statuses)
        if not reader.is_working():
            reason = f"watching has failed: {reader.failure!r}"
            for name, status in statuses.items():
                statuses[name] = replace(status, mode="polling", watches=0, reason=reason, unwatched=("",))
        return statuses

    def stop(self) -> None:
        """End both threads. A thread that hangs in the sink is abandoned and muted."""
        with self._lock:
            self._end()
            self._refusal = "stopped"

    def _begin(self) -> bool:
        """Begin. If the kernel refuses something, `_reader` stays None and `_refusal` says why."""
        assert self._reader is None
        try:
            kernel = Inotify()
        except OSError as error:
            remedy = (
                f"; raise it with: {inotify.instances_remedy()}" if error.errno in inotify.EXHAUSTED else ""
            )
            return self._refused(f"no inotify instance: {error.strerror}{remedy}")
        try:
            observer, reader = self._frame(kernel)
        except OSError as error:
            kernel.close()
            return self._refused(f"no descriptors for watching: {error.strerror}")
        placed = reader.place_all()
        observer.start()
        self._observer, self._reader = observer, reader
        placed.wait()
        return True

    def _refused(self, refusal: str) -> bool:
        if refusal != self._refusal:
            log.error("nothing is watched, everything is scanned instead: %s", refusal)
        self._refusal = refusal
        return False

    def _frame(self, kernel: Inotify) -> tuple[BaseObserver, InotifyEmitter]:
        """Return watchdog's observer and the emitter that it will run. Raises OSError."""
        reports = WatchReports(self._sources, self._rules, self._sink)
        reports.overflows = self._overflows
        emitter = partial(
            InotifyEmitter,
            kernel=kernel,
            sources=self._sources,
            rules=self._rules,
            reports=reports,
        )
        observer = BaseObserver(cast("type[EventEmitter]", emitter))
        observer.name = "syncd-watch-frame"
        observer.schedule(FileSystemEventHandler(), "/")  # watchdog needs a path, and does nothing with it
        (reader,) = observer.emitters
        assert isinstance(reader, InotifyEmitter)
        return observer, reader

    def _end(self) -> None:
        reader, observer = self._reader, self._observer
        self._reader = self._observer = None
        if reader is None or observer is None:
            return
        reader.reports.is_muted = True
        observer.stop()
        observer.join(_STOP_SECONDS)
        if reader.is_alive():
            log.error("the thread that reads events hangs; it is abandoned")
        self._overflows = reader.reports.overflows

    def _ask_again(self) -> bool:
        with self._lock:
            if self._refusal in ("not started", "stopped"):
                return False
            if self._reader is None and not self._begin():
                return True
            reader = self._reader
        if reader is not None:
            reader.rescan_all("watching has begun").wait()
        return True

    def _rescan_all(self) -> None:
        """Ask for the scans in this thread, because there is no reader."""
        reports = WatchReports(self._sources, self._rules, self._sink)
        for source in self._sources:
            reports.rescan(source.name, "", self._refusal)
        reports.flush()
