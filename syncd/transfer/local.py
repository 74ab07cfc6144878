"""The folder of a source, as one step sees it: everything that touches the disk for a file.

A folder may be on a server that is gone. So all of it happens while `Heartbeat.reading` names the source.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from msgspec import Struct

from syncd.core import plan
from syncd.core.errors import (
    FileChanged,
    FileError,
    FileUnreadable,
    FileVanished,
    RootChanged,
    os_words,
)
from syncd.core.model import (
    Attributes,
    Checkpoint,
    FileRef,
    FileStat,
    Irregular,
    OnDelete,
    Properties,
    Recorded,
    RootIdentity,
    Source,
)
from syncd.core.parts import StoreLimits
from syncd.core.paths import FOLDER
from syncd.core.patterns import Verdict
from syncd.sources import directories, entries, mounts, selection
from syncd.sources.entries import Fills, nothing_fills
from syncd.sources.files import OpenFile
from syncd.sources.root import holds_recorded
from syncd.sources.scan import walk
from syncd.state.state import State
from syncd.storage import attributes
from syncd.transfer.pace.heartbeat import Reading
from syncd.transfer.pace.slots import Slots
from syncd.transfer.reuse import Census, Listing

_MOST_LOOKS = 20_000
_KEPT_SECONDS = 1.0
"""How long a busy thread uses one opening of a root for its files."""


class EngineSource(Struct, frozen=True):
    """What a step needs to know about a source. The source runner owns it, and replaces it whole."""

    source: Source
    root_identity: RootIdentity | None = None
    """The directory that the root has to be; None: any."""
    wants: Callable[[str], bool] = lambda path: True
    """Whether a path is to be sent: the patterns may have changed since it was marked."""
    fills: Fills = nothing_fills
    """Whether an entry keeps its folder from being empty."""
    mounts_stay: bool = False
    """The operator says that what is now mounted in it is there to stay."""
    reconciling: bool = False
    """Its records may be lost: the store is asked for an object before a new file is sent."""
    listing: Listing | None = None
    """What lies under its prefix, while it is reconciling."""
    census: Census | None = None
    """What is known of the objects of files that are to be deleted now, if there are many."""
    instance: str = ""
    """The id that its objects name."""
    appends: Callable[[str], bool] = lambda path: False
    """Whether a file only grows, so that a prefix of it can be carried while it does."""
    properties: Callable[[str], Properties] = lambda path: Properties()
    """The configured properties of a path's object."""


class _Kept(threading.local):
    """The root that the calling thread keeps from one step to the next."""

    may_be = False
    root: Root | None = None


_kept = _Kept()


@contextmanager
def roots_kept() -> Iterator[Callable[[], None]]:
    """Keep a root open between two steps of the calling thread, for `_KEPT_SECONDS`.

    Yields the function that closes it. The thread calls that before it waits, because an open root keeps its
    disk from being unmounted.
    """
    _kept.may_be = True
    try:
        yield _give_back
    finally:
        _kept.may_be = False
        _give_back()


def _give_back() -> None:
    root, _kept.root = _kept.root, None
    if root is not None:
        root.close()


