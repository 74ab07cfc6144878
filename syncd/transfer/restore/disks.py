"""The file systems that a restore writes to. One call makes everything written to one of them durable; an
fsync of each small file would take longer than everything else that is done for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from collections.abc import Iterable

from syncd.sources import mounts

_WHOLE = frozenset({"btrfs", "ext4", "f2fs", "tmpfs", "xfs"})
"""File systems for which syncfs(2) does what fsync(2) does for each file. A server behind a network or FUSE
file system may notice only the second."""
_DIRECT = frozenset({"ext4", "xfs"})
"""File systems on which databases write past the page cache (O_DIRECT). Others then still copy, drop
checksums or compression, or fail in other ways."""
_TELLS_ERRORS = (5, 8)
"""The first version of Linux whose syncfs(2) fails if a block could not be written."""

_libc = ctypes.CDLL(None, use_errno=True)


class Disks:
    """For several threads. Call `of` before writing, because a descriptor reports the errors since it was
    opened.
    """

    def __init__(self) -> None:
        self._roots: dict[int, int | None] = {}
        """Device -> a descriptor of a directory on it; None: its files are made durable one by one."""
        self._direct: set[int] = set()
        self._lock = threading.Lock()

    def of(self, directory: int, device: int) -> int | None:
        """Return the `device` of an open directory; None: `sync` does not work for it. Raises OSError."""
        if device not in self._roots:
            with self._lock:
                self._meet(directory, device)
        return device if self._roots[device] is not None else None

    def _meet(self, directory: int, device: int) -> None:
        if device in self._roots:
            return
        kind = mounts.type_of(device)
        known = _kernel() >= _TELLS_ERRORS and kind in _WHOLE
        if kind in _DIRECT:
            self._direct.add(device)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._roots[device] = os.open(".", flags, dir_fd=directory) if known else None

    def takes_direct(self, device: int | None) -> bool:
        """Return whether large files on it are better written past the page cache; None: not."""
        return device in self._direct

    def sync(self, devices: Iterable[int]) -> None:
        """Make everything on these devices durable. Raises OSError, perhaps for a file of another program."""
        for device in devices:
            root = self._roots[device]
            if root is not None and _libc.syncfs(root) != 0:
                raise OSError(number := ctypes.get_errno(), os.strerror(number))

    def close(self) -> None:
        """Close the descriptors."""
        roots, self._roots = self._roots, {}
        for root in roots.values():
            if root is not None:
                with contextlib.suppress(OSError):
                    os.close(root)


def _kernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
