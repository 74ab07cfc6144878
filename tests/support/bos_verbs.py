"""What the BOS server of the tests does for each call, once the call is read and its signature checked.

Strict where the documents are: digests, order and size of parts, names, metadata, ranges, conditions. What
they leave open follows the vendor's integration tests; where even these are silent, S3.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, unquote

from tests.support.bos_auth import Refusal
from tests.support.bos_disk import Blob, Bucket, Disk, StoredObject, StoredPart, Upload

KEPT = ("content-type", "cache-control", "content-disposition", "content-encoding", "expires")
MAX_META_BYTES = 2048
MAX_KEY_BYTES = 1024
MAX_PARTS = 10_000
MAX_COMPLETE_BYTES = 1 << 20


@dataclass
class Rules:
    """What may be set to make the server stricter, smaller or different."""

    min_part_size: int = 100 * 1024
    page_size: int = 1000
    require_md5: bool = False
    """Refuse a body without Content-MD5; the vendor's own SDK sends a CRC-32 instead."""
    upload_id_marker: bool = True
    """Honour uploadIdMarker; older servers do not."""
    next_markers: bool = True
    """Name the next marker on truncated pages."""
    numbers_as_text: bool = False
    give_crc32: bool = True
    """Tell the CRC-32 of objects."""


@dataclass
class Call:
    """One request, read."""

    op: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""
    blob: Blob | None = None
    """The body of PutObject and UploadPart, in a file of the bucket."""

    @property
    def part(self) -> int:
        number = self.query.get("partNumber", "")
        return int(number) if number.isascii() and number.isdecimal() else 0


