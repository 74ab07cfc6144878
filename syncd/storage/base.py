"""What a store is: the protocol, its limits, and the values that dialects exchange with the transport.

Pure: nothing here opens a socket or a file. Every store (``bos`` and ``s3`` over HTTP, ``dir`` on a
directory, the fake of the tests) implements `ObjectStore` and passes one conformance suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from syncd.core.model import ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.core.model import (
    StoreLimits as StoreLimits,
)  # part of what a store is; `parts`, below, plans with it

Body = bytes | bytearray | memoryview
"""Content of a request: always in memory, always of known length."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys of an account. Never shown: neither ``repr`` nor ``str`` holds a secret."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


CredentialsSource = Callable[[], Credentials]
"""Asked for every request, so that rotated keys are used without a restart. Raises AccessRefused."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, before it is signed.

    ``path`` is percent-encoded as it goes on the wire and starts with ``/``; ``query`` holds raw names and
    values in wire order; header names are as written. ``safe_to_repeat`` says that sending it twice does no
    more than sending it once.
    """

    method: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # holds tokens once it is signed
    body: Body = field(default=b"", repr=False)
    safe_to_repeat: bool = True
    slow_answer: bool = False
    """The server may take minutes to answer (complete, copy): a longer deadline applies."""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, read whole. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Where an account's keys come from: given, read from files, or the standard AWS chain.

    All empty means the standard chain (``s3``) or no keys at all (refused by ``config`` for ``bos``).
    """

    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    access_key_file: str = ""
    secret_key_file: str = ""
    session_token_file: str = ""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How to reach a store over HTTP."""

    endpoint: str
    """Scheme and host, port where it is not the scheme's own; no path."""
    proxy: str = field(default="", repr=False)  # may hold a password
    ca_bundle: str = ""
    """File of certificates to trust; empty: those that come with requests."""
    trust_environment: bool = False
    """Take proxy and CA bundle from HTTP(S)_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE."""
    connect_seconds: float = 30.0
    read_seconds: float = 60.0
    progress_seconds: float = 120.0
    """A request that moves no byte for this long is given up."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """A bucket behind an S3-compatible endpoint."""

    http: HttpSettings
    bucket: str
    region: str = "us-east-1"
    path_style: bool | None = None
    """None: path style, except on amazonaws.com and other hosts known to want the virtual-host form."""
    storage_class: str = ""
    integrity: str = "auto"
    """How the server checks a body: auto, sha256 (signed payload), md5, crc32, none (TLS only)."""
    keys: KeySettings = field(default_factory=KeySettings)


@dataclass(frozen=True, slots=True)
class BosSettings:
    """A Baidu BOS bucket, by the native API."""

    http: HttpSettings
    bucket: str
    path_style: bool = False
    storage_class: str = ""
    traffic_limit: int = 0
    """Bytes per second asked of the server by header; 0: none."""
    keys: KeySettings = field(default_factory=KeySettings)


@dataclass(frozen=True, slots=True)
class DirSettings:
    """A plain directory."""

    path: str
    create: bool = False
    """Make the directory when it is missing; else that is an error, for a disk may not be mounted."""


StoreSettings = S3Settings | BosSettings | DirSettings


class ObjectStore(Protocol):
    """The verbs, in S3's words for all stores.

    Keys are Unicode text without lone surrogates (`syncd.core.paths` makes them). Every verb may be called
    from several threads at once. Errors are those of `syncd.core.errors`: StoreUnavailable when it may be
    tried again, StoreRefused / AccessRefused when not; nothing foreign escapes.
    """

    @property
    def store_id(self) -> str:
        """Identity of the destination: kind, endpoint and bucket, or kind and path. Holds no secret."""
        ...

    @property
    def limits(self) -> StoreLimits: ...

    def put_object(self, key: str, body: Body, meta: ObjectMeta) -> Receipt:
        """Store `body` (at most ``limits.max_put_size`` bytes) whole, replacing what was there."""
        ...

    def head_object(self, key: str) -> ObjectInfo | None:
        """What the store has under `key`; None when there is nothing."""
        ...

    def get_object(self, key: str, first: int, last: int) -> bytes:
        """Bytes `first` to `last`, both included. Raises StoreRefused when there is no such object."""
        ...

    def delete_object(self, key: str) -> None:
        """Remove the object; done also when there was none."""
        ...

    def copy_object(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Receipt:
        """Copy inside the store, with new metadata, only while the source's ETag is `if_match`.

        Raises PreconditionFailed when it is not (a store that ignores conditions must check the outcome),
        StoreRefused when the source is gone.
        """
        ...

    def create_multipart_upload(self, key: str, meta: ObjectMeta) -> str:
        """Begin an upload; returns its id. When StoreUnavailable says ``outcome_unknown``, one may exist."""
        ...

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """Send part `number` (from 1); the same number again replaces it.

        Returns the part with digest and crc32 of `body`. Raises UploadGone, PartCorrupt.
        """
        ...

    def upload_part_copy(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Part:
        """Part `number` from bytes `first` to `last` (both included) of an object in the same store."""
        ...

    def list_parts(self, key: str, upload_id: str) -> list[Part]:
        """All acknowledged parts in ascending order, however many pages it takes. Raises UploadGone."""
        ...

    def complete_multipart_upload(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Receipt:
        """Make the object of `parts` (ascending). Raises UploadGone, PartsRefused."""
        ...

    def abort_multipart_upload(self, key: str, upload_id: str) -> None:
        """Forget the upload; done also when there was none."""
        ...

    def list_multipart_uploads(self, prefix: str) -> Iterator[UploadInfo]:
        """Unfinished uploads whose key starts with `prefix`, however many pages it takes."""
        ...

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix`: key, size and ETag, however many pages it takes.

        The ETag is empty where the store would have to read the object to tell it. An iterator that raised
        is where it was: asked again, it goes on.
        """
        ...

    def close(self) -> None:
        """Release connections. The store may not be used afterwards."""
        ...


