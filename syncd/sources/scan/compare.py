"""Compares a source with its records in one pass through both, and reports what differs.

Disk and records are read in the same order (bytes of full paths), so memory does not grow with the tree.
What could not be seen never counts as gone: an unreadable directory says nothing about what is below it, and
a file is absent only after a second look (`syncd.sources.scan.walk`), at a root that is still the same.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from syncd.core.errors import FileError
from syncd.core.model import (
    FileRef,
    FileStat,
    Irregular,
    LinkStat,
    OnDelete,
    PatternPlaces,
    Recorded,
    Source,
)
from syncd.core.paths import key_for
from syncd.core.patterns import Rules
from syncd.core.words import counted
from syncd.sources import directories, entries, files, selection
from syncd.sources.root import check_root, holds_recorded, open_root
from syncd.sources.scan.walk import Absent, Frame, Hidden, Missing, Present, Walk, second_look
from syncd.state import queries
from syncd.state.queries import Row
from syncd.state.state import State

PAGE, _GROWTH = 4096, 16
"""Rows read at once: one where rows were skipped, then ever more, up to about two megabytes."""
_SLASH = ord("/")
_BREATH = 511  # check for a stop every 512 entries


class ScanSink(Protocol):
    """Receives what a scan reports."""

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        """Take a wanted file that differs from its record, or whose record proves nothing. May block."""
        ...

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        """Take a recorded, wanted file that is gone."""
        ...

    def skipped(self, ref: FileRef, reason: str) -> None:
        """Take something that is not a regular file; `reason` says what it is."""
        ...

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        """Take a directory that could not be seen in full; nothing unseen in it is judged absent."""
        ...

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        """Take a directory whose recorded files may still exist, but cannot be seen."""
        ...


class ScanReport(Struct, frozen=True):
    """The result of a scan."""

    files: int
    """Regular files that are wanted or recorded."""
    directories: int
    found: int
    absent: int
    skipped: Mapping[str, int]
    """How many of each kind of `Irregular`, and how many each rule of the source leaves out."""
    errors: int
    complete: bool
    """Everything was seen, without an error."""
    doubt: str | None
    """Why the scan says nothing about the source as a whole; then `absent` was not called."""
    out_of_sight: int = 0
    """Recorded files behind a link, a mount or on a missing device."""

    @property
    def unseen(self) -> str:
        """Return why there may be more than was seen, in words; empty: everything was seen."""
        if self.complete:
            return ""
        if self.errors:
            return f"the last scan met {counted(self.errors, 'error')}, and did not see everything"
        return self.doubt or "the last scan did not see everything"


def scan(  # noqa: PLR0913  # the caller's wiring, each named
    source: Source,
    rules: Rules,
    state: State,
    sink: ScanSink,
    *,
    subtree: str = "",
    should_stop: Callable[[], bool],
    store_id: str,
    mounts_stay: bool = False,
    keeps_folders: bool = False,
) -> ScanReport:
    """Report to `sink` what differs in `source`, or in its directory or file `subtree`.

    If `should_stop` returns True the scan ends early: not complete, nothing absent. `mounts_stay` says that
    the operator confirms what is mounted. With `keeps_folders` the state remembers folders that are as
    recorded as a whole, for the next scan. Raises StateError, and what `sink` raises.
    """
    has_records = state.recorded_totals(source.name)[0] > 0
    identity, doubt = check_root(source, state.root_identity(source.name), has_records)
    if doubt is not None:
        return ScanReport(0, 0, 0, 0, {}, 0, complete=False, doubt=doubt)
    try:
        root_fd = open_root(source.root, identity)
    except FileError as error:
        return ScanReport(0, 0, 0, 0, {}, 0, complete=False, doubt=f"the root: {error}")
    work = _Scan(source, rules, state, sink, should_stop, store_id, keeps_folders=keeps_folders)
    try:
        with suppress(_Halted):
            work.compare(root_fd, os.fsencode(subtree))
            doubt = check_root(source, identity, has_records)[1]
            if doubt is None:
                work.judge_missing(root_fd, mounts_stay=mounts_stay)
            return work.report(doubt, finished=doubt is None)
        return work.report(None, finished=False)
    finally:
        work.missing.close()
        os.close(root_fd)


class RecordCursor:
    """The recorded files under a directory, one by one in the order of bytes."""

    def __init__(self, page: Callable[[bytes, int], list[Row]]) -> None:
        self._page = page
        self._rows: list[Row] = []
        self._index = self._size = 0
        self._start: bytes | None = b""
        """Where the next page to read begins; None: the page was read."""
        self._none_before = b""
        """The value of `none_before` until the page is read."""

    @property
    def row(self) -> Row | None:
        """Return the current row; None: there is none."""
        if self._start is not None:
            # One row first, because a skip of one directory may follow another; then ever more.
            self._size = min(PAGE, max(1, self._size * _GROWTH))
            self._rows, self._index, self._start = self._page(self._start, self._size), 0, None
        return self._rows[self._index] if self._index < len(self._rows) else None

    def advance(self) -> Row | None:
        """Go to the next row, and return it."""
        self._index += 1
        try:  # called for every recorded file, and the end of a page is rare
            return self._rows[self._index]
        except IndexError:
            if len(self._rows) == self._size:
                self._start, self._none_before = self._rows[-1][0] + b"\0", b""
        return self.row

    @property
    def none_before(self) -> bytes:
        """Return a path before which no row is left, known without a query; empty: unknown."""
        return self._none_before if self._start is not None else b""

    def skip_below(self, prefix: bytes, following: bytes = b"") -> None:
        """Pass over all rows below `prefix`, which ends with a slash (or is empty: all).

        No row lies between them and `following`.
        """
        after = queries.after(prefix)
        if self._start is None and self._rows and after <= self._rows[-1][0]:
            self._index = bisect_left(self._rows, (after,), self._index)
        elif self._start is not None or len(self._rows) == self._size:
            self._start, self._size, self._none_before = after, 0, following
        else:
            self._index = len(self._rows)


class _Halted(Exception):
    """The scan was asked to stop."""


class _Scan:
    """One pass; holds what has been counted so far."""

    def __init__(
        self,
        source: Source,
        rules: Rules,
        state: State,
        sink: ScanSink,
        should_stop: Callable[[], bool],
        store_id: str,
        *,
        keeps_folders: bool,
    ) -> None:
        self._source, self._rules, self._state, self._sink = source.name, rules, state, sink
        self._settings, self._root_fd = source, -1
        self._should_stop, self._store_id = should_stop, store_id
        # Keys keep legal names as they are, so most keys are this and the path.
        self._aim = store_id, source.prefix.encode()
        self._deletes = source.on_delete is OnDelete.DELETE
        self._keeps_folders = keeps_folders and not source.records_full_folders
        self._unknown_before = b""  # no folder before this path is remembered as a whole
        self._whole: list[bytes] = []
        self._whole_files = 0
        # After any other change of the configuration a folder is compared in full again, too.
        self._terms = ascii((store_id, replace(source, places=PatternPlaces()))).encode()
        self.missing = Missing()
        self._skipped: Counter[str] = Counter()
        self._files = self._directories = self._found = self._absent = self._errors = self._hidden = 0
        self._hidden_in: bytes | None = None

    def report(self, doubt: str | None, *, finished: bool) -> ScanReport:
        complete = finished and self._errors == 0 and not self.missing.lost
        return ScanReport(
            files=self._files,
            directories=self._directories,
            found=self._found,
            absent=self._absent,
            skipped=dict(self._skipped),
            errors=self._errors,
            complete=complete,
            doubt=doubt,
            out_of_sight=self._hidden,
        )

    # ---- first look ---------------------------------------------------------------------------------------

    def compare(self, root_fd: int, subtree: bytes) -> None:
        """Walk the tree beside its records; afterwards `missing` has the recorded paths that were not met."""
        source, aim, state, deletes = self._source, self._aim, self._state, self._deletes
        self._root_fd = root_fd
        if subtree and self._is_left_out(os.fsdecode(subtree)):
            return
        if subtree:
            self._single(root_fd, subtree)
        records = RecordCursor(  # if deletions count, also those whose objects were kept until now
            lambda start, limit: state.outline_page(source, aim, start, subtree, limit, kept=deletes)
        )
        walk = Walk(root_fd)
        try:
            self._descend(walk, records, subtree)
            while (frame := walk.top()) is not None:
                self._breathe()
                try:
                    walk.resume(frame)
                except OSError as error:
                    self._not_seen(records, frame.prefix[:-1], error)
                    walk.leave()
                    continue
                directory = frame.next_directory(records.none_before) or self._compare_files(frame, records)
                if directory:
                    self._descend(walk, records, directory)
                else:
                    walk.leave()
        finally:
            walk.close()
        self._keep_folders()
        row = records.row
        while row is not None:
            self.missing.add(row[0])
            row = records.advance()

    def _is_left_out(self, subtree: str) -> bool:
        above = subtree.rpartition("/")[0]
        way = selection.of_way(self._root_fd, self._settings, above)
        return way is not None or not self._rules.wants_directory(subtree)

    def _single(self, root_fd: int, path: bytes) -> None:
        """Compare a subtree that is, or was, a file."""
        try:
            now = files.look(root_fd, os.fsdecode(path), links=self._settings.records_links)
        except FileError:
            return  # the walk meets the same error and reports it
        if isinstance(now, FileStat):
            self._meet(path, now, known=True)
        elif now is None or now.took_place:
            self.missing.add(path)

    def _descend(self, walk: Walk, records: RecordCursor, path: bytes) -> None:
        """Enter a directory; if that fails, pass over its records."""
        if path and not self._rules.wants_directory(os.fsdecode(path)):
            self._skip_by_name(os.fsdecode(path), is_directory=True)
            records.skip_below(path + b"/")
            return
        self._directories += 1
        frame = None
        try:
            frame = walk.enter(path)
            left_out = selection.of_folder(self._root_fd, frame.descriptor, self._settings, os.fsdecode(path))
            if left_out is not None:
                self._skipped[selection.kind_of(left_out)] += 1
                records.skip_below(frame.prefix)
                walk.leave()
            elif (known := self._as_kept(frame)) is not None:
                records.skip_below(frame.prefix, known.following)
                walk.leave()
            else:
                frame.read()
                if path and self._settings.records_folders:
                    self._compare_folder(frame, records)
        except OSError as error:
            if frame is not None:
                walk.leave()
            self._directories -= 1
            self._not_seen(records, path, error)
            if error.errno in directories.GONE and path:
                self._turned_into_file(walk, path)

    def _as_kept(self, frame: Frame) -> queries.Folder | None:
        """Return what the state remembers of the folder, if its content is the same; else None."""
        if self._unknown_before > frame.prefix:
            return None
        known = self._state.folder(self._source, frame.prefix)
        self._unknown_before = known.path if known else queries.AFTER_ALL
        if known is None or known.path != frame.prefix:
            return None
        found = directories.files_in(frame.descriptor, known.files, self._breathe)
        if not found or queries.digest_of(self._terms, found) != known.digest:
            return None
        self._files += len(found)
        return known

    def _note_folder(self, frame: Frame, row: Row | None) -> None:
        """Remember a folder that was compared; `row` is the next one.

        No digest covers links or times that are not kept. Such folders are left out: each scan would retry.
        """
        is_whole = frame.is_whole and (row is None or not row[0].startswith(frame.prefix))
        if self._keeps_folders and is_whole and queries.FEWEST_FILES <= frame.count <= queries.MOST_FILES:
            self._whole.append(frame.prefix)
            self._whole_files += frame.count
            if self._whole_files >= PAGE:
                self._keep_folders()

    def _keep_folders(self) -> None:
        if self._whole:
            self._state.keep_folders(self._source, self._whole, self._aim, self._terms, kept=self._deletes)
        self._whole, self._whole_files = [], 0

    def _compare_folder(self, frame: Frame, records: RecordCursor) -> None:
        """Treat a folder of which nothing is carried as an entry of its own. Raises OSError."""
        path = os.fsdecode(frame.prefix)
        is_filled = any(self._rules.fills(path + os.fsdecode(name)) for name in frame.names)
        if is_filled or not self._rules.wants_file(path):
            return  # if it has a record, that gets a second look
        frame.is_whole = False  # it may hold files that are recorded, but no longer carried
        known = records.row is not None and records.row[0] == frame.prefix
        if known:
            records.advance()
        self._meet(frame.prefix, entries.stat_of(os.fstat(frame.descriptor)), known=known)

    def _not_seen(self, records: RecordCursor, path: bytes, error: OSError) -> None:
        """Report an unreadable directory; if it is just gone, its records get a second look."""
        if error.errno not in directories.GONE:
            self._unreadable(path, error)
            records.skip_below(path + b"/" if path else b"")

    def _turned_into_file(self, walk: Walk, path: bytes) -> None:
        """Handle a listed directory that is none now. A record of its name gets a second look anyway."""
        frame = walk.top()
        if frame is None or self._state.recorded(FileRef(self._source, os.fsdecode(path))) is not None:
            return
        try:
            now = os.stat(path[len(frame.prefix) :], dir_fd=frame.descriptor, follow_symlinks=False)
        except OSError:
            return
        if not modes.S_ISDIR(now.st_mode):
            self._meet(path, self._seen(now), known=False)

    def _compare_files(self, frame: Frame, records: RecordCursor) -> bytes:
        """Compare entries up to the next directory, and return its path; empty: no entry is left."""
        descriptor, prefix, entries, stat = frame.descriptor, frame.prefix, frame.entries, os.stat
        row = records.row
        while frame.index < len(entries) or frame.turn():
            name = entries[frame.index]
            frame.index += 1
            if not frame.index & _BREATH:
                self._breathe()
            path = prefix + name
            while row is not None and row[0] < path:
                frame.is_whole = frame.is_whole and not row[0].startswith(prefix)
                self.missing.add(row[0])
                row = records.advance()
            if name[-1] == _SLASH:
                frame.is_whole = False
                return path[:-1]
            recorded = row is not None and row[0] == path
            try:
                now = stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError as error:
                frame.is_whole = False
                if error.errno not in directories.GONE:
                    self._unreadable(prefix[:-1], error)
                    row = records.advance() if recorded else row
                continue
            if row is None or not recorded:
                self._meet_any(frame, name, now, known=False)
                continue
            seen = now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, now.st_dev
            is_same = row[1:6] == seen or queries.unfolded(row) == seen  # values beyond 63 bits
            if is_same and row[6] and now.st_mode & 0o170000 == 0o100000:
                self._files += 1
            else:
                self._meet_any(frame, name, now, known=True)
            row = records.advance()
        self._note_folder(frame, row)
        return b""

    def _meet_any(self, frame: Frame, name: bytes, now: os.stat_result, *, known: bool) -> None:
        frame.is_whole = False
        if modes.S_ISDIR(now.st_mode):
            frame.turned_into_directory(name)
        else:
            self._meet(frame.prefix + name, self._seen(now), known=known)

    def _meet(self, path: bytes, now: FileStat | Irregular, *, known: bool) -> None:
        """Judge what is at `path`; `known`: it may have a record, to be compared in full."""
        text = os.fsdecode(path)
        if not self._rules.wants_file(text):
            self._skip_by_name(text, is_directory=False)
            return
        ref = FileRef(self._source, text)
        if isinstance(now, Irregular):
            self._skipped[now.kind] += 1
            self._sink.skipped(ref, now.kind)
            return
        if (large := selection.of_size(self._settings, text, now, None)) is not None:
            self._skipped[selection.kind_of(large)] += 1
            return
        self._files += 1
        recorded = self._state.recorded(ref) if known else None
        if recorded is None or not self._is_as_recorded(ref, now, recorded):
            self._found += 1
            self._sink.found(ref, now, recorded)

    def _seen(self, found: os.stat_result) -> FileStat | Irregular:
        return files.seen(found, links=self._settings.records_links)

    def _skip_by_name(self, path: str, *, is_directory: bool) -> None:
        why = "temporary" if self._rules.is_temporary(path, is_directory=is_directory) else "excluded"
        self._skipped[f"{why} {'directory' if is_directory else 'file'}"] += 1

    def _is_as_recorded(self, ref: FileRef, now: FileStat, recorded: Recorded) -> bool:
        return (
            recorded.stat == now
            and not recorded.racy
            and recorded.store_id == self._store_id
            and recorded.key == key_for(self._settings.prefix, ref.path, is_link=isinstance(now, LinkStat))
        )

    # ---- second look --------------------------------------------------------------------------------------

    def judge_missing(self, root_fd: int, *, mounts_stay: bool) -> None:
        """Look again for what was not met, and report what is really gone."""
        ours: dict[bytes, bool] = {}

        def is_ours(mount: bytes) -> bool:
            if mount not in ours:
                ours[mount] = holds_recorded(root_fd, self._source, self._state, mount)
            return ours[mount]

        wanted, hides = self._recorded_and_wanted, {"mounts_stay": mounts_stay, "deletes": self._deletes}
        look = second_look(root_fd, self.missing, wanted, is_ours, **hides)
        for verdict in look:
            self._breathe()
            if isinstance(verdict, Absent):
                self._absent += 1
                self._sink.absent(FileRef(self._source, os.fsdecode(verdict.path)), verdict.recorded)
            elif isinstance(verdict, Present):
                self._meet(verdict.path, self._seen(verdict.found), known=True)
            elif isinstance(verdict, Hidden):
                self._hide(verdict)
            else:
                self._unreadable(verdict.directory, verdict.error)

    def _hide(self, verdict: Hidden) -> None:
        """Count a recorded file that is out of sight, and report its directory once."""
        self._hidden += 1
        if verdict.directory == self._hidden_in:
            return
        self._hidden_in = verdict.directory
        if verdict.by_link:
            self._sink.out_of_sight(self._source, os.fsdecode(verdict.directory), verdict.reason)
        else:
            self._unreadable(verdict.directory, OSError(errno.ENODEV, verdict.reason))

    def _recorded_and_wanted(self, path: bytes) -> Recorded | None:
        text = os.fsdecode(path)
        if not self._rules.wants_file(text):
            return None
        recorded = self._state.recorded(FileRef(self._source, text))
        return None if selection.of_size(self._settings, text, None, recorded) else recorded

    # ---- both ---------------------------------------------------------------------------------------------

    def _unreadable(self, path: bytes, error: OSError) -> None:
        self._errors += 1
        self._sink.unreadable(self._source, os.fsdecode(path), error)

    def _breathe(self) -> None:
        if self._should_stop():
            raise _Halted
