"""Joins a dialect and a transport to an `ObjectStore`; learns how the server's clock differs from ours.

`HttpStore` sends each request once. It signs with the current keys and a clock corrected by the server's. It
reads all pages of a listing. If the server cut off a body, it asks with a small request why, because the
refusal is lost with the connection. If a success proves nothing, one more request settles it: what the store
has under the key, or in the upload.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TypeVar

from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    ConnectionLost,
    PartCorrupt,
    PreconditionFailed,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Content, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.storage.base import EVERY_PART, Body, Digests, Finding, Memory, Meter, Pages, StoreLimits
from syncd.storage.checks import MEANT, SENT, Checks
from syncd.storage.digests import crc32, md5_hex
from syncd.storage.http.errors import NOT_THE_STORES, Marks, Unproven, unproven
from syncd.storage.http.messages import Credentials, CredentialsSource, Dialect, Request, Response
from syncd.storage.http.metadata import bare_etag
from syncd.storage.http.transport import Transport

MAX_UPLOADS_BYTES = 64 << 20
"""The most memory that a list of uploads may take: about two hundred thousand uploads."""
_UPLOAD_BYTES = 200
PROBE_BYTES = 128 << 10
"""Before a body larger than this is sent again, a small request checks why it failed."""
TOLERANCE_SECONDS = 60.0
"""A signature is valid for some minutes around the server's time, so smaller differences do not count."""
_REMEMBERED = 3
_T = TypeVar("_T")
_log = logging.getLogger("syncd.store")


