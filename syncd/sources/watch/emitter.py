"""The thread that reads events: a watchdog emitter for all sources on one inotify descriptor.

watchdog starts, stops and joins it, but its queue is not used: the queue has no bound, and its thread ends
with a handler's first exception. The emitter reports to `WatchReports` itself. The observer's own thread
waits on an empty queue, and this one in poll(): neither wakes up while nothing happens.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from watchdog.observers.api import EventEmitter, EventQueue, ObservedWatch

from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources.mounts import MountTable
from syncd.sources.watch import inotify
from syncd.sources.watch.gaps import WatchStatus
from syncd.sources.watch.inotify import Inotify, Record
from syncd.sources.watch.map import Node
from syncd.sources.watch.reports import WatchReports
from syncd.sources.watch.roots import WatchedRoots
from syncd.sources.watch.tree import WatchTree

log = logging.getLogger("syncd.watch")

_STOP_SECONDS = 2.0
_COUNTS_A_TURN = 64


class Canary:
    """A file that makes an event on the descriptor when it is opened, and that nothing writes.

    It is in memory and has no name: no other process can open or remove it, and a kill leaves nothing behind.
    """

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.watch: int | None = None
        self._fd = -1
        self._problem: str | None = None

    def place(self, kernel: Inotify) -> None:
        """Watch the file, made if necessary. On failure, `watch` is None, and one warning is logged."""
        try:
            if self._fd < 0:
                self._fd = os.memfd_create("syncd-canary")
            self.watch, problem = kernel.add(self._fd, inotify.OPEN), None
        except OSError as error:
            self.watch, problem = None, str(error)
        if problem is not None and problem != self._problem:
            log.warning("the canary cannot be watched, so lost events may go unnoticed: %s", problem)
        self._problem = problem

    def trigger(self) -> None:
        """Make an event. Raises OSError."""
        os.close(os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class InotifyEmitter(EventEmitter):
    """Reads, looks, reports. An exception ends the thread and becomes its `failure`."""

    def __init__(
        self,
        event_queue: EventQueue,
        watch: ObservedWatch,
        *,
        kernel: Inotify,
        sources: Sequence[Source],
        rules: Mapping[str, Rules],
        reports: WatchReports,
        **frame: Any,
    ) -> None:
        super().__init__(event_queue, watch, **frame)
        self.name = "syncd-watch"
        self.failure: BaseException | None = None
        self.handled = 0
        """Turns that brought records. Like the canary, they prove that events arrive."""
        self.reports = reports
        self.canary = Canary()
        self.statuses: Mapping[str, WatchStatus] = reports.status({source.name: 0 for source in sources})
        """The status after the last turn; replaced, never changed."""
        self._kernel = kernel
        self._sources = sources
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._mounts = MountTable()
        except OSError:
            os.close(self._wake)
            raise
        self._tree = WatchTree(kernel, self._mounts, sources, rules, reports)
        self._roots = WatchedRoots(kernel, self._mounts, sources, self._tree, reports)
        self._lock = threading.Lock()
        self._is_closed = False
        self._requests: deque[tuple[Callable[[], None], threading.Event, bool]] = deque()
        self._waiting: list[threading.Event] = []
        self._carried_out: list[threading.Event] = []
        self._poll = select.poll()
        self._poll.register(kernel.fileno(), select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(self._mounts.fileno(), select.POLLPRI)

    # ---- for other threads -------------------------------------------------------------------------------

    def place_all(self) -> threading.Event:
        """Watch every source. The event is set when all watches are placed, or the thread has ended."""
        return self._ask(self._roots.place_all, settled=True)

    def rewatch(self, source: str) -> threading.Event:
        """Drop the watches of one source and place them again. The event is as in `place_all`."""
        return self._ask(lambda: self._roots.rewatch(source), settled=True)

    def tick(self) -> threading.Event:
        """Check roots, gaps and canary. The event is set when that is done, or the thread has ended."""
        return self._ask(self._tick, settled=False)

    def rescan_all(self, reason: str) -> threading.Event:
        """Ask for a scan of every source. The event is set when the sink knows."""
        return self._ask(lambda: self._rescan_all(reason), settled=False)

    def on_thread_stop(self) -> None:
        """Interrupt the wait, as watchdog's hook of `stop`."""
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self._wake, 1)

    def join(self, timeout: float | None = None) -> None:
        """Like `threading.Thread.join`, with a limit: watchdog sets none, and a sink may hang."""
        super().join(_STOP_SECONDS if timeout is None else timeout)

    def is_working(self) -> bool:
        """Return whether the thread runs and has not failed."""
        return self.is_alive() and self.failure is None

    def close(self) -> None:
        """Release the descriptors and all waiting callers, even if the thread never ran."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for _, done, _ in self._requests:
                done.set()
            for done in [*self._waiting, *self._carried_out]:
                done.set()
            os.close(self._wake)
        self._kernel.close()
        self._mounts.close()
        self.canary.close()

    def _ask(self, action: Callable[[], None], *, settled: bool) -> threading.Event:
        done = threading.Event()
        with self._lock:
            if self._is_closed:
                done.set()
            else:
                self._requests.append((action, done, settled))
                os.eventfd_write(self._wake, 1)
        return done

    # ---- the thread --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run watchdog's loop, and note how it ends."""
        try:
            super().run()
        except BaseException as error:  # whatever it was, it ended the thread
            self.failure = error
            log.critical("watching has failed and will be restarted", exc_info=error)
        finally:
            self.close()

    def queue_events(self, timeout: float) -> None:
        """Do one turn. watchdog calls it in a loop; its `timeout` is not needed."""
        self.turn(0.0 if self.reports.is_counting else self._tree.work.patience())

    def turn(self, patience: float | None) -> bool:
        """Wait so many seconds (None: no limit) for anything, and handle it. False: nothing is left."""
        ready = {fd for fd, _ in self._poll.poll(None if patience is None else patience * 1000)}
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if self._mounts.fileno() in ready:
            self._roots.mounts_changed()
        self._run_requests()
        records = self._kernel.read()
        files = self._sort(records)
        paths = self._report(files, {})
        moves = self._tree.moves
        self._roots.look()
        self._tree.turn(quiet=not records)
        if self._tree.moves != moves:
            self._report(files, paths)
        self._finish(bool(records))
        return bool(records) or self.reports.is_counting or self._tree.work.patience() is not None

    def _sort(self, records: Iterable[Record]) -> dict[Node, dict[bytes, None]]:
        """Pass hints about directories to the tree; return the files and folders, each once."""
        files: dict[Node, dict[bytes, None]] = {}
        for watch, mask, _, name in records:
            if mask & inotify.Q_OVERFLOW:
                self._roots.overflowed()
                continue
            node = self._tree.map.by_watch(watch)
            if node is None:
                if watch == self.canary.watch:
                    self._heard(mask)
            elif mask & inotify.ABOUT_ITSELF:
                self._tree.lost(node, mask)
            elif name:
                names = files.setdefault(node, {})
                if mask & inotify.NAMES:
                    names[b""] = None  # the folder gets its first entry, or loses its last one
                if mask & inotify.ISDIR:
                    names[name + b"/"] = None
                    self._tree.hint(node, os.fsdecode(name), mask)
                elif not mask & inotify.ATTRIB:
                    names[name] = None
                    self._tree.heard_of(node, os.fsdecode(name))
        return files

    def _report(self, files: Mapping[Node, Iterable[bytes]], before: Mapping[Node, str]) -> dict[Node, str]:
        """Report the files of all directories whose path is not that in `before`; return the paths now."""
        paths = {}
        for node, names in files.items():
            path = self._tree.map.path(node)
            if path is None or path == before.get(node):
                continue
            paths[node] = path
            for name in names:
                self.reports.changed(node.source, path, os.fsdecode(name))
        return paths

    def _heard(self, mask: int) -> None:
        if mask & inotify.OPEN:
            self._carried_out.append(self.canary.seen)

    def _finish(self, has_news: bool) -> None:
        self._roots.settle()
        self.reports.count(_COUNTS_A_TURN)
        watches = {source.name: self._tree.map.count(source.name) for source in self._sources}
        is_placed = not self._tree.work.is_placing and not self.reports.is_counting
        if is_placed:
            self.reports.say_limits(watches)
        self.statuses = self.reports.status(watches)
        self.reports.flush()
        if has_news:
            self.handled += 1
        if is_placed:
            self._carried_out += self._waiting
            self._waiting.clear()
        for done in self._carried_out:
            done.set()
        self._carried_out.clear()

    def _run_requests(self) -> None:
        while self._requests:
            action, done, settled = self._requests.popleft()
            action()
            (self._waiting if settled else self._carried_out).append(done)

    def _tick(self) -> None:
        self._roots.tick()
        self.canary.place(self._kernel)

    def _rescan_all(self, reason: str) -> None:
        for source in self._sources:
            self.reports.rescan(source.name, "", reason)
