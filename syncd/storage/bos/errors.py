"""What BOS's refusals mean to us: one table from its error codes, one from HTTP statuses, one reaction each.

The code decides before the status does, because the same status stands for unlike things: 400 is a wrong
digest (send again), a slow connection (repeat), an expired signature (sign again) or a bad name (give up).
Answers to HEAD have no body and so no code; answers of a proxy in between have a body that is not BOS's.

Source: https://cloud.baidu.com/doc/BOS/s/Ajwvysfpl, and what the vendor's SDKs and integration tests expect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from syncd.core.errors import (
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    UploadGone,
)
from syncd.storage.bos.values import body_object
from syncd.storage.http.errors import (
    NOT_THE_STORES,
    Facts,
    Refusal,
    failed,
    keys,
    later,
    place,
    quota,
    refused,
)
from syncd.storage.http.messages import Request, Response

_ON_MISMATCH = "check the secret access key; a proxy that rewrites Host or path breaks signatures too"
_CHECK_REGION = "check the bucket's name, and that the endpoint is that of the bucket's own region"

CODES: Mapping[str, Refusal] = {
    # the store as a whole: keys
    "SignatureDoesNotMatch": keys("BOS refused the signature", _ON_MISMATCH),
    "InvalidAccessKeyId": keys("BOS does not know the access key", "check access_key_id"),
    "InvalidSessionToken": keys("BOS refused the session token", "it has expired or is wrong: renew it"),
    "InvalidHTTPAuthHeader": keys(
        "BOS cannot read the Authorization header", "check access_key_id for stray characters"
    ),
    # the store as a whole: account, bucket, endpoint
    "AccountOverdue": place("the account is overdue", "settle the account's bill with Baidu"),
    "NoSuchBucket": place("there is no such bucket here", _CHECK_REGION),
    "InvalidBucketName": place("BOS refused the bucket's name", "check bucket"),
    "InvalidVersion": place("BOS does not know this version of its API", "check endpoint"),
    # clock: the client corrects it from the answer's Date header and signs again
    "RequestTimeTooSkewed": later(
        "this machine's clock and BOS's differ too much", "set this machine's clock"
    ),
    "RequestExpired": later("the signature had expired when it arrived", "check this machine's clock"),
    # not now
    "InternalError": failed("BOS had an internal error"),
    "ServiceUnavailable": later("BOS is unavailable or wants fewer requests"),
    "SlowDown": later("BOS wants fewer requests"),
    "RequestRateLimitExceeded": later("BOS wants fewer requests"),
    "RequestTimeout": later("BOS waited too long for the request's body"),
    "ReadBodyError": later("BOS could not read the request's body"),
    "Http400": later("BOS's front end could not take the request"),
    # parts and uploads
    "NoSuchUpload": Refusal(UploadGone, "BOS does not know this upload"),
    "InvalidPart": Refusal(PartsRefused, "BOS misses a part, or has another under its number"),
    "InvalidPartOrder": Refusal(PartsRefused, "BOS refused the order of the parts"),
    "EntityTooSmall": Refusal(PartsRefused, "BOS finds parts too small", too_small=True),
    # conditions
    "PreconditionFailed": Refusal(PreconditionFailed, "the object is not the one that was meant"),
    # this object
    "AccessDenied": Refusal(
        StoreRefused, "BOS denied access", "check what the key's owner may do in this bucket and prefix"
    ),
    "NoSuchKey": Refusal(StoreRefused, "there is no such object"),
    "EntityTooLarge": Refusal(StoreRefused, "BOS finds the content too large"),
    "MetadataTooLarge": Refusal(StoreRefused, "BOS finds the metadata too large"),
    "InvalidObjectName": Refusal(StoreRefused, "BOS refused the key", "the name is too long or not allowed"),
    "InvalidURI": Refusal(StoreRefused, "BOS refused the key", "the name is not allowed"),
    "InvalidRange": Refusal(StoreRefused, "the range lies outside the object"),
    "ObjectImmutable": Refusal(StoreRefused, "the object may not be changed", "the bucket holds a lock"),
    "FileAlreadyExists": Refusal(StoreRefused, "the object may not be overwritten"),
}

_GATEWAY = later("a gateway before BOS failed", unknown=True)

STATUSES: Mapping[int, Refusal] = {
    401: keys("BOS wants other credentials", "check the keys"),
    403: Refusal(StoreRefused, "BOS denied access", "check the keys, and what they may do in this bucket"),
    404: Refusal(StoreRefused, "there is no such object"),
    407: place("the proxy wants credentials", "put user and password into the proxy's address"),
    408: later("BOS waited too long for the request"),
    412: Refusal(PreconditionFailed, "the object is not the one that was meant"),
    429: later("BOS wants fewer requests"),
    500: failed("BOS had an internal error"),
    501: Refusal(StoreRefused, "BOS cannot do this"),
    502: _GATEWAY,
    503: later("BOS is unavailable or wants fewer requests"),
    504: _GATEWAY,
}

_REDIRECT = place("BOS pointed elsewhere", "check that the endpoint is that of the bucket's own region")
_FOREIGN = place(NOT_THE_STORES, "check proxy and endpoint")
_FOREIGN_NOW = later(NOT_THE_STORES, "check proxy and endpoint", unknown=True)
QUOTA = quota("a quota is used up", "raise the quota of account or bucket, or make room")
_DIGEST = Refusal(PartCorrupt, "what arrived is not what was sent")
_DIGEST_OF_WHOLE = Refusal(PartsRefused, "the parts make another object than the one meant")
_GONE = CODES["NoSuchUpload"]
_RATE = CODES["RequestRateLimitExceeded"]
_ODD = later("BOS answered with an error inside a success", unknown=True)
PATH_STYLE = place(
    "BOS refused the path-style request",
    "buckets made since June 2024 take only the virtual-host form: remove path_style",
)
_PATH_STYLE_CODES = frozenset(
    {"AccessDenied", "InvalidURI", "InvalidHTTPRequest", "MethodNotAllowed", "NoSuchBucket"}
)

_RATE_TEXT = re.compile(r"\brate\b|too (?:many|frequent)|frequen|throttl|slow down", re.IGNORECASE)


def carries_error(response: Response) -> bool:
    """Whether the body is an error object, whatever the status says."""
    found = body_object(response)
    return found is not None and bool(found.get("code"))


def is_foreign(response: Response) -> bool:
    """Whether another server answered: with a body that is not JSON, or where there is none (HEAD), with the
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
    refusal = _refusal(request, response, code, said, path_style)
    if location := response.headers.get("location", ""):
        refusal = replace(refusal, text=f"{refusal.text} (to {_text(location)})")
    request_id = response.headers.get("x-bce-request-id", "") or _text(found.get("requestId"))
    return refused(refusal, response, Facts(code, said, request_id))


