"""Repeats failed requests; no other module does. `syncd.core.backoff` computes the pauses.

A request is repeated after StoreUnavailable. It is repeated only once after PartCorrupt, or if the store
answers that it failed: the same answer would come again, and each request carries content. Content that got
such an answer twice is sent once in each later attempt of its file, until the store takes it. If content was
sent twice without an answer, we ask the store whether it has it. A *create* whose answer was lost is not
repeated: it may have made an upload, and the caller has to look for it first. ``Retry-After`` is honoured. If
it exceeds our longest pause, the error is raised at once and the file is deferred, because a worker does not
sleep for minutes. Zero means at once: a connection had expired, or a clock or a region was corrected.

While the circuit breaker is open, single requests probe the store. A probe is repeated only if no pause is
needed.

Repeating any other verb is safe: a second put, copy or part replaces the first, and a second delete changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TypeVar

import xxhash
from msgspec import Struct

from syncd.core.backoff import Schedule, delay
from syncd.core.errors import (
    BUSY,
    AccessRefused,
    ConnectionLost,
    PartCorrupt,
    Stopped,
    StoreError,
    StoreUnavailable,
)
from syncd.core.model import Content, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.storage.base import (
    EVERY_PART,
    Body,
    Breaker,
    Clock,
    Finding,
    ObjectStore,
    ProbesDigests,
    Remarks,
    StoreLimits,
)
from syncd.storage.digests import crc32, md5_hex

MAX_ANSWERED = 2
"""Tries if the store answers that it failed, or that the body arrived damaged."""

MAX_IN_VAIN = 2
"""Tries that waited `_LONG_SECONDS` for a connection or an answer: the server may be down. Until an answer
comes, any request is tried once."""
_LONG_SECONDS = 10.0
_VERY_LONG_SECONDS = 300.0  # one try that waited for so long is enough
_MOST_REMEMBERED = 4096


class Unanswered(Struct, frozen=True):
    """How a verb continues after a request that the store may or may not have carried out."""

    repeats: bool = True
    """Repeat it in place. If false, the caller first looks for the result."""
    looks_after: int = 0
    """Ask the store for the result after so many in a row; 0: never."""
    unsettled: bool = False
    """Record that the object may still change."""


UNANSWERED: Mapping[str, Unanswered] = {
    "put": Unanswered(looks_after=2, unsettled=True),
    "part": Unanswered(looks_after=2),
    "copy": Unanswered(unsettled=True),
    "part copy": Unanswered(),
    "create": Unanswered(repeats=False),
    "complete": Unanswered(unsettled=True),
    "parts": Unanswered(),
    "abort": Unanswered(),
    "uploads": Unanswered(),
    "head": Unanswered(),
    "get": Unanswered(),
    "list": Unanswered(),
    "delete": Unanswered(unsettled=True),
}
"""By verb, for all stores. `docs/answers.md` shows it."""

Unsettled = Callable[[str, bool], object]
"""Called with the key of an object that a lost request may still change, and whether it may create it."""
UnderWay = Callable[[str, bool], AbstractContextManager[object]]
"""The same as a context around the request: the process may die before the answer."""

_T = TypeVar("_T")


class Retries(Struct, frozen=True):
    """How often, and after which pauses, one request is repeated in place.

    Longer waits happen in the queue, where other files can go first.
    """

    schedule: Schedule = Schedule(base_seconds=0.25, cap_seconds=8.0)
    max_tries: int = 5


class RetryingStore:
    """An `ObjectStore` that tries each request at most ``max_tries`` times."""

    def __init__(
        self,
        inner: ObjectStore,
        clock: Clock,
        breaker: Breaker = Breaker(),
        retries: Retries = Retries(),
        unsettled: Unsettled = lambda key, creates: None,
        under_way: UnderWay = lambda key, creates: nullcontext(),
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._breaker = breaker
        self._retries = retries
        self._unsettled = unsettled
        self._under_way = under_way
        self._sends: dict[Hashable, int] = {}
        """How often each content was sent in vain, until the store takes it."""
        self._is_silent = False
        """Requests waited in vain, and no answer has come since."""

    def _repeat(
        self,
        verb: str,
        call: Callable[[], _T],
        *,
        key: str = "",
        found: Callable[[], _T | None] = lambda: None,
        content: Callable[[], Hashable] | None = None,
    ) -> _T:
        """Make a request of `verb`, and repeat it. `found` asks for the result of one without an answer;
        `content` identifies what it sends.
        """
        manner, tries = UNANSWERED[verb], _Tries(self._retries.max_tries)
        while True:
            began = self._clock.now()
            try:
                answer = self._attempt(verb, call, key)
            except StoreError as error:
                tries.failed(error, self._clock.now() - began)
                self._note(verb, tries, error, content)
                if not isinstance(error, StoreUnavailable | PartCorrupt):
                    raise
                unknown = isinstance(error, StoreUnavailable) and error.outcome_unknown
                if unknown and not manner.repeats:
                    raise
                looks = unknown and tries.unknown == manner.looks_after
                if looks and (result := _quietly(found)) is not None:
                    return result
                pause = self._pause(tries, error)
                if pause is None:
                    raise
            else:
                self._is_silent = False
                if content is not None and self._sends:
                    self._sends.pop(content(), None)
                self._breaker.answered()
                return answer
            if pause:
                self._clock.sleep(pause)

    def _note(
        self, verb: str, tries: _Tries, error: StoreError, content: Callable[[], Hashable] | None
    ) -> None:
        """Remember what a failed try says about the store, and about the content that it sent."""
        if error.status in BUSY:
            self._breaker.busy()
        if self._is_silent and tries.in_vain:
            tries.in_vain = MAX_IN_VAIN
        self._is_silent = tries.in_vain >= MAX_IN_VAIN
        if verb == "get" and isinstance(error, StoreUnavailable | AccessRefused):
            self._sends.clear()  # the store fails requests without content, too
        reached = error.status is not None or (isinstance(error, StoreUnavailable) and error.outcome_unknown)
        if content is None or not reached:
            return
        name = content()
        if len(self._sends) >= _MOST_REMEMBERED and name not in self._sends:
            self._sends.clear()
        self._sends[name] = error.sends = self._sends.get(name, 0) + 1

    def _attempt(self, verb: str, call: Callable[[], _T], key: str) -> _T:
        """Make one request. Before a repeat, report that it may still be carried out."""
        if not UNANSWERED[verb].unsettled:
            return call()
        creates = verb != "delete"
        with self._under_way(key, creates):
            try:
                return call()
            except (StoreUnavailable, Stopped) as error:
                if isinstance(error, Stopped) or error.outcome_unknown:
                    self._unsettled(key, creates)
                raise

    def _pause(self, tries: _Tries, error: StoreError) -> float | None:
        """Return the seconds until the next try. None: stop, after enough tries, after a probe, or if the
        store asks for too long a wait.
        """
        wish = error.retry_after_seconds if isinstance(error, StoreUnavailable) else None
        is_passing = error.status is None or error.status in BUSY
        most_sends = 2 * self._retries.max_tries if is_passing else MAX_ANSWERED
        if tries.are_enough or error.sends >= most_sends:
            return None
        if wish == 0.0:
            return 0.0
        if self._breaker.is_shut():
            return None
        # Content goes only once more: wait until a hiccup of the store is over.
        is_last = error.sends > 0 and not is_passing and not isinstance(error, PartCorrupt)
        own = delay(1 << 9 if is_last else tries.count, self._clock.chance(), self._retries.schedule)
        if wish is None:
            return own
        return max(own, wish) if wish <= self._retries.schedule.cap_seconds else None

    @cached_property
    def store_id(self) -> str:
        return self._inner.store_id

    @cached_property
    def limits(self) -> StoreLimits:
        return self._inner.limits

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        def found() -> Receipt | None:
            info = self._inner.head_object(key)
            if info is None or info.size != meta.fingerprint.size:
                return None
            if info.digest is None:  # the store keeps no metadata
                ours = info.etag.lower() == md5_hex(body)
            else:
                ours = info.digest == meta.fingerprint.digest
            return Receipt(key, info.etag) if ours else None

        return self._repeat(
            "put",
            lambda: self._inner.put_object(key, body, meta),
            key=key,
            found=found,
            content=lambda: (key, meta.fingerprint),
        )

    def head_object(self, key: str) -> ObjectInfo | None:
        return self._repeat("head", lambda: self._inner.head_object(key))

    def get_object(
        self, key: str, first: int, last: int, if_match: str = "", room: memoryview | None = None
    ) -> Content:
        return self._repeat("get", lambda: self._inner.get_object(key, first, last, if_match, room))

    def delete_object(self, key: str) -> None:
        self._repeat("delete", lambda: self._inner.delete_object(key), key=key)

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        return self._repeat("copy", lambda: self._inner.copy_object(source_key, key, meta, if_match), key=key)

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        """Repeat only a request that certainly made no upload."""
        return self._repeat("create", lambda: self._inner.create_multipart_upload(key, meta))

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        def found() -> Part | None:
            md5 = md5_hex(body)
            for part in self._inner.list_parts(key, upload_id, number):
                if (part.number, part.etag.lower()) == (number, md5):
                    digest = xxhash.xxh3_128_digest(body)
                    return Part(number, part.size, part.etag, digest=digest, crc32=crc32(body))
            return None

        return self._repeat(
            "part",
            lambda: self._inner.upload_part(key, upload_id, number, body),
            found=found,
            content=lambda: (key, number, xxhash.xxh3_128_digest(body)),
        )

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        return self._repeat(
            "part copy",
            lambda: self._inner.upload_part_copy(key, upload_id, number, source_key, first, last, if_match),
        )

    def list_parts(self, key: str, upload_id: str, last: int = EVERY_PART) -> list[Part]:
        return self._repeat("parts", lambda: self._inner.list_parts(key, upload_id, last))

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        """Safe to repeat while the upload exists. UploadGone may mean that the first try completed it."""
        return self._repeat(
            "complete", lambda: self._inner.complete_multipart_upload(key, upload_id, parts, meta), key=key
        )

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        self._repeat("abort", lambda: self._inner.abort_multipart_upload(key, upload_id))

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        """Read the whole list first, because a retry starts at the first page."""
        return iter(self._repeat("uploads", lambda: list(self._inner.list_multipart_uploads(prefix))))

    def list_objects(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Repeat each page, not the list, which may be long; some callers read only its start."""
        listed = self._repeat("list", lambda: self._inner.list_objects(prefix, after))

        return iter(lambda: self._repeat("list", lambda: next(listed, None)), None)

    def probe_digests(self, key: str) -> Finding | None:
        """Return None also if the store takes no digests."""
        inner = self._inner
        if not isinstance(inner, ProbesDigests):
            return None
        return self._repeat("part", lambda: inner.probe_digests(key))

    def remarks(self) -> list[str]:
        """Return the store's remarks, if it has any."""
        inner = self._inner
        return self._repeat("list", inner.remarks) if isinstance(inner, Remarks) else []

    def clock_ns(self) -> tuple[int, int]:
        return self._inner.clock_ns()

    def close(self) -> None:
        self._inner.close()


class _Tries(Struct):
    """The failed tries of one request."""

    most: int
    count: int = 0
    unknown: int = 0
    """Those that the store may have carried out."""
    answered: int = 0
    in_vain: int = 0
    """Those that waited long for nothing."""

    def failed(self, error: StoreError, seconds: float) -> None:
        """Count a try that failed after `seconds`."""
        self.count += 1
        if isinstance(error, StoreUnavailable):
            self.unknown += error.outcome_unknown
            self.answered += error.outcome_unknown and error.status is not None
            nothing_came = error.status is None and not isinstance(error, ConnectionLost)
            if nothing_came and seconds >= _LONG_SECONDS:
                self.in_vain += MAX_IN_VAIN if seconds >= _VERY_LONG_SECONDS else 1
        else:
            self.answered += 1

    @property
    def are_enough(self) -> bool:
        """Return whether another try would not help."""
        return self.count >= self.most or self.answered >= MAX_ANSWERED or self.in_vain >= MAX_IN_VAIN


def _quietly(found: Callable[[], _T | None]) -> _T | None:
    """Return what `found` does; None also if it fails."""
    try:
        return found()
    except StoreError:
        return None
