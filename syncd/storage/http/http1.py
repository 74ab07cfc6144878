"""HTTP/1.1 as far as a client of object stores needs it: a request's head out, a response in. Pure.

`ResponseReader` takes bytes as they come, cut anywhere, and is strict where leniency would let one answer run
into the next: lengths that contradict each other, bytes after the end, an end before the end.

Source: RFC 9112.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from syncd.core.errors import StoreRefused
from syncd.storage.http.messages import Request, Response

MAX_ANSWER_BYTES = 8 << 20
"""Of any answer but the content that was asked for."""
MAX_HEAD_BYTES = 64 << 10
_LARGE_BODY = 256 << 10
"""A body of a known length from which on it is received where it will lie."""
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?", re.ASCII)
_OURS = frozenset({"host", "content-length"})
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


class BadAnswerError(Exception):
    """The server did not send a whole HTTP response."""


def target(request: Request) -> str:
    """Path and query as they go on the wire; a name without a value goes without equals sign."""
    if not request.query:
        return request.path
    pairs = [
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" if value else quote(name, safe="-_.~")
        for name, value in request.query
    ]
    return f"{request.path}?{'&'.join(pairs)}"


def answer_limit(request: Request) -> int:
    """How many bytes of answer to take: a listing or an error at most, or the range that was asked for."""
    value = request.headers.get("range") or request.headers.get("Range")
    if value is None:
        return MAX_ANSWER_BYTES
    first, _, last = value.partition("=")[2].partition("-")
    asked = int(last) - int(first) + 1 if first.isdigit() and last.isdigit() else 0
    return max(MAX_ANSWER_BYTES, asked)


def most_bytes(request: Request) -> int:
    """How much may come in for one request in all: the answer, what frames it, and interim answers."""
    return 2 * answer_limit(request) + (1 << 20)


def wire_headers(request: Request, user_agent: str) -> dict[str, str]:
    """The headers of a signed request and those that the transport adds.

    Raises StoreRefused when one of them cannot go on the wire: it would be another request.
    """
    headers = {"Host": request.host, "User-Agent": user_agent, "Accept-Encoding": "identity"}
    headers.update({name: value for name, value in request.headers.items() if name.lower() not in _OURS})
    size = memoryview(request.body).nbytes
    if size or request.method in ("PUT", "POST"):
        headers["Content-Length"] = str(size)
    text = "".join(headers) + "".join(headers.values())
    if not text.isascii() or (not text.isprintable() and _CONTROL.search(text)):
        raise StoreRefused(
            "a header holds characters that HTTP cannot carry",
            hint="look for them in the store's keys and in `objects` of the source",
        )
    return headers


def request_head(request: Request, user_agent: str) -> bytes:
    """Everything before the body."""
    lines = "\r\n".join([f"{name}: {value}" for name, value in wire_headers(request, user_agent).items()])
    return f"{request.method} {target(request)} HTTP/1.1\r\n{lines}\r\n\r\n".encode("ascii")


class ResponseReader:
    """One response to a request with `method`; `limit` is the most bytes of body to take.

    Feed it until `response` is there. All methods raise BadAnswerError.
    """

    def __init__(self, method: str, limit: int) -> None:
        self._method = method
        self._limit = limit
        self._buffer = bytearray()
        self._head: tuple[int, dict[str, str]] | None = None
        self._body = bytearray()
        self._whole: memoryview | None = None
        """All of a large body, of which `_left` bytes are still to come."""
        self._left: int | None = None
        """Bytes of body, or of the present chunk, that are still to come; None: until the connection ends."""
        self._chunked = False
        self._in_trailer = False
        self.response: Response | None = None
        self.reusable = False
        """Whether the connection can carry another request; valid only with the response."""

    def feed(self, data: bytes) -> None:
        """What came in; never empty."""
        if self._done():
            raise BadAnswerError("bytes after the end of the answer")
        self._buffer += data
        while self._head is None:
            if not self._read_head():
                return
        if not self._done():
            self._read_body()
        if self._done() and self._buffer:
            self.reusable = False

    def room(self) -> memoryview | None:
        """Where the rest of a large body belongs: receive into it, and say so to `filled`. None: `feed`."""
        if self._whole is None or not self._left:
            return None
        return self._whole[-self._left :]

    def filled(self, size: int) -> None:
        """So many bytes are in what `room` returned; none: the connection ended."""
        if self._left is None or not size:
            self.feed_end()
            return
        self._left -= size
        if self._left == 0:
            self._finish()

    def started(self) -> bool:
        """Some of the answer has come."""
        return self._head is not None or bool(self._buffer)

    def has_head(self) -> bool:
        """The whole head of the answer has come."""
        return self._head is not None

    def _done(self) -> bool:
        return self.response is not None

    def feed_end(self) -> None:
        """The connection ended."""
        if not self._done() and self._head is not None and self._left is None and not self._chunked:
            self._finish()
        if not self._done():
            raise BadAnswerError("the answer was cut short")
        self.reusable = False

    # ---- head --------------------------------------------------------------------------------------------

    def _read_head(self) -> bool:
        """False: there is more of it to come. An interim answer (1xx) is read and forgotten."""
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD_BYTES or (end < 0 and len(self._buffer) > MAX_HEAD_BYTES):
            raise BadAnswerError("the head of the answer has no end")
        if end < 0:
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        found = _STATUS_LINE.fullmatch(lines[0])
        if found is None:
            raise BadAnswerError("this is not HTTP")
        status = int(found[2])
        if status < 200:
            return bool(self._buffer)
        headers = _parse_headers(lines)
        self.reusable = found[1] == "1" and not _closes(headers.get("connection", ""))
        self._head = (status, headers)
        self._frame(status, headers)
        return True

    def _frame(self, status: int, headers: dict[str, str]) -> None:
        """How the end of the body will be known."""
        coding = headers.get("transfer-encoding", "").lower()
        if self._method == "HEAD" or status in (204, 304):
            self._finish()
        elif coding:
            if coding != "chunked":
                raise BadAnswerError(f"unknown transfer encoding {coding[:40]!r}")
            self._chunked = True
        elif "content-length" in headers:
            self._left = _length({part.strip() for part in headers["content-length"].split(",")})
            if self._left > self._limit:
                raise BadAnswerError(f"the answer is larger than {self._limit} bytes")
            if self._left >= _LARGE_BODY:
                self._body = bytearray(self._left)
                self._whole = memoryview(self._body)
        else:
            self.reusable = False

    # ---- body --------------------------------------------------------------------------------------------

    def _read_body(self) -> None:
        if self._chunked:
            while self._read_chunk():
                pass
            return
        if (room := self.room()) is not None:
            come = min(len(room), len(self._buffer))
            room[:come] = self._buffer[:come]
            del self._buffer[:come]
            self._left = len(room) - come
        else:
            self._take(len(self._buffer) if self._left is None else self._left)
        if self._left == 0:
            self._finish()

    def _take(self, size: int) -> None:
        if size >= len(self._buffer):
            piece, self._buffer = self._buffer, bytearray()
        else:
            piece = self._buffer[:size]
            del self._buffer[:size]
        self._body += piece
        if len(self._body) > self._limit:
            raise BadAnswerError(f"the answer is larger than {self._limit} bytes")
        if self._left is not None:
            self._left -= len(piece)

    def _read_chunk(self) -> bool:
        """One step: a size line, data, or a line of the trailer. False: more has to come, or it is done."""
        if self._left:
            self._take(self._left)
            return not self._left
        line = self._line()
        if line is None:
            return False
        if self._in_trailer:
            if not line:
                self._finish()
            return bool(line)
        if self._left == 0 and line == b"":  # what ends the data of a chunk
            self._left = None
            return True
        if self._left is not None:
            raise BadAnswerError("a chunk has no end")
        self._left = _chunk_size(line)
        if self._left == 0:
            self._in_trailer = True
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadAnswerError("a line of the answer has no end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _finish(self) -> None:
        if self._head is None:
            raise BadAnswerError("an end without a beginning")
        status, headers = self._head
        body = self._body if self._whole is not None else bytes(self._body)
        # A copy of a large body would cost as much as to receive it, and this has the face of bytes.
        self.response = Response(status, headers, body)  # type: ignore[arg-type]


def _parse_headers(lines: list[str]) -> dict[str, str]:
    """From all lines of a head. Names in lower case; what comes more than once is joined by commas."""
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadAnswerError("a header of the answer cannot be read")
        lower, text = name.lower(), value.strip()
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text
    return headers


def _closes(connection: str) -> bool:
    return bool(connection) and "close" in {token.strip() for token in connection.lower().split(",")}


def _length(values: set[str]) -> int:
    text = values.pop()
    if values or not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadAnswerError("the length of the answer cannot be read")
    return int(text)


def _chunk_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", digits):
        raise BadAnswerError("a chunk's size cannot be read")
    return int(digits, 16)
