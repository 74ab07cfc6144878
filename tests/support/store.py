"""An `ObjectStore` in memory, with faults to order.

    store = FakeStore(limits=SMALL_LIMITS)
    store.fail("upload_part", StoreUnavailable("reset"), times=2, when=lambda call: call.number == 3)
    store.lose_answer("complete_multipart_upload")          # it happens, but the answer is lost
    store.before("put_object", lambda call: released.wait(5))
    ...
    assert store.objects["camera/a.jpg"].data == b"..."
    assert store.calls["upload_part"] == 4

Every request is one `Call`, and every page of a listing is one request; `tests.support.faults` says what
happens to it on its way.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import zlib
from collections.abc import Callable, Iterator, Sequence

import xxhash
from msgspec import Struct, field
from msgspec.structs import replace

from syncd.core.errors import PartsRefused, PreconditionFailed, StoreRefused, UploadGone
from syncd.core.model import Content, Fingerprint, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.storage.base import EVERY_PART, Body, ObjectStore, Pages, StoreLimits
from tests.support.faults import VERBS, Call, Condition, Fault, Hook, Switchboard

__all__ = [
    "S3_LIMITS",
    "SMALL_LIMITS",
    "VERBS",
    "Call",
    "Condition",
    "FakeStore",
    "Fault",
    "Hook",
    "StoredObject",
    "StoredPart",
    "StoredUpload",
]

S3_LIMITS = StoreLimits(
    min_part_size=5 << 20,
    max_part_size=5 << 30,
    max_parts=10_000,
    max_put_size=5 << 30,
    max_object_size=5 << 40,
)
"""What S3 documents."""

SMALL_LIMITS = StoreLimits(
    min_part_size=4,
    max_part_size=1 << 20,
    max_parts=20,
    max_put_size=1 << 20,
    max_object_size=20 << 20,
    max_key_bytes=200,
    part_size_multiple=1,
    has_conditions=True,
)
"""Multipart uploads of a few bytes."""


class StoredObject(Struct):
    """What is under a key."""

    data: bytes
    meta: ObjectMeta
    etag: str


class StoredPart(Struct):
    """A part of an unfinished upload."""

    data: bytes
    etag: str


class StoredUpload(Struct):
    """An unfinished upload."""

    key: str
    upload_id: str
    meta: ObjectMeta
    initiated_ns: int
    parts: dict[int, StoredPart] = field(default_factory=dict)


class FakeStore(Switchboard, ObjectStore):
    """An object store that keeps everything in memory and fails when told.

    ``page_size`` is the number of entries in a page of a listing. ``random_etags`` makes ETags that are the
    MD5 of nothing, as encrypting servers do. ``ignores_conditions`` makes copies and puts ignore them, and
    ``completes_again`` answers a repeated complete with success, as Ceph and Swift do.
    ``computes_crc32`` reports a checksum of the whole object in `head_object`. ``seed`` decides upload ids
    and random ETags; ``now_ns`` is when uploads begin.
    """

    def __init__(
        self,
        limits: StoreLimits = S3_LIMITS,
        *,
        store_id: str = "fake:memory",
        page_size: int = 1000,
        random_etags: bool = False,
        ignores_conditions: bool = False,
        completes_again: bool = False,
        computes_crc32: bool = False,
        now_ns: Callable[[], int] = lambda: 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, StoredUpload] = {}
        self.page_size = page_size
        self._store_id = store_id
        self._limits = limits
        self._random_etags = random_etags
        self._ignores_conditions = ignores_conditions
        self._completes_again = completes_again
        self._computes_crc32 = computes_crc32
        self._now_ns = now_ns
        self._chance = random.Random(seed)
        self._upload_numbers = itertools.count(1)
        self._completed: dict[str, Receipt] = {}

    def tamper(self, key: str, data: bytes) -> None:
        """Change the content of an object behind everybody's back; its metadata stays."""
        with self._lock:
            self.objects[key].data = data

    def tamper_etag(self, key: str) -> None:
        """The object gets an ETag that says nothing about its content."""
        with self._lock:
            self.objects[key].etag = f"{self._chance.randrange(1 << 64):016x}"

    def without_metadata(self, key: str, data: bytes) -> None:
        """Another program replaces an object, with no metadata of ours."""
        with self._lock:
            self.objects[key] = StoredObject(data, ObjectMeta(Fingerprint(b"", 0), 0), self._etag(data))

    def edit(self, key: str, data: bytes) -> None:
        """Another program replaces an object and keeps its metadata, as s3fs does."""
        with self._lock:
            self.objects[key] = StoredObject(data, self.objects[key].meta, self._etag(data))

    # ---- the verbs ---------------------------------------------------------------------------------------

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def limits(self) -> StoreLimits:
        return self._limits

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        with self._call("put_object", key, size=len(body)):
            self._check_key(key)
            if len(body) > self._limits.max_put_size:
                raise StoreRefused("the body is too large for one request", status=400, code="EntityTooLarge")
            self._check_replaced(key, meta)
            return self._keep(key, bytes(body), meta, self._etag(bytes(body)))

    def head_object(self, key: str) -> ObjectInfo | None:
        with self._call("head_object", key):
            found = self.objects.get(key)
            if found is None:
                return None
            crc32 = zlib.crc32(found.data) if self._computes_crc32 else None
            return replace(self._described(key, found), crc32=crc32)

    def get_object(
        self, key: str, first: int, last: int, if_match: str = "", room: memoryview | None = None
    ) -> Content:
        with self._call("get_object", key):
            found = self._existing(key)
            if if_match and found.etag != if_match:
                raise PreconditionFailed("the object has another ETag", status=412, code="PreconditionFailed")
            if not 0 <= first <= last or first >= len(found.data):
                raise StoreRefused("no such range", status=416, code="InvalidRange")
            data = found.data[first : last + 1]
            self.bytes_served += len(data)
            return Content(self._described(key, found), data)

    def delete_object(self, key: str) -> None:
        with self._call("delete_object", key):
            self.objects.pop(key, None)

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        with self._call("copy_object", key):
            self._check_key(key)
            found = self._existing(source_key)
            self._check_condition(found, if_match)
            return self._keep(key, found.data, meta, self._etag(found.data))

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        with self._call("create_multipart_upload", key):
            self._check_key(key)
            upload_id = f"upload-{next(self._upload_numbers)}-{self._chance.randrange(1 << 32):08x}"
            self.uploads[upload_id] = StoredUpload(key, upload_id, meta, self._now_ns())
            return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        with self._call("upload_part", key, upload_id, number, len(body)):
            return self._keep_part(self._upload(key, upload_id), number, bytes(body))

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        with self._call("upload_part_copy", key, upload_id, number):
            upload = self._upload(key, upload_id)
            found = self._existing(source_key)
            self._check_condition(found, if_match)
            if not 0 <= first <= last < len(found.data):
                raise StoreRefused("no such range", status=416, code="InvalidRange")
            return self._keep_part(upload, number, found.data[first : last + 1])

    def list_parts(self, key: str, upload_id: str, last: int = EVERY_PART) -> list[Part]:
        listed: list[Part] = []
        for page in itertools.count(1):
            with self._call("list_parts", key, upload_id, page):
                after = listed[-1].number if listed else 0
                parts = self._upload(key, upload_id).parts
                numbers = sorted(number for number in parts if number > after)
                for number in numbers[: self.page_size]:
                    listed.append(Part(number, len(parts[number].data), parts[number].etag))
                if len(numbers) <= self.page_size:
                    break
        return listed

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        with self._call("complete_multipart_upload", key, upload_id):
            if self._completes_again and upload_id in self._completed:
                return self._completed[upload_id]
            upload = self._upload(key, upload_id)
            self._check_replaced(key, meta)
            data = b"".join(part.data for part in self._chosen(upload, parts))
            if len(data) > self._limits.max_object_size:
                raise StoreRefused("the object is too large", status=400, code="EntityTooLarge")
            digests = b"".join(hashlib.md5(upload.parts[part.number].data).digest() for part in parts)
            etag = self._etag(digests, f"-{len(parts)}")
            kept = meta if self._limits.completes_with_meta else upload.meta
            receipt = self._keep(key, data, kept, etag)
            del self.uploads[upload_id]
            self._completed[upload_id] = receipt
            return receipt

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        with self._call("abort_multipart_upload", key, upload_id):
            upload = self.uploads.get(upload_id)
            if upload is not None and upload.key == key:
                del self.uploads[upload_id]

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        after = ("", "")
        for page in itertools.count(1):
            with self._call("list_multipart_uploads", prefix, number=page):
                found = sorted(
                    (upload.key, upload.upload_id)
                    for upload in self.uploads.values()
                    if upload.key.startswith(prefix) and (upload.key, upload.upload_id) > after
                )
                infos = [
                    UploadInfo(key, upload_id, self.uploads[upload_id].initiated_ns)
                    for key, upload_id in found[: self.page_size]
                ]
            yield from infos
            if len(found) <= self.page_size:
                return
            after = found[self.page_size - 1]

    def list_objects(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        numbers = itertools.count(1)

        def page(marker: str | None) -> tuple[list[ObjectInfo], str | None]:
            with self._call("list_objects", prefix, number=next(numbers)):
                keys = sorted(key for key in self.objects if key.startswith(prefix) and key > (marker or ""))
                chosen = keys[: self.page_size]
                found = [(key, self.objects[key]) for key in chosen]
                infos = [ObjectInfo(key, len(each.data), each.etag) for key, each in found]
                return infos, chosen[-1] if len(keys) > self.page_size else None

        return Pages(page, after or None)

    def clock_ns(self) -> tuple[int, int]:
        now_ns = self._now_ns()
        return now_ns, now_ns

    def close(self) -> None:
        self.closed = True

    # ---- inside ------------------------------------------------------------------------------------------

    def _described(self, key: str, found: StoredObject) -> ObjectInfo:
        meta = found.meta
        ours = bool(meta.fingerprint.digest)
        return ObjectInfo(
            key=key,
            size=len(found.data),
            etag=found.etag,
            digest=meta.fingerprint.digest or None,
            mtime_ns=meta.mtime_ns if ours else None,
            token=meta.token or None,
            stamp=meta.properties.stamp,
            attributes=meta.attributes,
            is_link=meta.is_link,
            md5=bytes.fromhex(found.etag) if len(found.etag) == 32 else None,
            instance=meta.instance or None,
            others=meta.others,
        )

    def _check_key(self, key: str) -> None:
        if not key or len(key.encode()) > self._limits.max_key_bytes:
            raise StoreRefused("the key is empty or too long", status=400, code="KeyTooLongError")

    def _check_replaced(self, key: str, meta: ObjectMeta) -> None:
        found = self.objects.get(key)
        wanted = None if self._ignores_conditions else meta.replaces
        if wanted is not None and wanted != (found.etag if found else ""):
            raise PreconditionFailed("the object is another one", status=412, code="PreconditionFailed")

    def _check_condition(self, found: StoredObject, if_match: str) -> None:
        if if_match and found.etag != if_match and not self._ignores_conditions:
            raise PreconditionFailed("the object has another ETag", status=412, code="PreconditionFailed")

    def _existing(self, key: str) -> StoredObject:
        found = self.objects.get(key)
        if found is None:
            raise StoreRefused("no such object", status=404, code="NoSuchKey")
        return found

    def _upload(self, key: str, upload_id: str) -> StoredUpload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadGone("no such upload", status=404, code="NoSuchUpload")
        return upload

    def _etag(self, data: bytes, suffix: str = "") -> str:
        if self._random_etags:
            return f"{self._chance.randrange(1 << 64):016x}"
        return hashlib.md5(data).hexdigest() + suffix

    def _keep(self, key: str, data: bytes, meta: ObjectMeta, etag: str) -> Receipt:
        self.objects[key] = StoredObject(data, meta, etag)
        return Receipt(key, etag)

    def _keep_part(self, upload: StoredUpload, number: int, data: bytes) -> Part:
        if not 1 <= number <= self._limits.max_parts:
            raise StoreRefused("no such part number", status=400, code="InvalidArgument")
        if len(data) > self._limits.max_part_size:
            raise StoreRefused("the part is too large for one request", status=400, code="EntityTooLarge")
        etag = self._etag(data)
        upload.parts[number] = StoredPart(data, etag)
        digest = xxhash.xxh3_128_digest(data)
        return Part(number, len(data), etag, digest=digest, crc32=zlib.crc32(data))

    def _chosen(self, upload: StoredUpload, parts: Sequence[Part]) -> list[StoredPart]:
        numbers = [part.number for part in parts]
        if not numbers or numbers != sorted(set(numbers)):
            raise PartsRefused("parts are not in ascending order", status=400, code="InvalidPartOrder")
        chosen = []
        for part in parts:
            stored = upload.parts.get(part.number)
            if stored is None or stored.etag != part.etag:
                raise PartsRefused(
                    f"part {part.number} is missing in the store's directory", status=400, code="InvalidPart"
                )
            chosen.append(stored)
        if any(len(part.data) < self._limits.min_part_size for part in chosen[:-1]):
            raise PartsRefused("parts are too small", status=400, code="EntityTooSmall", too_small=True)
        return chosen
