"""The daemon's ear: answers its owner, survives bad company, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import StateError
from syncd.daemon import control
from syncd.daemon.control import Asks, ControlServer, ask, is_there
from tests.support.waiting import wait_until


def echo(request: dict[str, Any], asks: Asks) -> dict[str, Any]:
    if "raise" in request:
        raise {"value": ValueError, "state": StateError, "bug": ZeroDivisionError}[request["raise"]]("why")
    return {"heard": request}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    server = ControlServer(str(tmp_path), echo)
    server.start()
    yield server
    server.stop()


def connected(tmp_path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(30.0)
    peer.connect(str(tmp_path / control.NAME))
    return peer


def test_a_request_is_answered(server: ControlServer, tmp_path: Path) -> None:
    """Text, numbers and names that are no text go there and back."""
    message = {"command": "status", "n": 1, "name": os.fsdecode(b"\xff")}
    assert ask(str(tmp_path), message) == {"heard": message}


def test_many_ask_at_once(server: ControlServer, tmp_path: Path) -> None:
    """Each gets its own answer."""
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(ask(str(tmp_path), {"n": n}))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["heard"]["n"] for answer in answers) == list(range(8))


def test_without_a_daemon_there_is_no_answer(tmp_path: Path) -> None:
    """No directory, no socket, or a socket that a killed daemon left: all are None, not an error."""
    assert ask(str(tmp_path / "nowhere"), {}) is None
    assert ask(str(tmp_path), {}) is None
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / control.NAME))
    left.close()
    assert ask(str(tmp_path), {}) is None


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """After kill -9 the next daemon listens."""
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(tmp_path / control.NAME))
    left.close()
    server = ControlServer(str(tmp_path), echo)
    server.start()
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}
    server.stop()


def test_stopping_leaves_no_socket_and_no_thread(tmp_path: Path) -> None:
    """And a second stop, or one before the start, is no drama for the directory."""
    before = threading.active_count()
    server = ControlServer(str(tmp_path), echo)
    server.start()
    server.stop()
    assert os.listdir(tmp_path) == []
    assert threading.active_count() <= before


def test_only_the_owner_may_speak(server: ControlServer, tmp_path: Path) -> None:
    """Whatever the directory's mode is."""
    assert stat.S_IMODE(os.stat(tmp_path / control.NAME).st_mode) == 0o600


def test_a_path_that_is_too_long_for_a_socket_is_none(tmp_path: Path) -> None:
    """The directory may lie as deep as it wants."""
    deep = tmp_path
    for _ in range(6):
        deep = deep / ("d" * 50)
    deep.mkdir(parents=True)
    server = ControlServer(str(deep), echo)
    server.start()
    assert ask(str(deep), {"n": 1}) == {"heard": {"n": 1}}
    server.stop()


@pytest.mark.parametrize(("kind", "logged"), [("value", False), ("state", False), ("bug", True)])
def test_a_request_that_fails_is_answered_with_its_error(
    server: ControlServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, logged: bool
) -> None:
    """The next request is answered as if nothing had been; only a bug is worth a traceback."""
    answer = ask(str(tmp_path), {"raise": kind})
    assert answer == ({"error": "why", "usage": True} if kind == "value" else {"error": "why"})
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}
    assert ("Traceback" in caplog.text) is logged


@pytest.mark.parametrize(
    "nonsense", [b"", b"\n", b"[]\n", b"not json\n", b"\xff\xfe\n", b'{"half":', b"[" * 200_000 + b"\n"]
)
def test_nonsense_ends_one_conversation_only(server: ControlServer, tmp_path: Path, nonsense: bytes) -> None:
    """The daemon closes the connection on which it comes."""
    with connected(tmp_path) as peer:
        peer.sendall(nonsense)
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b""
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}


def test_a_message_without_end_is_cut_off(
    server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded."""
    monkeypatch.setattr(control, "_MOST_BYTES", 1000)
    with connected(tmp_path) as peer:
        peer.sendall(b"x" * 2000)
        assert peer.recv(100) == b""
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}


def test_a_silent_visitor_does_not_block_for_ever(
    server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the next one is served."""
    monkeypatch.setattr(control, "_SECONDS", 0.2)
    with connected(tmp_path), connected(tmp_path) as second:
        second.sendall(b'{"n": 1}\n')
        assert second.recv(100) == b'{"heard": {"n": 1}}\n'


def test_a_visitor_that_does_not_wait_for_the_answer_harms_nobody(
    server: ControlServer, tmp_path: Path
) -> None:
    """A client that was killed."""
    with connected(tmp_path) as peer:
        peer.sendall(b'{"n": 1}\n')
    assert ask(str(tmp_path), {"n": 2}) == {"heard": {"n": 2}}


def test_running_out_of_descriptors_does_not_end_the_ear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An accept that fails is tried again."""
    monkeypatch.setattr(control, "_RETRY_SECONDS", 0.01)
    server = ControlServer(str(tmp_path), echo)
    real = server._acceptor._listening
    failures = [OSError(24, "Too many open files"), OSError(24, "Too many open files")]

    class Failing:
        def accept(self) -> Any:
            if failures:
                raise failures.pop()
            return real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    server._acceptor._listening = Failing()  # type: ignore[assignment]
    server.start()
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}
    assert "Too many open files" in caplog.text
    server.stop()


def test_a_directory_that_takes_no_socket_is_an_error_that_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon goes without, and no descriptor is lost."""

    def refuse(*args: object, **named: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "chmod", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="not supported"):
        ControlServer(str(tmp_path), echo)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_one_who_has_said_all_is_there_until_he_hangs_up(family: socket.AddressFamily) -> None:
    """To end the own half of the conversation is no end on a Unix socket; clients over TCP do not do that."""
    if family == socket.AF_UNIX:
        ours, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = socket.create_connection(listening.getsockname())
            ours, _ = listening.accept()
    with ours:
        with peer:
            peer.sendall(b"more than was read")
            assert is_there(ours)
            if family == socket.AF_UNIX:
                peer.shutdown(socket.SHUT_WR)
                assert is_there(ours)
        wait_until("it is noticed", lambda: not is_there(ours))


def test_a_request_that_takes_long_delays_no_other(tmp_path: Path) -> None:
    """A disk that does not answer holds up the question about it, and nothing else."""
    release = threading.Event()

    def handler(request: dict[str, Any], asks: Asks) -> dict[str, Any]:
        if "wait" in request:
            release.wait(30)
        return {"heard": request}

    server = ControlServer(str(tmp_path), handler)
    server.start()
    answers: list[Any] = []
    slow = threading.Thread(target=lambda: answers.append(ask(str(tmp_path), {"wait": 1})))
    slow.start()
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}
    assert answers == []
    release.set()
    slow.join()
    assert answers == [{"heard": {"wait": 1}}]
    server.stop()


