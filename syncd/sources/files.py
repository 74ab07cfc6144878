"""Looks at, opens and reads one file below a root without following symbolic links: see `directories`.

It opens only regular files: a fifo would block, and opening a device may have effects.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import re
import signal
import stat as modes
from collections.abc import Callable
from functools import cached_property, lru_cache
from types import TracebackType

from syncd.core.errors import FileChanged, FileUnreadable, os_words
from syncd.core.model import LATEST_NS, OLDEST_NS, Attributes, FileStat, Irregular, LinkStat
from syncd.sources import mounts
from syncd.sources.buffers import fresh
from syncd.sources.directories import GONE, check_component, open_directory, translated
from syncd.storage.digests import zeros

Body = bytes | bytearray | memoryview

_LARGE_READ = 1 << 20
"""Memory of at least this size comes from the kernel and goes back to it after use."""

_PIECE = 256 << 10
"""The most that is read at once: a slow network file system delivers so much within seconds."""

_SERVER_LEASES = frozenset({"cifs", "nfs", "nfs4", "smb2", "smb3"})
"""File systems that refuse a lease if the server has not granted the file to this machine."""
_TELL_HOLES = frozenset({"ext4", "tmpfs", "xfs"})
"""File systems that are trusted about holes. Others have reported fresh content as a hole (OpenZFS until
2.2.2)."""
_ACL = "system.posix_acl_access"
_SYSTEM_XATTRS = (_ACL, "system.posix_acl_default", "security.capability")
_OWN = re.compile(r"user\.syncd(-.*)?", re.DOTALL)
"""Attributes that a directory store gives a copy, and rclone restores."""
_NO_XATTRS = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def look(root_fd: int, path: str, *, links: bool = False) -> FileStat | Irregular | None:
    """Return what is at `path` below the root, without opening it; None: nothing. Raises FileUnreadable.

    With `links` a symbolic link is not irregular, but a `LinkStat`.
    """
    directory, _, name = path.rpartition("/")
    try:
        check_component(name)
        if not directory:
            found = os.stat(name, dir_fd=root_fd, follow_symlinks=False)
        else:
            parent = open_directory(root_fd, directory)
            try:
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise translated(error) from error
    return seen(found, links=links)


def seen(found: os.stat_result, *, links: bool = False) -> FileStat | Irregular:
    """Convert the kernel's answer; `links` as in `look`."""
    if modes.S_ISREG(found.st_mode):
        return file_stat(found)
    if links and modes.S_ISLNK(found.st_mode):
        return LinkStat(*file_stat(found))
    return Irregular(_KINDS.get(modes.S_IFMT(found.st_mode), "device"))


def file_stat(found: os.stat_result) -> FileStat:
    """Return the part of the kernel's answer that shows changes."""
    mtime_ns, ctime_ns = found.st_mtime_ns, found.st_ctime_ns
    if not (OLDEST_NS <= mtime_ns <= LATEST_NS and OLDEST_NS <= ctime_ns <= LATEST_NS):
        mtime_ns, ctime_ns = (min(max(each, OLDEST_NS), LATEST_NS) for each in (mtime_ns, ctime_ns))
    return FileStat(found.st_dev, found.st_ino, found.st_size, mtime_ns, ctime_ns)


