"""The control socket: the command line asks the running daemon, one JSON line each way.

It lies in the runtime directory, where a command finds it without a configuration, and in the state
directory, where a command finds it if another daemon has the runtime directory. Only their owner can enter
them (mode 0700). Both ends reach a socket through a descriptor of its directory, because the path of a Unix
socket has at most 107 bytes.

A service's runtime directory holds a second socket that only answers questions, for the service's group. A
monitoring agent in that group needs neither root nor the service's account.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

log = logging.getLogger("syncd.daemon")

NAME = "control.sock"
READ_ONLY = "status.sock"
_MODES = {NAME: 0o600, READ_ONLY: 0o660}
_MOST_BYTES = 64 << 20  # of one message
_MOST_AT_ONCE = 16  # conversations
_SECONDS = 10.0
_RETRY_SECONDS = 1.0

SYSTEM_RUNTIME = "/run"  # where systemd makes the runtime directories of system services

Asks = Callable[[], bool]
"""Returns whether the caller still waits."""
Handler = Callable[[dict[str, Any], Asks], dict[str, Any]]
"""Takes a request, and a function that says whether the caller still waits; returns the answer."""


class Acceptor:
    """Takes the connections of a listening socket, and has `converse` speak with each peer in a thread.

    `converse` calls its second argument once it has read the request. At most `most` peers are served at
    once. If more come, the acceptor hangs up on the oldest peer that has not sent its request, so that silent
    peers do not keep others out.
    """

    def __init__(
        self,
        listening: socket.socket,
        converse: Callable[[socket.socket, Callable[[], None]], None],
        most: int,
        name: str,
    ) -> None:
        self._listening = listening
        self._converse = converse
        self._name = name
        self._stopping = threading.Event()
        self._room = threading.BoundedSemaphore(most)
        self._unheard: dict[socket.socket, None] = {}  # the oldest first
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start taking connections."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, and close the socket."""
        self._stopping.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(_SECONDS)
        self._listening.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                peer, _ = self._listening.accept()
            except OSError as error:
                if not self._stopping.wait(_RETRY_SECONDS):  # out of descriptors, for example
                    log.warning("%s: %s", self._name, error)
                continue
            if not self._has_room():
                peer.close()
                continue
            self._unheard[peer] = None
            threading.Thread(target=self._speak, args=(peer,), name=f"{self._name}-peer", daemon=True).start()

    def _has_room(self) -> bool:
        if self._room.acquire(blocking=False):
            return True
        for oldest in list(self._unheard)[:1]:
            with suppress(OSError):  # it may have been closed since
                oldest.shutdown(socket.SHUT_RDWR)
        return self._room.acquire(timeout=_SECONDS)

    def _speak(self, peer: socket.socket) -> None:
        try:
            with peer:
                self._converse(peer, lambda: self._unheard.pop(peer, None))
        except (OSError, ValueError, RecursionError) as error:  # the last: JSON that is nested too deeply
            log.debug("%s: %s", self._name, error)
        finally:
            self._unheard.pop(peer, None)
            self._room.release()


class ControlServer:
    """Answers each request with `handler`, in its own thread: a slow request delays no other.

    If `handler` raises, the answer is the error. Raises OSError if the directory cannot hold a socket.
    """

    def __init__(self, directory: str, handler: Handler, name: str = NAME) -> None:
        self._name = name
        self._handler = handler
        self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._directory_fd)
            listening.bind(f"/proc/self/fd/{self._directory_fd}/{name}")
            os.chmod(name, _MODES[name], dir_fd=self._directory_fd)  # bind() obeys the umask
            listening.listen(64)
        except OSError:
            listening.close()
            os.close(self._directory_fd)
            raise
        self._acceptor = Acceptor(listening, self._converse, _MOST_AT_ONCE, "control")

    def start(self) -> None:
        """Start answering."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stop answering and remove the socket."""
        self._acceptor.stop()
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._directory_fd)
        os.close(self._directory_fd)

    def _converse(self, peer: socket.socket, heard: Callable[[], None]) -> None:
        request = _receive(peer, _SECONDS)
        heard()
        _send(peer, self._answer(request, lambda: is_there(peer)))

    def _answer(self, request: dict[str, Any], asks: Asks) -> dict[str, Any]:
        try:
            return self._handler(request, asks)
        except Exception as error:
            from syncd.core.errors import StateError  # late: a command that asks needs no state

            if not isinstance(error, ValueError | StateError):
                log.exception("control: a request failed")
            told = {"error": str(error) or type(error).__name__}
            return told | {"usage": True} if isinstance(error, ValueError) else told


def is_there(peer: socket.socket) -> bool:
    """Return whether the peer waits for an answer.

    A client closes its half of a Unix socket when it has sent everything, and both halves when it hangs up.
    TCP cannot tell the two apart, and no HTTP client closes only its half.
    """
    is_local = peer.family == socket.AF_UNIX
    gone = select.POLLHUP | select.POLLERR | (0 if is_local else select.POLLRDHUP)
    looked = select.poll()
    looked.register(peer, gone)
    return not any(event & (gone | select.POLLNVAL) for _, event in looked.poll(0))


def runtime_directory(environ: Mapping[str, str]) -> str:
    """Return where this daemon puts its socket besides the state directory; empty: nowhere.

    systemd names the service's own directory; otherwise it is below that of the session.
    """
    if given := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return given
    session = environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(session, "syncd") if os.path.isabs(session) else ""


def places(environ: Mapping[str, str], config: str) -> list[str]:
    """Return where the socket of a daemon with this configuration file may be, the likeliest place first."""
    name = os.path.splitext(os.path.basename(config))[0]
    own = runtime_directory(environ)
    system = [os.path.join(SYSTEM_RUNTIME, each) for each in ("syncd", f"syncd-{name}")]
    return [place for place in (own, *system) if place]


def is_taken(directory: str) -> bool:
    """Return whether a daemon listens in the directory. Raises OSError."""
    try:
        return ask(directory, {"command": "hello"}) is not None
    except ValueError:
        return True


def ask(directory: str, request: dict[str, Any], seconds: float | None = None) -> dict[str, Any] | None:
    """Return the daemon's answer within `seconds`; None: no daemon listens. Raises OSError, ValueError."""
    try:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        try:
            return _ask(f"/proc/self/fd/{directory_fd}/{NAME}", request, seconds)
        except PermissionError:  # a member of the group may ask, but not steer
            answer = _ask(f"/proc/self/fd/{directory_fd}/{READ_ONLY}", request, seconds)
            if answer is None:
                raise
            return answer
    finally:
        os.close(directory_fd)


def _ask(path: str, request: dict[str, Any], seconds: float | None) -> dict[str, Any] | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_SECONDS if seconds is None else seconds)
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        _send(client, request)
        client.shutdown(socket.SHUT_WR)
        return _receive(client, _SECONDS if seconds is None else seconds)


def _send(peer: socket.socket, message: dict[str, Any]) -> None:
    peer.sendall(json.dumps(message).encode() + b"\n")


def _receive(peer: socket.socket, seconds: float) -> dict[str, Any]:
    """Return one message, whole within `seconds`. Raises OSError, ValueError, RecursionError."""
    data = bytearray()
    until = time.monotonic() + seconds
    while not data.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the message does not end")
        peer.settimeout(left)
        piece = peer.recv(1 << 16)
        if not piece:
            break
        data += piece
        if len(data) > _MOST_BYTES:
            raise ValueError(f"the message has more than {_MOST_BYTES} bytes")
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("the message is not a JSON object")  # noqa: TRY004  a bad message, not a bad call
    return message
