"""What this language can do with nothing but sockets: no signature, no record of anything.

    python bench/limits.py PORT PATH PREFIX [sha256]

Carries a file in parts of 16 MiB by sendfile, or a folder with eight threads, to a server that believes
everything: the sink. With ``sha256`` it computes what syncd cannot do without over plain HTTP: the
fingerprint, and the digest that the server would check.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
from pathlib import Path

import xxhash

PART = 16 << 20
THREADS = 8


def connect(port: int) -> socket.socket:
    """A connection to the server."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def answer(connection: socket.socket) -> None:
    """Read one answer without a body."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            raise SystemExit("the server hung up")
        got += piece


def digested(body: memoryview | bytes) -> None:
    """What a checked upload computes for each byte."""
    xxhash.xxh3_128_digest(body)
    hashlib.sha256(body).digest()


def parts(port: int, path: Path, key: str, numbers: list[int], *, digests: bool) -> None:
    """Send parts, by sendfile or from the memory where they are digested, until none is left."""
    buffer = memoryview(bytearray(PART if digests else 0))
    connection, size = connect(port), path.stat().st_size
    with path.open("rb") as file:
        while True:
            try:
                number = numbers.pop()
            except IndexError:
                return
            first = number * PART
            length = min(PART, size - first)
            head = f"PUT /bench/{key}?partNumber={number + 1}&uploadId=u HTTP/1.1\r\nHost: x\r\n"
            connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            if digests:
                os.preadv(file.fileno(), [buffer[:length]], first)
                digested(buffer[:length])
                connection.sendall(buffer[:length])
                length = 0
            while length:
                sent = os.sendfile(connection.fileno(), file.fileno(), first, length)
                first += sent
                length -= sent
            answer(connection)


def small(port: int, files: list[Path], root: Path, prefix: str, *, digests: bool) -> None:
    """Send files until none is left."""
    connection = connect(port)
    while True:
        try:
            path = files.pop()
        except IndexError:
            return
        body = path.read_bytes()
        if digests:
            digested(body)
        head = f"PUT /bench/{prefix}{path.relative_to(root)} HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer(connection)


def main() -> None:
    """Parse and send."""
    port, path, prefix = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    more = {"digests": sys.argv[4:] == ["sha256"]}
    if path.is_file():
        numbers = list(range(-(-path.stat().st_size // PART)))
        given: tuple[object, ...] = (port, path, prefix, numbers)
        work = [threading.Thread(target=parts, args=given, kwargs=more) for _ in range(4)]
    else:
        files = [Path(at) / name for at, _, names in os.walk(path) for name in names]
        given = (port, files, path, prefix)
        work = [threading.Thread(target=small, args=given, kwargs=more) for _ in range(THREADS)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


if __name__ == "__main__":
    main()
