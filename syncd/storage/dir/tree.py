"""Where the objects of a `dir` store lie, and how they get their names.

An object lies at its natural path: ``camera/2024/a.jpg`` is a file of that name below the root, for people
and their tools to read. Four things need more:

- **Object and directory of one name.** A store may hold ``a`` and ``a/b``; a file system may not. When
  ``a/b`` comes, ``a`` is renamed to ``a.~syncd-object~`` (one atomic rename); when ``a`` comes to where a
  directory is, it goes there at once. A lookup asks at the natural place first.
- **Reserved names.** ``.syncd`` below the root is ours. A key that begins with that component, or has one
  that ends like our own additions, gets ``.~syncd-name~`` appended to it. No two keys share a path.
- **Long names.** A component of more than 255 bytes is cut into names that a file system takes; all of them
  but the last are directories that end in ``.~syncd-more~``. A key is longer than the file's own name where
  the name is not UTF-8.
- **No way out.** Empty, ``.`` and ``..`` components and NUL are refused. Every component is opened relative
  to its parent, and symbolic links are not followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_module
import threading

from syncd.core.errors import StoreRefused, StoreUnavailable
from syncd.storage.dir.files import (
    OPEN_DIRECTORY,
    OPEN_TO_READ,
    closing,
    errors_of_ours,
    make_directory,
    remove_file,
    sync_directory,
)
from syncd.storage.dir.root import PRIVATE

DISPLACED = b".~syncd-object~"
ESCAPED = b".~syncd-name~"
CONTINUED = b".~syncd-more~"

_LONGEST_NAME = 255
_LONGEST_PIECE = 200
"""Room is left for what is appended to a piece."""

_TRIES = 10
"""How often a path is walked again when a directory of it was made, moved or removed during the walk."""
NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG)
"""No object can be where one of these is the answer: absent, link or file instead of a directory, socket."""


def names_of(key: str) -> tuple[bytes, ...]:
    """The path of an object below the root, by components. Raises StoreRefused for what cannot be one."""
    try:
        names = key.encode().split(b"/")
    except UnicodeEncodeError as error:
        raise StoreRefused("the key is not text") from error
    if "\0" in key:
        raise StoreRefused("the key holds a NUL character, which no file name may hold")
    for name in names:
        if name in (b"", b".", b".."):
            raise StoreRefused(f"the key has {name.decode()!r} as a component, which is not a file name")
    if names[0] == PRIVATE:
        names[0] += ESCAPED
    else:
        names[0] = _escaped(names[0])
    return tuple(piece for name in (names[0], *map(_escaped, names[1:])) for piece in _pieces(name))


def _escaped(name: bytes) -> bytes:
    return name + ESCAPED if name.endswith((DISPLACED, ESCAPED, CONTINUED)) else name


def _pieces(name: bytes) -> list[bytes]:
    """The name, or pieces of nearly the same length, each of whole characters."""
    if len(name) <= _LONGEST_NAME:
        return [name]
    pieces = []
    for left in range(-(-len(name) // _LONGEST_PIECE), 1, -1):
        end = -(-len(name) // left)
        while name[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        pieces.append(name[:end] + CONTINUED)
        name = name[end:]
    return [*pieces, name]


class Tree:
    """Objects below a root, of which every method is given a descriptor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def find(self, root: int, names: tuple[bytes, ...]) -> int | None:
        """Descriptor of the object's file, to read from; None when there is none."""
        with errors_of_ours("open the object", whole_store=False):
            parent = self._parent(root, names)
            if parent is None:
                return None
            with closing(parent):
                # Natural place, the other, and the first once more: it may move between two looks.
                for name in (names[-1], names[-1] + DISPLACED, names[-1]):
                    found = open_regular(parent, name)
                    if found is not None:
                        return found
            return None

    def place(self, root: int, names: tuple[bytes, ...], staging: int, staged: bytes) -> None:
        """Give the staged file the object's name, in one step and durably, replacing what was there."""
        with errors_of_ours("put the object in place", whole_store=len(names) == 1):
            for _ in range(_TRIES):
                # A directory on the way may be removed as empty, by us, between two calls: walk again.
                with contextlib.suppress(FileNotFoundError), closing(self._make_parent(root, names)) as fd:
                    with self._lock:  # or we might remove what has just been moved out of the way
                        _rename_onto(staging, staged, fd, names[-1])
                    sync_directory(fd)
                    return
        raise StoreUnavailable("the object's directory in the store does not stay")

    def remove(self, root: int, names: tuple[bytes, ...]) -> None:
        """Remove the object, and the directories that are empty without it."""
        with errors_of_ours("delete the object", whole_store=len(names) == 1):
            parent = self._parent(root, names)
            if parent is None:
                return
            with closing(parent):
                # The displaced one first, or it would come back to life; again, as it may just have moved.
                displaced, natural = names[-1] + DISPLACED, names[-1]
                removed = [_remove_regular(parent, name) for name in (displaced, natural, displaced)]
                if any(removed):
                    sync_directory(parent)
            self._prune(root, names[:-1])

    def _prune(self, root: int, names: tuple[bytes, ...]) -> None:
        while names:
            parent = self._parent(root, names)
            if parent is None:
                return
            with closing(parent):
                try:
                    os.rmdir(names[-1], dir_fd=parent)
                except OSError:
                    return  # not empty, mostly; an empty directory that stays does no harm
            names = names[:-1]

    def _parent(self, root: int, names: tuple[bytes, ...]) -> int | None:
        """Descriptor of the directory in which the last of `names` would lie; None when there is none."""
        fd = os.dup(root)
        for name in names[:-1]:
            with closing(fd):
                below = _open_directory(fd, name)
            if below is None:
                return None
            fd = below
        return fd

    def _make_parent(self, root: int, names: tuple[bytes, ...]) -> int:
        """The same, made where it is missing. Raises FileNotFoundError when it is removed again."""
        fd = os.dup(root)
        for name in names[:-1]:
            with closing(fd):
                below = self._descend(fd, name)
            fd = below
        return fd

    def _descend(self, fd: int, name: bytes) -> int:
        below = _open_directory(fd, name)
        if below is None:
            self._make_room(fd, name)
            make_directory(fd, name)
            below = _open_directory(fd, name)
        if below is None:
            raise FileNotFoundError(errno.ENOENT, "removed or replaced during the walk")
        return below

    def _make_room(self, fd: int, name: bytes) -> None:
        """Move an object out of the way of a directory of its name."""
        with self._lock:  # no other thread may make the directory between look and rename
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return
            if stat_module.S_ISDIR(mode):
                return
            if not stat_module.S_ISREG(mode):
                shown = name.decode(errors="backslashreplace")
                raise StoreRefused(
                    f"{shown!r} in the store's directory is neither a file nor a directory",
                    hint="remove it; syncd follows no symbolic link inside a store",
                )
            os.rename(name, name + DISPLACED, src_dir_fd=fd, dst_dir_fd=fd)
            sync_directory(fd)


def _rename_onto(staging: int, staged: bytes, parent: int, name: bytes) -> None:
    try:
        os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=parent)
    except IsADirectoryError:
        os.rename(staged, name + DISPLACED, src_dir_fd=staging, dst_dir_fd=parent)
        return
    _remove_regular(parent, name + DISPLACED)  # an older version, from when a directory was in its place


def _open_directory(fd: int, name: bytes) -> int | None:
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=fd)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise


def open_regular(fd: int, name: bytes) -> int | None:
    """Descriptor of the regular file `name` below `fd`, to read from; None when there is none."""
    try:
        found = os.open(name, OPEN_TO_READ, dir_fd=fd)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise
    if stat_module.S_ISREG(os.fstat(found).st_mode):
        return found
    os.close(found)
    return None


def _remove_regular(fd: int, name: bytes) -> bool:
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return False
        raise
    return stat_module.S_ISREG(mode) and remove_file(fd, name)
