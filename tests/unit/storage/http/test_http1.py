"""Reading HTTP: any response, cut anywhere, gives the same answer, and nothing else is one."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.storage.http.http1 import BadAnswerError, ResponseReader
from syncd.storage.http.messages import Response

BODY = st.binary(max_size=300)


def read(
    pieces: list[bytes], *, method: str = "GET", limit: int = 1 << 20, end: bool = False
) -> ResponseReader:
    reader = ResponseReader(method, limit)
    for piece in pieces:
        if piece:
            reader.feed(piece)
    if end:
        reader.feed_end()
    return reader


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:stop] for start, stop in itertools.pairwise(marks)]


def chunked(body: bytes, places: list[int]) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut(body, places) if piece)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@given(BODY, st.lists(st.integers(0, 10_000), max_size=20), st.lists(st.integers(0, 10_000), max_size=5))
def test_where_the_network_cuts_means_nothing(body: bytes, places: list[int], chunks: list[int]) -> None:
    """With a length, in chunks, or until the end."""
    with_length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for answer in (with_length, chunked(body, chunks)):
        reader = read(cut(answer, places))
        assert reader.response is not None
        assert (reader.response.status, reader.response.body, reader.reusable) == (200, body, True)
    reader = read(cut(b"HTTP/1.1 200 OK\r\n\r\n" + body, places), end=True)
    assert reader.response == Response(200, {}, body)
    assert not reader.reusable


@given(BODY, st.lists(st.integers(0, 10_000), max_size=5), st.integers(0, 10_000))
def test_no_beginning_of_an_answer_is_an_answer(body: bytes, chunks: list[int], at: int) -> None:
    """Whatever is missing, it was cut short."""
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
        chunked(body, chunks),
    ):
        reader = read([answer[: at % len(answer)]])
        assert reader.response is None
        with pytest.raises(BadAnswerError):
            reader.feed_end()


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=5))
def test_no_bytes_upset_the_reader(data: bytes, places: list[int]) -> None:
    """An answer, none yet, or BadAnswerError."""
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            reader = read(cut(start + data, places), end=True)
        except BadAnswerError:
            continue
        assert reader.response is not None


NONSENSE = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "another version": b"HTTP/2 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a name with a blank": b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
    "a folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
    "a length beside chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
    "a zero byte": b"HTTP/1.1 200 OK\r\nETag: a\0b\r\nContent-Length: 1\r\n\r\nx",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a length in words": b"HTTP/1.1 200 OK\r\nContent-Length: one\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "too large": b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n",
    "too large in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1E8480\r\n"
    + bytes(2_000_000),
    "too large without end": b"HTTP/1.1 200 OK\r\n\r\n" + bytes(2_000_000),
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000,
    "a chunk without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    "a size that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    "an endless size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_no_answer(name: str) -> None:
    """Leniency would let one answer run into the next, or memory run full."""
    with pytest.raises(BadAnswerError):
        read([NONSENSE[name]])


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_some_answers_have_no_body_whatever_they_say(method: str, status: int) -> None:
    """A length there is that of the object."""
    reader = read([b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status], method=method)
    assert reader.response == Response(status, {"content-length": "5"})
    assert reader.reusable


def test_interim_answers_are_passed_over() -> None:
    """However many."""
    reader = read(
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 204 X\r\n\r\n"]
    )
    assert reader.response == Response(204, {})


def test_bytes_after_the_end_spoil_the_connection() -> None:
    """They would be taken for the next answer."""
    reader = read([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 500"])
    assert reader.response is not None
    assert not reader.reusable
    with pytest.raises(BadAnswerError):
        reader.feed(b"more")


LARGE = bytes(range(256)) * 2000


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, len(LARGE) + 200), max_size=8),
    st.integers(20_000, 1 << 18),
    st.booleans(),
    st.sampled_from([None, -1, 0, 1]),
    st.sampled_from([200, 206, 403]),
)
def test_a_large_body_lies_where_it_was_received(
    places: list[int], step: int, into: bool, more: int | None, status: int
) -> None:
    """Whether it is fed or received into its place, in whatever pieces, however much came with the head; in
    the memory that was given for it if it fits there and is what was asked for.
    """
    answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(LARGE)) + LARGE
    given = None if more is None else bytearray(len(LARGE) + more)
    reader = ResponseReader("GET", len(LARGE), None if given is None else memoryview(given))
    for piece in cut(answer, places):
        at = 0
        while at < len(piece):
            room = reader.room() if into else None
            if room is None:
                size = min(step, len(piece) - at)
                reader.feed(piece[at : at + size])
            else:
                size = min(step, len(room), len(piece) - at)
                room[:size] = piece[at : at + size]
                reader.filled(size)
            at += size
    assert reader.response is not None
    assert reader.response.body == LARGE
    assert reader.room() is None
    assert reader.reusable
    if given is not None and more is not None:
        taken = more >= 0 and status < 300
        assert given == (LARGE + bytes(more) if taken else bytes(len(LARGE) + more))


def test_a_large_body_that_is_cut_short_or_followed_is_found_out() -> None:
    """As with a small one."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
    reader = read([head + LARGE[:-1]], limit=len(LARGE))
    assert len(reader.room() or b"") == 1
    with pytest.raises(BadAnswerError):
        reader.filled(0)
    assert not read([head + LARGE + b"x"], limit=len(LARGE)).reusable
    with pytest.raises(BadAnswerError):
        read([head], limit=len(LARGE) - 1)
