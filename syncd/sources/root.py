"""Decides whether the root of a source is the known directory.

A root that is missing, empty, behind a link or another directory than before says nothing about its files. It
is known by its inode and its file system. A disk may get another number: that alone is accepted if most
recorded files still have their inodes and the times that only the kernel sets. The operator has to accept any
other directory, even with files restored from a backup; then deletions wait for a confirmation, too.
"""

from __future__ import annotations

import logging
import os

from syncd.core.errors import FileChanged, FileError, os_words
from syncd.core.model import FileStat, Irregular, Recorded, RootIdentity, Source
from syncd.core.paths import printable
from syncd.sources import directories, entries
from syncd.state.state import State

log = logging.getLogger("syncd.scan")

EMPTY = (
    "the source is empty, but files from it have been uploaded. Is a disk not mounted? "
    "If it is meant to be empty, put any file into it"
)
"""A mount point without its disk looks like this. A root with a single other file is believed."""
SAMPLE = 200
"""Recorded files that are checked when the device number of a root has changed."""
MOUNT_SAMPLE = 1000
"""Recorded files that are checked below a mount inside a source, until one is found."""


def check_root(
    source: Source, known: RootIdentity | None, has_records: bool
) -> tuple[RootIdentity | None, str | None]:
    """Return which directory the root is (None: none), and why not to believe it; None: believe it."""
    try:
        descriptor = directories.open_resolved(source.root, directories.OPEN_DIRECTORY)
    except OSError as error:
        if error.errno not in directories.GONE:
            return None, f"the root cannot be read: {os_words(error)}"
        if link := directories.link_in(source.root):
            return None, (
                f"{printable(link)} is a symbolic link now, and syncd follows none; "
                "if the new place is right, reload the configuration"
            )
        return None, "the root is missing"
    try:
        identity = directories.identity_of(descriptor)
        if known is not None and not identity.is_same(known):
            is_moved = identity.device == known.device and identity.inode != known.inode
            what = "another directory" if is_moved else "on another device"
            return identity, f"the root is {what} than it was; was something mounted, unmounted or replaced?"
        with os.scandir(descriptor) as entries:
            if has_records and next(entries, None) is None:
                return identity, EMPTY
        return identity, None
    except FileError as error:
        return None, f"the root cannot be read: {error}"
    except OSError as error:
        return None, f"the root cannot be read: {os_words(error)}"
    finally:
        os.close(descriptor)


def open_root(path: str, identity: RootIdentity | None) -> int:
    """Open the root if it is still that directory. Raises FileError."""
    root_fd = directories.open_root(path)
    try:
        if identity is None or not identity.is_same(directories.identity_of(root_fd)):
            raise FileChanged("its folder was replaced during the scan")
    except FileError:
        os.close(root_fd)
        raise
    return root_fd


def holds_recorded(root_fd: int, source: str, state: State, below: bytes) -> bool:
    """Return whether the mount at `below` inside a source holds a recorded file, untouched.

    Raises StateError.
    """
    rows = state.recorded_page(source, None, MOUNT_SAMPLE, below)
    return any(_is_there(root_fd, path, row, row.stat.device) for path, row in rows)


class RootGuard:
    """Judges the root of one source. For one thread, except `accept`."""

    def __init__(self, source: Source, state: State) -> None:
        self._source = source
        self._state = state
        self._accepted = False
        self.replaced = False
        """The last `look` accepted another directory as the root, because the operator said so."""

    def accept(self) -> None:
        """Let the next `look` accept another directory as the root, because the operator says so."""
        self._accepted = True

    def look(self) -> tuple[RootIdentity | None, str]:
        """Return which directory the root is, and why it must not be believed; empty: it may be.

        A root that may be believed is recorded as known. Raises StateError.
        """
        name, self.replaced = self._source.name, False
        if self._source.given and os.path.realpath(self._source.given) != self._source.root:
            return (
                None,
                "the link to the root leads elsewhere now; reload the configuration if that is on purpose",
            )
        accepted, self._accepted = self._accepted, False  # it applies to what is there now
        known = self._state.root_identity(name)
        has_records = self._state.recorded_totals(name)[0] > 0
        identity, doubt = check_root(self._source, known, has_records)
        if identity is None or identity == known:
            return identity, doubt or ("" if identity else "the root is missing")
        if known is not None and identity.is_same(known) and known.volume.startswith(identity.volume):
            return known, doubt or ""  # the file system now reports less
        if known is not None and not identity.is_same(known):
            doubt = self._judge_other(known, identity, doubt or "", accepted=accepted)
        if not doubt:
            self._state.set_root_identity(name, identity)
        return identity, doubt or ""

    def _judge_other(self, known: RootIdentity, identity: RootIdentity, doubt: str, *, accepted: bool) -> str:
        name = self._source.name
        if identity.inode == known.inode and self._holds_our_files(known, identity):
            log.info("%s: the same directory and files under another device number: accepted", name)
        elif accepted:
            log.warning("%s: the root is a different directory, as the operator confirmed", name)
            self.replaced = True
        else:
            restored = "files restored from a backup count as a different directory"
            return f"{doubt} If this is on purpose ({restored}): syncd sync --accept-root {name}"
        if known.device != identity.device:  # otherwise what is gone would always count as not mounted
            self._state.renumber_device(name, known.device, identity.device)
        return ""

    def _holds_our_files(self, known: RootIdentity, identity: RootIdentity) -> bool:
        """Return whether that directory holds the recorded files: then its disk got another number.

        Another directory may be mounted at its path by now, and must not answer for it.
        """
        page = self._state.recorded_page(self._source.name, None, SAMPLE)
        devices = (known.device, identity.device)  # the second if syncd died after the rows were renumbered
        rows = [(path, row) for path, row in page if row.stat.device in devices]
        try:
            root_fd = directories.open_root(self._source.root)
        except FileError:
            return False
        try:
            if not identity.is_same(directories.identity_of(root_fd)):
                return False
            there = sum(_is_there(root_fd, path, row, identity.device) for path, row in rows)
        except FileError:
            return False
        finally:
            os.close(root_fd)
        return there > len(rows) / 2


def _is_there(root_fd: int, path: bytes, row: Recorded, device: int) -> bool:
    """Return whether the recorded file is there, untouched: no user can give a copy its change time."""
    try:
        seen: FileStat | Irregular | None = entries.look(root_fd, os.fsdecode(path))
    except FileError:
        return False
    return seen == row.stat._replace(device=device)
