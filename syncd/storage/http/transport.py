"""Signed requests over `requests`, tamed; and the choice between it and the lean lane.

What `requests` does by itself would lose data or leak keys: it follows a redirect of a PUT with an empty body
and calls that success; a ``.netrc`` entry replaces our signature; its adapter repeats a body under an old
signature; it normalises paths, which breaks signatures. So sessions are left out: a prepared request goes
straight to an adapter of our own, which sends path and query as they were signed, repeats nothing, follows
nothing and reads nothing from the environment unless the settings say so. Underneath are sockets that keep to
`Deadline`.

An adapter serves one request at a time and is lent out, the last used first: no two threads ever share one,
and a thread that ends leaves nothing behind.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from syncd.core.errors import Stopped
from syncd.storage.base import HttpSettings, Request, Response
from syncd.storage.http import connect as dial
from syncd.storage.http.socket_transport import MAX_IDLE_SECONDS, SocketTransport

if TYPE_CHECKING:  # importing requests takes longer, and more memory, than many a pass: only when it is used
    from syncd.storage.http.requests_adapter import Adapter


class Transport(Protocol):
    """Sends signed requests; for several threads at once."""

    def send(self, request: Request) -> Response:
        """The answer, read whole.

        Raises StoreUnavailable when the network fails (``outcome_unknown`` unless nothing was sent),
        AccessRefused when the way there is misconfigured or not to be trusted, StoreRefused for what HTTP
        cannot carry, Stopped.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...


def open_transport(
    http: HttpSettings, *, should_stop: Callable[[], bool], on_sent: Callable[[int], None]
) -> Transport:
    """The lane for what carries content, requests for the rest; requests for everything behind a proxy."""
    general = RequestsTransport(http, should_stop=should_stop, on_sent=on_sent)
    lane = SocketTransport(http, should_stop=should_stop, on_sent=on_sent)
    return ControlAndContent(lane, general)


class ControlAndContent:
    """Two transports, one for the requests that are sent by the thousand."""

    def __init__(self, lane: SocketTransport, general: RequestsTransport) -> None:
        self._lane = lane
        self._general = general

    def send(self, request: Request) -> Response:
        """By the lane when it is a PUT and nothing stands between."""
        if request.method == "PUT" and not self._general.proxies_for(request):
            return self._lane.send(request)
        return self._general.send(request)

    def close(self) -> None:
        """Both."""
        self._lane.close()
        self._general.close()


class RequestsTransport:
    """`Transport` on requests."""

    def __init__(
        self, http: HttpSettings, *, should_stop: Callable[[], bool], on_sent: Callable[[int], None]
    ) -> None:
        self._http = http
        self._scheme = urlsplit(http.endpoint).scheme
        self._should_stop = should_stop
        self._on_sent = on_sent
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Adapter]] = []
        self._context: ssl.SSLContext | None = None
        self._proxies: dict[str, dict[str, str]] = {}
        self._closed = False

    def proxies_for(self, request: Request) -> dict[str, str]:
        """Proxy by scheme, from the settings or, where they say so, from the environment; empty: none."""
        if self._http.proxy:
            return {"http": self._http.proxy, "https": self._http.proxy}
        if not self._http.trust_environment:
            return {}
        known = self._proxies.get(request.host)
        if known is None:
            from requests.utils import get_environ_proxies

            found = get_environ_proxies(f"{self._scheme}://{request.host}/")
            chosen = found.get(self._scheme) or found.get("all")
            known = self._proxies[request.host] = {self._scheme: chosen} if chosen else {}
        return known

    def send(self, request: Request) -> Response:
        """The answer, read whole; errors as in `Transport.send`."""
        if self._should_stop():
            raise Stopped("stopped before a request")
        from syncd.storage.http.requests_adapter import prepare, translate

        prepared = prepare(self._scheme, request)
        proxies = self.proxies_for(request)
        adapter = self._take()
        try:
            response = adapter.exchange(prepared, request, proxies)
        except BaseException as error:
            adapter.close()
            if adapter.reused:
                self._drop_idle()
            told = translate(request.host, error, connected=adapter.connected, reused=adapter.reused)
            if told is None:
                raise
            raise told from error
        self._give_back(adapter)
        return response

    def close(self) -> None:
        """Closes what is idle now, and the rest as it comes back."""
        with self._lock:
            self._closed = True
        self._drop_idle()

    def _take(self) -> Adapter:
        while True:
            with self._lock:
                if not self._idle:
                    break
                since, adapter = self._idle.pop()
            if time.monotonic() - since < MAX_IDLE_SECONDS:
                return adapter
            adapter.close()
        from syncd.storage.http.requests_adapter import Adapter

        return Adapter(self._http, self._tls(), self._should_stop, self._on_sent)

    def _give_back(self, adapter: Adapter) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append((time.monotonic(), adapter))
                return
        adapter.close()

    def _drop_idle(self) -> None:
        with self._lock:
            dropped, self._idle = self._idle, []
        for _, adapter in dropped:
            adapter.close()

    def _tls(self) -> ssl.SSLContext | None:
        with self._lock:
            if self._context is None and (self._scheme == "https" or self._http.proxy.startswith("https")):
                self._context = dial.tls_context(self._http)
                dial.shake_hands_in_slices(self._context, self._http, self._should_stop)
            return self._context
