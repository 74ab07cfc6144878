"""What is at a path of the records: a file, a symbolic link or, if the path ends with a slash, a folder.

A folder is carried while nothing in it is. So a folder that gets content counts as gone from this path, and
its files have their own paths.
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
    """For callers that ask only whether the folder exists."""
    return False


def look(
    root_fd: int, path: str, *, links: bool = True, fills: Fills = nothing_fills
) -> FileStat | Irregular | None:
    """Return what is at `path` below the root; None: nothing, or a folder that something `fills`.

    With `links` a symbolic link is not irregular. Raises FileUnreadable.
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
    """Open what `look` finds at `path`. Raises FileVanished, FileUnreadable, FileChanged."""
    if not path.endswith(FOLDER):
        return files.open_file(root_fd, path, on_read, links=links)
    try:
        return OpenFolder(_opened(root_fd, path), path, fills)
    except OSError as error:
        if error.errno in directories.GONE:
            raise FileVanished("it is gone") from error
        raise FileUnreadable(os_words(error)) from error


def stat_of(found: os.stat_result) -> FolderStat:
    """Return the stat of a folder; the bytes of its names are not content."""
    return FolderStat(*files.file_stat(found)._replace(size=0))


def _opened(root_fd: int, path: str) -> int:
    if path == FOLDER:
        raise OSError(errno.EINVAL, "not a folder below the root")
    return directories.open_listing(root_fd, os.fsencode(path.removesuffix(FOLDER)))


def _is_filled(descriptor: int, path: str, fills: Fills) -> bool:
    """Return whether an entry fills the folder. Usually the first one does, however many there are."""
    return fills is not nothing_fills and any(fills(path + name) for name in directories.names_in(descriptor))


class OpenFolder(OpenEntry):
    """An empty folder, read like an empty file."""

    def __init__(self, descriptor: int, path: str, fills: Fills) -> None:
        """Take the `descriptor`, which can be listed. Raises OSError."""
        super().__init__(descriptor, stat_of(os.fstat(descriptor)), 0o777)
        self._path, self._fills = path, fills

    def stat(self) -> FileStat:
        """Return the folder's stat now. Raises FileUnreadable; FileChanged if something fills it."""
        found = FolderStat(*super().stat()._replace(size=0))
        try:
            if not _is_filled(self._descriptor, self._path, self._fills):
                return found
        except OSError as error:
            raise FileUnreadable(os_words(error)) from error
        raise FileChanged("the folder is no longer empty")
