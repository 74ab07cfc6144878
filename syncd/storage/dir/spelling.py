"""How names are spelled in a directory whose file system takes different names for one.

There a lookup of ``readme`` finds ``README``. Only a listing shows the spelling, so it is kept while the
directory's times stay, and dropped when syncd changes the directory.
"""

from __future__ import annotations

import os
import threading
import unicodedata
from collections import OrderedDict

from msgspec import Struct

_MOST_DIRECTORIES = 64
_MOST_NAMES = 100_000
"""Of one directory; larger ones are listed each time."""


class _Listing(Struct, frozen=True):
    times_ns: tuple[int, int]
    names: frozenset[bytes]


class Spellings:
    """The names of some directories. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listings: OrderedDict[tuple[int, int], _Listing] = OrderedDict()

    def has(self, directory: int, name: bytes) -> bool:
        """Return whether the directory has an entry of exactly this name. Raises OSError."""
        stat = os.fstat(directory)
        where, times_ns = (stat.st_dev, stat.st_ino), (stat.st_mtime_ns, stat.st_ctime_ns)
        with self._lock:  # or an old listing might be kept after a removal
            known = self._listings.get(where)
            if known is not None and known.times_ns == times_ns and name in known.names:
                return True
            # A name may be new since, in the same tick of the file system's clock.
            names = frozenset(map(os.fsencode, os.listdir(directory)))
            self._listings.pop(where, None)
            if len(names) <= _MOST_NAMES:
                self._listings[where] = _Listing(times_ns, names)
            if len(self._listings) > _MOST_DIRECTORIES:
                self._listings.popitem(last=False)
            return name in names

    def forget(self, directory: int) -> None:
        """Forget a changed directory. Raises OSError."""
        stat = os.fstat(directory)
        with self._lock:
            self._listings.pop((stat.st_dev, stat.st_ino), None)


def spelled_in(directory: int, name: bytes) -> bytes:
    """Return the name of the entry that `name` leads to. Raises OSError."""
    names = sorted(map(os.fsencode, os.listdir(directory)))
    alike = [other for other in names if _folded(other) == _folded(name)]
    if alike:
        return alike[0]
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    for other in names:
        if os.path.samestat(found, os.stat(other, dir_fd=directory, follow_symlinks=False)):
            return other
    return name


def _folded(name: bytes) -> str:
    return unicodedata.normalize("NFKC", name.decode(errors="surrogateescape").casefold())