@dataclass
class Answer:
    """What goes back."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def run(call: Call, disk: Disk, rules: Rules, now: float) -> Answer:
    """Do it. Raises Refusal."""
    with disk.lock:
        if call.op == "ListBuckets":
            return _json({"buckets": [{"name": name} for name in sorted(disk.buckets)]})
        if call.op == "CreateBucket":
            disk.create(call.bucket)
            return Answer(200)
        bucket = disk.buckets.get(call.bucket)
        if bucket is None:
            raise Refusal(404, "NoSuchBucket", "the specified bucket does not exist")
        if call.key:
            _check_key(call.key)
        return Verbs(bucket, disk, rules, now).run(call)


class Verbs:
    """The calls on one bucket."""

    def __init__(self, bucket: Bucket, disk: Disk, rules: Rules, now: float) -> None:
        self._bucket = bucket
        self._disk = disk
        self._rules = rules
        self._now = now

    def run(self, call: Call) -> Answer:
        verbs: dict[str, Callable[[Call], Answer]] = {
            "HeadBucket": lambda call: Answer(200),
            "GetBucketLocation": lambda call: _json({"locationConstraint": "bj"}),
            "ListObjects": self.list_objects,
            "ListMultipartUploads": self.list_uploads,
            "DeleteMultipleObjects": self.delete_many,
            "PutObject": self.put,
            "HeadObject": self.head,
            "GetObject": self.get,
            "DeleteObject": self.delete,
            "CopyObject": self.copy,
            "InitiateMultipartUpload": self.initiate,
            "UploadPart": self.part,
            "UploadPartCopy": self.part_copy,
            "ListParts": self.list_parts,
            "CompleteMultipartUpload": self.complete,
            "AbortMultipartUpload": self.abort,
        }
        if call.op not in verbs:
            raise Refusal(501, "NotImplemented", "the server of the tests cannot do this")
        return verbs[call.op](call)

    # ---- objects -----------------------------------------------------------------------------------------

    def put(self, call: Call) -> Answer:
        blob = self._checked_body(call)
        self._check_conditions(call)
        stored = StoredObject(
            call.key, blob.md5, self._now, _kept(call.headers, metadata=True), [blob], blob.crc32, blob.md5
        )
        self._bucket.put(stored)
        return Answer(200, self._etag_headers(stored))

    def head(self, call: Call) -> Answer:
        stored = self._object(call.key)
        return Answer(200, {**self._object_headers(stored), "Content-Length": str(stored.size)})

    def get(self, call: Call) -> Answer:
        stored = self._object(call.key)
        headers = self._object_headers(stored)
        wanted = call.headers.get("range")
        if not wanted:  # the vendor's JavaScript sends an empty one
            return Answer(200, headers, self._bucket.read(stored.blobs, 0, stored.size - 1))
        if stored.size == 0:
            raise Refusal(400, "InvalidArgument", "an empty object has no ranges")
        first, last = _range(wanted, stored.size)
        headers["Content-Range"] = f"bytes {first}-{last}/{stored.size}"
        return Answer(206, headers, self._bucket.read(stored.blobs, first, last))

    def delete(self, call: Call) -> Answer:
        self._object(call.key)
        self._bucket.delete(call.key)
        return Answer(204)

    def delete_many(self, call: Call) -> Answer:
        errors = []
        for item in _parsed(call.body).get("objects", []):
            if item["key"] in self._bucket.objects:
                self._bucket.delete(item["key"])
            else:
                errors.append({"key": item["key"], "code": "NoSuchKey", "message": "no such key"})
        return _json({"errors": errors}) if errors else Answer(200)

    def copy(self, call: Call) -> Answer:
        bucket, source = self._source(call)
        _check_metadata(call.headers)
        content = bucket.read(source.blobs, 0, source.size - 1)
        headers = dict(source.headers)
        if call.headers.get("x-bce-metadata-directive", "copy") == "replace":
            headers = _kept(call.headers, metadata=True)
        headers["x-bce-storage-class"] = call.headers.get("x-bce-storage-class", "STANDARD")
        blob = self._bucket.store_bytes(content)
        stored = StoredObject(call.key, blob.md5, self._now, headers, [blob], blob.crc32, blob.md5)
        self._bucket.put(stored)
        return _json({"lastModified": _iso(self._now), "eTag": stored.etag})

    def list_objects(self, call: Call) -> Answer:
        prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
        marker = call.query.get("marker", "")
        size = self._page(call, "maxKeys")
        contents: list[dict[str, Any]] = []
        folders: list[str] = []
        last = ""
        truncated = False
        for key in sorted(self._bucket.objects, key=str.encode):
            if not key.startswith(prefix) or key.encode() <= marker.encode():
                continue
            rest = key[len(prefix) :]
            folder = prefix + rest[: rest.index(delimiter) + 1] if delimiter and delimiter in rest else ""
            if folder and (folder in folders or marker.startswith(folder)):
                last = key
                continue
            if len(contents) + len(folders) == size:
                truncated = True
                break
            last = key
            if folder:
                folders.append(folder)
            else:
                contents.append(self._listed(self._bucket.objects[key]))
        page: dict[str, Any] = {
            "name": call.bucket,
            "prefix": prefix,
            "marker": marker,
            "maxKeys": size,
            "isTruncated": truncated,
            "contents": contents,
        }
        if delimiter:
            page |= {"delimiter": delimiter, "commonPrefixes": [{"prefix": folder} for folder in folders]}
        if truncated:
            page["nextMarker"] = last
        return self._page_answer(page)

    # ---- multipart uploads -------------------------------------------------------------------------------

    def initiate(self, call: Call) -> Answer:
        # Metadata belongs to complete: what is sent here is lost.
        upload = Upload(uuid.uuid4().hex, call.key, self._now, _kept(call.headers, metadata=False))
        self._bucket.save_upload(upload)
        return _json({"bucket": call.bucket, "key": call.key, "uploadId": upload.id})

    def part(self, call: Call) -> Answer:
        if not 1 <= call.part <= MAX_PARTS:
            raise Refusal(400, "InvalidArgument", f"part numbers are 1 to {MAX_PARTS}")
        upload = self._upload(call)
        blob = self._checked_body(call)
        self._bucket.put_part(upload, StoredPart(call.part, blob, self._now))
        return Answer(200, {"ETag": f'"{blob.md5}"', "Content-MD5": _base64(blob.md5)})

    def part_copy(self, call: Call) -> Answer:
        upload = self._upload(call)
        bucket, source = self._source(call)
        first, last = 0, source.size - 1
        if wanted := call.headers.get("x-bce-copy-source-range"):
            first, last = _range(wanted, source.size)
        blob = self._bucket.store_bytes(bucket.read(source.blobs, first, last))
        self._bucket.put_part(upload, StoredPart(call.part, blob, self._now))
        return _json({"lastModified": _iso(self._now), "eTag": blob.md5})

    def list_parts(self, call: Call) -> Answer:
        upload = self._upload(call)
        size = self._page(call, "maxParts")
        marker = int(call.query.get("partNumberMarker", "0"))
        numbers = [number for number in sorted(upload.parts) if number > marker]
        listed = [
            {
                "partNumber": number,
                "lastModified": _iso(upload.parts[number].modified),
                "eTag": upload.parts[number].blob.md5,
                "size": upload.parts[number].blob.size,
            }
            for number in numbers[:size]
        ]
        page = {
            "bucket": call.bucket,
            "key": call.key,
            "uploadId": upload.id,
            "initiated": _iso(upload.initiated),
            "partNumberMarker": marker,
            "maxParts": size,
            "isTruncated": len(numbers) > size,
            "parts": listed,
        }
        if listed and self._rules.next_markers:
            page["nextPartNumberMarker"] = listed[-1]["partNumber"]  # on the last page too
        return self._page_answer(page)

    def complete(self, call: Call) -> Answer:
        upload = self._upload(call)
        if len(call.body) > MAX_COMPLETE_BYTES:
            raise Refusal(400, "MaxMessageLengthExceeded")
        _check_metadata(call.headers)
        blobs = self._chosen(upload, _parsed(call.body).get("parts"))
        crc32 = self._bucket.crc32(blobs)
        claimed = call.headers.get("x-bce-content-crc32")
        if claimed is not None and claimed != str(crc32):
            raise Refusal(400, "BadDigest", "the CRC-32 of the whole is another")
        self._check_conditions(call)
        digest = hashlib.md5("".join(blob.md5 for blob in blobs).encode()).hexdigest()
        headers = {**upload.headers, **_metadata(call.headers)}
        stored = StoredObject(call.key, f"-{digest}", self._now, headers, blobs, crc32)
        self._bucket.put(stored)
        self._bucket.drop_upload(upload, keep=blobs)
        answer = _json(
            {
                "location": f"http://{call.bucket}.bj.bcebos.com/{quote(call.key)}",
                "bucket": call.bucket,
                "key": call.key,
                "eTag": stored.etag,
            }
        )
        answer.headers |= self._crc(stored)
        return answer

    def abort(self, call: Call) -> Answer:
        self._bucket.drop_upload(self._upload(call), keep=[])
        return Answer(204)

    def list_uploads(self, call: Call) -> Answer:
        prefix = call.query.get("prefix", "")
        after = (call.query.get("keyMarker", ""), call.query.get("uploadIdMarker", ""))
        size = self._page(call, "maxUploads")
        uploads = sorted(self._bucket.uploads.values(), key=lambda upload: (upload.key.encode(), upload.id))
        found = [up for up in uploads if up.key.startswith(prefix) and self._is_behind(up, after)]
        listed = found[:size]
        page: dict[str, Any] = {
            "bucket": call.bucket,
            "prefix": prefix,
            "keyMarker": after[0],
            "maxUploads": size,
            "isTruncated": len(found) > size,
            "uploads": [{"key": up.key, "uploadId": up.id, "initiated": _iso(up.initiated)} for up in listed],
        }
        if listed and self._rules.next_markers:
            page["nextKeyMarker"] = listed[-1].key
            if self._rules.upload_id_marker:
                page["nextUploadIdMarker"] = listed[-1].id
        return self._page_answer(page)

    # ---- what they have in common ------------------------------------------------------------------------

    def _object(self, key: str) -> StoredObject:
        if key not in self._bucket.objects:
            raise Refusal(404, "NoSuchKey", "the specified key does not exist")
        return self._bucket.objects[key]

    def _upload(self, call: Call) -> Upload:
        upload = self._bucket.uploads.get(call.query["uploadId"])
        if upload is None or upload.key != call.key:
            raise Refusal(404, "NoSuchUpload", "the specified upload does not exist")
        return upload

    def _is_behind(self, upload: Upload, after: tuple[str, str]) -> bool:
        key, upload_id = after
        if not key:
            return True
        if self._rules.upload_id_marker and upload_id:
            return (upload.key.encode(), upload.id) > (key.encode(), upload_id)
        return upload.key.encode() > key.encode()

    def _chosen(self, upload: Upload, listed: Any) -> list[Blob]:
        """The parts that a complete call names. Raises Refusal as the documents say."""
        if not isinstance(listed, list) or not listed:
            raise Refusal(400, "InappropriateJSON", "parts are missing")
        numbers = [item.get("partNumber") for item in listed]
        if any(not isinstance(number, int) for number in numbers):
            raise Refusal(400, "InappropriateJSON", "part numbers are numbers")
        if any(second <= first for first, second in itertools.pairwise(numbers)):
            raise Refusal(400, "InvalidPartOrder", "part numbers do not ascend")
        blobs = []
        for item in listed:
            part = upload.parts.get(item["partNumber"])
            if part is None or part.blob.md5 != item.get("eTag"):
                raise Refusal(400, "InvalidPart", f"part {item['partNumber']} is not what you say")
            blobs.append(part.blob)
        if any(blob.size < self._rules.min_part_size for blob in blobs[:-1]):
            raise Refusal(400, "EntityTooSmall", f"parts have at least {self._rules.min_part_size} bytes")
        return blobs

    def _source(self, call: Call) -> tuple[Bucket, StoredObject]:
        name, _, key = unquote(call.headers["x-bce-copy-source"]).removeprefix("/").partition("/")
        bucket = self._disk.buckets.get(name)
        if bucket is None:
            raise Refusal(404, "NoSuchBucket", "the source's bucket does not exist")
        source = bucket.objects.get(key)
        if source is None:
            raise Refusal(404, "NoSuchKey", "the source does not exist")
        wanted = call.headers.get("x-bce-copy-source-if-match")
        if wanted is not None and wanted.strip('"') != source.etag:
            raise Refusal(412, "PreconditionFailed", "the source has another ETag")
        return bucket, source

    def _checked_body(self, call: Call) -> Blob:
        blob = call.blob
        assert blob is not None
        md5 = call.headers.get("content-md5")
        if md5 is None and self._rules.require_md5:
            raise Refusal(400, "InvalidDigest", "Content-MD5 is missing")
        if md5 is not None:
            try:
                claimed = base64.b64decode(md5, validate=True)
            except binascii.Error:
                raise Refusal(400, "InvalidDigest", "Content-MD5 is not base64") from None
            if len(claimed) != 16:
                raise Refusal(400, "InvalidDigest", "Content-MD5 is not an MD5")
            if claimed.hex() != blob.md5:
                raise Refusal(400, "BadDigest", "the body has another MD5")
        crc32 = call.headers.get("x-bce-content-crc32")
        if crc32 is not None and crc32 != str(blob.crc32):
            raise Refusal(400, "BadDigest", "the body has another CRC-32")
        limit = call.headers.get("x-bce-traffic-limit")
        if limit is not None and not 819_200 <= int(limit) <= 838_860_800:
            raise Refusal(400, "InvalidArgument", "x-bce-traffic-limit is out of bounds")
        _check_metadata(call.headers)
        return blob

    def _check_conditions(self, call: Call) -> None:
        stored = self._bucket.objects.get(call.key)
        if call.headers.get("if-none-match") == "*" and stored is not None:
            raise Refusal(412, "PreconditionFailed", "the object exists")
        wanted = call.headers.get("if-match")
        if wanted is not None and (stored is None or stored.etag != wanted.strip('"')):
            raise Refusal(412, "PreconditionFailed", "the object is another")

    def _page(self, call: Call, name: str) -> int:
        return max(1, min(int(call.query.get(name, "1000")), 1000, self._rules.page_size))

    def _page_answer(self, page: dict[str, Any]) -> Answer:
        return _json(_as_text(page) if self._rules.numbers_as_text else page)

    def _crc(self, stored: StoredObject) -> dict[str, str]:
        return {"x-bce-content-crc32": str(stored.crc32)} if self._rules.give_crc32 else {}

    def _etag_headers(self, stored: StoredObject) -> dict[str, str]:
        md5 = {"Content-MD5": _base64(stored.md5)} if stored.md5 else {}
        return {"ETag": f'"{stored.etag}"', **md5, **self._crc(stored)}

    def _object_headers(self, stored: StoredObject) -> dict[str, str]:
        return {
            "Content-Type": "application/octet-stream",
            "x-bce-storage-class": "STANDARD",
            **stored.headers,
            **self._etag_headers(stored),
            "Last-Modified": formatdate(stored.modified, usegmt=True),
            "x-bce-object-type": "Normal",
            "Accept-Ranges": "bytes",
        }

    def _listed(self, stored: StoredObject) -> dict[str, Any]:
        return {
            "key": stored.key,
            "lastModified": _iso(stored.modified),
            "eTag": stored.etag,
            "size": stored.size,
            "storageClass": stored.headers.get("x-bce-storage-class", "STANDARD"),
            "owner": {"id": "owner", "displayName": "owner"},
        }


def _json(value: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(value).encode())


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        raise Refusal(400, "MalformedJSON", "the body is not JSON") from None
    if not isinstance(found, dict):
        raise Refusal(400, "InappropriateJSON", "the body is not an object")
    return found


def _as_text(value: Any) -> Any:
    """Numbers and truths as text, as some servers of this protocol send them."""
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return str(value).lower() if isinstance(value, int) else value


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _base64(hex_digest: str) -> str:
    return base64.b64encode(bytes.fromhex(hex_digest)).decode()


def _range(text: str, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", text)
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise Refusal(400, "InvalidArgument", "a range is bytes=FIRST-LAST or bytes=FIRST-")
    if int(found[1]) >= size:
        raise Refusal(416, "InvalidRange", "the range begins behind the end")
    return int(found[1]), min(int(found[2] or size), size - 1)


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-bce-meta-")}


def _kept(headers: Mapping[str, str], *, metadata: bool) -> dict[str, str]:
    kept = {name: headers[name] for name in KEPT if name in headers}
    kept["x-bce-storage-class"] = headers.get("x-bce-storage-class", "STANDARD")
    return {**kept, **_metadata(headers)} if metadata else kept


def _check_metadata(headers: Mapping[str, str]) -> None:
    if sum(len(name) + len(value) for name, value in _metadata(headers).items()) > MAX_META_BYTES:
        raise Refusal(400, "MetadataTooLarge", f"metadata has at most {MAX_META_BYTES} bytes")


def _check_key(key: str) -> None:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise Refusal(400, "InvalidObjectName", "the key is too long")
    if {".", ".."} & set(key.split("/")):
        raise Refusal(400, "InvalidURI", "dot segments are not allowed")
