"""The rules of a restore: where an object goes, what becomes of an existing file, and what proves a copy.

A key is not trusted. Every name in it is used as one component of a path. A name that no file can have
(``..``, empty, NUL) is refused with a reason; the file system refuses others itself.
"""

from __future__ import annotations

import unicodedata
from enum import Enum
from typing import NamedTuple

from syncd.core.model import ObjectInfo
from syncd.core.paths import LINK, LONGEST_TARGET_BYTES, is_link_key, key_for, path_for

DRAFT = ".syncd-restore-"
"""Begins the names of unfinished files."""
COARSEST_CLOCK_NS = 2 * 10**9
"""FAT keeps times in steps of two seconds."""


class Overwrite(Enum):
    """What happens to an existing file that differs."""

    NEVER = "never"
    OLDER = "older"
    """It is replaced if its mtime is older than the object's."""
    ALWAYS = "always"


class Place(NamedTuple):
    """Where an object goes."""

    path: str
    """Relative, ``/`` between components, surrogate-escaped; empty: the restored folder itself."""
    is_folder: bool = False
    """The object marks a folder."""
    rival: str = ""
    """Another key that would go to the same place, if it has an object."""
    is_link: bool = False
    """The object stands for a symbolic link, unless it is one of ours and says otherwise."""


class Refused(NamedTuple):
    """Why an object has no place."""

    reason: str


def place_of(prefix: str, key: str, size: int) -> Place | Refused:
    """Return where the object of `size` bytes under `key` goes, below the folder of `prefix`."""
    if not key.startswith(prefix):
        return Refused("the key does not begin with the prefix")
    below = key[len(prefix) :]
    if size == 0 and not below:
        return Place("", is_folder=True)
    is_folder = size == 0 and below.endswith("/")
    if is_folder:
        below = below[:-1]
    if reason := _why_no_path(below):
        return Refused(reason)
    path, is_link = path_for("", below), is_link_key(below) and 0 < size <= LONGEST_TARGET_BYTES
    if path is not None:
        return Place(path if is_link or not is_link_key(below) else path + LINK, is_folder, is_link=is_link)
    # Another program's: syncd never makes such a key, and takes it as written.
    path = below.removesuffix(LINK) if is_link else below
    return Place(path, is_folder, rival=key_for(prefix, path, is_link=is_link), is_link=is_link)


def folded(path: str, *, case: bool, form: bool) -> str:
    """Return a form of the path that is the same for all paths that a file system treats as one: it may
    ignore `case`, or the `form` in which an accent is written.
    """
    if form:
        path = unicodedata.normalize("NFC", path)
    return path.lower() if case else path


def _why_no_path(below: str) -> str | None:
    try:
        below.encode()
    except UnicodeEncodeError:
        return "the key is not text"
    if "\0" in below:
        return "the key contains a NUL character, which no file name can contain"
    if below.startswith("/"):
        return "the key is an absolute path"
    names = below.split("/")
    for name in names:
        if name == "":
            return "the key has an empty component, which is not a file name"
        if name in (".", ".."):
            return f"the key has the component {name}, which is not a file name"
    if names[-1].startswith(DRAFT):
        return "the name is one that unfinished files have during a restore"
    return None


# ---- a file that is there already -------------------------------------------------------------------------


class Existing(NamedTuple):
    """A regular file where an object is to go."""

    size: int
    mtime_ns: int
    identity: tuple[int, int, int]
    """Device, inode and ctime, to see whether it is still the same file."""


def may_be_same(existing: Existing, size: int, mtime_ns: int | None) -> bool:
    """Return whether the contents may be equal. Another program's object may have no mtime."""
    if existing.size != size:
        return False
    return mtime_ns is None or abs(existing.mtime_ns - mtime_ns) < COARSEST_CLOCK_NS


def why_kept(existing: Existing, mtime_ns: int | None, overwrite: Overwrite) -> str | None:
    """Return why a file that differs stays; None: it is replaced."""
    if overwrite is Overwrite.ALWAYS:
        return None
    if overwrite is Overwrite.NEVER:
        return "a file that differs is there"
    if mtime_ns is None:
        return "a file that differs is there, and the object has no mtime to compare"
    if existing.mtime_ns >= mtime_ns:
        return "a file that differs and is not older is there"
    return None


# ---- proof ------------------------------------------------------------------------------------------------


class Proof(NamedTuple):
    """What a copy of the content must have."""

    kind: str
    """``xxh128``, ``crc32`` or ``md5``."""
    value: bytes


def proof_of(info: ObjectInfo) -> Proof | None:
    """Return the best witness: our digest, then an MD5, then the store's CRC-32; None: there is none."""
    if info.digest is not None:
        return Proof("xxh128", info.digest)
    if info.md5 is not None:
        return Proof("md5", info.md5)
    if info.crc32 is not None:
        return Proof("crc32", info.crc32.to_bytes(4, "big"))
    return None
