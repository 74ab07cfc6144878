"""What BOS's refusals mean to us: one table from its error codes, one from HTTP statuses, one reaction each.

The code decides before the status does, because the same status stands for unlike things: 400 is a wrong
digest (send again), a slow connection (repeat), an expired signature (sign anew) or a bad name (give up).
Answers to HEAD have no body and so no code; answers of a proxy in between have a body that is not BOS's.

Source: https://cloud.baidu.com/doc/BOS/s/Ajwvysfpl, and what the vendor's SDKs and integration tests expect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from syncd.core.errors import (
    AccessRefused,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.storage.http.messages import Request, Response


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a refusal means: the class of error, what to say, and what a person can do about it."""

    error: type[StoreError]
    text: str
    hint: str = ""
    credentials: bool = False
    """Of AccessRefused: keys or tokens are to blame."""
    outcome_unknown: bool = False
    """Of StoreUnavailable: it may have been done all the same."""
    too_small: bool = False
    """Of PartsRefused: parts are below the minimum size."""


def _keys(text: str, hint: str) -> Reaction:
    return Reaction(AccessRefused, text, hint, credentials=True)


def _place(text: str, hint: str) -> Reaction:
    return Reaction(AccessRefused, text, hint)


_ON_MISMATCH = "check the secret access key; a proxy that rewrites Host or path breaks signatures too"
_CHECK_REGION = "check the bucket's name, and that the endpoint is that of the bucket's own region"

CODES: Mapping[str, Reaction] = {
    # the store as a whole: keys
    "SignatureDoesNotMatch": _keys("BOS refused the signature", _ON_MISMATCH),
    "InvalidAccessKeyId": _keys("BOS does not know the access key", "check access_key_id"),
    "InvalidSessionToken": _keys("BOS refused the session token", "it has expired or is wrong: renew it"),
    "InvalidHTTPAuthHeader": _keys(
        "BOS cannot read the Authorization header", "check access_key_id for stray characters"
    ),
    # the store as a whole: account, bucket, endpoint
    "AccountOverdue": _place("the account is overdue", "settle the account's bill with Baidu"),
    "NoSuchBucket": _place("there is no such bucket here", _CHECK_REGION),
    "InvalidBucketName": _place("BOS refused the bucket's name", "check bucket"),
    "InvalidVersion": _place("BOS does not know this version of its API", "check endpoint"),
    # clock: the client corrects it from the answer's Date header and signs anew
    "RequestTimeTooSkewed": Reaction(
        StoreUnavailable, "this machine's clock and BOS's differ too much", "set this machine's clock"
    ),
    "RequestExpired": Reaction(
        StoreUnavailable, "the signature had expired when it arrived", "check this machine's clock"
    ),
    # not now
    "InternalError": Reaction(StoreUnavailable, "BOS had an internal error", outcome_unknown=True),
    "ServiceUnavailable": Reaction(StoreUnavailable, "BOS is unavailable or wants fewer requests"),
    "SlowDown": Reaction(StoreUnavailable, "BOS wants fewer requests"),
    "RequestRateLimitExceeded": Reaction(StoreUnavailable, "BOS wants fewer requests"),
    "RequestTimeout": Reaction(StoreUnavailable, "BOS waited too long for the request's body"),
    "ReadBodyError": Reaction(StoreUnavailable, "BOS could not read the request's body"),
    "Http400": Reaction(StoreUnavailable, "BOS's front end could not take the request"),
    # parts and uploads
    "NoSuchUpload": Reaction(UploadGone, "BOS does not know this upload"),
    "InvalidPart": Reaction(PartsRefused, "BOS misses a part, or has another under its number"),
    "InvalidPartOrder": Reaction(PartsRefused, "BOS refused the order of the parts"),
    "EntityTooSmall": Reaction(PartsRefused, "BOS finds parts too small", too_small=True),
    # conditions
    "PreconditionFailed": Reaction(PreconditionFailed, "the object is not the one that was meant"),
    # this object
    "AccessDenied": Reaction(
        StoreRefused, "BOS denied access", "check what the key's owner may do in this bucket and prefix"
    ),
    "NoSuchKey": Reaction(StoreRefused, "there is no such object"),
    "EntityTooLarge": Reaction(StoreRefused, "BOS finds the content too large"),
    "MetadataTooLarge": Reaction(StoreRefused, "BOS finds the metadata too large"),
    "InvalidObjectName": Reaction(StoreRefused, "BOS refused the key", "the name is too long or not allowed"),
    "InvalidURI": Reaction(StoreRefused, "BOS refused the key", "the name is not allowed"),
    "InvalidRange": Reaction(StoreRefused, "the range lies outside the object"),
    "ObjectImmutable": Reaction(StoreRefused, "the object may not be changed", "the bucket holds a lock"),
    "FileAlreadyExists": Reaction(StoreRefused, "the object may not be overwritten"),
}

