"""What dialects and transports exchange (requests, responses, keys), and what a dialect is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

from msgspec import Struct

from syncd.core.model import Concealing, Content, ObjectInfo, ObjectMeta, Part, Receipt, UploadInfo
from syncd.storage.base import Body, StoreLimits


class Credentials(Concealing, frozen=True):
    """Keys of an account. Neither ``repr`` nor ``str`` holds a secret."""

    concealed: ClassVar[frozenset[str]] = frozenset({"access_key_id", "secret_access_key", "session_token"})

    access_key_id: str
    secret_access_key: str
    session_token: str = ""


CredentialsSource = Callable[[], Credentials]
"""Called for every request, so that rotated keys need no restart. Raises AccessRefused."""


class Request(Concealing, frozen=True):
    """One HTTP request, before it is signed.

    ``path`` is percent-encoded as it goes on the wire and starts with ``/``; ``query`` holds raw names and
    values in wire order; header names are as written, ``Host`` with a capital. ``safe_to_repeat`` says that
    sending it twice does no more than once. The headers of a signed request hold tokens.
    """

    concealed: ClassVar[frozenset[str]] = frozenset({"headers", "body"})

    method: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = {}
    body: Body = b""
    safe_to_repeat: bool = True
    slow_answer: bool = False
    """The server may take minutes to answer (complete, copy): a longer deadline applies."""
    room: memoryview | None = None
    """Memory to receive a large answer into."""

    @property
    def operation(self) -> str:
        """Return what stores bill it as: put, copy, get, list, head, delete, post."""
        if self.method == "PUT" and self.slow_answer:
            return "copy"
        return "list" if self.method == "GET" and not self.carries_content else self.method.lower()

    @property
    def carries_content(self) -> bool:
        """Return whether it is a put, a part or a get of a range, which go by the thousand. A copy is a PUT,
        too, but its content stays in the store."""
        if self.method == "GET":
            return "range" in self.headers or "Range" in self.headers
        return self.method == "PUT" and not self.slow_answer


class Response(Struct, frozen=True):
    """One HTTP response, read whole. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Dialect(Protocol):
    """How one provider phrases the verbs over HTTP. Pure: requests out, responses in.

    Each verb has two methods: one builds the request, the other reads the response or raises. ``error`` maps
    any response that is not a success to one of our errors.
    """

    @property
    def store_id(self) -> str: ...

    @property
    def limits(self) -> StoreLimits: ...

    @property
    def own_header(self) -> str:
        """The lower-case name of a header that only servers of this protocol send, with every answer."""
        ...

    @property
    def behind_key(self) -> str:
        """The parameter of a listing that names the key after which it begins."""
        ...

    @property
    def checks(self) -> tuple[str, ...]:
        """The digests by which the server may notice a changed body, the cheapest first."""
        ...

    @property
    def usual_check(self) -> str:
        """The check to use until we know what the server verifies."""
        ...

    def sign(self, request: Request, credentials: Credentials, now: float) -> Request:
        """Return the request for the wire, with date and signature for `now` (Unix seconds)."""
        ...

    def error(self, request: Request, response: Response) -> Exception:
        """Return the error for a response (status >= 300, or a 200 whose body is an error)."""
        ...

    def put_request(self, key: str, body: Body, meta: ObjectMeta, check: str = "") -> Request:
        """Build a put with this one of `checks`, else the usual one; so does `part_request`. The results go
        by what the request has.
        """
        ...

    def put_result(self, key: str, request: Request, response: Response) -> Receipt: ...

    def head_request(self, key: str) -> Request: ...

    def head_result(self, key: str, request: Request, response: Response) -> ObjectInfo | None: ...

    def get_request(self, key: str, first: int, last: int) -> Request: ...

    def get_result(
        self, key: str, first: int, last: int, request: Request, response: Response
    ) -> Content: ...

    def delete_request(self, key: str) -> Request: ...

    def delete_result(self, key: str, request: Request, response: Response) -> None: ...

    def copy_request(self, source_key: str, key: str, meta: ObjectMeta, if_match: str) -> Request: ...

    def copy_result(self, key: str, request: Request, response: Response) -> Receipt: ...

    def create_request(self, key: str, meta: ObjectMeta) -> Request: ...

    def create_result(self, key: str, request: Request, response: Response) -> str: ...

    def part_request(self, key: str, upload_id: str, number: int, body: Body, check: str = "") -> Request: ...

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
        """Return a page of parts, and the number after which the next starts; None: it is the last."""
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
        """Return a page of uploads, and the marker (key, upload id) of the next; None: it is the last."""
        ...

    def objects_request(self, prefix: str, after: tuple[str, str] | None) -> Request: ...

    def objects_result(
        self, prefix: str, request: Request, response: Response
    ) -> tuple[list[ObjectInfo], tuple[str, str] | None]:
        """Return a page of objects, and the marker (parameter, value) of the next; None: it is the last."""
        ...
