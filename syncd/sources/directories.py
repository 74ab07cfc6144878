"""Opens and lists directories below a root; every path is relative to the root's descriptor.

No component of a path may be a symbolic link: each directory on the way is opened relative to the one
before it, and only as a directory. So a user who may write in a source cannot make syncd read a file outside
of it, however fast that user swaps links.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat as modes
import unicodedata
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from syncd.core.errors import FileUnreadable, FileVanished, os_words
from syncd.core.model import RootIdentity
from syncd.sources import mounts
from syncd.state.queries import Entry

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""The kernel's errors for a name that leads nowhere: gone, or a component is not a directory."""
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""For a directory on the way."""
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""For a directory that is to be listed."""
_LISTINGS, _BREATH = 3, 512
_GETFSUUID = 0x80111500  # linux/fs.h


def open_resolved(path: str, flags: int = DIRECTORY) -> int:
    """Return a descriptor of the directory at the absolute `path`, none of whose components may be a link.

    The configuration resolves a root once. A later link on its way comes from a user who may write above the
    root, and may lead to what only syncd's user can read. Raises OSError.
    """
    descriptor = os.open("/", DIRECTORY)
    try:
        below = open_directory(descriptor, path.strip("/"))
    finally:
        os.close(descriptor)
    if flags == DIRECTORY:
        return below
    try:
        return os.open(".", flags, dir_fd=below)
    finally:
        os.close(below)


def open_root(path: str) -> int:
    """Return an O_PATH descriptor of the root at the resolved `path`. Raises FileVanished, FileUnreadable."""
    try:
        return open_resolved(path)
    except OSError as error:
        raise translated(error) from error


def link_in(path: str) -> str:
    """Return the path of the first component of an absolute path that is a link; empty: none is."""
    at = ""
    for name in path.strip("/").split("/"):
        at += f"/{name}"
        try:
            if modes.S_ISLNK(os.stat(at, follow_symlinks=False).st_mode):
                return at
        except OSError:
            break
    return ""


def identity_of(root_fd: int) -> RootIdentity:
    """Return which directory an open root is. Raises FileVanished, FileUnreadable (a missing disk)."""
    try:
        found = os.fstat(root_fd)
    except OSError as error:
        raise translated(error) from error
    return RootIdentity(found.st_dev, found.st_ino, _volume_of(root_fd))


def _volume_of(descriptor: int) -> str:
    """Return the id of a file system in 16 hexadecimal digits, then its UUID or `mounts.name_of` it; empty:
    it has neither. The descriptor must not be an O_PATH one.

    Sources: statfs(2); struct fsuuid2 in linux/fs.h, since Linux 6.9. XFS and FAT make the id from the device
    number, FUSE and NFS have 0, and for FAT, exFAT and NTFS the kernel reports no UUID.
    """
    uuid, told = bytearray(17), ""
    try:
        fcntl.ioctl(descriptor, _GETFSUUID, uuid)
    except OSError as error:
        told = mounts.name_of(os.fstat(descriptor).st_dev) if error.errno != errno.EBADF else ""
    try:
        return f"{os.fstatvfs(descriptor).f_fsid:016x}" + (uuid[1 : 1 + uuid[0]].hex() or told)
    except OSError:
        return ""


def open_directory(root_fd: int, path: str, passed: Callable[[int], object] | None = None) -> int:
    """Return an O_PATH descriptor of the directory `path` below the root (empty: the root itself).

    `passed` gets a descriptor of the root and of every directory on the way. Raises the kernel's OSError:
    ENOTDIR or ELOOP if a component is not a directory.
    """
    if passed is not None:
        passed(root_fd)
    if not path:
        return os.dup(root_fd)
    descriptor = root_fd
    try:
        for name in path.split("/"):
            check_component(name)
            below = os.open(name, DIRECTORY, dir_fd=descriptor)
            if descriptor != root_fd:
                os.close(descriptor)
            descriptor = below
            if passed is not None:
                passed(descriptor)
    except BaseException:
        if descriptor != root_fd:
            os.close(descriptor)
        raise
    return descriptor


def open_listing(root_fd: int, path: bytes) -> int:
    """Return a descriptor of the directory `path` below the root, to list it. Raises OSError."""
    below = open_directory(root_fd, os.fsdecode(path))
    try:
        return os.open(".", OPEN_DIRECTORY, dir_fd=below)
    finally:
        os.close(below)


