"""Is the root of a source the directory that we know?

A root that is missing, empty or another directory than before says nothing about its files. It is accepted if
it holds the files that we recorded (their disk got another number), or if the operator says that it was
replaced on purpose; then deletions wait for a confirmation of their own.
"""

from __future__ import annotations

import logging
import os

from syncd.core.errors import FileChanged, FileError
from syncd.core.model import FileStat, Irregular, Recorded, RootIdentity, Source
from syncd.sources import files
from syncd.state.state import State

log = logging.getLogger("syncd.scan")

EMPTY = (
    "the source is empty, but files from it have been uploaded. Is a disk not mounted? "
    "If it is meant to be empty, put any file into it"
)
"""A mount point without its disk looks like that. A root with a single file in it is believed."""
SAMPLE = 200
"""Recorded files that are looked for when a root has another identity than it had."""


def check_root(
    source: Source, known: RootIdentity | None, has_records: bool
) -> tuple[RootIdentity | None, str | None]:
    """Which directory the root is now (None: none), and why it must not be believed, or None."""
    try:
        descriptor = os.open(source.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        gone = error.errno in files.GONE
        return None, "the root is missing" if gone else f"the root cannot be read: {error.strerror}"
    try:
        identity = files.identity_of(descriptor)
        if known is not None and identity != known:
            what = "another directory" if identity.device == known.device else "on another device"
            return identity, f"the root is {what} than it was; was something mounted, unmounted or replaced?"
        with os.scandir(descriptor) as entries:
            if has_records and next(entries, None) is None:
                return identity, EMPTY
        return identity, None
    except FileError as error:
        return None, f"the root cannot be read: {error}"
    except OSError as error:
        return None, f"the root cannot be read: {error.strerror}"
    finally:
        os.close(descriptor)


def open_root(path: str, identity: RootIdentity | None) -> int:
    """The root, if it is still that directory. Raises FileError."""
    root_fd = files.open_root(path)
    try:
        if files.identity_of(root_fd) != identity:
            raise FileChanged("it was replaced during the scan")
    except FileError:
        os.close(root_fd)
        raise
    return root_fd


class RootGuard:
    """Judges the root of one source. For one thread, except `accept`."""

    def __init__(self, source: Source, state: State) -> None:
        self._source = source
        self._state = state
        self._accepted = False
        self.replaced = False
        """The last `look` accepted another directory as the root, because the operator said so."""

    def accept(self) -> None:
        """The operator says that the root is another directory on purpose: the next `look` accepts it."""
        self._accepted = True

    def look(self) -> tuple[RootIdentity | None, str]:
        """Which directory the root is, and why it must not be believed; empty if it may be.

        A root that may be believed is recorded as known. Raises StateError.
        """
        name, self.replaced = self._source.name, False
        if self._source.given and os.path.realpath(self._source.given) != self._source.root:
            return None, "the link to the root leads elsewhere now; reload the configuration if that is meant"
        accepted, self._accepted = self._accepted, False  # it holds for what is there now
        known = self._state.root_identity(name)
        has_records = self._state.recorded_totals(name)[0] > 0
        identity, doubt = check_root(self._source, known, has_records)
        if identity is None or identity == known:
            return identity, doubt or ("" if identity else "the root is missing")
        if known is not None:
            doubt = self._judge_other(known, identity, doubt or "", accepted=accepted)
        if not doubt:
            self._state.set_root_identity(name, identity)
        return identity, doubt or ""

    def _judge_other(self, known: RootIdentity, identity: RootIdentity, doubt: str, *, accepted: bool) -> str:
        name = self._source.name
        if self._holds_our_files(identity):
            log.info("%s: the same files under another device or inode: accepted", name)
        elif accepted:
            log.warning("%s: the root is another directory, as the operator says", name)
            self.replaced = True
        else:
            return f"{doubt} If this is meant: syncd sync --accept-root {name}"
        if known.device != identity.device:  # else what is gone would always count as not mounted
            self._state.renumber_device(name, known.device, identity.device)
        return ""

    def _holds_our_files(self, identity: RootIdentity) -> bool:
        """Whether that directory holds the files that we recorded: then its disk got another number.

        By now another directory may be mounted at its path, and must not answer for it.
        """
        rows = self._state.recorded_page(self._source.name, None, SAMPLE)
        if not rows:
            return False
        try:
            root_fd = files.open_root(self._source.root)
        except FileError:
            return False
        try:
            if files.identity_of(root_fd) != identity:
                return False
            there = sum(_is_there(root_fd, os.fsdecode(path), row) for path, row in rows)
        except FileError:
            return False
        finally:
            os.close(root_fd)
        return there > len(rows) / 2


def _is_there(root_fd: int, path: str, row: Recorded) -> bool:
    try:
        seen: FileStat | Irregular | None = files.look(root_fd, path)
    except FileError:
        return False
    return isinstance(seen, FileStat) and seen.size == row.stat.size and seen.mtime_ns == row.stat.mtime_ns
