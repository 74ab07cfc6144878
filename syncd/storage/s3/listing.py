"""What S3 lists about a bucket: objects and unfinished uploads, a page at a time. Pure.

Keys are asked for percent-encoded, since XML cannot hold every character.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

from urllib.parse import unquote, unquote_plus

from syncd.core.model import ObjectInfo
from syncd.storage.http.messages import Request
from syncd.storage.s3.bucket import Bucket
from syncd.storage.s3.xml import Element, bare_etag, silently_encoded, truncated, whole_number

Marker = tuple[str, str]
"""The parameter of the next request that says where to go on, and its value."""


def uploads_request(bucket: Bucket, prefix: str, after: tuple[str, str] | None) -> Request:
    """ListMultipartUploads, one page, from behind the marker (key, upload id)."""
    query = [("encoding-type", "url")]
    if after is not None:
        query += [("key-marker", after[0])]
    query += [("prefix", prefix)] if prefix else []
    query += [("upload-id-marker", after[1])] if after is not None and after[1] else []
    return Request("GET", bucket.host, bucket.path(), (*query, ("uploads", "")))


def objects_request(bucket: Bucket, prefix: str, after: Marker | None) -> Request:
    """ListObjectsV2, one page."""
    query = [("encoding-type", "url"), ("list-type", "2")]
    query += [("prefix", prefix)] if prefix else []
    query += [after] if after is not None else []
    return Request("GET", bucket.host, bucket.path(), tuple(sorted(query)))


def objects_page(page: Element, prefix: str) -> tuple[list[ObjectInfo], Marker | None] | None:
    """The objects under `prefix` of a ListBucketResult and the marker of the next page, None when it is the
    last; None for all of it when it makes no sense.

    What is not under `prefix` is left out, should the server have ignored it. One that leaves out whether
    there is more has no more; one that has more, but no token for it, is asked for what follows its last key.
    """
    listed = list(page.all("Contents"))
    keys = [found.get("Key") for found in listed]
    if page.get("EncodingType") == "url":
        keys = [unquote_plus(key) for key in keys]  # a blank may be a plus, a plus is always %2B
    elif silently_encoded(keys, page.get("NextMarker")):
        keys = [unquote(key) for key in keys]
    objects = []
    for key, found in zip(keys, listed, strict=True):
        size = whole_number(found.get("Size"))
        if not key or size is None:
            return None
        if key.startswith(prefix):
            objects.append(ObjectInfo(key, size, bare_etag(found.get("ETag"))))
    if not truncated(page):
        return objects, None
    token = page.get("NextContinuationToken").strip()
    if token:
        return objects, ("continuation-token", token)
    return objects, ("start-after", keys[-1]) if keys else None
