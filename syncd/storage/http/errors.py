"""What network failures and refusals of a store mean to us. Pure.

The question behind each failure is whether the store may have done what we asked: not if nothing was sent,
perhaps once anything was.

`refusal` looks an answer up by its verb, code and status. The code decides before the status, because 400 may
be a slow connection (repeat), a damaged body (send again), an expired token (stop the store) or a bad name
(give up this object). The tables hold the codes of both dialects; a code that only one knows does the other
no harm. ``python -m tests.support.answers_page`` makes `docs/answers.md` from them.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
https://cloud.baidu.com/doc/BOS/s/Ajwvysfpl, and what servers and vendors' clients do.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from msgspec import Struct

from syncd.core.errors import (
    RENAME,
    TOO_LARGE,
    TRY_ALL,
    VERIFY,
    AccessRefused,
    ConnectionLost,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    QuotaExceeded,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import ObjectInfo
from syncd.storage.http.deadlines import Stalled
from syncd.storage.http.messages import Request, Response


class Refusal(Struct, frozen=True):
    """What a refusal means: the error class, the text, and what the operator can do."""

    error: type[StoreError]
    text: str
    hint: str = ""
    outcome_unknown: bool = False
    """Of StoreUnavailable: the store may have done what was asked."""
    credentials: bool = False
    """Of AccessRefused: keys or tokens are to blame."""
    too_small: bool = False
    """Of PartsRefused: parts are below the minimum size."""


class Facts(Struct, frozen=True):
    """What an error answer says about itself; empty text: it does not say."""

    code: str = ""
    message: str = ""
    request_id: str = ""
    region: str = ""
    """The bucket's actual region (S3)."""


def keys(text: str, hint: str) -> Refusal:
    """Return a refusal of keys or tokens: nothing will work with them."""
    return Refusal(AccessRefused, text, hint, credentials=True)


def place(text: str, hint: str) -> Refusal:
    """Return a refusal of account, bucket, region or endpoint: nothing will work there."""
    return Refusal(AccessRefused, text, hint)


def quota(text: str, hint: str) -> Refusal:
    """Return a refusal of all content; deletions work."""
    return Refusal(QuotaExceeded, text, hint)


def later(text: str, hint: str = "", *, unknown: bool = False) -> Refusal:
    """Return a refusal worth another try; with `unknown`, the store may have done what we asked."""
    return Refusal(StoreUnavailable, text, hint, outcome_unknown=unknown)


def failed(text: str) -> Refusal:
    """Return a failure of the store, which may have done it, and may fail only at this one thing."""
    return Refusal(StoreFailed, text, outcome_unknown=True)


# ---- the table -------------------------------------------------------------------------------------------

VERBS = (
    "put", "part", "copy", "part copy", "create", "complete", "parts", "abort", "uploads", "head", "get",
    "list", "delete",
)  # fmt: skip