class OpenFile:
    """One regular file, open for reading. A context manager; several threads may read at once.

    `on_read` is called after each read, because the disk may be slow.
    """

    def __init__(
        self,
        descriptor: int,
        opened: FileStat,
        mode: int,
        on_read: Callable[[], object] = lambda: None,
        allocated: int | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._on_read = on_read
        self.mode = mode
        """The permission bits when it was opened, narrowed by the directories above it."""
        self.allocated = allocated
        """The bytes that it took on disk when it was opened: less than its size if it has holes."""
        self.opened = opened
        """The stat before its first byte was read."""
        self._ends: tuple[bytes, bytes] | None = None

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self, most: int, *, to_line: bool, least: int = 1) -> bool:
        """Make the first `most` bytes the whole file; with `to_line` only up to the last newline in them.

        Returns whether that was done: not if fewer than `least` remain. Both ends of them must not change
        from now on: `stat` compares them, because a log may be emptied. Raises FileChanged, FileUnreadable.
        """
        head = self._first(most)
        size = self._line_end(most) if to_line else most
        if size < least:
            return False
        self._ends = head[:size], self._last(size)
        self.opened = self.opened._replace(size=size)
        return True

    @property
    def is_cut(self) -> bool:
        """Return whether `cut` was called."""
        return self._ends is not None

    def _line_end(self, end: int) -> int:
        """Return where the last line ends in the first `end` bytes; 0: none does."""
        while end > 0:
            start = max(0, end - _PIECE)
            at = bytes(self.read(start, end - start)).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
        return 0

    def stat(self) -> FileStat:
        """Return the stat now, even if the file was renamed or removed. Raises FileUnreadable; FileChanged if
        the file was cut and is not the same up to there.
        """
        try:
            found = file_stat(os.fstat(self._descriptor))
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error
        if self._ends is None:
            return found
        size = self.opened.size
        if found.size < size or (self._first(size), self._last(size)) != self._ends:
            raise FileChanged("it was emptied or rewritten, although it should only grow")
        return self.opened

    def _first(self, size: int) -> bytes:
        return bytes(self.read(0, min(size, _PIECE)))

    def _last(self, size: int) -> bytes:
        """Return the last bytes: only they tell if a log begins with a hole, left when it was emptied."""
        start = max(size - _PIECE, min(size, _PIECE))
        return bytes(self.read(start, size - start))

    def is_at(self, seen: FileStat | Irregular | None) -> bool:
        """Return whether the file at a path is this one as opened, or grown since it was cut."""
        if self._ends is None or not isinstance(seen, FileStat):
            return seen == self.opened
        return (seen.device, seen.inode) == (self.opened.device, self.opened.inode)

    def links(self) -> int:
        """Return how many names it has now. Raises FileUnreadable."""
        try:
            return os.fstat(self._descriptor).st_nlink
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error

    def attributes(self) -> Attributes:
        """Return what it has besides content and time. Raises FileUnreadable.

        With an access control list the bits of the group are not what the group may do. Without the list, as
        in a copy, they must not give more.
        """
        descriptor = self._descriptor
        try:
            found = os.fstat(descriptor)
            xattrs = [(name, os.getxattr(descriptor, name)) for name in _xattrs_of(descriptor)]
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error
        mode = modes.S_IMODE(found.st_mode)
        if any(name == _ACL for name, _ in xattrs):
            mode = mode & ~0o077 | (mode >> 3 & mode & 7) * 0o011
        user, group = _user_name(found.st_uid), _group_name(found.st_gid)
        return Attributes(mode, found.st_uid, found.st_gid, user, group, tuple(sorted(xattrs)))

    def is_open_for_writing(self) -> bool | None:
        """Return whether a program on this machine may be able to write to the file now; None: unknown.

        The kernel grants a read lease only if nothing can write, through a descriptor or a memory map. It is
        returned at once, because a program that opens the file for writing waits for it. The kernel grants
        leases only on the caller's own files, or with CAP_LEASE. See fcntl(2).
        """
        descriptor = self._descriptor
        try:
            # By default SIGIO announces such a program, and kills; SIGURG is ignored.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            if error.errno != errno.EAGAIN or mounts.type_of(self.opened.device) in _SERVER_LEASES:
                return None
            return True
        return False

    def whole(self) -> Body:
        """Return all of its content. Raises FileChanged if its size is not that when it was opened or cut;
        FileUnreadable.
        """
        size = self.opened.size
        if size < _LARGE_READ and not self.is_cut:
            try:
                body = os.pread(self._descriptor, size + 1, 0)  # one byte more shows whether it is all
            except OSError as error:
                raise FileUnreadable(os_words(error)) from error
            if len(body) == size:
                return body
        found = self.read(0, size)
        self.check_end(size)
        return found

    def read(self, offset: int, size: int) -> Body:
        """Return exactly `size` bytes from `offset`. Raises FileChanged if fewer exist, FileUnreadable."""
        if size >= _LARGE_READ:
            body = memoryview(fresh(size))
        else:
            try:
                first = os.pread(self._descriptor, size, offset)
            except OSError as error:
                raise FileUnreadable(os_words(error)) from error
            if len(first) == size:
                return first
            body = memoryview(bytearray(size))
        self.read_into(offset, body)
        return body

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset`. Raises FileChanged if the file ends before, FileUnreadable."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._descriptor, [view[done : done + _PIECE]], offset + done)
            except OSError as error:
                raise FileUnreadable(os_words(error)) from error
            if count == 0:
                if offset + done < self.opened.size:
                    self._refuse_false_size("less")
                raise FileChanged(f"the file was shortened to {offset + done} bytes while it was read")
            done += count
            self._on_read()

    def view(self, offset: int, room: memoryview) -> memoryview:
        """Return as many bytes from `offset` as there is `room`: read into it, or `zeros` for a hole, which
        are not read. Raises as `read_into` does.
        """
        if self._is_hole(offset, len(room)):
            return zeros(len(room))
        self.read_into(offset, room)
        return room

    @property
    def is_mostly_hole(self) -> bool:
        """Return whether more than half of it is known to be holes."""
        return 2 * self._hole_bytes > self.opened.size

    @cached_property
    def _hole_bytes(self) -> int:
        """Return about how many bytes were never written; 0 if unknown."""
        missing = self.opened.size - self.allocated if self.allocated is not None else 0
        return missing if missing > 0 and mounts.type_of(self.opened.device) in _TELL_HOLES else 0

    def _is_hole(self, offset: int, size: int) -> bool:
        """Return whether these bytes are zeros that were never written; False if unknown."""
        if not self._hole_bytes:
            return False
        self._on_read()
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA) >= offset + size
        except OSError as error:  # ENXIO: no data follows, or the file now ends before
            return error.errno == errno.ENXIO and offset + size <= self.stat().size

    def check_end(self, size: int) -> None:
        """Check that nothing follows the first `size` bytes, unless the file was cut. Raises FileChanged if
        something does, FileUnreadable.
        """
        if self._ends is not None:
            return
        try:
            more = os.pread(self._descriptor, 1, size)
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error
        if more:
            if size >= self.opened.size:
                self._refuse_false_size("more")
            raise FileChanged(f"the file grew beyond {size} bytes while it was read")

    def _refuse_false_size(self, content: str) -> None:
        """Raise FileUnreadable if the file still has the size that it had when it was opened.

        The kernel generates the content of such a file, so its size never fits.
        """
        if self.stat() == self.opened:
            raise FileUnreadable(
                f"the file has {content} content than its size says, as in /proc and /sys; exclude it"
            )

    def close(self) -> None:
        """Close the file; harmless if it is closed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class OpenEntry(OpenFile):
    """An entry that is not a file, read like one. Its whole content is known when it is opened."""

    content: bytes = b""

    def is_open_for_writing(self) -> bool | None:
        """Return False: it changes at once, or not at all."""
        return False

    def cut(self, most: int, *, to_line: bool, least: int = 1) -> bool:
        """Return False: it does not grow."""
        return False

    def links(self) -> int:
        """Return 1: a folder has one name, and inotify reports each name of a link."""
        return 1

    def whole(self) -> Body:
        return self.content

    def read(self, offset: int, size: int) -> Body:
        return self.content[offset : offset + size]

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.content[offset : offset + len(view)]

    def check_end(self, size: int) -> None:
        """Do nothing: what was read is all."""


class OpenLink(OpenEntry):
    """A symbolic link, read like a file that holds its target. It is never followed."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is an O_PATH descriptor of the link. Raises OSError."""
        self.content = os.fsencode(os.readlink("", dir_fd=descriptor))
        super().__init__(descriptor, LinkStat(*file_stat(os.fstat(descriptor))), 0o777)

    def stat(self) -> FileStat:
        return LinkStat(*super().stat())

    def attributes(self) -> Attributes:
        """Return owner and group: nothing else of a link can be set."""
        try:
            found = os.fstat(self._descriptor)
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error
        names = _user_name(found.st_uid), _group_name(found.st_gid)
        return Attributes(None, found.st_uid, found.st_gid, *names)


def open_file(
    root_fd: int, path: str, on_read: Callable[[], object] = lambda: None, *, links: bool = False
) -> OpenFile:
    """Open the regular file at `path` below the root; `on_read` is for the `OpenFile`. With `links` also a
    symbolic link, as an `OpenLink`.

    Raises FileVanished, FileUnreadable, and FileChanged if something else is or appears at the path.
    """
    directory, _, name = path.rpartition("/")
    try:
        check_component(name)
        access = _Access()
        parent = open_directory(root_fd, directory, access.pass_through)
        try:
            # Look before opening: a fifo with a writer, or a tape, would notice the open.
            before = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if links and modes.S_ISLNK(before.st_mode):
                return _open_link(parent, name)
            if not modes.S_ISREG(before.st_mode):
                raise FileChanged("it is no longer a regular file")
            descriptor = os.open(name, _FILE, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        raise translated(error) from error
    try:
        after = os.fstat(descriptor)
        if not modes.S_ISREG(after.st_mode) or (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino):
            raise FileChanged("another file took its place while syncd opened it")
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise FileUnreadable(os_words(error)) from error
        raise
    mode = access.mode_of(descriptor, after)
    return OpenFile(descriptor, file_stat(after), mode, on_read, after.st_blocks * 512)


def _open_link(parent: int, name: str) -> OpenLink:
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        return OpenLink(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


class _Access:
    """Who may read a file: its own mode, narrowed by the directories above it.

    A copy gets the group of this process. If the file has another group, its members are others in the copy,
    and members of the new group were others before: both get only what both had. With an access control list
    the bits of the group are not what the group may do, so they give no more either.
    """

    def __init__(self) -> None:
        self._group = self._others = True

    def pass_through(self, directory: int) -> None:
        """Narrow the access by a directory on the way to the file."""
        if self._group or self._others:
            found = os.fstat(directory)
            mode = self._mode(directory, found)
            self._others = self._others and bool(mode & modes.S_IXOTH)
            self._group = self._group and bool(mode & modes.S_IXGRP)

    def mode_of(self, descriptor: int, found: os.stat_result) -> int:
        """Return the narrowed permission bits of the file."""
        mode = self._mode(descriptor, found)
        if not self._group:
            mode &= ~modes.S_IRWXG
        return mode if self._others else mode & ~modes.S_IRWXO

    def _mode(self, descriptor: int, found: os.stat_result) -> int:
        mode = modes.S_IMODE(found.st_mode)
        group, others = mode >> 3 & 7, mode & 7
        if group != others and (found.st_gid != os.getegid() or _has_acl(descriptor)):
            mode = mode & ~0o077 | (group & others) * 0o011
        return mode


def _has_acl(descriptor: int) -> bool:
    try:
        os.getxattr(f"/proc/self/fd/{descriptor}", _ACL)
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.EOPNOTSUPP)
    return True


def _xattrs_of(descriptor: int) -> list[str]:
    """Return the names of extended attributes that a file keeps wherever it goes. Raises OSError."""
    try:
        names = os.listxattr(descriptor)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return []
        raise
    return [
        name
        for name in names
        if name in _SYSTEM_XATTRS or (name.startswith("user.") and not _OWN.fullmatch(name))
    ]


@lru_cache(maxsize=1024)
def _user_name(uid: int) -> str:
    """Return the name; empty: none. It is remembered, because a directory service is slow."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return ""


@lru_cache(maxsize=1024)
def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OSError):
        return ""


_KINDS = {
    modes.S_IFLNK: "symbolic link",
    modes.S_IFDIR: "directory",
    modes.S_IFIFO: "fifo",
    modes.S_IFSOCK: "socket",
}