def _refusal(request: Request, response: Response, code: str, said: str, path_style: bool) -> Refusal:
    if path_style and code in _PATH_STYLE_CODES:
        return PATH_STYLE
    if code:
        return _by_code(request, response.status, code, said)
    return _by_status(request, response)


def _by_code(request: Request, status: int, code: str, said: str) -> Refusal:
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


def _by_status(request: Request, response: Response) -> Refusal:
    status = response.status
    if is_foreign(response) and status not in (407, 408, 429):
        if status < 300 or status == 404 or status >= 500:
            return _FOREIGN_NOW
        if status >= 400:
            return _FOREIGN
    if status == 404 and any(name == "uploadId" for name, _ in request.query):
        return _GONE
    return STATUSES.get(status) or _by_class(status)


def _by_class(status: int) -> Refusal:
    if status < 300:
        return later("BOS's answer lacks what it should hold", unknown=True)
    if status < 400:
        return _REDIRECT
    if status < 500:
        return Refusal(StoreRefused, "BOS refused the request")
    return _GATEWAY


def _completes(request: Request) -> bool:
    return request.method == "POST" and any(name == "uploadId" for name, _ in request.query)


def _text(value: object) -> str:
    """A value of the server's as one printable line of bearable length."""
    if not isinstance(value, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in value)[:300].strip()
