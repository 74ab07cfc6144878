"""The roots of the sources: is the directory at a root's path the watched one, and can it be watched?

No parent of a root is watched. So a root is looked at when its own watch has a record, when the mount table
changes, and at every tick (the canary's). Each look is one open and one call, and may be repeated.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence

from syncd.core.errors import os_words
from syncd.core.model import Source
from syncd.sources import directories
from syncd.sources.mounts import MountTable
from syncd.sources.watch import inotify
from syncd.sources.watch.inotify import Inotify
from syncd.sources.watch.reports import WatchReports
from syncd.sources.watch.tree import WatchTree

log = logging.getLogger("syncd.watch")


class WatchedRoots:
    """Puts the roots of the sources into the tree and takes them out. For the thread that uses the tree."""

    def __init__(
        self,
        kernel: Inotify,
        mounts: MountTable,
        sources: Sequence[Source],
        tree: WatchTree,
        reports: WatchReports,
    ) -> None:
        self._kernel = kernel
        self._mounts = mounts
        self._sources = {source.name: source for source in sources}
        self._tree = tree
        self._reports = reports
        self._due: dict[str, str] = {}

    def place_all(self) -> None:
        """Watch every root that exists. Nothing is reported: a scan follows."""
        for source in self._sources:
            self._check(source, first=True)

    def rewatch(self, source: str) -> None:
        """Drop all watches of this source and place them again. Nothing is reported: a scan follows."""
        self._tree.drop_root(source)
        self._reports.gaps[source].clear()
        self._due.pop(source, None)
        self._check(source, first=True)

    def look(self) -> None:
        """Look at the roots that are suspect."""
        for source in self._tree.work.take_roots():
            self._check(source, first=False)

    def settle(self) -> None:
        """Request the scans of new roots, once everything in them is watched.

        A scan that runs ahead of the watches would miss changes behind it.
        """
        if not self._tree.work.is_placing:
            for source, reason in self._due.items():
                self._reports.rescan(source, "", reason)
            self._due.clear()

    def tick(self) -> None:
        """Look at every root, and retry what could not be watched."""
        for source in self._sources:
            self._check(source, first=False)
            gaps = self._reports.gaps[source]
            if gaps.is_whole and not gaps.paths():
                gaps.clear()
                self._tree.work.look_at_all(source)
            for path in gaps.paths():
                directory, _, name = path.rpartition("/")
                parent = self._tree.map.find(source, directory)
                if parent is not None and name:
                    self._tree.work.suspect(parent, name)

    def mounts_changed(self) -> None:
        """Look at what is now mounted on, over or under a root."""
        for point in self._mounts.refresh():
            for source in self._sources.values():
                if source.root == point or source.root.startswith(point.rstrip("/") + "/"):
                    self._tree.work.suspect_root(source.name)
                elif point.startswith(source.root + "/"):
                    self._mounted_in(source, point[len(source.root) + 1 :])

    def overflowed(self) -> None:
        """Scan and look at everything: the kernel's queue was full, so any change may have been lost."""
        self._reports.overflows += 1
        log.warning("the kernel's event queue was full, events were lost; everything is scanned again")
        for source in self._sources:
            if self._tree.map.root(source) is not None:
                self._reports.rescan(source, "", "the kernel's event queue was full")
                self._tree.work.look_at_all(source)

    def _mounted_in(self, source: Source, path: str) -> None:
        directory, _, name = path.rpartition("/")
        parent = self._tree.map.find(source.name, directory)
        if parent is not None:
            self._tree.work.suspect(parent, name)
            self._reports.alarm(source.name, path, "something was mounted or unmounted here")

    def _check(self, name: str, *, first: bool) -> None:
        root = self._sources[name].root
        if remote := self._mounts.remote_type(root):
            # This thread never touches such a root, because its server may be down.
            self._withdraw(
                name, f"{remote}: the kernel does not report what other machines change there", first
            )
            return
        if hanging := self._mounts.hanging_type(root):
            self._withdraw(name, f"on the way to it is {hanging}, whose server may be down", first)
            return
        try:
            fd = directories.open_resolved(root, directories.OPEN_DIRECTORY)
        except OSError as error:
            if error.errno in inotify.EXHAUSTED:
                raise
            self._withdraw(name, _problem(root, error), first)
            return
        try:
            watch = self._kernel.add(fd, inotify.ROOT | inotify.MASK_ADD)
        except OSError as error:
            self._withdraw(name, _problem(root, error), first)
        else:
            self._found(name, watch, first)
        finally:
            os.close(fd)

    def _found(self, name: str, watch: int, first: bool) -> None:
        root = self._tree.map.root(name)
        if root is not None and root.watch == watch:
            return
        other = self._tree.map.by_watch(watch)
        if other is not None:
            self._withdraw(name, f"the same directory is watched for source {other.source}", first)
            return
        gaps = self._reports.gaps[name]
        was_watched = self._tree.drop_root(name)
        gaps.clear()
        self._tree.add_root(name, watch)
        if not first:
            self._due[name] = "another directory is at the root" if was_watched else "the root is back"
            log.warning("source %s: %s, watching it from now on", name, self._due[name])

    def _withdraw(self, name: str, reason: str, first: bool) -> None:
        self._tree.drop_root(name)
        self._due.pop(name, None)
        self._reports.polled(name, reason, first=first)


def _problem(root: str, error: OSError) -> str:
    if error.errno in inotify.NO_ROOM:
        return f"watch limit reached; raise it with: {inotify.watches_remedy(1)}"
    if error.errno == errno.ENOENT:
        return "the root is missing"
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return "the root lies behind a link" if directories.link_in(root) else "the root is not a directory"
    if error.errno in inotify.UNREADABLE:
        return f"the root cannot be read: {os_words(error)}"
    return f"the root cannot be opened: {os_words(error)}"
