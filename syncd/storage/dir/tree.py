"""Gives the objects of a `dir` store their names, and finds them by name.

`names` says which path a key has. If ``a/b`` is added where the object ``a`` is, ``a`` is renamed to
``a.~syncd-object~`` (one atomic rename). If ``a`` is added where a directory is, it gets that name at once.
When the directory goes, ``a`` is renamed back. A lookup tries the natural place first.

Every component is opened relative to its parent, and symbolic links are not followed.

If the file system takes two names for one, only the name that its file has finds an object, and the second of
two such names is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_module
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from syncd.core.errors import StoreRefused, StoreUnavailable
from syncd.core.paths import FOLDER, LINK
from syncd.storage.dir.files import (
    OPEN_DIRECTORY,
    OPEN_TO_READ,
    closing,
    errors_of_ours,
    make_directory,
    remove_file,
    sync_directory,
    translate,
)
from syncd.storage.dir.names import DISPLACED
from syncd.storage.dir.root import Opened
from syncd.storage.dir.spelling import Spellings, spelled_in

_ROOM_BYTES = 1 << 20
"""With so much free, a directory can grow, too."""
_TRIES = 10
"""How often to walk a path if a directory of it is made, moved or removed during the walk."""
NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG)
"""After these errors there is no object: absent, link or file instead of a directory, socket."""


class Link(NamedTuple):
    """A symbolic link, which is never followed."""

    target: bytes
    stat: os.stat_result


class Tree:
    """The objects of an open store."""

    def __init__(
        self, has_record: Callable[[Opened, tuple[bytes, ...], str], bool] = lambda *where: False
    ) -> None:
        """`has_record` says whether the link or folder at a path is an object, whose key is the path's with
        the ending `LINK` or `FOLDER`.
        """
        self._has_record = has_record
        self._lock = threading.RLock()
        self._spellings = Spellings()

    def find(self, store: Opened, names: tuple[bytes, ...]) -> int | None:
        """Open the object's file to read it; None: there is none."""
        with errors_of_ours("open the object", whole_store=False):
            parent = self._parent(store, names)
            if parent is None:
                return None
            with closing(parent):
                # The natural place, the other, and the first again: the file may move between two looks.
                for name in (names[-1], names[-1] + DISPLACED, names[-1]):
                    found = open_regular(parent, name)
                    if found is None:
                        continue
                    if self._is_spelled(store, parent, name):
                        return found
                    os.close(found)
            return None

    def find_link(self, store: Opened, names: tuple[bytes, ...]) -> Link | None:
        """Return the symbolic link at this path; None: there is none."""
        with errors_of_ours("look at the link", whole_store=False):
            parent = self._parent(store, names)
            if parent is None:
                return None
            with closing(parent):
                for name in (names[-1], names[-1] + DISPLACED, names[-1]):
                    found = read_link(parent, name)
                    if found is not None and self._is_spelled(store, parent, name):
                        return found
            return None

    def place(self, store: Opened, names: tuple[bytes, ...], staging: int, staged: bytes) -> None:
        """Give the staged file the object's name, in one step and durably, replacing any old one."""
        with _errors_of_naming(store, names):
            for _ in range(_TRIES):
                # We may remove an empty directory on the way between two calls: walk again.
                with contextlib.suppress(FileNotFoundError), closing(self._make_parent(store, names)) as fd:
                    with self._lock:  # or we might remove what was just moved out of the way
                        self._refuse_other(store, fd, names[-1])
                        self._rename_onto(store, staging, staged, fd, names[-1])
                    sync_directory(fd)
                    return
        raise StoreUnavailable(
            "another program removes the object's directory in the store", hint="end that program"
        )

    def remove(self, store: Opened, names: tuple[bytes, ...], kind: int = stat_module.S_IFREG) -> None:
        """Remove the object, if its file is of this `kind`, and directories that become empty."""
        with errors_of_ours("delete the object", whole_store=len(names) == 1):
            parent = self._parent(store, names)
            if parent is not None:
                with closing(parent):
                    # The displaced one first, or it would return; then again, as it may have moved.
                    displaced, natural = names[-1] + DISPLACED, names[-1]
                    order = (displaced, natural, displaced)
                    removed = [self._remove(store, parent, name, kind) for name in order]
                    if any(removed):
                        sync_directory(parent)
            self.prune(store, names[:-1])

    def find_folder(self, store: Opened, names: tuple[bytes, ...]) -> int | None:
        """Open the directory at this path to list it; None: there is none."""
        with errors_of_ours("look at the folder", whole_store=False):
            return self._parent(store, (*names, b""))

    def make_folder(self, store: Opened, names: tuple[bytes, ...]) -> int:
        """The same, but make it if missing. If it has a record, no other thread removes it."""
        with _errors_of_naming(store, names), self._lock:
            return self._make_parent(store, (*names, b""))

    def prune(self, store: Opened, names: tuple[bytes, ...], *, is_told: bool = False) -> None:
        """Remove the directory if it is empty and no object, then those above; what it displaced gets its
        name back.

        Another user's directory stays unless `is_told`: an operator made it beforehand. An empty one of ours
        would count as an object.
        """
        while names:
            parent = self._parent(store, names)
            if parent is not None:
                with closing(parent), self._lock:
                    if self._has_record(store, names, FOLDER):
                        return
                    try:
                        if not (is_told or self._is_own(store, parent, names[-1])):
                            return
                        if self._is_spelled(store, parent, names[-1]):
                            os.rmdir(names[-1], dir_fd=parent)
                    except FileNotFoundError:
                        pass  # an earlier try may have died before the renaming
                    except OSError:
                        return  # usually not empty; an empty directory does no harm
                    self._put_back(store, parent, names[-1])
            names, is_told = names[:-1], False

    def _is_own(self, store: Opened, parent: int, name: bytes) -> bool:
        """Return whether a directory is ours, or of the owner of ``.syncd``: a server may rename users."""
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return found.st_uid in (os.geteuid(), os.fstat(store.private).st_uid)

    def _put_back(self, store: Opened, parent: int, name: bytes) -> None:
        """Rename the object back that a directory displaced, if nothing is in its way."""
        displaced = _kind_of(parent, name + DISPLACED)
        if displaced is None or stat_module.S_ISDIR(displaced) or _kind_of(parent, name) is not None:
            return
        if self._is_spelled(store, parent, name + DISPLACED):
            with contextlib.suppress(IsADirectoryError):  # made again since
                os.rename(name + DISPLACED, name, src_dir_fd=parent, dst_dir_fd=parent)
            self._changed(store, parent)
            sync_directory(parent)

    def _parent(self, store: Opened, names: tuple[bytes, ...]) -> int | None:
        """Open the directory that would hold the last of `names`; None: there is none."""
        fd = os.dup(store.root)
        for name in names[:-1]:
            with closing(fd):
                below = _open_directory(fd, name)
                if below is not None and not self._is_spelled(store, fd, name):
                    os.close(below)
                    below = None
            if below is None:
                return None
            fd = below
        return fd

    def _make_parent(self, store: Opened, names: tuple[bytes, ...]) -> int:
        """The same, but make it if missing. Raises FileNotFoundError if it is removed again."""
        fd = os.dup(store.root)
        for index in range(len(names) - 1):
            with closing(fd):
                below = self._descend(store, fd, names[: index + 1])
            fd = below
        return fd

    def _descend(self, store: Opened, fd: int, names: tuple[bytes, ...]) -> int:
        name = names[-1]
        below = _open_directory(fd, name)
        if below is None:
            self._make_room(store, fd, names)
            make_directory(fd, name)
            below = _open_directory(fd, name)
        if below is None:
            raise FileNotFoundError(errno.ENOENT, "removed or replaced during the walk")
        try:
            self._refuse_other(store, fd, name)
        except BaseException:
            os.close(below)
            raise
        return below

    def _make_room(self, store: Opened, fd: int, names: tuple[bytes, ...]) -> None:
        """Move an object out of the way of a directory of its name."""
        name = names[-1]
        with self._lock:  # or another thread may make the directory before the rename
            mode = _kind_of(fd, name)
            if mode is None or stat_module.S_ISDIR(mode):
                return
            self._refuse_other(store, fd, name)
            is_own_link = stat_module.S_ISLNK(mode) and self._has_record(store, names, LINK)
            if not stat_module.S_ISREG(mode) and not is_own_link:
                shown = name.decode(errors="backslashreplace")
                raise StoreRefused(
                    f"{shown!r} in the store's directory is neither a file nor a directory",
                    hint="remove it; syncd follows no symbolic link inside a store",
                )
            os.rename(name, name + DISPLACED, src_dir_fd=fd, dst_dir_fd=fd)
            self._changed(store, fd)
            sync_directory(fd)

    def _rename_onto(self, store: Opened, staging: int, staged: bytes, parent: int, name: bytes) -> None:
        try:
            os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=parent)
        except IsADirectoryError:
            self._refuse_other(store, parent, name + DISPLACED)
            os.rename(staged, name + DISPLACED, src_dir_fd=staging, dst_dir_fd=parent)
            return
        # An older version, from when a directory was in its way.
        for kind in (stat_module.S_IFREG, stat_module.S_IFLNK):
            self._remove(store, parent, name + DISPLACED, kind)

    def _remove(self, store: Opened, fd: int, name: bytes, kind: int) -> bool:
        mode = _kind_of(fd, name)
        if mode is None or stat_module.S_IFMT(mode) != kind or not self._is_spelled(store, fd, name):
            return False
        removed = remove_file(fd, name)
        self._changed(store, fd)
        return removed

    def _is_spelled(self, store: Opened, fd: int, name: bytes) -> bool:
        """Return whether the entry that `name` leads to has this name."""
        return not store.traits.folds or self._spellings.has(fd, name)

    def _changed(self, store: Opened, fd: int) -> None:
        if store.traits.folds:
            self._spellings.forget(fd)

    def _refuse_other(self, store: Opened, fd: int, name: bytes) -> None:
        """Raise StoreRefused if `name` leads to an entry of another name."""
        if not store.traits.folds or _kind_of(fd, name) is None or self._spellings.has(fd, name):
            return
        mine, other = (ascii(os.fsdecode(each)) for each in (name, spelled_in(fd, name)))
        raise StoreRefused(
            f"the store's file system does not tell {mine} from {other}, which is already there",
            hint="rename one of the two, or use a store that tells them apart",
        )


