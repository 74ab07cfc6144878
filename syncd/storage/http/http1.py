"""The HTTP/1.1 that a client of object stores needs: a request's head out, a response in. Pure.

Source: RFC 9112.
"""

from __future__ import annotations

from urllib.parse import quote

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from syncd.core.errors import StoreRefused
from syncd.storage.http.messages import Request, Response

MAX_ANSWER_BYTES = 8 << 20
"""Of any answer except requested content."""
MAX_HEAD_BYTES = 64 << 10
_LARGE_BODY = 16 << 10
"""From this known length on, a body is received where it will stay."""
_CARRIED = bytes(range(ord(" "), 0x7F)) + b"\t"


class BadAnswerError(Exception):
    """The server did not send a whole HTTP response."""


def target(request: Request) -> str:
    """Return path and query for the wire; a name without a value has no equals sign."""
    if not request.query:
        return request.path
    pairs = [
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" if value else quote(name, safe="-_.~")
        for name, value in request.query
    ]
    return f"{request.path}?{'&'.join(pairs)}"


def answer_limit(request: Request) -> int:
    """Return the most bytes of answer to take: for a listing or an error, or the requested range."""
    value = request.headers.get("range") or request.headers.get("Range")
    if value is None:
        return MAX_ANSWER_BYTES
    first, _, last = value.partition("=")[2].partition("-")
    asked = int(last) - int(first) + 1 if first.isdigit() and last.isdigit() else 0
    return max(MAX_ANSWER_BYTES, asked)


def most_bytes(limit: int) -> int:
    """Return the most bytes that may come: an answer of up to `limit`, framing, interim answers."""
    return 2 * limit + (1 << 20)


def wire_headers(request: Request, user_agent: str) -> dict[str, str]:
    """Return the headers of a signed request and those that the transport adds.

    Raises StoreRefused if one would make it another request on the wire.
    """
    headers = {"Host": request.host, "User-Agent": user_agent, "Accept-Encoding": "identity"}
    headers.update(request.headers)
    size = memoryview(request.body).nbytes
    if size or request.method in ("PUT", "POST"):
        headers["Content-Length"] = str(size)
    text = "".join(headers) + "".join(headers.values())
    if text.encode("utf-8", "surrogatepass").translate(None, _CARRIED):
        raise StoreRefused(
            "a header holds characters that HTTP cannot carry",
            hint="look for them in the store's keys and in `objects` of the source",
        )
    return headers


def request_head(request: Request, user_agent: str) -> bytes:
    """Return all bytes before the body."""
    lines = "\r\n".join([f"{name}: {value}" for name, value in wire_headers(request, user_agent).items()])
    return f"{request.method} {target(request)} HTTP/1.1\r\n{lines}\r\n\r\n".encode("ascii")


class ResponseReader:
    """Reads one response to a request with `method`; `limit` is the most bytes of body to take. A large body
    that fits into `room` is received there.

    Feed it until `response` is set. Its methods raise BadAnswerError. The parser is Node's llhttp, as strict
    as RFC 9112 allows: two lengths or a bare line feed could let one answer run into the next. Only the
    parser calls the methods that begin with ``on_``.
    """

    def __init__(self, method: str, limit: int, room: memoryview | None = None) -> None:
        self._method = method
        self._limit = limit
        self._room = room
        self._parser = HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self.status = 0
        """The answer's, once its whole head has come; 0 until then. Interim answers (1xx) do not count."""
        self._head_bytes = 0
        self._body = bytearray()
        self._large: bytearray | memoryview | None = None
        self._whole: memoryview | None = None
        """A whole large body, of which `_left` bytes are still to come."""
        self._left = 0
        self.started = False
        """Part of the answer has come."""
        self.response: Response | None = None
        self.reusable = False
        """The connection can carry another request; valid only with the response."""

    def feed(self, data: bytes) -> None:
        """Take received bytes; never none."""
        self._expect_more()
        self.started = True
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.response is None:
                raise BadAnswerError(f"this is not HTTP: {error.__context__ or error}") from error
            self.reusable = False
        if not self.status and self._head_bytes > MAX_HEAD_BYTES:
            raise BadAnswerError("the head of the answer has no end")

    def feed_end(self) -> None:
        """Take the end of the connection."""
        if self.response is None:
            if not self.status or self._headers.keys() & {"content-length", "transfer-encoding"}:
                raise BadAnswerError("the answer was cut short")
            self._finish()
        self.reusable = False

    def room(self) -> memoryview | None:
        """Return the place for the rest of a large body: receive there, call `filled`. None: `feed`."""
        return self._whole[-self._left :] if self._whole is not None and self._left else None

    def filled(self, size: int) -> None:
        """Note `size` bytes in what `room` returned; 0: the connection ended."""
        if not size:
            self.feed_end()
        self._left -= size
        if not self._left:
            self._finish()

    def _expect_more(self) -> None:
        if self.response is not None:
            raise BadAnswerError("bytes after the end of the answer")

    def _finish(self) -> None:
        body = self._large if self._large is not None else bytes(self._body)
        # A copy of a large body would cost as much as receiving it, and this behaves like bytes.
        self.response = Response(self.status, self._headers, body)  # type: ignore[arg-type]
        del self._parser  # it holds this reader: without the cycle, both are freed at once

    # ---- what the parser calls ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin an answer, also an interim one."""
        self._expect_more()
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header: name in lower case, repeated ones joined by commas. Ignore a trailer."""
        if not self.status:
            lower, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
            headers = self._headers
            headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text

    def on_headers_complete(self) -> None:
        """Decide how the body ends, if the parser does not."""
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.status = status
        self.reusable = self._parser.should_keep_alive()
        if self._method == "HEAD":
            self._finish()
            return
        coding = self._headers.get("transfer-encoding", "chunked")
        if coding.lower() != "chunked":
            raise BadAnswerError(f"unknown transfer encoding {coding[:40]!r}")
        length = int(self._headers.get("content-length", 0))
        self._check(length)
        if length >= _LARGE_BODY and status < 300:
            room = self._room if self._room is not None else memoryview(b"")
            self._large = room[:length] if length <= len(room) else bytearray(length)
            self._whole, self._left = memoryview(self._large), length

    def on_body(self, data: bytes) -> None:
        """Take a piece, without framing."""
        self._expect_more()
        room = self.room()
        if room is not None:
            room[: len(data)] = data
            self._left -= len(data)
        else:
            self._body += data
            self._check(len(self._body))

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise BadAnswerError(f"the answer is larger than {self._limit} bytes")

    def on_message_complete(self) -> None:
        """End the answer, or an interim one."""
        if self.status and self.response is None:
            self._finish()
        self._head_bytes = 0