def test_a_directory_that_must_not_be_entered_is_an_error(tmp_path: Path) -> None:
    """Whether a daemon runs is unknown then."""
    if os.getuid() == 0:
        (tmp_path / "file").touch()
        assert ask(str(tmp_path / "file"), {}) is None
        pytest.skip("root may enter everything")
    tmp_path.chmod(0)
    with pytest.raises(PermissionError):
        ask(str(tmp_path), {})


@pytest.mark.parametrize(
    ("environ", "places"),
    [
        ({}, ["/run/syncd", "/run/syncd-photos"]),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, ["/run/user/7/syncd", "/run/syncd", "/run/syncd-photos"]),
        ({"XDG_RUNTIME_DIR": "relative"}, ["/run/syncd", "/run/syncd-photos"]),
        (
            {"RUNTIME_DIRECTORY": "/run/mine:/run/other", "XDG_RUNTIME_DIR": "/run/user/7"},
            ["/run/mine", "/run/syncd", "/run/syncd-photos"],
        ),
    ],
)
def test_a_daemon_is_looked_for_in_runtime_directories(environ: dict[str, str], places: list[str]) -> None:
    """The session's own first, then those of the system, also of an instance with the file's name."""
    assert control.places(environ, "/etc/syncd/photos.yaml") == places


def test_a_directory_is_taken_while_a_daemon_listens_there(tmp_path: Path) -> None:
    """Also if its answer makes no sense."""
    assert not control.is_taken(str(tmp_path))
    server = ControlServer(str(tmp_path), lambda request, asks: {"error": "busy"})
    server.start()
    assert control.is_taken(str(tmp_path))
    server.stop()
    assert not control.is_taken(str(tmp_path))


def test_peers_that_say_nothing_keep_no_other_waiting(server: ControlServer, tmp_path: Path) -> None:
    """However many there are: the oldest of them makes room for the next."""
    silent = [connected(tmp_path) for _ in range(2 * control._MOST_AT_ONCE)]
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}
    for peer in silent:
        peer.close()


@pytest.mark.parametrize(
    "text", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff\xfe", b'{"n": 1' + b"0" * 5000 + b"}", b"1e999999"]
)
def test_no_message_ends_the_server(server: ControlServer, tmp_path: Path, text: bytes) -> None:
    """Whatever one peer sends, the next one is answered."""
    with connected(tmp_path) as peer:
        peer.sendall(text + b"\n")
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b""
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}


def test_a_peer_that_does_not_end_its_message_is_given_up(
    server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed without an answer."""
    monkeypatch.setattr(control, "_SECONDS", 0.2)
    with connected(tmp_path) as peer:
        peer.sendall(b"[")
        assert peer.recv(100) == b""


def test_a_peer_that_waits_for_its_answer_drips_in_vain(
    server: ControlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that keep coming do not put the end off."""
    monkeypatch.setattr(control, "_SECONDS", 0.2)
    with connected(tmp_path) as peer:
        wait_until("it is cut off", lambda: _is_cut_off(peer))


def _is_cut_off(peer: socket.socket) -> bool:
    try:
        peer.sendall(b"[")
    except OSError:
        return True
    return False


def test_one_who_may_only_ask_gets_the_socket_for_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is open to the group. Where there is none, the refusal is an error: a daemon may run."""
    connect = socket.socket.connect

    def refuse(client: socket.socket, path: str) -> None:
        if path.endswith(control.NAME):
            raise PermissionError(13, "Permission denied")
        connect(client, path)

    class Refusing(socket.socket):
        connect = refuse  # type: ignore[assignment]

    steering = ControlServer(str(tmp_path), echo)
    telling = ControlServer(str(tmp_path), lambda request, asks: {"told": request}, control.READ_ONLY)
    telling.start()
    steering.start()
    assert stat.S_IMODE(os.stat(tmp_path / control.READ_ONLY).st_mode) == 0o660
    assert ask(str(tmp_path), {"n": 1}) == {"heard": {"n": 1}}
    monkeypatch.setattr(control.socket, "socket", Refusing)
    assert ask(str(tmp_path), {"n": 1}) == {"told": {"n": 1}}
    telling.stop()
    with pytest.raises(PermissionError):
        ask(str(tmp_path), {"n": 1})
    monkeypatch.undo()
    steering.stop()
    assert os.listdir(tmp_path) == []
