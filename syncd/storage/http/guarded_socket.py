"""A connected socket that obeys `Deadline`.

It never blocks for longer than a slice. It counts bytes in both directions, including the kernel's send
queue: a body that the kernel took is not on the wire yet, and a slow line may need minutes for it. While a
body goes out, an answer may already come in (a refusal, after which the server closes). The socket looks for
it between chunks, because after the close it may be lost, above all over TLS.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import select
import socket
import ssl
import struct
import termios
from collections.abc import Callable

from syncd.storage.base import Body
from syncd.storage.http.deadlines import Deadline

_CHUNK = 256 << 10
_TLS_CHUNK = 64 << 10
"""A write over TLS shows no progress until it is done, so each must be small."""
_FIRST_CHUNK = 16 << 10
_LEAST_CHUNK = 4 << 10
_LONG_SECONDS = 0.5
"""If the bandwidth limit makes us wait longer than this after a chunk, the next one is smaller: servers take
a connection that is silent for some seconds for dead."""
_PIECE = 64 << 10
_MOST_PIECE = 1 << 20
_SHORT_SECONDS = 0.01
"""Each received piece asks the bandwidth limit. While no caller waits longer than this for it, the pieces
grow: each costs a call and a thread switch."""
_LOST = (BlockingIOError, ssl.SSLWantReadError)


class EarlyAnswerError(BrokenPipeError):
    """The answer came before the body was sent; the rest is useless."""


class EndlessAnswerError(OSError):
    """More came than any answer to this request can have."""


class GuardedSocket:
    """A connected socket, plain or TLS, that never exceeds its deadline.

    Enough of a socket for `http.client`: ``sendall``, ``makefile``, ``close`` and the like.
    """

    def __init__(
        self,
        sock: socket.socket,
        deadline: Deadline,
        on_sent: Callable[[int], object],
        on_received: Callable[[int], object] | None = None,
    ) -> None:
        sock.setblocking(False)
        self.deadline = deadline
        self.body: Body | None = None
        """The bytes that count as sent; others are overhead."""
        self.answered_early = False
        """A request was cut short: the connection is useless."""
        self.allowance = 0
        """Bytes that may still come for this request: an endless answer is an error."""
        self.ended = False
        """The peer sends nothing more."""
        self._sock = sock
        self._on_sent = on_sent
        self._on_received = on_received
        self._encrypted = isinstance(sock, ssl.SSLSocket)
        self._poll = select.poll()
        self._early = b""
        self._answering = False  # part of an answer came, and nothing was sent since
        self._queued = 0
        self._piece = _PIECE
        self._files = 0
        self._closed = False

    # ---- sending -----------------------------------------------------------------------------------------

    def sendall(self, data: Body) -> None:
        """Send all. Raises EarlyAnswerError if an answer comes before the end of `data`."""
        counted = data is self.body
        self._answering = False
        view = memoryview(data).cast("B")
        most = _TLS_CHUNK if self._encrypted else _CHUNK
        step = _FIRST_CHUNK if counted else most
        offset, size = 0, len(view)
        while offset < size:
            sent = self._send_some(view[offset : offset + step])
            offset += sent
            if counted:
                waited = self.deadline.pausing(self._on_sent, sent)
                step = max(_LEAST_CHUNK, step // 2) if waited > _LONG_SECONDS else min(most, 2 * step)
            if offset < size:
                self.deadline.moved(sent)
                self.deadline.ask()
                self._look_for_answer()

    def _send_some(self, chunk: memoryview) -> int:
        while True:
            try:
                return self._sock.send(chunk)
            except (BlockingIOError, ssl.SSLWantWriteError):
                if self._wait(select.POLLOUT | select.POLLIN) & select.POLLIN:
                    self._look_for_answer()
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except OSError:
                self._rescue_answer()
                raise

    def _look_for_answer(self) -> None:
        if not self.has_input():
            return
        try:
            data = self._sock.recv(1 << 16)
        except (*_LOST, ssl.SSLWantWriteError):
            return  # a message of TLS itself
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed before the request was out")
        self._count(len(data))
        self._early += data
        if not _may_be_interim(self._early):
            self.answered_early = True
            raise EarlyAnswerError(errno.EPIPE, "answered before the request was out")

    def _rescue_answer(self) -> None:
        """Look for an answer that came before the connection broke."""
        try:
            data = self._sock.recv(1 << 16)
        except OSError:
            return
        if data:
            self._early += data
            self.answered_early = True
            raise EarlyAnswerError(errno.EPIPE, "answered before the request was out")

    # ---- receiving ---------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end."""
        self.deadline.answer()
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        if self._answering:
            self._acknowledge()
        if not self._is_decrypted():
            self._wait(select.POLLIN)
        while True:
            try:
                data = self._sock.recv(size)
            except _LOST:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
            else:
                self._received(len(data))
                return data

    def recv_into(self, room: memoryview) -> int:
        """Receive into existing memory, for answers of which much is still to come: take what has come
        without asking, and acknowledge only when there is no more.
        """
        self.deadline.answer()
        if self._early:
            data = self.recv(len(room))
            room[: len(data)] = data
            return len(data)
        room = room[: self._piece]
        while True:
            try:
                size = self._sock.recv_into(room)
            except _LOST:
                self._acknowledge()
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
            else:
                break
        with contextlib.suppress(*_LOST, ssl.SSLWantWriteError):  # TLS gives 16 KiB at a time
            while self._encrypted and size < len(room) and (more := self._sock.recv_into(room[size:])):
                size += more
        self._received(size)
        return size

    def _received(self, size: int) -> None:
        """Note that `size` bytes came; 0: the peer sends nothing more."""
        if not size:
            self.ended = True
            return
        self._answering = True
        self._count(size)
        self.deadline.moved(size)
        if self._on_received is not None:
            waited = self.deadline.pausing(self._on_received, size)
            self._piece = _PIECE if waited > _SHORT_SECONDS else min(_MOST_PIECE, 2 * self._piece)

    def _acknowledge(self) -> None:
        """Acknowledge at once what came. Some peers send the rest of a small answer only then (Nagle), and
        the kernel would wait 40 ms (delayed acknowledgement).
        """
        with contextlib.suppress(OSError):  # not TCP, or closed: it only costs speed
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _count(self, size: int) -> None:
        self.allowance -= size
        if self.allowance < 0:
            raise EndlessAnswerError(errno.EMSGSIZE, "the answer has no end")

    def makefile(self, mode: str = "rb", _buffering: int | None = None) -> io.BufferedReader:
        """Return a buffered reader, which keeps the socket open until it is closed."""
        if mode not in ("r", "rb"):
            raise ValueError(f"only for reading, not {mode!r}")
        self._files += 1
        return io.BufferedReader(_File(self), 16 << 10)

    # ---- waiting -----------------------------------------------------------------------------------------

    def has_input(self) -> bool:
        """Return whether there is something to read, including the end. If so, an idle connection is useless:
        it was closed, or an answer came without a request.
        """
        self._poll.register(self._sock, select.POLLIN)
        return bool(self._poll.poll(0)) or self._is_decrypted()

    def _is_decrypted(self) -> bool:
        """Return whether TLS holds data that it took from the kernel before."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def _wait(self, events: int) -> int:
        """Wait for one of the events. Raises Stalled, Stopped."""
        self._poll.register(self._sock, events)
        self.deadline.ask()
        while not (ready := self.deadline.wait(self._poll, self._sock.fileno())):
            queued = self._queue_bytes()
            if queued != self._queued:
                moved, self._queued = abs(queued - self._queued), queued
                self.deadline.moved(moved)
            self.deadline.ask()
        found = ready[0][1]
        return found | events if found & (select.POLLERR | select.POLLHUP) else found

    def _queue_bytes(self) -> int:
        """Return the sent bytes that the kernel still holds."""
        answer = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return int(struct.unpack("i", answer)[0])

    # ---- what http.client and urllib3 ask of a socket ------------------------------------------------------

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._sock.fileno()

    def settimeout(self, _seconds: float | None) -> None:
        """Ignored: the deadline decides."""

    def gettimeout(self) -> float | None:
        """As for any socket."""
        return None

    def shutdown(self, how: int) -> None:
        """As for any socket."""
        self._sock.shutdown(how)

    def getpeercert(self, binary_form: bool = False) -> object:
        """As for a TLS socket; None for a plain one."""
        return self._sock.getpeercert(binary_form) if isinstance(self._sock, ssl.SSLSocket) else None

    def close(self) -> None:
        """Close at once, or with the last reader."""
        self._closed = True
        if self._files <= 0:
            self._sock.close()

    def file_closed(self) -> None:
        """Note that a reader is done."""
        self._files -= 1
        if self._closed:
            self.close()


class _File(io.RawIOBase):
    """The reading end that `http.client` wants."""

    def __init__(self, guarded: GuardedSocket) -> None:
        self._guarded = guarded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._guarded.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._guarded.file_closed()


def _may_be_interim(head: bytes) -> bool:
    """Return whether this may be (the start of) a 1xx answer, which ends nothing."""
    start = head[:10]
    return b"HTTP/1.1 1".startswith(start) or b"HTTP/1.0 1".startswith(start)
