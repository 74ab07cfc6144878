"""The watched directories of all sources, kept up to date while other programs move them.

Records of inotify are hints about the past; paths are resolved in the present. So no record is ever applied
to the map by itself. A record that a directory came, went or moved makes its place (parent and name) a
*suspect*, and a suspect is looked at. The parent is opened and must still be the directory with the parent's
watch. The entry is opened relative to it. Adding a watch to it tells which directory it is, because the
kernel returns the same number for the same directory:

- the number that the place has in the map: nothing happened;
- a number that another place has or had: the directory moved here, with everything below it;
- a new number: a new directory. Its watch is in place now; then it is listed, through a descriptor that is
  proven to be that directory, and what is found is reported and watched in turn;
- nothing there: the directory that the map has there is *parked*. If the next records do not reveal it
  elsewhere, it left the sources, and its watches end.

So moves need no cookies, and their two halves may be read at any time. A parent that cannot be entered (it
has moved on, and its own record is still to come) is *uncertain* and is listed again until it can be. All of
this may be repeated without harm, so records may be late, doubled or about something that no longer exists;
after lost records every place is looked at again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence

from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources import selection
from syncd.sources.directories import OPEN_DIRECTORY, names_in
from syncd.sources.mounts import MountTable, is_made_up, type_of
from syncd.sources.watch import inotify
from syncd.sources.watch.agenda import Agenda, Mode
from syncd.sources.watch.gaps import Gap, GapKind
from syncd.sources.watch.inotify import Inotify
from syncd.sources.watch.map import Node, WatchMap
from syncd.sources.watch.reports import WatchReports

_NOT_A_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_VISITS_A_TURN = 64
_REMOVALS_A_TURN = 512


class WatchTree:
    """The directories of all sources on one inotify instance. Used by one thread, a turn at a time."""

    def __init__(
        self,
        kernel: Inotify,
        mounts: MountTable,
        sources: Sequence[Source],
        rules: Mapping[str, Rules],
        reports: WatchReports,
    ) -> None:
        self.map = WatchMap()
        self.work = Agenda()
        self.moves = 0
        """How many directories were found in another place: older paths may be wrong."""
        self._kernel = kernel
        self._mounts = mounts
        self._roots = {source.name: source.root for source in sources}
        self._sources = {source.name: source for source in sources}
        self._rules = rules
        self._reports = reports
        self._dying: set[Node] = set()
        self._turn = 0

    def hint(self, node: Node, name: str, mask: int) -> None:
        """Take a record about a directory called `name` in `node`."""
        # Changed attributes matter only while it could not be watched.
        if not (mask & inotify.ATTRIB and name in node.children):
            self.work.suspect(node, name, mask)

    def heard_of(self, node: Node, name: str) -> None:
        """Take a record about a file: if it marks its directory, everything below comes or goes."""
        if name in self._sources[node.source].exclude_if_present:
            self.work.visit(node, Mode.DEEP)

    def lost(self, node: Node, mask: int) -> None:
        """Take a record about a watched directory itself: deleted, moved (a root), unmounted, unwatched."""
        path = self.map.path(node)
        if mask & inotify.UNMOUNT and path is not None:
            self._reports.alarm(node.source, path, "unmounted")
        if mask & (inotify.UNMOUNT | inotify.DELETE_SELF):
            self._dying.add(node)
        if mask & inotify.IGNORED:
            if node not in self._dying and path is not None:
                self._reports.alarm(node.source, path, "the kernel dropped its watch")
            self._dying.discard(node)
            self.map.release(node)
            if node.parent is not None:
                self.work.suspect(node.parent, node.name)
        if self.map.root(node.source) is node:
            self.work.suspect_root(node.source)

    def add_root(self, source: str, watch: int) -> None:
        """Add a root that has this watch. Nothing in it is reported."""
        self.work.keep(watch)
        self.work.visit(self.map.add_root(source, watch), Mode.FIRST)

    def drop_root(self, source: str) -> bool:
        """Forget every directory of the source; return False if there was none."""
        self.work.drop_source(source)
        root = self.map.root(source)
        if root is not None:
            self._forget(root)
        return root is not None

    def turn(self, *, quiet: bool) -> None:
        """Do a bounded amount of the waiting work. `quiet`: no records have come since the last turn."""
        self._turn += 1
        suspects = self.work.take_suspects()
        self._say_departures(suspects)
        for node, names in suspects.items():
            self._examine(node, names)
        for node in self.work.uncertain():
            self._try_again(node, quiet)
        for node, mode in self.work.take_visits(_VISITS_A_TURN):
            self._visit(node, mode)
        for source in self.work.take_stale():
            if (root := self.map.root(source)) is not None:
                self.work.visit(root, Mode.DEEP)
        for node in self.work.take_expired(self._turn):
            self._forget(node)
        for watch in self.work.take_removals(_REMOVALS_A_TURN):
            self._kernel.remove(watch)

    def _say_departures(self, suspects: Mapping[Node, Mapping[str, int]]) -> None:
        """Report each place that a directory left, even if another came there: a scan may have seen it.

        The paths are those from before the look. If one is wrong by now, a directory above it has moved, and
        the place that this one left is or will be a suspect. Nothing is reported for a directory that was
        deleted while it was watched (its watch has ended): each file in it was reported.
        """
        for parent, names in suspects.items():
            directory = self.map.path(parent)
            for name, said in names.items():
                child = parent.children.get(name)
                is_deleted = child is not None and child.watch is None
                if directory is not None and (
                    said & inotify.MOVED_FROM or (said & inotify.DELETE and not is_deleted)
                ):
                    self._moved_away(parent.source, f"{directory}/{name}" if directory else name)

    # ---- going there -------------------------------------------------------------------------------------

    def _enter(self, node: Node) -> int | None:
        """Return a descriptor proven to be this directory; None (and uncertain): its path leads elsewhere."""
        path = self.map.path(node)
        if path is None or node.watch is None:
            self.work.trust(node)  # it is visited if it turns up
            return None
        fd = -1
        try:
            fd = os.open(f"{self._roots[node.source]}/{path}", OPEN_DIRECTORY)
            watch = self._kernel.add(fd, inotify.CONTENT | inotify.MASK_ADD)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            if error.errno not in _NOT_A_DIRECTORY | inotify.NO_ROOM:
                self.work.trust(node)
                self._miss(node.source, path, error)
                return None
        else:
            if watch == node.watch:
                return fd
            os.close(fd)
            if self.map.by_watch(watch) is None:
                self.work.remove(watch)
        if node.parent is None:
            self.work.suspect_root(node.source)
        else:
            self.work.mistrust(node)
        return None

    def _visit(self, node: Node, mode: Mode) -> None:
        fd = self._enter(node)
        if fd is None:
            return
        try:
            path = self.map.path(node) or ""
            directories = {*node.children}
            try:
                for name in names_in(fd):
                    if name[-1] == "/":
                        directories.add(name[:-1])
                    elif mode is Mode.NEW:
                        self._reports.changed(node.source, path, name)
            except OSError as error:
                self._miss(node.source, path, error)
                return
            self.work.trust(node)
            if mode is Mode.NEW:
                self._reports.changed(node.source, path, "")
            self._look_at(node, fd, directories, mode)
        finally:
            os.close(fd)

    def _try_again(self, node: Node, quiet: bool) -> None:
        self._visit(node, Mode.AGAIN)
        if self.work.is_hopeless(node, quiet=quiet):
            self.work.trust(node)
            self._reports.alarm(node.source, "", "lost track of a directory")
            self.work.look_at_all(node.source)

    def _examine(self, node: Node, names: Iterable[str]) -> None:
        fd = self._enter(node)
        if fd is not None:
            try:
                self._look_at(node, fd, names, Mode.AGAIN)
            finally:
                os.close(fd)

    # ---- looking at a place ------------------------------------------------------------------------------

    def _look_at(self, parent: Node, fd: int, names: Iterable[str], mode: Mode) -> None:
        """Look at these places of `parent`, whose descriptor is `fd`. A directory with a marker is watched,
        but nothing below it is: the marker may go.
        """
        directory = self.map.path(parent) or ""
        source = self._sources[parent.source]
        if source.exclude_if_present and selection.marker_in(fd, source):
            for name in [*parent.children]:
                self._vacate(parent, name)
            return
        unreadable = False
        for name in names:
            path = f"{directory}/{name}" if directory else name
            reason = self._unwanted(parent.source, path)
            if reason is not None:
                self._vacate(parent, name)
                if reason:
                    self._reports.gap(parent.source, path, Gap(GapKind.OTHER, reason))
                continue
            entry = -1
            try:
                entry = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
                device = os.fstat(entry).st_dev
                if device != os.fstat(fd).st_dev and (source.one_file_system or is_made_up(type_of(device))):
                    self._vacate(parent, name)
                    continue
                watch = self._kernel.add(entry, inotify.CONTENT | inotify.MASK_ADD)
                self._found(parent, name, watch, entry, mode)
                self._reports.gaps[parent.source].close(path)
            except OSError as error:
                self._vacate(parent, name)
                self._not_found(parent, path, error)
                unreadable = unreadable or error.errno in inotify.UNREADABLE
            finally:
                if entry >= 0:
                    os.close(entry)
        if unreadable or parent.wide:
            self._listen_for_rights(parent, fd, directory)

    def _unwanted(self, source: str, path: str) -> str | None:
        """Return why not to watch this directory: '' for the rules; None: watch it."""
        if not self._rules[source].wants_directory(path):
            return ""
        absolute = f"{self._roots[source]}/{path}"
        if self._mounts.is_mount_point(absolute) and (remote := self._mounts.remote_type(absolute)):
            return f"{remote}: the kernel does not report what other machines change there"
        if self._mounts.may_hang(absolute):
            return "what is mounted there may not answer"
        return None

    def _found(self, parent: Node, name: str, watch: int, fd: int, mode: Mode) -> None:
        """Note that the directory `fd`, with this watch, is at this place."""
        self.work.keep(watch)
        known = self.map.by_watch(watch)
        child = parent.children.get(name)
        if known is not None and known is child:
            if mode is Mode.DEEP:
                self.work.visit(child, Mode.DEEP)
            return
        if known is None:
            self._vacate(parent, name)
            self.work.visit(self.map.add(parent, name, watch), Mode.FIRST if mode is Mode.FIRST else Mode.NEW)
        elif self.map.contains(known, parent):
            self.work.mistrust(parent)  # a directory in itself: parent moved during the look
        elif self._is_at_its_place(known, fd):
            raise OSError(errno.EEXIST, f"the same directory as {known.name!r}")
        else:
            self._vacate(parent, name)
            self._move(known, parent, name, watch)

    def _is_at_its_place(self, node: Node, fd: int) -> bool:
        """Return whether this directory is still at its place in the map, and `fd`, too: a bind mount."""
        path = self.map.path(node)
        if path is None:
            return False
        try:
            there = os.stat(f"{self._roots[node.source]}/{path}", follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(fd))

    def _move(self, node: Node, parent: Node, name: str, watch: int) -> None:
        was_at = self.map.path(node)
        self.work.unpark(node)
        self.moves += 1
        if was_at is not None:
            self._left(node, was_at)
        if node.source == parent.source:
            self.map.move(node, parent, name)
            # Rules may differ here, and something in it may have been missed on the way.
            self.work.visit(node, Mode.DEEP)
        else:
            self._forget(node)
            self.work.keep(watch)
            node = self.map.add(parent, name, watch)
            self.work.visit(node, Mode.NEW)
        self._reports.rescan(node.source, self.map.path(node) or "", "directory moved here")

    def _vacate(self, parent: Node, name: str) -> None:
        """Take out of the map what was at this place."""
        node = parent.children.get(name)
        if node is not None:
            self._left(node, self.map.path(node) or "")
            self.map.detach(node)
            self.work.park(node, self._turn)

    def _left(self, node: Node, path: str) -> None:
        self._reports.gaps[node.source].drop(path)
        if node.watch is not None:
            self._moved_away(node.source, path)

    def _moved_away(self, source: str, path: str) -> None:
        if self._rules[source].wants_directory(path):
            self._reports.rescan(source, path, "directory moved away")

    def _not_found(self, parent: Node, path: str, error: OSError) -> None:
        if error.errno not in _NOT_A_DIRECTORY:
            self._miss(parent.source, path, error)
        elif self._reports.gaps[parent.source].at(path):
            self._reports.gaps[parent.source].drop(path)
            self._reports.rescan(parent.source, path, "a directory that was not watched is gone")

    def _miss(self, source: str, path: str, error: OSError) -> None:
        if error.errno in inotify.EXHAUSTED:
            raise error  # nothing can be opened, so the watcher has to restart
        self._reports.unwatched(source, path, error)

    def _listen_for_rights(self, parent: Node, fd: int, path: str) -> None:
        """Watch for changed attributes only beside an unreadable directory: files make such records, too."""
        wanted = self._reports.gaps[parent.source].has(path, GapKind.UNREADABLE)
        if wanted is not parent.wide:
            parent.wide = wanted
            base = inotify.ROOT if parent.parent is None else inotify.CONTENT
            self._kernel.add(fd, base | inotify.ATTRIB if wanted else base)

    def _forget(self, node: Node) -> None:
        self.work.unpark(node)
        for watch in self.map.forget(node):
            self.work.remove(watch)
