"""Whether a file has the very name by which it was found: where case is ignored, others lead to it, too."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection

from syncd.sources.files import OPEN_DIRECTORY, open_directory


def listed_in(parent: int) -> Collection[str]:
    """The names in an open directory. Raises OSError."""
    descriptor = os.open(".", OPEN_DIRECTORY, dir_fd=parent)
    try:
        return frozenset(os.listdir(descriptor))
    finally:
        os.close(descriptor)


class LastNames:
    """The names in an open directory, kept for the last one as long as its times stay. For any thread."""

    def __init__(self) -> None:
        self._last: tuple[object, Collection[str]] = (None, ())

    def of(self, parent: int) -> Collection[str]:
        """Raises OSError."""
        found = os.fstat(parent)
        which = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        known, names = self._last
        if known != which:
            names = listed_in(parent)
            self._last = which, names
        return names


def is_spelled(root_fd: int, path: str, listed: Callable[[int], Collection[str]] = listed_in) -> bool:
    """Whether the directories on the way list the names of `path`, where something is.

    A directory is listed only where another case of a name leads to the same file: that takes long. Raises
    OSError.
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
    except (OSError, ValueError):  # as mostly
        return False
    own = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


def looks_like(root_fd: int, path: str) -> str:
    """A name beside `path`, where nothing is, that differs only in case or in how accents are written.

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
