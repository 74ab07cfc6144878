"""Keeps an object that is to be deleted or replaced while a file waits that may be copied from it.

A file that was renamed, or moved to another source of the same store, shows as a deletion and a new file.
Only reading the new file shows that they belong together. That may come late: the file settles, or waits for
its turn, for a pause to end or for a scan. So a deletion waits for each file of the recorded size that became
dirty no later than the deletion, and for each scan that was requested by then. Later files cannot put it off,
so it waits for a bounded number of them; nor can a file that keeps failing or changing.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from math import inf

from syncd.core.errors import FileChanged, FileError, PutsWait
from syncd.core.model import FileRef, FileStat, Irregular, Recorded
from syncd.core.paths import is_link_key, name_of
from syncd.pipeline.queue import WorkQueue
from syncd.sources import directories, files
from syncd.transfer.local import EngineSource
from syncd.transfer.pace.heartbeat import Heartbeat

_LEAST_SECONDS = 1.0
_MOST_SECONDS = 60.0
"""The longest time before a waiting deletion is tried again; it is an eighth of the time that it waited."""
_LOOK_SECONDS = 20.0
"""The time before another look at all dirty files, if one does not end: a folder does not answer."""
_LOOK_SHARE = 20.0  # looks take at most this part of the time


class Donors:
    """The objects of one store from which dirty files may be copied. For any thread."""

    def __init__(
        self,
        queue: WorkQueue,
        sources: Mapping[str, EngineSource],
        heartbeat: Heartbeat,
        monotonic: Callable[[], float],
        is_vain: Callable[[FileRef], bool],
        recorded: Callable[[FileRef], Recorded | None],
    ) -> None:
        self.caught_up: dict[str, Callable[[float], bool]] = {}
        """Source -> whether all scans have ended that were requested before a time."""
        self.is_hasty = False
        """A single pass gives up what waits too often: during a look it uses the previous one, and it deletes
        when all files have been sent.
        """
        self._queue = queue
        self._sources = sources
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._is_vain = is_vain
        """Returns whether no success of a file is to be expected for now."""
        self._recorded = recorded
        self._lock = threading.Lock()
        self._looked_at = self._next_look = -inf
        self._marks = -1
        """How many marks the queue had seen at that look."""
        self._rest = 0.0
        """For how many seconds a look is valid for a file that is to be replaced."""
        self._by_inode: dict[tuple[int, int], FileRef] = {}
        self._by_size: dict[int, deque[tuple[float, FileRef]]] = {}
        """The files that were dirty at `_looked_at`, the oldest first, each with the time since when."""

    def spare(self, root_fd: int, ref: FileRef, recorded: Recorded) -> None:
        """Raise PutsWait while a file may be copied from the object of `ref`, which is to be deleted.

        It does not if the object may be in the way of others. Raises FileUnreadable.
        """
        since, size = self._queue.allowed_at(ref), recorded.fingerprint.size
        if self.is_hasty or since is None or size == 0 or is_link_key(recorded.key):
            return
        with self._heartbeat.reading(ref.source):
            if is_in_the_way(root_fd, ref.path):
                return
        seconds = min(_MOST_SECONDS, max(_LEAST_SECONDS, (self._monotonic() - since) / 8))
        if source := self.behind(since):
            raise PutsWait(f"{source} is scanned first: the file may be there, under a new name", seconds)
        self._look(since)
        heir = self._heir(size, since)
        if heir is not None:
            raise PutsWait(
                f"{name_of(heir)} is uploaded first: it may be this file, under a new name", seconds
            )

    def heirs(self, ref: FileRef) -> list[FileRef]:
        """Return the dirty file of the same source that has the inode of the recorded file `ref`; then the
        one that had its name, and so on. Raises FileChanged while a look at all files goes on.
        """
        try:
            self._look(self._monotonic() - self._rest)
        except PutsWait as error:
            if not self.is_hasty:
                raise FileChanged(str(error), error.seconds) from None
        found: list[FileRef] = []
        at: FileRef | None = ref
        while at is not None and (recorded := self._recorded(at)) is not None:
            at = self._by_inode.get((recorded.stat.device, recorded.stat.inode))
            if at is None or at in found or at.source != ref.source or self._is_vain(at):
                break
            found.append(at)
        return found

    def behind(self, since: float, *, but: str = "") -> str:
        """Return a source, except `but`, where a scan may still find files of before `since`; empty: none."""
        for source, caught_up in list(self.caught_up.items()):
            is_there = source in self._sources and not self._queue.is_left_out(source)
            if source != but and is_there and not caught_up(since):
                return source
        return ""

    def _heir(self, size: int, since: float) -> FileRef | None:
        """Return a file of this size that became dirty by `since`, and is expected to be sent; None: none."""
        with self._lock:
            waiting, later = self._by_size.get(size, deque()), []
            heir = None
            while waiting and waiting[0][0] <= since and heir is None:
                dirty_since = self._queue.awaited_since(waiting[0][1])
                if dirty_since is None or dirty_since > self._looked_at or self._is_vain(waiting[0][1]):
                    waiting.popleft()
                elif dirty_since <= since:
                    heir = waiting[0][1]
                else:
                    later.append(waiting.popleft())
            waiting.extendleft(reversed(later))
            return heir

    def _look(self, since: float) -> None:
        """Note the sizes of all dirty files, unless that was done after `since`. Raises PutsWait."""
        with self._lock:
            now, marks = self._monotonic(), self._queue.marks
            if self._looked_at > since or marks == self._marks:
                return
            if now < self._next_look:
                raise PutsWait("syncd first looks for it under a new name", _LEAST_SECONDS)
            self._next_look = now + _LOOK_SECONDS
        by_size, by_inode = self._seen()
        with self._lock:
            self._by_size, self._by_inode, self._looked_at, self._marks = by_size, by_inode, now, marks
            self._rest = (self._monotonic() - now) * _LOOK_SHARE
            self._next_look = now + self._rest

    def _seen(self) -> tuple[dict[int, deque[tuple[float, FileRef]]], dict[tuple[int, int], FileRef]]:
        """Return the dirty files by size, the oldest first, and by device and inode."""
        by_source: dict[str, list[tuple[float, FileRef]]] = {}
        for became_dirty, ref in self._queue.ages():
            by_source.setdefault(ref.source, []).append((became_dirty, ref))
        by_size: dict[int, list[tuple[float, FileRef]]] = {}
        by_inode: dict[tuple[int, int], FileRef] = {}
        for source, dirty in by_source.items():
            known = self._sources.get(source)
            if known is None or self._queue.is_left_out(source):
                continue
            with self._heartbeat.reading(source), suppress(FileError):
                root_fd = directories.open_root(known.source.root)
                try:
                    for became_dirty, ref in dirty:
                        self._heartbeat.step()
                        seen = _stat(root_fd, ref.path)
                        if seen is not None and seen.size:
                            by_size.setdefault(seen.size, []).append((became_dirty, ref))
                            by_inode[seen.device, seen.inode] = ref
                finally:
                    os.close(root_fd)
        return {size: deque(sorted(each)) for size, each in by_size.items()}, by_inode


def is_in_the_way(root_fd: int, path: str) -> bool:
    """Return whether an object of the path may be in the way of others, because its place, or that of one of
    its folders, is another's. Raises FileUnreadable.
    """
    seen = files.look(root_fd, path)
    if seen is not None:
        return isinstance(seen, Irregular) and seen.took_place
    while seen is None and (path := path.rpartition("/")[0]):
        seen = files.look(root_fd, path)
    return seen is not None and not (isinstance(seen, Irregular) and seen.took_place)


def is_any_in_the_way(root: str, gone: Collection[FileRef]) -> bool:
    """Return whether any of the files that were below `root` is in the way."""
    with suppress(FileError):
        root_fd = directories.open_root(root)
        try:
            return any(is_in_the_way(root_fd, ref.path) for ref in gone)
        finally:
            os.close(root_fd)
    return False


def _stat(root_fd: int, path: str) -> FileStat | None:
    """Return the stat of a file; None: there is no file, or it cannot be read."""
    with suppress(FileError):
        seen = files.look(root_fd, path)
        return seen if isinstance(seen, FileStat) else None
    return None
