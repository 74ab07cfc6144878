"""Carries the watch tree's reports to the daemon: changed files, subtrees to scan, gaps.

An exception of the sink does not end the thread that reads events. It is logged, and a scan of the whole
source replaces what the sink did not take.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from syncd.core.model import Source
from syncd.core.paths import printable
from syncd.core.patterns import Rules
from syncd.core.words import counted
from syncd.sources.watch import inotify
from syncd.sources.watch.gaps import Gap, GapKind, Gaps, WatchStatus, merge_subtrees

log = logging.getLogger("syncd.watch")


class WatchSink(Protocol):
    """Called by the thread that reads events. It has to be quick, and must not wait for a `Watcher`."""

    def changed(self, source: str, path: str) -> None:
        """Look at this path: a file, or absent."""

    def rescan(self, source: str, subtree: str, reason: str) -> None:
        """Scan this subtree, '' for the whole source; it may be absent."""


class WatchReports:
    """Everything that is reported, for all sources."""

    def __init__(self, sources: Sequence[Source], rules: Mapping[str, Rules], sink: WatchSink) -> None:
        self.gaps = {source.name: Gaps() for source in sources}
        self.overflows = 0
        self.is_muted = False
        """A successor has taken over: nothing more is passed on."""
        self._roots = {source.name: source.root for source in sources}
        self._rules = rules
        self._markers = {source.name: source.exclude_if_present for source in sources}
        self._sink = sink
        self._rescans: dict[str, dict[str, str]] = {}
        self._alarms: set[tuple[str, str]] = set()
        self._to_count: list[tuple[str, str, Gap]] = []

    # ---- files and subtrees

    def changed(self, source: str, directory: str, name: str) -> None:
        """Pass on at once a file that may have changed, if the rules want it. `name` is a folder with its
        slash, or empty for the `directory` itself. The directory of a marker is scanned.
        """
        if name in self._markers[source]:
            self.rescan(source, directory, f"{name} came, changed or went")
        path = f"{directory}/{name}" if directory else name
        if not path or not self._rules[source].wants_file(path) or self.is_muted:
            return
        try:
            self._sink.changed(source, path)
        except Exception:  # the reader goes on, whatever the sink raises
            log.exception("source %s: a change could not be passed on", source)
            self.rescan(source, "", "a change could not be passed on")

    def rescan(self, source: str, subtree: str, reason: str) -> None:
        """Have a subtree scanned. The request is passed on at the end of the turn, with the others."""
        self._rescans.setdefault(source, {}).setdefault(subtree, reason)

    def alarm(self, source: str, subtree: str, reason: str) -> None:
        """Like `rescan`, for something unusual: it is also logged, unless a larger subtree is scanned."""
        self._alarms.add((source, subtree))
        self.rescan(source, subtree, reason)

    def flush(self) -> None:
        """Pass the subtrees on. What the sink refuses is kept for the next time."""
        rescans, self._rescans = self._rescans, {}
        alarms, self._alarms = self._alarms, set()
        if self.is_muted:
            return
        for source, reasons in rescans.items():
            for subtree, reason in merge_subtrees(reasons):
                if (source, subtree) in alarms:
                    where = printable(subtree) or "the root"
                    log.warning("source %s: %s: %s, scanning it", source, where, reason)
                try:
                    self._sink.rescan(source, subtree, reason)
                except Exception:  # as above
                    log.exception("source %s: a subtree to scan could not be passed on", source)
                    self.rescan(source, subtree, reason)

    # ---- what is not watched

    def polled(self, source: str, reason: str, *, first: bool) -> None:
        """Note that no events come from this source. `first`: a scan follows anyway."""
        gaps = self.gaps[source]
        news = gaps.polled != reason
        gaps.clear()
        gaps.polled = reason
        if news:
            log.warning("source %s: not watched, scanned instead: %s", source, reason)
            if not first:
                self.rescan(source, "", reason)

    def unwatched(self, source: str, path: str, error: OSError) -> None:
        """Note that a directory cannot be watched. Logged once each; the watch limit once for each source."""
        if error.errno in inotify.NO_ROOM:
            gap = Gap(GapKind.LIMIT, "watch limit reached")
        elif error.errno in inotify.UNREADABLE:
            gap = Gap(GapKind.UNREADABLE, "cannot be read")
        else:
            gap = Gap(GapKind.OTHER, error.strerror or str(error))
        self.gap(source, path, gap)

    def gap(self, source: str, path: str, gap: Gap) -> None:
        """Note that a directory is not watched."""
        news = self.gaps[source].add(path, gap)
        if news is None:
            return
        path, gap = news
        self.rescan(source, path, gap.reason)
        if gap.kind is GapKind.LIMIT:
            self._to_count.append((source, path, gap))
        else:
            log.warning("source %s: %s is not watched: %s", source, printable(path) or "the root", gap.reason)

    @property
    def is_counting(self) -> bool:
        """Return whether directories beyond the watch limit still have to be counted."""
        return bool(self._to_count)

    def count(self, limit: int) -> None:
        """Count directories beyond the watch limit, in at most `limit` listings, for the right advice."""
        for _ in range(min(limit, len(self._to_count))):
            source, path, gap = self._to_count.pop()
            for name in _directories(f"{self._roots[source]}/{path}"):
                below = f"{path}/{name}" if path else name
                if self._rules[source].wants_directory(below):
                    gap.directories += 1
                    self._to_count.append((source, below, gap))

    def say_limits(self, watches: Mapping[str, int]) -> None:
        """Log, once for each source, how far the watch limit reached; `watches` counts those in place."""
        for source, gaps in self.gaps.items():
            if gaps.is_limit_news():
                missing = gaps.beyond_limit(watches[source])
                remedy = inotify.watches_remedy(missing)
                log.warning(
                    "source %s: watch limit reached, %s scanned instead; raise it with: %s",
                    source, counted(missing, "directory", "is"), remedy,
                )  # fmt: skip

    def status(self, watches: Mapping[str, int]) -> dict[str, WatchStatus]:
        """Return the status of every source, with the number of its `watches`."""
        statuses = {}
        for source, gaps in self.gaps.items():
            missing = gaps.beyond_limit(watches[source])
            remedy = inotify.watches_remedy(missing) if missing else ""
            statuses[source] = gaps.status(watches[source], self.overflows, remedy)
        return statuses


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []  # only a count
