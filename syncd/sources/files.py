"""Look at, open and read one file below a root, which no symbolic link leads to: see `directories`.

Only regular files are opened: a fifo would block, and opening a device may have effects.
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
"""Memory for this much and more comes from the kernel and goes back to it after use."""

_PIECE = 256 << 10
"""The most that is read at once: a slow network file system answers for so much within seconds."""

_SERVER_LEASES = frozenset({"cifs", "nfs", "nfs4", "smb2", "smb3"})
"""Types of file systems that refuse a lease where the server has not granted the file to this machine."""
_TELL_HOLES = frozenset({"ext4", "tmpfs", "xfs"})
"""Types of file systems that are believed about holes. Others have called a hole what was written a moment
before (OpenZFS until 2.2.2)."""
_ACL = "system.posix_acl_access"
_SYSTEM_XATTRS = (_ACL, "system.posix_acl_default", "security.capability")
_OWN = re.compile(r"user\.syncd(-.*)?", re.DOTALL)
"""What a directory store gives a copy, and rclone what it restores of ours."""
_NO_XATTRS = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def look(root_fd: int, path: str, *, links: bool = False) -> FileStat | Irregular | None:
    """What is at `path` below the root, without opening it; None: nothing. Raises FileUnreadable.

    `links` says that a symbolic link is not irregular, but a `LinkStat`.
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
    """The kernel's answer as a noun of ours; `links` as in `look`."""
    if modes.S_ISREG(found.st_mode):
        return file_stat(found)
    if links and modes.S_ISLNK(found.st_mode):
        return LinkStat(*file_stat(found))
    return Irregular(_KINDS.get(modes.S_IFMT(found.st_mode), "device"))


def file_stat(found: os.stat_result) -> FileStat:
    """The part of the kernel's answer that shows changes."""
    mtime_ns, ctime_ns = found.st_mtime_ns, found.st_ctime_ns
    if not (OLDEST_NS <= mtime_ns <= LATEST_NS and OLDEST_NS <= ctime_ns <= LATEST_NS):
        mtime_ns, ctime_ns = (min(max(each, OLDEST_NS), LATEST_NS) for each in (mtime_ns, ctime_ns))
    return FileStat(found.st_dev, found.st_ino, found.st_size, mtime_ns, ctime_ns)


