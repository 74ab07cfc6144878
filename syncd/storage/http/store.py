"""Stores: a dialect and a transport joined to an `ObjectStore`, wrapped in retry, opened from settings.

`HttpStore` sends each request once. It signs anew every time, with the keys of the moment and a clock
corrected by the server's own; reads all pages of a listing; and where the server cut off a body, it asks with
a small request what the matter was, because the refusal itself is lost with the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import xxhash

from syncd.core.backoff import Schedule
from syncd.core.errors import AccessRefused, StoreError, StoreRefused, StoreUnavailable, UploadGone
from syncd.core.model import ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.storage.base import (
    Body,
    BosSettings,
    CredentialsSource,
    Dialect,
    DirSettings,
    ObjectStore,
    Request,
    Response,
    S3Settings,
    StoreLimits,
    StoreSettings,
)
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.dir.store import DirStore, store_id_of
from syncd.storage.http.clock_skew import ClockSkew
from syncd.storage.http.credentials import credentials_source
from syncd.storage.http.errors import ConnectionLost
from syncd.storage.http.transport import Transport, open_transport
from syncd.storage.metered import MeteredStore
from syncd.storage.pages import Pages
from syncd.storage.retry import RetryingStore
from syncd.storage.s3.dialect import S3Dialect

__all__ = ["HttpStore", "RetryingStore", "StoreContext", "open_store"]

MAX_UPLOADS_BYTES = 64 << 20
"""Of memory that a list of uploads may take: some two hundred thousand of them."""
_UPLOAD_BYTES = 200
PROBE_BYTES = 128 << 10
"""A body larger than this is worth a question before it is sent again."""

_T = TypeVar("_T")
_log = logging.getLogger("syncd.store")


class HttpStore:
    """An `ObjectStore` that speaks `dialect` over `transport`.

    `now` gives Unix seconds. `on_request` is called for every request that goes out.
    """

    def __init__(
        self,
        dialect: Dialect,
        transport: Transport,
        credentials: CredentialsSource,
        now: Callable[[], float],
        *,
        on_request: Callable[[], None] = lambda: None,
    ) -> None:
        self._dialect = dialect
        self._transport = transport
        self._credentials = credentials
        self._now = now
        self._on_request = on_request
        self._skew = ClockSkew()

    @property
    def store_id(self) -> str:
        """That of the dialect."""
        return self._dialect.store_id

    @property
    def limits(self) -> StoreLimits:
        """Those of the dialect."""
        return self._dialect.limits

    @property
    def clock_skew_seconds(self) -> float:
        """By how much the server's clock is ahead of ours; 0 when the two agree well enough."""
        return self._skew.seconds

    # ---- one request -------------------------------------------------------------------------------------

    def _send(self, request: Request, read: Callable[[Request, Response], _T]) -> _T:
        """Sign, send, learn the server's clock, read the answer."""
        credentials = self._credentials()
        sent_at = self._now()
        signed = self._dialect.sign(request, credentials, sent_at + self._skew.seconds)
        self._on_request()
        response = self._transport.send(signed)
        date = response.headers.get("date", "")
        refused = response.status in (400, 401, 403)
        corrected = self._skew.learn(date, sent_at, self._now(), at_once=refused)
        try:
            return read(signed, response)
        except StoreError as error:
            if not (refused and corrected):
                raise
            raise self._clock_was_off(error) from error

    def _clock_was_off(self, error: StoreError) -> StoreUnavailable:
        """The refusal may be about the time alone: worth one more try with the server's."""
        text = f"this machine's clock and the store's differ by {abs(self._skew.seconds):.0f} s"
        _log.warning("%s; requests are signed with the store's time", text)
        return StoreUnavailable(
            text,
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            hint="set this machine's clock",
            retry_after_seconds=0.0,
        )

    def _send_body(
        self, request: Request, read: Callable[[Request, Response], _T], ask: Callable[[], object]
    ) -> _T:
        """As `_send`. When the server hung up on a large body, `ask` finds out whether it would refuse it."""
        try:
            return self._send(request, read)
        except ConnectionLost:
            if memoryview(request.body).nbytes > PROBE_BYTES:
                self._ask(ask)
            raise

    def _ask(self, ask: Callable[[], object]) -> None:
        """Raises what a refusal of everything would be; any other answer proves nothing about the body."""
        try:
            ask()
        except (AccessRefused, UploadGone):
            raise
        except StoreError:
            return

    # ---- whole objects -----------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        """One request."""
        request = self._dialect.put_request(key, body, meta)
        return self._send_body(
            request, lambda *pair: self._dialect.put_result(key, *pair), lambda: self._first_byte(key)
        )

    def head_object(self, key: str) -> ObjectInfo | None:
        """One request; two where the first is refused, for a refused HEAD does not say why."""
        request = self._dialect.head_request(key)
        try:
            return self._send(request, lambda *pair: self._dialect.head_result(key, *pair))
        except StoreRefused as refused:
            if refused.status not in (400, 403) or refused.code:
                raise
            self._ask(lambda: self._first_byte(key))
            raise

    def _first_byte(self, key: str) -> bytes:
        """The cheapest question about an object whose refusal says why."""
        return self.get_object(key, 0, 0)

    def get_object(self, key: str, first: int, last: int) -> bytes:
        """One request."""
        request = self._dialect.get_request(key, first, last)
        return self._send(request, lambda *pair: self._dialect.get_result(key, first, last, *pair))

    def delete_object(self, key: str) -> None:
        """One request."""
        request = self._dialect.delete_request(key)
        self._send(request, lambda *pair: self._dialect.delete_result(key, *pair))

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        """One request. The receipt's ETag tells whether a store kept to the condition."""
        request = self._dialect.copy_request(source_key, key, meta, if_match)
        return self._send(request, lambda *pair: self._dialect.copy_result(key, *pair))

    # ---- multipart ---------------------------------------------------------------------------------------

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        """One request."""
        request = self._dialect.create_request(key, meta)
        return self._send(request, lambda *pair: self._dialect.create_result(key, *pair))

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """One request. The part's digest is that of `body`; its crc32 is set where the dialect uses one."""
        request = self._dialect.part_request(key, upload_id, number, body)
        part = self._send_body(
            request,
            lambda *pair: self._dialect.part_result(key, upload_id, number, body, *pair),
            lambda: self._parts_page(key, upload_id, number - 1),
        )
        return part if part.digest is not None else replace(part, digest=xxhash.xxh3_128_digest(body))

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        """One request."""
        request = self._dialect.part_copy_request(key, upload_id, number, source_key, first, last, if_match)
        size = last - first + 1
        return self._send(
            request, lambda *pair: self._dialect.part_copy_result(key, upload_id, number, size, *pair)
        )

    def _parts_page(self, key: str, upload_id: str, after: int) -> tuple[list[Part], int | None]:
        request = self._dialect.parts_request(key, upload_id, after)
        return self._send(request, lambda *pair: self._dialect.parts_result(key, upload_id, *pair))

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """As many requests as there are pages. A marker that does not move ends the list: what is missing
        from it is sent again, which costs bytes but never truth. So does one behind the last number there is.
        """
        most = self.limits.max_parts
        found: dict[int, Part] = {}
        after = 0
        while True:
            page, following = self._parts_page(key, upload_id, after)
            found.update((part.number, part) for part in page if part.number <= most)
            if following is None:
                break
            if following <= after or following > most:
                _log.warning("%s repeats a page of its list of parts", self.store_id)
                break
            after = following
        return [found[number] for number in sorted(found)]

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        """One request."""
        request = self._dialect.complete_request(key, upload_id, parts, meta)
        return self._send(request, lambda *pair: self._dialect.complete_result(key, upload_id, *pair))

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """One request."""
        request = self._dialect.abort_request(key, upload_id)
        self._send(request, lambda *pair: self._dialect.abort_result(key, upload_id, *pair))

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        """As many requests as there are pages, each when it is needed; none of them told twice. A page
        without anything new ends the list, and so does a list that has no end.
        """
        size = 0
        seen: set[tuple[str, str]] = set()
        after: tuple[str, str] | None = None
        while True:
            request = self._dialect.uploads_request(prefix, after)
            page, following = self._send(request, lambda *pair: self._dialect.uploads_result(prefix, *pair))
            fresh = [upload for upload in page if (upload.key, upload.upload_id) not in seen]
            seen.update((upload.key, upload.upload_id) for upload in fresh)
            yield from fresh
            if following is None:
                return
            size += sum(len(upload.key) + len(upload.upload_id) + _UPLOAD_BYTES for upload in fresh)
            if size > MAX_UPLOADS_BYTES:
                _log.warning("%s lists uploads without end; the first %d are taken", self.store_id, len(seen))
                return
            if following == after or not fresh:
                _log.warning("%s repeats a page of its list of uploads", self.store_id)
                return
            after = following

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """As many requests as there are pages, each when it is needed."""

        def page(after: tuple[str, str] | None) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
            request = self._dialect.objects_request(prefix, after)
            return self._send(request, lambda *pair: self._dialect.objects_result(prefix, *pair))

        return Pages(page)

    def close(self) -> None:
        """Closes the transport."""
        self._transport.close()


