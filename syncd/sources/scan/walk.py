"""The disk's side of a scan: a walk in the byte order of full paths, and a second look at what it missed.

The walk goes from descriptor to descriptor and follows no symbolic link. It holds the listings of the
directories on the way from the root, and at most `MOST_OPEN` descriptors, however deep it goes.

A listing may miss files that exist, an unmounted directory looks empty, and a directory that became a
symbolic link still leads to its files. So a file is absent only if its name leads nowhere, a later listing of
its directory does not have it, and nothing hides its place: no link, no other device, no mount that holds no
recorded file. What is hidden is out of sight.
"""

from __future__ import annotations

import errno
import os
import stat as modes
import tempfile
import zlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from heapq import merge
from itertools import chain, groupby, islice
from typing import BinaryIO

from msgspec import Struct

from syncd.core.model import LATEST_NS, FileStat, Recorded
from syncd.core.paths import printable
from syncd.sources.directories import DIRECTORY, GONE, OPEN_DIRECTORY, is_spelled, names_in, open_listing
from syncd.sources.mounts import mount_of, stamps_folders, type_of

MOST_OPEN = 64
IN_MEMORY = 1 << 20
_CHUNK = 1 << 16
_MOST_ASKED = 256
_RUN = 1 << 14
_PIECE, _IN_HAND = 512, 4096
"""How many names are packed together, and how many of a directory are in hand."""


class Names:
    """Names in the order of bytes, each once. Those after the first run are kept compressed, run by run."""

    def __init__(self, names: Iterator[str]) -> None:
        self._first = _run(names)
        self._runs = []
        while run := _run(names):
            pieces = (run[at : at + _PIECE] for at in range(0, len(run), _PIECE))
            self._runs.append([zlib.compress(b"\0".join(piece), 1) for piece in pieces])

    def __iter__(self) -> Iterator[bytes]:
        runs = (chain.from_iterable(map(_unpacked, run)) for run in self._runs)
        return (name for name, _ in groupby(merge(self._first, *runs))) if self._runs else iter(self._first)


def _run(names: Iterator[str]) -> list[bytes]:
    """Return the next run of `names`, sorted. All are encoded at once: no name holds a NUL."""
    some = set(islice(names, _RUN))
    return sorted(os.fsencode("\0".join(some)).split(b"\0")) if some else []


def _unpacked(piece: bytes) -> list[bytes]:
    return zlib.decompress(piece).split(b"\0")


class Frame:
    """A directory on the way: its path with trailing slash (empty: the root), and its remaining entries."""

    __slots__ = (
        "_rest",
        "count",
        "descriptor",
        "entries",
        "identity",
        "index",
        "is_whole",
        "names",
        "prefix",
    )

    def __init__(self, descriptor: int, prefix: bytes) -> None:
        self.descriptor = descriptor
        self.identity: tuple[int, int] | None = None
        """Identifies the directory while its descriptor is closed."""
        self.prefix = prefix
        self.names: Names | tuple[()] = ()
        """All of its names, once they are listed."""
        self.entries: list[bytes] = []
        """The names in hand."""
        self.index = self.count = 0
        """The index of the next name in hand, and how many were taken in hand."""
        self.is_whole = True
        """So far each entry is a file as its row says, and each row has its file."""
        self._rest: Iterator[bytes] = iter(())

    def read(self) -> None:
        """Read its names. Raises OSError."""
        self.names = Names(names_in(self.descriptor))
        self._rest = iter(self.names)

    def turn(self) -> bool:
        """Replace the finished names in hand with more; return False if there are none."""
        more = list(islice(self._rest, _IN_HAND))
        self.entries[: self.index] = []
        self.entries += more
        self.count += len(more)
        self.index = 0
        return bool(more)

    def next_directory(self, last: bytes) -> bytes:
        """Pass over the next entry and return its path if it is a directory up to `last`; else empty."""
        if self.index < len(self.entries) and (entry := self.entries[self.index]).endswith(b"/"):
            path = self.prefix + entry
            if path <= last:
                self.index += 1
                self.is_whole = False
                return path[:-1]
        return b""

    def turned_into_directory(self, name: bytes) -> None:
        """Move a name that was not listed as a directory, but is one now, to where directories sort."""
        entry = name + b"/"
        while (not self.entries or self.entries[-1] < entry) and self.turn():
            pass
        place = bisect_left(self.entries, entry, lo=self.index)
        if self.entries[place : place + 1] != [entry]:
            self.entries.insert(place, entry)


