"""The processors on which the calling thread may run.

Of the threads that spend their time in the interpreter, only one runs at a time. Spread over several
processors, they wake each other across them with every system call, which may cost as much as the work
itself; on one processor the kernel just goes on with the next. So threads that handle small files or compare
listings keep to one processor. Digests of large files, computed outside of the interpreter, use all.

If a sandbox forbids the call, nothing happens: it saves time, but nothing depends on it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

LARGE_BYTES = 256 << 10
"""From this size on, most of the work is computing the digests of a file."""


class _Here(threading.local):
    """The processors that the calling thread could use before `narrow`; empty: it was not narrowed."""

    allowed: frozenset[int] = frozenset()


_here = _Here()


def narrow() -> None:
    """Keep the calling thread to one processor, the same for all threads that ask."""
    allowed = frozenset(os.sched_getaffinity(0))
    if len(allowed) > 1 and _keep_to({_chosen(allowed)}):
        _here.allowed = allowed


def room_for(size: int) -> AbstractContextManager[None]:
    """Allow all processors while the calling thread, and those it starts, handle a file of `size` bytes."""
    if size < LARGE_BYTES or not _here.allowed:
        return _AS_IT_IS
    return _widened(_here.allowed)


_AS_IT_IS = nullcontext()


@contextmanager
def _widened(allowed: frozenset[int]) -> Iterator[None]:
    _keep_to(allowed)
    try:
        yield
    finally:
        _keep_to({_chosen(allowed)})


def _chosen(allowed: frozenset[int]) -> int:
    """Return the same for all threads of this process, and probably another one for the next process."""
    return sorted(allowed)[os.getpid() % len(allowed)]


def _keep_to(processors: frozenset[int] | set[int]) -> bool:
    with suppress(OSError):  # a sandbox forbids it, or a processor went offline
        os.sched_setaffinity(0, processors)
        return True
    return False
