"""A TCP proxy that counts what passes, so that nobody has to believe our own counters; it can also interfere.

It knows just enough HTTP/1.1 to tell where a request starts: with the client's first bytes after an answer.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

_PIECE = 1 << 18
_CONTINUE = b"HTTP/1.1 100 "
_REQUEST_LINE = re.compile(rb"([A-Z]+ [^ \r\n]+) HTTP/1\.[01]\r\n")


class CountingProxy:
    """Forwards every connection to `target` (host, port). Listens on a port of its own on the loopback.

    A context manager. All of its properties and methods are for the test's thread.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._changed = threading.Condition()
        self._sent = 0
        self._connections = 0
        self._requests: list[str] = []
        self._freeze_at: int | None = None
        self._frozen = 0
        self._age = 0  # connections older than the last thaw are dead
        self._lose: Callable[[str], bool] = lambda request: False
        self._hold: Callable[[str], bool] = lambda request: False
        self._lost: list[str] = []
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what passed ------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where to connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def bytes_sent(self) -> int:
        """Bytes that clients sent so far, heads of requests included."""
        with self._changed:
            return self._sent

    @property
    def connections(self) -> int:
        """How many connections there were."""
        with self._changed:
            return self._connections

    @property
    def requests(self) -> list[str]:
        """Method and target of each request, such as ``PUT /bucket/key?partNumber=1``."""
        with self._changed:
            return list(self._requests)

    @property
    def lost(self) -> list[str]:
        """The requests whose answers were kept from the client."""
        with self._changed:
            return list(self._lost)

    # ---- interfering ------------------------------------------------------------------------------------

    def freeze_after(self, size: int) -> None:
        """Once clients have sent `size` more bytes, nothing of theirs passes any more, until `thaw`."""
        with self._changed:
            self._freeze_at = self._sent + size

    def wait_frozen(self, seconds: float) -> bool:
        """Wait until something was held back; False when nothing was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._frozen > 0, seconds)

    def hold_answers(self, which: Callable[[str], bool]) -> None:
        """The answer to such a request does not pass until `thaw`, which cuts its connection."""
        with self._changed:
            self._hold = which

    def thaw(self) -> None:
        """Cut every connection that there is, and let new ones pass."""
        with self._changed:
            self._freeze_at = None
            self._hold = lambda request: False
            self._age += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._frozen == 0)

    def lose_answers(self, which: Callable[[str], bool]) -> None:
        """From now on, cut the connection instead of passing on the answer to such a request."""
        with self._changed:
            self._lose = which

    def close(self) -> None:
        """Take no more connections, and cut those that there are."""
        with self._changed:
            self._closing = True
        self.thaw()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    # ---- forwarding -------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self._connections += 1
                age = self._age
            threading.Thread(target=self._forward, args=(client, age), name="proxied", daemon=True).start()

    def _forward(self, client: socket.socket, age: int) -> None:
        with (
            client,
            suppress(OSError),
            socket.create_connection(self._target) as server,
            selectors.DefaultSelector() as selector,
        ):
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            request, answered = "", True
            while True:
                # The timeout only matters to a connection that a thaw has cut while nothing moved on it.
                for key, _ in selector.select(1.0):
                    piece = key.fileobj.recv(_PIECE)  # type: ignore[union-attr]
                    if not piece:
                        return
                    if key.fileobj is client:
                        if answered:
                            request = self._noted(piece)
                        answered = False
                        if not self._passes(len(piece), age):
                            return
                        server.sendall(piece)
                    elif not answered and self._is_lost(request, age):
                        return
                    else:
                        answered = answered or not piece.startswith(_CONTINUE)
                        client.sendall(piece)
                if self._age != age:
                    return

    def _noted(self, piece: bytes) -> str:
        found = _REQUEST_LINE.match(piece)
        request = found[1].decode("latin-1") if found else "?"
        with self._changed:
            self._requests.append(request)
        return request

    def _passes(self, size: int, age: int) -> bool:
        """Count, and wait out a frost; False when the connection was cut meanwhile."""
        with self._changed:
            self._sent += size
            if self._freeze_at is not None and self._sent >= self._freeze_at:
                self._wait_for_thaw(age)
            return self._age == age

    def _is_lost(self, request: str, age: int) -> bool:
        with self._changed:
            if self._hold(request):
                self._wait_for_thaw(age)
            elif not self._lose(request):
                return False
            self._lost.append(request)
            return True

    def _wait_for_thaw(self, age: int) -> None:
        self._frozen += 1
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._age != age)
        self._frozen -= 1
        self._changed.notify_all()
