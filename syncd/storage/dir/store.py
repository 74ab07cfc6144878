"""A store in a plain directory: a NAS mount, a second disk, the default without an account.

Objects are files at their natural paths (`names`, `tree`), with their metadata in an extended attribute or
beside them (`record`); unfinished uploads (`uploads`) and unfinished files lie in ``.syncd`` below
the root (`root`), on the same file system.

An object gets its name in one rename, after its bytes, its mtime and its record are durable. The name is
durable before any caller learns of it. A crash leaves the old object or the new one, never a mixture.

ETag: XXH3-128 of the content in hex, a dash, the size; for an object made of parts, what `uploads.join`
returns. An object changed by hand since it was stored is never taken for ours: its content is read and
hashed. Nor is a copy that the store makes: rot changes neither size nor mtime, so the copy is read, and
refused if it does not match the record of its source.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat as stat_module
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import xxhash
from msgspec.structs import replace

from syncd.core.errors import MISTAKE, RENAME, VERIFY, PreconditionFailed, StoreRefused, StoreUnavailable
from syncd.core.model import Content, Fingerprint, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.core.paths import is_folder, is_link_key
from syncd.storage.base import EVERY_PART, Body, Heartbeat, Memory, Meter, ObjectStore, Pages, StoreLimits
from syncd.storage.digests import zeros
from syncd.storage.dir import uploads as dir_uploads
from syncd.storage.dir.files import (
    OPEN_NEW,
    closing,
    copy_range,
    digest_of_range,
    errors_of_ours,
    is_unwritten,
    narrow_group,
    open_subdirectory,
    read_into,
    read_range,
    refuse_exposed,
    write_sparse,
)
from syncd.storage.dir.folders import ETAG, Folders
from syncd.storage.dir.links import Links
from syncd.storage.dir.listing import ObjectWalk
from syncd.storage.dir.names import key_of, names_of
from syncd.storage.dir.record import Sidecars, etag_of, info_from, keep_others, read_attached, seal
from syncd.storage.dir.root import STAGING, Opened, Root, discard
from syncd.storage.dir.tree import Link, Tree
from syncd.storage.settings import DirSettings

LIMITS = StoreLimits(
    min_part_size=1,
    max_part_size=5 << 30,
    max_parts=dir_uploads.MAX_PARTS,
    max_put_size=5 << 30,
    max_object_size=1 << 62,
    max_key_bytes=3072,  # with the root before it, well below the kernel's 4096 for a path
    describes_by_reading=True,
    max_xattr_bytes=16 << 10,
    has_conditions=True,
)
_KEY_LOCKS = 64
_FICLONE = 0x40049409  # linux/fs.h


class DirStore(ObjectStore):
    """`ObjectStore` on a directory.

    `instance` recalls the identity that the directory's marker must have; if it recalls none, the present one
    is remembered. The root is created only if the settings say so.
    """

    def __init__(
        self,
        settings: DirSettings,
        instance: Memory = Memory(),
        meter: Meter = Meter(),
        heartbeat: Heartbeat = Heartbeat(),
        *,
        now_ns: Callable[[], int] = time.time_ns,
        copied: Callable[[str], object] = lambda store_id: None,
    ) -> None:
        path = os.path.abspath(settings.path)
        self._store_id = store_id = "dir:" + os.fsencode(path).decode(errors="backslashreplace")
        self._root = Root(
            path,
            instance.recall(store_id),
            now_ns(),
            create=settings.create,
            on_instance=lambda found: instance.remember(store_id, found),
            on_copy=lambda: copied(store_id),
        )
        self._meter = meter
        self._heartbeat = heartbeat
        self._sidecars = Sidecars()
        self._tree = Tree(self._has_record)
        self._links = Links(self._tree, self._sidecars)
        self._folders = Folders(self._tree, self._sidecars)
        self._now_ns = now_ns
        self._key_locks = [threading.Lock() for _ in range(_KEY_LOCKS)]

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def limits(self) -> StoreLimits:
        return LIMITS

    @property
    def instance(self) -> str:
        """The identity of the directory, from its marker; empty until a verb is called."""
        return self._root.instance

    # ---- whole objects -----------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        if len(body) > LIMITS.max_put_size:
            raise StoreRefused("the body is too large for one request", hint=MISTAKE)
        etag = etag_of(xxhash.xxh3_128_digest(body), len(body))
        with self._opened("store the object", body) as store:
            if is_folder(key):
                with self._lock_for(key):
                    self._folders.put(store, key, len(body), meta, meta.replaces)
                return Receipt(key, etag)
            names = _names(store, key)
            if meta.is_link:
                with self._lock_for(key):
                    self._links.put(store, key, bytes(body), meta)
                return Receipt(key, etag)
            with _staged(store, meta) as (staging, name, fd):
                write_sparse(fd, body)
                self._finish(store, key, names, (staging, name, fd), (meta, etag), meta.replaces)
        return Receipt(key, etag)

    def head_object(self, key: str) -> ObjectInfo | None:
        with self._opened("look for the object") as store:
            if is_folder(key):
                return self._folders.find(store, key)
            fd = self._tree.find(store, _names(store, key))
            if fd is None:
                link = self._links.find(store, key)
                return None if link is None else link[0]
            with closing(fd):
                return self._info(store, key, fd)

    def get_object(
        self, key: str, first: int, last: int, if_match: str = "", room: memoryview | None = None
    ) -> Content:
        """A range does not hash the content: an object without a fitting record has no ETag."""
        with self._opened("read the object") as store, self._readable(store, key, room) as (info, read):
            if if_match and info.etag != if_match:
                raise PreconditionFailed(
                    "the object in the store's directory was replaced since syncd looked at it"
                )
            if not 0 <= first <= last or first >= info.size:
                raise StoreRefused("the object has no such range", hint=VERIFY)
            body = read(first, last - first + 1)
        if self._meter.received is not None:
            self._meter.received(len(body))
        return Content(info, body)

    def delete_object(self, key: str) -> None:
        with self._opened("delete the object") as store, self._lock_for(key):
            if is_folder(key):
                self._folders.remove(store, key)
                return
            names = _names(store, key)
            if not is_link_key(key):
                self._sidecars.drop(store.private, key)
            self._tree.remove(store, names)
            self._links.remove(store, key)

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        if is_folder(key) and source_key == key:
            return self.put_object(key, b"", replace(meta, replaces=ETAG))
        with self._opened("copy the object") as store, self._existing(store, source_key) as source:
            names = _names(store, key)
            info = self._matching(store, source_key, source, if_match)
            with _staged(store, meta) as (staging, name, fd):
                copy_range(source, 0, fd, info.size)
                self._matching(store, source_key, source, info.etag)
                if digest_of_range(fd, 0, info.size) != info.digest:
                    raise PreconditionFailed("the object in the store's directory is damaged: not copied")
                if source_key == key:
                    keep_others(source, fd, info)
                self._finish(store, key, names, (staging, name, fd), (meta, info.etag))
        return Receipt(key, info.etag)

    # ---- multipart uploads -------------------------------------------------------------------------------

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        with self._opened("begin an upload") as store:
            _names(store, key)
            _refuse_without_room(store, meta)
            return dir_uploads.begin(store.private, key, meta, self._now_ns())

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        if len(body) > LIMITS.max_part_size:
            raise StoreRefused("the part is too large for one request", hint=MISTAKE)
        with (
            self._opened("store a part", body) as store,
            dir_uploads.opened(store.private, key, upload_id) as upload,
        ):
            return dir_uploads.put_part(upload, number, body)

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        with (
            self._opened("copy a part") as store,
            dir_uploads.opened(store.private, key, upload_id) as upload,
            self._existing(store, source_key) as source,
        ):
            info = self._matching(store, source_key, source, if_match)
            if not 0 <= first <= last < info.size:
                raise StoreRefused("the object has no such range", hint=VERIFY)
            part = dir_uploads.copy_part(upload, number, source, first, last - first + 1)
            self._matching(store, source_key, source, info.etag)
            return part

    def list_parts(self, key: str, upload_id: str, last: int = EVERY_PART) -> list[Part]:
        """All parts; their digests are those of the stored bytes, even without a record of ours."""
        with (
            self._opened("list parts") as store,
            dir_uploads.opened(store.private, key, upload_id) as upload,
        ):
            return dir_uploads.parts_of(upload)

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        with self._opened("complete the upload") as store:
            names = _names(store, key)
            with (
                dir_uploads.opened(store.private, key, upload_id) as upload,
                _staged(store, meta) as (staging, name, fd),
            ):
                etag = dir_uploads.join(upload, parts, fd)
                self._finish(store, key, names, (staging, name, fd), (upload.meta, etag), meta.replaces)
            dir_uploads.remove(store.private, key, upload_id)
        return Receipt(key, etag)

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        with self._opened("abort the upload") as store:
            dir_uploads.remove(store.private, key, upload_id)

    def clock_ns(self) -> tuple[int, int]:
        now_ns = self._now_ns()
        return now_ns, now_ns

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        with self._opened("list uploads") as store:
            found = dir_uploads.all_of(store.private, prefix)
        yield from found

    # ---- listing -----------------------------------------------------------------------------------------

    def list_objects(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """In the order of the walk, not of keys. A file without a fitting record has no ETag until it is
        read.
        """
        walk = ObjectWalk(prefix, self._listed, self._folders.described, after)

        def page(number: int | None) -> tuple[list[ObjectInfo], int | None]:
            with self._opened("list objects") as store:
                found = walk.page(store)
            return found, (number or 0) + 1 if found else None

        return Pages(page)

    def _listed(self, store: Opened, key: str, fd: int | Link) -> ObjectInfo:
        if isinstance(fd, Link):
            return self._links.described(store, key, fd)
        stat = os.fstat(fd)
        record = read_attached(fd) or self._sidecars.read(store.private, key)
        known = record is not None and record.fits(stat)
        return ObjectInfo(key, stat.st_size, record.etag if record is not None and known else "")

    def remarks(self) -> list[str]:
        """Return how the file system differs from most."""
        private = ObjectMeta(Fingerprint(bytes(16), 0), 0, mode=0o600)
        with self._opened("ask the file system") as store:
            found = store.traits.remarks()
            try:
                with _staged(store, private) as (staging, name, _):
                    discard(staging, name)
            except StoreRefused as refused:
                found.append(f"private files fail: {refused}")
        return found

    def close(self) -> None:
        """Do nothing: verbs leave nothing open."""

    # ---- inside ------------------------------------------------------------------------------------------

    def _has_record(self, store: Opened, names: tuple[bytes, ...], ending: str) -> bool:
        """Return whether the link or folder at this path is an object, not another program's."""
        key = key_of(names, store.traits)
        return key is not None and self._sidecars.read(store.private, key + ending) is not None

    @contextlib.contextmanager
    def _opened(self, doing: str, body: Body = b"") -> Iterator[Opened]:
        """Yield the store for one verb: metered as a request, and as silent as the disk."""
        self._meter.requested()
        if len(body):
            self._meter.sent(len(body))
        self._heartbeat.rest()
        try:
            with errors_of_ours(doing), self._root.opened() as store:
                yield store
        finally:
            self._heartbeat.step()

    @contextlib.contextmanager
    def _readable(
        self, store: Opened, key: str, room: memoryview | None
    ) -> Iterator[tuple[ObjectInfo, Callable[[int, int], Body]]]:
        """Yield the object by its record, and a function that reads bytes from an offset and a size."""
        fd = self._tree.find(store, _names(store, key))
        if fd is not None:
            with closing(fd):
                info = self._recorded_info(store, key, fd)

                def read(first: int, size: int) -> Body:
                    size = min(size, info.size - first)
                    # Only if a digest of the whole shows whether the file system is wrong.
                    if info.digest is not None and is_unwritten(fd, first, size):
                        return zeros(size)
                    return read_range(fd, first, size) if room is None else read_into(room[:size], fd, first)

                yield info, read
            return
        link = self._links.find(store, key)
        if link is None:
            raise StoreRefused("there is no such object in the store's directory", hint=VERIFY)
        yield link[0], lambda first, size: link[1][first : first + size]

    @contextlib.contextmanager
    def _existing(self, store: Opened, key: str) -> Iterator[int]:
        fd = self._tree.find(store, _names(store, key))
        if fd is None:
            raise StoreRefused("there is no such object in the store's directory", hint=VERIFY)
        with closing(fd):
            yield fd

    def _matching(self, store: Opened, key: str, fd: int, if_match: str) -> ObjectInfo:
        info = self._info(store, key, fd)
        if if_match and info.etag != if_match:
            raise PreconditionFailed(
                "the object in the store's directory was replaced since syncd looked at it"
            )
        return info

    def _finish(
        self,
        store: Opened,
        key: str,
        names: tuple[bytes, ...],
        staged: tuple[int, bytes, int],
        described: tuple[ObjectMeta, str],
        replaces: str | None = None,
    ) -> None:
        """Seal the staged file with its metadata and ETag, and replace what it may replace."""
        staging, name, fd = staged
        record, attached = seal(fd, *described)
        with self._lock_for(key):
            if replaces is not None and replaces != self._etag_at(store, key, names):
                raise PreconditionFailed(
                    "the object in the store's directory was replaced since syncd looked at it"
                )
            self._sidecars.drop(store.private, key)
            self._tree.place(store, names, staging, name)
            if not attached:
                self._sidecars.write(store.private, key, record)

    def _etag_at(self, store: Opened, key: str, names: tuple[bytes, ...]) -> str:
        """Return the ETag of what is there; empty: nothing."""
        fd = self._tree.find(store, names)
        if fd is None:
            return ""
        with closing(fd):
            return self._info(store, key, fd).etag

    def _recorded_info(self, store: Opened, key: str, fd: int) -> ObjectInfo:
        """Describe the file by its record; without ETag and digest if that does not fit."""
        stat = os.fstat(fd)
        record = read_attached(fd) or self._sidecars.read(store.private, key)
        if record is not None and record.fits(stat):
            return info_from(record, key)
        mode = stat_module.S_IMODE(stat.st_mode)
        return ObjectInfo(key, stat.st_size, "", mtime_ns=stat.st_mtime_ns, foreign=True, mode=mode)

    def _info(self, store: Opened, key: str, fd: int) -> ObjectInfo:
        """Describe the file by its record if that fits, else by its content."""
        stat = os.fstat(fd)
        record = read_attached(fd) or self._sidecars.read(store.private, key)
        if record is not None and record.fits(stat):
            return info_from(record, key)
        digest = digest_of_range(fd, 0, stat.st_size)
        again = os.fstat(fd)
        if (again.st_size, again.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            raise StoreUnavailable("the object in the store's directory is being changed by another program")
        if record is not None and (record.size, record.meta.fingerprint.digest) == (stat.st_size, digest):
            return info_from(record, key)  # only touched
        return ObjectInfo(
            key,
            stat.st_size,
            etag_of(digest, stat.st_size),
            digest,
            stat.st_mtime_ns,
            foreign=True,
            mode=stat_module.S_IMODE(stat.st_mode),
        )

    def _lock_for(self, key: str) -> threading.Lock:
        """Return the lock that places versions of an object one after the other, each with its record."""
        return self._key_locks[hash(key) % _KEY_LOCKS]


def _names(store: Opened, key: str) -> tuple[bytes, ...]:
    names = names_of(key, store.traits)
    if len(key.encode()) > LIMITS.max_key_bytes:
        raise StoreRefused(f"the key is longer than {LIMITS.max_key_bytes} bytes", hint=RENAME)
    return names


def _refuse_without_room(store: Opened, meta: ObjectMeta) -> None:
    """Raise StoreRefused for a file that cannot fit, before its parts fill the disk.

    A join needs room for the parts and the whole, unless the file system shares their blocks.
    """
    size = meta.fingerprint.size
    needed = size if meta.allocated is None else min(size, meta.allocated)
    disk = os.fstatvfs(store.root)
    room = disk.f_bavail * disk.f_frsize
    if room < 2 * needed and not _shares_blocks(store):
        needed *= 2
    if disk.f_blocks and needed > room:
        raise StoreRefused(
            f"the file needs {needed} bytes, and the store's file system has {room} left",
            code="ENOSPC",
            hint="free some space there, or exclude the file",
        )


def _shares_blocks(store: Opened) -> bool:
    """Return whether copies take no room, as on Btrfs and XFS: tried with two empty files."""
    own = ObjectMeta(Fingerprint(bytes(16), 0), 0, mode=0o600)
    with _staged(store, own) as (staging, name, fd), _staged(store, own) as (_, other, copy):
        try:
            fcntl.ioctl(copy, _FICLONE, fd)
        except OSError:
            return False
        finally:
            discard(staging, name)
            discard(staging, other)
    return True


@contextlib.contextmanager
def _staged(store: Opened, meta: ObjectMeta) -> Iterator[tuple[int, bytes, int]]:
    """Yield a new staged file (directory, name, descriptor); remove it if the work fails.

    From the start, only users who may read the original may read it, and the umask narrows that. We may
    always write it: otherwise no record can be attached, and a server for Windows refuses to replace a
    read-only file.
    """
    mode = 0o600 | meta.mode & 0o066
    name = secrets.token_hex(16).encode()
    with (
        closing(open_subdirectory(store.private, STAGING)) as staging,
        closing(os.open(name, OPEN_NEW, mode, dir_fd=staging)) as fd,
    ):
        try:
            narrow_group(fd, mode)
            refuse_exposed(store.root, fd, mode)
            yield staging, name, fd
        except BaseException:
            discard(staging, name)
            raise
