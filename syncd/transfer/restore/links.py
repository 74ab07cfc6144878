"""Restores symbolic links, each by its name in an open directory. None of them is followed.

A separate module, because `folder` is about files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import NamedTuple

from syncd.core.errors import FileUnwritable
from syncd.core.restoring import Existing, Overwrite, why_kept
from syncd.transfer.restore.attributes import Facts, give_link

_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})


class ExistingLink(NamedTuple):
    """A symbolic link where one is to go."""

    target: bytes
    mtime_ns: int

    def why_kept(self, mtime_ns: int | None, overwrite: Overwrite) -> str | None:
        """Return why a link that leads elsewhere stays; None: it is replaced."""
        return why_kept(Existing(len(self.target), self.mtime_ns, (0, 0, 0)), mtime_ns, overwrite)


def look(directory: int, name: str) -> ExistingLink | None:
    """Return the link under `name`; None: nothing. Raises OSError, FileUnwritable if it is no link."""
    try:
        target = os.fsencode(os.readlink(name, dir_fd=directory))
        mtime_ns = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise FileUnwritable("something that is not a symbolic link is in the way: move it away") from error
    return ExistingLink(target, mtime_ns)


def make(
    directory: int, name: str, draft: str, target: bytes, existing: ExistingLink | None, facts: Facts
) -> None:
    """Make the link `name`, which leads to `target`, where nothing is; or in the place of `existing`, by way
    of the name `draft`. Raises OSError, FileUnwritable.
    """
    mtime_ns, wanted = facts
    made = name if existing is None else draft
    if existing is not None:
        _unlink(directory, made)  # of a restore that died here
    _symlink(directory, made, target)
    give_link(made, directory, wanted, mtime_ns)
    if existing is None:
        return
    try:
        if look(directory, name) != existing:
            raise FileUnwritable(
                "the link that was to be replaced changed in between, and is kept: restore again"
            )
        os.rename(made, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        _unlink(directory, made)
        raise


def _symlink(directory: int, name: str, target: bytes) -> None:
    try:
        os.symlink(target, os.fsencode(name), dir_fd=directory)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise FileUnwritable(
            "this file system has no symbolic links: restore this one to another file system"
        ) from error


def _unlink(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
