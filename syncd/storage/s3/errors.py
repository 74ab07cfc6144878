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

from syncd.core.errors import (
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.storage.http.errors import NOT_THE_STORES, Facts, Refusal, failed, keys, later, place, quota
from syncd.storage.http.messages import Request, Response
from syncd.storage.s3.xml import parse

_CHECK_KEYS = "check access_key_id and secret_access_key"
_RENEW = "renew the session token, or let the credential source do it"
_SLOW = later("the store wants fewer requests")
_CUT = later("the store did not get the whole body in time")
_CLOCK = later("this machine's clock and the store's differ too much", hint="set this machine's clock")
_CORRUPT = Refusal(PartCorrupt, "what arrived is not what was sent")
_GONE = Refusal(UploadGone, "the store does not know this upload")
_BROKEN = failed("the store had an internal error")
_GATEWAY = later("a gateway before the store failed", unknown=True)
_CONFLICT = later("another request for the same object is under way")
_QUOTA = quota("a quota is used up", "raise the quota, or make room")
_NAME = Refusal(StoreRefused, "the store does not take this name")
_ELSEWHERE = place("the bucket is in another region", "set region, and the endpoint of that region")
_RULES = "check what these keys may do in this bucket and prefix"
_DENIED = Refusal(StoreRefused, "access to this object is denied", _RULES)
_DENIED_ALL = keys("access to the bucket is denied", _RULES)
_NO_OBJECT = Refusal(StoreRefused, "there is no such object")
_ODD = later("the store answered with an error inside a success", unknown=True)

CODES: Mapping[str, Refusal] = {
    # the store as a whole: keys
    "InvalidAccessKeyId": keys("the store does not know the access key", _CHECK_KEYS),
    "SignatureDoesNotMatch": keys(
        "the store refused the signature",
        "check secret_access_key; a proxy that rewrites requests does it too",
    ),
    "ExpiredToken": keys("the session token has expired", _RENEW),
    "ExpiredTokenException": keys("the session token has expired", _RENEW),
    "TokenRefreshRequired": keys("the session token has expired", _RENEW),
    "InvalidToken": keys("the store refused the session token", _RENEW),
    "InvalidSecurity": keys("the store refused the credentials", _CHECK_KEYS),
    "UnauthorizedAccess": keys("the store refused the credentials", _CHECK_KEYS),
    "Unauthorized": keys("the store refused the credentials", _CHECK_KEYS),
    "NotSignedUp": keys("the account may not use this service", "check the account with its provider"),
    "AccountProblem": keys("something is wrong with the account", "check the account with its provider"),
    "UserSuspended": keys("the account is suspended", "check the account with its provider"),
    "AllAccessDisabled": keys("all access to the bucket is disabled", "check the account with its provider"),
    "AuthorizationHeaderMalformed": place("the store does not accept this region", "check region"),
    # the store as a whole: place
    "NoSuchBucket": place("there is no such bucket", "check bucket, region and endpoint, or create it"),
    "InvalidBucketName": place("the bucket's name is not valid", "check bucket"),
    "PermanentRedirect": _ELSEWHERE,
    "TemporaryRedirect": _ELSEWHERE,
    "Redirect": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "QuotaExceeded": _QUOTA,
    "XMinioStorageFull": quota("the store is full", "make room"),
    "XMinioAdminBucketQuotaExceeded": _QUOTA,
    # clock: learned from the answer's Date header, then signed again
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
    "ServiceUnavailable": later("the store is unavailable"),
    "ServerNotInitialized": later("the store is starting"),
    "InternalError": _BROKEN,
    "OperationAborted": _CONFLICT,
    "Conflict": _CONFLICT,
    "ConcurrentModification": _CONFLICT,
    "ConditionalRequestConflict": Refusal(StoreRefused, "the store refused the request"),
    # parts and uploads
    "NoSuchUpload": _GONE,
    "EntityTooSmall": Refusal(PartsRefused, "the store finds parts too small", too_small=True),
    "InvalidPart": Refusal(PartsRefused, "the store misses a part, or has another under its number"),
    "InvalidPartOrder": Refusal(PartsRefused, "the store refused the order of the parts"),
    # content
    "BadDigest": _CORRUPT,
    "InvalidDigest": _CORRUPT,
    "XAmzContentSHA256Mismatch": _CORRUPT,
    "XAmzContentChecksumMismatch": _CORRUPT,
    "PreconditionFailed": Refusal(PreconditionFailed, "the object is not the one that was meant"),
    # this object
    "NoSuchKey": _NO_OBJECT,
    "KeyTooLongError": Refusal(StoreRefused, "the store finds the name too long"),
    "KeyTooLong": Refusal(StoreRefused, "the store finds the name too long"),
    "InvalidObjectName": _NAME,
    "XMinioInvalidObjectName": _NAME,
    "InvalidURI": _NAME,
    "EntityTooLarge": Refusal(StoreRefused, "the store finds the content too large"),
    "MetadataTooLarge": Refusal(StoreRefused, "the store finds the metadata too large"),
    "InvalidStorageClass": place("the store does not know this storage class", "check storage_class"),
    "InvalidObjectState": Refusal(StoreRefused, "the object is archived", "restore it first"),
    "InvalidRange": Refusal(StoreRefused, "the range lies outside the object"),
    "NotImplemented": Refusal(StoreRefused, "the store cannot do this"),
    "MethodNotAllowed": Refusal(StoreRefused, "the store does not allow this"),
}

STATUSES: Mapping[int, Refusal] = {
    401: keys("the store wants other credentials", _CHECK_KEYS),
    403: _DENIED,
    404: _NO_OBJECT,
    405: Refusal(StoreRefused, "the store does not allow this"),
    407: place("the proxy wants credentials", "put user and password into proxy"),
    408: _CUT,
    409: _CONFLICT,
    412: CODES["PreconditionFailed"],
    413: Refusal(StoreRefused, "the content is too large for something on the way", "use smaller parts"),
    425: _SLOW,
    429: _SLOW,
    499: _CUT,
    500: _BROKEN,
    501: CODES["NotImplemented"],
    503: later("the store is unavailable or wants fewer requests"),
    507: quota("the store is full", "make room"),
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


def redirect(response: Response) -> Refusal | None:
    """What an answer means that only sends the request elsewhere: the store itself would give a code."""
    target = "".join(char for char in response.headers.get("location", "") if char.isprintable())[:300]
    if not 300 <= response.status < 400 or not target:
        return None
    hint = "set endpoint to the address that it leads to, if that is the store; a portal may want a login"
    return place(f"the answer is a redirect to {target}", hint)


def is_foreign(response: Response) -> bool:
    """Whether the answer has a body that no store sends: a page of HTML, or no XML at all.

    Headers alone prove nothing: some servers label even their empty answers as HTML.
    """
    if not response.body.strip():
        return False
    root = parse(response.body)
    return root is None or root.name.lower() == "html"


def unclear(response: Response, text: str = NOT_THE_STORES) -> StoreUnavailable:
    """An answer that the store would not give."""
    return StoreUnavailable(
        text,
        status=response.status,
        request_id=response.headers.get("x-amz-request-id", ""),
        hint="check proxy and endpoint",
        outcome_unknown=True,
    )


def refusal(request: Request, status: int, code: str, *, whole_bucket: bool) -> Refusal:
    """What the code means, or else the status. `whole_bucket`: the request was not about one key."""
    if code in ("NoSuchKey", "NoSuchUpload") or (status == 404 and not code):
        names = {name for name, _ in request.query}
        if "uploadId" in names and (code == "NoSuchUpload" or "x-amz-copy-source" not in request.headers):
            return _GONE
    if code in ("AccessDenied", "Forbidden") or (status == 403 and code not in CODES):
        return _DENIED_ALL if whole_bucket else _DENIED
    known = CODES.get(code)
    if known is None and not (status == 409 and code):
        known = STATUSES.get(status)
    if known is not None:
        return known
    if status >= 500:
        return _BROKEN if code else _GATEWAY
    if status >= 400:
        return Refusal(StoreRefused, "the store refused the request")
    return _ELSEWHERE if status >= 300 else _ODD
