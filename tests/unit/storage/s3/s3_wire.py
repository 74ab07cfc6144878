"""A dialect and the answers of its server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from syncd.core.model import Fingerprint, ObjectMeta, Part
from syncd.storage.http.messages import Request, Response
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.settings import HttpSettings, S3Settings

META = ObjectMeta(Fingerprint(bytes(range(16)), 5), 1_700_000_000_123_456_789, token="t0ken")


def dialect(endpoint: str = "http://127.0.0.1:9000", **settings: Any) -> S3Dialect:
    return S3Dialect(S3Settings(HttpSettings(endpoint), **{"bucket": "photos", **settings}))


def xml(root: str, content: str) -> bytes:
    """An answer as AWS writes it."""
    namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {namespace}>{content}</{root}>'.encode()


def refusal(status: int, code: str, **headers: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>no</Message><RequestId>r1</RequestId></Error>"
    return Response(status, headers, body.encode() if code else b"")


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
BODY = b"123456789"
STORE = dialect()
MULTIPART: dict[str, tuple[Request, Callable[[Request, Response], object]]] = {
    "create": (STORE.create_request("k", META), lambda *pair: STORE.create_result("k", *pair)),
    "complete": (
        STORE.complete_request("k", "u", [Part(1, 1, "e")], META),
        lambda *pair: STORE.complete_result("k", "u", *pair),
    ),
    "copy": (STORE.copy_request("s", "k", META, "e"), lambda *pair: STORE.copy_result("k", *pair)),
    "copy a part": (
        STORE.part_copy_request("k", "u", 1, "s", 0, 9, "e"),
        lambda *pair: STORE.part_copy_result("k", "u", 1, 10, *pair),
    ),
    "list parts": (STORE.parts_request("k", "u", 0), lambda *pair: STORE.parts_result("k", "u", *pair)),
    "list uploads": (STORE.uploads_request("", None), lambda *pair: STORE.uploads_result("", *pair)),
}
