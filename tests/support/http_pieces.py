"""Requests and answers of HTTP/1.1 as a proxy sees them: where they begin and end, and as they came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, unquote

_PIECE = 1 << 16
_FRAMING = (b"content-length", b"transfer-encoding")


class Reader(Protocol):
    """Where bytes come from."""

    def some(self, most: int) -> bytes:
        """At most so many bytes; none at the end."""
        ...

    def put_back(self, data: bytes) -> None: ...


@dataclass(frozen=True)
class Head:
    """The head of a request, as it came and taken apart. Keys are taken from paths as servers take them."""

    raw: bytes
    method: str
    target: str
    headers: dict[str, str]

    @property
    def request(self) -> str:
        """Method and target, such as ``PUT /bucket/key?partNumber=1``."""
        return f"{self.method} {self.target}"

    @property
    def length(self) -> int:
        """Of the body, in bytes."""
        return int(self.headers.get("content-length", "0"))

    @property
    def key(self) -> str:
        """What follows the bucket in the path."""
        path = self.target.partition("?")[0]
        return unquote(path.removeprefix("/").partition("/")[2], errors="surrogateescape")

    @property
    def query(self) -> dict[str, str]:
        found = parse_qs(self.target.partition("?")[2], keep_blank_values=True)
        return {name: values[0] for name, values in found.items()}


@dataclass(frozen=True)
class Answer:
    """An answer as it came (interim ones left out), and its body without any framing."""

    raw: bytes
    status: int
    body: bytes
    closes: bool
    """The server ends the connection after it."""
    lines: tuple[bytes, ...]
    """Of its head."""

    def framed(self, body: bytes, *, longer: int = 0) -> bytes:
        """The same answer with another body, of which it tells the length, or more."""
        kept = [line for line in self.lines if line.partition(b":")[0].lower() not in _FRAMING]
        return b"\r\n".join([*kept, b"Content-Length: %d" % (len(body) + longer), b"", body])


def read_head(reader: Reader) -> Head | None:
    """The head of the next request; None at the end of the connection."""
    raw = _read_until_blank(reader)
    if raw is None:
        return None
    lines = raw.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    pairs = (line.partition(":") for line in lines[1:] if line)
    return Head(raw, method, target, {name.lower(): value.strip() for name, _, value in pairs})


def read_answer(reader: Reader, method: str) -> Answer | None:
    """The whole answer to a request; None when the connection ended in the middle of it."""
    while True:
        raw = _read_until_blank(reader)
        if raw is None:
            return None
        lines = raw[:-4].split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        if status >= 200:
            break
    pairs = (line.lower().partition(b":") for line in lines[1:])
    headers = {name: value.strip() for name, _, value in pairs}
    body: bytes | None
    framing, body, until_end = b"", b"", False
    if method != "HEAD" and status not in (204, 304):
        if headers.get(b"transfer-encoding") == b"chunked":
            framing, body = _read_chunks(reader)
        elif b"content-length" in headers:
            framing = body = _read_exactly(reader, int(headers[b"content-length"]))
        else:
            until_end = True
            framing = body = _read_to_end(reader)
    if body is None or framing is None:
        return None
    closes = until_end or headers.get(b"connection") == b"close"
    return Answer(raw + framing, status, body, closes, tuple(lines))


def _read_until_blank(reader: Reader) -> bytes | None:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = reader.some(_PIECE)
        if not piece:
            return None
        data += piece
    reader.put_back(data[end + 4 :])
    return data[: end + 4]


def _read_exactly(reader: Reader, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = reader.some(min(size - len(data), _PIECE))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _read_line(reader: Reader) -> bytes | None:
    data = b""
    while not data.endswith(b"\r\n"):
        piece = reader.some(1)
        if not piece:
            return None
        data += piece
    return data


def _read_chunks(reader: Reader) -> tuple[bytes | None, bytes | None]:
    """As it came, and what it means."""
    raw, body = b"", b""
    while True:
        line = _read_line(reader)
        chunk = None if line is None else _read_exactly(reader, int(line.partition(b";")[0], 16) + 2)
        if line is None or chunk is None:
            return None, None
        raw += line + chunk
        if len(chunk) == 2:  # the last one; servers here send no trailers
            return raw, body
        body += chunk[:-2]


def _read_to_end(reader: Reader) -> bytes:
    data = b""
    while piece := reader.some(_PIECE):
        data += piece
    return data