class Dialect(Protocol):
    """How one provider phrases the verbs over HTTP. Pure: requests out, responses in.

    A pair of methods for each verb: one builds the request, the other reads the response or raises. The
    ``error`` method maps any response that is not a success to the one error of ours.
    """

    @property
    def store_id(self) -> str: ...

    @property
    def limits(self) -> StoreLimits: ...

    def sign(self, request: Request, credentials: Credentials, now: float) -> Request:
        """The request as it goes on the wire, with date and signature for `now` (Unix seconds)."""
        ...

    def error(self, request: Request, response: Response) -> Exception:
        """The error that this response (status >= 300, or a 200 whose body is an error) stands for."""
        ...

    def put_request(self, key: str, body: Body, meta: ObjectMeta) -> Request: ...

    def put_result(self, key: str, request: Request, response: Response) -> Receipt: ...

    def head_request(self, key: str) -> Request: ...

    def head_result(self, key: str, request: Request, response: Response) -> ObjectInfo | None: ...

    def get_request(self, key: str, first: int, last: int) -> Request: ...

    def get_result(self, key: str, first: int, last: int, request: Request, response: Response) -> bytes: ...

    def delete_request(self, key: str) -> Request: ...

    def delete_result(self, key: str, request: Request, response: Response) -> None: ...

    def copy_request(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Request: ...

    def copy_result(self, key: str, request: Request, response: Response) -> Receipt: ...

    def create_request(self, key: str, meta: ObjectMeta) -> Request: ...

    def create_result(self, key: str, request: Request, response: Response) -> str: ...

    def part_request(self, key: str, upload_id: str, number: int, body: Body) -> Request: ...

    def part_result(
        self, key: str, upload_id: str, number: int, body: Body, request: Request, response: Response
    ) -> Part: ...

    def part_copy_request(
        self, key: str, upload_id: str, number: int, source_key: str, first: int, last: int, if_match: str
    ) -> Request: ...

    def part_copy_result(
        self, key: str, upload_id: str, number: int, size: int, request: Request, response: Response
    ) -> Part: ...

    def parts_request(self, key: str, upload_id: str, after: int) -> Request: ...

    def parts_result(
        self, key: str, upload_id: str, request: Request, response: Response
    ) -> tuple[list[Part], int | None]:
        """A page of parts, and the number after which the next page starts; None when it is the last."""
        ...

    def complete_request(
        self, key: str, upload_id: str, parts: Sequence[Part], meta: ObjectMeta
    ) -> Request: ...

    def complete_result(self, key: str, upload_id: str, request: Request, response: Response) -> Receipt: ...

    def abort_request(self, key: str, upload_id: str) -> Request: ...

    def abort_result(self, key: str, upload_id: str, request: Request, response: Response) -> None: ...

    def uploads_request(self, prefix: str, after: tuple[str, str] | None) -> Request: ...

    def uploads_result(
        self, prefix: str, request: Request, response: Response
    ) -> tuple[list[UploadInfo], tuple[str, str] | None]:
        """A page of uploads, and the marker (key, upload id) of the next; None when it is the last."""
        ...

    def objects_request(self, prefix: str, after: tuple[str, str] | None) -> Request: ...

    def objects_result(
        self, prefix: str, request: Request, response: Response
    ) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
        """A page of objects, and the marker (parameter, value) of the next; None when it is the last."""
        ...
