"""What `status` says about a source beyond the state: results of scans, and gaps in its events."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from msgspec import Struct, field

from syncd.core import plan
from syncd.core.errors import os_words
from syncd.core.model import FileRef, FileStat, OnDelete, Recorded, Source
from syncd.core.paths import name_of, printable
from syncd.core.plan import Copy, Outcome, Upload
from syncd.transfer.pace.progress import Durations

log = logging.getLogger("syncd.scan")

DELAY_BOUNDS = (1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0)
"""Seconds."""
_TOGETHER_SECONDS = 1.0
"""The delay of a file with another's name: the scan may still find the other under its new name."""
_MAX_NAMED = 20  # examples that `status` names


class EventCoverage(Struct, frozen=True):
    """What events do not cover of a source: all of it, or some subtrees. Empty `reason`: they cover it."""

    reason: str = ""
    subtrees: tuple[str, ...] = ()


class WatchHandle(Struct, frozen=True):
    """What a source needs of the watcher."""

    coverage: Callable[[], EventCoverage] = EventCoverage
    rewatch: Callable[[], None] = lambda: None
    """Places the watches again."""


class SourceStatus(Struct):
    """What `status` says about a source beyond the state."""

    waiting_for: str = ""
    """Why the source waits: its root is missing, replaced or empty, or the last scan failed."""
    scanning: bool = False
    skipped: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    out_of_sight: int = 0
    """Recorded files that are out of sight and kept: behind a link or a mount, or on a missing device."""
    hidden: list[str] = field(default_factory=list)
    """The first directories of those behind a link, with the reason."""
    errors: int = 0
    deletes_parked: int = 0
    deletes_reason: str = ""
    scans: int = 0
    found_bytes: int = 0
    """The sizes of all files that scans have marked since the start."""
    actions: Counter[str] = field(default_factory=Counter)
    """What was done since the start, by the name of the action."""
    kinds_failed: Counter[str] = field(default_factory=Counter)
    """How often files failed since the start, by `core.errors.kind`."""
    bytes_sent: int = 0
    saved: Counter[str] = field(default_factory=Counter)
    """Bytes that were not sent, by cause."""
    uploaded_ns: int | None = None
    """When the last object was made, by the wall clock; None: never since the start."""
    delays: Durations = field(default_factory=lambda: Durations(DELAY_BOUNDS))
    """From the first notice of a change until the object was there."""

    def count(self, outcome: Outcome, delay_seconds: float, now_ns: int) -> None:
        """Count what was done with a file, `delay_seconds` after it became dirty. The caller holds a lock."""
        self.actions[type(outcome.action).__name__.lower()] += 1
        self.bytes_sent += outcome.bytes_sent
        for cause, size in outcome.saved.items():
            self.saved[cause.value] += size
        if isinstance(outcome.action, (Upload, Copy)):
            self.uploaded_ns = now_ns
            self.delays.add(delay_seconds)


class ScanResults:
    """The sink of one scan (`syncd.sources.scan.compare.ScanSink`).

    `mark` takes a file and the seconds that it still has to stay quiet. It may block, and returns whether the
    file was clean before. `gone` takes a recorded file that no longer exists, `keep` one whose object is
    kept.
    """

    def __init__(
        self,
        source: Source,
        news: SourceStatus,
        *,
        mark: Callable[[FileRef, float], bool],
        gone: Callable[[FileRef], None],
        keep: Callable[[FileRef, Recorded], None],
        now_ns: Callable[[], int],
        once: bool = False,
    ) -> None:
        self._source = source
        self._news = news
        self._mark = mark
        self._gone = gone
        self._keep = keep
        self._now_ns = now_ns
        self._once = once
        self.young = 0
        """Files younger than ``min_age`` that a single pass leaves out."""
        self.drift = 0
        """How many changed files no event had announced."""
        self.unreadable_paths: list[str] = []
        """The first unreadable directories, with the reason."""
        self.hidden_paths: list[str] = []
        """The first directories behind a link, with the reason."""

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        now_ns = self._now_ns()
        young_ns = plan.too_young_ns(stat, now_ns, int(self._source.min_age_seconds * 1e9))
        if young_ns and self._once:
            self.young += 1
            return
        age_ns = plan.age_ns(stat, now_ns) or 0  # unknown: wait the whole period
        self._news.found_bytes += stat.size
        quiet_seconds = max(young_ns / 1e9, self._source.settle_seconds - max(0, age_ns) / 1e9)
        if recorded is not None and (stat.device, stat.inode) != (recorded.stat.device, recorded.stat.inode):
            quiet_seconds = max(quiet_seconds, _TOGETHER_SECONDS)
        fresh = self._mark(ref, quiet_seconds)
        if fresh and not (recorded and recorded.racy):
            self.drift += 1

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        if self._source.on_delete is OnDelete.DELETE:
            self._gone(ref)
        else:
            self._keep(ref, recorded)

    def skipped(self, ref: FileRef, reason: str) -> None:
        log.debug("%s: skipped: %s", name_of(ref), reason)

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        if len(self.unreadable_paths) < _MAX_NAMED:
            self.unreadable_paths.append(f"{printable(path) or '.'}: {os_words(error)}")
        log.warning(
            "%s:%s: the directory cannot be read: %s",
            source,
            printable(path),
            os_words(error),
            extra={"cause": f"unreadable {source}"},
        )

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        if len(self.hidden_paths) < _MAX_NAMED:
            self.hidden_paths.append(f"{printable(path) or '.'}: {reason}")
        log.warning(
            "%s:%s: its files are out of sight and are kept: %s",
            source,
            printable(path),
            reason,
            extra={"cause": f"out of sight {source}"},
        )
