"""What BOS lists about a bucket: objects and unfinished uploads, a page at a time. Pure.

Source: https://cloud.baidu.com/doc/BOS/s/Ekc4epj6m (objects; version 1 is all that the native API has).
"""

from __future__ import annotations

from typing import Any

from syncd.core.errors import StoreUnavailable
from syncd.core.model import ObjectInfo, UploadInfo
from syncd.storage.bos import values as bos_values
from syncd.storage.bos.bucket import Bucket
from syncd.storage.http.messages import Request, Response

PAGE = "1000"
"""The most that one answer lists."""


def uploads_request(bucket: Bucket, prefix: str, after: tuple[str, str] | None) -> Request:
    """ListMultipartUploads below `prefix`, from behind the marker (key, upload id)."""
    query = [("uploads", ""), ("maxUploads", PAGE)]
    if prefix:
        query.append(("prefix", prefix))
    if after is not None:
        query += [("keyMarker", after[0]), ("uploadIdMarker", after[1])]
    return Request("GET", bucket.host, bucket.path, query=tuple(query))


def uploads_page(
    members: dict[str, Any], prefix: str, request: Request, response: Response
) -> tuple[list[UploadInfo], tuple[str, str] | None]:
    """The next marker is the last upload listed where BOS names none."""
    listed = [
        UploadInfo(item["key"], item["uploadId"], bos_values.time_ns(item.get("initiated")))
        for item in items(members, "uploads")
        if isinstance(item.get("key"), str) and isinstance(item.get("uploadId"), str)
    ]
    uploads = [upload for upload in listed if upload.key.startswith(prefix)]
    if not bos_values.truth(members.get("isTruncated")):
        return uploads, None
    last = listed[-1] if listed else UploadInfo("", "")
    behind = (
        str(members.get("nextKeyMarker") or last.key),
        str(members.get("nextUploadIdMarker") or last.upload_id),
    )
    asked = dict(request.query)
    if not behind[0] or behind == (asked.get("keyMarker"), asked.get("uploadIdMarker")):
        raise stuck("ListMultipartUploads", response)
    return uploads, behind


def objects_request(bucket: Bucket, prefix: str, after: tuple[str, str] | None) -> Request:
    """ListObjects below `prefix`, from behind the marker (parameter, value)."""
    query = [("maxKeys", PAGE)]
    if prefix:
        query.append(("prefix", prefix))
    if after is not None:
        query.append(after)
    return Request("GET", bucket.host, bucket.path, query=tuple(query))


def objects_page(
    members: dict[str, Any], prefix: str, request: Request, response: Response
) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
    """The next marker is the last key listed where BOS names none."""
    listed = [
        ObjectInfo(item["key"], size, bos_values.etag(item.get("eTag")))
        for item in items(members, "contents")
        if isinstance(item.get("key"), str) and (size := bos_values.number(item.get("size"))) is not None
    ]
    objects = [found for found in listed if found.key.startswith(prefix)]
    if not bos_values.truth(members.get("isTruncated")):
        return objects, None
    behind = str(members.get("nextMarker") or (listed[-1].key if listed else ""))
    if not behind or behind == dict(request.query).get("marker"):
        raise stuck("ListObjects", response)
    return objects, ("marker", behind)


def items(members: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in the array `name`; none when there is no such array."""
    found = members.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def stuck(what: str, response: Response) -> StoreUnavailable:
    """A listing that cannot be gone on with."""
    return StoreUnavailable(
        f"{what}: BOS says that more follows, but not from where",
        status=response.status,
        request_id=response.headers.get("x-bce-request-id", ""),
    )
