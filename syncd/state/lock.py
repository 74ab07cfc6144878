"""One daemon for one state directory: an flock held for life. Everything that dies lets go of it."""

from __future__ import annotations

import fcntl
import os
import time

from syncd.core.errors import StateError

LOCK_NAME = "lock"
_TRIES = 5
_PAUSE_SECONDS = 0.05
_LINE = "%-15d\n"
"""The process id, 0 for nobody. Always as long, and written over the last: a full disk has room for it."""


class StateLock:
    """Held from `acquire` to `release`. A file left behind by a dead process is no obstacle."""

    def __init__(self, descriptor: int, *, interrupted: bool = False) -> None:
        self._descriptor: int | None = descriptor
        self.interrupted = interrupted
        """The last holder died with it: what it had joined but not yet written is lost."""

    @classmethod
    def acquire(cls, directory: str) -> StateLock:
        """Lock `directory` (made with mode 0700 where missing).

        Raises StateError, with the process id of the holder, when another process has it.
        """
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            descriptor = _open(directory, os.O_CREAT)
        except OSError as error:
            raise StateError(f"the state directory {directory} cannot be used: {error.strerror}") from error
        # Whoever only asks who holds it (`holder`) has a shared lock for an instant: hence more than one try.
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_SECONDS)
            if _try_lock(descriptor, fcntl.LOCK_EX):
                return cls(descriptor, interrupted=_taken_over(descriptor, directory))
        pid = _pid_in(descriptor)
        os.close(descriptor)
        who = f"process {pid}" if pid else "another process"
        raise StateError(f"syncd is already running on the state directory {directory} ({who})")

    def release(self) -> None:
        """Let go; done also when already let go. The file stays, so that nobody locks an unlinked one."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                _write(descriptor, 0)
            finally:
                os.close(descriptor)


def holder(directory: str) -> int | None:
    """Process id of who holds the lock of `directory`; None when nobody does, 0 when it cannot be told."""
    try:
        descriptor = _open(directory, 0)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"the lock in {directory} cannot be read: {error.strerror}") from error
    try:
        return None if _try_lock(descriptor, fcntl.LOCK_SH) else _pid_in(descriptor)
    finally:
        os.close(descriptor)


def _open(directory: str, flags: int) -> int:
    access = os.O_RDWR if flags & os.O_CREAT else os.O_RDONLY
    return os.open(os.path.join(directory, LOCK_NAME), access | flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken_over(descriptor: int, directory: str) -> bool:
    """Put our process id into the locked file; whether it held that of a dead process."""
    try:
        interrupted = _pid_in(descriptor) != 0
        _write(descriptor, os.getpid())
        os.fsync(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise StateError(f"the state directory {directory} cannot be used: {error.strerror}") from error
    return interrupted


def _write(descriptor: int, pid: int) -> None:
    os.pwrite(descriptor, (_LINE % pid).encode(), 0)


def _pid_in(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