class OpenFile:
    """One regular file, open for reading. A context manager; reads from several threads at once are fine.

    `on_read` is called whenever some of it was read: its disk may be slow.
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
        """The permission bits that it had then, narrowed by the directories above it."""
        self.allocated = allocated
        """How many bytes it took on its disk then: less than its size if it has holes."""
        self.opened = opened
        """What the file was when it was opened: before its first byte was read."""
        self._ends: tuple[bytes, bytes] | None = None

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self, most: int, *, to_line: bool, least: int = 1) -> bool:
        """Let the first `most` bytes be all of the file, or those `to_line`: up to the last newline in them.

        Returns whether that was done: not, if these are fewer than `least`. Their ends may not change from
        now on: `stat` compares them, for a log may be emptied. Raises FileChanged, FileUnreadable.
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
        """Whether `cut` was called."""
        return self._ends is not None

    def _line_end(self, end: int) -> int:
        """Where the last line ends in the first `end` bytes; 0: none does."""
        while end > 0:
            start = max(0, end - _PIECE)
            at = bytes(self.read(start, end - start)).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
        return 0

    def stat(self) -> FileStat:
        """What the file is now, also if it was renamed or removed. Raises FileUnreadable; of a file that was
        cut also FileChanged, where it is not what it was up to there.
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
        """A log begins with a hole if its writer kept its offset when it was emptied: only these tell."""
        start = max(size - _PIECE, min(size, _PIECE))
        return bytes(self.read(start, size - start))

    def is_at(self, seen: FileStat | Irregular | None) -> bool:
        """Whether what is at a path by now is this file, as it was opened, or grown since it was cut."""
        if self._ends is None or not isinstance(seen, FileStat):
            return seen == self.opened
        return (seen.device, seen.inode) == (self.opened.device, self.opened.inode)

    def links(self) -> int:
        """How many names it has now. Raises FileUnreadable."""
        try:
            return os.fstat(self._descriptor).st_nlink
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error

    def attributes(self) -> Attributes:
        """What it has beside content and time. Raises FileUnreadable.

        The bits of the group of a file with an access control list are not what its group may do: where the
        list does not come back, they must not give more.
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
        """Whether a program on this machine could write to the file now; None: the kernel does not say.

        A read lease is granted only where nothing can write, neither through a descriptor nor through a
        memory map. It is given back at once: a program that opens the file for writing has to wait for that.
        The kernel grants leases only on the files of the caller, or with CAP_LEASE. See fcntl(2).
        """
        descriptor = self._descriptor
        try:
            # The signal that announces such a program would be SIGIO, which kills; SIGURG is ignored.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            if error.errno != errno.EAGAIN or mounts.type_of(self.opened.device) in _SERVER_LEASES:
                return None
            return True
        return False

    def whole(self) -> Body:
        """All of its content. Raises FileChanged when that is not of the size that the file had when it was
        opened, or was cut to; FileUnreadable.
        """
        size = self.opened.size
        if size < _LARGE_READ and not self.is_cut:
            try:
                body = os.pread(self._descriptor, size + 1, 0)  # a byte more shows that it is all
            except OSError as error:
                raise FileUnreadable(os_words(error)) from error
            if len(body) == size:
                return body
        found = self.read(0, size)
        self.check_end(size)
        return found

    def read(self, offset: int, size: int) -> Body:
        """Exactly `size` bytes from `offset` on. Raises FileChanged when there are fewer, FileUnreadable."""
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
        """Fill `view` from `offset` on. Raises FileChanged when the file ends before, FileUnreadable."""
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
        """As many bytes from `offset` on as there is `room`: read into that, or `zeros` of a hole, which
        nothing is read for. Raises as `read_into` does.
        """
        if self._is_hole(offset, len(room)):
            return zeros(len(room))
        self.read_into(offset, room)
        return room

    @property
    def is_mostly_hole(self) -> bool:
        """Whether more than half of it is known to be holes."""
        return 2 * self._hole_bytes > self.opened.size

    @cached_property
    def _hole_bytes(self) -> int:
        """How many bytes were never written, about; 0 also where that is unknown."""
        missing = self.opened.size - self.allocated if self.allocated is not None else 0
        return missing if missing > 0 and mounts.type_of(self.opened.device) in _TELL_HOLES else 0

    def _is_hole(self, offset: int, size: int) -> bool:
        """Whether these bytes are zeros because they were never written. False also where that is unknown."""
        if not self._hole_bytes:
            return False
        self._on_read()
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA) >= offset + size
        except OSError as error:  # ENXIO: no data follows, or the file ends before that by now
            return error.errno == errno.ENXIO and offset + size <= self.stat().size

    def check_end(self, size: int) -> None:
        """Check that nothing follows the first `size` bytes, unless the file was cut. Raises FileChanged when
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
        """Raise FileUnreadable if the file still says the size that it said when it was opened.

        The kernel makes up what is in such a file: its size never fits, however long one waits.
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
    """What is no file, as if it were one whose content is all known when it is opened."""

    content: bytes = b""

    def is_open_for_writing(self) -> bool | None:
        """It changes at once, or not at all."""
        return False

    def cut(self, most: int, *, to_line: bool, least: int = 1) -> bool:
        """It does not grow."""
        return False

    def links(self) -> int:
        """A folder has one name, and another name of a link a target of its own for all that inotify says."""
        return 1

    def whole(self) -> Body:
        return self.content

    def read(self, offset: int, size: int) -> Body:
        return self.content[offset : offset + size]

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.content[offset : offset + len(view)]

    def check_end(self, size: int) -> None:
        """What was read is all."""


class OpenLink(OpenEntry):
    """A symbolic link, as if it were a file that holds where it leads to. It is never followed."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is an O_PATH descriptor of the link. Raises OSError."""
        self.content = os.fsencode(os.readlink("", dir_fd=descriptor))
        super().__init__(descriptor, LinkStat(*file_stat(os.fstat(descriptor))), 0o777)

    def stat(self) -> FileStat:
        return LinkStat(*super().stat())

    def attributes(self) -> Attributes:
        """Owner and group: a link has nothing else that can be set."""
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

    Raises FileVanished, FileUnreadable, and FileChanged when something else is or appears at the path.
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
    """Who may read a file: what its own mode says, narrowed by the directories above it.

    Where the group of the file is not that of this process, which a copy will have, its members are others in
    the copy, and the members of the new group were others so far: both get what both had. With an access
    control list the bits of the group are not what the group may do, so they count for no more either.
    """

    def __init__(self) -> None:
        self._group = self._others = True

    def pass_through(self, directory: int) -> None:
        """The way to the file leads through this directory."""
        if self._group or self._others:
            found = os.fstat(directory)
            mode = self._mode(directory, found)
            self._others = self._others and bool(mode & modes.S_IXOTH)
            self._group = self._group and bool(mode & modes.S_IXGRP)

    def mode_of(self, descriptor: int, found: os.stat_result) -> int:
        """The permission bits of a file that the way led to."""
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
    """The names of extended attributes that belong to a file, wherever it goes. Raises OSError."""
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
    """Empty: it has none. For the life of the process: a directory service is slow."""
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
