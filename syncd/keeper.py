"""One thread per source: is its root there, when is it scanned, and which deletions are due.

The thread sleeps until something is asked of it (a doubt from the watcher, a reload) or due (the periodic
scan, another look at a root that is away, the grace period of a deletion).
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from syncd import fingerprint, scan
from syncd.backoff import Schedule, ceiling
from syncd.deletes import Deletions
from syncd.errors import StateError, Stopped
from syncd.model import FileRef, FileStat, Irregular, OnDelete, Recorded, Source
from syncd.paths import Rules, printable
from syncd.progress import Beats
from syncd.scan import ScanReport
from syncd.workers import StoreWorkers, Surroundings

log = logging.getLogger(__name__)

_AWAY = Schedule(base_seconds=2.0, cap_seconds=60.0)  # how often a root that is away is looked for
_MAX_SUBTREES = 64  # doubts kept apart; more of them are one doubt about the whole source
_MAX_NAMED = 20  # examples that `status` names
POLL_SECONDS = 60.0
"""How often a source without events is scanned, or the subtrees that have no watch."""
_POLL_SHARE = 20  # but a scan takes at most a twentieth of the time
SAMPLE = 200
"""Recorded files that are looked for when a root has another identity than it had."""


@dataclass(frozen=True, slots=True)
class Blindness:
    """What events do not tell about a source: all of it, or some subtrees. `reason` is empty when nothing."""

    reason: str = ""
    subtrees: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sight:
    """The watcher, as far as one source is concerned."""

    blindness: Callable[[], Blindness]
    rewatch: Callable[[], None]
    """Place the watches anew."""


_ALL_SEEN = Sight(Blindness, lambda: None)


@dataclass(slots=True)
class SourceNews:
    """What `status` says about a source beyond what the state holds."""

    waiting_for: str = ""
    """Why nothing is done: the root is away, replaced, empty."""
    scanning: bool = False
    skipped: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    errors: int = 0
    deletes_parked: int = 0
    deletes_reason: str = ""
    scans: int = 0
    found_bytes: int = 0
    """Sizes of all files that scans have marked, since the start."""


class _Sink:
    """Takes what one scan reports to where it belongs."""

    def __init__(self, keeper: SourceKeeper, stat_now_ns: Callable[[], int]) -> None:
        self._keeper = keeper
        self._now_ns = stat_now_ns
        self.drift = 0
        self.unreadable_paths: list[str] = []
        self.gone: list[FileRef] = []

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        keeper = self._keeper
        young = (self._now_ns() - max(stat.mtime_ns, stat.ctime_ns)) / 1e9
        settle = keeper.source.settle_seconds
        quiet = min(settle, max(0.0, settle - young))
        keeper.news.found_bytes += stat.size
        if keeper.workers.mark_found(ref, quiet_seconds=quiet) and not (recorded and recorded.racy):
            self.drift += 1

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        if self._keeper.source.on_delete is OnDelete.DELETE:
            self._keeper.deletions.add(ref, self._keeper.clock.monotonic())

    def skipped(self, ref: FileRef, reason: str) -> None:
        log.debug("%s: skipped: %s", printable(ref.path), reason)

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        if len(self.unreadable_paths) < _MAX_NAMED:
            self.unreadable_paths.append(f"{printable(path) or '.'}: {error.strerror}")
        log.warning(
            "%s:%s: the directory cannot be read: %s",
            source,
            printable(path),
            error.strerror,
            extra={"cause": f"unreadable {source}"},
        )


class SourceKeeper:
    """Scans one source when it is due, and guards its root and its deletions."""

    def __init__(
        self,
        source: Source,
        rules: Rules,
        workers: StoreWorkers,
        around: Surroundings,
        beats: Beats,
        sight: Sight = _ALL_SEEN,
    ) -> None:
        self._beats = beats
        self.source = source
        self.rules = rules
        self.workers = workers
        self.clock = around.clock
        self.news = SourceNews()
        self.deletions = Deletions(
            source.max_delete_files,
            source.max_delete_fraction,
            grace_seconds=0.0 if around.once else max(source.settle_seconds, 2.0),
            window_seconds=source.rescan_seconds,
        )
        self.first_scan_done = threading.Event()
        self._state = around.state
        self._sight = sight
        self._once = around.once
        self._asked: dict[str, str] = {"": "start"}
        self._next_scan: float | None = None
        self._next_judgement: float | None = None
        self._away_looks = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._started = False
        self._thread = threading.Thread(target=self._run, name=f"keeper-{source.name}", daemon=True)

    # ---- what others ask --------------------------------------------------------------------------------

    def ask(self, subtree: str, reason: str) -> None:
        """Scan `subtree` (empty: everything) soon."""
        with self._changed:
            if "" in self._asked:
                return
            if subtree == "" or len(self._asked) >= _MAX_SUBTREES:
                self._asked = {"": reason}
            else:
                self._asked[subtree] = reason
            self._changed.notify()

    def wants_delete(self, ref: FileRef) -> None:
        """A worker found a recorded file gone."""
        with self._changed:
            self.deletions.add(ref, self.clock.monotonic())
            self._next_judgement = self.clock.monotonic() + max(self.source.settle_seconds, 2.0)
            self._changed.notify()

    def confirm_deletes(self) -> None:
        """The operator allows the deletions that wait."""
        with self._changed:
            self.deletions.confirm()
            self._next_judgement = self.clock.monotonic()
            self._changed.notify()

    def deletions_decided(self) -> bool:
        """Whether every deletion that was asked for is on its way, or waits for a person."""
        return not self.deletions.waiting() or self.news.deletes_parked > 0

    def start(self) -> None:
        """Start the thread, once."""
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; does not wait."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self, seconds: float) -> bool:
        """Wait for the thread at most so long; whether it ended."""
        if self._started:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def should_stop(self) -> bool:
        """Whether a scan that is under way should end."""
        self._beats.step()
        return self._stopping

    # ---- the loop ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (due := self._next()) is not None:
            subtree, reason = due
            self._beats.step()
            try:
                if reason:
                    self.round(subtree, reason)
                self.judge_deletions()
            except Stopped:
                return
            except StateError as error:
                log.error("%s: %s", self.source.name, error, extra={"cause": "state"})
                self._look_again_later("", "the state could not be used")
            except Exception as error:
                log.error("%s: the scan failed", self.source.name, exc_info=error)
                self._look_again_later("", "the last scan failed")
            finally:
                self._beats.rest()

    def _next(self) -> tuple[str, str] | None:
        """What to scan and why; an empty reason: only deletions are due. Sleeps until then; None: the end."""
        with self._changed:
            while not self._stopping:
                now = self.clock.monotonic()
                away = self._away_looks and self._next_scan is not None and now < self._next_scan
                if self._asked and not away:
                    subtree = next(iter(self._asked))
                    return subtree, self._asked.pop(subtree)
                if self._next_scan is not None and now >= self._next_scan:
                    return "", "interval"
                if self._next_judgement is not None and now >= self._next_judgement:
                    return "", ""
                due = [at for at in (self._next_scan, self._next_judgement) if at is not None]
                self._changed.wait(max(0.001, min(due) - now) if due else None)
        return None

    # ---- steps ------------------------------------------------------------------------------------------

    def round(self, subtree: str, reason: str) -> ScanReport | None:
        """One look at the root and, if it is the one that we know, one scan. None: the root is in doubt."""
        if not self._root_is_right():
            return None
        if reason == "start":
            self._mark_unfinished()
        started = self.clock.monotonic()
        sink = _Sink(self, self.clock.now_ns)
        self.news.scanning = True
        try:
            report = scan.scan(
                self.source,
                self.rules,
                self._state,
                sink,
                subtree=subtree,
                should_stop=self.should_stop,
                key_of=lambda path: self.workers.engine.key(FileRef(self.source.name, path)),
                store_id=self.workers.engine.store.store_id,
            )
        finally:
            self.news.scanning = False
        if report.doubt:
            self._away(report.doubt)
            return None
        self._note(subtree, reason, report, sink)
        self._schedule(self.clock.monotonic() - started)
        return report

    def judge_deletions(self) -> None:
        """Let the deletions go that are due and allowed, if the root is still the one that we know."""
        if not self.deletions.waiting():
            self._next_judgement = None
            self.news.deletes_parked, self.news.deletes_reason = 0, ""
            return
        if not self._root_is_right():
            return
        now = self.clock.monotonic()
        with self._changed:
            files, _ = self._state.recorded_totals(self.source.name)
            verdict = self.deletions.judge(now, files)
            self._next_judgement = verdict.next_look
        if verdict.parked and not self.news.deletes_parked:
            log.warning(
                "%s: %s; to allow them: syncd sync --allow-deletes %s",
                self.source.name,
                verdict.reason,
                self.source.name,
            )
        self.news.deletes_parked, self.news.deletes_reason = verdict.parked, verdict.reason
        for ref in verdict.allowed:
            self.workers.engine.condemned.add(ref)
            self.workers.mark(ref, quiet_seconds=0.0, event=True)

    def _root_is_right(self) -> bool:
        known = self._state.root_identity(self.source.name)
        has_records = self._state.recorded_totals(self.source.name)[0] > 0
        identity, doubt = scan.check_root(self.source, known, has_records)
        if doubt is not None and identity is not None and identity != known and self._same_files():
            log.info("%s: the same files under another device or inode: accepted", self.source.name)
            if known is not None and known.device != identity.device:
                self._state.renumber_device(self.source.name, known.device, identity.device)
            doubt = None
        if doubt is not None or identity is None:
            self._away(doubt or "the root is missing")
            return False
        if identity != known:
            self._state.set_root_identity(self.source.name, identity, self.source.root)
        self.workers.engine.roots[self.source.name] = identity
        if self._away_looks:
            if self.news.waiting_for:
                log.info("%s: the source is back", self.source.name)
                self._sight.rewatch()
            self._away_looks = 0
            self.news.waiting_for = ""
        return True

    def _same_files(self) -> bool:
        """Whether another directory holds the files that we recorded: the disk got another number."""
        rows = self._state.recorded_page(self.source.name, None, SAMPLE)
        if not rows:
            return False
        root_fd = fingerprint.open_root(self.source.root)
        try:
            there = sum(_same(fingerprint.look(root_fd, os.fsdecode(path)), row) for path, row in rows)
        finally:
            os.close(root_fd)
        return there > len(rows) / 2

    def _away(self, doubt: str) -> None:
        self._away_looks += 1
        known = self._state.root_identity(self.source.name)
        if known is not None:  # every step of a worker will find the root to be another, and do nothing
            self.workers.engine.roots[self.source.name] = known
        self.deletions.clear()
        self.workers.discard(self.source.name)
        if self.news.waiting_for != doubt:
            log.warning("%s: waiting: %s", self.source.name, doubt)
        self.news.waiting_for = doubt
        self._look_again_later("", "the root was away")

    def _look_again_later(self, subtree: str, reason: str) -> None:
        with self._changed:
            self._asked.setdefault(subtree, reason)
            self._away_looks = max(1, self._away_looks)
            self._next_scan = self.clock.monotonic() + ceiling(self._away_looks, _AWAY)
        if self._once:
            self.first_scan_done.set()
            self.stop()

    def _mark_unfinished(self) -> None:
        """Files with an unfinished upload: to be gone on with, or given up if the file is gone."""
        for checkpoint in self._state.checkpoints():
            if checkpoint.ref.source == self.source.name:
                self.workers.mark(checkpoint.ref, quiet_seconds=0.0, event=True)

    def _note(self, subtree: str, reason: str, report: ScanReport, sink: _Sink) -> None:
        news = self.news
        news.scans += 1
        news.errors = report.errors
        news.unreadable = sink.unreadable_paths
        if subtree:
            return
        news.skipped = dict(Counter(report.skipped))
        drift = sink.drift if reason == "interval" and not self._sight.blindness().reason else 0
        if report.complete:
            self._state.note_scan(self.source.name, self.clock.now_ns(), drift)
        if drift:
            log.info("%s: the scan found %d files that no event had told of", self.source.name, drift)
        log.info(
            "%s: scanned (%s): %d files, %d to look at, %d gone, %d unreadable directories",
            self.source.name,
            reason,
            report.files,
            report.found,
            report.absent,
            report.errors,
        )
        self.first_scan_done.set()

    def _schedule(self, took_seconds: float) -> None:
        """The next scan: jittered by a tenth, sooner where there are no events."""
        interval = self.source.rescan_seconds
        blind = self._sight.blindness()
        if blind.reason:
            interval = min(interval, max(POLL_SECONDS, took_seconds * _POLL_SHARE))
        interval *= 0.9 + 0.2 * self.clock.chance()
        with self._changed:
            self._next_scan = self.clock.monotonic() + interval


def _same(seen: FileStat | Irregular | None, row: Recorded) -> bool:
    return isinstance(seen, FileStat) and seen.size == row.stat.size and seen.mtime_ns == row.stat.mtime_ns
