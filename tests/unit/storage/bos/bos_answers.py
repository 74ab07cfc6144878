"""A dialect and the answers of its server."""

from __future__ import annotations

import json

import pytest

from syncd.core.errors import (
    StoreError,
)
from syncd.core.model import Fingerprint, ObjectMeta, Part
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.messages import Response
from syncd.storage.settings import BosSettings, HttpSettings

META = ObjectMeta(
    Fingerprint(bytes(range(16)), 5), 1_600_000_000_123_456_789, "token-1", content_type="text/plain"
)
UPLOAD = "0123456789abcdef0123456789abcdef"
REQUEST_ID = "7e3c0d2e-request"


def bos(**settings: object) -> BosDialect:
    """A dialect for the bucket photos in Beijing."""
    endpoint = settings.pop("endpoint", "https://bj.bcebos.com")
    return BosDialect(BosSettings(HttpSettings(str(endpoint)), "photos", **settings))  # type: ignore[arg-type]


def answer(status: int = 200, body: object = b"", **headers: str) -> Response:
    """A response; bodies that are not bytes go out as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, {"x-bce-request-id": REQUEST_ID, **named}, content)


def refusal(status: int, code: str, message: str = "", **headers: str) -> Response:
    """An error answer as BOS writes it."""
    return answer(status, {"code": code, "message": message, "requestId": "from-the-body"}, **headers)


def raised(call: object, *args: object) -> StoreError:
    """The error of ours that the call raises."""
    with pytest.raises(StoreError) as info:
        call(*args)  # type: ignore[operator]
    return info.value


PUT = bos().put_request("k", b"hello", META)
PART = bos().part_request("k", UPLOAD, 1, b"hello")
COMPLETE = bos().complete_request("k", UPLOAD, [Part(1, 5, "e1")], META)