_CHECK_KEYS = "check access_key_id and secret_access_key"
_RENEW = "renew the session token, or let the credential source do it"
_PROVIDER = "ask the provider about the account"
_RULES = "give these keys the permission in this bucket and prefix"
_SLOW = later("the store asks for fewer requests")
_CUT = later("the store did not receive the whole body in time")
_CLOCK = later("this machine's clock and the store's differ too much", "set this machine's clock")
_CONFLICT = later("another request for the same object is in progress")
_CORRUPT = Refusal(
    PartCorrupt,
    "the content arrived damaged",
    "if this persists, check the network and this machine's memory",
)
_OTHER_WHOLE = Refusal(PartsRefused, "the joined parts are not the content that was sent")
_GONE = Refusal(UploadGone, "the store does not know this upload")
_BROKEN = failed("the store had an internal error")
_GATEWAY = later("a gateway in front of the store failed", unknown=True)
_ODD = later("the store answered with success, and with an error in its body", unknown=True)
_LACKS = later("the store's answer is incomplete", unknown=True)
_QUOTA = quota("a quota is used up", "raise the quota of the account or bucket, or free some space there")
_FULL = quota("the store is full", "free some space there")
_NAME = Refusal(StoreRefused, "the store does not accept this name", RENAME)
_TOKEN = keys("the store refused the session token", _RENEW)
_EXPIRED = keys("the session token has expired", _RENEW)
_WRONG = keys("the store refused the credentials", _CHECK_KEYS)
_DENIED = Refusal(StoreRefused, "access to this object is denied", _RULES)
_DENIED_ALL = keys("access to the bucket is denied", _RULES)
_NO_OBJECT = Refusal(StoreRefused, "there is no such object", VERIFY)
_CANNOT = Refusal(StoreRefused, "the store cannot do this", TRY_ALL)
_NOT_ALLOWED = Refusal(StoreRefused, "the store does not allow this", TRY_ALL)
_LOCKED = Refusal(
    StoreRefused,
    "the object cannot be changed",
    "its bucket protects it: wait until the protection ends, or exclude the file",
)
_REFUSED = Refusal(StoreRefused, "the store refused the request", TRY_ALL)
_ANOTHER = Refusal(PreconditionFailed, "the object was replaced since syncd looked at it")
_ELSEWHERE = place(
    "the bucket is in another region", "set region, and the endpoint of the bucket's own region"
)
_IN_HOST = place("the store requires the bucket's name in the host name", "set `path_style: false`")

CODES: Mapping[str, Refusal] = {
    # keys and account
    "InvalidAccessKeyId": keys("the store does not know the access key", _CHECK_KEYS),
    "SignatureDoesNotMatch": keys(
        "the store refused the signature",
        "check secret_access_key; if it is right, look for a proxy that rewrites requests",
    ),
    "InvalidHTTPAuthHeader": keys(
        "the store cannot read the Authorization header", "look for stray characters in access_key_id"
    ),
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _TOKEN,
    "InvalidSessionToken": _TOKEN,
    "InvalidSecurity": _WRONG,
    "UnauthorizedAccess": _WRONG,
    "Unauthorized": _WRONG,
    "NotSignedUp": keys("the account may not use this service", _PROVIDER),
    "AccountProblem": keys("the store's provider reports a problem with the account", _PROVIDER),
    "UserSuspended": keys("the account is suspended", _PROVIDER),
    "AllAccessDisabled": keys("all access to the bucket is disabled", _PROVIDER),
    "AccountOverdue": place("the account is overdue", "settle the account's bill with its provider"),
    # place
    "NoSuchBucket": place(
        "there is no such bucket", "check bucket, region and endpoint, or create the bucket"
    ),
    "InvalidBucketName": place("the store does not accept the bucket's name", "check bucket"),
    "InvalidVersion": place("the store does not know this version of its API", "check endpoint"),
    "AuthorizationHeaderMalformed": place("the store does not accept this region", "check region"),
    "PermanentRedirect": _ELSEWHERE,
    "TemporaryRedirect": _ELSEWHERE,
    "Redirect": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "VirtualHostDomainRequired": _IN_HOST,
    "SecondLevelDomainForbidden": _IN_HOST,
    "PublicEndpointForbidden": place(
        "the account may not reach the bucket from here through the store's own domain",
        "set endpoint to a domain of your own that leads to the bucket, and `path_style: false`; or run "
        "syncd in the provider's network, with the endpoint for that network",
    ),
    "InvalidStorageClass": place("the store does not know this storage class", "check storage_class"),
    # quotas; and any code with "Quota" in it
    "QuotaExceeded": _QUOTA,
    "XMinioAdminBucketQuotaExceeded": _QUOTA,
    "XMinioStorageFull": _FULL,
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
    "RequestRateLimitExceeded": _SLOW,
    "TooManyRequests": _SLOW,
    "BandwidthLimitExceeded": _SLOW,
    "ServiceUnavailable": later("the store is unavailable or overloaded"),
    "ServerNotInitialized": later("the store is starting"),
    "Http400": later("the store's front end failed"),
    "InternalError": _BROKEN,
    "OperationAborted": _CONFLICT,
    "Conflict": _CONFLICT,
    "ConcurrentModification": _CONFLICT,
    "ConditionalRequestConflict": _CONFLICT,
    # uploads and content; and any code with "Digest" in it
    "NoSuchUpload": _GONE,
    "EntityTooSmall": Refusal(PartsRefused, "the parts are too small for the store", too_small=True),
    "InvalidPart": Refusal(PartsRefused, "the store lacks a part, or has a different one with its number"),
    "InvalidPartOrder": Refusal(PartsRefused, "the store refused the order of the parts"),
    "BadDigest": _CORRUPT,
    "InvalidDigest": _CORRUPT,
    "XAmzContentSHA256Mismatch": _CORRUPT,
    "XAmzContentChecksumMismatch": _CORRUPT,
    "PreconditionFailed": _ANOTHER,
    # this object
    "AccessDenied": _DENIED,
    "Forbidden": _DENIED,
    "NoSuchKey": _NO_OBJECT,
    "KeyTooLongError": _NAME,
    "KeyTooLong": _NAME,
    "InvalidObjectName": _NAME,
    "XMinioInvalidObjectName": _NAME,
    "InvalidURI": _NAME,
    "EntityTooLarge": Refusal(StoreRefused, "the object is too large for the store", TOO_LARGE),
    "MetadataTooLarge": Refusal(
        StoreRefused,
        "the metadata are too large for the store",
        "set `attributes: none`, or shorten the properties in `objects`",
    ),
    "InvalidObjectState": Refusal(
        StoreRefused,
        "the object is archived",
        "restore it from the archive with the store's console or tools",
    ),
    "InvalidRange": Refusal(StoreRefused, "the range lies outside the object", VERIFY),
    "ObjectImmutable": _LOCKED,
    "FileAlreadyExists": _LOCKED,
    "FileImmutable": _LOCKED,
    "NotImplemented": _CANNOT,
    "MethodNotAllowed": _NOT_ALLOWED,
}

