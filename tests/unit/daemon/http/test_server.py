"""The server over real sockets: who is let in, what is refused, and that no peer keeps another waiting."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import NamedTuple

import pytest

from syncd.config.load import AddressSettings
from syncd.core.errors import StateError
from syncd.daemon.http import message, server
from syncd.daemon.http.message import Answer, Refused
from syncd.daemon.http.server import Access, Call, Guard, HttpServer, Route
from tests.support.waiting import wait_until

TOKEN = "0123456789abcdef"
LOCAL = AddressSettings("127.0.0.1", 0, TOKEN, ("nas.lan",))


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def show(call: Call) -> Answer:
    """What the handler was given."""
    return Answer(f"{call.access.name} {call.request.query} {call.body!r}".encode())


def fail(call: Call) -> Answer:
    raise {"value": ValueError, "state": StateError, "bug": ZeroDivisionError}[call.request.query["with"]](
        "/a/path"
    )


ROUTES = {
    "/": Route(show),
    "/livez": Route(show, Access.NOTHING),
    "/all": Route(show, Access.ALL),
    "/do": Route(show, Access.ALL, "POST"),
    "/fail": Route(fail),
}


@pytest.fixture
def local() -> Iterator[HttpServer]:
    made = HttpServer(LOCAL, ROUTES)
    made.start()
    yield made
    made.stop()


def connected(to: HttpServer) -> socket.socket:
    return socket.create_connection((to.settings.host, to.port), timeout=30)


def said(peer: socket.socket) -> bytes:
    """All until the end."""
    pieces = []
    while piece := peer.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def raw(to: HttpServer, request: bytes) -> Answered:
    with connected(to) as peer:
        peer.sendall(request)
        head, _, body = said(peer).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answered(int(first.split()[1]), headers, body)


def ask(to: HttpServer, target: str = "/", method: str = "GET", body: bytes = b"", **fields: str) -> Answered:
    """Send one request; underscores in the names of fields are dashes."""
    fields = {"Host": "localhost", **fields}
    if method == "POST":
        fields = {"Content_Length": str(len(body)), "Content_Type": "application/json", **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    return raw(to, "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode() + body)


def peers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "http-peer"]


BEARER = f"Bearer {TOKEN}"


# ---- who may see what -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8737", 200),
        ("127.0.0.1:8737", 200),
        ("192.168.7.7", 200),  # what a page binds is a name; a number is the address itself
        ("[::1]:9", 200),
        ("nas.lan", 200),
        ("NAS.lan:8737", 200),
        ("evil.example", 403),
        ("evil.example:8737", 403),
        ("localhost.evil.example", 403),
        ("nas.lan.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example:80:80", 403),
        ("127.0.0.1@evil.example", 403),
        ("localhost.", 403),
        ("[localhost]", 403),
        ("::1", 403),
        ("a, localhost", 403),
    ],
)
def test_only_a_known_name_or_a_number_is_a_host(local: HttpServer, host: str, status: int) -> None:
    """Also for health: a stranger's page that binds its own name to this address reads nothing."""
    assert ask(local, "/livez", Host=host).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost", 200),
        ("https://localhost", 200),
        ("http://localhost:1", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("localhost", 403),
        ("http://localhost.evil.example", 403),
    ],
)
@pytest.mark.parametrize("token", ["", BEARER])
def test_a_page_of_another_origin_may_not_ask(
    local: HttpServer, origin: str, status: int, token: str
) -> None:
    """Not even with the token."""
    assert ask(local, Origin=origin, Authorization=token).status == status


