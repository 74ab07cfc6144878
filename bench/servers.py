"""The servers that clients are measured against: the sink, and one node of Ceph, plain and over TLS."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import sys
import time
from copy import copy
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.hostile import make_certificate  # noqa: E402  # the tests' own servers
from tests.support.servers import CephServer, free_port  # noqa: E402

BUCKET = "bench"


class Server(Protocol):
    """An S3 server with one empty bucket."""

    name: str
    port: int
    access_key: str
    secret_key: str
    remembers: bool
    """Objects can be asked for."""
    ca_bundle: str
    """The file of its certificate; empty: it speaks plain HTTP."""

    def counted(self) -> tuple[int, int] | None:
        """Requests and bytes of bodies so far, as the server saw them."""
        ...

    def empty(self) -> None:
        """Remove every object."""
        ...

    def stop(self) -> None: ...


class Sink:
    """`sink.c`: reads, counts, throws away."""

    name = "sink"
    remembers = False
    ca_bundle = ""
    access_key = "benchaccesskey000001"
    secret_key = "benchsecret000000000000000000000000000001"

    def __init__(self, directory: Path, delay_seconds: float = 0.0) -> None:
        binary = directory / "sink"
        source = Path(__file__).with_name("sink.c")
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("a C compiler is needed to build bench/sink.c")
        subprocess.run([compiler, "-O2", "-pthread", "-o", str(binary), str(source)], check=True)
        self.port = free_port()
        self._process = subprocess.Popen([str(binary), str(self.port), str(round(delay_seconds * 1e6))])
        deadline = time.monotonic() + 10
        while True:
            try:
                self.counted()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def counted(self) -> tuple[int, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/__stats")
        requests, received = connection.getresponse().read().split()
        connection.close()
        # The questions themselves are requests, too: each connection of ours asks one.
        self._asked = getattr(self, "_asked", 0) + 1
        return int(requests) - (self._asked - 1), int(received)

    def empty(self) -> None:
        """There never is anything."""

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class _Gateway(CephServer):
    """On the port of HTTP where that is free: one client knows no other. On another one it speaks TLS."""

    store_bytes = 8 << 30

    def _launch(self) -> None:
        if _is_free(80):
            self.port = 80
        self.tls_port = free_port()
        self.certificate = make_certificate(self.directory)
        super()._launch()

    def _configuration(self, cluster: str, monitor_port: int) -> str:
        plain = f"endpoint=127.0.0.1:{self.port}"
        both = f"{plain} ssl_endpoint=127.0.0.1:{self.tls_port}"
        both += f" ssl_certificate={self.certificate.cert} ssl_private_key={self.certificate.key}"
        return super()._configuration(cluster, monitor_port).replace(plain, both)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Ceph:
    """A monitor, a gateway and an OSD that keeps everything in memory."""

    name = "ceph"
    remembers = True
    ca_bundle = ""

    def __init__(self, directory: Path) -> None:
        self._server = _Gateway()
        self._directory = directory
        self._server.start(directory)
        self._server.make_bucket(BUCKET)
        self.port = self._server.port
        self.access_key = self._server.access_key_id
        self.secret_key = self._server.secret_access_key

    def behind_tls(self) -> Ceph:
        """The same gateway and bucket, over TLS."""
        other = copy(self)
        other.name = "ceph over TLS"
        other.port, other.ca_bundle = self._server.tls_port, self._server.certificate.cert
        return other

    def through(self, port: int) -> Ceph:
        """The same gateway and bucket, by way of a proxy on `port`."""
        other = copy(self)
        other.name, other.port = "ceph through a proxy", port
        return other

    @staticmethod
    def missing() -> str | None:
        """Why it cannot run here."""
        return CephServer().missing()

    def counted(self) -> None:
        """It does not count."""

    def client(self) -> Any:
        """boto3."""
        return self._server.client()

    def empty(self) -> None:
        """Remove every object and wait until their memory is free again."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [{"Key": entry["Key"]} for page in pages for entry in page.get("Contents", [])]
        for first in range(0, len(keys), 1000):
            client.delete_objects(
                Bucket=BUCKET, Delete={"Objects": keys[first : first + 1000], "Quiet": True}
            )
        for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        conf = str(self._directory / "ceph.conf")
        command = ["radosgw-admin", "-c", conf, "gc", "process", "--include-all"]
        subprocess.run(command, capture_output=True, check=False, timeout=120)

    def stop(self) -> None:
        self._server.stop()