STATUSES: Mapping[int, Refusal] = {
    401: _WRONG,
    403: _DENIED,
    404: _NO_OBJECT,
    405: _NOT_ALLOWED,
    407: place("the proxy requires credentials", "put the user and the password into `proxy`"),
    408: _CUT,
    409: _CONFLICT,
    412: _ANOTHER,
    413: Refusal(
        StoreRefused,
        "a proxy or gateway in front of the store does not accept requests of this size",
        "lower transfer.part_size",
    ),
    425: _SLOW,
    429: _SLOW,
    499: _CUT,
    500: _BROKEN,
    501: _CANNOT,
    502: _GATEWAY,
    503: CODES["ServiceUnavailable"],
    504: _GATEWAY,
    507: _FULL,
}
"""For answers without a code, or with an unknown one. 409 counts only without a code: with one it may mean
that the object is locked.
"""

JUDGED = frozenset({407, 408, 413, 429})
"""Statuses that mean the same if a proxy or gateway sends them."""
Answer = str | int
"""A code, or the status of an answer without a code."""
_DIGESTS = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
)

OF_VERBS: tuple[tuple[frozenset[str], frozenset[Answer], Refusal], ...] = (
    # Ceph calls an unknown upload NoSuchKey.
    (frozenset({"part", "complete", "parts", "abort"}), frozenset({"NoSuchKey", 404}), _GONE),
    # A digest refused at complete is about all parts together: repeating the call does not help.
    (frozenset({"complete"}), _DIGESTS, _OTHER_WHOLE),
    # S3 documents that the caller must begin another upload then.
    (frozenset({"complete"}), frozenset({"ConditionalRequestConflict"}), _REFUSED),
    (frozenset({"uploads", "list"}), frozenset({"AccessDenied", "Forbidden", 403}), _DENIED_ALL),
)
"""Answers that mean something else to these verbs."""

