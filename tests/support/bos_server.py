"""A Baidu BOS server for tests: strict, persistent, and able to fail in every way that a network can.

In a test::

    with BosServer(directory, accounts=[Account("ak", "sk")], buckets=["photos"]) as server:
        BosSettings(HttpSettings(server.url), "photos", ...)
        server.faults.add(Fault("lose_answer", op="CompleteMultipartUpload"))

On its own, controlled over HTTP (see `Control`)::

    python -m tests.support.bos_server --directory D --port 8080 --bucket photos \\
        --access-key ak --secret-key sk

The bucket is found as the real service finds it: in the Host header (``photos.bj.bcebos.com``) or, for other
hosts, as the first segment of the path. To reach it by a name of the real service, use it as an HTTP proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from tests.support.bos_auth import Account, Refusal, Signed, check, decode, parse_query
from tests.support.bos_disk import Blob, Disk
from tests.support.bos_faults import Fault, Faults
from tests.support.bos_verbs import Answer, Call, Rules, run

CONTROL = "/.control/"
BLOCK = 1 << 16


@dataclass(frozen=True)
class Seen:
    """One request, as the log keeps it."""

    op: str
    key: str
    part: int
    status: int
    """0: no answer was given."""
    code: str
    body_size: int
    """Bytes of the body that arrived."""
    headers: dict[str, str]
    query: dict[str, str]


class BosServer:
    """The server, in threads of this process. A context manager."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        accounts: Iterable[Account] = (Account("ak", "sk"),),
        buckets: Iterable[str] = ("photos",),
        port: int = 0,
        rules: Rules | None = None,
        clock: Callable[[], float] = time.time,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self.disk = Disk(os.fspath(directory))
        for bucket in buckets:
            self.disk.create(bucket)
        self.accounts = {account.access_key_id: account for account in accounts}
        self.rules = rules or Rules()
        self.clock = clock
        self.clock_offset = 0.0
        self.max_skew = 900.0
        self.domain = "bj.bcebos.com"
        self.refuse_path_style = False
        self.drops_v1 = True
        self.faults = Faults()
        self.log: list[Seen] = []
        self.bytes_received = 0
        self._changed = threading.Condition()
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.bos = self
        self._scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        # Daemons: a server may outlive the test that started it, when many tests share it.
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.05,), name="bos-server", daemon=True
        )

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def now(self) -> float:
        return self.clock() + self.clock_offset

    def start(self) -> BosServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        """End every connection and every thread; what is on disk stays."""
        self._http.shutdown()
        self.faults.clear()
        self._http.close_connections()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> BosServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def count(self, op: str = "") -> int:
        """How many requests of that kind were seen."""
        with self._changed:
            return sum(1 for seen in self.log if op in ("", seen.op))

    def wait_for(self, holds: Callable[[BosServer], bool], seconds: float = 20.0) -> bool:
        """Wait until something is true; it is asked after every request."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self), seconds)

    def note(self, seen: Seen) -> None:
        with self._changed:
            self.log.append(seen)
            self._changed.notify_all()

    def received(self, size: int) -> None:
        with self._changed:
            self.bytes_received += size

    def stats(self) -> dict[str, Any]:
        with self._changed:
            return {
                "bytes_received": self.bytes_received,
                "requests": dict(Counter(seen.op for seen in self.log)),
                "held": self.faults.held(),
                "log": [asdict(seen) for seen in self.log],
            }

    def contents(self, bucket: str) -> dict[str, Any]:
        """What a bucket holds: size, MD5 of the content, ETag and headers of each object; and its uploads."""
        with self.disk.lock:
            found = self.disk.buckets[bucket]
            objects = {
                key: {
                    "size": stored.size,
                    "md5": hashlib.md5(found.read(stored.blobs, 0, stored.size - 1)).hexdigest(),
                    "etag": stored.etag,
                    "headers": stored.headers,
                }
                for key, stored in found.objects.items()
            }
            uploads = {
                upload.id: {"key": upload.key, "parts": sorted(upload.parts)}
                for upload in found.uploads.values()
            }
            return {"objects": objects, "uploads": uploads}

    def change(self, settings: dict[str, Any]) -> None:
        """Change rules, clock, keys or style while it runs."""
        for name, value in settings.items():
            if name == "accounts":
                accounts = [Account(**account) for account in value]
                self.accounts = {account.access_key_id: account for account in accounts}
            elif hasattr(self.rules, name):
                self.rules = replace(self.rules, **{name: value})
            elif name in ("clock_offset", "max_skew", "domain", "refuse_path_style", "drops_v1"):
                setattr(self, name, value)
            else:
                raise ValueError(f"no such setting: {name}")


class Control:
    """The controls of a server in another process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = build_opener(ProxyHandler({}))

    def fault(self, **fault: Any) -> None:
        self._ask("POST", "faults", fault)

    def clear(self) -> None:
        self._ask("DELETE", "faults")

    def release(self) -> None:
        self._ask("POST", "release")

    def change(self, **settings: Any) -> None:
        self._ask("POST", "settings", settings)

    def stats(self) -> dict[str, Any]:
        return dict(self._ask("GET", "stats"))

    def contents(self, bucket: str) -> dict[str, Any]:
        return dict(self._ask("GET", f"contents/{bucket}"))

    def _ask(self, method: str, what: str, value: object = None) -> Any:
        body = json.dumps(value).encode() if value is not None else b""
        request = Request(self._url + CONTROL + what, data=body, method=method)
        with self._opener.open(request, timeout=10) as answer:
            return json.loads(answer.read())


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    bos: BosServer

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that ends early is the client's business; anything else is a mistake of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Cut(Exception):
    """End the connection without an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to the terminal: the log is in the server."""

    def do_GET(self) -> None:
        self._serve()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _serve(self) -> None:
        bos = self.server.bos
        raw_path, _, raw_query = self._target().partition("?")
        if raw_path.startswith(CONTROL) and not self._virtual_bucket():
            self._control(raw_path.removeprefix(CONTROL))
            return
        self._sent = Answer(0)
        self._received = 0
        self._code = ""
        self._noted = False
        self._asked = call = Call("", "", "", {}, {})
        try:
            self._asked = call = self._call(raw_path, raw_query)
            self._answer_to(call, bos.faults.take(call.op, call.key, call.part), raw_path, raw_query)
        except Refusal as refusal:
            self.close_connection = True
            self._send(self._error(refusal))
        except _Cut:
            self._cut()
        except OSError as error:
            if not isinstance(
                error, ConnectionError
            ):  # the server's own disk: a test must not take it for ours
                traceback.print_exc()
            self._cut()
        finally:
            self._note(call)

    def _note(self, call: Call) -> None:
        """Log the request once, before its answer is sent, so that the client finds it there."""
        if not self._noted:
            self._noted = True
            status, received = self._sent.status, self._received
            headers, query = dict(call.headers), dict(call.query)
            self.server.bos.note(
                Seen(call.op, call.key, call.part, status, self._code, received, headers, query)
            )

    # ---- reading -----------------------------------------------------------------------------------------

    def _target(self) -> str:
        """Path and query; a client that takes us for its proxy sends a whole URL."""
        target = self.path
        if not target.startswith("/"):
            _, _, rest = target.partition("://")
            target = "/" + rest.partition("/")[2]
        return target

    def _virtual_bucket(self) -> str:
        host = self.headers.get("Host", "").lower().partition(":")[0]
        suffix = f".{self.server.bos.domain}"
        return host.removesuffix(suffix) if host.endswith(suffix) else ""

    def _call(self, raw_path: str, raw_query: str) -> Call:
        path = decode(raw_path.encode("latin-1")).decode("utf-8", "surrogateescape").removeprefix("/")
        first, slash, rest = path.partition("/")
        if self.server.bos.drops_v1 and slash and first.lower() == "v1":
            path = rest  # the version prefix of the old API, which some of the vendor's SDKs still send
        bucket, key = self._virtual_bucket(), path
        if not bucket:
            bucket, _, key = path.partition("/")
        query = {name.decode(): value.decode() for name, value in parse_query(raw_query.encode("latin-1"))}
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Call(_operation(self.command, bucket, key, query, headers), bucket, key, query, headers)

    def _read_body(self, call: Call, fault: Fault | None) -> Call:
        """The call with its body: content in a file of the bucket, anything else in memory."""
        length = self.headers.get("Content-Length")
        if length is None:
            if self.command in ("PUT", "POST"):
                self.close_connection = True
                raise Refusal(411, "MissingContentLength")
            return call
        bucket = self.server.bos.disk.buckets.get(call.bucket)
        if bucket is None or call.op not in ("PutObject", "UploadPart"):
            return replace(call, body=b"".join(self._blocks(int(length), fault)))
        file = bucket.new_file()
        md5, crc32, size = hashlib.md5(), 0, 0
        try:
            with open(bucket.path(file), "wb") as out:
                for block in self._blocks(int(length), fault):
                    out.write(block)
                    md5.update(block)
                    crc32 = zlib.crc32(block, crc32)
                    size += len(block)
        except BaseException:
            os.unlink(bucket.path(file))
            raise
        return replace(call, blob=Blob(file, size, md5.hexdigest(), crc32))

    def _blocks(self, length: int, fault: Fault | None) -> Iterable[bytes]:
        slow = fault.seconds if fault and fault.kind == "slow_read" else 0.0
        stop = fault.size if fault and fault.kind == "cut_in_body" else None
        while length:
            if slow:
                time.sleep(slow)
            block = self.rfile.read(min(BLOCK, length, stop or BLOCK))
            self._received += len(block)
            self.server.bos.received(len(block))
            if not block or (stop is not None and self._received >= stop):
                raise _Cut
            length -= len(block)
            yield block

    # ---- doing -------------------------------------------------------------------------------------------

    def _answer_to(self, call: Call, fault: Fault | None, raw_path: str, raw_query: str) -> None:
        kind = fault.kind if fault else ""
        if kind == "cut_before_body":
            raise _Cut
        call = self._read_body(call, fault)
        taken = False
        try:
            if fault and self._failed_instead(fault):
                return
            answer, taken = self._do(call, raw_path, raw_query)
        finally:
            if call.blob is not None and not taken:
                os.unlink(self.server.bos.disk.buckets[call.bucket].path(call.blob.file))
        if fault and answer.status < 300:
            answer = self._failed_after(fault, call, answer)
        self._send(answer, fault)

    def _do(self, call: Call, raw_path: str, raw_query: str) -> tuple[Answer, bool]:
        """The answer, and whether the body is now the store's."""
        bos = self.server.bos
        try:
            signed = Signed(
                self.command,
                raw_path.encode("latin-1"),
                parse_query(raw_query.encode("latin-1")),
                [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()],
            )
            check(signed, bos.accounts, bos.now(), bos.max_skew)
            if bos.refuse_path_style and call.bucket and not self._virtual_bucket():
                raise Refusal(403, "AccessDenied", "this bucket cannot be reached by path-style requests")
            return run(call, bos.disk, bos.rules, bos.now()), True
        except Refusal as refusal:
            return self._error(refusal), False

    def _failed_instead(self, fault: Fault) -> bool:
        """Fail in a way that has no effect; False if this fault is of another kind."""
        if fault.kind == "cut_after_body":
            raise _Cut
        if fault.kind == "hold":
            self.server.bos.faults.hold()
            return False
        if fault.kind == "html":
            page = b"<html><body><h1>Bad Gateway</h1></body></html>"
            self._send(Answer(fault.status, {"Content-Type": "text/html", **fault.headers}, page))
            return True
        if fault.kind in ("error", "error_in_200"):
            answer = self._error(Refusal(fault.status, fault.code, fault.message))
            answer.headers |= fault.headers
            if fault.kind == "error_in_200":
                answer.status = 200
            if not fault.code:
                answer.body = b""
            self._send(answer, fault)
            return True
        return False

    def _failed_after(self, fault: Fault, call: Call, answer: Answer) -> Answer:
        if fault.kind == "lose_answer":
            raise _Cut
        if fault.kind == "hold_after":
            self.server.bos.faults.hold()
        if fault.kind == "empty_200":
            return Answer(200)
        if fault.kind == "wrong_etag":
            answer.headers["ETag"] = f'"{"0" * 32}"'
        if fault.kind == "corrupt" and call.blob is not None:
            self.server.bos.disk.buckets[call.bucket].flip_a_bit(call.blob)
        return answer

    # ---- answering ---------------------------------------------------------------------------------------

    def _error(self, refusal: Refusal) -> Answer:
        self._code = refusal.code
        self._request_id = str(uuid.uuid4())
        body = {"code": refusal.code, "message": refusal.message, "requestId": self._request_id}
        headers = {"Content-Type": "application/json; charset=utf-8", "x-bce-request-id": self._request_id}
        return Answer(refusal.status, headers, json.dumps(body).encode())

    def _send(self, answer: Answer, fault: Fault | None = None) -> None:
        kind = fault.kind if fault else ""
        self._sent = answer
        self._note(self._asked)
        self.send_response_only(answer.status)
        headers = {
            "Server": "BceBos",
            "Date": formatdate(self.server.bos.now(), usegmt=True),
            "x-bce-request-id": str(uuid.uuid4()),
            "x-bce-debug-id": "ZGVidWc=",
            **answer.headers,
        }
        chunked = kind in ("error_in_200", "drip") and self.command != "HEAD"
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif answer.status != 204:
            headers.setdefault("Content-Length", str(len(answer.body)))
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if chunked:
            self._send_chunked(answer.body, fault if kind == "drip" else None)
        elif kind == "cut_answer":
            self.wfile.write(answer.body[: len(answer.body) // 2])
            raise _Cut
        else:
            self.wfile.write(answer.body)

    def _send_chunked(self, body: bytes, drip: Fault | None) -> None:
        for _ in range(drip.size if drip else 0):
            self.wfile.write(b"1\r\n \r\n")
            time.sleep(drip.seconds if drip else 0)
        if body:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
        self.wfile.write(b"0\r\n\r\n")

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # the other side was faster
            self.connection.shutdown(socket.SHUT_RDWR)

    # ---- control -----------------------------------------------------------------------------------------

    def _control(self, what: str) -> None:
        bos = self.server.bos
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found: Any = {}
        if what == "stats":
            found = bos.stats()
        elif what.startswith("contents/"):
            found = bos.contents(what.partition("/")[2])
        elif what == "faults" and self.command == "DELETE":
            bos.faults.clear()
        elif what == "faults":
            bos.faults.add(Fault(**json.loads(body)))
        elif what == "release":
            bos.faults.release()
        elif what == "settings":
            bos.change(json.loads(body))
        else:
            self.send_error(404)
            return
        text = json.dumps(found).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


_SUB_RESOURCES = frozenset(
    {
        "acl",
        "append",
        "cors",
        "encryption",
        "fetch",
        "lifecycle",
        "logging",
        "mirroring",
        "notification",
        "object-lock",
        "process",
        "quota",
        "replication",
        "requestPayment",
        "restore",
        "select",
        "static-website",
        "storageClass",
        "symlink",
        "tagging",
        "trash",
        "versioning",
        "versions",
        "website",
    }
)
"""Taken for the plain verb, one of these would change or empty the object or the bucket."""


def _operation(method: str, bucket: str, key: str, query: dict[str, str], headers: dict[str, str]) -> str:
    """BOS's name of a call; empty for what there is none for, or what this server does not carry out."""
    if _SUB_RESOURCES & query.keys():
        return ""
    if not bucket:
        return "ListBuckets" if method == "GET" else ""
    if not key:
        marks = [name for name in ("location", "uploads", "delete") if name in query]
        names = {
            ("GET", "location"): "GetBucketLocation",
            ("GET", "uploads"): "ListMultipartUploads",
            ("POST", "delete"): "DeleteMultipleObjects",
            ("GET", ""): "ListObjects",
            ("HEAD", ""): "HeadBucket",
            ("PUT", ""): "CreateBucket",
        }
        return names.get((method, marks[0] if marks else ""), "")
    copies = "Copy" if "x-bce-copy-source" in headers else ""
    if "uploadId" in query:
        names = {
            ("PUT", ""): "UploadPart",
            ("PUT", "Copy"): "UploadPartCopy",
            ("GET", ""): "ListParts",
            ("POST", ""): "CompleteMultipartUpload",
            ("DELETE", ""): "AbortMultipartUpload",
        }
    elif "uploads" in query:
        names = {("POST", ""): "InitiateMultipartUpload"}
    else:
        names = {
            ("PUT", ""): "PutObject",
            ("PUT", "Copy"): "CopyObject",
            ("HEAD", ""): "HeadObject",
            ("GET", ""): "GetObject",
            ("DELETE", ""): "DeleteObject",
        }
    return names.get((method, copies), "")


def main(argv: list[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--access-key", default="ak")
    parser.add_argument("--secret-key", default="sk")
    parser.add_argument("--session-token", default="")
    parser.add_argument("--token-expires", type=float, help="Unix seconds")
    parser.add_argument("--min-part-size", type=int, default=100 * 1024)
    parser.add_argument("--page-size", type=int, default=1000)
    parser.add_argument("--require-md5", action="store_true")
    parser.add_argument("--refuse-path-style", action="store_true")
    parser.add_argument("--clock-offset", type=float, default=0.0, help="seconds")
    parser.add_argument("--domain", default="bj.bcebos.com")
    parser.add_argument("--certificate", nargs=2, metavar=("CERT", "KEY"))
    args = parser.parse_args(argv)
    # Signals are taken by sigwait, in every thread: nothing may be interrupted in the middle of a request.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = BosServer(
        args.directory,
        accounts=[Account(args.access_key, args.secret_key, args.session_token, args.token_expires)],
        buckets=args.bucket or ["photos"],
        port=args.port,
        rules=Rules(args.min_part_size, args.page_size, args.require_md5),
        certificate=tuple(args.certificate) if args.certificate else None,
    )
    server.change(
        {
            "refuse_path_style": args.refuse_path_style,
            "clock_offset": args.clock_offset,
            "domain": args.domain,
        }
    )
    with server:
        print(f"listening on {server.url}", flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
