"""Small puts over libcurl beside our own sockets: the same program with another transport, in one run.

    python bench/clients.py [--rounds 5]

Needs pycurl. Each handle of libcurl carries one request at a time, in slices, with what our transport
promises while nothing fails: a stop within a second, stalls judged by bytes, bounds on the head and the body
of an answer. What an error of libcurl means to a store is left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scenarios
from measure import Run, interleaved, run
from peers import Task, install, syncd
from servers import Sink

from syncd.core.errors import StoreUnavailable
from syncd.storage.http import transport
from syncd.storage.http.connect import USER_AGENT, Idle, Line
from syncd.storage.http.http1 import MAX_HEAD_BYTES, answer_limit, target, wire_headers
from syncd.storage.http.messages import Request, Response
from syncd.storage.http.socket_transport import SocketTransport

if TYPE_CHECKING:
    import pycurl

MOST_BYTES = 256 << 10
"""A body up to this size is given to libcurl whole."""


class Handle:
    """One connection of libcurl."""

    def __init__(self, line: Line) -> None:
        import pycurl

        self._line = line
        self._deadline = line.deadline()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, 1)
        self._curl = pycurl.Curl()
        for option, value in (
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROXY, ""),
            (pycurl.MAXAGE_CONN, 45),
            (pycurl.CONNECTTIMEOUT_MS, int(line.http.connect_seconds * 1000)),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.HEADERFUNCTION, self._take_header),
            (pycurl.WRITEFUNCTION, self._take_body),
            (pycurl.POST, 1),
            (pycurl.CUSTOMREQUEST, "PUT"),
        ):
            self._curl.setopt(option, value)

    def put(self, request: Request) -> Response:
        """The answer, read whole."""
        import pycurl

        self._lines: list[bytes] = []
        self._body = bytearray()
        self._head_bytes, self._limit = 0, answer_limit(request)
        headers = {name: value for name, value in wire_headers(request, USER_AGENT).items() if value}
        unwanted = [f"{name}:" for name in ("Expect", "Accept", "Content-Type") if name not in headers]
        lines = [f"{name}: {value}" for name, value in headers.items() if name != "Content-Length"]
        self._curl.setopt(pycurl.URL, f"{self._line.scheme}://{request.host}/")
        self._curl.setopt(pycurl.REQUEST_TARGET, target(request))
        self._curl.setopt(pycurl.HTTPHEADER, lines + unwanted)
        self._curl.setopt(pycurl.POSTFIELDS, bytes(request.body))
        self._deadline.start(slow_answer=False, fetches=False)
        self._perform(self._curl)
        found: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.decode("latin-1").partition(":")
            found[name.lower()] = value.strip()
        return Response(self._curl.getinfo(pycurl.RESPONSE_CODE), found, bytes(self._body))

    def _perform(self, curl: pycurl.Curl) -> None:
        seconds, moved = self._deadline.slice_seconds(), 0
        self._multi.add_handle(curl)
        try:
            while self._multi.perform()[1]:
                now = self._head_bytes + len(self._body)
                if now != moved:
                    self._deadline.moved(now - moved)
                    moved = now
                self._deadline.ask()
                if self._multi.select(seconds) < 0:
                    time.sleep(0.005)  # a name is looked up, and there is no socket yet
            if failed := self._multi.info_read()[2]:
                raise StoreUnavailable(str(failed[0][2]), outcome_unknown=True)
        finally:
            self._multi.remove_handle(curl)

    def _take_header(self, line: bytes) -> int:
        self._head_bytes += len(line)
        if line.startswith(b"HTTP/"):
            self._lines.clear()
        else:
            self._lines.append(line)
        return len(line) if self._head_bytes <= MAX_HEAD_BYTES else -1

    def _take_body(self, data: bytes) -> int:
        self._body += data
        return len(data) if len(self._body) <= self._limit else -1

    def close(self) -> None:
        """The connection too."""
        self._curl.close()
        self._multi.close()


class SmallPutsByCurl:
    """A transport for content: small puts over libcurl, all else over our sockets."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._large = SocketTransport(line)
        self._idle: Idle[Handle] = Idle()

    def send(self, request: Request) -> Response:
        """The answer, read whole."""
        size = len(request.body)
        if request.method != "PUT" or size > MOST_BYTES:
            return self._large.send(request)
        self._line.on_sent(size)
        handle = self._idle.take(request.host) or Handle(self._line)
        response = handle.put(request)
        self._idle.give_back(request.host, handle)
        return response

    def close(self) -> None:
        """All connections."""
        self._idle.close()
        self._large.close()


def compare(directory: Path, rounds: int) -> None:
    """Prints what each run costs, and the ratios of the medians."""
    bench = scenarios.Bench(directory, rounds, print)
    sink = Sink(directory)
    try:
        for count, size in ((10_000, 4 << 10), (1000, 100 << 10)):
            path = scenarios.folder(bench, count, size)

            def carry(*program: str, path: Path = path) -> Run:
                task = Task(path, sink, "p/", bench.scratch("small"))
                command, environ = syncd(task)
                return run([command[0], *program, *command[3:]], environ=environ, log=task.scratch / "log")

            print(f"{count} files of {size} bytes")
            ours, curl = interleaved(
                {"ours": partial(carry, "-m", "syncd"), "libcurl": partial(carry, __file__)}, rounds, print
            )
            for figure in ("wall_seconds", "cpu_seconds", "peak_mib"):
                print(f"  {figure}: libcurl takes {curl.median(figure) / ours.median(figure):.2f} of ours")
    finally:
        sink.stop()


def main() -> None:
    """As a program of its own, or in the place of `syncd sync`."""
    if "sync" in sys.argv[1:2]:
        from syncd.cli.app import main as run_syncd

        setattr(transport, "SocketTransport", SmallPutsByCurl)  # noqa: B010  in the place of its class
        run_syncd()
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="syncd-clients-") as name:
        install(Path(name))
        compare(Path(name), arguments.rounds)


if __name__ == "__main__":
    main()
