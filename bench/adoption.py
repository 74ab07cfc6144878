"""What it costs to find out that a full bucket has everything already.

    python bench/adoption.py [--files 1000000] [--dir DIR]

Files of 15 bytes, and a server that lists them all, with their MD5 as ETag, as other programs leave them; no
state of syncd. Counts the requests of `syncd sync`. A million files take 4 GB of a disk and some minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import threading
from bisect import bisect_right
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import peers
from measure import run
from servers import Sink

PREFIX, PAGE = "p/", 1000


def key(number: int) -> str:
    """In the order of the numbers."""
    return f"{PREFIX}{number // 1000:04}/{number % 1000:03}"


def content(number: int) -> bytes:
    return b"content %07d" % number


def fill(root: Path, count: int) -> None:
    for number in range(count):
        path = root / key(number).removeprefix(PREFIX)
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(content(number))


class Bucket(ThreadingHTTPServer):
    """Lists and describes objects that it computes; takes nothing."""

    name, remembers = "a full bucket", True
    access_key, secret_key = Sink.access_key, Sink.secret_key

    def __init__(self, count: int) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.port = self.server_port
        self.count = count
        self.requests: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def listed(self, after: str) -> bytes:
        """One page."""
        first = bisect_right(range(self.count), after, key=key)
        rows = [
            f"<Contents><Key>{key(number)}</Key><Size>15</Size><ETag>{etag(number)}</ETag>"
            "<LastModified>2026-11-28T10:00:00.000Z</LastModified></Contents>"
            for number in range(first, min(self.count, first + PAGE))
        ]
        more = first + PAGE < self.count
        token = f"<NextContinuationToken>{key(first + PAGE - 1)}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><KeyCount>{len(rows)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{''.join(rows)}</ListBucketResult>"
        ).encode()


class Answer(BaseHTTPRequestHandler):
    """To one request."""

    protocol_version = "HTTP/1.1"
    server: Bucket

    def log_message(self, *_: object) -> None:
        """Only figures are wanted."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "15" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        lists = "list-type" in asked
        self.server.requests["list" if lists else "GET"] += 1
        after = (asked.get("continuation-token") or asked.get("start-after") or [""])[0]
        self.answer(200 if lists else 404, self.server.listed(after) if lists else b"")

    def do_HEAD(self) -> None:
        self.server.requests["HEAD"] += 1
        folder, name = urlsplit(self.path).path.split("/")[-2:]
        self.answer(200, ETag=etag(int(folder) * 1000 + int(name)))

    def do_PUT(self) -> None:
        self.server.requests["PUT"] += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(501)


def etag(number: int) -> str:
    return f'"{hashlib.md5(content(number), usedforsecurity=False).hexdigest()}"'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--dir", help="where to make the files; default: a temporary directory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.dir) as place:
        tree, scratch = Path(place, "tree"), Path(place, "scratch")
        scratch.mkdir()
        fill(tree, asked.files)
        os.sync()
        bucket = Bucket(asked.files)
        command, environ = peers.syncd(peers.Task(tree, bucket, PREFIX, scratch))
        cost = run(command, environ=environ, log=scratch / "log")
        print(
            f"{asked.files:,} files: {dict(bucket.requests)}; {cost.wall_seconds:.0f} s,"
            f" {cost.cpu_seconds:.0f} s of processor, {cost.peak_mib:.0f} MiB"
        )


if __name__ == "__main__":
    main()
