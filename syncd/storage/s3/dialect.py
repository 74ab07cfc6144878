"""The S3 dialect: how S3-compatible servers phrase the verbs. Pure: requests out, answers in.

What a client must not rely on, because some server does otherwise:

- a success is one only as a whole (`EMPTY_SUCCESS` of `syncd.storage.http.errors`): 200 with an error inside,
  with a proxy's page, with half a document or with nothing leaves the outcome unknown;
- an absent ``IsTruncated`` means the last page; a prefix or a marker may be ignored;
- an ETag is opaque: echoed at complete and compared with itself; it is compared with the MD5 of a body only
  where that was sent along;
- conditions may be ignored, so the result of a copy carries the ETag for the caller to check;
- a part copy may be ignored as a whole, which leaves an empty part.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from syncd.core.errors import PartCorrupt, StoreError, StoreRefused, StoreUnavailable
from syncd.core.model import Content, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.core.parts import combine_crc32
from syncd.storage.base import Body
from syncd.storage.http.errors import CODES, EMPTY_SUCCESS, JUDGED, Facts, refusal, refused, unproven, verb_of
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.http.metadata import (
    bare_etag,
    base64_digest,
    condition_headers,
    described,
    metadata_headers,
    property_headers,
    range_total,
)
from syncd.storage.s3 import bucket as values
from syncd.storage.s3.errors import facts, is_foreign, redirect, unclear
from syncd.storage.s3.integrity import CRC32, HASH, Integrity
from syncd.storage.s3.signing import EMPTY_SHA256, Signer
from syncd.storage.s3.xml import Element, complete_body, document, objects_page, parts_page, uploads_page
from syncd.storage.settings import S3Settings

_META = "x-amz-meta-"
_SHA256 = "x-amz-checksum-sha256"
_CRC64 = "x-amz-checksum-crc64nvme"
_LOCK_MODE = "x-amz-object-lock-mode"
_MD5 = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
_SCOPE = re.compile(r" Credential=[^,]*/\d{8}/([^/,]*)/s3/aws4_request", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)


class S3Dialect:
    """Requests and answers of one bucket.

    Remembers the bucket's region and the check that it wants, if the server names them. For several threads.
    Raises AccessRefused if the endpoint is not an address.
    """

    own_header = "x-amz-request-id"
    """The header in which S3 numbers its answers."""
    behind_key = "start-after"
    """The parameter of ListObjectsV2 that names the key to begin after."""

    def __init__(self, settings: S3Settings) -> None:
        self._bucket = values.Bucket(settings)
        self._signer = Signer(settings.region)
        self._storage_class = settings.storage_class
        self._demanded = _demanded(settings)
        self._payer = {"x-amz-request-payer": "requester"} if settings.request_payer else {}
        self._lock_seconds = settings.lock_seconds
        self._integrity = Integrity(settings, self._bucket)
        self.store_id = self._bucket.store_id
        """``s3:``, the endpoint as configured, and the bucket."""
        self.limits = self._bucket.limits
        """What AWS documents, and what others follow."""

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks that the settings allow and that are not known to fail here."""
        return self._integrity.checks

    @property
    def usual_check(self) -> str:
        """What AWS is known to verify; elsewhere the signed SHA-256."""
        return self._integrity.usual

    def sign(self, request: Request, credentials: Credentials, now: float) -> Request:
        """Return the request with date, session token and Authorization for `now` (Unix seconds)."""
        signer = self._signer
        headers = dict(request.headers)
        headers["Host"] = request.host
        headers["x-amz-date"] = signer.date(now)
        if credentials.session_token:
            headers["x-amz-security-token"] = credentials.session_token
        if _LOCK_MODE in headers:
            headers["x-amz-object-lock-retain-until-date"] = _date(now + self._lock_seconds)
        payload_hash = headers.setdefault(HASH, EMPTY_SHA256)
        headers["Authorization"] = signer.authorization(
            request.method, request.path, request.query, headers, payload_hash, credentials
        )
        return replace(request, headers=headers)

    def error(self, request: Request, response: Response) -> StoreError:
        """Return the error for `response`. A region that it names is used from now on."""
        if 400 <= response.status < 500 and response.status not in JUDGED and is_foreign(response):
            return unclear(response)
        told = facts(response)
        if self._learn_digest(request, told):
            return StoreUnavailable(
                "the bucket requires an MD5 with each body",
                status=response.status,
                code=told.code,
                request_id=told.request_id,
                retry_after_seconds=0.0,
            )
        if self._learn_region(request, told, response.status):
            return StoreUnavailable(
                f"the bucket is in the region {told.region}",
                status=response.status,
                code=told.code,
                request_id=told.request_id,
                retry_after_seconds=0.0,
            )
        verb = verb_of(request, whole_bucket=request.path == self._bucket.path())
        found = None if told.code else redirect(response)
        if told.code == "NoSuchKey" and "if-match" in request.headers:  # AWS says so if the object is gone
            found = CODES["PreconditionFailed"]
        found = found or refusal(verb, response.status, told.code)
        return refused(found, response, told)

    def _learn_digest(self, request: Request, told: Facts) -> bool:
        """Return whether the bucket wants an MD5 that `request` lacked: one with object locks does.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
        """
        if (
            told.code not in ("InvalidRequest", "MissingContentMD5")
            or "content-md5" not in told.message.lower()
        ):
            return False
        if request.method != "PUT" or request.headers.keys() & {"content-md5", "x-amz-copy-source"}:
            return False
        self._integrity.want_md5()
        return True

    def _learn_region(self, request: Request, told: Facts, status: int) -> bool:
        """Return whether the server wants another region than `request` was signed for."""
        if status not in (301, 307, 308, 400, 403) or not _REGION.fullmatch(told.region):
            return False
        used = _SCOPE.search(request.headers.get("Authorization", ""))
        if told.region == (used[1] if used else self._bucket.region):
            return False
        if self._bucket.learn(told.region):
            self._signer = Signer(told.region)
        return True

    # ---- whole objects -----------------------------------------------------------------------------------

    def put_request(self, key: str, body: Body, meta: ObjectMeta, check: str = "") -> Request:
        """PutObject."""
        headers = {
            **self._object_headers(meta),
            **self._integrity.headers(body, check),
            **condition_headers(meta),
        }
        return self._on_object("PUT", key, headers=headers, body=body)

    def put_result(self, key: str, request: Request, response: Response) -> Receipt:
        """Raises Unproven if the answer has no ETag, PartCorrupt if that is not the MD5 sent along."""
        self._require("put", request, response)
        return Receipt(key, self._sent_etag(request, response))

    def head_request(self, key: str) -> Request:
        """HeadObject; asks for the checksum of the whole if the server keeps one."""
        checksum = {"x-amz-checksum-mode": "ENABLED"} if self._integrity.declares else {}
        return self._on_object("HEAD", key, headers=checksum)

    def head_result(self, key: str, request: Request, response: Response) -> ObjectInfo | None:
        """None: there is no such object, or no such bucket, which a HEAD cannot tell apart."""
        if response.status == 404:
            return None
        self._require("head", request, response)
        headers = response.headers
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise unclear(response, "the answer has no length")
        whole = headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
        crc32 = values.crc32_number(headers.get(CRC32, "")) if whole else None
        crc64 = base64_digest(headers.get(_CRC64, ""), 8) if whole else None
        sha256 = base64_digest(headers.get(_SHA256, ""), 32) if whole else None
        info = replace(
            _described(response, key, int(length), crc32),
            sha256=sha256,
            crc64=int.from_bytes(crc64) if crc64 is not None else None,
        )
        if not info.etag:
            raise unclear(response, "the answer has no ETag")
        return info

    def get_request(self, key: str, first: int, last: int) -> Request:
        """GetObject of a range, both ends included."""
        return self._on_object("GET", key, headers={"range": f"bytes={first}-{last}"})

    def get_result(self, key: str, first: int, last: int, request: Request, response: Response) -> Content:
        """Return the requested bytes, or as many as there are; also from a server that ignores ranges."""
        if response.status not in (200, 206):
            raise self.error(request, response)
        body = response.body
        if response.status == 200 and "content-range" not in response.headers:  # one honours it and says 200
            return Content(_described(response, key, len(body)), body[first : last + 1])
        size = range_total(response.headers, first, last, len(body))
        if size is None:
            raise unclear(response, "the answer has another range than the one asked for")
        return Content(_described(response, key, size), body)

    def delete_request(self, key: str) -> Request:
        """DeleteObject."""
        return self._on_object("DELETE", key)

    def delete_result(self, key: str, request: Request, response: Response) -> None:
        """Done also when there was none."""
        self._done_or_absent("delete", request, response, "NoSuchKey")

    def copy_request(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Request:
        """CopyObject, with new metadata."""
        headers = {
            **self._object_headers(meta, copy=True),
            **self._source_headers(source_key, if_match),
            "x-amz-metadata-directive": "REPLACE",
        }
        return self._on_object("PUT", key, headers=headers, slow_answer=True)

    def copy_result(self, key: str, request: Request, response: Response) -> Receipt:
        """Success has an ETag in the body; the caller must check that it is the intended one.

        Raises Unproven if the body is right except for the ETag.
        """
        return Receipt(key, self._etag_inside("CopyObjectResult", request, response))

    # ---- multipart ---------------------------------------------------------------------------------------

    def create_request(self, key: str, meta: ObjectMeta) -> Request:
        """CreateMultipartUpload, with the metadata of the future object."""
        headers = self._object_headers(meta)
        if self._integrity.declares:
            headers["x-amz-checksum-algorithm"] = "CRC32"
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        return self._on_object("POST", key, query=(("uploads", ""),), headers=headers, safe_to_repeat=False)

    def create_result(self, key: str, request: Request, response: Response) -> str:
        """Return the upload id."""
        page = self._document("InitiateMultipartUploadResult", request, response)
        upload_id = page.get("UploadId").strip()
        if not upload_id:
            raise unclear(response, "the answer names no upload")
        return upload_id

    def part_request(self, key: str, upload_id: str, number: int, body: Body, check: str = "") -> Request:
        """UploadPart."""
        query = (("partNumber", str(number)), ("uploadId", upload_id))
        return self._on_object(
            "PUT", key, query=query, headers=self._integrity.headers(body, check), body=body
        )

    def part_result(
        self, key: str, upload_id: str, number: int, body: Body, request: Request, response: Response
    ) -> Part:
        """Return the part, with the CRC-32 if one was sent along. Raises as `put_result`."""
        self._require("part", request, response)
        crc32 = values.crc32_number(request.headers.get(CRC32, ""))
        return Part(number, memoryview(body).nbytes, self._sent_etag(request, response), crc32=crc32)

    def part_copy_request(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Request:
        """UploadPartCopy of a range, both ends included."""
        headers = self._source_headers(source_key, if_match)
        headers["x-amz-copy-source-range"] = f"bytes={first}-{last}"
        query = (("partNumber", str(number)), ("uploadId", upload_id))
        return self._on_object("PUT", key, query=query, headers=headers, slow_answer=True)

    def part_copy_result(
        self, key: str, upload_id: str, number: int, size: int, request: Request, response: Response
    ) -> Part:
        """Raises StoreRefused (code NotImplemented) if the server ignored the source and made an empty part:
        the caller must send this number, or not complete the upload.
        """
        if response.status == 200 and not response.body.strip() and response.headers.get("etag"):
            raise StoreRefused(
                "the store does not copy parts", hint="syncd sends them", status=200, code="NotImplemented"
            )
        return Part(number, size, self._etag_inside("CopyPartResult", request, response))

    def parts_request(self, key: str, upload_id: str, after: int) -> Request:
        """ListParts, one page."""
        query = [("uploadId", upload_id)]
        if after:
            query.insert(0, ("part-number-marker", str(after)))
        return self._on_object("GET", key, query=tuple(query))

    def parts_result(
        self, key: str, upload_id: str, request: Request, response: Response
    ) -> tuple[list[Part], int | None]:
        """Return a page of parts, ETags without quotes."""
        listed = parts_page(self._document("ListPartsResult", request, response))
        if listed is None:
            raise unclear(response, "the list of parts cannot be read")
        return listed

    def complete_request(self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta) -> Request:
        """CompleteMultipartUpload; with the CRC-32 of the whole if every part's is known."""
        body = complete_body(parts)
        headers = {
            "content-type": "application/xml",
            HASH: hashlib.sha256(body).hexdigest(),
            **condition_headers(meta),
        }
        crcs = [(part.crc32, part.size) for part in parts if part.crc32 is not None]
        if self._integrity.declares and len(crcs) == len(parts):
            headers[CRC32] = values.crc32_text(combine_crc32(crcs))
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        query = (("uploadId", upload_id),)
        return self._on_object("POST", key, query=query, headers=headers, body=body, slow_answer=True)

    def complete_result(self, key: str, upload_id: str, request: Request, response: Response) -> Receipt:
        """Success has an ETag in the body."""
        return Receipt(key, self._etag_inside("CompleteMultipartUploadResult", request, response))

    def abort_request(self, key: str, upload_id: str) -> Request:
        """AbortMultipartUpload."""
        return self._on_object("DELETE", key, query=(("uploadId", upload_id),))

    def abort_result(self, key: str, upload_id: str, request: Request, response: Response) -> None:
        """Done also when there was none."""
        self._done_or_absent("abort", request, response, "NoSuchUpload", "NoSuchKey")

    def uploads_request(self, prefix: str, after: tuple[str, str] | None) -> Request:
        """ListMultipartUploads, one page."""
        return replace(values.uploads_request(self._bucket, prefix, after), headers=self._payer)

    def uploads_result(
        self, prefix: str, request: Request, response: Response
    ) -> tuple[list[UploadInfo], tuple[str, str] | None]:
        """Return a page, without uploads outside of `prefix`, should the server ignore it."""
        page = uploads_page(self._document("ListMultipartUploadsResult", request, response), prefix)
        if page is None:
            raise unclear(response, "the list of uploads cannot be read")
        return page

    def objects_request(self, prefix: str, after: tuple[str, str] | None) -> Request:
        """ListObjectsV2, one page."""
        return replace(values.objects_request(self._bucket, prefix, after), headers=self._payer)

    def objects_result(
        self, prefix: str, request: Request, response: Response
    ) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
        """Return a page, without objects outside of `prefix`, should the server ignore it."""
        page = objects_page(self._document("ListBucketResult", request, response), prefix)
        if page is None:
            raise unclear(response, "the list of objects cannot be read")
        return page

    # ---- what the verbs share ----------------------------------------------------------------------------

    def _on_object(
        self,
        method: str,
        key: str,
        *,
        query: tuple[tuple[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        safe_to_repeat: bool = True,
        slow_answer: bool = False,
    ) -> Request:
        return Request(
            method,
            self._bucket.host,
            self._bucket.path(key),
            query,
            {**self._payer, **(headers or {})},
            body,
            safe_to_repeat,
            slow_answer,
        )

    def _object_headers(self, meta: ObjectMeta, *, copy: bool = False) -> dict[str, str]:
        """Return the headers of a new object, if put, uploaded in parts or copied."""
        properties = property_headers("x-amz-", meta, self._storage_class, copy=copy)
        return {**properties, **self._demanded, **metadata_headers(_META, meta)}

    def _source_headers(self, source_key: str, if_match: str) -> dict[str, str]:
        headers = {"x-amz-copy-source": self._bucket.source(source_key)}
        if if_match:
            headers["x-amz-copy-source-if-match"] = f'"{if_match}"'
        return headers

    def _require(self, verb: str, request: Request, response: Response) -> None:
        """Raise unless the answer has the status of a success, and no body."""
        if response.status not in EMPTY_SUCCESS[verb]:
            raise self.error(request, response)
        if response.body and response.body.strip():
            raise self._instead(request, response)

    def _instead(self, request: Request, response: Response) -> StoreError:
        """Return the error that a success holds instead of its document, or that it is not the store's."""
        if document(response.body, "Error") is not None:
            return self.error(request, response)
        return unclear(response)

    def _done_or_absent(self, verb: str, request: Request, response: Response, *codes: str) -> None:
        """Accept a removal: done, or nothing there to remove (which a bare 404 also says)."""
        if is_foreign(response):
            raise unclear(response)
        if response.status == 404 and (not response.body.strip() or facts(response).code in codes):
            return
        self._require(verb, request, response)

    def _document(self, root: str, request: Request, response: Response) -> Element:
        """Return the expected document; raise the error in the answer, or an unknown outcome."""
        if response.status != 200:
            raise self.error(request, response)
        page = document(response.body, root)
        if page is not None:
            return page
        raise self._instead(request, response)

    def _sent_etag(self, request: Request, response: Response) -> str:
        """Return the ETag of a body just sent. If its MD5 was sent, it is that, unless the store encrypts."""
        etag = bare_etag(response.headers.get("etag", ""))
        if not etag:
            raise unproven(response, "the answer has no ETag")
        md5 = request.headers.get("content-md5")
        if md5 is None or not _MD5.fullmatch(etag) or _encrypts(response):
            return etag
        if etag.lower() != base64.b64decode(md5).hex():
            raise PartCorrupt(
                f"the store acknowledged other bytes (ETag {etag}) than were sent",
                status=response.status,
                request_id=response.headers.get("x-amz-request-id", ""),
            )
        return etag

    def _etag_inside(self, root: str, request: Request, response: Response) -> str:
        etag = bare_etag(self._document(root, request, response).get("ETag"))
        if not etag:
            raise unproven(response, "the answer has no ETag")
        return etag


def _encrypts(response: Response) -> bool:
    """Return whether the ETag is not the content's: with keys of KMS or of the customer.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    headers = response.headers
    if "x-amz-server-side-encryption-customer-algorithm" in headers:
        return True
    return headers.get("x-amz-server-side-encryption", "AES256") != "AES256"


def _described(response: Response, key: str, size: int, crc32: int | None = None) -> ObjectInfo:
    headers = response.headers
    etag = bare_etag(headers.get("etag", ""))
    return described(_META, headers, key, size, etag, crc32, plain=not _encrypts(response))


def _demanded(settings: S3Settings) -> dict[str, str]:
    """Return the headers that the settings demand for every new object."""
    given = {
        "x-amz-server-side-encryption": settings.sse,
        "x-amz-server-side-encryption-aws-kms-key-id": settings.kms_key_id,
        "x-amz-acl": settings.acl,
        _LOCK_MODE: settings.lock_mode,
    }
    return {name: value for name, value in given.items() if value}


def _date(now: float) -> str:
    """Format Unix seconds as ISO 8601, for the retention of an object."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