@contextlib.contextmanager
def _errors_of_naming(store: Opened, names: tuple[bytes, ...]) -> Iterator[None]:
    """Turn errors while an object gets its name into ours, which claim no more than they show.

    A full directory fails like a full disk, but the object is on the disk already. If some names do not fit,
    a denial may mean the name.
    """
    doing = "put the object in place"
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and _has_room(store.root):
            raise StoreRefused(
                f"cannot {doing}: its directory cannot hold more names",
                code="ENOSPC",
                hint="spread the files over more directories, or use a file system with larger ones than FAT",
            ) from error
        whole_store = len(names) == 1 and not store.traits.codes
        raise translate(error, doing, whole_store=whole_store) from error


def _has_room(fd: int) -> bool:
    found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize >= _ROOM_BYTES


def _open_directory(fd: int, name: bytes) -> int | None:
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=fd)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise


def open_regular(fd: int, name: bytes) -> int | None:
    """Open the regular file `name` below `fd` to read it; None: there is none."""
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


def read_link(fd: int, name: bytes) -> Link | None:
    """Return the symbolic link `name` below `fd`; None: there is none."""
    try:
        return Link(os.readlink(name, dir_fd=fd), os.stat(name, dir_fd=fd, follow_symlinks=False))
    except OSError as error:
        if error.errno in (errno.EINVAL, *NOTHING_THERE):
            return None
        raise


def _kind_of(fd: int, name: bytes) -> int | None:
    """Return the mode of `name` below `fd`, without following links; None: there is nothing."""
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise
