"""Recorded files that a walk did not meet: collected without memory, then looked for once more.

A listing may miss files that exist, and a directory whose file system is unmounted looks empty. So a file
is absent only if its name leads nowhere, a listing of its directory that began later does not have it
either, and that directory is on the device on which the file was recorded.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from syncd.core.model import Recorded
from syncd.sources.files import GONE, open_directory
from syncd.sources.scan.walk import open_listing

IN_MEMORY = 1 << 20
_CHUNK = 1 << 16


class Missing:
    """Paths in the order in which they were added, in memory up to a megabyte, then in an unnamed file."""

    def __init__(self) -> None:
        self._near = bytearray()
        self._far: BinaryIO | None = None
        self._far_size = 0
        self.lost = False
        """Some could not be kept (no room for temporary files): they wait for the next scan."""

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
        """Give the file back."""
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
    """Gone, as far as two looks can tell."""

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
    """A verdict for every missing path; one Unknown stands for all of a directory.

    `recorded_of` tells what is recorded by now; what is not any more gets no verdict.
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
        """An Unknown was said: once is enough."""
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
