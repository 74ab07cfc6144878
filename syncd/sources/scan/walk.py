"""The disk's side of a scan: a walk in the byte order of full paths, and a second look at what it missed.

The walk goes from descriptor to descriptor and follows no symbolic link. It holds the listings of the
directories between the root and here, and at most `MOST_OPEN` descriptors, however deep it goes.

A listing may miss files that exist, and a directory whose file system is unmounted looks empty. So a file is
absent only if its name leads nowhere, a later listing of its directory does not have it either, and that
directory is on the device on which the file was recorded.
"""

from __future__ import annotations

import errno
import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from syncd.core.model import Recorded
from syncd.sources.files import GONE, OPEN_DIRECTORY, list_directory, open_directory, open_listing

MOST_OPEN = 64
IN_MEMORY = 1 << 20
_CHUNK = 1 << 16


class Frame:
    """A directory on the way: its path with trailing slash (empty: the root), and what is still to come."""

    __slots__ = ("descriptor", "entries", "index", "prefix")

    def __init__(self, descriptor: int, prefix: bytes, entries: list[bytes]) -> None:
        self.descriptor = descriptor
        self.prefix = prefix
        self.entries = entries
        self.index = 0

    def turned_into_directory(self, name: bytes) -> None:
        """A name not listed as a directory is one by now: it moves to where directories sort."""
        entry = name + b"/"
        place = bisect_left(self.entries, entry, lo=self.index)
        if self.entries[place : place + 1] != [entry]:
            self.entries.insert(place, entry)


class Walk:
    """The directories between the root and here; the last one is being read."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._frames: list[Frame] = []

    def top(self) -> Frame | None:
        """The directory that is being read."""
        return self._frames[-1] if self._frames else None

    def enter(self, path: bytes) -> Frame:
        """Go down into the directory `path` (no trailing slash), a child of the top one. Raises OSError."""
        parent = self.top()
        if parent is None:
            descriptor = open_listing(self._root_fd, path)
        else:
            descriptor = os.open(path[len(parent.prefix) :], OPEN_DIRECTORY, dir_fd=parent.descriptor)
        try:
            frame = Frame(descriptor, path + b"/" if path else b"", entries_of(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        self._frames.append(frame)
        if len(self._frames) > MOST_OPEN:
            _close(self._frames[-1 - MOST_OPEN])
        return frame

    def resume(self, frame: Frame) -> None:
        """Open the descriptor of the top directory again if need be. Raises OSError.

        Another directory may have taken its place: the entries that remain are only names to look at.
        """
        if frame.descriptor < 0 and frame.index < len(frame.entries):
            frame.descriptor = open_listing(self._root_fd, frame.prefix[:-1])

    def leave(self) -> None:
        """Go up again."""
        _close(self._frames.pop())

    def close(self) -> None:
        """Leave all."""
        while self._frames:
            self.leave()


def entries_of(descriptor: int) -> list[bytes]:
    """The names in a directory in the order of bytes, those of directories with a slash at the end."""
    directories, others = list_directory(descriptor)
    names = [name + "/" for name in directories]
    names += others
    # All are encoded at once: no name holds a NUL.
    return sorted(os.fsencode("\0".join(names)).split(b"\0")) if names else []


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
        """Some did not fit (no room for temporary files) and wait for the next scan."""

    def add(self, path: bytes) -> None:
        """Keep `path` for later."""
        if self.lost:
            return
        self._near += path + b"\0"
        if len(self._near) >= IN_MEMORY:
            self._spill()

    def __iter__(self) -> Iterator[bytes]:
        """All that could be kept."""
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
                # Unbuffered: what could not be written must not be tried again when the file is closed.
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


@dataclass(frozen=True, slots=True)
class Absent:
    """Two looks found nothing."""

    path: bytes
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class Present:
    """There after all: the first listing missed it, or it came back."""

    path: bytes
    found: os.stat_result


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing can be said about the files recorded in this directory."""

    directory: bytes
    error: OSError


def second_look(
    root_fd: int, missing: Missing, recorded_of: Callable[[bytes], Recorded | None]
) -> Iterator[Absent | Present | Unknown]:
    """A verdict for every missing path; one Unknown stands for a whole directory.

    `recorded_of` returns the record as of now; a path that has none any more gets no verdict.
    """
    place: _Place | None = None
    try:
        for path in missing:
            directory, _, name = path.rpartition(b"/")
            if place is None or place.path != directory:
                if place is not None:
                    place.close()
                place = _Place(root_fd, directory)
            recorded = None if place.told else recorded_of(path)
            if recorded is not None:
                yield place.verdict(name, recorded)
    finally:
        if place is not None:
            place.close()


class _Place:
    """A directory of missing files, listed again; or what is left of it."""

    def __init__(self, root_fd: int, path: bytes) -> None:
        self.path = path
        self.told = False
        """An Unknown was yielded: one is enough."""
        self._descriptor = -1
        self._names: frozenset[bytes] = frozenset()
        self._device = 0
        self._error: OSError | None = None
        try:
            self._open(root_fd)
        except OSError as error:
            self._error = error

    def verdict(self, name: bytes, recorded: Recorded) -> Absent | Present | Unknown:
        path = self.path + b"/" + name if self.path else name
        error = self._error
        if error is None:
            try:
                if self._descriptor >= 0:
                    return Present(path, os.stat(name, dir_fd=self._descriptor, follow_symlinks=False))
            except OSError as raised:
                error = None if raised.errno in GONE else raised
        if error is None and name in self._names:
            error = OSError(errno.EAGAIN, "its names change while it is read")
        if error is None and recorded.stat.device != self._device:
            error = OSError(errno.ENODEV, "its files were recorded on another device, which may be unmounted")
        if error is None:
            return Absent(path, recorded)
        self.told = True
        return Unknown(self.path, error)

    def _open(self, root_fd: int) -> None:
        try:
            self._descriptor = open_listing(root_fd, self.path)
            self._device = os.fstat(self._descriptor).st_dev
            self._names = frozenset(map(os.fsencode, os.listdir(self._descriptor)))
        except OSError as error:
            if error.errno not in GONE or self._descriptor >= 0:
                raise
            self._device = device_above(root_fd, self.path)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def device_above(root_fd: int, path: bytes) -> int:
    """The device of the nearest directory above `path` that is there. Raises OSError."""
    while path:
        path = path.rpartition(b"/")[0]
        try:
            descriptor = open_directory(root_fd, os.fsdecode(path))
        except OSError as error:
            if error.errno not in GONE:
                raise
        else:
            try:
                return os.fstat(descriptor).st_dev
            finally:
                os.close(descriptor)
    return os.fstat(root_fd).st_dev
