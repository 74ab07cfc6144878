"""A walk through a tree of directories, descriptor by descriptor, in the byte order of full paths.

No symbolic link is followed. Memory holds the listings of the directories between the root and here, and
at most `MOST_OPEN` descriptors, however deep it goes.
"""

from __future__ import annotations

import os
from bisect import bisect_left

from syncd.sources import files as fingerprint

MOST_OPEN = 64
_LISTINGS = 3
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Frame:
    """A directory on the way: its path with trailing slash (empty: the root), and what is still to come."""

    __slots__ = ("descriptor", "entries", "index", "prefix")

    def __init__(self, descriptor: int, prefix: bytes, entries: list[bytes]) -> None:
        self.descriptor = descriptor
        self.prefix = prefix
        self.entries = entries
        self.index = 0

    def turned_into_directory(self, name: bytes) -> None:
        """What was listed as something else is a directory by now: its turn comes where directories sort."""
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
            descriptor = os.open(path[len(parent.prefix) :], _LIST, dir_fd=parent.descriptor)
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
        """See to it that the descriptor of the top directory is open. Raises OSError.

        Another directory may have taken its place: what is still to come are names to look at, no more.
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


def open_listing(root_fd: int, path: bytes) -> int:
    """A descriptor of the directory `path` below the root, to list it. Raises OSError."""
    below = fingerprint.open_directory(root_fd, os.fsdecode(path))
    try:
        return os.open(".", _LIST, dir_fd=below)
    finally:
        os.close(below)


def entries_of(descriptor: int) -> list[bytes]:
    """The names in a directory in the order of bytes, those of directories with a slash at the end.

    A listing during which names change may miss any of them: then it is done again, a few times, and what
    one of them saw counts. Raises OSError.
    """
    names: set[bytes] = set()
    before = os.fstat(descriptor).st_mtime_ns
    for _ in range(_LISTINGS):
        with os.scandir(descriptor) as found:
            listed = [
                entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in found
            ]
        if listed:  # encoded all at once: no name holds a NUL
            names.update(os.fsencode("\0".join(listed)).split(b"\0"))
        after = os.fstat(descriptor).st_mtime_ns
        if after == before:
            break
        before = after
    return sorted(names)


def _close(frame: Frame) -> None:
    descriptor, frame.descriptor = frame.descriptor, -1
    if descriptor >= 0:
        os.close(descriptor)
