"""A store without a wire, measured as if it had one: bytes held back by the limit, requests counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from syncd.core.model import ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.storage.base import Body, ObjectStore, StoreLimits


class MeteredStore(ObjectStore):
    """`inner`, every verb of which counts as one request and every body as bytes sent.

    `on_request` is called before each verb, `on_sent` with the bytes of a body before it goes: there the
    caller waits when that is too fast. `on_silence` says that the calling thread may now give no sign of life
    for long (a disk that joins a large object), `alive` that it is back.
    """

    def __init__(
        self,
        inner: ObjectStore,
        *,
        on_request: Callable[[], None],
        on_sent: Callable[[int], None],
        on_silence: Callable[[], None],
        alive: Callable[[], object],
    ) -> None:
        self._inner = inner
        self._on_request = on_request
        self._on_sent = on_sent
        self._on_silence = on_silence
        self._alive = alive

    @contextmanager
    def _request(self, body: Body = b"") -> Iterator[None]:
        self._on_request()
        if len(body):
            self._on_sent(len(body))
        self._on_silence()
        try:
            yield
        finally:
            self._alive()

    @property
    def store_id(self) -> str:
        return self._inner.store_id

    @property
    def limits(self) -> StoreLimits:
        return self._inner.limits

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        with self._request(body):
            return self._inner.put_object(key, body, meta)

    def head_object(self, key: str) -> ObjectInfo | None:
        with self._request():
            return self._inner.head_object(key)

    def get_object(self, key: str, first: int, last: int) -> bytes:
        with self._request():
            return self._inner.get_object(key, first, last)

    def delete_object(self, key: str) -> None:
        with self._request():
            self._inner.delete_object(key)

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        with self._request():
            return self._inner.copy_object(source_key, key, meta, if_match)

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        with self._request():
            return self._inner.create_multipart_upload(key, meta)

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        with self._request(body):
            return self._inner.upload_part(key, upload_id, number, body)

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        with self._request():
            return self._inner.upload_part_copy(key, upload_id, number, source_key, first, last, if_match)

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        with self._request():
            return self._inner.list_parts(key, upload_id)

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        with self._request():
            return self._inner.complete_multipart_upload(key, upload_id, parts, meta)

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        with self._request():
            self._inner.abort_multipart_upload(key, upload_id)

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        with self._request():
            return self._inner.list_multipart_uploads(prefix)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._request():
            return self._inner.list_objects(prefix)

    def close(self) -> None:
        self._inner.close()
