"""What a store is: the protocol, its limits, listings in pages, and what a store needs from its caller.

Pure: nothing here opens a socket or a file. Every store (`s3` and `bos` over HTTP, `dir` on a directory, the
fake of the tests) implements `ObjectStore` and passes one conformance suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from syncd.core.errors import StoreRefused
from syncd.core.model import Content, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.core.parts import StoreLimits

__all__ = [
    "CONDITIONS", "DIGESTS", "DOUBLED", "HONOURED", "IGNORED", "VERSION_KEYS", "Body", "Breaker", "Clock",
    "Digests", "Finding", "Heartbeat", "Memory", "Meter", "ObjectStore", "Pages", "ProbesDigests", "Remarks",
    "StoreLimits",
]  # fmt: skip

Body = bytes | bytearray | memoryview
"""Content of a request: always in memory, always of known length."""

T = TypeVar("T")
Marker = TypeVar("Marker")

EVERY_PART = 1 << 31
"""Larger than the number of any part."""


class ObjectStore(Protocol):
    """The verbs of all stores, named as in S3.

    Keys are Unicode text without lone surrogates (`syncd.core.paths` makes them). Every verb may be called
    from several threads at once. Errors are those of `syncd.core.errors`: StoreUnavailable if a retry may
    help, StoreRefused or AccessRefused if not. No foreign exception escapes.
    """

    @property
    def store_id(self) -> str:
        """The identity of the destination: kind, endpoint and bucket, or kind and path. No secrets."""
        ...

    @property
    def limits(self) -> StoreLimits: ...

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        """Store `body` (at most ``limits.max_put_size`` bytes), replacing any object under `key`.

        Raises PreconditionFailed if that is not ``meta.replaces`` and the store has conditions.
        """
        ...

    def head_object(self, key: str) -> ObjectInfo | None:
        """Return what the store has under `key`; None: nothing."""
        ...

    def get_object(
        self, key: str, first: int, last: int, if_match: str = "", room: memoryview | None = None
    ) -> Content:
        """Return bytes `first` to `last`, both included, or as many of them as the object has.

        Large ones may be put into `room`, which is writable and as long: fresh memory costs as much time as
        receiving. Raises StoreRefused if there is no such object or range, and PreconditionFailed if the
        answer does not prove that the object has the ETag `if_match`.
        """
        ...

    def delete_object(self, key: str) -> None:
        """Remove the object. Succeeds if there is none."""
        ...

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        """Copy inside the store, with new metadata, if the source's ETag is `if_match`.

        Raises PreconditionFailed if it is not (a store that ignores conditions must check the outcome),
        StoreRefused if the source is gone.
        """
        ...

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        """Begin an upload; return its id. After StoreUnavailable with ``outcome_unknown`` one may exist."""
        ...

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """Send part `number` (from 1); the same number again replaces it.

        Returns the part, with the crc32 of `body` where the store wants it. Raises UploadGone, PartCorrupt.
        """
        ...

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        """Make part `number` of bytes `first` to `last`, both included, of an object in this store."""
        ...

    def list_parts(self, key: str, upload_id: str, last: int = EVERY_PART) -> list[Part]:
        """Return all acknowledged parts in ascending order, from all pages. Parts above the number `last` may
        be missing. Raises UploadGone, and StoreFailed for an endless list.
        """
        ...

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        """Make the object from `parts` (ascending). Raises UploadGone, PartsRefused, PreconditionFailed."""
        ...

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Remove the upload. Succeeds if there is none."""
        ...

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        """List unfinished uploads whose key starts with `prefix`, from all pages."""
        ...

    def list_objects(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """List objects whose key starts with `prefix`, from all pages: key, size and ETag.

        Lists those behind the key `after`, or all if the server ignores that. The ETag is empty if the store
        would have to read the object for it. An iterator that raised keeps its place: the next call goes on.
        """
        ...

    def clock_ns(self) -> tuple[int, int]:
        """Return two times between which the store's clock is now (Unix nanoseconds), by its last answers and
        this machine's clock. Makes no request. The times of uploads and parts are by the store's clock.
        """
        ...

    def close(self) -> None:
        """Release connections. The store is unusable afterwards."""
        ...


DIGESTS = "digests"
"""The name under which the state keeps a store's `Finding`, as text."""

VERSION_KEYS = "v1 keys"
"""The name under which the state keeps how BOS treats keys that begin with ``v1/``: `DOUBLED` or nothing."""
DOUBLED = "doubled"
"""With the API's version prefix in front, which BOS drops."""

CONDITIONS = "conditions"
"""The name under which the state keeps what a store does with the condition of a put: one of the following,
or nothing until that was tried."""
HONOURED, IGNORED = "honoured", "ignored"


class Digests(Enum):
    """What a store does with a body that does not match its digest."""

    CHECKED = "checked"
    """The store refuses the body."""
    ETAG = "etag"
    """It takes the body; the ETag is the MD5 of what it took."""
    SIZE = "size"
    """It takes the body; the ETag says nothing about it."""


class Finding(NamedTuple):
    """What a store was found to do with digests."""

    digests: Digests
    check: str = ""
    """The digest in question: crc32, sha256 or md5; empty: the store's usual one."""
    asked: int = 0
    """Unix seconds."""
    is_usual: bool = True
    """The digest is the one used until the store is asked. Not part of the text."""

    def __str__(self) -> str:
        return " ".join((self.digests.value, self.check, str(self.asked) if self.asked else "")).strip()

    @classmethod
    def of(cls, text: str) -> Finding:
        """Parse what `str` returns; empty text: the usual. Raises ValueError for anything else."""
        digests, check, asked = [*text.split(), "", "", ""][:3]
        return cls(Digests(digests or Digests.CHECKED.value), check, int(asked or 0))


@runtime_checkable
class ProbesDigests(Protocol):
    """A store that can find out what it does with digests."""

    @property
    def store_id(self) -> str: ...

    def probe_digests(self, key: str) -> Finding | None:
        """Find out with some small requests; make no object under `key`. None: nothing to find out."""
        ...


@runtime_checkable
class Remarks(Protocol):
    """A store with facts about its place that the operator should know."""

    def remarks(self) -> list[str]:
        """Return a clause for each."""
        ...


_LIST_HINT = "report it to the provider of the store: its list cannot be read to the end"
MAX_BARREN_PAGES = 1000
"""In a row. A few are no error: S3 skips objects deleted from a versioned bucket page by page."""


class Pages(Iterator[T], Generic[T, Marker]):
    """The items of all pages, in order.

    `fetch` takes the marker of a page (initially `first`, or None) and returns its items and the marker of
    the next page, None after the last. If it raises, the listing keeps its place, and the next call fetches
    the same page. So a caller can retry, which a generator does not allow. An item that comes twice in a row
    is returned once: some servers begin a page with the marker itself. Raises StoreRefused if any page comes
    twice, or pages go on without anything new.
    """

    def __init__(
        self, fetch: Callable[[Marker | None], tuple[list[T], Marker | None]], first: Marker | None = None
    ) -> None:
        self._fetch = fetch
        self._items: Iterator[T] = iter(())
        self._pages: set[int] = set()
        self._told: T | None = None
        self._barren = 0
        self._marker = first
        self._over = False

    def __iter__(self) -> Pages[T, Marker]:
        return self

    def __next__(self) -> T:
        while True:
            for item in self._items:
                if item != self._told:
                    self._told = item
                    return item
            if self._over:
                raise StopIteration
            items, following = self._fetch(self._marker)
            self._refuse_endless(items)
            self._over = following is None
            self._marker = following
            self._items = iter(items)

    def _refuse_endless(self, items: list[T]) -> None:
        self._barren = 0 if items else self._barren + 1
        page = hash((items[0], items[-1])) if items else 0
        if items and page in self._pages:
            raise StoreRefused("the store repeats a page of its list of objects", hint=_LIST_HINT)
        if self._barren >= MAX_BARREN_PAGES:
            raise StoreRefused(f"the store lists {self._barren} empty pages in a row", hint=_LIST_HINT)
        if items:
            self._pages.add(page)


# ---- what a store takes from its surroundings --------------------------------------------------------------


class Clock(Struct, frozen=True):
    """Time and chance."""

    now: Callable[[], float]
    """Unix seconds."""
    sleep: Callable[[float], None]
    """Seconds; raises Stopped at shutdown."""
    chance: Callable[[], float]
    """A number from 0 up to 1."""


class Heartbeat(Struct, frozen=True):
    """Signs of life of a thread in a directory whose server may be down."""

    rest: Callable[[], object] = lambda: None
    """The thread may be silent for long, until its next step."""
    step: Callable[[], object] = lambda: None


class Meter(Struct, frozen=True):
    """What goes out and comes in, reported from any thread."""

    requested: Callable[[], object] = lambda: None
    """A request goes out."""
    sent: Callable[[int], object] = lambda size: None
    """Bytes of a body go out, also of a request that fails later. May wait, to slow the sender down."""
    received: Callable[[int], object] | None = None
    """Bytes of an answer came in. May wait, to slow the server down."""
    answered: Callable[[str, int | None, float], object] = lambda operation, status, seconds: None
    """A request got this HTTP status (None: no answer) after so many seconds."""


class Breaker(Struct, frozen=True):
    """The health of the store, read and reported from any thread."""

    is_shut: Callable[[], bool] = lambda: False
    """Requests pause now: any request is a probe."""
    busy: Callable[[], object] = lambda: None
    """The store wants fewer requests."""
    answered: Callable[[], object] = lambda: None
    """The store did what a request asked for."""


class Memory(Struct, frozen=True):
    """What we learned about one store, by store id, across processes."""

    recall: Callable[[str], str] = lambda store_id: ""
    """Empty: nothing yet."""
    remember: Callable[[str, str], object] = lambda store_id, text: None
