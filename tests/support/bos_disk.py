"""What the BOS server of the tests keeps, in a directory: objects, uploads and parts survive its own restart.

Contents are files under random names; a JSON row beside them says which they are. A row is renamed into
place, so that a killed server leaves either the old object or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Blob:
    """Bytes in one file."""

    file: str
    size: int
    md5: str
    crc32: int


@dataclass(slots=True)
class StoredPart:
    """One part of an unfinished upload."""

    number: int
    blob: Blob
    modified: float


@dataclass(slots=True)
class Upload:
    """An unfinished multipart upload."""

    id: str
    key: str
    initiated: float
    headers: dict[str, str]
    parts: dict[int, StoredPart] = field(default_factory=dict)


@dataclass(slots=True)
class StoredObject:
    """An object: one or more files in order, and the headers that HEAD gives back."""

    key: str
    etag: str
    modified: float
    headers: dict[str, str]
    """Content type, storage class and metadata, as the client sent them, names in lower case."""
    blobs: list[Blob]
    crc32: int
    md5: str = ""
    """Empty for objects made of parts."""

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.blobs)


class Bucket:
    """One bucket in a directory of its own."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, Upload] = {}
        for name in ("data", "objects", "uploads"):
            os.makedirs(os.path.join(directory, name), exist_ok=True)
        for row in self._rows("objects"):
            stored = StoredObject(**{**row, "blobs": [Blob(**blob) for blob in row["blobs"]]})
            self.objects[stored.key] = stored
        for row in self._rows("uploads"):
            parts = {int(number): _part(part) for number, part in row["parts"].items()}
            self.uploads[row["id"]] = Upload(**{**row, "parts": parts})

    def new_file(self) -> str:
        """The name of a file to write content into."""
        return uuid.uuid4().hex

    def path(self, file: str) -> str:
        """Where the content of that name is."""
        return os.path.join(self._directory, "data", file)

    def put(self, stored: StoredObject) -> None:
        """Make it the object of its key; what was there is gone."""
        old = self.objects.get(stored.key)
        self.objects[stored.key] = stored
        self._write("objects", _name(stored.key), asdict(stored))
        if old is not None:
            kept = {blob.file for blob in stored.blobs}
            self._drop(*(blob for blob in old.blobs if blob.file not in kept))

    def delete(self, key: str) -> None:
        """Remove an object."""
        stored = self.objects.pop(key)
        os.unlink(os.path.join(self._directory, "objects", _name(key)))
        self._drop(*stored.blobs)

    def save_upload(self, upload: Upload) -> None:
        """Keep an upload, new or changed."""
        self.uploads[upload.id] = upload
        self._write("uploads", upload.id, asdict(upload))

    def put_part(self, upload: Upload, part: StoredPart) -> None:
        """Add a part to an upload; one of the same number is replaced."""
        old = upload.parts.get(part.number)
        upload.parts[part.number] = part
        self.save_upload(upload)
        if old is not None:
            self._drop(old.blob)

    def drop_upload(self, upload: Upload, keep: list[Blob]) -> None:
        """Forget an upload and the parts that are not in `keep`."""
        del self.uploads[upload.id]
        os.unlink(os.path.join(self._directory, "uploads", upload.id))
        kept = {blob.file for blob in keep}
        self._drop(*(part.blob for part in upload.parts.values() if part.blob.file not in kept))

    def read(self, blobs: list[Blob], first: int, last: int) -> bytes:
        """Bytes `first` to `last` of the files in order, both included."""
        out = bytearray()
        start = 0
        for blob in blobs:
            skip, stop = max(0, first - start), min(blob.size, last - start + 1)
            if skip < stop:
                with open(self.path(blob.file), "rb") as file:
                    file.seek(skip)
                    out += file.read(stop - skip)
            start += blob.size
        return bytes(out)

    def crc32(self, blobs: list[Blob]) -> int:
        """CRC-32 of the files in order, read and not combined."""
        crc = 0
        for blob in blobs:
            with open(self.path(blob.file), "rb") as file:
                while block := file.read(1 << 20):
                    crc = zlib.crc32(block, crc)
        return crc

    def store_bytes(self, content: bytes) -> Blob:
        """Content that is already in memory."""
        file = self.new_file()
        with open(self.path(file), "wb") as out:
            out.write(content)
        return Blob(file, len(content), hashlib.md5(content).hexdigest(), zlib.crc32(content))

    def flip_a_bit(self, blob: Blob) -> None:
        """Damage stored content without telling anybody."""
        with open(self.path(blob.file), "r+b") as file:
            first = file.read(1)
            file.seek(0)
            file.write(bytes((first[0] ^ 1,)))

    def _drop(self, *blobs: Blob) -> None:
        for blob in blobs:
            os.unlink(self.path(blob.file))

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        rows = []
        with os.scandir(os.path.join(self._directory, kind)) as entries:
            for entry in entries:
                if not entry.name.endswith(".new"):
                    with open(entry.path, encoding="utf-8") as file:
                        rows.append(json.load(file))
        return rows

    def _write(self, kind: str, name: str, row: dict[str, Any]) -> None:
        path = os.path.join(self._directory, kind, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(row, file)
        os.replace(f"{path}.new", path)


class Disk:
    """All buckets, and the lock that guards them."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.lock = threading.RLock()
        os.makedirs(directory, exist_ok=True)
        with os.scandir(directory) as entries:
            self.buckets = {entry.name: Bucket(entry.path) for entry in entries if entry.is_dir()}

    def create(self, name: str) -> Bucket:
        """The bucket of that name, made if there is none."""
        with self.lock:
            if name not in self.buckets:
                self.buckets[name] = Bucket(os.path.join(self._directory, name))
            return self.buckets[name]


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _part(row: dict[str, Any]) -> StoredPart:
    return StoredPart(row["number"], Blob(**row["blob"]), row["modified"])
