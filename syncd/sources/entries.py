"""What is at a path of the records: a file, a symbolic link or, where the path ends with a slash, a folder.

A folder is carried as long as nothing in it is. So one that gets content counts as gone from this path, and
its files have paths of their own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from syncd.core.errors import FileChanged, FileUnreadable, FileVanished, os_words
from syncd.core.model import FileStat, FolderStat, Irregular
from syncd.core.paths import FOLDER
from syncd.sources import directories, files
from syncd.sources.files import OpenEntry, OpenFile

Fills = Callable[[str], bool]
"""See `syncd.core.patterns.Rules.fills`."""


def nothing_fills(_path: str) -> bool:
    """For those who ask only whether the folder is there."""
    return False


def look(
    root_fd: int, path: str, *, links: bool = True, fills: Fills = nothing_fills
) -> FileStat | Irregular | None:
    """What is at `path` below the root; None: nothing, or a folder that something `fills`.

    `links` says that a symbolic link is not irregular. Raises FileUnreadable.
    """
    if not path.endswith(FOLDER):
        return files.look(root_fd, path, links=links)
    try:
        descriptor = _opened(root_fd, path)
        try:
            return None if _is_filled(descriptor, path, fills) else stat_of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in directories.GONE:
            return None
        raise FileUnreadable(os_words(error)) from error


def open_entry(
    root_fd: int,
    path: str,
    on_read: Callable[[], object] = lambda: None,
    *,
    links: bool = True,
    fills: Fills = nothing_fills,
) -> OpenFile:
    """What `look` finds at `path`, open. Raises FileVanished, FileUnreadable, FileChanged."""
    if not path.endswith(FOLDER):
        return files.open_file(root_fd, path, on_read, links=links)
    try:
        return OpenFolder(_opened(root_fd, path), path, fills)
    except OSError as error:
        if error.errno in directories.GONE:
            raise FileVanished("it is gone") from error
        raise FileUnreadable(os_words(error)) from error


def stat_of(found: os.stat_result) -> FolderStat:
    """The kernel's answer about a folder; the bytes that its names take are no content."""
    return FolderStat(*files.file_stat(found)._replace(size=0))


def _opened(root_fd: int, path: str) -> int:
    if path == FOLDER:
        raise OSError(errno.EINVAL, "not a folder below the root")
    return directories.open_listing(root_fd, os.fsencode(path.removesuffix(FOLDER)))


def _is_filled(descriptor: int, path: str, fills: Fills) -> bool:
    """Mostly the first entry tells, however many there are."""
    return fills is not nothing_fills and any(fills(path + name) for name in directories.names_in(descriptor))


class OpenFolder(OpenEntry):
    """An empty folder, as if it were an empty file."""

    def __init__(self, descriptor: int, path: str, fills: Fills) -> None:
        """Takes the `descriptor`, which can be listed. Raises OSError."""
        super().__init__(descriptor, stat_of(os.fstat(descriptor)), 0o777)
        self._path, self._fills = path, fills

    def stat(self) -> FileStat:
        """What it is now. Raises FileUnreadable, and FileChanged when something has come into it."""
        found = FolderStat(*super().stat()._replace(size=0))
        try:
            if not _is_filled(self._descriptor, self._path, self._fills):
                return found
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error
        raise FileChanged("the folder is no longer empty")
