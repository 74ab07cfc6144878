"""A transport of a few lines for the tests of the BOS server: one connection a request, nothing hidden."""

from __future__ import annotations

import http.client
import time
from urllib.parse import quote, urlencode

from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.messages import Credentials, Request, Response
from syncd.storage.settings import BosSettings, HttpSettings
from tests.support.bos_server import BosServer

KEYS = Credentials("ak", "sk")


def dialect_for(server: BosServer, *, bucket: str = "photos", **settings: object) -> BosDialect:
    """The dialect for a bucket of the server, by its address."""
    return BosDialect(BosSettings(HttpSettings(server.url), bucket, **settings))  # type: ignore[arg-type]


def ask(
    server: BosServer,
    request: Request,
    *,
    keys: Credentials = KEYS,
    now: float | None = None,
    extra: dict[str, str] | None = None,
) -> Response:
    """Sign the request with our dialect, send it to the server whatever its host, and read the answer."""
    signed = dialect_for(server).sign(request, keys, time.time() if now is None else now)
    return send(server, signed, extra or {})


def send(server: BosServer, request: Request, extra: dict[str, str] | None = None) -> Response:
    """Send a request as it is; `extra` headers are added after signing."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        target = request.path + (f"?{urlencode(request.query, quote_via=quote)}" if request.query else "")
        headers = {"Host": request.host, **request.headers, **(extra or {})}
        connection.request(request.method, target, bytes(request.body), headers)
        got = connection.getresponse()
        return Response(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
    finally:
        connection.close()
