"""Finds out what a file system does with names, by making some in their own directory.

The result is valid for the process, as long as the store's marker stays the same file.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import Literal

from syncd.storage.dir.files import (
    OPEN_DIRECTORY,
    OPEN_NEW,
    closing,
    make_directory,
    open_subdirectory,
    remove_file,
)
from syncd.storage.dir.names import POSIX, PRIVATE, SHORTEST_LIMIT, WINDOWS, Traits

_SUSPECTS = "".join(map(chr, range(1, 32))) + '\x7f"*:<>?\\|'
_ENDS = ". "
_COMPOSED, _DECOMPOSED = "\u00e9", "e\u0301"
_CHINESE = "\u4e2d"
_LENGTHS = (255, 143, 100)
"""In bytes: most file systems, eCryptfs, some others."""
_ABOUT_THE_NAME = (
    errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST,
    errno.ENOTDIR, errno.EISDIR, errno.EOPNOTSUPP,
)  # fmt: skip


def ask(root: int, private: int, staging: bytes) -> tuple[Traits, bool]:
    """Return the traits of the store's file system, and whether probing worked.

    If it can hold no new file (full, or mounted read-only), a lookup of our own directory in another case
    decides between the two common kinds.
    """
    other = PRIVATE.upper()
    folds = _exists(root, other) and os.fsdecode(other) not in os.listdir(root)
    name = b"names-" + secrets.token_hex(8).encode()
    try:
        with closing(open_subdirectory(private, staging)) as parent:
            make_directory(parent, name, 0o700)
            try:
                with closing(os.open(name, OPEN_DIRECTORY, dir_fd=parent)) as directory:
                    return _Probe(directory).traits(folds), True
            finally:
                os.rmdir(name, dir_fd=parent)
    except OSError:
        return (WINDOWS if folds else POSIX), False


class _Probe:
    """Probes an empty directory, which is empty again after each probe. Raises OSError."""

    def __init__(self, directory: int) -> None:
        self._directory = directory

    def traits(self, folds: bool) -> Traits:
        if not self._keeps("plain"):
            raise OSError(errno.EIO, "the file system does not keep a plain name")
        length = next((size for size in _LENGTHS if self._keeps("n" * size)), SHORTEST_LIMIT)
        folds = self._folds() or folds
        devices = not self._keeps("con")
        if self._keeps(f"Aa{_COMPOSED}{_DECOMPOSED}{_CHINESE}{_SUSPECTS} .") and self._keeps("end "):
            return Traits(length, folds, refuses_devices=devices)
        unfit = {each for each in _SUSPECTS if not self._keeps(f"a{each}a")}
        if not self._keeps("Aa"):
            unfit |= {chr(code) for code in range(ord("A"), ord("Z") + 1)}
        at_end = {each for each in _ENDS if not self._keeps(f"end{each}")}
        ascii_only = not self._keeps(_CHINESE)
        form: Literal["", "NFC", "NFD"] = ""
        if not self._keeps(_COMPOSED):
            form = "NFD"
        elif not self._keeps(_DECOMPOSED):
            form = "NFC"
        return Traits(length, folds, frozenset(unfit), frozenset(at_end), form, ascii_only, devices)

    def _folds(self) -> bool:
        """Return whether a file is also found by a name that it does not have."""
        pairs = (("Aa", "aA"), (_COMPOSED, _DECOMPOSED), (_COMPOSED, _COMPOSED.upper()))
        return any(self._is_found(name, other) for name, other in pairs)

    def _is_found(self, name: str, other: str) -> bool:
        if not self._make(name):
            return False
        found = _exists(self._directory, other.encode())
        self._clear()
        return found

    def _keeps(self, name: str) -> bool:
        """Return whether a file can have exactly this name."""
        return self._make(name) and self._clear() == [name]

    def _make(self, name: str) -> bool:
        try:
            os.close(os.open(name.encode(), OPEN_NEW, 0o600, dir_fd=self._directory))
        except OSError as error:
            if error.errno in _ABOUT_THE_NAME:
                return False
            raise
        return True

    def _clear(self) -> list[str]:
        """Remove every file; return their names."""
        listed = [os.fsencode(name) for name in os.listdir(self._directory)]
        for name in listed:
            remove_file(self._directory, name)
        return [name.decode(errors="replace") for name in listed]


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True
