"""What the `dir` store records about an object besides its bytes, and where.

A record is one JSON text. It is in the extended attribute ``user.syncd`` of the object, set before the object
gets its name. On a file system without such attributes it is in ``.syncd/meta/``, under the hash of the key.
There the order is: remove the old record, place the object, write the new record. A crash in between leaves
an object without a record, which is read and hashed on request.

A record is valid only while the file has its size and mtime. Any other file was changed by hand.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat as modes

import xxhash
from msgspec import Struct

from syncd.core.model import Attributes, Fingerprint, ObjectInfo, ObjectMeta
from syncd.storage import attributes
from syncd.storage.dir.files import (
    closing,
    open_subdirectory,
    read_file,
    remove_file,
    sync_directory,
    write_file,
)

ATTRIBUTE = "user.syncd"
_SIDECARS = b"meta"
_LONGEST_RECORD = 64 << 10
_NO_ATTRIBUTES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.ENOSPC)
"""ext4 has room for 4 KiB of attributes, and says ENOSPC when that is full."""
_COARSE_CLOCKS_NS = (1, 100, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000)
"""Resolutions of mtime among file systems: ext4 1 ns, NTFS and SMB 100 ns, FAT 2 s."""


class Record(Struct, frozen=True):
    """Metadata of one object."""

    meta: ObjectMeta
    etag: str
    size: int
    """Bytes of stored content."""
    file_mtime_ns: int
    """The mtime that the file system showed once the object was written."""

    def fits(self, stat: os.stat_result) -> bool:
        """Return whether the file is still the one written, as far as a stat shows.

        A network or FAT file system may first show the exact time and later round it down.
        """
        wanted = self.file_mtime_ns
        rounded = {wanted - wanted % resolution for resolution in _COARSE_CLOCKS_NS}
        return stat.st_size == self.size and stat.st_mtime_ns in rounded

    def encode(self) -> bytes:
        """Return the JSON that is kept on or beside the object."""
        fields = meta_to_json(self.meta)
        fields |= {"etag": self.etag, "stored-size": self.size, "file-mtime-ns": self.file_mtime_ns}
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, text: bytes) -> Record | None:
        """Return the record in `text`; None: it has none (others may write there, too)."""
        try:
            fields = json.loads(text)
            return cls(
                meta=meta_from_json(fields),
                etag=str(fields["etag"]),
                size=int(fields["stored-size"]),
                file_mtime_ns=int(fields["file-mtime-ns"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def meta_to_json(meta: ObjectMeta) -> dict[str, object]:
    """Return `ObjectMeta` as JSON values."""
    return {
        "syncd-xxh128": meta.fingerprint.hex,
        "size": meta.fingerprint.size,
        "mtime-ns": meta.mtime_ns,
        "token": meta.token,
        "content-type": meta.content_type,
        "mode": meta.mode,
        "instance": meta.instance,
        "link": meta.is_link,
        "attributes": attributes.to_texts(meta.attributes or Attributes(), is_folder=meta.is_folder),
    }


def meta_from_json(fields: dict[str, object]) -> ObjectMeta:
    """Reverse `meta_to_json`. Raises KeyError, ValueError or TypeError."""
    return ObjectMeta(
        fingerprint=Fingerprint(bytes.fromhex(str(fields["syncd-xxh128"])), int(str(fields["size"]))),
        mtime_ns=int(str(fields["mtime-ns"])),
        token=str(fields["token"]),
        content_type=str(fields["content-type"]),
        mode=int(str(fields.get("mode", 0o600))),  # older versions wrote neither this
        instance=str(fields.get("instance", "")),  # nor this
        attributes=attributes.from_texts(_texts(fields.get("attributes"))),  # nor these
        is_link=bool(fields.get("link")),  # nor this
    )


def _texts(fields: object) -> dict[str, str]:
    return {str(key): str(text) for key, text in fields.items()} if isinstance(fields, dict) else {}


def etag_of(digest: bytes, size: int) -> str:
    """Return the ETag of an object that was stored whole."""
    return f"{digest.hex()}-{size}"


def info_from(record: Record, key: str) -> ObjectInfo:
    """Describe an object by a record that fits."""
    meta = record.meta
    return ObjectInfo(
        key,
        record.size,
        record.etag,
        meta.fingerprint.digest,
        meta.mtime_ns,
        meta.token or None,
        mode=meta.mode,
        instance=meta.instance or None,
        attributes=meta.attributes,
        is_link=meta.is_link,
    )


def seal(fd: int, meta: ObjectMeta, etag: str) -> tuple[Record, bool]:
    """Give a finished file its mtime and, if the file system can, its record; make it durable.

    Return the record, and whether the file carries it.
    """
    with contextlib.suppress(PermissionError, NotImplementedError):  # not every network file system lets us
        os.utime(fd, ns=(meta.mtime_ns, meta.mtime_ns))
    stat = os.fstat(fd)
    record = Record(meta, etag, stat.st_size, stat.st_mtime_ns)
    attached = True
    try:
        os.setxattr(fd, ATTRIBUTE, record.encode())
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
        attached = False
    if meta.attributes is not None:
        _adorn(fd, meta.attributes)
    os.fsync(fd)
    return record, attached


def _adorn(fd: int, wanted: Attributes) -> None:
    """Give the file those attributes that it may have; its record has all.

    It stays ours: another owner could change file and record together, and no check would notice. So it gets
    no owner, and neither setuid nor setgid, which would apply to us. Users who may read it may execute it.
    """
    for name, value in wanted.xattrs:
        if name.startswith("user."):
            with contextlib.suppress(OSError):
                os.setxattr(fd, os.fsencode(name), value)
    mode = modes.S_IMODE(os.fstat(fd).st_mode)
    if more := (wanted.mode or 0) & 0o111 & (mode >> 2) & ~mode:
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, mode | more)


def keep_others(source: int, fd: int, before: ObjectInfo) -> None:
    """Keep other programs' extended attributes when an object is copied onto itself."""
    ours = {ATTRIBUTE, *(name for name, _ in (before.attributes or Attributes()).xattrs)}
    with contextlib.suppress(OSError):  # the file system has none
        for name in os.listxattr(source):
            if name.startswith("user.") and name not in ours:
                os.setxattr(fd, name, os.getxattr(source, name))