DONE: Mapping[str, frozenset[Answer]] = {
    "head": frozenset({404}),
    "delete": frozenset({404, "NoSuchKey"}),
    "abort": frozenset({404, "NoSuchUpload", "NoSuchKey"}),
}
"""Errors that count as success: what should be removed is not there."""


def verb_of(request: Request, *, whole_bucket: bool) -> str:
    """Return one of `VERBS`. `whole_bucket`: the request is not about one key."""
    names = {name for name, _ in request.query}
    copies = "copy" if request.slow_answer else ""
    if "uploads" in names:
        return "uploads" if request.method == "GET" else "create"
    if "uploadId" in names:
        part = "part copy" if copies else "part"
        return {"PUT": part, "POST": "complete", "GET": "parts", "DELETE": "abort"}[request.method]
    if whole_bucket:
        return "list"
    return {"PUT": copies or "put", "HEAD": "head", "GET": "get", "DELETE": "delete"}[request.method]


def refusal(verb: str, status: int, code: str) -> Refusal:
    """Return what an answer to `verb` means, by its code, else its status."""
    answer: Answer = code or status
    for verbs, answers, found in OF_VERBS:
        if verb in verbs and answer in answers:
            return found
    if code in CODES:
        return CODES[code]
    if "Digest" in code:
        return _OTHER_WHOLE if verb == "complete" else _CORRUPT
    if "Quota" in code:
        return _QUOTA
    if status < 300:
        return _ODD if code else _LACKS
    if status in STATUSES and not (status == 409 and code):
        return STATUSES[status]
    if status >= 500:
        return _BROKEN if code else _GATEWAY
    return _REFUSED if status >= 400 else _ELSEWHERE


def refused(refusal: Refusal, response: Response, facts: Facts) -> StoreError:
    """Return the error for `response`."""
    details: dict[str, Any] = {
        "status": response.status,
        "code": facts.code,
        "request_id": facts.request_id,
        "hint": refusal.hint,
    }
    if issubclass(refusal.error, StoreUnavailable):
        details["outcome_unknown"] = refusal.outcome_unknown
        details["retry_after_seconds"] = retry_after_seconds(response.headers)
    elif refusal.error is AccessRefused:
        details["credentials"] = refusal.credentials
    elif refusal.error is PartsRefused:
        details["too_small"] = refusal.too_small
    text = f"{refusal.text}: {facts.message}" if facts.message else refusal.text
    return refusal.error(text, **details)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the pause that the store wants, from either form of ``Retry-After``; None: it names none.

    A date counts from the answer's ``Date``: both come from one clock.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        wish = parsedate_to_datetime(text)
        return max(0.0, (wish - parsedate_to_datetime(headers.get("date", ""))).total_seconds())
    except (ValueError, TypeError):
        return None


# ---- successes -------------------------------------------------------------------------------------------


EMPTY_SUCCESS: Mapping[str, frozenset[int]] = {
    "put": frozenset({200}),
    "part": frozenset({200}),
    "head": frozenset({200}),
    "delete": frozenset({200, 202, 204}),
    "abort": frozenset({200, 202, 204}),
}
"""The verbs whose success has no body, with its statuses. The success of every other verb is 200 with a
document, which the dialect reads. Anything else is an error, or not from the store.
"""

NOT_THE_STORES = "the answer does not come from the store, but from something in between"


_MARKS = ("request-id", "requestid", "trans-id", "-id-2", "debug-id", "uploadid", "-ray")
"""The endings of header names that number answers, in known stores and gateways."""


class Unproven(StoreUnavailable):
    """An answer in the form of a success, without anything that only the store can know."""

    response: Response