_GATEWAY = Reaction(StoreUnavailable, "a gateway before BOS failed", outcome_unknown=True)

STATUSES: Mapping[int, Reaction] = {
    401: _keys("BOS wants other credentials", "check the keys"),
    403: Reaction(StoreRefused, "BOS denied access", "check the keys, and what they may do in this bucket"),
    404: Reaction(StoreRefused, "there is no such object"),
    407: _place("the proxy wants credentials", "put user and password into the proxy's address"),
    408: Reaction(StoreUnavailable, "BOS waited too long for the request"),
    412: Reaction(PreconditionFailed, "the object is not the one that was meant"),
    429: Reaction(StoreUnavailable, "BOS wants fewer requests"),
    500: Reaction(StoreUnavailable, "BOS had an internal error", outcome_unknown=True),
    501: Reaction(StoreRefused, "BOS cannot do this"),
    502: _GATEWAY,
    503: Reaction(StoreUnavailable, "BOS is unavailable or wants fewer requests"),
    504: _GATEWAY,
}

_REDIRECT = _place("BOS pointed elsewhere", "check that the endpoint is that of the bucket's own region")
_FOREIGN = _place(
    "the answer is not from BOS",
    "something between here and BOS answers in its place: check proxy and endpoint",
)
_FOREIGN_NOW = Reaction(
    StoreUnavailable,
    "the answer is not from BOS",
    "something between here and BOS answers in its place",
    outcome_unknown=True,
)
QUOTA = _place("a quota is used up", "raise the quota of account or bucket, or make room")
_DIGEST = Reaction(PartCorrupt, "what arrived is not what was sent")
_DIGEST_OF_WHOLE = Reaction(PartsRefused, "the parts make another object than the one meant")
_GONE = CODES["NoSuchUpload"]
_RATE = CODES["RequestRateLimitExceeded"]
_ODD = Reaction(StoreUnavailable, "BOS answered with an error inside a success", outcome_unknown=True)
PATH_STYLE = _place(
    "BOS refused the path-style request",
    "buckets made since June 2024 take only the virtual-host form: remove path_style",
)
_PATH_STYLE_CODES = frozenset(
    {"AccessDenied", "InvalidURI", "InvalidHTTPRequest", "MethodNotAllowed", "NoSuchBucket"}
)

MAX_VALUES = 200_000
"""Of one answer: ten thousand parts have a quarter of that. A value of three bytes takes sixty of memory."""
_MARKS = (b",", b"[", b"{")
_RATE_TEXT = re.compile(r"\brate\b|too (?:many|frequent)|frequen|throttl|slow down", re.IGNORECASE)


def body_object(response: Response) -> dict[str, Any] | None:
    """The body as a JSON object, None when it is empty, cut short, or something else."""
    if _values_in(response.body) > MAX_VALUES:
        return None
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _values_in(body: bytes) -> int:
    """Not fewer than the values that the JSON text holds, as far as that matters.

    Keys may hold commas and brackets: only a body that looks like too many is looked at closely.
    """
    rough = sum(map(body.count, _MARKS))
    return rough if rough <= MAX_VALUES else _values_outside_texts(body)