@dataclass(frozen=True, slots=True)
class StoreContext:
    """What a store takes from its surroundings."""

    should_stop: Callable[[], bool]
    sleep: Callable[[float], None]
    """Seconds; raises Stopped at shutdown."""
    chance: Callable[[], float]
    """A number from 0 up to 1."""
    now: Callable[[], float]
    """Unix seconds."""
    on_sent: Callable[[int], None] = lambda size: None
    """Bytes of body that went out, from any thread, also those of a request that fails later."""
    on_request: Callable[[], None] = lambda: None
    """A request goes out, from any thread."""
    on_silence: Callable[[], None] = lambda: None
    """The calling thread may give no sign of life for long, until it asks `should_stop` again."""
    recall: Callable[[str], str] = lambda store_id: ""
    """The identity of a directory store when it was last used; empty when it never was."""
    remember: Callable[[str, str], None] = lambda store_id, instance: None
    is_shut: Callable[[], bool] = lambda: False
    """The store is left alone now: a request is a probe."""
    on_busy: Callable[[], None] = lambda: None
    """The store wants fewer requests, from any thread."""
    on_answer: Callable[[], None] = lambda: None
    """The store did what it was asked for, from any thread."""
    max_tries: int = 5
    schedule: Schedule = field(default_factory=Schedule)


