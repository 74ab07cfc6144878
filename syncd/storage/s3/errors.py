"""What an S3 server's refusals mean to us: one table by its error codes, one by HTTP status. Pure.

The code decides before the status: 400 may be a slow connection (repeat), a damaged body (send again), an
expired token (stop the store) or a bad name (give this object up). Answers to HEAD have no body and so no
code; answers of a proxy in between have a body that is not the store's.

Two servers' habits are part of the table. An unknown upload may be called NoSuchKey (Ceph). A part that is
sent again may be NotImplemented with 501 (rclone): StoreRefused with that code, upon which the caller lists
the parts, because the first answer was probably lost.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

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
from syncd.storage.s3.xml import parse


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a refusal means: the class of error, what to say, and what a person can do about it."""

    error: type[StoreError]
    text: str
    hint: str = ""
    unknown: bool = False
    """Of StoreUnavailable: it may have been done all the same."""
    credentials: bool = False
    """Of AccessRefused: keys or tokens are to blame."""
    too_small: bool = False
    """Of PartsRefused: parts are below the minimum size."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an error answer says about itself; empty text for what it does not say."""

    code: str = ""
    message: str = ""
    request_id: str = ""
    region: str = ""
    """The region where the bucket really is."""


def _keys(text: str, hint: str = "check access_key_id and secret_access_key") -> Verdict:
    return Verdict(AccessRefused, text, hint, credentials=True)


def _place(text: str, hint: str) -> Verdict:
    return Verdict(AccessRefused, text, hint)


def _later(text: str, *, unknown: bool = False, hint: str = "") -> Verdict:
    return Verdict(StoreUnavailable, text, hint, unknown=unknown)


_RENEW = "renew the session token, or let the credential source do it"
_SLOW = _later("the store wants fewer requests")
_CUT = _later("the store did not get the whole body in time")
_CLOCK = _later("this machine's clock and the store's differ too much", hint="set this machine's clock")
_CORRUPT = Verdict(PartCorrupt, "what arrived is not what was sent")
_GONE = Verdict(UploadGone, "the store does not know this upload")
_BROKEN = _later("the store had an internal error", unknown=True)
_CONFLICT = _later("another request for the same object is under way")
_QUOTA = _place("a quota is used up", "raise the quota, or make room")
_NAME = Verdict(StoreRefused, "the store does not take this name")
_ELSEWHERE = _place("the bucket is in another region", "set region, and the endpoint of that region")
_RULES = "check what these keys may do in this bucket and prefix"
_DENIED = Verdict(StoreRefused, "access to this object is denied", _RULES)
_DENIED_ALL = _keys("access to the bucket is denied", _RULES)
_NO_OBJECT = Verdict(StoreRefused, "there is no such object")
_ODD = _later("the store answered with an error inside a success", unknown=True)

CODES: Mapping[str, Verdict] = {
    # the store as a whole: keys
    "InvalidAccessKeyId": _keys("the store does not know the access key"),
    "SignatureDoesNotMatch": _keys(
        "the store refused the signature",
        "check secret_access_key; a proxy that rewrites requests does it too",
    ),
    "ExpiredToken": _keys("the session token has expired", _RENEW),
    "ExpiredTokenException": _keys("the session token has expired", _RENEW),
    "TokenRefreshRequired": _keys("the session token has expired", _RENEW),
    "InvalidToken": _keys("the store refused the session token", _RENEW),
    "InvalidSecurity": _keys("the store refused the credentials"),
    "UnauthorizedAccess": _keys("the store refused the credentials"),
    "Unauthorized": _keys("the store refused the credentials"),
    "NotSignedUp": _keys("the account may not use this service", "check the account with its provider"),
    "AccountProblem": _keys("something is wrong with the account", "check the account with its provider"),
    "UserSuspended": _keys("the account is suspended", "check the account with its provider"),
    "AllAccessDisabled": _keys("all access to the bucket is disabled", "check the account with its provider"),
    "AuthorizationHeaderMalformed": _place("the store does not accept this region", "check region"),
    # the store as a whole: place
    "NoSuchBucket": _place("there is no such bucket", "check bucket, region and endpoint, or create it"),
    "InvalidBucketName": _place("the bucket's name is not valid", "check bucket"),
    "PermanentRedirect": _ELSEWHERE,
    "TemporaryRedirect": _ELSEWHERE,
    "Redirect": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "QuotaExceeded": _QUOTA,
    "XMinioStorageFull": _place("the store is full", "make room"),
    "XMinioAdminBucketQuotaExceeded": _QUOTA,
    # clock: learned from the answer's Date header, then signed anew
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    # not now
    "RequestTimeout": _CUT,
    "ReadBodyError": _CUT,
    "IncompleteBody": _CUT,
    "SlowDown": _SLOW,
    "SlowDownRead": _SLOW,
    "SlowDownWrite": _SLOW,
    "Throttling": _SLOW,
    "ThrottlingException": _SLOW,
    "RequestThrottled": _SLOW,
    "RequestLimitExceeded": _SLOW,
    "TooManyRequests": _SLOW,
    "BandwidthLimitExceeded": _SLOW,
    "ServiceUnavailable": _later("the store is unavailable"),
    "ServerNotInitialized": _later("the store is starting"),
    "InternalError": _BROKEN,
    "OperationAborted": _CONFLICT,
    "ConditionalRequestConflict": _CONFLICT,
    # parts and uploads
    "NoSuchUpload": _GONE,
    "EntityTooSmall": Verdict(PartsRefused, "the store finds parts too small", too_small=True),
    "InvalidPart": Verdict(PartsRefused, "the store misses a part, or has another under its number"),
    "InvalidPartOrder": Verdict(PartsRefused, "the store refused the order of the parts"),
    # content
    "BadDigest": _CORRUPT,
    "InvalidDigest": _CORRUPT,
    "XAmzContentSHA256Mismatch": _CORRUPT,
    "XAmzContentChecksumMismatch": _CORRUPT,
    "PreconditionFailed": Verdict(PreconditionFailed, "the object is not the one that was meant"),
    # this object
    "NoSuchKey": _NO_OBJECT,
    "KeyTooLongError": Verdict(StoreRefused, "the store finds the name too long"),
    "KeyTooLong": Verdict(StoreRefused, "the store finds the name too long"),
    "InvalidObjectName": _NAME,
    "XMinioInvalidObjectName": _NAME,
    "InvalidURI": _NAME,
    "EntityTooLarge": Verdict(StoreRefused, "the store finds the content too large"),
    "MetadataTooLarge": Verdict(StoreRefused, "the store finds the metadata too large"),
    "InvalidStorageClass": _place("the store does not know this storage class", "check storage_class"),
    "InvalidObjectState": Verdict(StoreRefused, "the object is archived", "restore it first"),
    "InvalidRange": Verdict(StoreRefused, "the range lies outside the object"),
    "NotImplemented": Verdict(StoreRefused, "the store cannot do this"),
    "MethodNotAllowed": Verdict(StoreRefused, "the store does not allow this"),
}