def _values_outside_texts(body: bytes) -> int:
    """Ends as soon as there are too many. Builds nothing: the body may be made to be taken apart."""
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # now a quote is a quote
    count = end = 0
    while count <= MAX_VALUES and end >= 0:
        begin = text.find(b'"', end)
        count += 1 + sum(text.count(mark, end, begin if begin >= 0 else len(text)) for mark in _MARKS)
        end = text.find(b'"', begin + 1) + 1 if begin >= 0 else -1
        if not end:  # a text without end
            break
    return count


def carries_error(response: Response) -> bool:
    """Whether the body is an error object, whatever the status says."""
    found = body_object(response)
    return found is not None and bool(found.get("code"))


def is_foreign(response: Response) -> bool:
    """Whether somebody else answered: with a body that is not JSON, or where there is none (HEAD), with the
    headers of a page.
    """
    if response.body.strip():
        return body_object(response) is None
    headers = response.headers
    return headers.get("content-type", "").startswith("text/html") and "x-bce-request-id" not in headers


def error_for(request: Request, response: Response, *, path_style: bool = False) -> StoreError:
    """The one error of ours that `response` stands for. `path_style`: asked so of a host that may mind."""
    found = body_object(response) or {}
    code = _text(found.get("code"))
    said = _text(found.get("message"))
    reaction = _reaction(request, response, code, said, path_style)
    message = reaction.text if not said else f"{reaction.text}: {said}"
    if location := response.headers.get("location", ""):
        message += f" (to {_text(location)})"
    facts: dict[str, Any] = {
        "status": response.status,
        "code": code,
        "request_id": response.headers.get("x-bce-request-id", "") or _text(found.get("requestId")),
        "hint": reaction.hint,
    }
    if reaction.error is AccessRefused:
        facts["credentials"] = reaction.credentials
    elif reaction.error is PartsRefused:
        facts["too_small"] = reaction.too_small
    elif reaction.error is StoreUnavailable:
        facts["outcome_unknown"] = reaction.outcome_unknown
        facts["retry_after_seconds"] = retry_after(response)
    return reaction.error(message, **facts)


def retry_after(response: Response) -> float | None:
    """Seconds that the Retry-After header asks for; a date in it is measured from the answer's own Date."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        asked = parsedate_to_datetime(response.headers.get("date", ""))
        return max(0.0, (until - asked).total_seconds())
    except (TypeError, ValueError):
        return None


def _reaction(request: Request, response: Response, code: str, said: str, path_style: bool) -> Reaction:
    if path_style and code in _PATH_STYLE_CODES:
        return PATH_STYLE
    if code:
        return _by_code(request, response.status, code, said)
    return _by_status(request, response)


def _by_code(request: Request, status: int, code: str, said: str) -> Reaction:
    if code == "AccessDenied" and _RATE_TEXT.search(said):
        return _RATE  # the vendor's own tools read a rate limit out of this text
    if "Digest" in code:
        # A digest refused at complete speaks of all the parts together: repeating the call mends nothing.
        return _DIGEST_OF_WHOLE if _completes(request) else _DIGEST
    if "Quota" in code:
        return QUOTA
    known = CODES.get(code)
    if known is not None:
        return known
    if status < 300:
        return _ODD
    return STATUSES.get(status) or _by_class(status)


def _by_status(request: Request, response: Response) -> Reaction:
    status = response.status
    if is_foreign(response) and status not in (407, 408, 429):
        if status < 300 or status == 404 or status >= 500:
            return _FOREIGN_NOW
        if status >= 400:
            return _FOREIGN
    if status == 404 and any(name == "uploadId" for name, _ in request.query):
        return _GONE
    return STATUSES.get(status) or _by_class(status)


def _by_class(status: int) -> Reaction:
    if status < 300:
        return Reaction(StoreUnavailable, "BOS's answer lacks what it should hold", outcome_unknown=True)
    if status < 400:
        return _REDIRECT
    if status < 500:
        return Reaction(StoreRefused, "BOS refused the request")
    return _GATEWAY


def _completes(request: Request) -> bool:
    return request.method == "POST" and any(name == "uploadId" for name, _ in request.query)


def _text(value: object) -> str:
    """A value of the server's as one printable line of bearable length."""
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in value)[:300].strip()
