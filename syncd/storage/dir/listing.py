"""Finds the objects of a `dir` store by walking its tree: `names` says which key a path has.

Files without a key (sockets, names that are not UTF-8, names that the mapping never makes, ``.syncd``) are no
objects. Memory is bounded by the names of one directory and the directories still to be read.
"""

from __future__ import annotations

import os
import stat as stat_module
from collections.abc import Callable

from syncd.core.model import ObjectInfo
from syncd.core.paths import FOLDER, LINK
from syncd.storage.dir.files import OPEN_DIRECTORY, closing
from syncd.storage.dir.names import CONTINUED, DISPLACED, key_of, start_of
from syncd.storage.dir.root import Opened
from syncd.storage.dir.tree import NOTHING_THERE, Link, open_regular, read_link

PAGE = 1000

Describe = Callable[[Opened, str, int | Link], ObjectInfo]
"""Describes an object, from the open store, its key, and its link or a descriptor of its file."""


class ObjectWalk:
    """The position of a listing of keys under `prefix`, after `after`. If `page` raises, call it again:
    nothing is left out.
    """

    def __init__(
        self,
        prefix: str,
        describe: Describe,
        describe_folder: Callable[[Opened, str, int], ObjectInfo | None] = lambda *folder: None,
        after: str = "",
    ) -> None:
        """`describe_folder` gets an open directory and returns None if it is no object."""
        self._prefix = prefix
        self._after = after
        self._describe = describe
        self._describe_folder = describe_folder
        self._directories: list[tuple[bytes, ...]] = [()]
        self._here: tuple[bytes, ...] = ()
        self._names: list[bytes] = []
        self._ready: list[ObjectInfo] = []

    def page(self, store: Opened) -> list[ObjectInfo]:
        """Return the next objects; none at the end. Raises OSError."""
        while len(self._ready) < PAGE and (self._names or self._directories):
            if self._names:
                self._look_here(store)
            else:
                self._open_next(store)
        ready, self._ready = self._ready, []
        return ready

    def _open_next(self, store: Opened) -> None:
        names: list[bytes] = []
        fd = _descend(store.root, self._directories[-1])
        if fd is not None:
            with closing(fd):
                names = sorted(map(os.fsencode, os.listdir(fd)), reverse=True)
                self._look_at_folder(store, fd, self._directories[-1])
        self._here, self._names = self._directories.pop(), names

    def _look_at_folder(self, store: Opened, fd: int, names: tuple[bytes, ...]) -> None:
        key = key_of(names, store.traits) if names and not names[-1].endswith(CONTINUED) else None
        if key is not None and (key + FOLDER).startswith(self._prefix) and key + FOLDER > self._after:
            info = self._describe_folder(store, key + FOLDER, fd)
            self._ready += [info] if info is not None else []

    def _look_here(self, store: Opened) -> None:
        """Look at some names of the current directory."""
        fd = _descend(store.root, self._here)
        if fd is None:  # removed since it was listed
            self._names.clear()
            return
        with closing(fd):
            while self._names and len(self._ready) < PAGE:
                self._look_at(store, fd, self._names[-1])
                self._names.pop()

    def _look_at(self, store: Opened, fd: int, name: bytes) -> None:
        try:
            mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        except OSError as error:
            if error.errno in NOTHING_THERE:
                return
            raise
        if stat_module.S_ISDIR(mode):
            start = start_of((*self._here, name), store.traits)
            if start is not None and _on_the_way(start, self._prefix):
                self._directories.append((*self._here, name))
            return
        displaced = name.endswith(DISPLACED)
        key = key_of((*self._here, name.removesuffix(DISPLACED)), store.traits)
        if key is not None and stat_module.S_ISLNK(mode):
            key += LINK
        if key is None or not key.startswith(self._prefix) or key <= self._after:
            return
        if displaced and _is_object(fd, name.removesuffix(DISPLACED)):
            return  # an older version, about to be removed
        link = read_link(fd, name) if stat_module.S_ISLNK(mode) else None
        if link is not None:
            self._ready.append(self._describe(store, key, link))
            return
        found = open_regular(fd, name)
        if found is not None:
            with closing(found):
                self._ready.append(self._describe(store, key, found))


def _on_the_way(directory: str, prefix: str) -> bool:
    return directory.startswith(prefix) or prefix.startswith(directory)


def _is_object(fd: int, name: bytes) -> bool:
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except OSError:
        return False
    return stat_module.S_ISREG(mode) or stat_module.S_ISLNK(mode)


def _descend(root: int, names: tuple[bytes, ...]) -> int | None:
    """Open a directory below the root; None: it is gone."""
    fd = os.dup(root)
    for name in names:
        with closing(fd):
            try:
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
            except OSError as error:
                if error.errno in NOTHING_THERE:
                    return None
                raise
    return fd
