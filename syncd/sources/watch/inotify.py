"""inotify as the kernel offers it: one descriptor, its watches, its records. It makes no decisions.

Source: inotify(7); Linux 2.6.36 or later. Directories are named by descriptor, never by path: between
a look at a path and a watch on it another directory may take its place.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

ATTRIB = 0x00000004
CREATE = 0x00000100
MODIFY = 0x00000002
CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
OPEN = 0x00000020
UNMOUNT = 0x00002000
Q_OVERFLOW = 0x00004000
IGNORED = 0x00008000
ONLYDIR = 0x01000000
EXCL_UNLINK = 0x04000000
MASK_ADD = 0x20000000
ISDIR = 0x40000000

CONTENT = CREATE | MODIFY | CLOSE_WRITE | MOVED_FROM | MOVED_TO | DELETE | DELETE_SELF | ONLYDIR | EXCL_UNLINK
"""The events of a directory that are watched: none that reading, listing or stat causes."""
NAMES = CREATE | MOVED_FROM | MOVED_TO | DELETE
"""The events that change which entries a directory has."""
ROOT = CONTENT | MOVE_SELF
"""For a directory whose parent is not watched."""
ABOUT_ITSELF = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED

NO_ROOM = frozenset({errno.ENOSPC, errno.ENOMEM})
"""The limit of watches is reached."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
"""Out of descriptors, or of inotify instances."""
UNREADABLE = frozenset({errno.EACCES, errno.EPERM})

_RECORD = struct.Struct("iIII")
_READ_BYTES = 64 << 10
_READS_AT_ONCE = 4
_LIMITS = "/proc/sys"
# Each limit has two names: in the first user namespace, and in the namespace of this process.
_WATCHES = ("fs.inotify.max_user_watches", "user.max_inotify_watches")
_INSTANCES = ("fs.inotify.max_user_instances", "user.max_inotify_instances")


class Record(NamedTuple):
    """One inotify record. `name` is empty if the record is about the watched directory itself."""

    watch: int
    mask: int
    cookie: int
    name: bytes


class Inotify:
    """One inotify instance. Not thread-safe: one thread adds, removes and reads."""

    def __init__(self) -> None:
        """Raises OSError: EMFILE (instances or descriptors exhausted), ENFILE, ENOMEM."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """Return the descriptor, to wait on; -1 once closed."""
        return self._fd

    def add(self, directory_fd: int, mask: int) -> int:
        """Watch an open directory, or change its watch; return the watch, always the same for a directory.

        Raises OSError: ENOSPC or ENOMEM (watches exhausted), EACCES (not readable).
        """
        path = b"/proc/self/fd/%d" % directory_fd
        return self._checked(self._libc.inotify_add_watch(self._fd, path, mask))

    def remove(self, watch: int) -> bool:
        """End a watch; return False if the kernel had already ended it."""
        return bool(self._libc.inotify_rm_watch(self._fd, watch) == 0)

    def read(self) -> list[Record]:
        """Return what has happened so far, oldest first, about 256 KiB at most; empty: nothing."""
        records: list[Record] = []
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            records += parse(data)
            if len(data) < _READ_BYTES // 2:  # the rest can wait for its own turn
                break
        return records

    def close(self) -> None:
        """End every watch."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def parse(data: bytes) -> list[Record]:
    """Return the records in what one read returned."""
    records = []
    offset = 0
    while offset < len(data):
        watch, mask, cookie, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        records.append(Record(watch, mask, cookie, name))
    return records


def watch_limit() -> int | None:
    """Return how many watches this user may have, the smallest limit that counts; None: unknown."""
    return min(_limits(_WATCHES).values(), default=None)


def watches_remedy(missing: int) -> str:
    """Return the ``sysctl`` line that makes room for `missing` more watches, and some spare ones."""
    limit = watch_limit() or 0
    wanted = max(limit + limit // 4, limit + missing + missing // 4)
    return _remedy(_WATCHES, -(-wanted // 8192) * 8192)


def instances_remedy() -> str:
    """Return the ``sysctl`` line that allows this user more inotify instances."""
    limit = min(_limits(_INSTANCES).values(), default=128)
    return _remedy(_INSTANCES, max(256, 2 * limit))


def queue_limit() -> int | None:
    """Return how many events an instance holds before it drops some; None: unknown."""
    return _limit("fs.inotify.max_queued_events")


def _remedy(names: tuple[str, str], wanted: int) -> str:
    limits = _limits(names)
    too_low = [name for name, limit in limits.items() if limit < wanted]
    if len(set(limits.values())) < 2:  # outside its own user namespace, both names stand for one number
        too_low = [names[0]]
    return f"sysctl {' '.join(f'{name}={wanted}' for name in too_low)}"


def _limits(names: tuple[str, str]) -> dict[str, int]:
    """Return the readable ones. The kernel enforces the limit of every user namespace around a process."""
    limits = {name: _limit(name) for name in names}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _limit(name: str) -> int | None:
    try:
        with open(f"{_LIMITS}/{name.replace('.', '/')}", encoding="ascii") as limit:
            return int(limit.read())
    except (OSError, ValueError):
        return None