def names_in(descriptor: int) -> Iterator[str]:
    """Yield the names in an open directory, those of directories with a slash at the end. Raises OSError.

    A listing may miss names while others come and go. So a directory that changes is listed again, a few
    times: a name counts if any listing has it. Then names repeat, and one that changed its kind has both.
    """
    before = os.fstat(descriptor).st_mtime_ns
    for _ in range(_LISTINGS):
        with os.scandir(descriptor) as entries:
            for entry in entries:
                yield entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
        after = os.fstat(descriptor).st_mtime_ns
        if after == before:
            break
        before = after


def files_in(descriptor: int, count: int, breathe: Callable[[], object]) -> list[Entry] | None:
    """Return the entries of an open directory; None: there are not `count`, or one comes or goes just now.

    `breathe` is called now and then, and may raise.
    """
    found: list[Entry] = []
    stat = os.stat
    try:
        before = os.fstat(descriptor).st_mtime_ns
        with os.scandir(descriptor) as entries:
            names = sorted([each.name for each in islice(entries, count + 1)])
        if len(names) != count:
            return None
        for at in range(0, count, _BREATH):
            breathe()
            found += [
                (
                    name,
                    (seen := stat(name, dir_fd=descriptor, follow_symlinks=False)).st_size,
                    seen.st_mtime_ns,
                    seen.st_ctime_ns,
                    seen.st_ino,
                    seen.st_dev,
                    seen.st_mode & 0o170000,
                )
                for name in names[at : at + _BREATH]
            ]
        return found if os.fstat(descriptor).st_mtime_ns == before else None
    except OSError:
        return None  # a look at each entry meets the same, and can report it


def listed_in(parent: int) -> Collection[str]:
    """Return the names in an open directory. Raises OSError."""
    descriptor = os.open(".", OPEN_DIRECTORY, dir_fd=parent)
    try:
        return frozenset(os.listdir(descriptor))
    finally:
        os.close(descriptor)


class LastNames:
    """The names in an open directory. The last one is kept while its times stay. For any thread."""

    def __init__(self) -> None:
        self._last: tuple[object, Collection[str]] = (None, ())

    def of(self, parent: int) -> Collection[str]:
        """Return the names. Raises OSError."""
        found = os.fstat(parent)
        which = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        known, names = self._last
        if known != which:
            names = listed_in(parent)
            self._last = which, names
        return names


def is_spelled(root_fd: int, path: str, listed: Callable[[int], Collection[str]] = listed_in) -> bool:
    """Return whether the directories on the way list the names of `path`, where something is.

    This lists only directories where another case of a name leads to the same file, because that is slow.
    Raises OSError.
    """
    parent = root_fd
    try:
        for name in path.removesuffix("/").split("/"):
            if _has_alias(parent, name) and name not in listed(parent):
                return False
            below = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            if parent != root_fd:
                os.close(parent)
            parent = below
    finally:
        if parent != root_fd:
            os.close(parent)
    return True


def _has_alias(parent: int, name: str) -> bool:
    other = name.swapcase()
    if other == name:
        return False
    try:
        found = os.stat(other, dir_fd=parent, follow_symlinks=False)
    except (OSError, ValueError):  # the usual case
        return False
    own = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


def looks_like(root_fd: int, path: str) -> str:
    """Return a name beside the missing `path` that differs only in case or in how accents are written.

    Empty: there is none, or the directory cannot be read.
    """
    directory, name = os.path.split(path)
    try:
        parent = open_directory(root_fd, directory)
        try:
            return min((each for each in listed_in(parent) if _look(each) == _look(name)), default="")
        finally:
            os.close(parent)
    except OSError:
        return ""


def _look(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())


def check_component(name: str) -> None:
    """Raise OSError for a name that leads elsewhere; paths come from listings and records."""
    if name in ("", ".", "..") or "\0" in name:
        raise OSError(errno.EINVAL, "not the name of a file below the root")


def translated(error: OSError) -> FileVanished | FileUnreadable:
    """Return the kernel's error about a file as one of syncd's."""
    if error.errno in GONE:
        return FileVanished("it is gone")
    return FileUnreadable(os_words(error))