def open_store(settings: StoreSettings, *, wiring: StoreContext) -> ObjectStore:
    """The store that the settings describe, with retry. Opens no connection yet.

    Raises AccessRefused when the settings cannot be an address, StoreError when a directory cannot be used.
    """
    return RetryingStore(
        _open(settings, wiring),
        wiring.schedule,
        max_tries=wiring.max_tries,
        sleep=wiring.sleep,
        chance=wiring.chance,
        is_shut=wiring.is_shut,
        on_busy=wiring.on_busy,
        on_answer=wiring.on_answer,
    )


def _remembered(settings: DirSettings, wiring: StoreContext) -> DirStore:
    """An unmounted disk leaves an empty directory: the right one is known by its marker."""
    store_id = store_id_of(settings)
    return DirStore(
        settings,
        instance=wiring.recall(store_id),
        on_instance=lambda instance: wiring.remember(store_id, instance),
    )


def _open(settings: StoreSettings, wiring: StoreContext) -> ObjectStore:
    if isinstance(settings, DirSettings):
        return MeteredStore(
            _remembered(settings, wiring),
            on_request=wiring.on_request,
            on_sent=wiring.on_sent,
            on_silence=wiring.on_silence,
            alive=wiring.should_stop,
        )
    dialect: Dialect = BosDialect(settings) if isinstance(settings, BosSettings) else S3Dialect(settings)
    transport = open_transport(settings.http, should_stop=wiring.should_stop, on_sent=wiring.on_sent)
    keys = credentials_source(settings.keys, chain=isinstance(settings, S3Settings))
    return HttpStore(dialect, transport, keys, wiring.now, on_request=wiring.on_request)
