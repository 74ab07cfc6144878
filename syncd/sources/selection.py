"""What leaves files out besides patterns: a marker in a folder above them, another file system, one that the
kernel generates, or their size.

Folders are checked through descriptors, from the root downward, each time, because markers come and go.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator
from contextlib import suppress

from syncd.core.model import FileStat, Irregular, Recorded, Source
from syncd.core.patterns import Verdict
from syncd.core.words import human
from syncd.sources import directories, mounts

CACHE_TAG = "CACHEDIR.TAG"
_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""The first bytes of a file of that name. Source: https://bford.info/cachedir/"""
_TAG = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


_KINDS = {
    "one_file_system": "directory on another file system",
    "made_up": "directory made up by the kernel",
}


def marker_in(descriptor: int, source: Source) -> str:
    """Return the name of a marker in an open directory; empty: there is none."""
    for name in source.exclude_if_present:
        with suppress(OSError):  # there is none, or it cannot be read
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if name == CACHE_TAG:
                if modes.S_ISREG(found.st_mode) and _begins_with_signature(name, descriptor):
                    return name
            elif not modes.S_ISDIR(found.st_mode):
                return name
    return ""


def _begins_with_signature(name: str, descriptor: int) -> bool:
    tag = os.open(name, _TAG, dir_fd=descriptor)
    try:
        return os.pread(tag, len(_SIGNATURE), 0) == _SIGNATURE
    finally:
        os.close(tag)


def of_folder(root_fd: int, descriptor: int, source: Source, path: str) -> Verdict | None:
    """Return why the open directory at `path` is left out; None: it is not. Raises OSError."""
    device = os.fstat(descriptor).st_dev
    if device != os.fstat(root_fd).st_dev:
        if source.one_file_system:
            return Verdict(False, "one_file_system", "true", path)
        begins_here = device != os.stat("..", dir_fd=descriptor).st_dev
        if begins_here and mounts.is_made_up(kind := mounts.type_of(device)):
            return Verdict(False, "made_up", kind, path)
    if source.exclude_if_present and (name := marker_in(descriptor, source)):
        return Verdict(False, "exclude_if_present", name, path)
    return None


def of_way(root_fd: int, source: Source, directory: str) -> Verdict | None:
    """Return why `directory` below the root, or one above it, is left out; None: none of those there is."""
    ways, found = _downward(directory), list[Verdict]()

    def passed(descriptor: int) -> None:
        path = next(ways)
        if not found and (verdict := of_folder(root_fd, descriptor, source, path)) is not None:
            found.append(verdict)

    with suppress(OSError):  # a look at the file meets the same error
        os.close(directories.open_directory(root_fd, directory, passed))
    return found[0] if found else None


def of_size(
    source: Source, path: str, seen: FileStat | Irregular | None, recorded: Recorded | None
) -> Verdict | None:
    """Return why a file is too large; None: it is not. A missing file has its recorded size."""
    size = seen.size if isinstance(seen, FileStat) else recorded.fingerprint.size if recorded else 0
    if source.max_size and size > source.max_size:
        return Verdict(False, "max_size", human(source.max_size), path)
    return None


def kind_of(verdict: Verdict) -> str:
    """Return the words under which such verdicts are counted."""
    if verdict.key == "exclude_if_present":
        return f"directory with {verdict.pattern}"
    return _KINDS.get(verdict.key, "file over max_size")


def _downward(path: str) -> Iterator[str]:
    yield ""
    at = -1
    while path and (at := path.find("/", at + 1)) >= 0:
        yield path[:at]
    yield path
