"""Reads BOS's answers, with suspicion: JSON, numbers, booleans, times, and pages of listings. Pure.

Servers of this protocol differ: numbers arrive as numbers or as text, optional fields are absent or empty. An
unreadable value is None; the caller decides whether that is an error.

Source: https://cloud.baidu.com/doc/BOS/s/Ekc4epj6m (objects; version 1 is all that the native API has).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from syncd.core.errors import StoreUnavailable
from syncd.core.model import ObjectInfo, UploadInfo
from syncd.storage.http.messages import Request, Response
from syncd.storage.http.metadata import bare_etag

_LONGEST_NUMBER = 40
MAX_VALUES = 200_000
"""Of one answer: ten thousand parts have a quarter. A value of three bytes takes sixty of memory."""
_MARKS = (b",", b"[", b"{")


def number(value: object) -> int | None:
    """Return a whole number of at least 0, from a number or decimal text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.strip().isdecimal():
        return int(value) if len(value) <= _LONGEST_NUMBER else None
    return value if isinstance(value, int) and value >= 0 else None


def truth(value: object) -> bool:
    """Return a boolean, from a boolean or the text ``true``."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def time_ns(value: object) -> int | None:
    """Return nanoseconds since 1970 from an ISO 8601 time, with or without fraction; UTC by default."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def body_object(response: Response) -> dict[str, Any] | None:
    """Return the body as a JSON object; None: it is empty, cut short, or something else."""
    if _values_in(response.body) > MAX_VALUES:
        return None
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _values_in(body: bytes) -> int:
    """Return an upper bound of the values in a JSON text.

    Keys may hold commas and brackets: only a body that seems to have too many is examined.
    """
    rough = sum(map(body.count, _MARKS))
    return rough if rough <= MAX_VALUES else _values_outside_texts(body)


def _values_outside_texts(body: bytes) -> int:
    """Stop as soon as there are too many. Builds nothing: the body may be hostile."""
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # every quote left begins or ends a text
    count = end = 0
    while count <= MAX_VALUES and end >= 0:
        begin = text.find(b'"', end)
        count += 1 + sum(text.count(mark, end, begin if begin >= 0 else len(text)) for mark in _MARKS)
        end = text.find(b'"', begin + 1) + 1 if begin >= 0 else -1
        if not end:  # an endless text
            break
    return count


def uploads_page(
    members: dict[str, Any], prefix: str, request: Request, response: Response
) -> tuple[list[UploadInfo], tuple[str, str] | None]:
    """The next marker is the last listed upload if BOS names none."""
    listed = [
        UploadInfo(item["key"], item["uploadId"], time_ns(item.get("initiated")))
        for item in items(members, "uploads")
        if isinstance(item.get("key"), str) and isinstance(item.get("uploadId"), str)
    ]
    uploads = [upload for upload in listed if upload.key.startswith(prefix)]
    if not truth(members.get("isTruncated")):
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


def objects_page(
    members: dict[str, Any], prefix: str, request: Request, response: Response
) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
    """The next marker is the last listed key if BOS names none."""
    listed = [
        ObjectInfo(item["key"], size, bare_etag(item.get("eTag")))
        for item in items(members, "contents")
        if isinstance(item.get("key"), str) and (size := number(item.get("size"))) is not None
    ]
    objects = [found for found in listed if found.key.startswith(prefix)]
    if not truth(members.get("isTruncated")):
        return objects, None
    behind = str(members.get("nextMarker") or (listed[-1].key if listed else ""))
    if not behind or not is_text(behind) or behind == dict(request.query).get("marker"):
        raise stuck("ListObjects", response)
    return objects, ("marker", behind)


def is_text(value: str) -> bool:
    """Return whether it can be sent: JSON may hold halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def items(members: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects in the array `name`; none if there is no such array."""
    found = members.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def stuck(what: str, response: Response) -> StoreUnavailable:
    """Return the error for a listing that cannot continue."""
    return StoreUnavailable(
        f"{what}: BOS says that more follows, but not from where",
        status=response.status,
        request_id=response.headers.get("x-bce-request-id", ""),
    )