class Root:
    """The root of a source, open for one step: a context manager.

    A file found below a root that was opened a moment ago exists, as in a step that takes a moment. Only a
    root that was opened since then shows that nothing is there: see `renew`.
    """

    def __init__(self, known: EngineSource, reading: Reading) -> None:
        """Raises RootChanged unless it is the expected directory."""
        self.known = known
        self.is_kept = False
        """It was opened before this step."""
        self._reading = reading
        self._open()

    def _open(self) -> None:
        with self._reading:
            self.fd = _opened(self.known)
        self.good_until = time.monotonic() + _KEPT_SECONDS

    def renew(self) -> None:
        """Open the root again. Raises RootChanged."""
        self.close()
        self._open()
        self.is_kept = False

    def close(self) -> None:
        """Close the root. Harmless if it is closed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and _kept.may_be and _kept.root is None:
            _kept.root = self
        else:
            self.close()


class Local:
    """The folders of the sources that share one store. For any thread."""

    def __init__(
        self,
        sources: Mapping[str, EngineSource],
        state: State,
        limits: StoreLimits,
        slots: Slots,
        *,
        unfinished: Callable[[FileRef], Checkpoint | None],
        now_ns: Callable[[], int],
    ) -> None:
        self.sources = sources
        self._state = state
        self._limits = limits
        self._slots = slots
        self._unfinished = unfinished
        self._now_ns = now_ns
        self._names = directories.LastNames()
        self._looks: dict[FileRef, tuple[FileStat, int]] = {}
        self._far: dict[int, bool] = {}

    def root(self, known: EngineSource) -> Root:
        """Return the root for one step: the one that the thread kept, or a new one. Raises RootChanged."""
        kept = _kept.root
        if kept is not None and kept.known is known and time.monotonic() < kept.good_until:
            _kept.root, kept.is_kept = None, True
            return kept
        _give_back()
        return Root(known, self._slots.heartbeat.reading(known.source.name))

    def reading(self, ref: FileRef) -> Reading:
        """Return what surrounds every use of the folder of a source: its server may be down."""
        return self._slots.heartbeat.reading(ref.source)

    def open(self, root_fd: int, ref: FileRef) -> OpenFile:
        """Open a file that tells the heartbeat of each read. Raises FileError."""
        with self.reading(ref):
            return self._open(root_fd, ref)

    def open_quiet(
        self, root_fd: int, ref: FileRef, aimed: Recorded | None, settle_seconds: float, *, overdue: bool
    ) -> tuple[OpenFile, bool | None]:
        """Open it if it is quiet, or only grows: see `_quiet`. Also return whether it is open for writing."""
        with self.reading(ref):
            file = self._open(root_fd, ref)
            try:
                return file, self._quiet(ref, file, aimed, int(settle_seconds * 1e9), overdue=overdue)
            except BaseException:
                file.close()
                raise

    def _open(self, root_fd: int, ref: FileRef) -> OpenFile:
        known, step = self.sources[ref.source], self._slots.heartbeat.step
        links = known.source.records_links
        return entries.open_entry(root_fd, ref.path, step, links=links, fills=known.fills)

    def seen(self, root_fd: int, ref: FileRef) -> FileStat | Irregular | None:
        """Return what is at the path; None: nothing. Raises FileUnreadable."""
        known = self.sources[ref.source]
        return entries.look(root_fd, ref.path, links=known.source.records_links, fills=known.fills)

    def look(
        self, root: Root, ref: FileRef, recorded: Recorded | None
    ) -> tuple[FileStat | Irregular | None, Verdict | None]:
        """Return what is at the path, and which rule other than the patterns leaves it out.

        Only a root that was opened for this step shows that there is no file to carry. Raises FileUnreadable,
        RootChanged.
        """
        with self.reading(ref):
            if root.is_kept:
                with suppress(FileUnreadable):
                    seen, left_out = self._look(root.fd, ref, recorded)
                    if isinstance(seen, FileStat) and left_out is None:
                        return seen, left_out
                root.renew()
            return self._look(root.fd, ref, recorded)

    def _look(
        self, root_fd: int, ref: FileRef, recorded: Recorded | None
    ) -> tuple[FileStat | Irregular | None, Verdict | None]:
        source = self.sources[ref.source].source
        way = None
        if source.exclude_if_present or source.one_file_system:
            way = selection.of_way(root_fd, source, ref.path.rpartition("/")[0])
        seen = self.seen(root_fd, ref)
        if recorded is not None and seen is not None and not self._is_spelled(root_fd, ref):
            seen = None
        return seen, way or selection.of_size(source, ref.path, seen, recorded)

    def _is_spelled(self, root_fd: int, ref: FileRef) -> bool:
        """Return whether the entry at the path has exactly this name: its case may have changed."""
        try:
            return directories.is_spelled(root_fd, ref.path, self._names.of)
        except OSError as error:
            if error.errno in directories.GONE:
                return False
            raise FileUnreadable(os_words(error)) from error

    def too_young_ns(self, ref: FileRef, seen: FileStat) -> int:
        """Return the nanoseconds until the file is as old as `min_age` asks; 0: it is."""
        min_age_seconds = self.sources[ref.source].source.min_age_seconds
        return plan.too_young_ns(seen, self._now_ns(), int(min_age_seconds * 1e9)) if min_age_seconds else 0

    def _quiet(
        self, ref: FileRef, file: OpenFile, aimed: Recorded | None, settle_ns: int, *, overdue: bool
    ) -> bool | None:
        """Raise FileChanged unless the file is quiet, or only grows: then it may be cut.

        It is not cut to less than its object has, unless the file itself is shorter: no content is lost.
        Returns whether it is open for writing, if known.
        """
        now_ns = self._now_ns()
        rests = now_ns - file.opened.ctime_ns >= plan.DAY_NS
        is_open = False if rests else file.is_open_for_writing()
        is_far = not rests and self._is_far(file.opened.device)
        if is_far and not is_open:
            is_open = None  # the kernel knows only about this machine
        settling = plan.settling(file.opened, now_ns, settle_ns=settle_ns, is_open=is_open)
        if settling is None and (is_far or plan.age_ns(file.opened, now_ns) is None):
            settling = self._moves(ref, file.opened, now_ns, settle_ns)
        known = self.sources[ref.source]
        if known.appends(ref.path):
            size, unfinished = file.opened.size, self._unfinished(ref)
            # An upload under way goes on with its size, however much there is now.
            most = min(size, unfinished.fingerprint.size) if unfinished is not None else size
            age_ns = plan.age_ns(file.opened, now_ns)
            cuts = plan.carries_prefix(settling, age_ns, is_open=is_open, overdue=overdue or most < size)
            stored = aimed.fingerprint.size if aimed is not None else 0
            stored = stored if stored <= size else 0
            to_line, least = known.source.append_to_line, max(stored, 1)
            if (cuts or most < size) and (
                file.cut(most, to_line=to_line, least=least) or file.cut(size, to_line=to_line, least=least)
            ):
                return is_open
            if cuts and size > stored:
                raise FileChanged("it has no new complete line yet", plan.MINUTE_NS / 1e9)
        if settling is not None:
            raise FileChanged(settling.reason, settling.look_again_ns / 1e9)
        return is_open

    def _is_far(self, device: int) -> bool:
        """Return whether another machine may write to a device's files, with the times of its clock."""
        if device not in self._far:
            self._far[device] = mounts.is_remote(mounts.type_of(device))
        return self._far[device]

    def _moves(self, ref: FileRef, stat: FileStat, now_ns: int, settle_ns: int) -> plan.Settling | None:
        """Return why a file, perhaps with times of another clock, may be in the middle of a change; None: it
        was the same in two looks.
        """
        before, since_ns = self._looks.get(ref, (None, now_ns))
        if before != stat or since_ns > now_ns:
            if len(self._looks) >= _MOST_LOOKS:
                self._looks.clear()
            self._looks[ref], since_ns = (stat, now_ns), now_ns
        if now_ns - since_ns < settle_ns:
            left_ns = settle_ns - (now_ns - since_ns)
            return plan.Settling("its times may be those of another clock: syncd looks twice", left_ns)
        self._looks.pop(ref, None)
        return None

    def hidden(self, root_fd: int, ref: FileRef, stat: FileStat, *, found: bool) -> str:
        """Return why a file that is not `found` may still exist, out of sight; empty: it is gone."""
        directory, known = ref.path.rpartition("/")[0], self.sources[ref.source]
        with self.reading(ref):
            try:
                near = walk.nearest(root_fd, os.fsencode(directory))
            except OSError as error:
                raise FileUnreadable(os_words(error)) from error
            is_back = near.is_whole and not found and self.seen(root_fd, ref) is not None
            if is_back and self._is_spelled(root_fd, ref):
                raise FileChanged("it came back while syncd looked for it")
            if near.is_whole and ref.path.endswith(FOLDER):
                return ""  # the folder has content, whatever is mounted there
            return near.hides(
                stat,
                lambda mount: holds_recorded(root_fd, ref.source, self._state, mount),
                devices=lambda: walk.devices_in(root_fd, os.fsencode(directory)),
                mounts_stay=known.mounts_stay,
                deletes=known.source.on_delete is OnDelete.DELETE,
            )

    def attributes(self, ref: FileRef, file: OpenFile) -> tuple[Attributes | None, list[str]]:
        """Return the attributes that the object is to carry, and the extended ones that do not fit."""
        if not self.sources[ref.source].source.keeps_attributes:
            return None, []
        with self.reading(ref):
            found = file.attributes()
        return attributes.fitting(found, self._limits.max_xattr_bytes)

    def attributes_as_recorded(self, ref: FileRef, recorded: Recorded) -> Attributes | None:
        """Return the attributes for the object of a file, if the file is the one that was recorded."""
        known = self.sources[ref.source]
        if not known.source.keeps_attributes:
            return None
        with suppress(FileError), self.root(known) as root, self.open(root.fd, ref) as file:
            return self.attributes(ref, file)[0] if file.opened == recorded.stat else None
        return None


def _opened(known: EngineSource) -> int:
    """Return the root, if it is the expected directory. Raises RootChanged."""
    try:
        root_fd = directories.open_root(known.source.root)
    except (FileVanished, FileUnreadable) as error:
        raise RootChanged(f"the source's directory cannot be opened: {error}") from error
    try:
        found = directories.identity_of(root_fd)
        if known.root_identity is not None and not known.root_identity.is_same(found):
            raise RootChanged("the source's directory is a different one than before")
    except BaseException as error:
        os.close(root_fd)
        if isinstance(error, FileVanished | FileUnreadable) and not isinstance(error, RootChanged):
            raise RootChanged(f"the source's directory cannot be accessed: {error}") from error
        raise
    return root_fd
