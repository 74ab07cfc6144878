"""What failures of the network and refusals of a store mean to us. Pure.

The question behind each failure is whether the store may have done what was asked: not when nothing was sent,
and perhaps once anything was. A dialect keeps the tables from its error codes and statuses to `Refusal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from syncd.core.errors import AccessRefused, PartsRefused, StoreError, StoreFailed, StoreUnavailable
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


class Unproven(StoreUnavailable):
    """The answer has the form of a success, but nothing in it that only the store can know."""

    response: Response


def unproven(response: Response, text: str) -> Unproven:
    """The error for a success that another question has to settle."""
    hint = "check proxy and endpoint if this goes on"
    doubt = Unproven(text, status=response.status, hint=hint, outcome_unknown=True)
    doubt.response = response
    return doubt


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
