"""Objects for symbolic links: in a directory they are links, at the path of the original.

A link can carry no record, so the record is in ``.syncd/meta/``. The object ``a.rclonelink`` is the link
``a``; a file of the name ``a.rclonelink`` takes precedence, since it may be from before links were carried.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat as modes

import xxhash

from syncd.core.errors import VERIFY, PreconditionFailed, StoreRefused
from syncd.core.model import ObjectInfo, ObjectMeta
from syncd.core.paths import LINK, is_link_key
from syncd.storage.dir.files import closing, open_subdirectory
from syncd.storage.dir.names import names_of
from syncd.storage.dir.record import Record, Sidecars, etag_of, info_from
from syncd.storage.dir.root import STAGING, Opened, discard
from syncd.storage.dir.tree import Link, Tree

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class Links:
    """The links among the objects. Changes need the lock of the key."""

    def __init__(self, tree: Tree, sidecars: Sidecars) -> None:
        self._tree = tree
        self._sidecars = sidecars

    def find(self, store: Opened, key: str) -> tuple[ObjectInfo, bytes] | None:
        """Return the link of `key`, and its target; None: there is none."""
        names = _names(store, key)
        link = self._tree.find_link(store, names) if names else None
        return None if link is None else (self.described(store, key, link), link.target)

    def described(self, store: Opened, key: str, link: Link) -> ObjectInfo:
        """Describe the link, by its record if that fits."""
        record, digest = self._sidecars.read(store.private, key), xxhash.xxh3_128_digest(link.target)
        if record is not None and record.fits(link.stat) and record.meta.fingerprint.digest == digest:
            return info_from(record, key)
        etag, size = etag_of(digest, len(link.target)), len(link.target)
        mtime_ns = link.stat.st_mtime_ns
        return ObjectInfo(key, size, etag, digest, mtime_ns, foreign=True, is_link=True)

    def put(self, store: Opened, key: str, target: bytes, meta: ObjectMeta) -> None:
        """Make the link, replacing what has its path. Raises StoreRefused, PreconditionFailed."""
        names = _names(store, key)
        if names is None or not target or b"\0" in target:
            raise StoreRefused("the object is not a symbolic link", hint=VERIFY)
        before = self.find(store, key)
        if meta.replaces is not None and meta.replaces != (before[0].etag if before else ""):
            raise PreconditionFailed(
                "the object in the store's directory was replaced since syncd looked at it"
            )
        with closing(open_subdirectory(store.private, STAGING)) as staging:
            staged = secrets.token_hex(16).encode()
            try:
                os.symlink(target, staged, dir_fd=staging)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StoreRefused(
                    "the store's file system has no symbolic links",
                    hint="set `symlinks: skip` for the source",
                ) from error
            try:
                os.utime(staged, ns=(meta.mtime_ns, meta.mtime_ns), dir_fd=staging, follow_symlinks=False)
                stat = os.stat(staged, dir_fd=staging, follow_symlinks=False)
                etag = etag_of(meta.fingerprint.digest, len(target))
                # First: a link without a record counts as another program's, and blocks a folder.
                record = Record(meta, etag, stat.st_size, stat.st_mtime_ns)
                self._sidecars.write(store.private, key, record)
                self._tree.place(store, names, staging, staged)
            except BaseException:
                discard(staging, staged)
                raise

    def remove(self, store: Opened, key: str) -> None:
        """Remove the link, if any, then its record, which marks it as ours."""
        names = _names(store, key)
        if names is not None:
            self._tree.remove(store, names, modes.S_IFLNK)
            self._sidecars.drop(store.private, key)


def _names(store: Opened, key: str) -> tuple[bytes, ...] | None:
    return names_of(key.removesuffix(LINK), store.traits) if is_link_key(key) else None
