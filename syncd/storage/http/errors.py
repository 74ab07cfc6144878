"""What failures of the network and refusals of a store mean to us. Pure.

The question behind each failure is whether the store may have done what was asked: not when nothing was sent,
and perhaps once anything was. A dialect keeps the tables from its error codes and statuses to `Refusal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from syncd.core.errors import (
    AccessRefused,
    PartsRefused,
    QuotaExceeded,
    StoreError,
    StoreFailed,
    StoreUnavailable,
)
from syncd.core.model import ObjectInfo
from syncd.storage.http.deadlines import Stalled
from syncd.storage.http.messages import Response


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal means: the class of error, what to say, and what the operator can do about it."""

    error: type[StoreError]
    text: str
    hint: str = ""
    outcome_unknown: bool = False
    """Of StoreUnavailable: the store may have done what was asked."""
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
    """The region where the bucket really is (S3)."""


def keys(text: str, hint: str) -> Refusal:
    """Keys or tokens are to blame: nothing will work with them."""
    return Refusal(AccessRefused, text, hint, credentials=True)


def place(text: str, hint: str) -> Refusal:
    """Account, bucket, region or endpoint are to blame: nothing will work there."""
    return Refusal(AccessRefused, text, hint)


def quota(text: str, hint: str) -> Refusal:
    """No content is taken; deletions work."""
    return Refusal(QuotaExceeded, text, hint)


def later(text: str, hint: str = "", *, unknown: bool = False) -> Refusal:
    """Worth another try; with `unknown`, the store may have done what was asked."""
    return Refusal(StoreUnavailable, text, hint, outcome_unknown=unknown)


def failed(text: str) -> Refusal:
    """The store tried, and may have done it or not; perhaps it fails at this one thing alone."""
    return Refusal(StoreFailed, text, outcome_unknown=True)


def refused(refusal: Refusal, response: Response, facts: Facts) -> StoreError:
    """The error that `response` stands for."""
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
    """The store's own wish, in either of the two forms of ``Retry-After``; None when there is none.

    A point in time counts from the answer's own ``Date``: the two come from one clock.
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
document, which the dialect reads. Whatever is neither is an error, or not the answer of the store.
"""

NOT_THE_STORES = "the answer is not the store's: something between here and the store answered"


_MARKS = ("request-id", "requestid", "trans-id", "-id-2", "debug-id", "uploadid", "-ray")
"""How the names of headers end that number answers, with the stores and gateways that are known."""


class Unproven(StoreUnavailable):
    """The answer has the form of a success, but nothing in it that only the store can know."""

    response: Response


def unproven(response: Response, text: str) -> Unproven:
    """The error for a success that another question has to settle."""
    hint = "check proxy and endpoint if this goes on"
    doubt = Unproven(text, status=response.status, hint=hint, outcome_unknown=True)
    doubt.response = response
    return doubt


class Marks:
    """Tells the answers of one store from those of others by the headers that number answers: a store sends
    them always or never. The header of the protocol suffices. Whether a store has others, or none at all, the
    first proven answer teaches. For several threads.
    """

    def __init__(self, own_header: str) -> None:
        self._own_header = own_header
        self._known: frozenset[str] | None = None

    def are_in(self, response: Response) -> bool:
        """Whether the answer has every mark of the store; while none is known, the header of the protocol."""
        known = self._known
        if known is not None:
            return all(name in response.headers for name in known)
        if self._own_header not in response.headers:
            return False
        self.learn(response)
        return True

    def learn(self, response: Response) -> None:
        """The answer itself was proven to be the store's: what it lacks is no mark."""
        if self._own_header in response.headers:
            marks = frozenset({self._own_header})
        else:
            marks = frozenset(name for name in response.headers if name.endswith(_MARKS))
        self._known = marks if self._known is None else self._known & marks

    def learn_first(self, response: Response) -> None:
        """What was asked for was found done. This answer need not have said so: it takes no mark away."""
        if self._known is None:
            self.learn(response)

    def look_foreign(self, response: Response, info: ObjectInfo | None) -> bool:
        """Whether an answer to HEAD, which has no body, has nothing of ours and nothing of the store's in it.

        Leniently: answers to HEAD may have fewer marks than others, and a page of HTML may be a file of ours.
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


class ConnectionLost(StoreUnavailable):
    """The peer closed or reset the connection: it may have said why, in an answer that we did not get."""


def untrusted(host: str, error: BaseException) -> AccessRefused:
    """The server's certificate is invalid: nothing may be sent to it."""
    reason = getattr(error, "verify_message", "") or str(error)
    return AccessRefused(
        f"the certificate of {host} is not trusted: {reason}",
        hint="set ca_bundle to the authority that signed it, and check endpoint and clock",
        credentials=False,
    )


def not_connected(host: str, error: BaseException) -> StoreUnavailable:
    """Nothing was sent."""
    reason = getattr(error, "strerror", None) or str(error)
    return StoreUnavailable(f"no connection to {host}: {reason}")


def lost(host: str, error: BaseException, *, reused: bool) -> StoreUnavailable:
    """The request was under way. On a connection that was used before, the next try may come at once: the
    server has probably closed it for its age.
    """
    if isinstance(error, Stalled):
        return StoreUnavailable(f"gave up on {host}: {error}", outcome_unknown=True)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ConnectionLost(
        f"lost the connection to {host}: {reason}",
        outcome_unknown=True,
        retry_after_seconds=0.0 if reused else None,
    )
