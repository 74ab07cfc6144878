"""The part of ``os`` by which syncd reads its sources, and by which people change them, on a `Tree`.

An instance takes the place of the module ``os`` in the modules that read. What it does not know it does not
have: a new call in the product fails loudly until the fake learns it, and
`tests/torture/simulation/test_syscalls.py` holds it against the real one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat as modes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.torture.simulation.tree import Node as _Node
from tests.torture.simulation.tree import R, Tree, W, X, failure

_PURE = frozenset(
    {"fsencode", "fsdecode", "path", "strerror", "sep", "stat_result", "DirEntry", "PathLike"}
)  # fmt: skip
PAGE = 4
"""Bytes that one read takes at once: a program may write between two of them."""

Path = str | bytes


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``stat`` answers, as far as anybody asks."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int

    @property
    def st_blocks(self) -> int:
        """No file has a hole."""
        return -(-self.st_size // 512)


@dataclass(slots=True)
class _Open:
    """One descriptor."""

    node: _Node
    flags: int

    @property
    def only_path(self) -> bool:
        return bool(self.flags & os.O_PATH)

    @property
    def can_write(self) -> bool:
        return not self.only_path and self.flags & os.O_ACCMODE != os.O_RDONLY


@dataclass(frozen=True, slots=True)
class Volume:
    """What ``fstatvfs`` answers, as far as anybody asks."""

    f_fsid: int


class Entry:
    """One entry of a listing; its kind is the one that the listing saw."""

    def __init__(self, name: bytes, is_directory: bool) -> None:
        self.name = os.fsdecode(name)
        self._is_directory = is_directory

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        assert not follow_symlinks, "syncd follows no links"
        return self._is_directory


class Listing:
    """What ``scandir`` returns: names come one by one, while others may move them."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[Entry]:
        return self._entries

    def __next__(self) -> Entry:
        return next(self._entries)

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""


