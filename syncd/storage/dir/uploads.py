"""Unfinished multipart uploads of the `dir` store.

An upload is a directory ``.syncd/uploads/<id>/``: ``manifest.json`` (key, metadata, when it began) and one
file for each part, named by its number in five digits: the bytes of the part, then the 16 bytes of their
XXH3-128. The digest is the part's ETag; because it is in the file, one rename replaces a part. For a part
that is a hole we keep only its size: that of a file in which nothing was ever written. It is not flushed: if
it is lost, the hole is sent again, which costs nothing. An upload appears and disappears as a whole: its
directory is renamed from and to the staging area.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence

import xxhash
from msgspec import Struct
from msgspec.structs import replace

from syncd.core.errors import MISTAKE, PartsRefused, StoreRefused, UploadGone
from syncd.core.model import ObjectMeta, Part, UploadInfo
from syncd.storage.base import Body
from syncd.storage.digests import are_zeros, crc32, once, zeros
from syncd.storage.dir.files import (
    OPEN_DIRECTORY,
    OPEN_NEW,
    OPEN_TO_READ,
    add_hole,
    closing,
    copy_range,
    digest_of_range,
    is_unwritten,
    make_directory,
    open_subdirectory,
    read_file,
    read_range,
    refuse_exposed,
    remove_file,
    sync_directory,
    write_file,
    write_sparse,
    write_whole,
)
from syncd.storage.dir.record import meta_from_json, meta_to_json
from syncd.storage.dir.root import STAGING, discard

MAX_PARTS = 99_999
_UPLOADS = b"uploads"
_MANIFEST = b"manifest.json"
_LONGEST_MANIFEST = 64 << 10
_OPEN_HOLE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_HOLE = b".hole"
_PART_NAME = re.compile(r"([0-9]{5})(\.hole)?")
_DIGEST_BYTES = 16
_digest = once(xxhash.xxh3_128_digest)


class Upload(Struct, frozen=True):
    """An existing upload: a descriptor of its directory, and its manifest."""

    fd: int
    key: str
    upload_id: str
    meta: ObjectMeta
    initiated_ns: int


def begin(private: int, key: str, meta: ObjectMeta, now_ns: int) -> str:
    """Make an upload; return its id.

    ``private`` is a descriptor of ``.syncd`` here and below. Raises StoreRefused if others could read its
    parts, though not the file.
    """
    upload_id = secrets.token_hex(16)
    name = upload_id.encode()
    fields = {"key": key, "initiated-ns": now_ns, "meta": meta_to_json(meta)}
    with closing(open_subdirectory(private, STAGING)) as staging, _uploads(private) as uploads:
        try:
            make_directory(staging, name, 0o700)
            with closing(os.open(name, OPEN_DIRECTORY, dir_fd=staging)) as directory:
                write_file(directory, _MANIFEST, _MANIFEST + b".tmp", json.dumps(fields).encode())
                with closing(os.open(_MANIFEST, OPEN_TO_READ, dir_fd=directory)) as manifest:
                    refuse_exposed(private, manifest, meta.mode)
            os.rename(name, name, src_dir_fd=staging, dst_dir_fd=uploads)
        except BaseException:
            discard(staging, name)
            raise
        sync_directory(uploads)
    return upload_id


@contextlib.contextmanager
def opened(private: int, key: str, upload_id: str) -> Iterator[Upload]:
    """Yield the upload. Raises UploadGone if none has this id and key, or it goes now."""
    try:
        with _uploads(private) as uploads:
            upload = _open(uploads, upload_id)
        with closing(upload.fd):
            if upload.key != key:
                raise FileNotFoundError(upload_id)
            yield upload
    except FileNotFoundError as error:
        raise UploadGone("there is no such upload in the store's directory") from error


def remove(private: int, key: str, upload_id: str) -> None:
    """Remove the upload. Succeeds if there is none."""
    with contextlib.suppress(UploadGone), opened(private, key, upload_id):
        name = upload_id.encode()
        with closing(open_subdirectory(private, STAGING)) as staging, _uploads(private) as uploads:
            os.rename(name, name, src_dir_fd=uploads, dst_dir_fd=staging)
            sync_directory(uploads)
            discard(staging, name)


def all_of(private: int, prefix: str) -> list[UploadInfo]:
    """Return unfinished uploads whose key starts with `prefix`, by key and id."""
    found = []
    with _uploads(private) as uploads:
        for name in os.listdir(uploads):
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed, or not ours
                upload = _open(uploads, name)
                os.close(upload.fd)
                if upload.key.startswith(prefix):
                    found.append(UploadInfo(upload.key, upload.upload_id, upload.initiated_ns))
    return sorted(found, key=lambda info: (info.key, info.upload_id))


def put_part(upload: Upload, number: int, body: Body) -> Part:
    """Store a part, durably and in one step, replacing an older one of its number."""
    digest = _digest(body)
    if are_zeros(body):
        _put_hole(upload, number, len(body))
    else:
        with _new_part(upload, number) as fd:
            write_sparse(fd, body)
            write_whole(fd, digest)
    return Part(number, len(body), digest.hex(), crc32=crc32(body))


def copy_part(upload: Upload, number: int, source: int, offset: int, size: int) -> Part:
    """Store a part that is `size` bytes of the file `source` from `offset`."""
    if is_unwritten(source, offset, size):
        part = put_part(upload, number, zeros(size))
        return replace(part, digest=bytes.fromhex(part.etag))
    with _new_part(upload, number) as fd:
        copy_range(source, offset, fd, size)
        digest = digest_of_range(fd, 0, size)
        os.lseek(fd, size, os.SEEK_SET)
        write_whole(fd, digest)
    return Part(number, size, digest.hex(), digest=digest)


def parts_of(upload: Upload) -> list[Part]:
    """Return all parts in ascending order, each with the digest of its bytes."""
    names = filter(None, map(_PART_NAME.fullmatch, os.listdir(upload.fd)))
    parts = []
    for number in sorted({int(name[1]) for name in names}):
        with contextlib.suppress(FileNotFoundError):
            fd, part, _ = _open_part(upload, number)
            os.close(fd)
            parts.append(part)
    return parts


def join(upload: Upload, parts: Sequence[Part], target: int) -> str:
    """Append the bytes of `parts` to `target`; return the ETag of the whole.

    Raises PartsRefused. The ETag is the XXH3-128 of the parts' digests, then size and number of parts. The
    bytes are read again: a part may have rotted.
    """
    numbers = [part.number for part in parts]
    if not numbers or numbers != sorted(set(numbers)):
        raise PartsRefused("the parts are not in ascending order")
    digests = []
    size = 0
    for part in parts:
        try:
            fd, stored, is_hole = _open_part(upload, part.number)
        except FileNotFoundError as error:
            raise PartsRefused(f"part {part.number} is missing in the store's directory") from error
        with closing(fd):
            if stored.etag != part.etag:
                raise PartsRefused(
                    f"part {part.number} in the store's directory is not the one that was sent"
                )
            if is_hole:
                add_hole(target, stored.size)
            else:
                copy_range(fd, 0, target, stored.size)
                if digest_of_range(target, size, stored.size) != stored.digest:
                    raise PartsRefused(f"part {part.number} is damaged in the store's directory")
        digests.append(bytes.fromhex(stored.etag))
        size += stored.size
    return f"{xxhash.xxh3_128_hexdigest(b''.join(digests))}-{size}-{len(parts)}"


@contextlib.contextmanager
def _uploads(private: int) -> Iterator[int]:
    with closing(open_subdirectory(private, _UPLOADS)) as fd:
        yield fd


def _open(uploads: int, upload_id: str) -> Upload:
    """Return the upload; the caller closes it. Raises FileNotFoundError."""
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise FileNotFoundError(upload_id)
    try:
        fd = os.open(upload_id.encode(), OPEN_DIRECTORY, dir_fd=uploads)
    except NotADirectoryError as error:
        raise FileNotFoundError(upload_id) from error
    try:
        text = read_file(fd, _MANIFEST, _LONGEST_MANIFEST)
        if text is None:
            raise FileNotFoundError(upload_id)
        fields = json.loads(text)
        meta = meta_from_json(fields["meta"])
        return Upload(fd, str(fields["key"]), upload_id, meta, int(fields["initiated-ns"]))
    except (ValueError, KeyError, TypeError) as error:
        os.close(fd)
        raise FileNotFoundError(upload_id) from error
    except BaseException:
        os.close(fd)
        raise


@contextlib.contextmanager
def _new_part(upload: Upload, number: int) -> Iterator[int]:
    """Yield a new file for a part; it becomes the part at the end if nothing is raised."""
    name = _part_name(number)
    temporary = name + b"." + secrets.token_hex(8).encode()
    with closing(os.open(temporary, OPEN_NEW, 0o600, dir_fd=upload.fd)) as fd:
        try:
            yield fd
            os.fsync(fd)
            os.rename(temporary, name, src_dir_fd=upload.fd, dst_dir_fd=upload.fd)
        except BaseException:
            with contextlib.suppress(OSError):
                remove_file(upload.fd, temporary)
            raise
    sync_directory(upload.fd)


def _put_hole(upload: Upload, number: int, size: int) -> None:
    """Store the size of a part that is a hole, replacing an older one of its number."""
    name = _part_name(number)
    with closing(os.open(name + _HOLE, _OPEN_HOLE, 0o600, dir_fd=upload.fd)) as fd:
        os.ftruncate(fd, size)
    remove_file(upload.fd, name)


def _open_part(upload: Upload, number: int) -> tuple[int, Part, bool]:
    """Return a descriptor of a part's file, the part, and whether it is a hole. Raises FileNotFoundError,
    also if the digest is cut off, as after a loss of power.
    """
    name = _part_name(number)
    try:
        fd, is_hole = os.open(name, OPEN_TO_READ, dir_fd=upload.fd), False
    except FileNotFoundError:
        fd, is_hole = os.open(name + _HOLE, OPEN_TO_READ, dir_fd=upload.fd), True
    try:
        stat = os.fstat(fd)
        size = stat.st_size if is_hole else stat.st_size - _DIGEST_BYTES
        if size < 0:
            raise FileNotFoundError(errno.ENOENT, "its digest was cut off")
        digest = _digest(zeros(size)) if is_hole else read_range(fd, size, _DIGEST_BYTES)
    except BaseException:
        os.close(fd)
        raise
    return fd, Part(number, size, digest.hex(), digest=digest, stored_ns=stat.st_mtime_ns), is_hole


def _part_name(number: int) -> bytes:
    if not 1 <= number <= MAX_PARTS:
        raise StoreRefused(f"{number} is not a part number: 1 to {MAX_PARTS} are", hint=MISTAKE)
    return b"%05d" % number