STATUSES: Mapping[int, Verdict] = {
    401: _keys("the store wants other credentials"),
    403: _DENIED,
    404: _NO_OBJECT,
    405: Verdict(StoreRefused, "the store does not allow this"),
    407: _place("the proxy wants credentials", "put user and password into proxy"),
    408: _CUT,
    409: _CONFLICT,
    412: CODES["PreconditionFailed"],
    413: Verdict(StoreRefused, "the content is too large for something on the way", "use smaller parts"),
    425: _SLOW,
    429: _SLOW,
    499: _CUT,
    501: CODES["NotImplemented"],
    503: _later("the store is unavailable or wants fewer requests"),
    507: _place("the store is full", "make room"),
}


def facts(response: Response) -> Facts:
    """What the answer says about itself, from its XML where it has some and from its headers."""
    headers = response.headers
    request_id = headers.get("x-amz-request-id", "")
    region = headers.get("x-amz-bucket-region", "")
    root = parse(response.body) if response.body else None
    if root is None or root.name != "Error":
        return Facts(request_id=request_id, region=region)
    return Facts(
        code=root.get("Code").strip(),
        message=" ".join(root.get("Message").split())[:300],
        request_id=request_id or root.get("RequestId").strip(),
        region=region or root.get("Region").strip(),
    )


def is_foreign(response: Response) -> bool:
    """Whether the answer has a body that no store sends: a page of HTML, or no XML at all.

    Headers alone prove nothing: some servers label even their empty answers as HTML.
    """
    if not response.body.strip():
        return False
    root = parse(response.body)
    return root is None or root.name.lower() == "html"


def unclear(response: Response, text: str) -> StoreUnavailable:
    """An answer that the store would not give."""
    return StoreUnavailable(
        text,
        status=response.status,
        request_id=response.headers.get("x-amz-request-id", ""),
        hint="something between here and the store may answer in its place",
        outcome_unknown=True,
    )


def verdict(request: Request, status: int, code: str, *, whole_bucket: bool) -> Verdict:
    """What the code means, or else the status. `whole_bucket`: the request was not about one key."""
    if code in ("NoSuchKey", "NoSuchUpload") or (status == 404 and not code):
        names = {name for name, _ in request.query}
        if "uploadId" in names and (code == "NoSuchUpload" or "x-amz-copy-source" not in request.headers):
            return _GONE
    if code in ("AccessDenied", "Forbidden") or (status == 403 and code not in CODES):
        return _DENIED_ALL if whole_bucket else _DENIED
    known = CODES.get(code) or STATUSES.get(status)
    if known is not None:
        return known
    if status >= 500:
        return _BROKEN
    if status >= 400:
        return Verdict(StoreRefused, "the store refused the request")
    return _ELSEWHERE if status >= 300 else _ODD


def error_for(request: Request, response: Response, told: Facts, *, whole_bucket: bool) -> StoreError:
    """The error that `response` stands for."""
    found = verdict(request, response.status, told.code, whole_bucket=whole_bucket)
    text = f"{found.text}: {told.message}" if told.message else found.text
    if found.error is StoreUnavailable:
        return StoreUnavailable(
            text,
            status=response.status,
            code=told.code,
            request_id=told.request_id,
            hint=found.hint,
            outcome_unknown=found.unknown,
            retry_after_seconds=retry_after_seconds(response.headers),
        )
    if found.error is AccessRefused:
        return AccessRefused(
            text,
            status=response.status,
            code=told.code,
            request_id=told.request_id,
            hint=found.hint,
            credentials=found.credentials,
        )
    if found.error is PartsRefused:
        return PartsRefused(
            text,
            status=response.status,
            code=told.code,
            request_id=told.request_id,
            hint=found.hint,
            too_small=found.too_small,
        )
    return found.error(
        text, status=response.status, code=told.code, request_id=told.request_id, hint=found.hint
    )


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The store's own wish, in either of the two forms of ``Retry-After``; None when there is none.

    A point in time counts from the answer's own ``Date``: the two come from one clock.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(int(text[:9]))
    try:
        wish = parsedate_to_datetime(text)
        return max(0.0, (wish - parsedate_to_datetime(headers["date"])).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
