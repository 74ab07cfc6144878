"""Objects for empty folders: in a directory they are folders, which stay while they are empty.

The object ``a/`` is the folder ``a`` with a record in ``.syncd/meta/``, or an empty one: another program may
have made it. The record is made first and removed first, so no unwanted folder stays.
"""

from __future__ import annotations

import contextlib
import os

import xxhash

from syncd.core.errors import MISTAKE, PreconditionFailed, StoreRefused
from syncd.core.model import ObjectInfo, ObjectMeta
from syncd.core.paths import FOLDER
from syncd.storage.dir.files import closing
from syncd.storage.dir.names import names_of
from syncd.storage.dir.record import Record, Sidecars, etag_of, info_from
from syncd.storage.dir.root import Opened
from syncd.storage.dir.tree import Tree

_NOTHING = xxhash.xxh3_128_digest(b"")
ETAG = etag_of(_NOTHING, 0)


class Folders:
    """The folders among the objects. Changes need the lock of the key."""

    def __init__(self, tree: Tree, sidecars: Sidecars) -> None:
        self._tree = tree
        self._sidecars = sidecars

    def find(self, store: Opened, key: str) -> ObjectInfo | None:
        """Return the folder of `key`; None: there is none."""
        fd = self._tree.find_folder(store, _names(store, key))
        if fd is None:
            return None
        with closing(fd):
            return self.described(store, key, fd)

    def described(self, store: Opened, key: str, fd: int) -> ObjectInfo | None:
        """Describe the open folder; None: it has files, and is no object. Raises OSError."""
        record = self._sidecars.read(store.private, key)
        if record is not None:
            return info_from(record, key)
        if os.listdir(fd):
            return None
        return ObjectInfo(key, 0, ETAG, _NOTHING, os.fstat(fd).st_mtime_ns, foreign=True)

    def put(self, store: Opened, key: str, size: int, meta: ObjectMeta, if_match: str | None) -> None:
        """Make the folder if it is missing. Raises StoreRefused, PreconditionFailed."""
        names, before = _names(store, key), self.find(store, key)
        if size:
            raise StoreRefused("the key is that of a folder, and the object has content", hint=MISTAKE)
        if if_match is not None and if_match != (before.etag if before else ""):
            raise PreconditionFailed(
                "the object in the store's directory was replaced since syncd looked at it"
            )
        self._sidecars.write(store.private, key, Record(meta, ETAG, 0, meta.mtime_ns))
        with closing(self._tree.make_folder(store, names)) as fd, contextlib.suppress(OSError):
            os.utime(fd, ns=(meta.mtime_ns, meta.mtime_ns))

    def remove(self, store: Opened, key: str) -> None:
        """Remove the folder's record, and the folder if it is empty."""
        self._sidecars.drop(store.private, key)
        self._tree.prune(store, _names(store, key), is_told=True)


def _names(store: Opened, key: str) -> tuple[bytes, ...]:
    return names_of(key.removesuffix(FOLDER), store.traits)
