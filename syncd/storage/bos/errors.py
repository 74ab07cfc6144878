"""How BOS phrases refusals; `syncd.storage.http.errors` says what they mean.

Answers to HEAD have no body and so no code; a proxy's answers have a body that is not BOS's.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from syncd.core.errors import StoreError
from syncd.storage.bos.values import body_object
from syncd.storage.http.errors import (
    CODES,
    JUDGED,
    NOT_THE_STORES,
    Facts,
    Refusal,
    later,
    place,
    refusal,
    refused,
    verb_of,
)
from syncd.storage.http.messages import Request, Response

_FOREIGN = later(NOT_THE_STORES, "check proxy and endpoint", unknown=True)
_SPEAKS_S3 = later(
    NOT_THE_STORES, "the server speaks S3: set `type: s3`, or BOS's own endpoint", unknown=True
)
_PATH_STYLE = place(
    "BOS refused the path-style request",
    "buckets made since June 2024 take only the virtual-host form: remove path_style",
)
_PATH_STYLE_CODES = frozenset(
    {"AccessDenied", "InvalidURI", "InvalidHTTPRequest", "MethodNotAllowed", "NoSuchBucket"}
)
_RATE_TEXT = re.compile(r"\brate\b|too (?:many|frequent)|frequen|throttl|slow down", re.IGNORECASE)


def carries_error(response: Response) -> bool:
    """Return whether the body is an error object, whatever the status."""
    found = body_object(response)
    return found is not None and bool(found.get("code"))


def is_foreign(response: Response) -> bool:
    """Return whether another server answered: with a body that is not JSON or, without a body (HEAD), with
    the headers of a page.
    """
    if response.body.strip():
        return body_object(response) is None
    headers = response.headers
    return headers.get("content-type", "").startswith("text/html") and "x-bce-request-id" not in headers


def error_for(
    request: Request, response: Response, *, whole_bucket: bool, path_style: bool = False
) -> StoreError:
    """Return our error for `response`. `path_style`: the request used it, which the host may refuse."""
    found = body_object(response) or {}
    code = _text(found.get("code"))
    said = _text(found.get("message"))
    meant = _meant(verb_of(request, whole_bucket=whole_bucket), response, code, said, path_style=path_style)
    if location := response.headers.get("location", ""):
        meant = replace(meant, text=f"{meant.text} (to {_text(location)})")
    request_id = response.headers.get("x-bce-request-id", "") or _text(found.get("requestId"))
    return refused(meant, response, Facts(code, said, request_id))


def _meant(verb: str, response: Response, code: str, said: str, *, path_style: bool) -> Refusal:
    if path_style and code in _PATH_STYLE_CODES:
        return _PATH_STYLE
    if code == "AccessDenied" and _RATE_TEXT.search(said):
        return CODES["RequestRateLimitExceeded"]  # the vendor's tools read that from this text
    redirects = 300 <= response.status < 400
    if not code and not redirects and is_foreign(response) and response.status not in JUDGED:
        return _SPEAKS_S3 if "x-amz-request-id" in response.headers else _FOREIGN
    return refusal(verb, response.status, code)


def _text(value: object) -> str:
    """Return a server's value as one printable line of limited length."""
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in value)[:300].strip()