@pytest.mark.parametrize(
    ("target", "method", "authorization", "status"),
    [
        ("/", "GET", "", 200),
        ("/", "HEAD", "", 200),
        ("/", "GET", BEARER, 200),
        ("/", "GET", f"bearer {TOKEN}", 200),
        ("/", "GET", f"Bearer {TOKEN}x", 401),
        ("/", "GET", f"Bearer {TOKEN[:-1]}", 401),
        ("/", "GET", "Bearer ", 401),
        ("/", "GET", "Bearer \xff", 401),
        ("/", "GET", TOKEN, 401),
        ("/", "GET", f"Basic {TOKEN}", 401),
        ("/livez", "GET", "Bearer wrong", 401),
        ("/all", "GET", "", 401),
        ("/all", "GET", BEARER, 200),
        ("/do", "POST", "", 401),
        ("/do", "POST", BEARER, 200),
        ("/do", "GET", BEARER, 405),
        ("/do", "HEAD", BEARER, 405),
        ("/all", "POST", BEARER, 405),
        ("/all", "DELETE", BEARER, 405),
        ("/all", "OPTIONS", BEARER, 405),
        ("/nothing", "GET", BEARER, 404),
        ("/all/", "GET", BEARER, 404),
        ("//all", "GET", BEARER, 404),
        ("/x/../all", "GET", BEARER, 404),
    ],
)
def test_paths_and_every_change_need_the_token(
    local: HttpServer, target: str, method: str, authorization: str, status: int
) -> None:
    """A wrong token is worse than none. No change of anything by GET."""
    found = ask(local, target, method, Authorization=authorization)
    assert found.status == status
    assert ("www-authenticate" in found.headers) == (status == 401)
    assert ("allow" in found.headers) == (status == 405)
    assert (found.body == b"") == (method == "HEAD")


def test_without_a_token_file_nobody_steers() -> None:
    """An empty token opens nothing."""
    made = HttpServer(AddressSettings("127.0.0.1", 0), ROUTES)
    made.start()
    for authorization in ("", "Bearer ", "Bearer"):
        assert ask(made, "/do", "POST", Authorization=authorization).status == 403
        assert ask(made, "/all", Authorization=authorization).status == 403
    assert ask(made).body.startswith(b"COUNTS")
    made.stop()


@pytest.mark.parametrize(
    ("host", "is_local"), [("127.0.0.1", True), ("127.3.4.5", True), ("::1", True), ("0.0.0.0", False)]
)
def test_another_machine_without_the_token_learns_whether_the_daemon_lives(host: str, is_local: bool) -> None:
    """One of this machine also gets numbers."""
    guard = Guard(AddressSettings(host, 0, TOKEN))
    expected = Access.COUNTS if is_local else Access.NOTHING
    assert guard.access({"host": "localhost"}) is expected
    assert guard.access({"host": "localhost", "authorization": BEARER}) is Access.ALL


def test_it_listens_on_the_other_family_too() -> None:
    """An address with colons."""
    try:
        made = HttpServer(AddressSettings("::1", 0), ROUTES)
    except OSError:
        pytest.skip("this machine has no IPv6")
    made.start()
    assert ask(made, Host="[::1]").status == 200
    made.stop()


def test_an_address_that_is_taken_is_an_error_that_leaks_nothing(local: HttpServer) -> None:
    """The daemon says so and tries again."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="in use"):
        HttpServer(AddressSettings("127.0.0.1", local.port), ROUTES)
    assert len(os.listdir("/proc/self/fd")) == len(before)


# ---- requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"),
    [("application/json", 200), ("text/plain", 415), ("application/json, text/plain", 415), ("", 415)],
)
def test_what_is_posted_is_json(local: HttpServer, kind: str, status: int) -> None:
    """A form of a stranger's page can send no such type."""
    found = ask(local, "/do?a=b", "POST", b'{"a": 1}', Authorization=BEARER, Content_Type=kind)
    assert found.status == status
    if status == 200:
        assert found.body == b"""ALL {'a': 'b'} b'{"a": 1}'"""


