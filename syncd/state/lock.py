"""One daemon for one state directory: a lock of it and of a file in it, which end with the process."""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import stat
from pathlib import Path

from syncd.core.errors import StateError, StateRefused, os_words

LOCK_NAME = "lock"
_LINE = "%-15d\n"
"""The process id, 0 for none. Of fixed length and written in place, so that it fits on a full disk."""


class StateLock:
    """Held from `acquire` to `release`. The file of a process that died is no obstacle."""

    def __init__(self, descriptor: int, held: int) -> None:
        self._descriptor: int | None = descriptor
        self._held = held

    @classmethod
    def acquire(cls, directory: str) -> StateLock:
        """Lock `directory` (made with mode 0700 where missing).

        Raises StateError, with the process id of the holder, when another process has it, and StateRefused
        when another user could change what lies in it.
        """
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            require_private(directory)
            descriptor = _open(directory)
        except OSError as error:
            raise StateError(f"the state directory {directory} cannot be used: {os_words(error)}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = _hold(directory)
        except BlockingIOError:
            pid = _pid_in(descriptor)
            os.close(descriptor)
        else:
            try:
                _take_over(descriptor, directory)
            except StateError:
                os.close(held)
                raise
            return cls(descriptor, held)
        who = f"process {pid}" if pid else "another process"
        raise StateError(
            f"syncd is already running on the state directory {directory} ({who});"
            " end that one, or give this one another state_dir"
        )

    @staticmethod
    def holder(directory: str) -> int:
        """The id of the process that probably has the lock; 0: none. Locks nothing."""
        try:
            descriptor = os.open(os.path.join(directory, LOCK_NAME), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            pid = _pid_in(descriptor)
        finally:
            os.close(descriptor)
        return pid if pid and os.path.exists(f"/proc/{pid}") else 0

    def release(self) -> None:
        """Let go; harmless if released. The file stays, so that no process locks an unlinked one."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                _write(descriptor, 0)
            finally:
                os.close(self._held)
                os.close(descriptor)


def require_private(directory: str) -> None:
    """Raise StateRefused unless the directory is ours, and no other user's to write in. Raises OSError where
    it is not there.

    Who can write there can lead our writes elsewhere by links, and decide what counts as uploaded. A group
    that is the user's own, as many systems give to every user, is no other user.
    """
    found = os.stat(directory)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        raise StateRefused(
            f"the state directory {directory} belongs to the user {_name(found.st_uid)}, not to "
            f"{_name(os.geteuid())}: run syncd as {_name(found.st_uid)}, or choose another state_dir"
        )
    shared = mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_own_group(found.st_gid))
    if shared:
        raise StateRefused(
            f"the state directory {directory} can be written by other users (mode {mode:04o}): "
            f"look at what is in it, then run `chmod 700 {directory}`"
        )


def _is_own_group(gid: int) -> bool:
    """Whether it is the user's primary group, which has the user's name and no other members, or no name."""
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return gid == os.getegid()
    name = _name(os.geteuid())
    return gid == os.getegid() and group.gr_name == name and set(group.gr_mem) <= {name}


def replaceable_in(directory: str) -> str:
    """A directory above it in which other users can put another one, or a link, in its place; empty:
    there is none. What they put there is refused unless it is ours, but nothing works then. Raises OSError.
    """
    for way in (os.path.abspath(directory), os.path.realpath(directory)):
        for place in Path(way).parents:
            mode = place.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                return str(place)
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _open(directory: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(os.path.join(directory, LOCK_NAME), flags, 0o600)


def _hold(directory: str) -> int:
    """A descriptor of the directory, locked as well: the file in it may be removed while its lock is held.

    Raises BlockingIOError where another process has it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass  # a file system that locks no directories; then the file has to do
    return descriptor


def _take_over(descriptor: int, directory: str) -> None:
    """Put our process id into the locked file, for the message to who comes second."""
    try:
        _write(descriptor, os.getpid())
    except OSError as error:
        os.close(descriptor)
        raise StateError(f"the state directory {directory} cannot be used: {os_words(error)}") from error


def _write(descriptor: int, pid: int) -> None:
    os.pwrite(descriptor, (_LINE % pid).encode(), 0)


def _pid_in(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0
