"""Memory for the parts of large files, reused from part to part.

The kernel clears fresh memory, which for a part costs as much as reading it from the page cache. So while
parts are sent, the memory of one part serves the next. When no thread sends parts, all memory goes back to
the kernel: an idle daemon holds none. The allocator would keep a heap for each thread, as large as that
thread ever needed.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Buffers:
    """Lends memory to several threads at once. Its users bound how much is lent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._free: list[mmap.mmap] = []

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep returned memory for the next loan while a caller is in this context."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._free.clear()

    @contextmanager
    def lend(self, size: int) -> Iterator[memoryview]:
        """Lend `size` writable bytes, at least 1, with the last borrower's content in them."""
        memory = self._take(size)
        try:
            yield memoryview(memory)[:size]
        finally:
            with self._lock:
                if self._users:
                    self._free.append(memory)

    def _take(self, size: int) -> mmap.mmap:
        with self._lock:
            for index in reversed(
                range(len(self._free))
            ):  # the last one used is still in the processor's cache
                if len(self._free[index]) >= size:
                    return self._free.pop(index)
            self._free.clear()  # too small; kept besides larger ones, they would have to be counted
        return fresh(size)


def fresh(size: int) -> mmap.mmap:
    """Return private memory. The kernel gets it back once it is unused."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError, AttributeError):  # fewer pages to set up, if the kernel has large ones
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
