"""HTTP/1.1 messages as bytes. Pure.

Only what browsers, curl and Prometheus send is a request. Everything that two readers may understand in two
ways is refused: folded or repeated fields, blanks around names, bare line feeds, chunked bodies, two lengths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

END = b"\r\n\r\n"
MOST_HEAD_BYTES = 16 << 10
MOST_BODY_BYTES = 64 << 10

# Compiled by the first request, not while the daemon starts.
_REQUEST_LINE = r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]"
_FIELD = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*"
_ONCE = frozenset({"host", "content-length", "authorization", "origin", "content-type"})
_MOST_FIELDS = 64
_MOST_VALUES = 16
_ALWAYS = {
    "Connection": "close",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Refused(Exception):
    """The request is answered with this status and these words."""

    def __init__(self, status: int, words: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.headers = headers or {}


class Request(NamedTuple):
    """A request. Names in `headers` are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body_size: int = 0
    """In bytes."""


class Answer(NamedTuple):
    """An answer; its `headers` replace those that every answer has."""

    body: bytes
    type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})


def parse(head: bytes) -> Request:
    """Return the request with this head, `END` left out. Raises Refused."""
    first, *lines = head.decode("latin-1").split("\r\n")
    line = re.fullmatch(_REQUEST_LINE, first)
    if line is None:
        raise Refused(400, "this is no HTTP/1.1 request for a path")
    headers = _fields(lines)
    if "host" not in headers:
        raise Refused(400, "the request names no Host")
    if "transfer-encoding" in headers:
        raise Refused(501, "a body needs a Content-Length")
    method, target = line.groups()
    path, _, query = target.partition("?")
    return Request(
        method,
        unquote(path, errors="surrogateescape"),
        _query(query),
        headers,
        _body_size(method, headers.get("content-length", "")),
    )


def _query(text: str) -> dict[str, str]:
    try:
        found = parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MOST_VALUES)
    except ValueError:
        raise Refused(400, f"a query has at most {_MOST_VALUES} values") from None
    return dict(found)


def _fields(lines: list[str]) -> dict[str, str]:
    if len(lines) > _MOST_FIELDS:
        raise Refused(431, f"a request has at most {_MOST_FIELDS} fields")
    headers: dict[str, str] = {}
    for line in lines:
        found = re.fullmatch(_FIELD, line)
        if found is None:
            raise Refused(400, "a field of the request is malformed")
        name = found[1].lower()
        if name in headers and name in _ONCE:
            raise Refused(400, f"the request has {name} twice")
        headers[name] = f"{headers[name]}, {found[2]}" if name in headers else found[2]
    return headers


def _body_size(method: str, length: str) -> int:
    if not length:
        if method == "POST":
            raise Refused(411, "a POST has a Content-Length")
        return 0
    if not re.fullmatch("[0-9]{1,9}", length):
        raise Refused(400, "the Content-Length is no number")
    if int(length) > MOST_BODY_BYTES:
        raise Refused(413, f"a body has at most {MOST_BODY_BYTES} bytes")
    if int(length) and method != "POST":
        raise Refused(400, "only a POST has a body")
    return int(length)


def rendered(answer: Answer, date: str, *, with_body: bool = True) -> bytes:
    """Return the answer as bytes; without its body for a HEAD."""
    headers = {
        "Date": date,
        "Content-Type": answer.type,
        "Content-Length": str(len(answer.body)),
        **_ALWAYS,
        **answer.headers,
    }
    head = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(head).encode("latin-1") + END + (answer.body if with_body else b"")


def as_json(value: Mapping[str, Any], status: int = 200) -> Answer:
    """Return an answer for programs."""
    return Answer(json.dumps(value).encode() + b"\n", "application/json", status)