@pytest.mark.parametrize(
    ("kind", "authorization", "status", "words"),
    [
        ("value", "", 400, b"/a/path"),
        ("state", "", 503, b"the state cannot be read"),
        ("state", BEARER, 503, b"/a/path"),
        ("bug", BEARER, 500, b"the daemon has a fault"),
    ],
)
def test_an_error_is_an_answer(
    local: HttpServer, kind: str, authorization: str, status: int, words: bytes
) -> None:
    """And the next one is answered; only one with the token reads where the state lies."""
    found = ask(local, f"/fail?with={kind}", Authorization=authorization)
    assert (found.status, found.headers["content-type"]) == (status, "application/json")
    assert words in found.body
    assert ask(local).status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * message.MOST_HEAD_BYTES + b"\r\n\r\n", 431),
        (b"G" * (1 << 20), 431),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000, 200),  # the first alone is heard
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nGET / HTTP/1.1\r\n", 400),
        (b"POST /do HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /do HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (1 << 20), 413),
        (
            b"POST /do HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: "
            + BEARER.encode()
            + b"\r\nContent-Length: 2\r\n\r\n{}POST /do HTTP/1.1\r\nHost: localhost\r\n\r\n",
            200,
        ),
    ],
    ids=["large field", "no end", "empty", "tls", "pipeline", "body", "chunks", "large body", "smuggled"],
)
def test_one_connection_carries_one_request_of_a_bounded_size(
    local: HttpServer, request_: bytes, status: int
) -> None:
    """Whatever follows it is not read as another one; the answer arrives."""
    with connected(local) as peer:
        sender = threading.Thread(target=lambda: _send(peer, request_))
        sender.start()
        answer = said(peer)
        sender.join()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"\r\nDate: ") == 1
    assert b"Connection: close\r\n" in answer


def _send(peer: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the server has heard enough
        peer.sendall(data)


# ---- bad company ------------------------------------------------------------------------------------------


def test_who_drips_is_cut_off(local: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that keep coming do not put the end off, in the head or in the body."""
    monkeypatch.setattr(server, "_READ_SECONDS", 0.2)
    post = b"POST /do HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    post += b"Authorization: %b\r\nContent-Length: 60000\r\n\r\n" % BEARER.encode()
    for start in (b"GET / HTTP/1.1\r\nX: ", post):
        ended = threading.Event()
        with connected(local) as peer:
            peer.sendall(start)

            def drip(peer: socket.socket = peer, ended: threading.Event = ended) -> None:
                while not ended.wait(0.02):
                    _send(peer, b"y")

            dripping = threading.Thread(target=drip)
            dripping.start()
            assert said(peer).startswith(b"HTTP/1.1 408 ")
            ended.set()
            dripping.join()


def test_a_hundred_who_say_nothing_keep_nobody_out(local: HttpServer) -> None:
    """The oldest of them are hung up on; threads stay as few as they were."""
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(connected(local))) for _ in range(100)]
        assert ask(local).status == 200
        assert len(peers()) <= server._MOST_AT_ONCE
        assert silent[0].recv(1) == b""


def test_what_takes_long_holds_up_no_health(local: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the conversations are kept for it; who orders more is told to come back."""
    release, begun = threading.Event(), threading.Semaphore(0)

    def slow(call: Call) -> Answer:
        begun.release()
        release.wait(30)
        return Answer(b"done")

    monkeypatch.setitem(ROUTES, "/do", Route(slow, Access.ALL, "POST"))
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(ask(local, "/do", "POST", Authorization=BEARER).status)
        )
        for _ in range(server._MOST_SLOW)
    ]
    for thread in threads:
        thread.start()
    assert all(begun.acquire(timeout=30) for _ in threads)
    assert ask(local, "/do", "POST", Authorization=BEARER).status == 503
    assert ask(local, "/all", Authorization=BEARER).status == 503
    assert ask(local, "/livez").status == 200
    release.set()
    for thread in threads:
        thread.join()
    assert answers == [200] * server._MOST_SLOW
    assert ask(local, "/all", Authorization=BEARER).status == 200


def test_one_who_does_not_read_is_given_up(local: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the answer is."""
    monkeypatch.setattr(server, "_SEND_SECONDS", 0.2)
    monkeypatch.setitem(ROUTES, "/", Route(lambda call: Answer(b"x" * (64 << 20))))
    with connected(local) as deaf:
        deaf.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert deaf.recv(1) == b"H"
        wait_until("its thread has ended", lambda: not peers())
        read = 0
        with suppress(ConnectionResetError):
            while piece := deaf.recv(1 << 20):
                read += len(piece)
        assert read < 64 << 20


def test_a_refusal_has_its_words() -> None:
    """They are those of the one who refuses."""
    with pytest.raises(Refused, match=r"add it to `http\.names`"):
        Guard(LOCAL).access({"host": "nas"})
