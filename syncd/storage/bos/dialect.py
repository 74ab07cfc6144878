"""The Baidu BOS dialect: how its native API phrases the verbs. Pure: requests out, answers in.

Differences from S3 that are easy to get wrong:

- bodies are JSON; ETags are quoted in headers and bare in JSON;
- an object's metadata belongs to *complete*, its content type and storage class to *initiate*;
- deleting what is not there is 404; an error answer to HEAD has no body at all;
- a success can carry an error in its body, and an empty body where there should be one means that the
  outcome is unknown;
- part sizes are checked only at complete; the ETag of a multipart object is no digest. The CRC-32 of the
  whole object is: it is combined from the parts' own at complete, and BOS gives it back with every HEAD.

Source: https://cloud.baidu.com/doc/BOS/s/Ck1rk80hn and the pages of each call.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from syncd.core.errors import ObjectSpoiled, PartCorrupt, StoreUnavailable
from syncd.core.model import Content, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.core.parts import combine_crc32
from syncd.storage.base import Body, Memory
from syncd.storage.bos import bucket, signing, values
from syncd.storage.bos.bucket import LIMITS, Bucket, traffic_headers
from syncd.storage.bos.errors import carries_error, error_for, is_foreign
from syncd.storage.digests import crc32, once
from syncd.storage.http.errors import EMPTY_SUCCESS, NOT_THE_STORES, unproven
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.http.metadata import (
    bare_etag,
    condition_headers,
    described,
    metadata_headers,
    property_headers,
    range_total,
)
from syncd.storage.settings import BosSettings

_META = "x-bce-meta-"
_CRC32 = "x-bce-content-crc32"
_BYTES = {"Content-Type": "application/octet-stream"}
"""Of parts: BOS ignores it, but all SDKs of the vendor send it."""


class BosDialect:
    """Requests and answers of one bucket.

    Virtual-host style (the bucket in the host name), except for IP addresses and if the settings ask for path
    style. Raises AccessRefused if the endpoint is another bucket's. Every method that takes a key raises
    StoreRefused for keys that BOS would refuse or mix up.
    """

    own_header = "x-bce-request-id"
    """The header in which BOS numbers its answers."""
    behind_key = "marker"
    """The parameter of ListObjects that names the key to begin after."""
    limits = LIMITS
    """What BOS documents, read on the safe side."""
    usual_check = "md5"

    def __init__(self, settings: BosSettings, version_keys: Memory = Memory()) -> None:
        self._bucket = Bucket(settings, version_keys)
        self._storage_class = settings.storage_class
        self._traffic_limit = traffic_headers(settings.traffic_limit)
        self.store_id = self._bucket.store_id
        """``bos://`` endpoint and bucket: the same for any style or scheme."""
        self.checks = ("crc32", "md5") if settings.http.endpoint.startswith("https:") else ("md5",)
        """MD5, which BOS is documented to verify; over TLS CRC-32, if BOS is found to verify it."""

    def sign(self, request: Request, credentials: Credentials, now: float) -> Request:
        """Return the request with date, session token and Authorization for `now` (Unix seconds)."""
        headers = dict(request.headers)
        headers["x-bce-date"] = signing.timestamp(now)
        if credentials.session_token:
            headers["x-bce-security-token"] = credentials.session_token
        signed = {"host": request.host} | {name.lower(): value for name, value in headers.items()}
        names = signing.names_to_sign(signed)
        canonical = signing.canonical_request(request.method, request.path, request.query, signed, names)
        headers["Authorization"] = signing.authorization(canonical, names, credentials, now)
        return replace(request, headers=headers)

    def error(self, request: Request, response: Response) -> Exception:
        """Return the error for `response`, with BOS's request id."""
        return error_for(
            request,
            response,
            whole_bucket=request.path == self._bucket.path,
            path_style=self._bucket.may_refuse_path_style,
        )

    # ---- whole objects -----------------------------------------------------------------------------------

    def put_request(self, key: str, body: Body, meta: ObjectMeta, check: str = "") -> Request:
        """PutObject, with a digest: BOS refuses a changed body."""
        headers = {
            **property_headers("x-bce-", meta, self._storage_class),
            **self._body_headers(body, check),
            **metadata_headers(_META, meta),
            **condition_headers(meta),
        }
        return self._on_object("PUT", key, headers=headers, body=body)

    def put_result(self, key: str, request: Request, response: Response) -> Receipt:
        """Raises PartCorrupt if the ETag is not the MD5 of the body, Unproven if there is none."""
        self._require("put", request, response)
        return Receipt(key, self._checked_etag(request, response))

    def head_request(self, key: str) -> Request:
        """HeadObject."""
        return self._on_object("HEAD", key)

    def head_result(self, key: str, request: Request, response: Response) -> ObjectInfo | None:
        """None: there is no such object. BOS says the same if there is no such bucket."""
        if response.status == 404 and not is_foreign(response):
            return None
        self._require("head", request, response)
        size = values.number(response.headers.get("content-length"))
        etag = bare_etag(response.headers.get("etag"))
        if size is None or not etag:
            raise self.error(request, response)
        crc32 = values.number(response.headers.get(_CRC32))
        return _described(response, key, size, crc32)

    def get_request(self, key: str, first: int, last: int) -> Request:
        """GetObject of a range, both ends included."""
        return self._on_object("GET", key, headers={"Range": f"bytes={first}-{last}"})

    def get_result(self, key: str, first: int, last: int, request: Request, response: Response) -> Content:
        """Return the requested bytes, or as many as there are; also from a server that ignores ranges."""
        if response.status not in (200, 206):
            raise self.error(request, response)
        body = response.body
        if response.status == 200:
            return Content(_described(response, key, len(body)), body[first : last + 1])
        size = range_total(response.headers, first, last, len(body))
        if size is None:
            raise StoreUnavailable("BOS answered with another range than syncd asked for", status=206)
        return Content(_described(response, key, size), body)

    def delete_request(self, key: str) -> Request:
        """DeleteObject."""
        return self._on_object("DELETE", key)

    def delete_result(self, key: str, request: Request, response: Response) -> None:
        """Succeeds if there is no such object."""
        self._removed("delete", request, response, "NoSuchKey")

    def copy_request(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Request:
        """CopyObject with new metadata, if the source is unchanged."""
        headers = {
            **property_headers("x-bce-", meta, self._storage_class, copy=True),
            "x-bce-metadata-directive": "replace",
            **self._bucket.copy_source(source_key, if_match),
            **metadata_headers(_META, meta),
        }
        return self._on_object("PUT", key, headers=headers, slow_answer=True)

    def copy_result(self, key: str, request: Request, response: Response) -> Receipt:
        """Raises the error inside a 200, and Unproven if there is no ETag."""
        return Receipt(key, self._member_etag(request, response))

    # ---- multipart uploads -------------------------------------------------------------------------------

    def create_request(self, key: str, meta: ObjectMeta) -> Request:
        """InitiateMultipartUpload: properties go here, metadata does not."""
        return self._on_object(
            "POST",
            key,
            query=(("uploads", ""),),
            headers=property_headers("x-bce-", meta, self._storage_class),
            safe_to_repeat=False,
        )

    def create_result(self, key: str, request: Request, response: Response) -> str:
        """Return the upload's id."""
        upload_id = self._members(request, response).get("uploadId")
        if not isinstance(upload_id, str) or not upload_id:
            raise self.error(request, response)
        return upload_id

    def part_request(self, key: str, upload_id: str, number: int, body: Body, check: str = "") -> Request:
        """UploadPart, with a digest."""
        return self._on_object(
            "PUT",
            key,
            query=(("partNumber", str(number)), ("uploadId", upload_id)),
            headers={**_BYTES, **self._body_headers(body, check)},
            body=body,
        )

    def part_result(
        self, key: str, upload_id: str, number: int, body: Body, request: Request, response: Response
    ) -> Part:
        """Raises as `put_result`. The part carries its CRC-32."""
        self._require("part", request, response)
        sent = values.number(request.headers.get(_CRC32))
        return Part(
            number,
            len(body),
            self._checked_etag(request, response),
            crc32=crc32(body) if sent is None else sent,
        )

    def part_copy_request(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Request:
        """UploadPartCopy, conditional: a source replaced midway would make a mixed object."""
        return self._on_object(
            "PUT",
            key,
            query=(("partNumber", str(number)), ("uploadId", upload_id)),
            headers={
                **_BYTES,
                **self._bucket.copy_source(source_key, if_match),
                "x-bce-copy-source-range": f"bytes={first}-{last}",
            },
            slow_answer=True,
        )

    def part_copy_result(
        self, key: str, upload_id: str, number: int, size: int, request: Request, response: Response
    ) -> Part:
        """Return the part, without CRC-32: we did not see its bytes."""
        return Part(number, size, self._member_etag(request, response))

    def parts_request(self, key: str, upload_id: str, after: int) -> Request:
        """ListParts, after the part number `after`."""
        marker = (("partNumberMarker", str(after)),) if after else ()
        query = (("uploadId", upload_id), ("maxParts", bucket.PAGE), *marker)
        return self._on_object("GET", key, query=query)

    def parts_result(
        self, key: str, upload_id: str, request: Request, response: Response
    ) -> tuple[list[Part], int | None]:
        """``isTruncated`` marks the last page: BOS gives a next marker there, too."""
        members = self._members(request, response)
        parts = [self._part(item, request, response) for item in values.items(members, "parts")]
        if not values.truth(members.get("isTruncated")):
            return parts, None
        after = int(dict(request.query).get("partNumberMarker", "0"))
        behind = values.number(members.get("nextPartNumberMarker")) or max(
            (part.number for part in parts), default=0
        )
        if behind <= after:
            raise values.stuck("ListParts", response)
        return parts, behind

    def complete_request(self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta) -> Request:
        """CompleteMultipartUpload, with the metadata, and the CRC-32 of the whole if every part has one."""
        listed = [{"partNumber": part.number, "eTag": bare_etag(part.etag)} for part in parts]
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            **metadata_headers(_META, meta),
            **condition_headers(meta),
        }
        crcs = [(part.crc32, part.size) for part in parts if part.crc32 is not None]
        if crcs and len(crcs) == len(parts):
            headers[_CRC32] = str(combine_crc32(crcs))
        return self._on_object(
            "POST",
            key,
            query=(("uploadId", upload_id),),
            headers=headers,
            body=json.dumps({"parts": listed}, separators=(",", ":")).encode(),
            slow_answer=True,
        )

    def complete_result(self, key: str, upload_id: str, request: Request, response: Response) -> Receipt:
        """Raises ObjectSpoiled if BOS reports another CRC-32 than ours: that is another object."""
        etag = self._member_etag(request, response)
        meant = values.number(request.headers.get(_CRC32))
        made = values.number(response.headers.get(_CRC32))
        if meant is not None and made is not None and meant != made:
            raise ObjectSpoiled(
                f"BOS made an object with CRC-32 {made}, not {meant}",
                status=response.status,
                request_id=response.headers.get("x-bce-request-id", ""),
            )
        return Receipt(key, etag)

    def abort_request(self, key: str, upload_id: str) -> Request:
        """AbortMultipartUpload."""
        return self._on_object("DELETE", key, query=(("uploadId", upload_id),))

    def abort_result(self, key: str, upload_id: str, request: Request, response: Response) -> None:
        """Succeeds if there is no such upload."""
        self._removed("abort", request, response, "NoSuchUpload", "NoSuchKey")

    def uploads_request(self, prefix: str, after: tuple[str, str] | None) -> Request:
        """ListMultipartUploads, one page."""
        return bucket.uploads_request(self._bucket, prefix, after)

    def uploads_result(
        self, prefix: str, request: Request, response: Response
    ) -> tuple[list[UploadInfo], tuple[str, str] | None]:
        """Return a page; see `values.uploads_page`."""
        return values.uploads_page(self._members(request, response), prefix, request, response)

    def objects_request(self, prefix: str, after: tuple[str, str] | None) -> Request:
        """ListObjects, one page."""
        return bucket.objects_request(self._bucket, prefix, after)

    def objects_result(
        self, prefix: str, request: Request, response: Response
    ) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
        """Return a page; see `values.objects_page`."""
        return values.objects_page(self._members(request, response), prefix, request, response)

    # ---- what they have in common ------------------------------------------------------------------------

    def _on_object(self, method: str, key: str, **more: Any) -> Request:
        return Request(method, self._bucket.host, self._bucket.object_path(key), **more)

    def _body_headers(self, body: Body, check: str) -> dict[str, str]:
        """Return a digest of the body, and the traffic limit."""
        return {**_digest(body, check if check in self.checks else self.usual_check), **self._traffic_limit}

    def _require(self, verb: str, request: Request, response: Response) -> None:
        """Raise unless the answer has the status of a success, and no body."""
        if response.status not in EMPTY_SUCCESS[verb] or (response.body and response.body.strip()):
            raise self.error(request, response)

    def _removed(self, verb: str, request: Request, response: Response, *codes: str) -> None:
        """Raise unless it is removed. Another server's page proves nothing, whatever its status."""
        if not _was_not_there(response, *codes):
            self._require(verb, request, response)

    def _members(self, request: Request, response: Response) -> dict[str, Any]:
        if response.status != 200 or carries_error(response):
            raise self.error(request, response)
        found = values.body_object(response)
        if found is None:
            raise self.error(request, response)
        return found

    def _member_etag(self, request: Request, response: Response) -> str:
        etag = bare_etag(self._members(request, response).get("eTag"))
        if not etag:
            raise unproven(response, "the answer has no ETag")
        return etag

    def _checked_etag(self, request: Request, response: Response) -> str:
        """Return the ETag of a body just sent, which is its MD5 unless the server encrypts objects.

        It is compared if the MD5 was sent along.
        """
        etag = bare_etag(response.headers.get("etag"))
        if not etag:
            raise unproven(response, "the answer has no ETag")
        sent = base64.b64decode(request.headers.get("Content-MD5", "")).hex()
        if sent and etag.lower() != sent and "x-bce-server-side-encryption" not in response.headers:
            if self.own_header not in response.headers:
                raise unproven(response, NOT_THE_STORES)
            raise PartCorrupt(
                f"BOS acknowledged other bytes (ETag {etag}) than were sent (MD5 {sent})",
                status=response.status,
                request_id=response.headers.get("x-bce-request-id", ""),
            )
        return etag

    def _part(self, item: dict[str, Any], request: Request, response: Response) -> Part:
        number, size = values.number(item.get("partNumber")), values.number(item.get("size"))
        if not number or size is None:
            raise self.error(request, response)
        stored_ns = values.time_ns(item.get("lastModified"))
        return Part(number, size, bare_etag(item.get("eTag")), stored_ns=stored_ns)


def _described(response: Response, key: str, size: int, crc32: int | None = None) -> ObjectInfo:
    """Describe the object. The ETag is an MD5 only if Content-MD5 has the same: BOS does not document which
    other objects have an ETag of that form."""
    headers = response.headers
    etag = bare_etag(headers.get("etag", ""))
    try:
        plain = base64.b64decode(headers.get("content-md5", "")).hex() == etag.lower()
    except ValueError:
        plain = False
    return described(_META, headers, key, size, etag, crc32, plain=plain)


@once
def _digest(body: Body, check: str) -> dict[str, str]:
    if check == "crc32":
        return {_CRC32: str(crc32(body))}
    return {"Content-MD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}


def _was_not_there(response: Response, *codes: str) -> bool:
    """Return whether a 404 is about the thing itself: it has one of `codes`, or no body."""
    if response.status != 404:
        return False
    return not response.body.strip() or (values.body_object(response) or {}).get("code") in codes