def unproven(response: Response, text: str) -> Unproven:
    """Return the error for a success that another request must confirm."""
    hint = "check proxy and endpoint if this goes on"
    doubt = Unproven(text, status=response.status, hint=hint, outcome_unknown=True)
    doubt.response = response
    return doubt


class Marks:
    """Recognises the answers of one store by the headers that number answers: a store sends them always or
    never. The protocol's own header suffices. From the first proven answer it learns whether a store sends
    others, or none. For several threads.
    """

    def __init__(self, own_header: str) -> None:
        self._own_header = own_header
        self._known: frozenset[str] | None = None

    def are_in(self, response: Response) -> bool:
        """Return whether the answer has all marks of the store; if none is known, the protocol's header."""
        known = self._known
        if known is not None:
            return known <= response.headers.keys()
        if self._own_header not in response.headers:
            return False
        self.learn(response)
        return True

    def learn(self, response: Response) -> None:
        """Learn from an answer proven to be the store's: what it lacks is no mark."""
        if self._own_header in response.headers:
            marks = frozenset({self._own_header})
        else:
            marks = frozenset(name for name in response.headers if name.endswith(_MARKS))
        self._known = marks if self._known is None else self._known & marks

    def learn_first(self, response: Response) -> None:
        """Learn from an answer if no mark is known yet: what we asked for was found done."""
        if self._known is None:
            self.learn(response)

    def look_foreign(self, response: Response, info: ObjectInfo | None) -> bool:
        """Return whether an answer to HEAD, which has no body, has nothing of ours or of the store in it.

        Lenient: answers to HEAD may have fewer marks, and a page of HTML may be a file of ours.
        """
        headers = response.headers
        if self._own_header in headers or any(name in headers for name in self._known or ()):
            return False
        if info is not None and (info.digest or info.token or info.mtime_ns is not None):
            return False
        is_page = headers.get("content-type", "").startswith("text/html")
        if self._known is None:
            return is_page and info is not None
        return bool(self._known) and (is_page or info is not None)


# ---- the network -------------------------------------------------------------------------------------------


_NOT_SIGNED = "set ca_bundle to the certificate of the authority that signed it"
_OTHER_NAME = (
    "write a host in endpoint that the certificate names; if the bucket is in front: path_style: true"
)
_OF_CERTIFICATE = {
    9: "set this machine's clock",
    10: "have the server's certificate renewed, or set this machine's clock",
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
"""The hint by OpenSSL's number: not valid yet, expired, another host, another address; else `_NOT_SIGNED`.

Source: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
"""
_PLAIN = "write http:// in endpoint, or name the port that speaks TLS"
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


def untrusted(host: str, error: BaseException) -> AccessRefused:
    """Return the error for an invalid certificate: nothing may be sent."""
    reason = getattr(error, "verify_message", "") or str(error)
    return AccessRefused(
        f"the certificate of {host} is not trusted: {reason}",
        hint=_OF_CERTIFICATE.get(getattr(error, "verify_code", 0), _NOT_SIGNED),
        credentials=False,
    )


def not_connected(host: str, error: BaseException) -> StoreUnavailable:
    """Nothing was sent."""
    if getattr(error, "reason", "") in _NO_TLS:  # of an ssl.SSLError
        return StoreUnavailable(f"{host} does not speak TLS", hint=_PLAIN)
    reason = getattr(error, "strerror", None) or str(error)
    return StoreUnavailable(f"no connection to {host}: {reason}", hint="check network and endpoint")


def lost(host: str, error: BaseException, *, reused: bool) -> StoreUnavailable:
    """Return the error for a request under way. On a `reused` connection the next try may come at once: the
    server probably closed it for its age.
    """
    if isinstance(error, Stalled):
        return StoreUnavailable(f"{host} is too slow: {error}", outcome_unknown=True)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ConnectionLost(
        f"lost the connection to {host}: {reason}",
        outcome_unknown=True,
        retry_after_seconds=0.0 if reused else None,
    )