def read_attached(fd: int) -> Record | None:
    """Return the record that a file carries, or None."""
    try:
        return Record.decode(os.getxattr(fd, ATTRIBUTE))
    except OSError as error:
        if error.errno in (errno.ENODATA, *_NO_ATTRIBUTES):
            return None
        raise


class Sidecars:
    """Records beside the objects, for file systems without extended attributes.

    ``private`` is always a descriptor of the store's ``.syncd`` directory.
    """

    def read(self, private: int, key: str) -> Record | None:
        """Return the record of `key`; None: there is none, or it is unreadable."""
        try:
            directory = os.open(_SIDECARS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=private)
        except FileNotFoundError:
            return None
        with closing(directory):
            text = read_file(directory, _sidecar_name(key), _LONGEST_RECORD)
        return None if text is None else Record.decode(text)

    def drop(self, private: int, key: str) -> None:
        """Remove the record, durably, before the object that it describes is replaced."""
        try:
            directory = os.open(_SIDECARS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=private)
        except FileNotFoundError:
            return
        with closing(directory):
            if remove_file(directory, _sidecar_name(key)):
                sync_directory(directory)

    def write(self, private: int, key: str, record: Record) -> None:
        """Record the object that was just placed."""
        with closing(open_subdirectory(private, _SIDECARS)) as directory:
            temporary = secrets.token_hex(8).encode() + b".tmp"
            write_file(directory, _sidecar_name(key), temporary, record.encode())


def _sidecar_name(key: str) -> bytes:
    return xxhash.xxh3_128_hexdigest(key.encode()).encode() + b".json"
