"""How signed requests get to a server: what a transport is, and which of the two carries which request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from syncd.storage.http.connect import Proxies
from syncd.storage.http.messages import Request, Response
from syncd.storage.http.socket_transport import SocketTransport
from syncd.storage.settings import HttpSettings


class Transport(Protocol):
    """Sends signed requests; for several threads at once.

    A request goes out once, exactly as it was signed: no redirect is followed, nothing is repeated, and
    nothing is read from the environment unless the settings say so.
    """

    def send(self, request: Request) -> Response:
        """The answer, read whole.

        Raises StoreUnavailable when the network fails (``outcome_unknown`` unless nothing was sent),
        AccessRefused when the way there is misconfigured or not to be trusted, StoreRefused for what HTTP
        cannot carry, Stopped.
        """
        ...

    def close(self) -> None:
        """Close idle connections now, and the others as they are returned."""
        ...


def open_transport(
    http: HttpSettings,
    *,
    should_stop: Callable[[], bool],
    on_sent: Callable[[int], object],
    on_received: Callable[[int], object] | None = None,
) -> Transport:
    """Plain sockets for what carries content, requests for the rest and for everything behind a proxy."""
    content = SocketTransport(http, should_stop=should_stop, on_sent=on_sent, on_received=on_received)
    return ControlAndContent(
        content, partial(_control, http, should_stop, on_sent, on_received), Proxies(http)
    )


def _control(
    http: HttpSettings,
    should_stop: Callable[[], bool],
    on_sent: Callable[[int], object],
    on_received: Callable[[int], object] | None,
) -> Transport:
    # Importing requests takes more time and memory than many a pass, so it waits for the first use.
    from syncd.storage.http.requests_transport import RequestsTransport

    return RequestsTransport(http, should_stop=should_stop, on_sent=on_sent, on_received=on_received)


class ControlAndContent:
    """Two transports: one for requests that carry content, one, opened when it is needed, for the rest."""

    def __init__(self, content: Transport, open_control: Callable[[], Transport], proxies: Proxies) -> None:
        self._content = content
        self._open_control = open_control
        self._proxies = proxies
        self._lock = threading.Lock()
        self._control: Transport | None = None

    def send(self, request: Request) -> Response:
        """By the transport for content when the request carries some and no proxy stands between."""
        if request.carries_content and not self._proxies.of(request.host):
            return self._content.send(request)
        with self._lock:
            if self._control is None:
                self._control = self._open_control()
        return self._control.send(request)

    def close(self) -> None:
        """Both."""
        self._content.close()
        with self._lock:
            if self._control is not None:
                self._control.close()
