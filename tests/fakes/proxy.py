"""A TCP proxy that counts what passes, so that nobody has to believe our own counters."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress

_PIECE = 1 << 18


class CountingProxy:
    """Forwards every connection to `target` (host, port). Listens on a port of its own on the loopback."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sent = 0
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where to connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def bytes_sent(self) -> int:
        """Bytes from client to server so far, heads of requests included."""
        with self._lock:
            return self._sent

    def close(self) -> None:
        """Take no more connections."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), name="proxied", daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            selector = selectors.DefaultSelector()
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    piece = source.recv(_PIECE)
                    if not piece:
                        return
                    if source is client:
                        with self._lock:
                            self._sent += len(piece)
                    sink.sendall(piece)
