"""A store as seen from outside: not through our client, not through the proxy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.support.bos_server import BosServer
from tests.support.servers import S3Server


class Shelf(Protocol):
    """The objects of one bucket or directory."""

    def versions(self) -> dict[str, object]:
        """Each key, and something that is another when the object is another."""
        ...

    def fetch(self, key: str) -> bytes | None:
        """The whole object; None when there is none."""
        ...

    def unfinished(self) -> list[str]:
        """The keys of the unfinished uploads."""
        ...


class BucketShelf:
    """A bucket of a real S3 server, through boto3."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self._client: Any = server.client()
        self._bucket = bucket

    def versions(self) -> dict[str, object]:
        """Keys with ETag, size and time."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return {
            entry["Key"]: (entry["ETag"], entry["Size"], entry["LastModified"])
            for page in pages
            for entry in page.get("Contents", [])
        }

    def fetch(self, key: str) -> bytes | None:
        """One GET."""
        try:
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None
        return body

    def unfinished(self) -> list[str]:
        """As the server lists them."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket)
        return [entry["Key"] for page in pages for entry in page.get("Uploads", [])]


class BosShelf:
    """What the BOS server of the tests has on its disk."""

    def __init__(self, server: BosServer, bucket: str) -> None:
        self._lock = server.disk.lock
        self._stored = server.disk.buckets[bucket]

    def versions(self) -> dict[str, object]:
        """Keys with the names of the files that hold them."""
        with self._lock:
            objects: Mapping[str, Any] = self._stored.objects
            return {key: tuple(blob.file for blob in found.blobs) for key, found in objects.items()}

    def fetch(self, key: str) -> bytes | None:
        """Read from the disk."""
        with self._lock:
            found = self._stored.objects.get(key)
            return None if found is None else self._stored.read(found.blobs, 0, found.size - 1)

    def unfinished(self) -> list[str]:
        """As the disk has them."""
        with self._lock:
            return [upload.key for upload in self._stored.uploads.values()]


class DirectoryShelf:
    """A directory: objects are files, and what begins with ``.syncd`` is the store's own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def versions(self) -> dict[str, object]:
        """Keys with inode, size and times."""
        found: dict[str, object] = {}
        for directory, folders, files in os.walk(self._path):
            folders[:] = [name for name in folders if name != ".syncd"]
            for name in files:
                path = os.path.join(directory, name)
                stat = _or_none(lambda path=path: os.stat(path))  # type: ignore[misc]
                if stat is not None:
                    key = os.path.relpath(path, self._path)
                    found[key] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        return found

    def fetch(self, key: str) -> bytes | None:
        """Open and read: an object is renamed into place, so an open one stays what it is."""
        return _or_none((self._path / key).read_bytes)

    def unfinished(self) -> list[str]:
        """By the names of their directories."""
        return _or_none(lambda: os.listdir(self._path / ".syncd" / "uploads")) or []


def _or_none(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except FileNotFoundError:
        return None
