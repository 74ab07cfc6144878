"""Gives a restored file the attributes that its object carries, as far as permitted and wanted."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat as modes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from syncd.core.model import Attributes

Facts = tuple[int | None, Attributes]
"""Mtime in nanoseconds (None: unknown) and attributes of a file to be."""

_ACLS, _CAPABILITY = ("system.posix_acl_access", "system.posix_acl_default"), "security.capability"


def give(fd: int, wanted: Attributes, mode: int, *, special: bool) -> list[str]:
    """Set owner, mode and extended attributes of an open file; `mode` is for a file that has none.

    Owners are set only as root: by name if this machine knows it, else by number. Setuid, setgid and
    capabilities need `special`. Returns what could not be set. Raises OSError.
    """
    failed: list[str] = []

    def attempt(what: str, act: Callable[..., Any], *arguments: Any) -> None:
        try:
            act(fd, *arguments)
        except OSError as error:
            failed.append(f"{what}: {error.strerror or error}")

    if os.geteuid() == 0:
        uid, gid = _uid(wanted.user, wanted.uid), _gid(wanted.group, wanted.gid)
        if (uid, gid) != (-1, -1):
            attempt("owner", os.fchown, uid, gid)
    later = []
    for name, value in wanted.xattrs:
        if name.startswith("user."):
            attempt(name, os.setxattr, os.fsencode(name), value)
        elif name in _ACLS or (name == _CAPABILITY and special):
            later.append((name, value))
    if wanted.mode is not None:
        mode = wanted.mode & _taken(fd, special=special)
    attempt("mode", _chmod, mode)
    for name, value in later:  # a change of owner drops capabilities, and a mode overwrites a list
        attempt(name, os.setxattr, name, value)
    return failed


def _taken(fd: int, *, special: bool) -> int:
    """Return the bits of a mode that the file may get, after removing its access control lists."""
    is_folder = modes.S_ISDIR(os.fstat(fd).st_mode)
    for name in _ACLS if is_folder else _ACLS[:1]:
        with contextlib.suppress(OSError):  # a list from the folder above would admit more people
            os.removexattr(fd, name)
    return 0o7777 if special else 0o1777 if is_folder else 0o777  # the sticky bit takes rights away


def _chmod(fd: int, mode: int) -> None:
    """Set the mode. FAT, exFAT and many network file systems keep their own, and report no error."""
    os.fchmod(fd, mode)
    found = os.fstat(fd).st_mode
    if found & ~mode & 0o066:
        raise OSError(
            errno.EOPNOTSUPP, f"others may use the file: the file system gives it {found & 0o777:03o}"
        )


def set_time(fd: int, mtime_ns: int | None) -> None:
    """Set the modification time, if known. A file system may not hold such a time, or not let syncd set it:
    the content counts. Raises OSError.
    """
    if mtime_ns is not None:
        with contextlib.suppress(PermissionError, OverflowError):
            os.utime(fd, ns=(mtime_ns, mtime_ns))


def give_link(name: str, directory: int, wanted: Attributes, mtime_ns: int | None) -> None:
    """Set owner and time of the symbolic link `name` in an open directory, as far as permitted."""
    uid, gid = _uid(wanted.user, wanted.uid), _gid(wanted.group, wanted.gid)
    with contextlib.suppress(OSError, OverflowError, NotImplementedError):
        if os.geteuid() == 0 and (uid, gid) != (-1, -1):
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if mtime_ns is not None:
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=directory, follow_symlinks=False)


@lru_cache(maxsize=1024)
def _uid(name: str, number: int | None) -> int:
    """Return the number to set; -1: keep the owner."""
    try:
        return pwd.getpwnam(name).pw_uid if name else -1 if number is None else number
    except (KeyError, OSError, UnicodeError, ValueError):
        return -1 if number is None else number


@lru_cache(maxsize=1024)
def _gid(name: str, number: int | None) -> int:
    try:
        return grp.getgrnam(name).gr_gid if name else -1 if number is None else number
    except (KeyError, OSError, UnicodeError, ValueError):
        return -1 if number is None else number