class Walk:
    """The directories on the way from the root; the last one is being read."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._frames: list[Frame] = []

    def top(self) -> Frame | None:
        """Return the directory that is being read."""
        return self._frames[-1] if self._frames else None

    def enter(self, path: bytes) -> Frame:
        """Enter the directory `path` (no trailing slash), a child of the top one. Raises OSError."""
        parent = self.top()
        if parent is None:
            descriptor = open_listing(self._root_fd, path)
        else:
            descriptor = os.open(path[len(parent.prefix) :], OPEN_DIRECTORY, dir_fd=parent.descriptor)
        frame = Frame(descriptor, path + b"/" if path else b"")
        self._frames.append(frame)
        if len(self._frames) > MOST_OPEN:
            far = self._frames[-1 - MOST_OPEN]
            if far.descriptor >= 0:
                far.identity = _identity(far.descriptor)
            _close(far)
        return frame

    def resume(self, frame: Frame) -> None:
        """Reopen the descriptor of the top directory if necessary. Raises OSError.

        Another directory may have taken its place; then its remaining entries are only names to look at.
        """
        if frame.descriptor < 0 and (frame.index < len(frame.entries) or frame.turn()):
            frame.descriptor = open_listing(self._root_fd, frame.prefix[:-1])

    def leave(self) -> None:
        """Go up. If the directory above was closed, open the parent of this one, if that is the same one.

        Opening it by its path opens every component: in a deep tree that costs the square of the depth.
        """
        left = self._frames.pop()
        above = self.top()
        if above is not None and above.descriptor < 0 <= left.descriptor:
            with suppress(OSError):
                above.descriptor = os.open("..", OPEN_DIRECTORY, dir_fd=left.descriptor)
                if _identity(above.descriptor) != above.identity:
                    _close(above)
        _close(left)

    def close(self) -> None:
        """Leave all directories."""
        while self._frames:
            _close(self._frames.pop())


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _close(frame: Frame) -> None:
    descriptor, frame.descriptor = frame.descriptor, -1
    if descriptor >= 0:
        os.close(descriptor)


# ---- the second look -----------------------------------------------------------------------------------


class Missing:
    """Paths in the order in which they were added, in memory up to a megabyte, then in an unnamed file."""

    def __init__(self) -> None:
        self._near = bytearray()
        self._far: BinaryIO | None = None
        self._far_size = 0
        self.lost = False
        """Some did not fit (no room for temporary files); the next scan finds them."""

    def add(self, path: bytes) -> None:
        """Keep `path` for later."""
        if self.lost:
            return
        self._near += path + b"\0"
        if len(self._near) >= IN_MEMORY:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        """Yield all paths that could be kept."""
        rest = b""
        done = 0
        while self._far is not None and done < self._far_size:
            try:
                chunk = os.pread(self._far.fileno(), min(_CHUNK, self._far_size - done), done)
            except OSError:
                chunk = b""
            if not chunk:
                self.lost = True
                return
            done += len(chunk)
            *paths, rest = (rest + chunk).split(b"\0")
            yield from paths
        yield from bytes(self._near).split(b"\0")[:-1]

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._far is not None:
            self._far.close()

    def _spill(self) -> None:
        try:
            if self._far is None:
                # Unbuffered, so that closing the file does not write again what failed.
                self._far = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by `close`
            while self._near:
                size = self._far.write(self._near)
                if not size:
                    raise OSError(errno.ENOSPC, "no room")
                del self._near[:size]
                self._far_size += size
        except OSError:
            self.lost = True
            self._near.clear()


class Absent(Struct, frozen=True):
    """Two looks found no file, but nothing or a directory; or, for an empty folder, one with content."""

    path: bytes
    recorded: Recorded


class Present(Struct, frozen=True):
    """The file exists: the first listing missed it, or it came back."""

    path: bytes
    found: os.stat_result


class Unknown(Struct, frozen=True):
    """Nothing can be said about the files recorded in this directory."""

    directory: bytes
    error: OSError


class Hidden(Struct, frozen=True):
    """The file is out of sight: it may still exist, but cannot be seen."""

    directory: bytes
    reason: str
    by_link: bool
    """A link is meant to stay. A missing mount or device may be an accident that hides more."""


def second_look(
    root_fd: int,
    missing: Missing,
    recorded_of: Callable[[bytes], Recorded | None],
    is_ours: Callable[[bytes], bool],
    *,
    mounts_stay: bool = False,
    deletes: bool = True,
) -> Iterator[Absent | Present | Unknown | Hidden]:
    """Yield a verdict for every missing path; one Unknown stands for a whole directory.

    `recorded_of` returns the current record; a path without one gets no verdict. `is_ours` says whether
    recorded files came from the mount at this path (`syncd.sources.root.holds_recorded`); `mounts_stay` and
    `deletes` are as in `Nearest.hides`.
    """
    place: _Place | None = None
    try:
        for path in missing:
            directory, _, name = path.rpartition(b"/")
            if place is None or place.path != directory:
                if place is not None:
                    place.close()
                place = _Place(root_fd, directory, is_ours, mounts_stay=mounts_stay, deletes=deletes)
            recorded = None if place.told else recorded_of(path)
            if recorded is not None:
                yield place.verdict(name, recorded)
    finally:
        if place is not None:
            place.close()


class _Place:
    """A directory of missing files, listed again; or the nearest one that is left."""

    def __init__(
        self,
        root_fd: int,
        path: bytes,
        is_ours: Callable[[bytes], bool],
        **hides: bool,
    ) -> None:
        self.path = path
        self._root_fd = root_fd
        self._is_ours = is_ours
        self._hides = hides
        self.told = False
        """An Unknown was yielded, and one is enough."""
        self._descriptor = -1
        self._names: Iterator[bytes] = iter(())
        self._listed = b""
        self._nearest = Nearest(0)
        self._error: OSError | None = None
        try:
            self._open(root_fd)
        except OSError as error:
            self._error = error

    def verdict(self, name: bytes, recorded: Recorded) -> Absent | Present | Unknown | Hidden:
        path = self.path + b"/" + name if self.path else name
        error = self._error
        is_other = False
        if error is None:
            try:
                if self._descriptor >= 0:
                    found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
                    # A directory took its place, or a name that differs only in case.
                    is_other = modes.S_ISDIR(found.st_mode) or not is_spelled(
                        self._root_fd, os.fsdecode(path)
                    )
                    if not is_other:
                        return Present(path, found)
            except OSError as raised:
                error = None if raised.errno in GONE else raised
        if error is None and self._is_listed(name) and not is_other:
            error = OSError(errno.EAGAIN, "its names change while it is read")
        if error is None and not name and self._descriptor >= 0:
            return Absent(path, recorded)  # the folder itself has content, whatever is mounted there
        if error is None:
            reason = self._nearest.hides(
                recorded.stat,
                self._is_ours,
                devices=lambda: devices_in(self._root_fd, self.path),
                **self._hides,
            )
            return Hidden(self.path, reason, bool(self._nearest.link)) if reason else Absent(path, recorded)
        self.told = True
        return Unknown(self.path, error)

    def _open(self, root_fd: int) -> None:
        try:
            self._descriptor = open_listing(root_fd, self.path)
            self._names = iter(Names(name.removesuffix("/") for name in names_in(self._descriptor)))
        except OSError as error:
            if error.errno not in GONE or self._descriptor >= 0:
                raise
        self._nearest = nearest(root_fd, self.path)
        if self._nearest.is_whole != (self._descriptor >= 0):
            raise OSError(errno.EAGAIN, "it changes while it is read")

    def _is_listed(self, name: bytes) -> bool:
        """Return whether the listing has `name`. Names must be asked in ascending order."""
        while self._listed < name and (listed := next(self._names, None)) is not None:
            self._listed = listed
        return bool(name) and self._listed == name

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Nearest(Struct, frozen=True):
    """The nearest existing directory, from a missing file upwards."""

    device: int
    mount: bytes = b""
    """The innermost mount point on the way; empty: there is none below the root."""
    link: bytes = b""
    """The symbolic link at which the way ends; empty: it does not."""
    is_whole: bool = True
    """It is the directory of the file itself."""
    changed_ns: int = LATEST_NS
    """When it last changed, as the kernel says (ctime)."""

    def hides(
        self,
        stat: FileStat,
        is_ours: Callable[[bytes], bool],
        *,
        devices: Callable[[], Collection[int]] = tuple,
        mounts_stay: bool = False,
        deletes: bool = True,
    ) -> str:
        """Return why a file with this recorded `stat` is out of sight; empty: it is not, so it is gone.

        `devices` returns those of the files in the directory, because an overlay shows files of several.
        `mounts_stay`: the operator says that what is mounted now, and holds recorded files, is there to stay.

        Whatever removes a file changes its directory. If the directory has not changed since the file did, a
        snapshot of its file system was restored: what came later was never removed. That matters if the
        source `deletes`.
        """
        if self.link:
            return f"{printable(os.fsdecode(self.link))} is a symbolic link now, and syncd follows none"
        device = stat.device
        believed = self.device == device or (mounts_stay and bool(self.mount))
        if not believed and not (self.is_whole and device in devices()):
            return "its files were recorded on another device, which may be unmounted"
        if self.mount and not is_ours(self.mount):
            return f"what is mounted at {printable(os.fsdecode(self.mount))} holds no recorded file"
        is_earlier = deletes and not mounts_stay and self.changed_ns < stat.ctime_ns
        if is_earlier and stamps_folders(type_of(self.device)):
            return "it lacks a file that changed later than it did: was it taken back to a snapshot?"
        return ""


def nearest(root_fd: int, directory: bytes) -> Nearest:
    """Return how far the way from the root to `directory` goes. Raises OSError."""
    descriptor = os.dup(root_fd)
    at, way, mounted, mount = b"", directory.split(b"/") if directory else [], mount_of(descriptor), b""
    try:
        for name in way:
            try:
                below = os.open(name, DIRECTORY, dir_fd=descriptor)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                link = at + name if _is_link(name, descriptor) else b""
                found = os.fstat(descriptor)
                return Nearest(found.st_dev, mount, link, is_whole=False, changed_ns=found.st_ctime_ns)
            os.close(descriptor)
            descriptor, at = below, at + name + b"/"
            if (now := mount_of(descriptor)) != mounted:
                mounted, mount = now, at[:-1]
        found = os.fstat(descriptor)
        return Nearest(found.st_dev, mount, changed_ns=found.st_ctime_ns)
    finally:
        os.close(descriptor)


def devices_in(root_fd: int, directory: bytes) -> frozenset[int]:
    """Return the devices of a directory's first regular files; none if it cannot be listed."""
    found = set()
    with suppress(OSError):
        descriptor = open_listing(root_fd, directory)
        try:
            for name in os.listdir(descriptor)[:_MOST_ASKED]:
                with suppress(FileNotFoundError):  # other programs rename and delete
                    stat = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if modes.S_ISREG(stat.st_mode):
                        found.add(stat.st_dev)
        finally:
            os.close(descriptor)
    return frozenset(found)


def _is_link(name: bytes, descriptor: int) -> bool:
    """Return whether a link could not be opened as a directory. Raises OSError: it is a directory now."""
    try:
        found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError as error:
        if error.errno in GONE:
            return False
        raise
    if modes.S_ISDIR(found.st_mode):
        raise OSError(errno.EAGAIN, "its directories change while they are read")
    return modes.S_ISLNK(found.st_mode)
