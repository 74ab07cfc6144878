"""An answer that comes in pieces is acknowledged at once; one that comes whole costs no system call more."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from syncd.storage.http.deadlines import Deadline
from syncd.storage.http.guarded_socket import GuardedSocket
from syncd.storage.settings import HttpSettings
from tests.support.waiting import Running, wait_until


class RecordingSocket(socket.socket):
    """Remembers which options were set since it was connected."""

    def __init__(self) -> None:
        super().__init__()
        self.options: list[tuple[int, int]] = []

    def setsockopt(self, level: int, option: int, value: object, *rest: object) -> None:  # type: ignore[override]
        self.options.append((level, option))
        super().setsockopt(level, option, value, *rest)  # type: ignore[call-overload]


AWAITED: dict[int, int] = {}
AT_ONCE = (socket.IPPROTO_TCP, socket.TCP_QUICKACK)


@pytest.fixture
def ends() -> Iterator[tuple[GuardedSocket, RecordingSocket, socket.socket]]:
    """Our end, the socket below it, and the server's end."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        ours = RecordingSocket()
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()
    deadline = Deadline(HttpSettings("http://h"), lambda: False, awaited=AWAITED)
    guarded = GuardedSocket(ours, deadline, lambda size: None)
    guarded.allowance = 1 << 20
    with closing(theirs), closing(guarded):
        yield guarded, ours, theirs


def ask(ours: GuardedSocket, theirs: socket.socket) -> None:
    ours.deadline.start(slow_answer=False, fetches=False)
    ours.sendall(b"question")
    assert theirs.recv(100) == b"question"


def test_the_first_piece_of_an_answer_is_acknowledged_before_the_second_is_waited_for(
    ends: tuple[GuardedSocket, RecordingSocket, socket.socket],
) -> None:
    """A server that sends head and body apart waits for it, and the kernel would take 40 ms."""
    ours, below, theirs = ends
    ask(ours, theirs)
    theirs.sendall(b"head")
    assert ours.recv(100) == b"head"
    assert below.options == []

    def send_when_acknowledged() -> None:
        wait_until("the head is acknowledged", lambda: below.options == [AT_ONCE])
        theirs.sendall(b"body")

    with ThreadPoolExecutor(1) as server:
        sent = server.submit(send_when_acknowledged)
        assert ours.recv(100) == b"body"
        sent.result()


def test_answers_that_come_whole_are_not(
    ends: tuple[GuardedSocket, RecordingSocket, socket.socket],
) -> None:
    """As those of puts do, by the thousand: each question begins from the start."""
    ours, below, theirs = ends
    for _ in range(3):
        ask(ours, theirs)
        theirs.sendall(b"answer")
        assert ours.recv(100) == b"answer"
    assert below.options == []


def test_what_a_limit_slows_down_goes_in_small_pieces(
    ends: tuple[GuardedSocket, RecordingSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server takes a connection that is silent for twenty seconds for dead; without a wait pieces grow."""
    ours, _, theirs = ends
    now, wait = [0.0], [2.0]
    pieces: list[int] = []

    def sent(size: int) -> None:
        pieces.append(size)
        now[0] += wait[0]
        theirs.recv(size, socket.MSG_WAITALL)

    monkeypatch.setattr(ours, "_on_sent", sent)
    ours.deadline = Deadline(HttpSettings("http://h"), lambda: False, lambda: now[0])
    ours.body = bytes(64 << 10)
    ours.sendall(ours.body)
    assert pieces == [16 << 10, 8 << 10] + [4 << 10] * 10
    pieces.clear()
    wait[0] = 0.0
    ours.body = bytes(112 << 10)
    ours.sendall(ours.body)
    assert pieces == [16 << 10, 32 << 10, 64 << 10]


def test_what_comes_in_under_a_limit_comes_in_small_pieces(
    ends: tuple[GuardedSocket, RecordingSocket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it comes evenly; without a wait the pieces grow, to no more than there is room for."""
    ours, below, theirs = ends
    now, wait = [0.0], [0.0]
    pieces: list[int] = []

    def received(size: int) -> None:
        pieces.append(size)
        now[0] += wait[0]

    monkeypatch.setattr(ours, "_on_received", received)
    ours.deadline = Deadline(HttpSettings("http://h"), lambda: False, lambda: now[0])
    ours.allowance = 8 << 20
    below.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    theirs.setblocking(False)
    room = memoryview(bytearray(4 << 20))

    def come(size: int) -> int:
        """As many bytes are there when we ask for them."""
        assert theirs.send(bytes(size)) == size
        return ours.recv_into(room)

    assert come(500 << 10) == 64 << 10
    assert [ours.recv_into(room) for _ in range(2)] == [128 << 10, 256 << 10]
    wait[0] = 0.1
    assert ours.recv_into(room) == 52 << 10
    assert come(500 << 10) == 64 << 10
    assert [ours.recv_into(room) for _ in range(2)] == [64 << 10, 64 << 10]
    assert sum(pieces) == sum([64, 128, 256, 52, 64, 64, 64]) << 10


def test_it_shows_what_a_thread_waits_for(ends: tuple[GuardedSocket, RecordingSocket, socket.socket]) -> None:
    """As long as it waits: a look at the descriptor tells whether it could go on."""
    ours, below, theirs = ends
    ask(ours, theirs)
    answer = Running(ours.recv, 100)
    wait_until("it waits", lambda: list(AWAITED.values()) == [below.fileno()])
    theirs.sendall(b"answer")
    assert answer.result() == b"answer"
    assert AWAITED == {}
