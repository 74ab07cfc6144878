"""The bench on which a store is examined: a place of its own under a prefix, and everything removed after."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from syncd.core.errors import AccessRefused, StoreError, StoreRefused, StoreUnavailable
from syncd.core.model import ObjectMeta, Part, Receipt
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import ObjectStore

Report = Callable[[str, bool | None, str], None]
"""Name of the check; passed, failed, or None for a remark; what was found and what to do."""

Outcome = tuple[bool | None, str]
"""Passed, failed, or None for a remark; and what was found."""

MTIME_NS = 1_600_000_000_123_456_789
"""A time that shows whether nanoseconds survive."""

_SAMPLE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that a probe has begun."""

    key: str
    id: str
    meta: ObjectMeta


class Bench:
    """One store under examination. Keys are under `prefix`, in a directory that nobody else has."""

    def __init__(self, store: ObjectStore, prefix: str, report: Report) -> None:
        self.store = store
        self.place = f"{prefix}syncd-check-{os.urandom(6).hex()}/"
        self._report = report
        self._keys: list[str] = []
        self._uploads: list[Upload] = []

    def run(self, name: str, probe: Callable[[Bench], Outcome]) -> None:
        """Run a probe and report it. What is about the whole store goes up; other errors are the result."""
        try:
            passed, detail = probe(self)
        except (AccessRefused, StoreUnavailable):
            raise
        except StoreError as error:
            passed, detail = False, str(error)
        self._report(name, passed, detail)

    def key(self, name: str) -> str:
        """A key for a probe; its object is removed in the end."""
        key = self.place + name
        self._keys.append(key)
        return key

    def meta(self, body: bytes) -> ObjectMeta:
        """Metadata for an object with this content, as the daemon would send it."""
        return ObjectMeta(of_bytes(body), MTIME_NS, token=os.urandom(8).hex(), content_type="text/plain")

    def put(self, name: str, body: bytes) -> tuple[str, Receipt]:
        """An object with this content: its key and the receipt."""
        key = self.key(name)
        try:
            return key, self.store.put_object(key, body, self.meta(body))
        except StoreRefused:
            self._keys.remove(key)  # nothing was stored, and such a key may be refused to delete as well
            raise

    def begin(self, name: str, body: bytes) -> Upload:
        """A multipart upload of an object that is to have this content; aborted in the end."""
        key, meta = self.key(name), self.meta(body)
        upload = Upload(key, self.store.create_multipart_upload(key, meta), meta)
        self._uploads.append(upload)
        return upload

    def part(self, upload: Upload, number: int, body: bytes) -> Part:
        """Send one part."""
        return self.store.upload_part(upload.key, upload.id, number, body)

    def complete(self, upload: Upload, parts: list[Part]) -> Receipt:
        """Complete an upload from parts in ascending order."""
        return self.store.complete_multipart_upload(upload.key, upload.id, parts, upload.meta)

    def differs(self, key: str, body: bytes) -> str | None:
        """How the object differs from `body`, None when it does not: size, checksum, samples of content."""
        info = self.store.head_object(key)
        if info is None:
            return "the object is not there"
        if info.size != len(body):
            return f"it has {info.size} bytes, not {len(body)}"
        if info.crc32 is not None and info.crc32 != zlib.crc32(body):
            return "the store's checksum is that of another content"
        for first in sorted({0, len(body) // 2, max(0, len(body) - _SAMPLE_BYTES)}):
            last = min(first + _SAMPLE_BYTES, len(body)) - 1
            if last >= first and self.store.get_object(key, first, last) != body[first : last + 1]:
                return f"other bytes at {first}"
        return None

    def refusal(self, call: Callable[[], object], *kinds: type[StoreError]) -> StoreError | None:
        """The refusal of one of these kinds that the call ends in; None when it succeeds.

        What is about the whole store goes up, as does every other kind.
        """
        try:
            call()
        except AccessRefused:
            raise
        except kinds as refused:
            return refused
        return None

    def clean(self) -> list[str]:
        """Remove everything; returns what could not be removed, by name."""
        left = [f"upload {upload.id} of {upload.key}" for upload in self._uploads if not self._abort(upload)]
        return left + [key for key in dict.fromkeys(self._keys) if not self._delete(key)]

    def _abort(self, upload: Upload) -> bool:
        try:
            self.store.abort_multipart_upload(upload.key, upload.id)
        except StoreError:
            return False
        return True

    def _delete(self, key: str) -> bool:
        try:
            self.store.delete_object(key)
        except StoreError:
            return False
        return True


def said(refused: StoreError) -> str:
    """Status and code of a refusal, as far as it has them."""
    return f"{refused.status or ''} {refused.code}".strip() or type(refused).__name__


def altered(part: Part) -> Part:
    """The same part with another ETag."""
    first = "1" if part.etag.startswith("0") else "0"
    return replace(part, etag=first + part.etag[1:])
