"""How signed requests get to a server: what a transport is, and which of the two carries what."""

from __future__ import annotations

import threading
from typing import Protocol

from syncd.storage.http.connect import Line
from syncd.storage.http.messages import Request, Response
from syncd.storage.http.socket_transport import SocketTransport


class Transport(Protocol):
    """Sends signed requests; for several threads at once.

    It sends a request once, exactly as signed. It follows no redirect, repeats nothing, and reads nothing
    from the environment unless the settings say so.
    """

    def send(self, request: Request) -> Response:
        """Return the answer, read whole.

        Raises StoreUnavailable if the network fails (``outcome_unknown`` unless nothing was sent),
        AccessRefused if the way there is misconfigured or not trusted, StoreRefused for what HTTP cannot
        carry, Stopped.
        """
        ...

    def close(self) -> None:
        """Close idle connections now, and the others as they are returned."""
        ...


class ControlAndContent:
    """Plain sockets for what carries content, requests for the rest and for everything behind a proxy."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._content = SocketTransport(line)
        self._lock = threading.Lock()
        self._control: Transport | None = None

    def send(self, request: Request) -> Response:
        """Use the transport for content if the request carries some and there is no proxy."""
        if request.carries_content and not self._line.proxies.of(request.host):
            return self._content.send(request)
        with self._lock:
            if self._control is None:
                # Importing requests takes more time and memory than many a pass, so do it at first use.
                from syncd.storage.http.requests_transport import RequestsTransport

                self._control = RequestsTransport(self._line)
        return self._control.send(request)

    def close(self) -> None:
        """Close both transports."""
        self._content.close()
        with self._lock:
            if self._control is not None:
                self._control.close()
