"""Directories that a restore must not write to: watched ones, and those of stores and of the state."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from syncd.sources import mounts, places


class Closed(NamedTuple):
    """A directory that must not be written to."""

    label: str
    around: bool = False
    """A restore may not go to a directory around it either."""


def why_closed(path: str, closed: Mapping[str, Closed]) -> str | None:
    """Return why nothing may be restored to the resolved `path`; None: it may.

    `closed` names what must not be written to, by resolved path. They are compared as paths, as places in
    their file systems and, if those are unknown, by inode: a directory may be mounted in two places.
    """
    here, at = identity(path), mounts.origin(path)
    above = {identity(each) for each in _and_above(path)}
    for other, (label, around) in closed.items():
        there, where = identity(other), mounts.origin(other)
        if _is_inside(path, other) or (there is not None and there in above) or _is_inside(at, where):
            return f"it is inside {label}"
        if not around:
            continue
        is_around = here is not None and here in map(identity, _and_above(other))
        if _is_inside(other, path) or is_around or _is_inside(where, at):
            return f"{label} is inside it"
    return None


def _is_inside(path: str, other: str) -> bool:
    return bool(other) and f"{path.rstrip('/')}/".startswith(f"{other.rstrip('/')}/")


def _and_above(path: str) -> Iterator[str]:
    while True:
        yield path
        above = os.path.dirname(path)
        if above == path:
            return
        path = above


def identity(path: str) -> tuple[int, int] | None:
    """Return the identity of a directory; None: its file system does not answer, so only its path tells."""
    if places.silence(path):
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