class HttpStore:
    """An `ObjectStore` that speaks `dialect` over `transport`. `now` gives Unix seconds."""

    def __init__(
        self,
        dialect: Dialect,
        transport: Transport,
        credentials: CredentialsSource,
        now: Callable[[], float],
        meter: Meter = Meter(),
        keys_refused: Callable[[], None] = lambda: None,
        digests: Memory | None = None,
    ) -> None:
        self._dialect = dialect
        self._transport = transport
        self._credentials = credentials
        self._now = now
        self._meter = meter
        self._keys_refused = keys_refused
        self._checks = Checks(dialect, digests, now)
        self._skew = ClockSkew()
        self._marks = Marks(dialect.own_header)

    @cached_property
    def store_id(self) -> str:
        return self._dialect.store_id

    @cached_property
    def limits(self) -> StoreLimits:
        return self._dialect.limits

    # ---- one request -------------------------------------------------------------------------------------

    def _send(
        self,
        request: Request,
        read: Callable[[Request, Response], _T],
        ask: Callable[[], object] = lambda: None,
    ) -> _T:
        """Sign, send, learn the server's clock, read the answer. If the server hung up on a large body, `ask`
        finds out whether it would refuse it.
        """
        credentials = self._credentials()
        sent_at = self._now()
        signed = self._dialect.sign(request, credentials, sent_at + self._skew.seconds)
        self._meter.requested()
        try:
            response = self._sent(signed)
        except ConnectionLost:
            if memoryview(request.body).nbytes > PROBE_BYTES:
                self._ask(ask)
            raise
        date = response.headers.get("date", "")
        refused = response.status in (400, 401, 403)
        corrected = self._skew.learn(date, sent_at, self._now, at_once=refused)
        try:
            return read(signed, response)
        except StoreError as error:
            if refused and corrected:
                raise self._clock_was_off(error) from error
            if isinstance(error, AccessRefused) and error.credentials:
                self._keys_refused()
                if self._are_renewed(credentials):
                    raise _once_more(error, "the store refused keys, and there are newer ones") from error
            raise

    def _sent(self, signed: Request) -> Response:
        status, began = None, time.monotonic()
        try:
            response = self._transport.send(signed)
            status = response.status
        finally:
            self._meter.answered(signed.operation, status, time.monotonic() - began)
        return response

    def _are_renewed(self, refused: Credentials) -> bool:
        try:
            return self._credentials() != refused
        except AccessRefused:
            return False

    def _clock_was_off(self, error: StoreError) -> StoreUnavailable:
        """Return the error for one more try with the server's time, the likely cause."""
        text = f"this machine's clock and the store's differ by {abs(self._skew.seconds):.0f} s"
        _log.warning("%s; requests are signed with the store's time", text)
        return _once_more(error, text, "set this machine's clock")

    def _ask(self, ask: Callable[[], object]) -> None:
        """Ask. Raises refusals of everything, and errors worth one more try; any other answer proves nothing
        about the body.
        """
        try:
            ask()
        except (AccessRefused, UploadGone, OnceMore):
            raise
        except StoreError:
            return

    # ---- whole objects -----------------------------------------------------------------------------------

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        """One request; a HEAD more where the answer to the first proves nothing."""
        found = self._checks.found()
        request = self._dialect.put_request(key, body, meta, found.check)

        def read(signed: Request, response: Response) -> Receipt:
            receipt = self._dialect.put_result(key, signed, response)
            self._prove(response, receipt.etag, body, found.digests)
            return receipt

        try:
            return self._send(request, read, lambda: self._first_byte(key))
        except Unproven as doubt:
            return self._found(key, meta, body, doubt)

    def _prove(self, response: Response, etag: str, body: Body, digests: Digests) -> None:
        """Raise Unproven if neither the headers nor the ETag certainly come from the store.

        If the store ignores digests, only the ETag shows whether the bytes arrived unchanged. Raises
        PartCorrupt if it shows that they did not.
        """
        blind = digests is not Digests.CHECKED
        if not blind and self._marks.are_in(response):
            return
        if etag.lower() == md5_hex(body):
            self._marks.learn(response)
        elif digests is Digests.ETAG:
            raise PartCorrupt(
                f"the store acknowledged other bytes (ETag {etag}) than were sent",
                status=response.status,
                hint="it does not check digests; run `syncd check` again if it encrypts objects now",
            )
        else:
            raise unproven(response, "the store does not check digests" if blind else NOT_THE_STORES)

    def _found(self, key: str, meta: ObjectMeta, body: Body | None, doubt: Unproven) -> Receipt:
        """Return the object under `key` if it has the intended content; else raise `doubt`."""
        try:
            info = self.head_object(key)
        except StoreError as error:
            raise doubt from error
        if info is None or info.size != meta.fingerprint.size:
            raise doubt
        if info.digest is None:  # the store keeps no metadata: its ETag is the next best proof
            ours = body is not None and info.etag.lower() == md5_hex(body)
        else:
            ours = info.digest == meta.fingerprint.digest
        if not ours or (body is not None and info.crc32 not in (None, crc32(body))):
            raise doubt
        self._marks.learn_first(doubt.response)
        return Receipt(key, info.etag)

    def head_object(self, key: str) -> ObjectInfo | None:
        """One request; two if the first is refused, since a refused HEAD does not say why."""
        request = self._dialect.head_request(key)

        def read(signed: Request, response: Response) -> ObjectInfo | None:
            info = self._dialect.head_result(key, signed, response)
            if self._marks.look_foreign(response, info):
                raise StoreUnavailable(
                    NOT_THE_STORES, status=response.status, hint="check proxy and endpoint"
                )
            return info

        try:
            return self._send(request, read)
        except StoreRefused as refused:
            if refused.status not in (400, 403) or refused.code:
                raise
            self._ask(lambda: self._first_byte(key))
            raise

    def _first_byte(self, key: str) -> object:
        """Make the cheapest request about an object whose refusal says why."""
        return self.get_object(key, 0, 0)

    def get_object(
        self, key: str, first: int, last: int, if_match: str = "", room: memoryview | None = None
    ) -> Content:
        """One request. Compares the answer's ETag: some servers ignore or misread conditions."""
        request = replace(self._dialect.get_request(key, first, last), room=room)
        found = self._send(request, lambda *pair: self._dialect.get_result(key, first, last, *pair))
        if if_match and not found.info.etag:
            raise StoreUnavailable(NOT_THE_STORES, hint="check proxy and endpoint")
        if if_match and found.info.etag != if_match:
            raise PreconditionFailed("the object was replaced since syncd looked at it")
        return found

    def delete_object(self, key: str) -> None:
        """One request; a HEAD more where the answer to the first proves nothing."""
        request = self._dialect.delete_request(key)
        try:
            self._send(request, self._removed(lambda *pair: self._dialect.delete_result(key, *pair)))
        except Unproven as doubt:
            self._settle(doubt, lambda: self.head_object(key) is None)

    def _removed(self, read: Callable[[Request, Response], None]) -> Callable[[Request, Response], None]:
        """Return `read` with a check that the answer has the store's marks."""

        def judge(signed: Request, response: Response) -> None:
            read(signed, response)
            if not self._marks.are_in(response):
                raise unproven(response, NOT_THE_STORES)

        return judge

    def _settle(self, doubt: Unproven, is_so: Callable[[], bool]) -> None:
        """Raise `doubt` unless the store confirms the result."""
        try:
            confirmed = is_so()
        except StoreError as error:
            raise doubt from error
        if not confirmed:
            raise doubt

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        """One request; a HEAD more if the answer has no ETag. The receipt's ETag shows whether the store
        honoured the condition.
        """
        request = self._dialect.copy_request(source_key, key, meta, if_match)
        try:
            return self._send(request, lambda *pair: self._dialect.copy_result(key, *pair))
        except Unproven as doubt:
            return self._found(key, meta, None, doubt)

    # ---- multipart ---------------------------------------------------------------------------------------

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        """One request; some more when the store is probed for the digests that it checks."""
        self._checks.ask_in_time(key, self)
        return self.begin(key, meta)

    def begin(self, key: str, meta: ObjectMeta) -> str:
        """One request, without a probe."""
        request = self._dialect.create_request(key, meta)
        return self._send(request, lambda *pair: self._dialect.create_result(key, *pair))

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """One request; a listing more if the answer proves nothing. The part's crc32 is set if the dialect
        uses one.
        """
        found = self._checks.found()
        request = self._dialect.part_request(key, upload_id, number, body, found.check)

        def read(signed: Request, response: Response) -> Part:
            part = self._dialect.part_result(key, upload_id, number, body, signed, response)
            self._prove(response, part.etag, body, found.digests)
            return part

        try:
            part = self._send(request, read, lambda: self._parts_page(key, upload_id, number - 1))
        except Unproven as doubt:
            part = self._listed(key, upload_id, number, memoryview(body).nbytes, doubt)
            answered = bare_etag(doubt.response.headers.get("etag"))
            if part.etag.lower() != md5_hex(body) and part.etag != answered:
                raise
            self._marks.learn_first(doubt.response)
        return part

    def probe_digests(self, key: str) -> Finding | None:
        """See `Checks.ask`."""
        return self._checks.ask(key, self)

    def try_digest(self, key: str, upload_id: str, number: int, check: str) -> Digests:
        """Two requests; see `Uploads`."""

        def read(signed: Request, response: Response) -> str:
            if response.status != 200:
                raise self._dialect.error(signed, response)
            return bare_etag(response.headers.get("etag"))

        self._send(self._dialect.part_request(key, upload_id, number, MEANT, check), read)
        wrong = self._dialect.part_request(key, upload_id, number + 1, MEANT, check)
        try:
            etag = self._send(replace(wrong, body=SENT), read)
        except (PartCorrupt, StoreRefused):
            return Digests.CHECKED
        return Digests.ETAG if etag.lower() == md5_hex(SENT) else Digests.SIZE

    def _listed(self, key: str, upload_id: str, number: int, size: int, doubt: Unproven) -> Part:
        """Return the part as the store lists it; raise `doubt` if it lists none of this size."""
        try:
            page, _ = self._parts_page(key, upload_id, number - 1)
        except UploadGone:
            raise
        except StoreError as error:
            raise doubt from error
        for part in page:
            if part.number == number and part.size == size:
                return part
        raise doubt

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        request = self._dialect.part_copy_request(key, upload_id, number, source_key, first, last, if_match)
        size = last - first + 1
        try:
            return self._send(
                request, lambda *pair: self._dialect.part_copy_result(key, upload_id, number, size, *pair)
            )
        except Unproven as doubt:
            return self._listed(key, upload_id, number, size, doubt)

    def _parts_page(self, key: str, upload_id: str, after: int) -> tuple[list[Part], int | None]:
        request = self._dialect.parts_request(key, upload_id, after)
        return self._send(request, lambda *pair: self._dialect.parts_result(key, upload_id, *pair))

    def list_parts(self, key: str, upload_id: str, last: int = EVERY_PART) -> list[Part]:
        """One request for each page up to the number `last`. Each page but the last must bring new parts, and
        the next must start after it: otherwise the list is endless.
        """
        last = min(last, self.limits.max_parts)
        found: dict[int, Part] = {}
        after = 0
        while True:
            page, following = self._parts_page(key, upload_id, after)
            new = [part for part in page if part.number > after]
            found.update((part.number, part) for part in page if part.number <= last)
            if following is None or (new and following >= last):
                return [found[number] for number in sorted(found)]
            if following <= after or not new:
                raise StoreFailed(
                    "the store's list of parts has no end: each page says that more follows, and repeats",
                    status=200,
                )
            after = following

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        """One request; a HEAD more if the answer has no ETag, like the first one of Ceph 16."""
        request = self._dialect.complete_request(key, upload_id, parts, meta)
        try:
            return self._send(request, lambda *pair: self._dialect.complete_result(key, upload_id, *pair))
        except Unproven as doubt:
            return self._found(key, meta, None, doubt)

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """One request; a listing more if the answer proves nothing."""
        request = self._dialect.abort_request(key, upload_id)
        try:
            self._send(
                request, self._removed(lambda *pair: self._dialect.abort_result(key, upload_id, *pair))
            )
        except Unproven as doubt:
            self._settle(doubt, lambda: self._is_gone(key, upload_id))

    def _is_gone(self, key: str, upload_id: str) -> bool:
        try:
            self._parts_page(key, upload_id, 0)
        except UploadGone:
            return True
        return False

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        """One request for each page, when it is needed; returns no upload twice. A page without anything new
        ends the list, and so does `MAX_UPLOADS_BYTES`.
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

    def list_objects(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """One request for each page, when it is needed."""

        def page(marker: tuple[str, str] | None) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
            request = self._dialect.objects_request(prefix, marker)
            return self._send(request, lambda *pair: self._dialect.objects_result(prefix, *pair))

        return Pages(page, (self._dialect.behind_key, after) if after else None)

    def clock_ns(self) -> tuple[int, int]:
        now = self._now()
        earliest, latest = self._skew.between()
        return int((now + earliest) * 1e9), int((now + latest) * 1e9)

    def close(self) -> None:
        self._transport.close()


class OnceMore(StoreUnavailable):
    """The cause of the failure is corrected: one more try at once may succeed."""


def _once_more(refusal: StoreError, text: str, hint: str = "") -> OnceMore:
    return OnceMore(
        text,
        status=refusal.status,
        code=refusal.code,
        request_id=refusal.request_id,
        hint=hint,
        retry_after_seconds=0.0,
    )


class ClockSkew:
    """The difference between one server's clock and ours, learned from ``Date`` headers; for several threads.

    The server writes its time into every answer, to the second, between our sending and our receiving. Only a
    time more than `TOLERANCE_SECONDS` outside of that counts. One odd header (a cache, a proxy with its own
    clock) must not spoil later signatures, so the median of the last three decides, except after a refusal.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """Add to our time; 0 while the clocks agree well enough."""
        self._lock = threading.Lock()
        self._last: list[float] = []
        self._parsed: tuple[str, float | None] = ("", None)

    def learn(self, date: str, sent_at: float, now: Callable[[], float], *, at_once: bool) -> bool:
        """Learn from the ``Date`` of an answer that just came to a request sent at `sent_at` (Unix seconds).

        With `at_once` (the request was refused) it counts alone. True: the correction changed by more than
        the tolerance, so a request refused for its time may now be accepted.
        """
        known, moment = self._parsed
        if known != date:
            moment = _moment(date)
            self._parsed = (date, moment)
        if moment is None:
            return False
        offset = _offset(moment, sent_at, now)
        with self._lock:
            self._last = [offset] * _REMEMBERED if at_once else [*self._last, offset][-_REMEMBERED:]
            if len(self._last) < _REMEMBERED and offset:
                return False
            before, self.seconds = self.seconds, sorted(self._last)[len(self._last) // 2]
            return abs(self.seconds - before) > TOLERANCE_SECONDS

    def between(self) -> tuple[float, float]:
        """Return the least and the most to add to our time; equal once the difference is known."""
        with self._lock:
            if self.seconds or len(self._last) == _REMEMBERED:
                return self.seconds, self.seconds
            return min([0.0, *self._last]), max([0.0, *self._last])


def _moment(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _offset(moment: float, sent_at: float, now: Callable[[], float]) -> float:
    if abs(moment - sent_at) <= TOLERANCE_SECONDS:
        return 0.0
    if moment < sent_at:
        return moment - sent_at
    ahead = moment - now()
    return ahead if ahead > TOLERANCE_SECONDS else 0.0
