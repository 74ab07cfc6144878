"""What both transports say when the network fails. Pure.

The question behind each is whether the store may have done it all the same: not when nothing was sent, and
never certainly afterwards.
"""

from __future__ import annotations

from syncd.core.errors import AccessRefused, StoreUnavailable
from syncd.storage.http.deadlines import Stalled


class ConnectionLost(StoreUnavailable):
    """The peer closed or reset the connection: it may have said why, in an answer that we did not get."""


def untrusted(host: str, error: BaseException) -> AccessRefused:
    """The server's certificate does not hold: nothing may be sent to it."""
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
