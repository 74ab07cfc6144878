"""A server on a raw socket that does to a client whatever a script says, over TLS too.

A script is a function of a `Peer`, one for each connection in the order in which they come; the last one
serves all that follow. What the client sent is kept as it came, so that a test can compare bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 2\r\n\r\nok'


@dataclass
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    head: bytes
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: str) -> str:
        """The only value of a header; empty when there is none."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else ""


class Peer:
    """One connection, as a script sees it."""

    def __init__(self, server: HostileServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self._buffer = b""

    def _until(self, call: Callable[..., Any], *arguments: object) -> Any:
        """Waiting ends when the test is over."""
        while True:
            try:
                return call(*arguments)
            except TimeoutError:
                if self.server.stopping.is_set():
                    raise EOFError from None

    def _fill(self) -> bytes:
        data = self._until(self.sock.recv, 1 << 16)
        if not data:
            raise EOFError
        return bytes(data)

    def read_head(self) -> Received:
        """The head of the next request; its body stays where it is."""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        pairs = [line.split(":", 1) for line in lines[1:]]
        received = Received(method, target, head, [(name, value.strip()) for name, value in pairs])
        self.server.received.append(received)
        self.server.seen.set()
        return received

    def read_exactly(self, size: int) -> bytes:
        """So many bytes of body."""
        while len(self._buffer) < size:
            self._buffer += self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_request(self) -> Received:
        """The next request, whole."""
        received = self.read_head()
        received.body = self.read_exactly(int(received.get("content-length") or 0))
        return received

    def send(self, data: bytes) -> None:
        """As it is."""
        view = memoryview(data)
        while view:
            view = view[self._until(self.sock.send, view) :]

    def drip(self, data: bytes, seconds: float) -> None:
        """Byte by byte, with a pause before each, until the client or the test has enough."""
        for value in data:
            if self.server.stopping.wait(seconds):
                return
            self.send(bytes([value]))

    def pause(self, seconds: float) -> None:
        """Keeps the connection as it is."""
        self.server.stopping.wait(seconds)

    def hang(self) -> None:
        """Until the test is over or the client has gone."""
        while not self.server.stopping.wait(0.05):
            if select.select([self.sock], [], [], 0)[0]:
                self._fill()

    def hang_deaf(self) -> None:
        """Until the test is over, without reading anything."""
        self.server.stopping.wait()

    def linger(self) -> None:
        """Ends our side and reads what still comes, so that the client gets our last words."""
        with contextlib.suppress(OSError, EOFError):
            if self.server.certificate is None:
                self.sock.shutdown(socket.SHUT_WR)
            while not self.server.stopping.is_set():
                self._fill()

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def relay(self, host: str, port: int, first: bytes = b"") -> None:
        """Pipes everything to a server and back."""
        with socket.create_connection((host, port)) as upstream:
            upstream.sendall(first + self._buffer)
            while not self.server.stopping.is_set():
                for sock in select.select([self.sock, upstream], [], [], 0.05)[0]:
                    data = sock.recv(1 << 16)
                    if not data:
                        return
                    (upstream if sock is self.sock else self.sock).sendall(data)


Script = Callable[[Peer], None]


def answers(*texts: bytes) -> Script:
    """Answers each request of a connection with the next text, and repeats the last one."""

    def script(peer: Peer) -> None:
        count = 0
        while True:
            peer.read_request()
            peer.send(texts[min(count, len(texts) - 1)])
            count += 1

    return script


@dataclass(frozen=True)
class Certificate:
    """Files of a self-signed certificate for 127.0.0.1."""

    cert: str
    key: str


def make_certificate(directory: Path, address: str = "IP:127.0.0.1") -> Certificate:
    """By the openssl program; for one day."""
    cert, key = str(directory / "cert.pem"), str(directory / "key.pem")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "1", "-subj", "/CN=syncd test", "-addext", f"subjectAltName={address}"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            *("-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return Certificate(cert, key)


@dataclass
class HostileServer:
    """Listens on a port of the loopback while it is entered; runs one thread for each connection."""

    scripts: list[Script]
    certificate: Certificate | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    seen: threading.Event = field(default_factory=threading.Event)
    """A request has come."""
    stopping: threading.Event = field(default_factory=threading.Event)
    failures: list[BaseException] = field(default_factory=list)
    """What went wrong in a script apart from the client going away."""

    def __enter__(self) -> HostileServer:
        self._context: ssl.SSLContext | None = None
        if self.certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self.certificate.cert, self.certificate.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="hostile")
        self._acceptor.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        for thread in self._threads:
            thread.join()
        assert self.failures == []

    @property
    def endpoint(self) -> str:
        """As in a configuration."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        """As in a Host header."""
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock, script), name="hostile peer")
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, script: Script) -> None:
        try:
            if self._context is not None:
                sock.settimeout(10)
                sock = self._context.wrap_socket(sock, server_side=True)
            sock.settimeout(0.1)  # waiting goes round until the test is over
            script(Peer(self, sock))
        except (OSError, EOFError):
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            sock.close()