class Syscalls:
    """``os`` for one process. `breathe` is called with the call's name and path before (and within) each."""

    def __init__(
        self,
        tree: Tree,
        *,
        privileged: bool = False,
        breathe: Callable[[str, bytes], None] = lambda call, path: None,
    ) -> None:
        self._tree = tree
        self._privileged = privileged
        self._breathe = breathe
        self._open: dict[int, _Open] = {}
        self._next = 100
        self._exited = False

    def __getattr__(self, name: str) -> Any:
        if name in _PURE or name.startswith("O_"):
            return getattr(os, name)
        if name.startswith("F_"):
            return getattr(fcntl, name)
        raise AttributeError(f"the fake has no os.{name}: give it one, and hold it against the real one")

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return len(self._open)

    def exit(self) -> None:
        """The process is gone, and its descriptors with it."""
        for fd in list(self._open):
            self.close(fd)
        self._exited = True

    # ---- descriptors ------------------------------------------------------------------------------------

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        raw = os.fsencode(path)
        self._breathe("open", raw)
        access = flags & os.O_ACCMODE
        follow = not flags & os.O_NOFOLLOW and flags & (os.O_CREAT | os.O_EXCL) != os.O_CREAT | os.O_EXCL
        parent, name, node = self._find(raw, dir_fd, follow=follow)
        if node is None:
            if not flags & os.O_CREAT or flags & os.O_PATH:
                raise failure(errno.ENOENT, path)
            self._allowed(parent, W)
            node = self._make(parent, name, modes.S_IFREG, mode)
        elif not flags & os.O_PATH:
            self._may_open(node, flags, access, path)
        if flags & os.O_DIRECTORY and not node.is_directory:
            raise failure(errno.ENOTDIR, path)
        if flags & os.O_TRUNC and access != os.O_RDONLY and node.kind == modes.S_IFREG:
            node.data = b""
            self._tree.stamp(node)
        return self._descriptor(node, flags)

    def _may_open(self, node: _Node, flags: int, access: int, path: Path) -> None:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise failure(errno.EEXIST, path)
        if flags & os.O_DIRECTORY and not node.is_directory:
            raise failure(errno.ENOTDIR, path)
        if node.kind == modes.S_IFLNK:
            raise failure(errno.ELOOP, path)
        if node.is_directory and (access != os.O_RDONLY or flags & os.O_CREAT):
            raise failure(errno.EISDIR, path)
        if access in (os.O_RDONLY, os.O_RDWR):
            self._allowed(node, R)
        if access in (os.O_WRONLY, os.O_RDWR):
            self._allowed(node, W)
        if node.kind == modes.S_IFIFO and access == os.O_WRONLY:
            raise failure(errno.ENXIO, path)  # it has no reader

    def dup(self, fd: int) -> int:
        held = self._held(fd)
        return self._descriptor(held.node, held.flags)

    def close(self, fd: int) -> None:
        if fd not in self._open and self._exited:
            return  # a process that cleans up after its own death
        held = self._held(fd)
        node = held.node
        del self._open[fd]
        node.opened -= 1
        node.writers -= held.can_write
        node.volume.release(node)

    def _descriptor(self, node: _Node, flags: int) -> int:
        self._next += 1
        self._open[self._next] = held = _Open(node, flags)
        node.opened += 1
        node.writers += held.can_write
        return self._next

    def node(self, fd: int) -> _Node:
        """What the descriptor leads to."""
        return self._held(fd).node

    def is_torn(self, path: Path) -> bool:
        """Whether a long write holds the lock of what is there."""
        node = self._find(os.fsencode(path), None, follow=False)[2]
        return node is not None and node.torn

    def ioctl(self, fd: int, request: int, argument: object) -> int:
        """The module ``fcntl``: an old kernel, that knows none of them."""
        self._held(fd)
        raise failure(errno.ENOTTY)

    def fcntl(self, fd: int, command: int, argument: int = 0) -> int:
        """The module ``fcntl``, as far as leases go: everything is the caller's own."""
        node = self._held(fd).node
        if command == fcntl.F_SETLEASE and node.kind != modes.S_IFREG:
            raise failure(errno.EINVAL)
        if command == fcntl.F_SETLEASE and argument == fcntl.F_RDLCK and node.writers:
            raise failure(errno.EAGAIN)
        assert command in (fcntl.F_SETSIG, fcntl.F_SETLEASE)
        return 0

    def _held(self, fd: int) -> _Open:
        held = self._open.get(fd)
        if held is None:
            raise failure(errno.EBADF)
        return held

    # ---- reading ----------------------------------------------------------------------------------------

    def stat(self, path: Path, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Stat:
        raw = os.fsencode(path)
        self._breathe("stat", raw)
        return _stat(self._node(raw, dir_fd, follow=follow_symlinks))

    def lstat(self, path: Path, *, dir_fd: int | None = None) -> Stat:
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, fd: int) -> Stat:
        held = self._held(fd)
        self._breathe("fstat", b"")
        return _stat(held.node)

    def fstatvfs(self, fd: int) -> Volume:
        return Volume(self._held(fd).node.volume.number)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        node = self._readable(fd)
        read = b""
        while len(read) < size:
            self._breathe("read", b"")
            page = node.data[offset + len(read) : offset + min(size, len(read) + PAGE)]
            read += page
            if len(page) < PAGE:
                break
        return read

    def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        done = 0
        for view in buffers:
            read = self.pread(fd, len(view), offset + done)
            view[: len(read)] = read
            done += len(read)
            if len(read) < len(view):
                break
        return done

    def scandir(self, fd: int) -> Listing:
        return Listing(self._entries(self._listable(fd)))

    def listdir(self, fd: int) -> list[str]:
        return [entry.name for entry in self._entries(self._listable(fd))]

    def _entries(self, directory: _Node) -> Iterator[Entry]:
        for name, node in self._tree.listing(directory):
            yield Entry(name, node.is_directory)
            self._breathe("list", name)

    def _readable(self, fd: int) -> _Node:
        held = self._held(fd)
        if held.only_path or held.flags & os.O_ACCMODE == os.O_WRONLY:
            raise failure(errno.EBADF)
        if held.node.is_directory:
            raise failure(errno.EISDIR)
        if held.node.kind == modes.S_IFIFO:
            raise failure(errno.ESPIPE)
        return held.node

    def _listable(self, fd: int) -> _Node:
        held = self._held(fd)
        if held.only_path:
            raise failure(errno.EBADF)
        if not held.node.is_directory:
            raise failure(errno.ENOTDIR)
        self._breathe("list", b"")
        return held.node

    # ---- changing ---------------------------------------------------------------------------------------

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        held = self._held(fd)
        if held.only_path or held.flags & os.O_ACCMODE == os.O_RDONLY:
            raise failure(errno.EBADF)
        node = held.node
        if held.flags & os.O_APPEND:
            offset = len(node.data)
        if data:
            start = node.data[:offset].ljust(offset, b"\0")
            node.data = start + data + node.data[offset + len(data) :]
            self._tree.stamp(node)
        return len(data)

    def ftruncate(self, fd: int, size: int) -> None:
        held = self._held(fd)
        if held.flags & os.O_ACCMODE == os.O_RDONLY or held.only_path:
            raise failure(errno.EINVAL if not held.only_path else errno.EBADF)
        held.node.data = held.node.data[:size].ljust(size, b"\0")
        self._tree.stamp(held.node)

    def truncate(self, path: Path, size: int) -> None:
        node = self._node(os.fsencode(path), None, follow=True)
        if node.is_directory:
            raise failure(errno.EISDIR, path)
        if node.kind != modes.S_IFREG:
            raise failure(errno.EINVAL, path)
        self._allowed(node, W)
        if size != len(node.data):
            node.data = node.data[:size].ljust(size, b"\0")
            self._tree.stamp(node)

    def utime(self, path: Path, *, ns: tuple[int, int]) -> None:
        node = self._node(os.fsencode(path), None, follow=True)
        self._tree.stamp(node, content=False)
        node.mtime_ns = ns[1] // self._tree.granularity_ns * self._tree.granularity_ns

    def chmod(self, path: Path, mode: int) -> None:
        node = self._node(os.fsencode(path), None, follow=True)
        node.mode = mode
        self._tree.stamp(node, content=False)

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        self._create(path, modes.S_IFDIR, mode & 0o755)

    def symlink(self, target: Path, path: Path) -> None:
        self._create(path, modes.S_IFLNK, 0o777).data = os.fsencode(target)

    def mkfifo(self, path: Path, mode: int = 0o666) -> None:
        self._create(path, modes.S_IFIFO, mode & 0o755)

    def link(self, old: Path, new: Path) -> None:
        node = self._node(os.fsencode(old), None, follow=False)
        parent, name, there = self._find(os.fsencode(new), None, follow=False)
        if there is not None:
            raise failure(errno.EEXIST, new)
        if node.is_directory:
            raise failure(errno.EPERM, old)
        self._allowed(parent, W)
        self._tree.enter(parent, name, node)
        self._tree.stamp(node, content=False)

    def unlink(self, path: Path) -> None:
        parent, name, node = self._existing(path)
        self._allowed(parent, W)
        if node.is_directory:
            raise failure(errno.EISDIR, path)
        self._drop(parent, name)

    def rmdir(self, path: Path) -> None:
        parent, name, node = self._existing(path)
        self._allowed(parent, W)
        if not node.is_directory:
            raise failure(errno.ENOTDIR, path)
        if node.entries:
            raise failure(errno.ENOTEMPTY, path)
        self._drop(parent, name)

    def rename(self, old: Path, new: Path) -> None:
        parent, name, node = self._find(os.fsencode(old), None, follow=False)
        target_parent, target_name, there = self._find(os.fsencode(new), None, follow=False)
        if node is None:
            raise failure(errno.ENOENT, old)
        if there is node:
            return
        self._may_move(node, target_parent)
        if there is not None and _holds(there, node):
            raise failure(errno.ENOTEMPTY, new)
        self._allowed(parent, W)
        self._allowed(target_parent, W)
        if there is not None:
            self._may_replace(node, there, new)
            self._drop(target_parent, target_name)
        self._tree.leave(parent, name)
        self._tree.enter(target_parent, target_name, node)
        self._tree.stamp(node, content=False)

    def exchange(self, one: Path, two: Path) -> None:
        """renameat2 with RENAME_EXCHANGE, which Python's ``os`` does not have."""
        parent, name, node = self._find(os.fsencode(one), None, follow=False)
        other_parent, other_name, other = self._find(os.fsencode(two), None, follow=False)
        if node is None or other is None:
            raise failure(errno.ENOENT, one)
        self._may_move(node, other_parent)
        self._may_move(other, parent)
        self._allowed(parent, W)
        self._allowed(other_parent, W)
        if node is other:
            return
        self._tree.leave(parent, name)
        self._tree.leave(other_parent, other_name)
        self._tree.enter(parent, name, other)
        self._tree.enter(other_parent, other_name, node)
        self._tree.stamp(node, content=False)
        self._tree.stamp(other, content=False)

    # ---- inside -----------------------------------------------------------------------------------------

    def _may_move(self, node: _Node, parent: _Node) -> None:
        if node.is_directory and (node is parent or _holds(node, parent)):
            raise failure(errno.EINVAL)
        if node.volume is not parent.volume:
            raise failure(errno.EXDEV)

    def _may_replace(self, node: _Node, there: _Node, new: Path) -> None:
        if there.is_directory and not node.is_directory:
            raise failure(errno.EISDIR, new)
        if node.is_directory and not there.is_directory:
            raise failure(errno.ENOTDIR, new)
        if there.entries:
            raise failure(errno.ENOTEMPTY, new)

    def _create(self, path: Path, kind: int, mode: int) -> _Node:
        parent, name, node = self._find(os.fsencode(path), None, follow=False)
        if node is not None:
            raise failure(errno.EEXIST, path)
        self._allowed(parent, W)
        return self._make(parent, name, kind, mode)

    def _make(self, parent: _Node, name: bytes, kind: int, mode: int) -> _Node:
        node = parent.volume.make(kind, mode & ~0o022 if kind != modes.S_IFLNK else mode)
        self._tree.stamp(node)
        self._tree.enter(parent, name, node)
        return node

    def _drop(self, parent: _Node, name: bytes) -> None:
        node = self._tree.leave(parent, name)
        self._tree.stamp(node, content=False)
        node.volume.release(node)

    def _existing(self, path: Path) -> tuple[_Node, bytes, _Node]:
        parent, name, node = self._find(os.fsencode(path), None, follow=False)
        if node is None:
            raise failure(errno.ENOENT, path)
        return parent, name, node

    def _node(self, path: bytes, dir_fd: int | None, *, follow: bool) -> _Node:
        node = self._find(path, dir_fd, follow=follow)[2]
        if node is None:
            raise failure(errno.ENOENT, path)
        return node

    def _find(self, path: bytes, dir_fd: int | None, *, follow: bool) -> tuple[_Node, bytes, _Node | None]:
        start = self._held(dir_fd).node if dir_fd is not None else self._tree.root
        assert dir_fd is not None or path.startswith(b"/"), "there is no working directory"
        return self._tree.find(start, path, follow=follow, allowed=self._allowed)

    def _allowed(self, node: _Node, access: int) -> None:
        """Everything is the caller's own; root may do anything."""
        if not self._privileged and not node.mode >> 6 & access:
            raise failure(errno.EACCES)


def _holds(directory: _Node, node: _Node) -> bool:
    """Whether `node` is somewhere below `directory`."""
    return directory.is_directory and any(child is node for _, child in directory.below())


def _stat(node: _Node) -> Stat:
    size = len(node.data)
    return Stat(
        node.kind | node.mode, node.inode, node.volume.device, node.links, size, node.mtime_ns, node.ctime_ns
    )


__all__ = ["Entry", "Listing", "Stat", "Syscalls", "X"]
